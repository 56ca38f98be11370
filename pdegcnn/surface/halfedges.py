"""Half-edge lists that flips change in place, and the rule for comparing numbers that are equal up to rounding.

Corner angles are stored beside the lengths: computed from the lengths of a triangle that is nearly flat, they would
lose half of their digits, and rounding would decide what is done next.

**Rule of ties.** Numbers that decide (areas, angles, distances) are compared with a tolerance that is far above
rounding and far below what differs on surfaces without symmetry. Among equal ones the vertex of the least number goes
first. So neither the processor nor the number of threads nor noise of the size of rounding changes a decision.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

from pdegcnn.surface.frames import Frames
from pdegcnn.surface.triangulation import Triangulation

SLACK = 1e-8
"""Angles (radians) beyond pi that the two angles opposite to an edge may have before it is flipped: pairs of triangles
on one circle are left alone."""


class Ties:
    """Comparison of numbers: those that differ by less than ``tolerance`` get the value of the first one."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self._seen: dict[int, float] = {}

    def snap(self, value: float) -> float:
        """Return the first number seen within the tolerance of ``value``, or ``value`` itself."""
        place = math.floor(value / self.tolerance)
        for slot in (place, place - 1, place + 1):
            known = self._seen.get(slot)
            if known is not None and abs(known - value) <= self.tolerance:
                return known
        self._seen[place] = value
        return value


def corner(a: float, b: float, opposite: float) -> float:
    """Return the angle between the sides a and b of a triangle."""
    return math.acos(min(1.0, max(-1.0, (a * a + b * b - opposite * opposite) / (2 * a * b))))


def after(h: int) -> int:
    """Return the next half-edge of the same triangle."""
    return h - 2 if h % 3 == 2 else h + 1


def before(h: int) -> int:
    """Return the previous half-edge of the same triangle."""
    return h + 2 if h % 3 == 0 else h - 1


Side = tuple[int, float, float, float, int]
"""Tail, length, corner at the tail, polar angle at the tail, and twin of a half-edge."""


class HalfEdges:
    """A triangulation with polar angles as lists of plain Python numbers; fields as in :class:`Triangulation`."""

    def __init__(self, t: Triangulation, frames: Frames) -> None:
        self.tail, self.twin = t.tail.tolist(), t.twin.tolist()
        self.length, self.corner = t.lengths.ravel().tolist(), t.corners.tolist()
        self.angle, self.scale = frames.angle.tolist(), frames.scale.tolist()

    def span(self, h: int) -> float:
        """Return the polar angle from a half-edge to the next around its tail."""
        behind = self.twin[before(h)]
        if behind < 0:
            return self.scale[self.tail[h]] * self.corner[h]
        span = (self.angle[behind] - self.angle[h]) % (2 * math.pi)
        return span if span < 2 * math.pi - 1e-9 else 0.0  # rounding below a corner of zero

    def weight(self, h: int) -> tuple[float, float]:
        """Return the sine of the sum of the angles opposite to an inner edge, and the product of their sines.

        The quotient is the sum
        of the cotangents.
        """
        one, other = self.corner[before(h)], self.corner[before(self.twin[h])]
        return math.sin(one + other), math.sin(one) * math.sin(other)

    def opposite(self, h: int) -> float:
        """Sum of the two angles opposite to an inner edge; above pi, the edge is not Delaunay."""
        return self.corner[before(h)] + self.corner[before(self.twin[h])]

    def may_flip(self, h: int) -> bool:
        """Return whether two different triangles meet at the edge."""
        return self.twin[h] >= 0 and self.twin[h] // 3 != h // 3

    def legalise(self, halfedges: Iterable[int]) -> None:
        """Flip these edges, and those around them, until the angles opposite to each add up to no more than pi.

        The greatest sum goes first: the number of flips then grows as that of the edges, also around a vertex of
        thousands of edges, where flips in any order would be as many as its square.
        """
        ties, heap = Ties(SLACK), []

        def offer(h: int) -> None:
            if self.twin[h] >= 0 and (total := self.opposite(h)) > math.pi + SLACK:
                v, w = self.tail[h], self.tail[self.twin[h]]
                heapq.heappush(heap, (-ties.snap(total), min(v, w), max(v, w), h))

        for h in halfedges:
            offer(h)
        while heap:
            total, *_, h = heapq.heappop(heap)
            if self.twin[h] < 0 or self.opposite(h) <= math.pi + SLACK:
                continue
            if abs(self.opposite(h) + total) > 2 * SLACK:  # it has changed since
                offer(h)
            elif self.may_flip(h):
                for beside in self.flip(h):
                    offer(beside)

    def flip(self, h: int) -> tuple[int, ...]:
        """Replace the edge a-b of half-edge h by c-d; returns the four half-edges around."""
        t = self.twin[h]
        f, g = h - h % 3, t - t % 3
        h1, h2, t1, t2 = after(h), before(h), after(t), before(t)
        bc, ca, ad, db = (self.length[x] for x in (h1, h2, t1, t2))
        at_a, at_b = self.corner[h] + self.corner[t1], self.corner[h1] + self.corner[t]
        cd = math.sqrt((ca - ad) ** 2 + 4 * ca * ad * math.sin(at_a / 2) ** 2)
        c, d = self.tail[h2], self.tail[t2]
        c1, d1 = _others(ca, ad, at_a)
        c2, d2 = _others(bc, db, at_b)
        at_c = self.angle[h2] + self.span(h2) * _share(c1, c2)
        at_d = self.angle[t2] + self.span(t2) * _share(d2, d1)
        corners = {t2: d2, h1: at_b, h2: c1, t1: min(at_a, math.pi)}
        moved = {t2: f + 1, h1: f + 2, h2: g + 1, t1: g + 2}
        sides: dict[int, Side] = {f: (c, cd, c2, at_c, g), g: (d, cd, d1, at_d, f)}
        for x, new in moved.items():
            twin = self.twin[x]
            sides[new] = self.tail[x], self.length[x], corners[x], self.angle[x], moved.get(twin, twin)
        self._write(sides)
        return f + 1, f + 2, g + 1, g + 2

    def _write(self, sides: dict[int, Side]) -> None:
        """Set half-edges and what refers to them."""
        for h, (tail, length, at_tail, angle, twin) in sides.items():
            self.tail[h], self.length[h], self.corner[h] = tail, length, at_tail
            self.angle[h], self.twin[h] = angle, twin
            if twin >= 0:
                self.twin[twin] = h


def _others(a: float, b: float, between: float) -> tuple[float, float]:
    """Return the other two angles of a triangle: at the far end of the side a, and of b."""
    x, y = math.cos(between), math.sin(between)
    return max(math.atan2(b * y, a - b * x), 0.0), max(math.atan2(a * y, b - a * x), 0.0)


def _share(one: float, other: float) -> float:
    return one / (one + other) if one + other > 0 else 0.5
