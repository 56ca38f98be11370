"""Intrinsic Delaunay triangulations: edges are flipped within the surface until no cotangent weight is negative.

Source: Fisher, Springborn, Schroeder & Bobenko, *An algorithm for the construction of intrinsic Delaunay
triangulations* (2007); the angles are carried along as in Sharp, Soliman & Crane, *Navigating intrinsic
triangulations* (2019).
"""

from __future__ import annotations

import math

import numpy as np

from pdegcnn.surface.frames import Frames
from pdegcnn.surface.halfedges import SLACK, HalfEdges
from pdegcnn.surface.triangulation import Triangulation


def intrinsic_delaunay(triangulation: Triangulation, frames: Frames) -> tuple[Triangulation, Frames]:
    """Return the intrinsic Delaunay triangulation of the same surface, with the angles of its edges in the same frames.

    An edge is flipped if the sum of its opposite angles exceeds pi by more than 1e-8 radians. Pairs of triangles with a
    common circumcircle are left unchanged.

    Args:
        triangulation: the triangulation.
        frames: its frames.
    """
    t = triangulation
    opposite = t.corners[t.previous]
    bad = np.flatnonzero((t.twin >= 0) & (opposite + opposite[t.twin] > math.pi + SLACK))
    if not bad.size:
        return triangulation, frames
    work = HalfEdges(t, frames)
    work.legalise(bad.tolist())
    faces, lengths = np.array(work.tail).reshape(-1, 3), np.array(work.length).reshape(-1, 3)
    flipped = Triangulation(faces, lengths, np.array(work.twin), t.vertex_count)
    angle = np.array(work.angle)
    turned = angle[flipped.next] + flipped.corners[flipped.next] * frames.scale[flipped.head]
    back = np.where(flipped.twin >= 0, angle[flipped.twin], turned)
    return flipped, Frames(angle, back, frames.scale, frames.first)
