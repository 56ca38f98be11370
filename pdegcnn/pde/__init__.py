"""Solvers of the PDE terms on every space, and operator splitting.

Each family of spaces has one subclass of :class:`~pdegcnn.pde.solver.Solver`. A new family is a new file and a line in
``SOLVERS``.
"""

from __future__ import annotations

import torch

from pdegcnn import _checks
from pdegcnn.pde.grid import GridSolver
from pdegcnn.pde.mesh import MeshSolver
from pdegcnn.pde.solver import Alpha, KernelSize, Options, Radius, Solver
from pdegcnn.pde.sphere import SphereSolver
from pdegcnn.pde.splitting import SPLITTINGS, evolve
from pdegcnn.spaces import GridSpace, Mesh, RotationSpace, Space, by_family

SOLVERS: dict[type[Space], type[Solver]] = {GridSpace: GridSolver, RotationSpace: SphereSolver, Mesh: MeshSolver}


def solver_class(space: Space, term: str) -> type[Solver]:
    """Return the class that solves ``term`` on ``space``.

    Raises:
        TypeError: if ``space`` is not a space.
        ValueError: if the space does not have this term; the message says which it has, or why it cannot exist.
    """
    _checks.kind("space", space, Space, "a space such as pdegcnn.SE2(8)")
    if term in space.unsupported_terms:
        raise ValueError(f"terms: {term} cannot exist on {space}: {space.unsupported_terms[term]}")
    if term not in space.supported_terms:
        raise ValueError(
            f"terms: expected one of {', '.join(map(repr, space.supported_terms))} on {space}, got {term!r}"
        )
    solver = by_family(space, SOLVERS)
    if solver is None:
        raise ValueError(f"space: no solver is listed for {type(space).__name__}")
    return solver


def solver_for(
    space: Space,
    term: str,
    options: Options,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Solver:
    """Return a solver of ``term`` on ``space``; arguments and errors as in :class:`~pdegcnn.pde.solver.Solver`."""
    return solver_class(space, term)(space, term, options, device=device, dtype=dtype)


__all__ = [
    "SOLVERS",
    "SPLITTINGS",
    "Alpha",
    "KernelSize",
    "Options",
    "Radius",
    "Solver",
    "evolve",
    "solver_class",
    "solver_for",
]
