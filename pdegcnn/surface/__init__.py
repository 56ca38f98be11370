"""Intrinsic geometry of triangle meshes from edge lengths: frames, connection, log maps, Laplacians, coarser levels.

All functions work on NumPy arrays in float64. :class:`pdegcnn.spaces.Mesh` turns their results into operators on
signals.
"""

from pdegcnn.surface.checks import check_arrays
from pdegcnn.surface.decimation import Decimation, decimate
from pdegcnn.surface.delaunay import intrinsic_delaunay
from pdegcnn.surface.frames import Frames, frames
from pdegcnn.surface.geodesic_neighbors import NeighborPairs, geodesic_pairs
from pdegcnn.surface.laplacian import Modes, connection_laplacian, eigenbasis, eigenmodes, vertex_areas
from pdegcnn.surface.repair import repair_arrays
from pdegcnn.surface.shapes import flat_torus, icosphere
from pdegcnn.surface.surface import JoinedSurface, Level, Surface
from pdegcnn.surface.triangulation import Triangulation

__all__ = [
    "Decimation",
    "Frames",
    "JoinedSurface",
    "Level",
    "Modes",
    "NeighborPairs",
    "Surface",
    "Triangulation",
    "check_arrays",
    "connection_laplacian",
    "decimate",
    "eigenbasis",
    "eigenmodes",
    "flat_torus",
    "frames",
    "geodesic_pairs",
    "icosphere",
    "intrinsic_delaunay",
    "repair_arrays",
    "vertex_areas",
]
