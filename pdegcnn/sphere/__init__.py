"""The sphere: grids and exact harmonic transforms."""

from pdegcnn.sphere.grid import SphereGrid as SphereGrid
from pdegcnn.sphere.sht import InverseRealSHT as InverseRealSHT
from pdegcnn.sphere.sht import RealSHT as RealSHT
