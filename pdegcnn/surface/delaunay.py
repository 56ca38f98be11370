"""Intrinsic Delaunay triangulations: edges are flipped within the surface until no cotangent weight is negative.

Source: Fisher, Springborn, Schroeder & Bobenko, *An algorithm for the construction of intrinsic Delaunay
triangulations* (2007); the angles are carried along as in Sharp, Soliman & Crane, *Navigating intrinsic
triangulations* (2019).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from pdegcnn.surface.frames import Frames
from pdegcnn.surface.triangulation import Triangulation

SLACK = 1e-9
"""Edges are flipped when their cotangent weight is below minus this: co-circular pairs are left alone."""


def _corner(a: float, b: float, opposite: float) -> float:
    return math.acos(min(1.0, max(-1.0, (a * a + b * b - opposite * opposite) / (2 * a * b))))


class _Flipper:
    """Half-edge lists that a flip changes in place; plain Python numbers, for flips are few."""

    def __init__(self, t: Triangulation, frames: Frames) -> None:
        self.tail, self.twin = t.tail.tolist(), t.twin.tolist()
        self.length, self.angle, self.scale = t.lengths.ravel().tolist(), frames.angle.tolist(), frames.scale.tolist()

    def weight(self, h: int) -> float:
        """Sum of the two opposite cotangents."""
        return self._cotangent(h) + self._cotangent(self.twin[h])

    def _cotangent(self, h: int) -> float:
        f = h - h % 3
        a, b, c = self.length[h], self.length[f + (h + 1) % 3], self.length[f + (h + 2) % 3]
        return math.cos(angle := _corner(b, c, a)) / max(math.sin(angle), 1e-300)

    def flip(self, h: int) -> tuple[int, ...]:
        """Replace the edge a-b of half-edge h by c-d; returns the four half-edges around."""
        t = self.twin[h]
        f, g = h - h % 3, t - t % 3
        h1, h2, t1, t2 = f + (h + 1) % 3, f + (h + 2) % 3, g + (t + 1) % 3, g + (t + 2) % 3
        ab, bc, ca, ad, db = (self.length[x] for x in (h, h1, h2, t1, t2))
        at_a = _corner(ab, ca, bc) + _corner(ab, ad, db)
        cd = math.sqrt(max(ca * ca + ad * ad - 2 * ca * ad * math.cos(at_a), 0.0))
        c, d = self.tail[h2], self.tail[t2]
        old = [(self.tail[x], self.length[x], self.angle[x], self.twin[x]) for x in (t2, h1, h2, t1)]
        from_c = (c, cd, self.angle[h2] + self.scale[c] * _corner(ca, cd, ad), g)
        from_d = (d, cd, self.angle[t2] + self.scale[d] * _corner(db, cd, bc), f)
        moved = {t2: f + 1, h1: f + 2, h2: g + 1, t1: g + 2}
        records = ((f, from_c), (f + 1, old[0]), (f + 2, old[1]), (g, from_d), (g + 1, old[2]), (g + 2, old[3]))
        for slot, (tail, length, angle, twin) in records:
            self.tail[slot], self.length[slot], self.angle[slot] = tail, length, angle
            self.twin[slot] = moved.get(twin, twin) if slot not in (f, g) else twin
        for slot in (f + 1, f + 2, g + 1, g + 2):
            if self.twin[slot] >= 0:
                self.twin[self.twin[slot]] = slot
        return f + 1, f + 2, g + 1, g + 2


def intrinsic_delaunay(triangulation: Triangulation, frames: Frames) -> tuple[Triangulation, Frames]:
    """The intrinsic Delaunay triangulation of the same surface, with its edges' angles in the same frames."""
    t = triangulation
    weight = np.where(t.twin >= 0, t.cotangents + t.cotangents[t.twin], 0)
    queue = deque(np.flatnonzero(weight < -SLACK).tolist())
    if not queue:
        return triangulation, frames
    flipper = _Flipper(t, frames)
    while queue:
        h = queue.popleft()
        if flipper.twin[h] >= 0 and flipper.twin[h] // 3 != h // 3 and flipper.weight(h) < -SLACK:
            queue.extend(flipper.flip(h))
    faces, lengths = np.array(flipper.tail).reshape(-1, 3), np.array(flipper.length).reshape(-1, 3)
    flipped = Triangulation(faces, lengths, np.array(flipper.twin), t.vertex_count)
    angle = np.array(flipper.angle)
    turned = angle[flipped.next] + flipped.corners[flipped.next] * frames.scale[flipped.head]
    back = np.where(flipped.twin >= 0, angle[flipped.twin], turned)
    return flipped, Frames(angle, back, frames.scale, frames.first)
