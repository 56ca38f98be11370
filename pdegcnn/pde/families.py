"""Choice of the class that solves a term on a space."""

from __future__ import annotations

import torch

from pdegcnn import _checks
from pdegcnn.pde.grid import GridSolver
from pdegcnn.pde.mesh import MeshSolver
from pdegcnn.pde.more_orientations import MoreOrientationsSolver
from pdegcnn.pde.shock import NAME, SHOCKS
from pdegcnn.pde.solver import Options, Solver
from pdegcnn.pde.sphere import SphereSolver
from pdegcnn.spaces import GridSpace, Mesh, RotationSpace, Space, by_family

SOLVERS: dict[type[Space], type[Solver]] = {GridSpace: GridSolver, RotationSpace: SphereSolver, Mesh: MeshSolver}
USUAL = Options()
"""Options of which none is given."""
COMPOSED: dict[str, dict[type[Space], type[Solver]]] = {NAME: {**SHOCKS}}
"""Terms that are solved by solvers of other terms."""


def solver_class(space: Space, term: str, options: Options = USUAL) -> type[Solver]:
    """Return the class that solves ``term`` on ``space``.

    Args:
        space: the space.
        term: name of the term, such as ``"diffusion"``.
        options: choices of the solver.

    Raises:
        TypeError: if ``space`` is not a space.
        ValueError: if the space does not have this term; the message lists the terms it has, or says why it cannot
            exist.
    """
    _checks.kind("space", space, Space, "a space such as pdegcnn.SE2(8)")
    if term in space.unsupported_terms:
        raise ValueError(f"terms: {term} cannot exist on {space}: {space.unsupported_terms[term]}")
    if term not in space.supported_terms:
        raise ValueError(
            f"terms: expected one of {', '.join(map(repr, space.supported_terms))} on {space}, got {term!r}"
        )
    solver = by_family(space, COMPOSED.get(term, SOLVERS))
    if solver is None:
        raise ValueError(f"space: no solver is listed for {type(space).__name__}")
    return MoreOrientationsSolver if solver is GridSolver and options.inner_orientations is not None else solver


def solver_for(
    space: Space,
    term: str,
    options: Options,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Solver:
    """Build a solver of ``term`` on ``space``.

    Args:
        space: the space.
        term: name of the term, such as ``"diffusion"``.
        options: choices of the solver.
        device: where its tables live.
        dtype: their dtype; None: torch's default.

    Raises:
        ValueError: if the space does not have this term, the term does not have an option, or one is out of range.
        TypeError: if ``space`` is not a space, or an option has the wrong type.
    """
    return solver_class(space, term, options)(space, term, options, device=device, dtype=dtype)
