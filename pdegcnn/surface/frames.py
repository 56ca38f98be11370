"""Tangent planes by intrinsic polar angles, and the Levi-Civita connection along edges.

Source: the vector heat method (Sharp, Soliman & Crane 2019), section 5; gauge equivariant mesh CNNs (arXiv 2003.05425).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pdegcnn._typing import Floats, Ints
from pdegcnn.surface.triangulation import Triangulation


@dataclass(frozen=True)
class Frames:
    r"""Polar angles in the tangent planes; the reference direction of a vertex is that of half-edge ``first``.

    Args:
        angle: of each half-edge at its tail, ``[3F]`` radians; around inner vertices they fill :math:`2 \pi`.
        back: of the same edge at its head, looking back to the tail, ``[3F]``.
        scale: ratio of polar angle to angle on the surface, ``[V]``: :math:`2 \pi` over the sum of corners at inner
            vertices; at the boundary 1, or less if the corners exceed :math:`2 \pi`.
        first: half-edge whose polar angle is zero, ``[V]``.
    """

    angle: Floats
    back: Floats
    scale: Floats
    first: Ints

    @property
    def transport(self) -> Floats:
        """The angle to add when a vector moves from the head of a half-edge to its tail, ``[3F]`` radians."""
        return self.angle - self.back - math.pi


def frames(triangulation: Triangulation) -> Frames:
    """Return the frames of a triangulation, from sums of corners counter-clockwise around each vertex.

    Args:
        triangulation: an oriented manifold, with or without boundary.
    """
    t = triangulation
    tail, corners = t.tail, t.corners
    total = np.bincount(tail, corners, t.vertex_count)
    inner = ~t.on_boundary
    scale = np.where(inner, 2 * math.pi / total, np.minimum(1, 2 * math.pi / total))
    first = np.empty(t.vertex_count, dtype=np.int64)
    halfedges = np.arange(tail.size)
    listed = halfedges.reshape(-1, 3).T.ravel()[::-1]  # the last assignment stays: faces that list a vertex first
    first[tail[listed]] = listed
    first[tail[t.twin < 0]] = halfedges[t.twin < 0]  # at the boundary the rightmost edge
    angle = _sums_before(first, np.where(t.twin >= 0, t.next[t.twin], -1), corners)
    angle *= scale[tail]
    turned = angle[t.next] + corners[t.next] * scale[t.head]
    back = np.where(t.twin >= 0, angle[t.twin], turned)
    return Frames(angle, back, scale, first)


def _sums_before(first: Ints, right: Ints, corners: Floats) -> Floats:
    """Sum of the corners between the first half-edge around each tail and each half-edge, ``[3F]``.

    Args:
        first: first half-edge around each vertex, ``[V]``.
        right: the next half-edge clockwise, ``[3F]``, or -1.
        corners: between each half-edge and the next counter-clockwise, ``[3F]``.

    Every pass doubles the length of the sums, so that many corners at one vertex take few passes.
    """
    right = right.copy()
    right[first] = -1
    total = np.where(right >= 0, corners[right], 0.0)
    going = np.flatnonzero(right >= 0)
    while going.size:
        over = right[going]
        more, beyond = total[over], right[over]
        total[going] += more
        right[going] = beyond
        going = going[beyond >= 0]
    return total
