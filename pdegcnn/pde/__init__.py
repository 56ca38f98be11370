"""One term, one solver: convection, diffusion, dilation and erosion on every space, and their splitting.

A solver module serves a family of spaces with the functions ``convection``, ``diffusion`` and ``morphology``; a new
family is a new file and a line in ``SOLVERS``.
"""

from __future__ import annotations

from types import ModuleType

from pdegcnn.pde import planar, surface
from pdegcnn.pde.splitting import SPLITTINGS, evolve
from pdegcnn.spaces import GridSpace, Mesh, Space

SOLVERS: dict[type[Space], ModuleType] = {GridSpace: planar, Mesh: surface}


def solver(space: Space, term: str) -> ModuleType:
    """The module that solves ``term`` on ``space``; raises if there is none."""
    if not isinstance(space, Space):
        raise TypeError(f"space: expected a space such as pdegcnn.SE2(8), got {type(space).__name__}")
    if term not in space.terms:
        raise ValueError(f"terms: expected some of {', '.join(space.terms)} on {space}, got {term!r}")
    for family, module in SOLVERS.items():
        if isinstance(space, family):
            return module
    raise ValueError(f"space: no solver is listed for {type(space).__name__}")


__all__ = ["SOLVERS", "SPLITTINGS", "evolve", "solver"]
