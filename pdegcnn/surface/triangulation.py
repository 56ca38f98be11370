"""Triangles joined along edges, with edge lengths: the input of intrinsic geometry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pdegcnn._typing import Floats, Ints


@dataclass(frozen=True)
class Triangulation:
    """An oriented triangulation; half-edge ``3 f + k`` runs from corner k of face f to the next corner.

    Args:
        faces: vertices of each face, counter-clockwise seen from outside, ``[F,3]``.
        lengths: length of each half-edge, ``[F,3]``.
        twin: the half-edge of the neighbouring face along the same edge, ``[3F]``; -1 at the boundary.
        vertex_count: number of vertices V.
    """

    faces: Ints
    lengths: Floats
    twin: Ints
    vertex_count: int

    @classmethod
    def build(cls, faces: Ints, lengths: Floats, vertex_count: int) -> Triangulation:
        """Join faces along common edges; each directed edge must occur once.

        Args:
            faces: vertices of each triangle, counter-clockwise, ``[F,3]``.
            lengths: of the sides 01, 12 and 20 of each triangle, ``[F,3]``.
            vertex_count: number V of vertices.
        """
        tail, head = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
        key, back = tail * vertex_count + head, head * vertex_count + tail
        order = np.argsort(key)
        place = np.minimum(np.searchsorted(key, back, sorter=order), key.size - 1)
        twin = np.where(key[order[place]] == back, order[place], -1)
        return cls(faces, lengths, twin, vertex_count)

    @cached_property
    def tail(self) -> Ints:
        """The vertex that each half-edge leaves, ``[3F]``."""
        return self.faces.ravel()

    @cached_property
    def head(self) -> Ints:
        """The vertex that each half-edge reaches, ``[3F]``."""
        return np.roll(self.faces, -1, axis=1).ravel()

    @cached_property
    def next(self) -> Ints:
        """The next half-edge of the same face, ``[3F]``."""
        h = np.arange(self.faces.size)
        return h - h % 3 + (h + 1) % 3

    @cached_property
    def previous(self) -> Ints:
        """The previous half-edge of the same face, ``[3F]``."""
        return self.next[self.next]

    @cached_property
    def corners(self) -> Floats:
        """The angle in the face at the tail of each half-edge, ``[3F]`` radians."""
        a = self.lengths.ravel()
        b, opposite = a[self.previous], a[self.next]
        return np.arccos(np.clip((a**2 + b**2 - opposite**2) / (2 * a * b), -1, 1))

    @cached_property
    def areas(self) -> Floats:
        """The area of each face, ``[F]`` (Heron's formula in Kahan's stable order)."""
        c, b, a = np.sort(self.lengths, axis=1).T
        return 0.25 * np.sqrt(np.maximum((a + (b + c)) * (c - (a - b)) * (c + (a - b)) * (a + (b - c)), 0))

    @cached_property
    def cotangents(self) -> Floats:
        """The cotangent of the angle opposite to each half-edge, ``[3F]``."""
        squares = self.lengths.ravel() ** 2
        return (squares[self.next] + squares[self.previous] - squares) / (4 * np.repeat(self.areas, 3))

    @property
    def on_boundary(self) -> NDArray[np.bool_]:
        """Whether each vertex lies on the boundary, ``[V]``."""
        flags = np.zeros(self.vertex_count, dtype=bool)
        open_edges = self.twin < 0
        flags[self.tail[open_edges]] = flags[self.head[open_edges]] = True
        return flags

    @property
    def edge_count(self) -> int:
        """The number of undirected edges."""
        return (self.twin.size + int((self.twin < 0).sum())) // 2
