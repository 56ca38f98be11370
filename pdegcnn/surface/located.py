"""Positions and frames of points in the triangles of a changing triangulation."""

from __future__ import annotations

import cmath
from collections.abc import Mapping, Sequence

Place = dict[int, tuple[float, float]]
"""Barycentric weight of each corner of a triangle, and the angle to add when a vector moves from there to the point."""


class Located:
    """Lists of points by triangle; each is a number with its :data:`Place` between the corners."""

    def __init__(self) -> None:
        self.lists: dict[int, list[tuple[int, Place]]] = {}

    def take(self, triangles: Sequence[int]) -> list[tuple[int, Place]]:
        """Take the points of triangles that are about to change out of their lists."""
        return [point for f in triangles for point in self.lists.pop(f, ())]

    def flip(
        self, corners: Sequence[int], layout: Sequence[complex], turns: Sequence[float], faces: tuple[int, int]
    ) -> None:
        """Replace the edge a-b between the triangles ``faces``, abc and bad, by c-d, between cdb and dca.

        Args:
            corners: the vertices a, b, c, d.
            layout: where they lie in the plane.
            turns: angle to add when a vector moves from c to b, c to a, d to a, d to b.
            faces: the numbers of abc and bad, which cdb and dca take over.
        """
        a, b, c, d = corners
        at, (bc, ac, ad, bd) = dict(zip(corners, layout)), turns
        found = self.take(faces)
        for v, place in found:
            spot = sum(weight * at[w] for w, (weight, _) in place.items())
            far, via_a, via_b = (c, ac, bc) if d in place else (d, ad, bd)
            turn = {w: angle for w, (_, angle) in place.items()}
            turn[far] = _mean(place[a], via_a, place[b], via_b)
            left = ((at[d] - at[c]).conjugate() * (spot - at[c])).imag >= -1e-12 * abs(at[d] - at[c]) ** 2
            third = b if left else a
            weights = _barycentric(spot, at[c], at[d], at[third])
            home = self.lists.setdefault(faces[0] if left else faces[1], [])
            home.append((v, {w: (x, turn[w]) for w, x in zip((c, d, third), weights)}))

    def remove(self, v: int, shares: Mapping[int, tuple[float, float]], old: Sequence[int], new: int) -> None:
        """Replace the triangles ``old`` around the vertex v by one, ``new``, in which v is a point from now on.

        Args:
            v: the vertex.
            shares: of the corners of ``new`` in v, as a :data:`Place`.
            old: the triangles that go.
            new: the number of the triangle that comes.
        """
        found = self.take(old)
        home = self.lists.setdefault(new, [])
        for point, place in found:
            rest, turn = place.pop(v)
            home.append((point, {}))
            for w, (share, way) in shares.items():
                weight, known = place.get(w, (0.0, turn + way))
                home[-1][1][w] = weight + rest * share, known
        home.append((v, dict(shares)))


def _mean(one: tuple[float, float], one_way: float, other: tuple[float, float], other_way: float) -> float:
    """Return the weighted mean angle of transports over two corners; the first one if both weights vanish."""
    total = one[0] * cmath.rect(1, one[1] + one_way) + other[0] * cmath.rect(1, other[1] + other_way)
    return cmath.phase(total) if abs(total) > 1e-9 else one[1] + one_way


def _barycentric(spot: complex, one: complex, two: complex, three: complex) -> tuple[float, float, float]:
    """Return weights of three corners, none negative, also where they lie on a line."""
    edge = two - one
    size, area = abs(edge) ** 2, (edge.conjugate() * (three - one)).imag
    last = (edge.conjugate() * (spot - one)).imag / area if abs(area) > 1e-9 * size else 0.0
    last = min(max(last, 0.0), 1.0)
    middle = (edge.conjugate() * (spot - one - last * (three - one))).real / size
    middle = min(max(middle, 0.0), 1.0 - last)
    return 1.0 - last - middle, middle, last
