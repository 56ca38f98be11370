"""Log maps and transport from every vertex to the vertices of a geodesic ball around it, for all vertices at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pdegcnn._typing import Complexes, Ints
from pdegcnn.surface.frames import Frames
from pdegcnn.surface.triangulation import Triangulation

SLACK = 1.6
"""Paths may leave the ball by this factor: a vertex near by may be reached through one further away."""
TIE = 1e-9
"""Distances that differ by a smaller share are equal: rounding must not decide what lies within a radius."""
PIECE = 2_000_000
"""Candidates expanded at a time."""


@dataclass(frozen=True)
class NeighborPairs:
    """Pairs (v, w) of vertices within a radius of each other, sorted by v; (v, v) comes first.

    Args:
        start: index of the first pair of each vertex, ``[V+1]``.
        centre: v, ``[E]``.
        source: w, ``[E]``.
        offset: log map of w at v, ``[E]`` complex: length and polar angle in the frame of v.
        transport: unit complex number that maps the frame of w to that of v, ``[E]``.
        reverse_index: position of the pair (w, v), ``[E]``.
    """

    start: Ints
    centre: Ints
    source: Ints
    offset: Complexes
    transport: Complexes
    reverse_index: Ints


def geodesic_pairs(triangulation: Triangulation, frames: Frames, radius: float | None = None) -> NeighborPairs:
    r"""Return all pairs of vertices within ``radius``.

    Along an edge, log map and transport are exact. Between other vertices, the log map is the sum of the edges of a
    path, each transported to v, averaged over the paths of fewest edges; the transport is averaged in the same way. On
    flat surfaces all paths agree and the result is exact; on curved ones it converges to the geodesic one as the mesh
    is refined. Averaging the two directions makes it antisymmetric: :math:`\log_v w = -r_{vw} \log_w v` and
    :math:`r_{wv} = \overline{r_{vw}}`.

    Args:
        triangulation: the triangulation.
        frames: its frames.
        radius: radius in units of the lengths; None: the edges.
    """
    t, n = triangulation, triangulation.vertex_count
    edges = _directed_edges(t, frames)
    if radius is not None:  # a longer edge leads out of every ball
        edges = tuple(x[np.abs(edges[2]) <= 2 * SLACK * radius * (1 + TIE)] for x in edges)
    level = edges if radius is None else _within(edges, radius)
    found = [(np.arange(n), np.arange(n), np.zeros(n, complex), np.ones(n, complex)), level]
    depth = [np.zeros(n, dtype=np.int64), np.ones(level[0].size, dtype=np.int64)]
    seen = _Seen(level[0] * n + level[1])
    start = np.searchsorted(edges[0], np.arange(n + 1))
    while radius is not None and level[0].size:
        level = _step(level, edges, start, n, seen)
        seen.add(level[0] * n + level[1])
        level = _within(level, radius)
        found.append(level)
        depth.append(np.full(level[0].size, len(depth)))
    centre, source, offset, transport = (np.concatenate(x) for x in zip(*found))
    order = np.lexsort((source, np.concatenate(depth), centre))
    return _symmetric(centre[order], source[order], offset[order], transport[order], n, radius)


class _Seen:
    """A growing set of keys: sorted arrays, each at most half of the one before, so that small additions are cheap."""

    def __init__(self, keys: Ints) -> None:
        self.parts = [np.sort(keys)]

    def add(self, keys: Ints) -> None:
        """Add keys that are new."""
        self.parts.append(np.sort(keys))
        while len(self.parts) > 1 and 2 * self.parts[-1].size > self.parts[-2].size:
            self.parts[-2:] = [np.sort(np.concatenate(self.parts[-2:]), kind="stable")]

    def holds(self, keys: Ints) -> np.ndarray:
        """Return whether each of ``keys`` is in the set."""
        found = np.zeros(keys.size, dtype=bool)
        for part in self.parts:
            if part.size:
                found |= part[np.minimum(np.searchsorted(part, keys), part.size - 1)] == keys
        return found


def _within(level: tuple, radius: float) -> tuple[np.ndarray, ...]:
    near = np.abs(level[2]) <= SLACK * radius * (1 + TIE)
    return tuple(x[near] for x in level)


def _directed_edges(t: Triangulation, frames: Frames) -> tuple[np.ndarray, ...]:
    """Return every edge in both directions, sorted by tail: tail, head, log map, transport from head to tail."""
    lengths, open_edge = t.lengths.ravel(), t.twin < 0
    turn = np.exp(1j * frames.transport)
    tail = np.concatenate((t.tail, t.head[open_edge]))
    head = np.concatenate((t.head, t.tail[open_edge]))
    offset = np.concatenate((lengths * np.exp(1j * frames.angle), (lengths * np.exp(1j * frames.back))[open_edge]))
    transport = np.concatenate((turn, turn[open_edge].conj()))
    order = np.lexsort((head, tail))
    return tail[order], head[order], offset[order], transport[order]


def _step(level: tuple, edges: tuple, start: Ints, n: int, seen: _Seen) -> tuple[np.ndarray, ...]:
    """Return pairs one edge further away, averaged over the ways to reach them."""
    sizes = np.diff(start)[level[1]]
    pieces, total = [], np.concatenate(([0], np.cumsum(sizes)))
    cuts = np.searchsorted(total, np.arange(0, total[-1], PIECE))
    for low, high in zip(cuts, [*cuts[1:], sizes.size]):
        high = np.searchsorted(level[0], level[0][high - 1], side="right") if high < sizes.size else high
        low = np.searchsorted(level[0], level[0][low], side="right") if low > 0 else low  # whole centres at a time
        if low >= high:
            continue
        part = tuple(x[low:high] for x in level)
        count = sizes[low:high]
        which = np.repeat(np.arange(count.size), count)
        edge = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + start[part[1]][which]
        key = part[0][which] * n + edges[1][edge]
        fresh = edges[1][edge] != part[0][which]
        fresh &= ~seen.holds(key)
        which, edge, key = which[fresh], edge[fresh], key[fresh]
        offset = part[2][which] + part[3][which] * edges[2][edge]
        pieces.append(_average(key, offset, part[3][which] * edges[3][edge]))
    if not pieces:
        return tuple(x[:0] for x in level)
    key, offset, turn = (np.concatenate(x) for x in zip(*pieces))
    length = np.abs(turn)
    turn = np.where(length > 1e-12, turn / np.where(length > 1e-12, length, 1), 1)
    return key // n, key % n, offset, turn


def _average(key: Ints, offset: Complexes, turn: Complexes) -> tuple[np.ndarray, ...]:
    """Return one log map (mean) and transport (sum) for each key, over ways that agree with the shortest to half its
    length: a way around a handle is another geodesic.
    """
    order = np.argsort(key, kind="stable")
    key, offset, turn = key[order], offset[order], turn[order]
    new = np.concatenate(([True], key[1:] != key[:-1])) if key.size else np.zeros(0, bool)
    slot, begin = np.cumsum(new) - 1, np.flatnonzero(new)
    length = np.abs(offset)
    least = np.minimum.reduceat(length, begin) if key.size else length
    shortest = np.flatnonzero(length <= least[slot] * (1 + TIE))
    shortest = offset[shortest[np.searchsorted(shortest, begin)]][slot]  # the first of them
    alike = np.abs(offset - shortest) <= np.abs(shortest) / 2 * (1 + TIE)
    slot = slot[alike]
    return key[new], _sum(slot, offset[alike]) / np.bincount(slot), _sum(slot, turn[alike])


def _sum(slot: Ints, values: Complexes) -> Complexes:
    return np.bincount(slot, values.real) + 1j * np.bincount(slot, values.imag)


def _symmetric(
    centre: Ints, source: Ints, offset: Complexes, transport: Complexes, n: int, radius: float | None
) -> NeighborPairs:
    """Average the two directions of every pair and cut the ball."""
    reverse_index = _reverse_index(centre, source, n)
    keep = reverse_index >= 0
    reverse_index = np.where(keep, reverse_index, 0)
    mean = transport + transport[reverse_index].conj()
    size = np.abs(mean)
    turn = np.where(size > 1e-9, mean / np.where(size > 1e-9, size, 1), transport)
    between = (offset - turn * offset[reverse_index]) / 2
    if radius is not None:
        length = (np.abs(offset) + np.abs(offset[reverse_index])) / 2
        keep &= (length <= radius * (1 + TIE)) & (
            np.abs(between) >= length / 2 * (1 - TIE)
        )  # otherwise the paths differ
    centre, source, between, turn = (x[keep] for x in (centre, source, between, turn))
    start = np.searchsorted(centre, np.arange(n + 1))
    return NeighborPairs(start, centre, source, between, turn, _reverse_index(centre, source, n))


def _reverse_index(centre: Ints, source: Ints, n: int) -> Ints:
    key = centre * n + source
    order = np.argsort(key)
    back = source * n + centre
    place = np.minimum(np.searchsorted(key, back, sorter=order), key.size - 1)
    return np.where(key[order[place]] == back, order[place], -1)
