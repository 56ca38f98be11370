"""Defects of meshes, each named with the indices where it occurs, and their repair."""

from __future__ import annotations

from typing import Any

import numpy as np

from pdegcnn.surface.triangulation import Floats, Ints, Triangulation

FLATNESS = 1e-10
"""A face whose longest side exceeds this share less than the sum of the others is degenerate."""
SHOWN = 8


def _shown(rows: Any) -> str:
    """The first few indices of a defect, and how many there are."""
    rows = np.asarray(rows)
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"{rows[:SHOWN].tolist()}{more}"


def check_arrays(vertices: Any, faces: Any) -> tuple[Floats, Ints]:
    """Vertices ``[V,3]`` and faces ``[F,3]`` as NumPy arrays, if they are an oriented manifold, else an error.

    Raises:
        TypeError: vertices that are no floating-point array, faces that are no integer array.
        ValueError: wrong shapes, non-finite vertices, indices out of range, degenerate faces, edges with more than two
            faces, faces of different orientation, isolated vertices, vertices where two sheets touch; with indices.
    """
    vertices, faces = as_rows("vertices", vertices, "[V,3] float", "f"), as_rows("faces", faces, "[F,3] long", "iu")
    vertices, faces = vertices.astype(np.float64), faces.astype(np.int64)
    bad = np.flatnonzero(~np.isfinite(vertices).all(1))
    if bad.size:
        raise ValueError(f"vertices: expected finite coordinates, got NaN or infinity at vertices {_shown(bad)}")
    check_faces(faces, len(vertices))
    lengths = edge_lengths(vertices, faces)
    check_lengths(lengths)
    check_glueing(faces, len(vertices))
    return vertices, faces


def as_rows(name: str, value: Any, wanted: str, kinds: str) -> Any:
    """Rows of three numbers of one of NumPy's ``kinds`` out of a tensor, an array or lists, else an error."""
    try:
        if hasattr(value, "detach"):  # NumPy knows no bfloat16
            value = value.detach().cpu()
            value = value.double() if value.is_floating_point() else value
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths; meta and sparse tensors
        raise TypeError(
            f"{name}: expected {wanted}, got a {type(value).__name__} that is no array ({error})"
        ) from error
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name}: expected {wanted}, got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] != 3 or array.shape[0] == 0:
        raise ValueError(f"{name}: expected {wanted} with at least one row, got shape {array.shape}")
    return array


def edge_lengths(vertices: Floats, faces: Ints) -> Floats:
    """Length of the half-edges of each face, ``[F,3]``."""
    corners = vertices[faces]
    return np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)


def check_faces(faces: Ints, vertex_count: int) -> None:
    """Raise for indices out of range, repeated corners and isolated vertices."""
    bad = np.flatnonzero(((faces < 0) | (faces >= vertex_count)).any(1))
    if bad.size:
        raise ValueError(f"faces: expected indices in [0, {vertex_count - 1}], got others in faces {_shown(bad)}")
    bad = np.flatnonzero((faces == np.roll(faces, 1, axis=1)).any(1))
    if bad.size:
        raise ValueError(f"faces: expected no degenerate face, got repeated corners in faces {_shown(bad)}")
    bad = np.flatnonzero(np.bincount(faces.ravel(), minlength=vertex_count) == 0)
    if bad.size:
        raise ValueError(f"faces: expected no isolated vertex, got no face at vertices {_shown(bad)}")


def check_lengths(lengths: Floats) -> None:
    """Raise for lengths that are not those of proper triangles."""
    if lengths.ndim != 2 or lengths.shape[1] != 3:
        raise ValueError(f"lengths: expected [F,3] float, got shape {lengths.shape}")
    with np.errstate(invalid="ignore"):
        proper = lengths.sum(1) - 2 * lengths.max(1) > FLATNESS * lengths.max(1)
    bad = np.flatnonzero(~proper | ~(lengths > 0).all(1))
    if bad.size:
        raise ValueError(f"faces: expected no degenerate face, got zero area in faces {_shown(bad)}")


def check_glueing(faces: Ints, vertex_count: int) -> None:
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
    """Number of connected fans of faces at each vertex."""
    after = triangulation.twin[triangulation.previous]  # the next half-edge around the same tail
    label = np.arange(after.size)
    jump = np.where(after < 0, label, after)
    backwards = np.where(triangulation.twin < 0, label, triangulation.next[triangulation.twin])
    for _ in range(int(np.bincount(triangulation.tail).max()) + 1):
        label = np.minimum(label, np.minimum(label[jump], label[backwards]))
    fans = np.unique(triangulation.tail * after.size + label)
    return np.bincount(fans // after.size, minlength=triangulation.vertex_count)


def repair_arrays(vertices: Any, faces: Any) -> tuple[Floats, Ints]:
    """Drop degenerate and repeated faces and isolated vertices, and orient faces alike, by ``trimesh``.

    Edges of more than two faces are beyond repair: :func:`check_arrays` then says where they are.

    Raises:
        ImportError: ``trimesh`` is not installed.
    """
    trimesh = import_trimesh()
    vertices, faces = as_rows("vertices", vertices, "[V,3] float", "f"), as_rows("faces", faces, "[F,3] long", "iu")
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    lengths = edge_lengths(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    proper = lengths.sum(1) - 2 * lengths.max(1) > FLATNESS * lengths.max(1)
    mesh.update_faces(proper & mesh.unique_faces())
    mesh.remove_unreferenced_vertices()
    trimesh.repair.fix_winding(mesh)
    return np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int64)


def import_trimesh() -> Any:
    """The package ``trimesh``, or an error that says how to get it."""
    try:
        import trimesh
    except ImportError as error:
        raise ImportError("reading and repairing meshes needs trimesh: pip install 'pdegcnn[mesh]'") from error
    return trimesh
