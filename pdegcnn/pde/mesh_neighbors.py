"""Tables of a mesh that the operators on its bundle of directions read: neighbours in a ball, half-edges."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pdegcnn._typing import from_numpy
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors
from pdegcnn.ops.geodesic_flow import HalfEdges
from pdegcnn.spaces import Mesh

TIE = 1e-9
"""Relative slack by which transports half-way between two directions go to the smaller turn."""


def directional_neighbors(mesh: Mesh, radius: float, like: Tensor) -> DirectionalNeighbors:
    """Return the neighbour lists for balls of ``radius`` units, on the device and in the precision of ``like``."""
    return mesh.cached(_directional_neighbors, like, radius)


def _directional_neighbors(mesh: Mesh, like: Tensor, radius: float) -> DirectionalNeighbors:
    pairs = mesh.neighbours(radius, like.double())
    step = 2 * math.pi / mesh.orientations
    angle = pairs.transport.angle()
    angle = torch.where(
        pairs.reverse_index < torch.arange(angle.numel(), device=like.device), -angle[pairs.reverse_index], angle
    )
    if mesh.orientations == 1:  # functions of position have no angles
        angle = torch.zeros_like(angle)
    steps = (angle / step * (1 - TIE)).round()  # rounding must not decide between two directions
    turn = angle - steps * step
    offset = pairs.offset * torch.polar(torch.ones_like(turn), -turn / 2)
    lists = (torch.view_as_real(offset).to(like), turn.to(like), steps.long())
    most = int(pairs.start.diff().max())
    return DirectionalNeighbors(pairs.start, pairs.source, *lists, mesh.areas.to(like), most)


def half_edges(mesh: Mesh, like: Tensor) -> HalfEdges:
    """Return the half-edge tables in float64 on the device of ``like``."""
    return mesh.cached(_half_edges, torch.empty(0, dtype=torch.float64, device=like.device))


def _half_edges(mesh: Mesh, like: Tensor) -> HalfEdges:
    t, f = mesh.surface.triangulation, mesh.surface.frames
    fans = np.lexsort((f.angle, t.tail))  # half-edges by vertex and angle
    keys = t.tail[fans] * 8.0 + f.angle[fans]
    arrays = (keys, fans, t.tail, t.next, t.previous, t.twin, t.lengths.ravel(), t.corners, f.angle)
    tensors = [from_numpy(np.ascontiguousarray(x)) for x in (*arrays, f.transport, f.scale)]
    return HalfEdges._make((*(x.to(like.device) for x in tensors), mesh.gauge.to(like.device)))
