"""Spaces on which signals live: the plane, volumes, SE(2), the sphere, SO(3) and meshes.

A space holds its layout, its group or gauge, and how signals move. To add one, write a file and enter it in ``SPACES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pdegcnn.spaces.base import HomogeneousSpace, Space
from pdegcnn.spaces.grid import GridSpace, PlanarSpace
from pdegcnn.spaces.mesh import Mesh
from pdegcnn.spaces.r2 import R2
from pdegcnn.spaces.r3 import R3
from pdegcnn.spaces.rotations import RotationSpace
from pdegcnn.spaces.s2 import S2
from pdegcnn.spaces.se2 import SE2
from pdegcnn.spaces.so3 import SO3

SPACES: tuple[type[Space], ...] = (R2, SE2, R3, S2, SO3, Mesh)
Entry = TypeVar("Entry")


def by_family(space: Space, table: Mapping[type[Space], Entry]) -> Entry | None:
    """Return the entry for ``space`` in a table whose keys are classes of spaces, or None.

    Args:
        space: a space; the class nearest to its own in the order of inheritance is taken.
        table: classes of spaces with an entry each.
    """
    return next((entry for family, entry in table.items() if isinstance(space, family)), None)


__all__ = [
    "R2",
    "R3",
    "S2",
    "SE2",
    "SO3",
    "SPACES",
    "GridSpace",
    "HomogeneousSpace",
    "Mesh",
    "PlanarSpace",
    "RotationSpace",
    "Space",
    "by_family",
]
