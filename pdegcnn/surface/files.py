"""Reading meshes from files: positions and triangles, each position once.

``nibabel`` reads GIFTI, ``pyvista`` VTK and VTP, ``trimesh`` all other formats but OBJ. Of an OBJ file it makes one
vertex for each pair of position and normal or texture coordinate, which cuts the surface along seams. It also drops
positions without a face.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pdegcnn import _checks
from pdegcnn._typing import Floats, Ints
from pdegcnn.surface.repair import weld, without_isolated

GIFTI, VTK = (".gii", ".gii.gz"), (".vtk", ".vtp")
POINT = "pdegcnn: number of the point"
SHARED = (".obj", ".ply", ".off", ".3mf", *GIFTI, *VTK)
"""Formats in which faces refer to positions; in others a position is repeated for each face, normal or texture."""


def read_surface(path: str | Path) -> tuple[Floats, Ints, Ints]:
    """Return positions ``[V,3]`` and triangles ``[F,3]`` of a file, and the vertex of each position of the file.

    Positions without a face become none (-1). In formats that repeat positions (STL, glTF, ...) those at one place
    become one vertex; see :func:`pdegcnn.surface.repair.weld`.

    Raises:
        ImportError: if the package that reads the format is not installed.
        FileNotFoundError: if the file does not exist.
        TypeError: if ``path`` is not a string or path.
        ValueError: for a file without triangles, a damaged one, or an unknown format; of OBJ and PLY files the message
            says what is missing where.
    """
    path = _checks.path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a mesh file, got {str(path)!r}, which does not exist")
    name = path.name.lower()
    kind = next((k for k in (*GIFTI, *VTK) if name.endswith(k)), path.suffix.lower())
    path.open("rb").close()  # what cannot be opened says so itself; later errors are about the content
    try:
        vertices, faces, *count = _read_obj(path) if kind == ".obj" else _read_by_library(path, kind)
    except ImportError as error:
        if "pip install 'pdegcnn" in str(error):  # of `_import`
            raise
        raise ImportError(
            f"reading {kind} files needs more of trimesh: pip install 'trimesh[all]' ({error})"
        ) from error
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("path: "):
            raise
        raise ValueError(
            f"path: expected a file of a surface, got {str(path)!r}, which is damaged or of an unknown format "
            f"({type(error).__name__}: {error})"
        ) from error
    if not len(faces):
        raise ValueError(f"path: expected a file with faces, got {str(path)!r} without")
    return _used(vertices, faces, f"in {str(path)!r}", kind not in SHARED, *count)


def _read_by_library(path: Path, kind: str) -> tuple[Floats, Ints] | tuple[Floats, Ints, int]:
    """Return positions and triangles as the library gives them; and how many are of the file, if not all positions."""
    if kind in GIFTI:
        return _read_gifti(path)
    if kind in VTK:
        return _pyvista_arrays(_import("pyvista", "reading VTK files").read(path))
    return _read_by_trimesh(path, kind)


def trimesh_surface(mesh: Any) -> tuple[Floats, Ints, Ints]:
    """Return a ``trimesh.Trimesh`` in the form of :func:`read_surface`."""
    if not hasattr(mesh, "vertices") or getattr(mesh, "faces", None) is None:
        raise TypeError(f"mesh: expected a trimesh.Trimesh, got {type(mesh).__name__}")
    vertices, faces = np.array(mesh.vertices, dtype=np.float64), np.array(mesh.faces, dtype=np.int64)
    return _used(vertices, faces.reshape(-1, 3), "in mesh")


def pyvista_surface(mesh: Any) -> tuple[Floats, Ints, Ints]:
    """Return a data set of pyvista in the form of :func:`read_surface`."""
    if not hasattr(mesh, "points") or not hasattr(mesh, "extract_surface"):
        raise TypeError(f"mesh: expected a pyvista.PolyData, got {type(mesh).__name__}")
    vertices, faces, count = _pyvista_arrays(mesh)
    return _used(vertices, faces, "in mesh", count=count)


def _used(
    vertices: Floats, faces: Ints, where: str, repeats: bool = False, count: int | None = None
) -> tuple[Floats, Ints, Ints]:
    """Return used positions, with repeated ones merged, faces, and the new index of each of the first ``count``."""
    if not len(faces):
        raise ValueError(f"mesh: expected faces, got none {where}")
    label = np.arange(len(vertices))
    if repeats and np.isfinite(vertices).all():
        vertices, faces, label = weld(vertices, faces)
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(f"path: expected face indices of {len(vertices)} positions, got others {where}")
    vertices, faces, kept = without_isolated(vertices, faces)
    return vertices, faces, kept[label][:count]


def _pyvista_arrays(data: Any) -> tuple[Floats, Ints, int]:
    """Return the points of a data set and perhaps more, triangles of its surface, and the number of the points.

    Cells that are not triangles or polygons (lines, points) are left out. A surface keeps only the points that it uses,
    in another order, and may repeat them: the numbers of the data set are carried along as values.
    """
    points = np.array(data.points, dtype=np.float64).reshape(-1, 3)
    if hasattr(data, "is_all_triangles"):
        return points, _pyvista_triangles(data), len(points)
    plain = data.copy(deep=False)
    plain.clear_data()
    plain.point_data[POINT] = np.arange(len(points), dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the default algorithm will change
        surface = plain.extract_surface()
    own, number = np.array(surface.points, dtype=np.float64), np.array(surface.point_data[POINT])
    label = np.rint(number).astype(np.int64)
    apart = np.linalg.norm(points[label] - own, axis=1)
    made = np.flatnonzero((np.abs(number - label) > 1e-6) | (apart > 1e-5 * np.linalg.norm(np.ptp(own, axis=0))))
    label[made] = len(points) + np.arange(made.size)  # between those of a curved cell
    return np.concatenate((points, own[made])), label[_pyvista_triangles(surface)], len(points)


def _pyvista_triangles(surface: Any) -> Ints:
    """Return the triangles of a ``pyvista.PolyData``, with polygons cut into such; points keep their numbers."""
    return np.array(surface.triangulate().faces, dtype=np.int64).reshape(-1, 4)[:, 1:]


def _read_gifti(path: Path) -> tuple[Floats, Ints]:
    image = _import("nibabel", "reading GIFTI files").load(path)
    found = [image.get_arrays_from_intent(f"NIFTI_INTENT_{name}") for name in ("POINTSET", "TRIANGLE")]
    if not all(found):
        raise ValueError(f"path: expected a GIFTI file of a surface, got {str(path)!r} without positions or triangles")
    vertices, faces = (arrays[0].data for arrays in found)
    return np.array(vertices, dtype=np.float64), np.array(faces, dtype=np.int64)


def _read_by_trimesh(path: Path, kind: str) -> tuple[Floats, Ints]:
    trimesh = import_trimesh()
    options = {"fix_texture": False} if kind == ".ply" else {}
    read = trimesh.load(path, process=False, force="mesh", **options)
    if getattr(read, "faces", None) is None:
        return np.empty((0, 3)), np.empty((0, 3), dtype=np.int64)
    vertices, faces = np.array(read.vertices, dtype=np.float64), np.array(read.faces, dtype=np.int64)
    if kind == ".ply" and len(faces):
        _check_counts(path, len(vertices), len(faces))
    return vertices, faces


def _check_counts(path: Path, vertices: int, faces: int) -> None:
    """Raise if a PLY file has another number of positions, or fewer faces, than its header says.

    The library that reads it ignores lines that are missing at the end of a text file.
    """
    with path.open("rb") as file:
        lines = file.read(65536).split(b"end_header", 1)[0].splitlines()
    said = {w[1]: int(w[2]) for w in map(bytes.split, lines) if len(w) == 3 and w[0] == b"element"}
    if said.get(b"vertex", vertices) != vertices or said.get(b"face", 0) > faces:
        wanted = f"{said.get(b'vertex')} positions and {said.get(b'face')} faces"
        raise ValueError(f"path: expected {wanted} in {str(path)!r}, as its header says, got {vertices} and {faces}")


def import_trimesh() -> Any:
    """Import the package ``trimesh``, or raise an error that says how to get it."""
    return _import("trimesh", "reading meshes")


def _import(name: str, task: str) -> Any:
    """Import a package, or raise an error that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = "volumes" if name == "nibabel" else "mesh"
        raise ImportError(f"{task} needs {name}: pip install 'pdegcnn[{extra}]'") from error


