"""Surfaces of known geometry, for tests, benchmarks and examples."""

from __future__ import annotations

import numpy as np

from pdegcnn import _checks
from pdegcnn._typing import Floats, Ints


def icosphere(subdivisions: int = 3) -> tuple[Floats, Ints]:
    """Return vertices ``[10 4^n + 2, 3]`` on the unit sphere and faces ``[20 4^n, 3]`` of a refined icosahedron.

    Args:
        subdivisions: how often the edges are halved, n.

    Example:
        >>> import pdegcnn as pg
        >>> vertices, faces = pg.surface.icosphere(1)
        >>> vertices.shape, faces.shape
        ((42, 3), (80, 3))
    """
    if subdivisions != 0:
        _checks.positive_int("subdivisions", subdivisions)
    golden = (1 + 5**0.5) / 2
    vertices = np.array(
        [(0, s, t * golden) for s in (-1, 1) for t in (-1, 1)]
        + [(s, t * golden, 0) for s in (-1, 1) for t in (-1, 1)]
        + [(t * golden, 0, s) for s in (-1, 1) for t in (-1, 1)]
    )
    distance = np.linalg.norm(vertices[:, None] - vertices, axis=2)
    near = np.abs(distance - 2) < 1e-9
    faces = np.array(
        [(a, b, c) for a in range(12) for b in range(a) for c in range(b) if near[a, b] and near[b, c] and near[a, c]]
    )
    outward = np.einsum(
        "fi,fi->f", np.cross(*np.moveaxis(vertices[faces[:, 1:]] - vertices[faces[:, :1]], 1, 0)), vertices[faces[:, 0]]
    )
    faces[outward < 0] = faces[outward < 0][:, ::-1]
    for _ in range(subdivisions):
        vertices, faces = _halve(vertices, faces)
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True), faces.astype(np.int64)


def _halve(vertices: Floats, faces: Ints) -> tuple[Floats, Ints]:
    """Cut every face into four."""
    count = len(vertices)
    tail, head = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    key, slot = np.unique(np.minimum(tail, head) * count + np.maximum(tail, head), return_inverse=True)
    middle = vertices[key // count] + vertices[key % count]
    middle /= np.linalg.norm(middle, axis=1, keepdims=True) / np.linalg.norm(vertices[0])
    between = count + slot.reshape(-1, 3)
    a, b, c = faces.T
    ab, bc, ca = between.T
    quarters = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return np.concatenate((vertices, middle)), np.concatenate([np.stack(q, 1) for q in quarters])


def flat_torus(rows: int, columns: int, step: float = 1.0) -> tuple[Ints, Floats]:
    """Return faces ``[2 rows columns, 3]`` and edge lengths ``[F,3]`` of a periodic square grid, flat everywhere.

    Vertex ``r * columns + c`` lies at row r, column c. The surface has no isometric embedding in space, so build it by
    ``Mesh.from_lengths``. The reference direction of every vertex is that of increasing columns, and angles turn
    towards increasing rows, as in an image.

    Args:
        rows: number of rows.
        columns: number of columns.
        step: length of an edge along a row or column.
    """
    for name, size in (("rows", rows), ("columns", columns)):
        if _checks.positive_int(name, size) < 3:
            raise ValueError(f"{name}: expected at least 3 for a torus, got {size}")
    r, c = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    below, right = (r + 1) % rows, (c + 1) % columns
    here, east, south, both = (
        x.ravel() for x in (r * columns + c, r * columns + right, below * columns + c, below * columns + right)
    )
    faces = np.concatenate((np.stack((here, east, both), 1), np.stack((here, both, south), 1)))
    diagonal = step * 2**0.5
    lengths = np.repeat([[step, step, diagonal], [diagonal, step, step]], here.size, axis=0)
    return faces, lengths
