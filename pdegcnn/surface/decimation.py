"""Coarser triangulations of a surface: vertices are removed one by one, within the surface.

Edges around a vertex are flipped until three triangles (two at the boundary) are left there, and one takes their place.
Edge lengths stay geodesic distances, so that flat surfaces keep their geometry; curvature moves to the neighbours.
Polar angles are carried along, so transport from a removed vertex to those that stay is known. Source: Liu,
Gillespie, Chislett, Sharp, Jacobson & Crane, *Surface simplification using intrinsic error metrics* (2023), with the
area of a vertex as the error.
"""

from __future__ import annotations

import cmath
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pdegcnn._typing import Complexes, Floats, Ints
from pdegcnn.surface.frames import Frames
from pdegcnn.surface.halfedges import HalfEdges, Side, Ties, after, before, corner
from pdegcnn.surface.halving import middles
from pdegcnn.surface.located import Located
from pdegcnn.surface.triangulation import Triangulation

AREA_TIE = 1e-8
"""Areas that differ by a smaller share are equal; see the rule of ties in :mod:`pdegcnn.surface.halfedges`."""
WEIGHT_TIE = 1e-6
"""As ``AREA_TIE``, of the cotangent weights of edges (as angles, in radians)."""
NOTHING = 1e-9
"""Weights below this share are rounding."""
STRAIGHT = math.pi / 4 * (1 + 1e-6)
"""Boundary vertices whose angle differs from a straight one by more are corners, and stay."""
TRIES = 4
"""A vertex that cannot be removed is tried again this often."""


