"""Transfer of signals on the bundle of directions of a mesh to the mesh of ``Mesh.coarsen`` and back."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pdegcnn._dtypes import widen
from pdegcnn.spaces import Mesh

TIE = 1e-9
"""Slack in steps of directions, and in weights: rounding must not decide."""


class LevelPairs(NamedTuple):
    """Fine and coarse vertex, weight of the coarse one, share of the fine one in the coarse one's mean, turn of
    directions in whole steps and the rest (at a fine direction i, read the coarse i + steps and the next), and whether
    the coarse vertex is the fine one's nearest; all ``[E]``. ``between``: whether any rest is positive.
    """

    fine: Tensor
    coarse: Tensor
    weight: Tensor
    share: Tensor
    steps: Tensor
    rest: Tensor
    nearest: Tensor
    between: bool


def level_pairs(mesh: Mesh, factor: float, like: Tensor) -> LevelPairs:
    """Return how the vertices of a mesh and those of ``mesh.coarsen(factor)`` belong together; kept by the mesh."""
    return mesh.cached(_pairs, like.real if like.is_complex() else like, factor)


def pool(u: Tensor, mesh: Mesh, factor: float, mode: str = "mean") -> Tensor:
    """Return means (or maxima) ``[B,C,Or,W]`` of a signal ``[B,C,Or,V]`` on ``mesh``, around the vertices that stay."""
    wide, count = widen(u), mesh.coarsen(factor).vertex_count
    pairs = level_pairs(mesh, factor, wide)
    if mode == "mean":
        return add_up(_turned(wide, pairs, pairs.fine, -1) * pairs.share, pairs.coarse, count).to(u.dtype)
    near = pairs.nearest
    pairs = pairs._replace(
        fine=pairs.fine[near], coarse=pairs.coarse[near], steps=pairs.steps[near], rest=pairs.rest[near]
    )
    values = _turned(wide, pairs, pairs.fine, -1)
    low = values.new_full((*u.shape[:3], count), -math.inf)
    place = pairs.coarse.expand(values.shape)
    return low.scatter_reduce(3, place, values, "amax", include_self=False).to(u.dtype)


def unpool(u: Tensor, mesh: Mesh, factor: float) -> Tensor:
    """Interpolate ``[B,C,Or,W]`` on ``mesh.coarsen(factor)`` linearly to ``[B,C,Or,V]`` on ``mesh``."""
    wide = widen(u)
    pairs = level_pairs(mesh, factor, wide)
    return add_up(_turned(wide, pairs, pairs.coarse, +1) * pairs.weight, pairs.fine, mesh.vertex_count).to(u.dtype)


def add_up(values: Tensor, target: Tensor, count: int) -> Tensor:
    """Return sums over the last axis by target, ``[...,E] -> [...,count]``."""
    return values.new_zeros(*values.shape[:-1], count).index_add(values.ndim - 1, target, values)


def _pairs(mesh: Mesh, like: Tensor, factor: float) -> LevelPairs:
    """Build :func:`level_pairs`."""
    double = torch.empty(0, dtype=torch.float64, device=like.device)
    fine, coarse, weight, transport = mesh.interpolation(factor, double)
    amount = weight * mesh.areas.to(like.device)[fine]
    total = double.new_zeros(mesh.coarsen(factor).vertex_count).index_add(0, coarse, amount)
    greatest = double.new_zeros(mesh.vertex_count).scatter_reduce(0, fine, weight, "amax")
    place = -transport.angle() * (mesh.orientations / (2 * math.pi))
    if mesh.orientations == 1:  # functions of position have no angles
        place = torch.zeros_like(place)
    steps = (place + TIE).floor()
    rest = (place - steps).clamp_min(0)
    rest = torch.where(rest <= TIE, 0, rest)
    nearest = weight >= greatest[fine] * (1 - TIE)
    shares = (weight.to(like), (amount / total[coarse]).to(like))
    return LevelPairs(fine, coarse, *shares, steps.long(), rest.to(like), nearest, bool(rest.any()))


def _turned(u: Tensor, pairs: LevelPairs, source: Tensor, way: int) -> Tensor:
    """Return values ``[B,C,N,E]`` of u at the vertices ``source`` and the directions ``i + way * (steps + rest)``."""
    count, vertices = u.shape[2:]
    direction = torch.arange(count, device=u.device)[:, None]
    flat, steps = u.flatten(2), way * pairs.steps
    near = flat[:, :, (direction + steps) % count * vertices + source]
    if not pairs.between:
        return near
    between = torch.lerp(near, flat[:, :, (direction + steps + way) % count * vertices + source], pairs.rest)
    return torch.where(pairs.rest > 0, between, near)  # infinite coordinates stay unchanged, next to any mesh
