"""A surface with everything derived from it, computed once when first asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from pdegcnn.surface.balls import Pairs, geodesic_pairs
from pdegcnn.surface.decimation import decimate
from pdegcnn.surface.delaunay import intrinsic_delaunay
from pdegcnn.surface.frames import Frames, frames
from pdegcnn.surface.laplacian import connection_laplacian, eigenbasis, vertex_areas
from pdegcnn.surface.triangulation import Complexes, Floats, Ints, Triangulation

PAIR_FIELDS = ("start", "centre", "source", "offset", "transport", "mirror")
LEVEL_FIELDS = ("kept", "gauge", "sizes", "fine", "coarse", "weight", "transport")


@dataclass(frozen=True)
class Level:
    """A coarser surface and the interpolation from it; fields as in :class:`pdegcnn.surface.decimation.Decimation`.

    Args:
        surface: the coarse surface, with frames of its own.
        gauge: polar angle in those frames of the fine surface's reference directions, ``[W]``.
        sizes: vertices of each part.
    """

    surface: Surface
    kept: Ints
    gauge: Floats
    sizes: Ints
    fine: Ints
    coarse: Ints
    weight: Floats
    transport: Complexes


class Surface:
    """Triangulation, frames, neighbour lists, Laplacians and eigenfunctions; lengths in units of ``unit``.

    Args:
        faces: ``[F,3]``, checked.
        lengths: ``[F,3]``, checked.
        vertices: positions ``[V,3]``, or None for a surface given by its lengths.
        unit: the unit of length; the mean edge length if None.
        vertex_map: the vertex that each vertex of the file or arrays became, -1 for none; None: each is itself.
    """

    def __init__(
        self,
        faces: Ints,
        lengths: Floats,
        vertices: Floats | None,
        vertex_count: int,
        unit: float | None = None,
        vertex_map: Ints | None = None,
    ) -> None:
        plain = Triangulation.build(faces, lengths, vertex_count)
        if unit is None:
            once = lengths.ravel()[plain.twin < np.arange(plain.twin.size)]  # every edge
            unit = math.fsum(once.tolist()) / once.size  # the same in any order and on any number of threads
        self.unit, self.vertices, self.vertex_map = unit, vertices, vertex_map
        self.triangulation = Triangulation(faces, lengths / unit, plain.twin, vertex_count)
        self.frames: Frames = frames(self.triangulation)
        self.areas = vertex_areas(self.triangulation)
        self._pairs: dict[float | None, Pairs] = {}
        self._delaunay: tuple[Triangulation, Frames] | None = None
        self._laplacians: dict[int, sparse.csr_matrix] = {}
        self._bases: dict[tuple[int, int], tuple[Floats, np.ndarray]] = {}
        self._levels: dict[float, Level] = {}

    def pairs(self, radius: float | None = None) -> Pairs:
        """Pairs nearer than ``radius`` units, or the edges."""
        if radius not in self._pairs:
            self._pairs[radius] = geodesic_pairs(self.triangulation, self.frames, radius)
        return self._pairs[radius]

    def delaunay(self) -> tuple[Triangulation, Frames]:
        """The intrinsic Delaunay triangulation of the surface."""
        if self._delaunay is None:
            self._delaunay = intrinsic_delaunay(self.triangulation, self.frames)
        return self._delaunay

    def delaunay_areas(self) -> Floats:
        """Vertex areas of the Delaunay triangulation, ``[V]``: the mass matrix of the Laplacians."""
        return vertex_areas(self.delaunay()[0])

    def laplacian(self, spin: int = 0) -> sparse.csr_matrix:
        """Weak Laplacian of spin-k fields on the Delaunay triangulation."""
        if spin not in self._laplacians:
            self._laplacians[spin] = connection_laplacian(*self.delaunay(), spin)
        return self._laplacians[spin]

    def eigenbasis(self, spin: int, count: int) -> tuple[Floats, np.ndarray]:
        """Lowest eigenvalues and eigenfunctions of the spin-k Laplacian."""
        if (spin, count) not in self._bases:
            self._bases[spin, count] = eigenbasis(self.laplacian(spin), self.delaunay_areas(), count)
        return self._bases[spin, count]

    def level(self, factor: float, sizes: Sequence[int]) -> Level:
        """A surface of about one of ``factor`` vertices in each part, in units of its own (see ``Mesh.coarsen``)."""
        if factor not in self._levels:
            self._levels[factor] = self._decimated(factor, sizes)
        return self._levels[factor]

    def _decimated(self, factor: float, sizes: Sequence[int]) -> Level:
        d = decimate(self.triangulation, self.frames, factor, sizes)
        part = np.repeat(np.arange(len(sizes)), sizes)[d.kept]
        vertices = None if self.vertices is None else self.vertices[d.kept]
        if len(sizes) == 1:
            surface = Surface(d.faces, d.lengths * self.unit, vertices, d.kept.size)
        else:  # every part in its own unit
            own = part[d.faces[:, 0]]
            twin = Triangulation.build(d.faces, d.lengths, d.kept.size).twin.reshape(-1, 3)
            share = np.where(twin < 0, 1.0, 0.5)  # every edge counts once
            mean = np.bincount(own, (share * d.lengths).sum(1)) / np.bincount(own, share.sum(1))
            surface = Surface(d.faces, d.lengths / mean[own, None], vertices, d.kept.size, 1.0)
        tail = surface.triangulation.tail
        turn: Any = np.exp(1j * (surface.frames.angle - d.sides))  # of each side; they agree where the surface is flat
        gauge = np.angle(np.bincount(tail, turn.real) + 1j * np.bincount(tail, turn.imag))
        return Level(surface, d.kept, gauge, np.bincount(part), d.fine, d.coarse, d.weight, d.transport)

    def arrays(self) -> dict[str, Any]:
        """Everything computed so far, as named arrays."""
        t = self.triangulation
        store: dict[str, Any] = {"faces": t.faces, "lengths": t.lengths * self.unit, "unit": self.unit}
        store["vertex_count"] = t.vertex_count
        if self.vertices is not None:
            store["vertices"] = self.vertices
        if self.vertex_map is not None:
            store["vertex_map"] = self.vertex_map
        for radius, pairs in self._pairs.items():
            name = "edges" if radius is None else repr(radius)
            store |= {f"pairs/{name}/{field}": getattr(pairs, field) for field in PAIR_FIELDS}
        for (spin, count), (values, functions) in self._bases.items():
            store |= {f"basis/{spin}/{count}/values": values, f"basis/{spin}/{count}/functions": functions}
        for factor, level in self._levels.items():
            name = f"level/{factor!r}"
            store |= {f"{name}/{field}": getattr(level, field) for field in LEVEL_FIELDS}
            store |= {f"{name}/surface/{key}": value for key, value in level.surface.arrays().items()}
        return store

    @classmethod
    def from_arrays(cls, store: dict[str, Any]) -> Surface:
        """The surface of :meth:`arrays`."""
        count, unit = int(store["vertex_count"]), float(store["unit"])
        placed = store.get("vertices"), count, unit, store.get("vertex_map")
        surface = cls(store["faces"], store["lengths"], *placed)
        for key in store:
            kind, *rest = key.split("/", 3) if key.startswith("level/") else key.split("/")
            if kind == "pairs" and rest[1] == "start":
                radius = None if rest[0] == "edges" else float(rest[0])
                surface._pairs[radius] = Pairs(*(store[f"pairs/{rest[0]}/{field}"] for field in PAIR_FIELDS))
            elif kind == "basis" and rest[2] == "values":
                functions = store[f"basis/{rest[0]}/{rest[1]}/functions"]
                surface._bases[int(rest[0]), int(rest[1])] = (store[key], functions)
            elif kind == "level" and rest[1] == "kept":
                prefix = f"level/{rest[0]}/surface/"
                inner = {k.removeprefix(prefix): v for k, v in store.items() if k.startswith(prefix)}
                fields = (store[f"level/{rest[0]}/{field}"] for field in LEVEL_FIELDS)
                surface._levels[float(rest[0])] = Level(cls.from_arrays(inner), *fields)
        return surface