@dataclass(frozen=True)
class Decimation:
    """A coarser triangulation, and the weights that interpolate each fine vertex between the remaining ones.

    Args:
        kept: the remaining fine vertices, ``[W]``.
        faces: of the coarse triangulation, ``[G,3]``.
        lengths: of its sides, ``[G,3]``.
        sides: polar angle of each coarse half-edge in the frame of its tail in the fine triangulation, ``[3G]``.
        fine: fine vertex v of each pair, sorted, ``[E]``.
        coarse: coarse vertex c of each pair, ``[E]``.
        weight: weight of c in v; the weights of a fine vertex sum to one, ``[E]``.
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
    """Remove vertices until about ``1 / factor`` of them remain in each part.

    The vertex of least area is removed first, so the remaining ones are spread evenly. Corners of the boundary stay, as
    do vertices that cannot be removed without destroying the surface; more vertices may therefore remain than asked
    for.

    Args:
        triangulation: the triangulation.
        frames: its frames.
        factor: ratio of the numbers of vertices, above 1.
        sizes: numbers of vertices of the parts.
    """
    work, ties = _Decimator(triangulation, frames), Ties(AREA_TIE)
    part = np.repeat(np.arange(len(sizes)), sizes).tolist()
    surplus = [int(size - max(4, round(size / factor))) for size in sizes]
    late = (~middles(triangulation)).tolist()
    heap = [(late[v], ties.snap(work.cost(v)), v, 0) for v in range(triangulation.vertex_count)]
    heapq.heapify(heap)
    while heap and any(s > 0 for s in surplus):
        _, cost, v, tries = heapq.heappop(heap)
        if surplus[part[v]] <= 0:
            continue
        fresh = work.cost(v)
        if tries == 0 and fresh > cost + AREA_TIE:
            heapq.heappush(heap, (late[v], ties.snap(fresh), v, 0))
        elif work.remove(v):
            surplus[part[v]] -= 1
        elif tries < TRIES:
            heapq.heappush(heap, (late[v], cost + math.log(2), v, tries + 1))
    return work.result()


class _Decimator(HalfEdges):
    """Half-edge lists from which vertices are taken. A triangle that is gone has tails -1.

    ``degree`` counts the triangles around each vertex, ``edges`` holds a number for each pair of neighbours: hubs of
    thousands of edges cost no more than other vertices.
    """

    def __init__(self, t: Triangulation, frames: Frames) -> None:
        super().__init__(t, frames)
        self.count = t.vertex_count
        self.out, self.boundary = frames.first.tolist(), t.on_boundary.tolist()
        self.degree = np.bincount(t.tail, minlength=self.count).tolist()
        self.edges = set((np.minimum(t.tail, t.head) * self.count + np.maximum(t.tail, t.head)).tolist())
        self.points = Located()

    def edge(self, v: int, w: int) -> int:
        """Return the number of a pair of vertices."""
        return min(v, w) * self.count + max(v, w)

    def turn(self, h: int) -> float:
        """Return the angle to add when a vector moves from the head of a half-edge to its tail."""
        back, ahead = self.twin[h], after(h)
        return self.angle[h] - (self.angle[back] if back >= 0 else self.angle[ahead] + self.span(ahead)) - math.pi

    def fan(self, v: int) -> list[int]:
        """Return the half-edges from v, counter-clockwise; at the boundary from the rightmost."""
        start = h = self.out[v]
        found = [h]
        while (h := self.twin[before(h)]) >= 0 and h != start:
            found.append(h)
        return found

    def cost(self, v: int) -> float:
        """Return the logarithm of the area of the triangles around v, doubled at the boundary where half is missing."""
        area = sum(0.5 * self.length[h] * self.length[before(h)] * math.sin(self.corner[h]) for h in self.fan(v))
        return math.log(max(2 * area if self.boundary[v] else area, 1e-300))

    def lone(self, v: int) -> bool:
        """Return whether v is inside and has too few triangles to lose one."""
        return not self.boundary[v] and self.degree[v] <= 3

    def may_flip(self, h: int, slack: float = -1e-6) -> bool:
        """Return whether the triangles at h are a convex quadrangle whose other diagonal is not an edge yet.

        With a positive ``slack`` its corner at the tail may be straight: that gives a triangle without area.
        """
        t = self.twin[h]
        if t < 0:
            return False
        a, b, c, d = self.tail[h], self.tail[t], self.tail[before(h)], self.tail[before(t)]
        if c == d or self.lone(a) or self.lone(b):
            return False
        at_a, at_b = self.corner[h] + self.corner[after(t)], self.corner[after(h)] + self.corner[t]
        convex = at_a < math.pi * (1 + slack) and at_b < math.pi * (1 - 1e-6)
        return convex and self.edge(c, d) not in self.edges

    def flip(self, h: int) -> tuple[int, ...]:
        """Flip an edge as :class:`HalfEdges` does; keep degrees, edges and positions of removed vertices up to date."""
        t = self.twin[h]
        h1, h2, t1, t2 = after(h), before(h), after(t), before(t)
        a, b, c, d = self.tail[h], self.tail[t], self.tail[h2], self.tail[t2]
        if h // 3 in self.points.lists or t // 3 in self.points.lists:
            up = cmath.rect(self.length[h2], self.corner[h])
            layout = 0j, complex(self.length[h]), up, cmath.rect(self.length[t1], -self.corner[t1])
            turns = self.turn(h1), -self.turn(h2), self.turn(t1), -self.turn(t2)
            self.points.flip((a, b, c, d), layout, turns, (h // 3, t // 3))
        self.edges.remove(self.edge(a, b))
        self.edges.add(self.edge(c, d))
        for v, more in ((a, -1), (b, -1), (c, 1), (d, 1)):
            self.degree[v] += more
        return super().flip(h)

    def _write(self, sides: dict[int, Side]) -> None:
        super()._write(sides)
        for h, (tail, *_, twin) in sides.items():
            if twin < 0 or not self.boundary[tail]:
                self.out[tail] = h

    def remove(self, v: int) -> bool:
        """Take v out of the surface, unless that leaves none."""
        fan = self.fan(v)
        if self.boundary[v] and abs(sum(self.corner[h] for h in fan) - math.pi) > STRAIGHT:
            return False
        faces = 2 if self.boundary[v] else 3
        self._thin(v, fan, faces)
        fan = self.fan(v)
        close = self._close_boundary if self.boundary[v] else self._close
        removed = len(fan) == faces and close(v, fan)
        self.legalise([h - h % 3 + k for h in (fan[:1] if removed else fan) for k in range(3)])
        return removed

    def _thin(self, v: int, fan: list[int], faces: int) -> None:
        """Flip edges at v until ``faces`` triangles are left or none may be flipped, those of least weight first.

        A flip changes the weights of the two edges beside it, which are then checked again.
        """
        ties, heap = Ties(WEIGHT_TIE), []
        spokes: dict[int, tuple[float, int]] = {}  # by the vertex at the other end: weight and half-edge

        def offer(h: int) -> None:
            if self.twin[h] >= 0:
                sine, product = self.weight(h)
                head = self.tail[after(h)]
                spokes[head] = ties.snap(math.atan2(sine, product + NOTHING)), h
                heapq.heappush(heap, (spokes[head][0], head))

        for h in fan:
            offer(h)
        while heap and self.degree[v] > faces:
            weight, head = heapq.heappop(heap)
            known, h = spokes.get(head, (None, -1))
            if known != weight or not self.may_flip(h, slack=1e-6):
                continue
            del spokes[head]
            *_, to_v, from_v = self.flip(h)
            for beside in (from_v, self.twin[to_v]):
                if beside >= 0:
                    offer(beside)

    def _close(self, v: int, fan: list[int]) -> bool:
        """Replace three triangles around an inner vertex by one."""
        around = [self.tail[after(h)] for h in fan]
        outer = [after(h) for h in fan]
        a, b, c = (self.length[h] for h in outer)
        if any(map(self.lone, around)) or 2 * max(a, b, c) >= (a + b + c) * (1 - 1e-6):
            return False
        spokes = [self.length[h] * complex(math.cos(self.angle[h]), math.sin(self.angle[h])) for h in fan]
        shares = [max((q.conjugate() * r).imag, 0.0) for q, r in zip(spokes[1:] + spokes[:1], spokes[2:] + spokes[:2])]
        self._note(v, fan, around, shares, [self.turn(h) for h in fan])
        self._replace(v, fan, [(self.tail[h], self.length[h], self.angle[h], self.twin[h]) for h in outer])
        for w in around:
            self.degree[w] -= 1
        return True

    def _close_boundary(self, v: int, fan: list[int]) -> bool:
        """Replace two triangles at a vertex of the boundary by one; the boundary becomes straight there."""
        first, second = fan
        last = before(second)
        a, c, b = self.tail[after(first)], self.tail[after(second)], self.tail[last]
        va, vb, outer = self.length[first], self.length[last], (after(first), after(second))
        at_v = self.corner[first] + self.corner[second]
        chord = math.sqrt((va - vb) ** 2 + 4 * va * vb * math.sin(at_v / 2) ** 2)
        sides = (self.length[outer[0]], self.length[outer[1]], chord)
        if self.lone(c) or self.edge(a, b) in self.edges or 2 * max(sides) >= sum(sides) * (1 - 1e-6):
            return False
        if self.corner[before(first)] + self.corner[outer[1]] >= math.pi * (1 - 1e-6):  # a-b would pass beyond c
            return False
        at_b = self.angle[last] + self.scale[b] * (self.corner[last] - corner(chord, sides[1], sides[0]))
        self._note(v, fan, (a, c, b), [vb, 0.0, va], [self.turn(first), self.turn(second), -self.turn(last)])
        kept = [(self.tail[h], self.length[h], self.angle[h], self.twin[h]) for h in outer]
        self._replace(v, fan, [*kept, (b, chord, at_b, -1)])
        self.edges.add(self.edge(a, b))
        self.degree[c] -= 1
        return True

    def _note(self, v: int, fan: list[int], around: Sequence[int], shares: list[float], turns: list[float]) -> None:
        """Hand over the points around v, and v itself, to the triangle ``around`` that comes."""
        total = sum(shares)
        places = {w: (share / total, turn) for w, share, turn in zip(around, shares, turns)}
        self.points.remove(v, places, [h // 3 for h in fan], fan[0] // 3)

    def _replace(self, v: int, fan: list[int], sides: list[tuple[int, float, float, int]]) -> None:
        """Replace the triangles of ``fan`` around v by one; keep tail, length, polar angle and twin of its sides."""
        for h in fan:
            f = h - h % 3
            for k in range(3):
                if v in (self.tail[f + k], self.tail[f + (k + 1) % 3]):
                    self.edges.discard(self.edge(self.tail[f + k], self.tail[f + (k + 1) % 3]))
        for h in fan:
            f = h - h % 3
            self.tail[f] = self.tail[f + 1] = self.tail[f + 2] = -1
        first = fan[0] - fan[0] % 3
        x, y, z = (side[1] for side in sides)
        corners = corner(x, z, y), corner(y, x, z), corner(z, y, x)
        self._write({first + k: (w, n, corners[k], angle, twin) for k, (w, n, angle, twin) in enumerate(sides)})

    def result(self) -> Decimation:
        """Return the triangulation that is left, and the interpolation from it."""
        tail, alive = np.array(self.tail), np.array(self.tail[::3]) >= 0
        sides = np.repeat(alive, 3)
        pairs = [
            (v, w, weight, turn)
            for face in self.points.lists.values()
            for v, place in face
            for w, (weight, turn) in place.items()
            if weight > NOTHING
        ]
        gone, near = np.array([p[:2] for p in pairs], dtype=np.int64).reshape(-1, 2).T
        weight, turn = np.array([p[2:] for p in pairs], dtype=np.float64).reshape(-1, 2).T
        kept = np.setdiff1d(np.arange(self.count), gone)
        label = np.full(self.count, -1)
        label[kept] = np.arange(kept.size)
        faces, lengths = label[tail[sides]].reshape(-1, 3), np.array(self.length)[sides].reshape(-1, 3)
        fine, coarse = np.concatenate((kept, gone)), label[np.concatenate((kept, near))]
        weight = np.concatenate((np.ones(kept.size), weight))
        weight /= np.bincount(fine, weight)[fine]
        transport = np.exp(1j * np.concatenate((np.zeros(kept.size), turn)))
        order = np.lexsort((coarse, fine))
        lists = fine[order], coarse[order], weight[order], transport[order]
        return Decimation(kept, faces, lengths, np.array(self.angle)[sides], *lists)
