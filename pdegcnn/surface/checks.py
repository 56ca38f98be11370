"""Checks of meshes; messages hold the indices of defects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from pdegcnn._typing import Floats, Ints
from pdegcnn.surface.triangulation import Triangulation

FLATNESS = 1e-10
"""A face whose longest side exceeds this share less than the sum of the others is degenerate."""
SHOWN = 8


def _shown(rows: Any) -> str:
    """Describe the first few indices of a defect, and how many there are."""
    rows = np.asarray(rows)
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"{rows[:SHOWN].tolist()}{more}"


def check_arrays(vertices: Any, faces: Any) -> tuple[Floats, Ints]:
    """Return vertices ``[V,3]`` and faces ``[F,3]`` as arrays after checking that they form an oriented manifold.

    Args:
        vertices: positions, a tensor or array.
        faces: vertex indices, a tensor or array.

    Raises:
        TypeError: if vertices are not floating-point numbers, or faces are not integers.
        ValueError: for wrong shapes, non-finite vertices, indices out of range, degenerate faces, edges with more than
            two faces, faces of different orientation, isolated vertices, or vertices where two sheets touch; the
            message holds their indices.
    """
    vertices, faces = as_positions(vertices), as_rows("faces", faces, "[F,3] long", "iu").astype(np.int64)
    check_faces(faces, len(vertices))
    lengths = edge_lengths(vertices, faces)
    check_lengths(lengths)
    check_manifold(faces, len(vertices))
    return vertices, faces


def as_positions(vertices: Any) -> Floats:
    """Return vertices ``[V,3]`` as a float64 array, if they are finite, else raise."""
    vertices = as_rows("vertices", vertices, "[V,3] float", "f").astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(vertices).all(1))
    if bad.size:
        raise ValueError(f"vertices: expected finite coordinates, got NaN or infinity at vertices {_shown(bad)}")
    return vertices


def as_rows(name: str, value: Any, wanted: str, kinds: str) -> NDArray[Any]:
    """Return rows of three numbers of one of NumPy's ``kinds`` of a tensor, an array or lists, else raise."""
    array = _as_array(name, value, wanted, kinds)
    if array.ndim != 2 or array.shape[1] != 3 or array.shape[0] == 0:
        raise ValueError(f"{name}: expected {wanted} with at least one row, got shape {array.shape}")
    return array


def as_whole(name: str, value: Any) -> Ints:
    """Return whole numbers ``[n]`` of a tensor, an array or a list, else raise."""
    return _as_array(name, value, "[n] long", "iu").astype(np.int64)


def _as_array(name: str, value: Any, wanted: str, kinds: str) -> NDArray[Any]:
    """Return numbers of one of NumPy's ``kinds``, else raise."""
    try:
        if hasattr(value, "detach"):  # NumPy has no bfloat16
            value = value.detach().cpu().resolve_neg()
            value = value.double() if value.is_floating_point() else value
        array: NDArray[Any] = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths; meta and sparse tensors
        raise TypeError(
            f"{name}: expected {wanted}, got a {type(value).__name__} that is not an array ({error})"
        ) from error
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name}: expected {wanted}, got dtype {array.dtype}")
    return array


def edge_lengths(vertices: Floats, faces: Ints) -> Floats:
    """Return the length of the half-edges of each face, ``[F,3]``."""
    corners = vertices[faces]
    return np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)


def check_faces(faces: Ints, vertex_count: int) -> None:
    """Raise for indices out of range, repeated corners and isolated vertices."""
    check_indices(faces, vertex_count)
    bad = np.flatnonzero((faces == np.roll(faces, 1, axis=1)).any(1))
    if bad.size:
        raise ValueError(f"faces: expected no degenerate face, got repeated corners in faces {_shown(bad)}")
    bad = np.flatnonzero(np.bincount(faces.ravel(), minlength=vertex_count) == 0)
    if bad.size:
        raise ValueError(f"faces: expected no isolated vertex, got no face at vertices {_shown(bad)}")


def check_indices(faces: Ints, vertex_count: int) -> None:
    """Raise for indices out of range."""
    bad = np.flatnonzero(((faces < 0) | (faces >= vertex_count)).any(1))
    if bad.size:
        raise ValueError(f"faces: expected indices in [0, {vertex_count - 1}], got others in faces {_shown(bad)}")


def has_area(lengths: Floats) -> NDArray[np.bool_]:
    """Return whether lengths ``[F,3]`` are those of proper triangles."""
    with np.errstate(invalid="ignore"):
        return (lengths > 0).all(1) & (lengths.sum(1) - 2 * lengths.max(1) > FLATNESS * lengths.max(1))


def check_lengths(lengths: Floats) -> None:
    """Raise for lengths that are not those of proper triangles."""
    if lengths.ndim != 2 or lengths.shape[1] != 3:
        raise ValueError(f"lengths: expected [F,3] float, got shape {lengths.shape}")
    bad = np.flatnonzero(~has_area(lengths))
    if bad.size:
        raise ValueError(f"faces: expected no degenerate face, got zero area in faces {_shown(bad)}")


def check_manifold(faces: Ints, vertex_count: int) -> None:
    """Raise unless the faces are an oriented manifold, with or without boundary."""
    tail, head = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    low, high = np.minimum(tail, head), np.maximum(tail, head)
    edges, count = np.unique(low * vertex_count + high, return_counts=True)
    bad = edges[count > 2]
    if bad.size:
        pairs = np.stack((bad // vertex_count, bad % vertex_count), 1)
        raise ValueError(f"faces: expected at most two faces at an edge (manifold), got more at edges {_shown(pairs)}")
    directed, count = np.unique(tail * vertex_count + head, return_counts=True)
    bad = directed[count > 1]
    if bad.size:
        pairs = np.stack((bad // vertex_count, bad % vertex_count), 1)
        raise ValueError(
            f"faces: expected neighbouring faces of one orientation, got edges run through twice in the same "
            f"direction: {_shown(pairs)}"
        )
    # every vertex must be the centre of one fan: half-edges joined around it form one class
    triangulation = Triangulation.build(faces, np.ones(faces.shape), vertex_count)
    bad = np.flatnonzero(_fans(triangulation) != 1)
    if bad.size:
        raise ValueError(f"faces: expected one sheet at each vertex (manifold), got several at vertices {_shown(bad)}")


def _fans(triangulation: Triangulation) -> Ints:
    """Return the number of connected fans of faces at each vertex."""
    after = triangulation.twin[triangulation.previous]  # the next half-edge around the same tail
    joined = np.flatnonzero(after >= 0)
    links: Any = sparse.coo_matrix((np.ones(joined.size, dtype=np.int8), (joined, after[joined])), (after.size,) * 2)
    label = connected_components(links, directed=False)[1].astype(np.int64)
    fans = np.unique(triangulation.tail * after.size + label)
    return np.bincount(fans // after.size, minlength=triangulation.vertex_count)
