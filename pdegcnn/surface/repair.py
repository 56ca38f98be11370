"""Repair of meshes: merge equal vertices, drop empty faces and isolated vertices, orient faces consistently."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from pdegcnn._typing import Floats, Ints
from pdegcnn.surface.checks import as_positions, as_rows, check_indices, edge_lengths, has_area

SAME_PLACE = 1e-6
"""Vertices nearer than this share of the surface's diameter lie at one place ..."""
SHORT = 0.01
"""... if they are also nearer than this share of the shortest side of a face."""


def repair_arrays(vertices: Any, faces: Any) -> tuple[Floats, Ints]:
    """Merge vertices at one place, drop faces without area, repeated faces and isolated vertices, orient faces alike.

    Edges of more than two faces and surfaces with one side only are beyond repair: ``Mesh.from_arrays`` then says where
    they are.

    Args:
        vertices: positions ``[V,3]``, a tensor or array of finite numbers.
        faces: vertex indices ``[F,3]``, a tensor or array.

    Returns:
        Positions ``[V',3]`` and faces ``[F',3]``.

    Raises:
        TypeError: if positions are not numbers, or indices not integers.
        ValueError: for wrong shapes, positions that are not finite, indices out of range, or not one face with an area.
    """
    return repaired(vertices, faces)[:2]


def repaired(vertices: Any, faces: Any) -> tuple[Floats, Ints, Ints]:
    """Do what :func:`repair_arrays` does, and keep the map.

    Returns:
        Vertices ``[V,3]``, faces ``[F,3]`` and the new number of every old vertex, -1 for those that went.

    Raises:
        TypeError: as in :func:`repair_arrays`.
        ValueError: as in :func:`repair_arrays`.
    """
    vertices, faces = as_positions(vertices), as_rows("faces", faces, "[F,3] long", "iu").astype(np.int64)
    check_indices(faces, len(vertices))
    vertices, faces, label = weld(vertices, faces)
    proper = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
    proper = proper[has_area(edge_lengths(vertices, proper))]
    if not len(proper):
        raise ValueError(f"faces: expected a face with an area, got {len(faces)} faces without")
    distinct = np.unique(np.sort(proper, axis=1), axis=0, return_index=True)[1]
    faces = oriented(proper[np.sort(distinct)], len(vertices))
    vertices, faces, kept = without_isolated(vertices, faces)
    return vertices, faces, kept[label]


def weld(vertices: Floats, faces: Ints) -> tuple[Floats, Ints, Ints]:
    """Merge vertices at the same place into the first; return vertices, faces and the new index of every vertex."""
    label = places(vertices, same_place(vertices, faces))
    first = np.unique(label, return_index=True)[1]
    return vertices[first], label[faces], label


def same_place(vertices: Floats, faces: Ints) -> float:
    """Return the distance below which vertices coincide: relative to the surface, and far less than its sides."""
    sides = edge_lengths(vertices, faces)
    sides = sides[sides > 0]
    return min(SAME_PLACE * float(np.linalg.norm(np.ptp(vertices, axis=0))), SHORT * float(sides.min(initial=np.inf)))


def places(vertices: Floats, distance: float) -> Ints:
    """Return a number for the place of each vertex, ``[V]``, in the order of the first vertex there."""
    distinct, label = np.unique(vertices + 0.0, axis=0, return_inverse=True)  # -0.0 is 0.0
    near = KDTree(distinct).query_pairs(distance, output_type="ndarray") if distance > 0 else np.empty((0, 2), int)
    label = _components(near[:, 0], near[:, 1], len(distinct))[label.reshape(-1)]
    first = np.unique(label, return_index=True)[1]
    order = np.empty(first.size, dtype=np.int64)
    order[np.argsort(first)] = np.arange(first.size)
    return order[label]


def without_isolated(vertices: Floats, faces: Ints) -> tuple[Floats, Ints, Ints]:
    """Drop vertices without a face; vertices, faces, new number of every old vertex or -1."""
    used = np.unique(faces)
    label = np.full(len(vertices), -1)
    label[used] = np.arange(used.size)
    return vertices[used], label[faces], label


def oriented(faces: Ints, vertex_count: int) -> Ints:
    """Turn faces round so that neighbours are oriented alike; in each connected part the fewer."""
    count = len(faces)
    tail, head = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    key = np.minimum(tail, head) * vertex_count + np.maximum(tail, head)
    order = np.argsort(key, kind="stable")
    begin = np.flatnonzero(np.diff(key[order], prepend=-1))
    pairs = begin[np.diff(begin, append=key.size) == 2]  # edges of two faces
    one, other = order[pairs], order[pairs + 1]
    against = (tail[one] == tail[other]).astype(np.int64)
    one, other = one // 3, other // 3
    part = _components(one, other, count)
    # every face in both orientations: connected ones are oriented alike
    side = _components(
        np.concatenate((2 * one, 2 * one + 1)),
        np.concatenate((2 * other + against, 2 * other + 1 - against)),
        2 * count,
    )[::2]
    first = np.unique(part, return_index=True)[1]
    turn = side != side[first][part]
    turn ^= (2 * np.bincount(part, turn) > np.bincount(part))[part]
    return np.where(turn[:, None], faces[:, ::-1], faces)


def cut_edges(vertices: Floats, faces: Ints, open_edges: NDArray[np.bool_]) -> Ints:
    """Return pairs of vertices ``[N,2]`` of those boundary edges that lie where another boundary edge lies."""
    ends = np.stack((faces.ravel(), np.roll(faces, -1, axis=1).ravel()), 1)[open_edges]
    used, slot = np.unique(ends, return_inverse=True)
    label = places(vertices[used], same_place(vertices, faces))[slot.reshape(ends.shape)]
    key = label.min(1, initial=used.size) * used.size + label.max(1, initial=0)
    _, slot, count = np.unique(key, return_inverse=True, return_counts=True)
    return ends[count[slot.reshape(-1)] > 1]


def _components(one: Ints, other: Ints, count: int) -> Ints:
    links: Any = sparse.coo_matrix((np.ones(one.size, dtype=np.int8), (one, other)), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)
