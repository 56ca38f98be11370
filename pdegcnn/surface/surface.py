"""A surface with its derived geometry, computed on first use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from pdegcnn._typing import Complexes, Floats, Ints
from pdegcnn.surface.decimation import decimate
from pdegcnn.surface.delaunay import intrinsic_delaunay
from pdegcnn.surface.frames import Frames, frames
from pdegcnn.surface.geodesic_neighbors import NeighborPairs, geodesic_pairs
from pdegcnn.surface.laplacian import Modes, connection_laplacian, eigenmodes, side_by_side, vertex_areas
from pdegcnn.surface.triangulation import Triangulation


@dataclass(frozen=True)
class Level:
    """A coarser surface and the interpolation from it.

    Args:
        surface: the coarse surface, with its own frames.
        kept: as in :class:`pdegcnn.surface.Decimation`.
        gauge: polar angle of the fine surface's reference directions in those frames, ``[W]``.
        fine: as in :class:`pdegcnn.surface.Decimation`.
        coarse: as in :class:`pdegcnn.surface.Decimation`.
        weight: as in :class:`pdegcnn.surface.Decimation`.
        transport: as in :class:`pdegcnn.surface.Decimation`.
    """

    surface: Surface
    kept: Ints
    gauge: Floats
    fine: Ints
    coarse: Ints
    weight: Floats
    transport: Complexes


class Surface:
    """Triangulation, frames, neighbour lists, Laplacians and eigenfunctions; lengths are in multiples of ``unit``.

    Args:
        faces: vertices of each face, ``[F,3]``, checked.
        lengths: lengths of its sides, ``[F,3]``, checked.
        vertices: positions ``[V,3]``, or None for a surface given by its lengths.
        vertex_count: number of vertices V.
        unit: the unit of length; None: the mean edge length.
        vertex_map: the vertex that each vertex of the file or arrays became, -1 for none; None: the identity.
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
        self.unit, self.vertices, self.lengths, self.vertex_map = unit, vertices, lengths, vertex_map
        self.triangulation = Triangulation(faces, lengths / unit, plain.twin, vertex_count)
        self.frames: Frames = frames(self.triangulation)
        self.areas = vertex_areas(self.triangulation)
        self._pairs: dict[float | None, NeighborPairs] = {}
        self._delaunay: tuple[Triangulation, Frames] | None = None
        self._laplacians: dict[int, sparse.csr_matrix] = {}
        self._bases: dict[tuple[int, int], tuple[Modes, ...]] = {}
        self._levels: dict[float, Level] = {}

    @property
    def parts(self) -> tuple[Surface, ...]:
        """The surfaces of which this one consists, only itself unless it joins others."""
        return (self,)

    def pairs(self, radius: float | None = None) -> NeighborPairs:
        """Return the pairs nearer than ``radius`` units; None: the edges.

        Args:
            radius: in the unit of the surface, its mean edge by default.
        """
        if radius not in self._pairs:
            self._pairs[radius] = geodesic_pairs(self.triangulation, self.frames, radius)
        return self._pairs[radius]

    def delaunay(self) -> tuple[Triangulation, Frames]:
        """Return the intrinsic Delaunay triangulation of the surface and its frames."""
        if self._delaunay is None:
            self._delaunay = intrinsic_delaunay(self.triangulation, self.frames)
        return self._delaunay

    def delaunay_areas(self) -> Floats:
        """Return the vertex areas of the Delaunay triangulation, ``[V]``: the mass matrix of the Laplacians."""
        return vertex_areas(self.delaunay()[0])

    def laplacian(self, spin: int = 0) -> sparse.csr_matrix:
        """Return the weak Laplacian of spin-k fields on the Delaunay triangulation, ``[V,V]``.

        Args:
            spin: k, an int; 0: functions, 1: tangent vectors.
        """
        if spin not in self._laplacians:
            self._laplacians[spin] = connection_laplacian(*self.delaunay(), spin)
        return self._laplacians[spin]

    def modes(self, spin: int, count: int) -> tuple[Modes, ...]:
        """Return the lowest eigenvalues and eigenfunctions of the spin-k Laplacian on each connected component.

        See :func:`pdegcnn.surface.eigenmodes`.

        Args:
            spin: k, an int; 0: functions, 1: tangent vectors.
            count: eigenfunctions of each component, at least; those of one eigenvalue stay together.
        """
        if (spin, count) not in self._bases:
            self._bases[spin, count] = eigenmodes(self.laplacian(spin), self.delaunay_areas(), count)
        return self._bases[spin, count]

    def eigenbasis(self, spin: int, count: int) -> tuple[Floats, np.ndarray]:
        """Return the :meth:`modes` of all components as ascending eigenvalues ``[K]`` and eigenfunctions ``[V,K]``.

        Args:
            spin: as in :meth:`modes`.
            count: as in :meth:`modes`.
        """
        return side_by_side(self.modes(spin, count), self.areas.size)

    def level(self, factor: float) -> Level:
        """Return a surface with about ``1 / factor`` of the vertices, in its own unit (see ``Mesh.coarsen``).

        Args:
            factor: ratio of the numbers of vertices, above 1.
        """
        if factor not in self._levels:
            self._levels[factor] = self._decimated(factor)
        return self._levels[factor]

    def _decimated(self, factor: float) -> Level:
        d = decimate(self.triangulation, self.frames, factor, (self.areas.size,))
        vertices = None if self.vertices is None else self.vertices[d.kept]
        known = coarse_map(self.vertex_map, self.areas.size, d.kept)
        surface = Surface(d.faces, d.lengths * self.unit, vertices, d.kept.size, vertex_map=known)
        tail = surface.triangulation.tail
        turn: Any = np.exp(1j * (surface.frames.angle - d.sides))  # of each side; they agree where the surface is flat
        gauge = np.angle(np.bincount(tail, turn.real) + 1j * np.bincount(tail, turn.imag))
        return Level(surface, d.kept, gauge, d.fine, d.coarse, d.weight, d.transport)


