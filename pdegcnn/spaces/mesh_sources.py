"""Surfaces of meshes from arrays, from edge lengths and from archives."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import Ints, Numbers, from_numpy
from pdegcnn.spaces.mesh_arguments import check_unit
from pdegcnn.surface.archive import cut, from_arrays
from pdegcnn.surface.checks import as_rows, check_arrays, check_faces, check_lengths, check_manifold, edge_lengths
from pdegcnn.surface.repair import cut_edges, repaired
from pdegcnn.surface.surface import Surface


def from_positions(vertices: Numbers, faces: Numbers, known: Ints | None, repair: bool, unit: float | None) -> Surface:
    """Return the surface of :meth:`Mesh.from_arrays`; ``known``: the row of ``vertices`` of each vertex of a file.

    A warning names the line that called the caller.
    """
    if _checks.flag("repair", repair):
        vertices, faces, kept = repaired(vertices, faces)
        known = kept if known is None else np.where(known < 0, -1, kept[known])
    vertices, faces = check_arrays(vertices, faces)
    check_unit(unit)
    lengths = edge_lengths(vertices, faces)
    surface = Surface(faces, lengths, vertices, len(vertices), unit, known)
    loose = cut_edges(vertices, faces, surface.triangulation.twin < 0)
    if len(loose):
        message = f"edges {loose[:8].tolist()}" + (f" and {len(loose) - 8} more" if len(loose) > 8 else "")
        message = f"vertices: expected one vertex at each place, got {message} that lie on others, unconnected"
        warnings.warn(f"{message}: the surface is cut there; repair=True joins it", stacklevel=3)
    return surface


def from_lengths(faces: Numbers, lengths: Numbers, unit: float | None) -> Surface:
    """Return the surface of :meth:`Mesh.from_lengths`."""
    faces = as_rows("faces", faces, "[F,3] long", "iu").astype(np.int64)
    lengths = as_rows("lengths", lengths, "[F,3] numbers", "fiu").astype(np.float64)
    if not np.isfinite(lengths).all():
        raise ValueError("lengths: expected finite numbers, got NaN or infinity")
    if lengths.shape != faces.shape:
        raise ValueError(f"lengths: expected shape {faces.shape} as faces, got {lengths.shape}")
    count = int(faces.max()) + 1
    if count > faces.size:
        raise ValueError(f"faces: expected no isolated vertex, got {len(faces)} faces of vertices up to {count - 1}")
    check_faces(faces, count)
    check_lengths(lengths)
    check_manifold(faces, count)
    check_unit(unit)
    surface = Surface(faces, lengths, None, count, unit)
    twin, sides = surface.triangulation.twin, lengths.ravel()
    bad = np.flatnonzero((twin >= 0) & (np.abs(sides - sides[twin]) > 1e-9 * sides))
    if bad.size:
        raise ValueError(f"lengths: expected one length for each edge, got two at faces {(bad // 3)[:8].tolist()}")
    return surface


def archive(path: str | Path) -> Path:
    """Return the file that a mesh is written to under this name."""
    name = _checks.path(path)
    return name if name.suffix == ".npz" else Path(f"{name}.npz")


def from_archive(path: str | Path) -> tuple[Surface, int, Tensor]:
    """Return the surface, the number of directions and the gauge of the archive that :meth:`Mesh.save` wrote."""
    found = archive(path) if archive(path).is_file() else Path(path)
    if not found.is_file():
        raise FileNotFoundError(f"path: expected a file of Mesh.save, got {str(path)!r}, which does not exist")
    try:
        with np.load(found, allow_pickle=False) as file:
            store = dict(file)
        gauge, directions, sizes = (store.pop(name) for name in ("gauge", "directions", "sizes"))
        joined = sizes.size > 1 and "faces" in store  # the former format of unions
        surface = cut(store, sizes) if joined else from_arrays(store)
        return surface, _checks.positive_int("orientations", int(directions)), from_numpy(gauge)
    except (ValueError, TypeError, KeyError, IndexError, EOFError, OSError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"path: expected a file of Mesh.save, got {str(path)!r}, which is damaged or of another kind ({error})"
        ) from error
