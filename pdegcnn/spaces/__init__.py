"""What a signal lives on. One file per space; a new space is a new file and a line in ``SPACES``."""

from pdegcnn.spaces.base import HomogeneousSpace, Space
from pdegcnn.spaces.grid import GridSpace
from pdegcnn.spaces.mesh import Mesh
from pdegcnn.spaces.r2 import R2
from pdegcnn.spaces.se2 import SE2

SPACES: tuple[type[Space], ...] = (R2, SE2, Mesh)

__all__ = ["R2", "SE2", "SPACES", "GridSpace", "HomogeneousSpace", "Mesh", "Space"]