def _read_obj(path: Path) -> tuple[Floats, Ints]:
    """Return positions and faces of all objects, groups and materials; polygons are cut into triangles.

    Negative indices count back from the position listed last before the face.
    """
    positions: list[list[float]] = []
    polygons: dict[int, list[list[int]]] = {}  # by number of corners
    places: dict[int, list[int]] = {}
    count = 0
    for number, line in _obj_lines(path.read_text(encoding="utf-8-sig", errors="replace")):
        word, *rest = line.split() or [""]
        try:
            if word == "v":
                positions.append([float(x) for x in rest[:3]])
            elif word == "f":
                corners = [int(x.split("/", 1)[0]) for x in rest]
                corners = [x - 1 if x > 0 else len(positions) + x if x < 0 else -1 for x in corners]
                polygons.setdefault(len(corners), []).append(corners)
                places.setdefault(len(corners), []).append(count)
                count += 1
        except ValueError as error:
            raise ValueError(
                f"path: expected numbers in line {number} of {str(path)!r}, got {line.strip()!r}"
            ) from error
        if word == "v" and len(positions[-1]) < 3 or word == "f" and len(rest) < 3:
            raise ValueError(f"path: expected three numbers in line {number} of {str(path)!r}, got {line.strip()!r}")
    vertices = np.array(positions, dtype=np.float64).reshape(-1, 3)
    for corners in polygons.values():
        if np.min(corners) < 0 or np.max(corners) >= len(vertices):
            raise ValueError(f"path: expected face indices of {len(vertices)} positions, got others in {str(path)!r}")
    triangles = [_triangles(vertices, np.array(p)) for p in polygons.values()]
    if not triangles:
        return vertices, np.empty((0, 3), dtype=np.int64)
    order = np.concatenate([np.repeat(places[n], n - 2) for n in polygons])
    return vertices, np.concatenate(triangles)[np.argsort(order, kind="stable")]


