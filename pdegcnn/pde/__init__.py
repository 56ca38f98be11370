"""Solvers of the PDE terms on every space, and operator splitting.

Each family of spaces has one subclass of :class:`~pdegcnn.pde.solver.Solver`. To add a family, write a file and enter
it in ``SOLVERS``. Terms that combine other terms are in ``COMPOSED``.
"""

from __future__ import annotations

from pdegcnn.pde.families import COMPOSED, SOLVERS, solver_class, solver_for
from pdegcnn.pde.solver import Alpha, KernelSize, Options, Radius, Solver
from pdegcnn.pde.splitting import SPLITTINGS, evolve

__all__ = [
    "COMPOSED",
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
