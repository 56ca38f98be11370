"""Conversion of surfaces to named arrays and back, with all computed geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from pdegcnn._typing import Ints
from pdegcnn.surface.frames import Frames
from pdegcnn.surface.geodesic_neighbors import NeighborPairs
from pdegcnn.surface.laplacian import Modes
from pdegcnn.surface.surface import JoinedSurface, Level, Surface, coarse_map
from pdegcnn.surface.triangulation import Triangulation

PAIR_FIELDS = ("start", "centre", "source", "offset", "transport", "reverse_index")
LEVEL_FIELDS = ("kept", "gauge", "fine", "coarse", "weight", "transport")
FRAME_FIELDS = ("angle", "back", "scale", "first")
MATRIX_FIELDS = ("data", "indices", "indptr")


def to_arrays(surface: Surface) -> dict[str, Any]:
    """Return all geometry computed so far as named arrays; slashes in names separate levels."""
    if isinstance(surface, JoinedSurface):
        return _within("part", dict(enumerate(map(to_arrays, surface.parts))))
    t, (delaunay, angles) = surface.triangulation, surface._delaunay or (None, None)
    store: dict[str, Any] = {"faces": t.faces, "lengths": surface.lengths, "unit": surface.unit}
    store["vertex_count"] = t.vertex_count
    if surface.vertices is not None:
        store["vertices"] = surface.vertices
    if surface.vertex_map is not None:
        store["vertex_map"] = surface.vertex_map
    if delaunay is t:
        store["delaunay/same"] = True
    elif delaunay is not None:
        store |= {f"delaunay/{field}": getattr(delaunay, field) for field in ("faces", "lengths", "twin")}
        store |= {f"delaunay/{field}": getattr(angles, field) for field in FRAME_FIELDS}
    pairs = {"edges" if r is None else repr(float(r)): _fields(p, PAIR_FIELDS) for r, p in surface._pairs.items()}
    matrices = {k: _fields(matrix, MATRIX_FIELDS) for k, matrix in surface._laplacians.items()}
    bases = {f"{spin}/{count}": _modes_to_arrays(modes) for (spin, count), modes in surface._bases.items()}
    levels = {
        repr(float(factor)): _fields(level, LEVEL_FIELDS) | _within("surface", {"": to_arrays(level.surface)})
        for factor, level in surface._levels.items()
    }
    store |= _within("pairs", pairs) | _within("laplacian", matrices)
    return store | _within("modes", bases) | _within("level", levels)


def from_arrays(store: dict[str, Any]) -> Surface:
    """Return the surface of :func:`to_arrays`."""
    groups = {name: _inside(store, name) for name in ("part", "pairs", "laplacian", "modes", "level", "delaunay")}
    if groups["part"]:
        parts = _named(groups["part"], 1)
        return JoinedSurface([from_arrays(parts[str(i)]) for i in range(len(parts))])
    vertices, count = store.get("vertices"), int(store["vertex_count"])
    unit, vertex_map = float(store["unit"]), store.get("vertex_map")
    surface = Surface(store["faces"], store["lengths"], vertices, count, unit, vertex_map)
    if "same" in (a := groups["delaunay"]):
        surface._delaunay = surface.triangulation, surface.frames
    elif a:
        flipped = Triangulation(a["faces"], a["lengths"], a["twin"], count)
        surface._delaunay = flipped, Frames(*(a[field] for field in FRAME_FIELDS))
    for name, a in _named(groups["pairs"], 1).items():
        surface._pairs[None if name == "edges" else float(name)] = NeighborPairs(*(a[field] for field in PAIR_FIELDS))
    for name, a in _named(groups["laplacian"], 1).items():
        surface._laplacians[int(name)] = sparse.csr_matrix(tuple(a[field] for field in MATRIX_FIELDS), (count, count))
    for name, a in _named(groups["modes"], 2).items():
        spin, number = map(int, name.split("/"))
        surface._bases[spin, number] = _modes_from_arrays(a)
    for name, a in _named(groups["level"], 1).items():
        inner = _inside(a, "surface")
        inner.setdefault("vertex_map", coarse_map(vertex_map, count, a["kept"]))  # former files lack it
        surface._levels[float(name)] = Level(from_arrays(inner), *(a[field] for field in LEVEL_FIELDS))
    return surface


def cut(store: dict[str, Any], sizes: Ints) -> Surface:
    """Split faces, lengths and positions of a joined surface into surfaces of ``sizes`` vertices."""
    part = np.repeat(np.arange(sizes.size), sizes)[store["faces"][:, 0]]
    first, parts = np.cumsum(sizes) - sizes, []
    for i, (begin, count) in enumerate(zip(first.tolist(), sizes.tolist())):
        vertices = store["vertices"][begin : begin + count] if "vertices" in store else None
        faces, lengths = store["faces"][part == i] - begin, store["lengths"][part == i]
        parts.append(Surface(faces, lengths, vertices, count, 1.0))
    return JoinedSurface(parts)


def _fields(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _within(group: str, members: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    """Return the arrays of the members of a group by ``group/member/name``."""
    named = [(str(member), name, a) for member, arrays in members.items() for name, a in arrays.items()]
    return {"/".join(filter(None, (group, member, name))): a for member, name, a in named}


def _inside(store: dict[str, Any], group: str) -> dict[str, Any]:
    """Return the arrays of a group, by what follows its name."""
    return {name.removeprefix(f"{group}/"): a for name, a in store.items() if name.startswith(f"{group}/")}


def _named(store: dict[str, Any], words: int) -> dict[str, dict[str, Any]]:
    """Return the members of a group, whose names have this many words, and the arrays of each."""
    members: dict[str, dict[str, Any]] = {}
    for name, a in store.items():
        *member, rest = name.split("/", words)
        members.setdefault("/".join(member), {})[rest] = a
    return members


def _modes_to_arrays(modes: tuple[Modes, ...]) -> dict[str, Any]:
    """Return all components one after another, with their numbers of vertices and eigenvalues."""
    columns = {name: np.concatenate([getattr(m, name).ravel() for m in modes]) for name in Modes._fields}
    return {"sizes": np.array([m.functions.shape for m in modes]), **columns}


def _modes_from_arrays(a: dict[str, Any]) -> tuple[Modes, ...]:
    sizes = a["sizes"]
    vertices, values, functions = (
        np.split(a[name], np.cumsum(count)[:-1])
        for name, count in (("vertices", sizes[:, 0]), ("values", sizes[:, 1]), ("functions", sizes.prod(1)))
    )
    return tuple(Modes(v, e, f.reshape(v.size, e.size)) for v, e, f in zip(vertices, values, functions))
