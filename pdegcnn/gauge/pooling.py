"""Pooling to a coarser mesh and back, for features of any spin and for signals on the bundle of directions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._dtypes import widen
from pdegcnn.gauge.features import Features, check_features, check_mesh
from pdegcnn.spaces import Mesh

TIE = 1e-9
"""Slack in steps of directions, and in weights: rounding must not decide."""


class _Pairs(NamedTuple):
    """Fine and coarse vertex, weight of the coarse one, share of the fine one in the coarse one's mean, turn of
    directions in whole steps and the rest (at a fine direction i, read the coarse i + steps and the next), and whether
    the coarse vertex is the fine one's nearest; all ``[E]``.
    """

    fine: Tensor
    coarse: Tensor
    weight: Tensor
    share: Tensor
    steps: Tensor
    rest: Tensor
    nearest: Tensor


class MeshPool(nn.Module):
    """Take a signal to ``mesh.coarsen(factor)``: means over the vertices around each that stays, transported to it.

    The mean is the adjoint of :class:`MeshUnpool` by vertex areas: constants stay, and the sum weighted by the coarse
    vertices' shares of the area (``Pool.areas``) is kept exactly. Directions of the bundle are interpolated linearly.

    Args:
        factor: how many times fewer vertices, above 1.
        mode: ``"mean"``, or ``"max"`` over the vertices to which each is nearest (spin 0 and the bundle only).

    Shape:
        ``forward(signal, mesh)``: features (a dictionary from spin to ``[B,C,V]``) or a signal on the bundle
        ``[B,C,Or,V]`` -> the same with the W vertices of ``mesh.coarsen(factor)``.

    Raises:
        ValueError: shapes that do not fit the mesh; a maximum of spins above 0.
    """

    def __init__(self, factor: float = 4.0, mode: str = "mean") -> None:
        super().__init__()
        self.factor = _checks.plain_number("factor", factor, 1.0, math.inf, open_low=True)
        self.mode = _checks.choice("mode", mode, ("mean", "max"))

    def forward(self, signal: Mapping[int, Tensor] | Tensor, mesh: Mesh) -> Features | Tensor:
        """Pool from ``mesh``."""
        fields = _checked(signal, mesh, mesh)
        if isinstance(fields, Tensor):
            return self._bundle(fields, mesh)
        if self.mode == "max":
            if set(fields) != {0}:
                raise ValueError(f"signal: expected spin 0 alone for mode='max', got spins {sorted(fields)}")
            return {0: self._bundle(fields[0].unsqueeze(2), mesh.with_orientations(1)).squeeze(2)}
        count = mesh.coarsen(self.factor).vertex_count
        return {k: self._field(u, k, count, mesh) for k, u in fields.items()}

    def areas(self, mesh: Mesh) -> Tensor:
        """The share of each coarse vertex in the area of ``mesh``, ``[W]``, square units of ``mesh``, float64."""
        double = torch.empty(0, dtype=torch.float64, device=mesh.areas.device)
        pairs, count = mesh.interpolation(self.factor, double), mesh.coarsen(self.factor).vertex_count
        return double.new_zeros(count).index_add(0, pairs.coarse, pairs.weight * mesh.areas[pairs.fine])

    def _field(self, u: Tensor, spin: int, count: int, mesh: Mesh) -> Tensor:
        wide = widen(u)
        pairs = _pairs(mesh, self.factor, wide)
        factor = pairs.share * mesh.interpolation(self.factor, wide).transport.conj() ** spin if spin else pairs.share
        return _sum(wide.index_select(2, pairs.fine) * factor, pairs.coarse, count).to(u.dtype)

    def _bundle(self, u: Tensor, mesh: Mesh) -> Tensor:
        wide, count = widen(u), mesh.coarsen(self.factor).vertex_count
        pairs = _pairs(mesh, self.factor, wide)
        if self.mode == "max":
            pairs = _Pairs._make(x[pairs.nearest] for x in pairs)
        values = _turned(wide, pairs.fine, -pairs.steps, -1, pairs.rest)
        if self.mode == "mean":
            return _sum(values * pairs.share, pairs.coarse, count).to(u.dtype)
        place = pairs.coarse.expand(values.shape)
        low = values.new_full((*u.shape[:3], count), -math.inf)
        return low.scatter_reduce(3, place, values, "amax", include_self=False).to(u.dtype)

    def extra_repr(self) -> str:
        """Factor and mode."""
        return f"{self.factor}, mode={self.mode!r}"


class MeshUnpool(nn.Module):
    """Take a signal from ``mesh.coarsen(factor)`` to ``mesh``: interpolated linearly and transported.

    Constants stay, values stay within their bounds (lengths below the greatest), and the vertices that the two meshes
    share keep theirs.

    Args:
        factor: as of :class:`MeshPool`.

    Shape:
        ``forward(signal, mesh)``: features or a signal on the bundle over the coarse mesh -> the same over ``mesh``,
        the fine one.

    Raises:
        ValueError: shapes that do not fit the coarse mesh.
    """

    def __init__(self, factor: float = 4.0) -> None:
        super().__init__()
        self.factor = _checks.plain_number("factor", factor, 1.0, math.inf, open_low=True)

    def forward(self, signal: Mapping[int, Tensor] | Tensor, mesh: Mesh) -> Features | Tensor:
        """Interpolate to ``mesh``."""
        check_mesh(mesh)
        fields = _checked(signal, mesh.coarsen(self.factor), mesh)
        if isinstance(fields, Tensor):
            wide = widen(fields)
            pairs = _pairs(mesh, self.factor, wide)
            values = _turned(wide, pairs.coarse, pairs.steps, +1, pairs.rest) * pairs.weight
            return _sum(values, pairs.fine, mesh.vertex_count).to(fields.dtype)
        return {k: self._field(u, k, mesh) for k, u in fields.items()}

    def _field(self, u: Tensor, spin: int, mesh: Mesh) -> Tensor:
        wide = widen(u)
        pairs = mesh.interpolation(self.factor, wide)
        factor = pairs.weight * pairs.transport**spin if spin else pairs.weight
        return _sum(wide.index_select(2, pairs.coarse) * factor, pairs.fine, mesh.vertex_count).to(u.dtype)

    def extra_repr(self) -> str:
        """Factor."""
        return f"{self.factor}"


def _checked(signal: Mapping[int, Tensor] | Tensor, where: Mesh, mesh: Mesh) -> Features | Tensor:
    """Features or a signal on the bundle that fit the mesh ``where``, else an error."""
    check_mesh(mesh)
    if isinstance(signal, Tensor):
        return where.check_signal("signal", signal)
    return check_features("signal", signal, None, where)


def _pairs(mesh: Mesh, factor: float, like: Tensor) -> _Pairs:
    return mesh.cached(_pooling_pairs, like.real if like.is_complex() else like, factor)


def _pooling_pairs(mesh: Mesh, like: Tensor, factor: float) -> _Pairs:
    double = torch.empty(0, dtype=torch.float64, device=like.device)
    fine, coarse, weight, transport = mesh.interpolation(factor, double)
    amount = weight * mesh.areas.to(like.device)[fine]
    total = double.new_zeros(mesh.coarsen(factor).vertex_count).index_add(0, coarse, amount)
    greatest = double.new_zeros(mesh.vertex_count).scatter_reduce(0, fine, weight, "amax")
    place = -transport.angle() * (mesh.orientations / (2 * math.pi))
    if mesh.orientations == 1:  # functions of position: there is nothing to turn
        place = torch.zeros_like(place)
    steps = (place + TIE).floor()
    rest = (place - steps).clamp_min(0)
    rest = torch.where(rest <= TIE, 0, rest)
    nearest = weight >= greatest[fine] * (1 - TIE)
    shares = (weight.to(like), (amount / total[coarse]).to(like))
    return _Pairs(fine, coarse, *shares, steps.long(), rest.to(like), nearest)


def _turned(u: Tensor, source: Tensor, steps: Tensor, way: int, rest: Tensor) -> Tensor:
    """Values ``[B,C,N,E]`` of u at the vertices ``source`` and the directions ``i + steps + way * rest``."""
    count, vertices = u.shape[2:]
    direction = torch.arange(count, device=u.device)[:, None]
    flat = u.flatten(2)
    near = flat[:, :, (direction + steps) % count * vertices + source]
    if not bool(rest.any()):
        return near
    between = torch.lerp(near, flat[:, :, (direction + steps + way) % count * vertices + source], rest)
    return torch.where(rest > 0, between, near)  # what is not finite stays where it is, beside whatever mesh


def _sum(values: Tensor, target: Tensor, count: int) -> Tensor:
    """Sums over the last axis by target, ``[...,E] -> [...,count]``."""
    return values.new_zeros(*values.shape[:-1], count).index_add(values.ndim - 1, target, values)