class JoinedSurface(Surface):
    """Several surfaces side by side, each in its own unit.

    All geometry is computed by the parts and kept there. A part therefore has the same geometry alone and in the union,
    and geometry that was computed for a part (or read from its file) is reused.

    Args:
        surfaces: the parts, or surfaces that join parts.
    """

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        self._parts = tuple(part for s in surfaces for part in s.parts)
        self.unit = 1.0
        self.triangulation = _joined_triangulation([p.triangulation for p in self.parts])
        self.frames = _joined_frames([p.frames for p in self.parts])
        self.areas = np.concatenate([p.areas for p in self.parts])
        placed = [p.vertices for p in self.parts if p.vertices is not None]
        self.vertices = np.concatenate(placed) if len(placed) == len(self.parts) else None
        self.vertex_map = _joined_map(self.parts)
        self._levels = {}

    @property
    def parts(self) -> tuple[Surface, ...]:
        """The surfaces of which this one consists."""
        return self._parts

    def pairs(self, radius: float | None = None) -> NeighborPairs:
        """Return the pairs of the parts.

        Args:
            radius: in the unit of each part, positive; None: the edges.
        """
        pairs = [p.pairs(radius) for p in self.parts]
        vertices, before = _shifts([p.areas.size for p in self.parts]), _shifts([p.centre.size for p in pairs])
        start = [p.start[:-1] + e for p, e in zip(pairs, before)] + [before[-1:]]
        shifts = (("centre", vertices), ("source", vertices), ("reverse_index", before))
        fields = {k: np.concatenate([getattr(p, k) + s for p, s in zip(pairs, by)]) for k, by in shifts}
        fields |= {k: np.concatenate([getattr(p, k) for p in pairs]) for k in ("offset", "transport")}
        return NeighborPairs(start=np.concatenate(start), **fields)

    def delaunay(self) -> tuple[Triangulation, Frames]:
        """Return the Delaunay triangulations of the parts."""
        triangulations, angles = zip(*(p.delaunay() for p in self.parts))
        return _joined_triangulation(triangulations), _joined_frames(angles)

    def laplacian(self, spin: int = 0) -> sparse.csr_matrix:
        """Return the Laplacians of the parts as blocks, ``[V,V]``.

        Args:
            spin: k, an int; 0: functions, 1: tangent vectors.
        """
        return sparse.block_diag([p.laplacian(spin) for p in self.parts], format="csr")  # pyright: ignore

    def modes(self, spin: int, count: int) -> tuple[Modes, ...]:
        """Return the modes of all parts, the same as each part has alone.

        Args:
            spin: k, an int; 0: functions, 1: tangent vectors.
            count: eigenfunctions of each component, at least; those of one eigenvalue stay together.
        """
        found = [(p.modes(spin, count), v) for p, v in zip(self.parts, _shifts([p.areas.size for p in self.parts]))]
        return tuple(m._replace(vertices=m.vertices + first) for modes, first in found for m in modes)

    def _decimated(self, factor: float) -> Level:
        levels = [p.level(factor) for p in self.parts]
        vertices, kept = _shifts([p.areas.size for p in self.parts]), _shifts([x.kept.size for x in levels])
        shifts = (("kept", vertices), ("fine", vertices), ("coarse", kept))
        fields = {k: np.concatenate([getattr(x, k) + s for x, s in zip(levels, by)]) for k, by in shifts}
        fields |= {k: np.concatenate([getattr(x, k) for x in levels]) for k in ("gauge", "weight", "transport")}
        return Level(surface=JoinedSurface([x.surface for x in levels]), **fields)


def coarse_map(vertex_map: Ints | None, vertex_count: int, kept: Ints) -> Ints:
    """Return the vertex map of a coarser surface, from that of the finer one.

    Args:
        vertex_map: of the finer surface; None: the identity.
        vertex_count: number of vertices of the finer surface.
        kept: those that remain.
    """
    label = np.full(vertex_count, -1)
    label[kept] = np.arange(kept.size)
    return label if vertex_map is None else np.where(vertex_map < 0, -1, label[vertex_map])


def _shifts(sizes: Sequence[int]) -> Ints:
    """Return where each part begins, and the end of the last."""
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)


def _joined_map(parts: Sequence[Surface]) -> Ints | None:
    """Return the vertex maps of the parts one after another; None if every vertex is itself."""
    if all(p.vertex_map is None for p in parts):
        return None
    maps = [np.arange(p.areas.size) if p.vertex_map is None else p.vertex_map for p in parts]
    vertices = _shifts([p.areas.size for p in parts])
    return np.concatenate([np.where(m < 0, -1, m + first) for m, first in zip(maps, vertices)])


def _joined_triangulation(parts: Sequence[Triangulation]) -> Triangulation:
    vertices, sides = _shifts([p.vertex_count for p in parts]), _shifts([p.faces.size for p in parts])
    faces = np.concatenate([p.faces + v for p, v in zip(parts, vertices)])
    twin = np.concatenate([np.where(p.twin < 0, -1, p.twin + h) for p, h in zip(parts, sides)])
    return Triangulation(faces, np.concatenate([p.lengths for p in parts]), twin, int(vertices[-1]))


def _joined_frames(parts: Sequence[Frames]) -> Frames:
    angle, back, scale = (np.concatenate([getattr(p, k) for p in parts]) for k in ("angle", "back", "scale"))
    sides = _shifts([p.angle.size for p in parts])
    return Frames(angle, back, scale, np.concatenate([p.first + h for p, h in zip(parts, sides)]))
