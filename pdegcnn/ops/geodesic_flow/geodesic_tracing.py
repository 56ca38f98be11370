"""Straightest geodesics from every vertex, traced together by unfolding one triangle at a time."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._operator import implementation, operator

TIE = 1e-9
"""Directions nearer than this (radians) below the reference edge of a vertex are along it: rounding must not decide
whether a path along the boundary leaves the surface at once.
"""
MOST_TRIANGLES = 10_000
"""A path that crosses more ends where it is: it would be thousands of edges long."""


class HalfEdges(NamedTuple):
    """Half-edges of a triangulation, H of them at V vertices; tables of the mesh in float64 and long.

    Args:
        keys: 8 times the vertex plus the angle of each half-edge, ascending, ``[H]``.
        fans: half-edges in the order of ``keys``, ``[H]``.
        tail: vertex that each half-edge leaves, ``[H]``.
        next: half-edge that follows in the face, ``[H]``.
        previous: half-edge before it in the face, ``[H]``.
        twin: the same edge in the other direction, -1 on the boundary, ``[H]``.
        length: length in units, ``[H]``.
        corner: angle in the face between a half-edge and the one before it, ``[H]`` radians.
        angle: direction of each half-edge at its vertex, ``[H]`` radians.
        transport: turn of the frame along each half-edge, ``[H]`` radians.
        scale: what angles in faces are multiplied by at each vertex, so that they fill a circle, ``[V]``.
        gauge: angle of the reference direction of each vertex, ``[V]`` radians.
    """

    keys: Tensor
    fans: Tensor
    tail: Tensor
    next: Tensor
    previous: Tensor
    twin: Tensor
    length: Tensor
    corner: Tensor
    angle: Tensor
    transport: Tensor
    scale: Tensor
    gauge: Tensor


class GeodesicEndpoint(NamedTuple):
    """End points of paths, each field ``[M, ...]``.

    ``wedge``: half-edge right of the start, -1 for paths that leave the surface at once; ``vertices [M,3]`` of the last
    triangle, their ``positions [M,3,2]`` unfolded, and ``turn [M,3]``: angle to add to come from there to the start.
    """

    wedge: Tensor
    vertices: Tensor
    positions: Tensor
    turn: Tensor


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)


def _wedges(t: HalfEdges, vertex: Tensor, angle: Tensor) -> Tensor:
    """Return the half-edge right of the direction ``angle`` (in the mesh's own gauge) at each vertex.

    It is -1 outside the surface.
    """
    angle = torch.remainder(angle, 2 * math.pi)
    place = torch.searchsorted(t.keys, vertex * 8.0 + angle, right=True) - 1
    wedge = t.fans[place.clamp(min=0)]
    inside = (angle - t.angle[wedge]) <= t.corner[wedge] * t.scale[vertex] + 1e-9
    return torch.where(inside & (t.tail[wedge] == vertex), wedge, -1)


def find(t: HalfEdges, vertex: Tensor, radius: Tensor, angle: Tensor, backend: str) -> GeodesicEndpoint:
    """Return the ends of the paths by a backend; arguments as :func:`land`."""
    if backend == "torch":
        return land(t, vertex, radius, angle)
    count = vertex.numel()
    end = GeodesicEndpoint(
        vertex.new_empty(count),
        vertex.new_empty(count, 3),
        radius.new_empty(count, 3, 2),
        radius.new_empty(count, 3),
    )
    if backend == "triton":
        from pdegcnn.ops.geodesic_flow import triton_impl

        triton_impl.land(t[:-1], (vertex, radius, angle), end, MOST_TRIANGLES)
        return end
    implementation("geodesic_flow", "numba").land(t, (vertex, radius, angle), end, MOST_TRIANGLES)
    return end


@operator("pdegcnn::geodesic_landing")
def geodesic_landing(
    tables: list[Tensor], vertex: Tensor, radius: Tensor, angle: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the wedge, vertices, positions and turn of a :class:`GeodesicEndpoint`, of half-edge tables and paths."""
    end = find(HalfEdges._make(tables), vertex, radius, angle, backend)
    return end.wedge, end.vertices, end.positions, end.turn


@geodesic_landing.register_fake
def _(tables: list[Tensor], vertex: Tensor, radius: Tensor, angle: Tensor, backend: str):
    count = vertex.shape[0]
    corners = vertex.new_empty(count, 3)
    return vertex.new_empty(count), corners, radius.new_empty(count, 3, 2), radius.new_empty(count, 3)


def land(t: HalfEdges, vertex: Tensor, radius: Tensor, angle: Tensor) -> GeodesicEndpoint:
    """Follow the paths from ``vertex [M]`` over ``radius`` in the direction ``angle``, all ``[M]``, float64."""
    wedge = _wedges(t, vertex, angle)
    h = wedge.clamp(min=0)
    alpha = torch.remainder(angle - t.angle[h], 2 * math.pi) / t.scale[vertex]
    target = _polar(radius, alpha)
    right = _polar(t.length[h], torch.zeros_like(alpha))
    left = _polar(t.length[t.previous[h]], t.corner[h])
    vertices = torch.stack((vertex, t.tail[t.next[h]], t.tail[t.previous[h]]), dim=1)
    positions = torch.stack((torch.zeros_like(right), right, left), dim=1)
    turn = torch.stack((torch.zeros_like(alpha), t.transport[h], -t.transport[t.previous[h]]), dim=1)
    end = GeodesicEndpoint(wedge, vertices, positions, turn)
    # the edge ahead of each path that goes on, and its two ends: position and transport
    ahead, right_turn, left_turn = t.next[h], turn[:, 1], turn[:, 2]
    going = torch.nonzero(wedge >= 0)[:, 0]
    state = [x[going] for x in (ahead, right, left, right_turn, left_turn)]
    for _ in range(MOST_TRIANGLES):
        ahead, right, left, right_turn, left_turn = state
        on = (_cross(left - right, target[going] - right) < 0) & (t.twin[ahead] >= 0)
        going, state = going[on], [x[on] for x in state]
        if not going.numel():
            break
        state = _cross_edge(t, end, going, target[going], *state)
    return end


def _cross_edge(
    t: HalfEdges,
    end: GeodesicEndpoint,
    going: Tensor,
    target: Tensor,
    ahead: Tensor,
    right: Tensor,
    left: Tensor,
    right_turn: Tensor,
    left_turn: Tensor,
) -> list[Tensor]:
    """Unfold the next triangle, note it in ``end`` and choose the edge by which the path leaves it."""
    entry = t.twin[ahead]  # from left to right in the new triangle
    first, second = t.next[entry], t.previous[entry]
    edge = left - right
    length, side = t.length[entry], t.length[first]
    along = (length**2 + side**2 - t.length[second] ** 2) / (2 * length)
    across = (side**2 - along**2).clamp_min(0).sqrt()
    unit = edge / length[:, None]
    apex = right + along[:, None] * unit + across[:, None] * torch.stack((unit[:, 1], -unit[:, 0]), dim=-1)
    ways = torch.polar(torch.ones_like(length), right_turn + t.transport[first])
    ways = ways + torch.polar(torch.ones_like(length), left_turn - t.transport[second])
    apex_turn = ways.angle()
    end.vertices[going] = torch.stack((t.tail[entry], t.tail[first], t.tail[second]), dim=1)
    end.positions[going] = torch.stack((left, right, apex), dim=1)
    end.turn[going] = torch.stack((left_turn, right_turn, apex_turn), dim=1)
    to_left = _cross(target, apex) > 0  # the apex lies left of the path
    choose = to_left[:, None]
    return [
        torch.where(to_left, first, second),
        torch.where(choose, right, apex),
        torch.where(choose, apex, left),
        torch.where(to_left, right_turn, apex_turn),
        torch.where(to_left, apex_turn, left_turn),
    ]


def _weights(end: GeodesicEndpoint, target: Tensor) -> Tensor:
    """Return barycentric weights ``[M,3]`` of the targets, differentiable.

    Beyond the boundary they are those of the nearest point inside.
    """
    a, b, c = end.positions.to(target.dtype).unbind(1)
    double = _cross(b - a, c - a)
    weights = torch.stack((_cross(b - target, c - target), _cross(c - target, a - target)), dim=1) / double[:, None]
    weights = torch.cat((weights, 1 - weights.sum(1, keepdim=True)), dim=1).clamp_min(0)
    weights = weights / weights.sum(1, keepdim=True)
    at_start = torch.tensor([1.0, 0.0, 0.0], dtype=target.dtype, device=target.device)
    return torch.where((end.wedge >= 0)[:, None], weights, at_start)


def polar_shift(shift: Tensor) -> Tensor:
    """Return the radius, heading and turn [C,3] in float64 of displacements (forward, sideways, turn) [C,3]."""
    x, y, turn = shift.double().unbind(-1)
    still = (x == 0) & (y == 0)
    radius = torch.where(still, 0, torch.hypot(x, torch.where(still, 1, y)))
    return torch.stack((radius, torch.atan2(y, torch.where(still, 1, x)), turn), dim=-1)


def flow(u: Tensor, t: HalfEdges, path: Tensor, backend: str) -> Tensor:
    """Return the signal at the end of every path (radius, heading, turn) [C,3], in float64: the specification.

    See :func:`pdegcnn.ops.geodesic_flow.geodesic_flow`.
    """
    batch, channels, count, vertices = u.shape
    step = 2 * math.pi / count
    radius, heading, turn = path.unbind(-1)
    direction = torch.arange(count, device=u.device, dtype=torch.float64) * step
    vertex = torch.arange(vertices, device=u.device).repeat(channels * count)
    angle = (heading[:, None] + direction)[:, :, None] + t.gauge  # [C,N,V], in the mesh's own gauge
    below = torch.remainder(angle.detach(), 2 * math.pi) > 2 * math.pi - TIE
    angle = torch.where(below, angle - angle.detach(), angle)
    radius = radius[:, None, None].expand(angle.shape).flatten()
    follow = partial(geodesic_landing, list(t), vertex, backend=backend)
    end = GeodesicEndpoint._make(_transforms.at_values(follow, radius, angle.flatten()))
    start = t.angle[end.wedge.clamp(min=0)]
    alpha = angle.flatten() - start
    alpha = (alpha - 2 * math.pi * torch.floor(alpha.detach() / (2 * math.pi))) / t.scale[vertex]
    weights = _weights(end, _polar(radius, alpha))
    # the direction in the frame of each vertex of the triangle, in steps
    gauge = t.gauge[end.vertices] - t.gauge[vertex][:, None]
    facing = (direction + turn[:, None])[:, :, None].expand(channels, count, vertices).reshape(-1, 1)
    place = (facing - end.turn - gauge) / step
    place = torch.where(
        (place - place.detach().round()).abs() < 1e-9, place - place.detach() + place.detach().round(), place
    )
    below = place.detach().floor()
    rest = (place - below).to(u.dtype)
    weights = weights.to(u.dtype)
    flat = u.flatten(2)
    out = torch.zeros((), dtype=u.dtype, device=u.device)
    for corner in range(3):
        for upper in range(2):
            j = (below[:, corner].long() + upper) % count
            index = (j * vertices + end.vertices[:, corner]).view(1, channels, -1).expand(batch, -1, -1)
            share = rest[:, corner] if upper else 1 - rest[:, corner]
            out = out + flat.gather(2, index) * (weights[:, corner] * share).view(channels, -1)
    return out.view(u.shape)
