"""Points on the sphere without rings."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.spatial import ConvexHull, SphericalVoronoi

from pdegcnn.sphere._legendre import Array


def icosahedron(subdivisions: int) -> Array:
    """Return vertices [10 4^n + 2, 3] on the unit sphere of the icosahedron after n halvings of all edges."""
    golden = 0.5 * (1 + 5**0.5)
    corners = [(0, a, b * golden) for a, b in itertools.product((-1, 1), repeat=2)]
    points = np.array([np.roll(p, shift) for p in corners for shift in range(3)], dtype=np.float64)
    faces = ConvexHull(points).simplices
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    for _ in range(subdivisions):
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
        unique, inverse = np.unique(edges, axis=0, return_inverse=True)
        a, b, c = faces.T
        ab, bc, ca = inverse.reshape(3, -1) + len(points)
        middle = points[unique].sum(1)
        points = np.concatenate([points, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        corners_of = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = np.concatenate([np.stack(corner, 1) for corner in corners_of])
    return points


def voronoi_areas(points: Array) -> Array:
    """Return areas [P], in steradians, of the points nearer to each of ``points`` [P, 3] than to any other."""
    return SphericalVoronoi(points).calculate_areas()


def healpix(nside: int, nest: bool) -> Array:
    """Return the pixel centres [12 nside^2, 3]. Raises ImportError without healpy."""
    try:
        import healpy
    except ImportError as error:
        raise ImportError("SphereGrid.healpix: expected the package healpy (pip install healpy)") from error
    return np.stack(healpy.pix2vec(nside, np.arange(12 * nside * nside), nest=nest), -1)
