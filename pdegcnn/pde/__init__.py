"""One term, one solver: convection, diffusion, dilation and erosion on every space, and their splitting.

A solver module serves a family of spaces with the functions ``convection``, ``diffusion`` and ``morphology`` (and
``convection_diffusion`` where the space lists that term), the options of each in ``OPTIONS``, ``check_options`` and
``prepare``, which returns a module of derived tables (or None) that the functions take as ``plan``. A new family is a
new file and a line in ``SOLVERS``.
"""

from __future__ import annotations

from types import ModuleType

from pdegcnn.pde import planar, spherical, surface
from pdegcnn.pde.splitting import SPLITTINGS, evolve
from pdegcnn.spaces import GridSpace, Mesh, RotationSpace, Space

SOLVERS: dict[type[Space], ModuleType] = {GridSpace: planar, RotationSpace: spherical, Mesh: surface}


def solver(space: Space, term: str) -> ModuleType:
    """The module that solves ``term`` on ``space``; raises if there is none."""
    if not isinstance(space, Space):
        raise TypeError(f"space: expected a space such as pdegcnn.SE2(8), got {type(space).__name__}")
    if term in space.missing:
        raise ValueError(f"terms: {term} cannot exist on {space}: {space.missing[term]}")
    if term not in space.terms:
        raise ValueError(f"terms: expected some of {', '.join(space.terms)} on {space}, got {term!r}")
    for family, module in SOLVERS.items():
        if isinstance(space, family):
            return module
    raise ValueError(f"space: no solver is listed for {type(space).__name__}")


__all__ = ["SOLVERS", "SPLITTINGS", "evolve", "solver"]
