"""Coarser triangulations of a surface: vertices are removed one by one, within the surface.

Edges around a vertex are flipped until three triangles (two at the boundary) are left there, and one takes their place.
Edge lengths stay geodesic distances, so that flat surfaces keep their geometry; curvature moves to the neighbours.
Polar angles are carried along, hence transport from a removed vertex to those that stay is known. Source: Liu,
Gillespie, Chislett, Sharp, Jacobson & Crane, *Surface simplification using intrinsic error metrics* (2023), with the
area of a vertex as the error.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from pdegcnn.surface.frames import Frames
from pdegcnn.surface.triangulation import Complexes, Floats, Ints, Triangulation

SLACK = 1e-9
"""As in the intrinsic Delaunay triangulation: pairs of triangles on one circle are left alone."""
STRAIGHT = math.pi / 4
"""Boundary vertices whose angle differs from a straight one by more are corners, and stay."""
TRIES = 4
"""A vertex that cannot be removed is tried again this often."""


@dataclass(frozen=True)
class Decimation:
    """A coarser triangulation, and how each vertex of the fine one is interpolated between those that are left.

    Args:
        kept: the fine vertices that are left, ``[W]``.
        faces: of the coarse triangulation, ``[G,3]``.
        lengths: of its sides, ``[G,3]``.
        sides: polar angle of each coarse half-edge in the frame of its tail in the fine triangulation, ``[3G]``.
        fine: fine vertex v of each pair, sorted, ``[E]``.
        coarse: coarse vertex c of each pair, ``[E]``.
        weight: weight of c in v; those of a fine vertex add up to one, ``[E]``.
        transport: unit complex number from the frame of c (in the fine triangulation) to that of v, ``[E]``.
    """

    kept: Ints
    faces: Ints
    lengths: Floats
    sides: Floats
    fine: Ints
    coarse: Ints
    weight: Floats
    transport: Complexes


def decimate(triangulation: Triangulation, frames: Frames, factor: float, sizes: Sequence[int]) -> Decimation:
    """About one of ``factor`` vertices of each part; ``sizes`` are the vertex counts of the parts.

    The vertex of least area goes first, so that those that stay are spread evenly. Corners of the boundary stay, as do
    vertices whose removal would leave no surface: there are then more vertices than asked for.
    """
    work = _Decimator(triangulation, frames)
    part = np.repeat(np.arange(len(sizes)), sizes).tolist()
    surplus = [int(size - max(4, round(size / factor))) for size in sizes]
    heap = [(work.area(v), v, 0) for v in range(triangulation.vertex_count)]
    heapq.heapify(heap)
    while heap and any(s > 0 for s in surplus):
        cost, v, tries = heapq.heappop(heap)
        if surplus[part[v]] <= 0:
            continue
        area = work.area(v)
        if tries == 0 and area > cost * (1 + 1e-9):
            heapq.heappush(heap, (area, v, 0))
        elif work.remove(v):
            surplus[part[v]] -= 1
        elif tries < TRIES:
            heapq.heappush(heap, (2 * cost, v, tries + 1))
    return work.result()


def _corner(a: float, b: float, opposite: float) -> float:
    return math.acos(min(1.0, max(-1.0, (a * a + b * b - opposite * opposite) / (2 * a * b))))


def _next(h: int) -> int:
    return h - 2 if h % 3 == 2 else h + 1


def _previous(h: int) -> int:
    return h + 2 if h % 3 == 0 else h - 1


class _Decimator:
    """Half-edge lists that are changed in place; plain Python numbers. A triangle that is gone has tails -1."""

    def __init__(self, t: Triangulation, frames: Frames) -> None:
        self.count = t.vertex_count
        self.tail, self.twin, self.length = t.tail.tolist(), t.twin.tolist(), t.lengths.ravel().tolist()
        self.angle, self.scale = frames.angle.tolist(), frames.scale.tolist()
        self.out, self.boundary = frames.first.tolist(), t.on_boundary.tolist()
        self.rows: list[tuple[int, Sequence[int], list[float], list[float]]] = []

    def fan(self, v: int) -> list[int]:
        """Half-edges from v, counter-clockwise; at the boundary from the rightmost."""
        start = h = self.out[v]
        found = [h]
        while (h := self.twin[_previous(h)]) >= 0 and h != start:
            found.append(h)
        return found

    def neighbours(self, v: int) -> list[int]:
        """Vertices that share an edge with v, counter-clockwise."""
        fan = self.fan(v)
        last = [self.tail[_previous(fan[-1])]] if self.boundary[v] else []
        return [self.tail[_next(h)] for h in fan] + last

    def corner(self, h: int) -> float:
        """Angle of the triangle at the tail."""
        return _corner(self.length[h], self.length[_previous(h)], self.length[_next(h)])

    def span(self, h: int) -> float:
        """Polar angle from a half-edge to the next around its tail."""
        after = self.twin[_previous(h)]
        if after < 0:
            return self.scale[self.tail[h]] * self.corner(h)
        return (self.angle[after] - self.angle[h]) % (2 * math.pi)

    def area(self, v: int) -> float:
        """Area of the triangles around v; twice that at the boundary, where half of them are missing."""
        area = sum(0.5 * self.length[h] * self.length[_previous(h)] * math.sin(self.corner(h)) for h in self.fan(v))
        return 2 * area if self.boundary[v] else area

    def weight(self, h: int) -> float:
        """Sum of the cotangents opposite to an inner edge: negative where it is not Delaunay."""
        total = 0.0
        for side in (h, self.twin[h]):
            angle = self.corner(_previous(side))
            total += math.cos(angle) / max(math.sin(angle), 1e-300)
        return total

    def may_flip(self, h: int, slack: float = -1e-6) -> bool:
        """Whether the triangles at h are a convex quadrangle whose other diagonal is no edge yet.

        With a positive ``slack`` its corner at the tail may be straight: that gives a triangle without area.
        """
        t = self.twin[h]
        if t < 0:
            return False
        a, b, c, d = self.tail[h], self.tail[t], self.tail[_previous(h)], self.tail[_previous(t)]
        if c == d or any(not self.boundary[v] and len(self.fan(v)) <= 3 for v in (a, b)):
            return False
        at_a, at_b = self.corner(h) + self.corner(_next(t)), self.corner(_next(h)) + self.corner(t)
        convex = at_a < math.pi * (1 + slack) and at_b < math.pi * (1 - 1e-6)
        return convex and d not in self.neighbours(c)

    def flip(self, h: int) -> tuple[int, ...]:
        """Replace the edge a-b of half-edge h by c-d; returns the four half-edges around."""
        t = self.twin[h]
        f, g = h - h % 3, t - t % 3
        h1, h2, t1, t2 = _next(h), _previous(h), _next(t), _previous(t)
        ab, bc, ca, ad, db = (self.length[x] for x in (h, h1, h2, t1, t2))
        at_a = _corner(ab, ca, bc) + _corner(ab, ad, db)
        cd = math.sqrt(max(ca * ca + ad * ad - 2 * ca * ad * math.cos(at_a), 0.0))
        c, d = self.tail[h2], self.tail[t2]
        at_c = self.angle[h2] + self.span(h2) * _corner(ca, cd, ad) / self.corner(h2)
        at_d = self.angle[t2] + self.span(t2) * _corner(db, cd, bc) / self.corner(t2)
        moved = {t2: f + 1, h1: f + 2, h2: g + 1, t1: g + 2}
        sides = {new: (self.tail[x], self.length[x], self.angle[x], self.twin[x]) for x, new in moved.items()}
        sides |= {f: (c, cd, at_c, g), g: (d, cd, at_d, f)}
        self._write({n: (*x[:3], moved.get(x[3], x[3]) if n not in (f, g) else x[3]) for n, x in sides.items()})
        return f + 1, f + 2, g + 1, g + 2

    def _write(self, sides: dict[int, tuple[int, float, float, int]]) -> None:
        """Set tail, length, polar angle and twin of half-edges, and what refers to them."""
        for h, (tail, length, angle, twin) in sides.items():
            self.tail[h], self.length[h], self.angle[h], self.twin[h] = tail, length, angle, twin
            if twin >= 0:
                self.twin[twin] = h
            if twin < 0 or not self.boundary[tail]:
                self.out[tail] = h

    def remove(self, v: int) -> bool:
        """Take v out of the surface, unless that leaves none."""
        fan = self.fan(v)
        if self.boundary[v] and abs(sum(map(self.corner, fan)) - math.pi) > STRAIGHT:
            return False
        faces = 2 if self.boundary[v] else 3
        while len(fan) > faces:
            inner = [h for h in fan if self.may_flip(h, slack=1e-6)]
            if not inner:
                break
            self.flip(min(inner, key=self.weight))
            fan = self.fan(v)
        close = self._close_boundary if self.boundary[v] else self._close
        removed = len(fan) == faces and close(v, fan)
        self._legalise([h - h % 3 for h in (fan[:1] if removed else fan)])
        return removed

    def _close(self, v: int, fan: list[int]) -> bool:
        """Replace three triangles around an inner vertex by one."""
        around = [self.tail[_next(h)] for h in fan]
        outer = [_next(h) for h in fan]
        a, b, c = (self.length[h] for h in outer)
        lone = any(not self.boundary[w] and len(self.fan(w)) <= 3 for w in around)
        if lone or 2 * max(a, b, c) >= (a + b + c) * (1 - 1e-6):
            return False
        spokes = [self.length[h] * complex(math.cos(self.angle[h]), math.sin(self.angle[h])) for h in fan]
        shares = [max((q.conjugate() * r).imag, 0.0) for q, r in zip(spokes[1:] + spokes[:1], spokes[2:] + spokes[:2])]
        self._note(v, around, shares, [self.angle[h] - self.angle[self.twin[h]] - math.pi for h in fan])
        self._replace(fan, [(self.tail[h], self.length[h], self.angle[h], self.twin[h]) for h in outer])
        return True

    def _close_boundary(self, v: int, fan: list[int]) -> bool:
        """Replace two triangles at a vertex of the boundary by one; the boundary becomes straight there."""
        first, second = fan
        last = _previous(second)
        a, c, b = self.tail[_next(first)], self.tail[_next(second)], self.tail[last]
        va, vb, outer = self.length[first], self.length[last], (_next(first), _next(second))
        chord = math.sqrt(va * va + vb * vb - 2 * va * vb * math.cos(self.corner(first) + self.corner(second)))
        sides = (self.length[outer[0]], self.length[outer[1]], chord)
        lone = not self.boundary[c] and len(self.fan(c)) <= 3
        if lone or b in self.neighbours(a) or 2 * max(sides) >= sum(sides) * (1 - 1e-6):
            return False
        at_b = self.angle[last] + self.scale[b] * (self.corner(last) - _corner(chord, sides[1], sides[0]))
        towards_b = self.angle[second] + self.span(second)
        from_a = self.angle[outer[0]] + self.span(outer[0])
        turns = [self.angle[first] - from_a - math.pi, towards_b - self.angle[last] - math.pi]
        self._note(v, (a, b), [vb, va], turns)
        kept = [(self.tail[h], self.length[h], self.angle[h], self.twin[h]) for h in outer]
        self._replace(fan, [*kept, (b, chord, at_b, -1)])
        return True

    def _note(self, v: int, around: Sequence[int], shares: list[float], turns: list[float]) -> None:
        self.rows.append((v, around, [s / sum(shares) for s in shares], turns))

    def _replace(self, fan: list[int], sides: list[tuple[int, float, float, int]]) -> None:
        """One triangle instead of those of ``fan``."""
        for h in fan:
            f = h - h % 3
            self.tail[f] = self.tail[f + 1] = self.tail[f + 2] = -1
        first = fan[0] - fan[0] % 3
        self._write({first + k: side for k, side in enumerate(sides)})

    def _legalise(self, faces: list[int]) -> None:
        """Flip edges around new triangles until they are Delaunay."""
        stack = [f + k for f in faces for k in range(3)]
        while stack:
            h = stack.pop()
            if self.twin[h] >= 0 and self.weight(h) < -SLACK and self.may_flip(h):
                stack.extend(self.flip(h))

    def result(self) -> Decimation:
        """The triangulation that is left, and the interpolation from it."""
        tail, alive = np.array(self.tail), np.array(self.tail[::3]) >= 0
        sides = np.repeat(alive, 3)
        removed = np.array([row[0] for row in self.rows], dtype=np.int64)
        kept = np.setdiff1d(np.arange(self.count), removed)
        label = np.full(self.count, -1)
        label[kept] = np.arange(kept.size)
        faces = label[tail[sides]].reshape(-1, 3)
        lengths = np.array(self.length)[sides].reshape(-1, 3)
        pairs = _interpolation(self.rows, kept, label, self.count)
        return Decimation(kept, faces, lengths, np.array(self.angle)[sides], *pairs)


def _interpolation(rows: list[Any], kept: Ints, label: Ints, count: int) -> tuple[Any, ...]:
    """Pairs (fine, coarse) with weights and transports: removed vertices are replaced by theirs until none is left."""
    fine = np.array([row[0] for row in rows for _ in row[1]], dtype=np.int64)
    near = np.array([w for row in rows for w in row[1]], dtype=np.int64)
    weight = np.array([s for row in rows for s in row[2]])
    turn = np.exp(1j * np.array([x for row in rows for x in row[3]]))
    used = weight > 0
    index = (np.concatenate((kept, fine[used])), np.concatenate((kept, near[used])))
    ones = np.ones(kept.size)
    shares: Any = sparse.csr_matrix((np.concatenate((ones, weight[used])), index), shape=(count, count))
    turned: Any = sparse.csr_matrix((np.concatenate((ones, (weight * turn)[used])), index), shape=(count, count))
    while (label[shares.indices] < 0).any():
        shares, turned = shares @ shares, turned @ turned
    shares.sort_indices()
    places = np.repeat(np.arange(count), np.diff(shares.indptr))
    angle = np.angle(np.asarray(turned[places, shares.indices]).ravel())
    return places, label[shares.indices], shares.data, np.exp(1j * angle)