def _obj_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines without comments, each with its number; a backslash at its end joins a line to the next."""
    begun, first = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        whole = begun + line.split("#", 1)[0]
        if whole.endswith("\\"):
            begun = whole[:-1] + " "
        else:
            yield first, whole
            begun, first = "", number + 1
    yield first, begun


def _triangles(vertices: Floats, polygons: Ints) -> Ints:
    """Cut polygons ``[P,n]`` into triangles ``[P (n-2), 3]``: fans of the first corner unless these fold over."""
    count, size = polygons.shape
    fans = np.stack((np.repeat(polygons[:, :1], size - 2, 1), polygons[:, 1:-1], polygons[:, 2:]), 2)
    if size == 3:
        return fans.reshape(-1, 3)
    corners = vertices[fans]
    normals = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    whole = normals.sum(1)
    size_of = np.linalg.norm(whole, axis=1, keepdims=True)
    bad = ((normals * whole[:, None]).sum(2) <= 1e-9 * size_of**2).any(1)
    for p in np.flatnonzero(bad):
        fans[p] = polygons[p][_ears(vertices[polygons[p]], whole[p])]
    return fans.reshape(-1, 3)


def _ears(points: Floats, normal: Floats) -> Ints:
    """Cut a polygon into triangles, ear by ear (Meisters 1975), the best shaped first."""
    left, found = list(range(len(points))), []
    axis = normal / (np.linalg.norm(normal) or 1.0)

    def area(a: Any, b: Any, c: Any) -> Any:
        return np.cross(b - a, c - a) @ axis

    def shape(k: int) -> float:
        """Return the area divided by the square of the longest side; -inf if another corner lies inside."""
        ear = [left[j % len(left)] for j in (k - 1, k, k + 1)]
        a, b, c = points[ear]
        others = points[[x for x in left if x not in ear]]
        if ((area(a, b, others) > 0) & (area(b, c, others) > 0) & (area(c, a, others) > 0)).any():
            return -math.inf
        return area(a, b, c) / max(((b - a) ** 2).sum(), ((c - b) ** 2).sum(), ((a - c) ** 2).sum(), 1e-300)

    shapes = [shape(k) for k in range(len(left))]
    while len(left) > 3:
        k = int(np.flatnonzero(np.array(shapes) >= max(shapes) - 1e-9)[0])
        found.append((left[k - 1], left[k], left[(k + 1) % len(left)]))
        del left[k], shapes[k]
        for beside in (k - 1, k % len(left)):
            shapes[beside] = shape(beside)
    return np.array([*found, left])
