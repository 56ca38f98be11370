"""Neighbour lists on the bundle of directions of a mesh, shared by all gathers over positions and directions.

A tap of the point (v, i) is a pair (v, w) of the list and a step s of directions; it reads the point (w, j) with
``j = i + s - steps``. Seen from (v, i) it lies at the half-angle coordinates ``y = (forward, sideways, turn)``: the log
map of w turned back by the direction and by half the turn. Coordinates of the reversed tap are the negatives.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class DirectionalNeighbors(NamedTuple):
    """Pairs (v, w), sorted by v, the vertex itself first; it holds (w, v) with each (v, w).

    Args:
        start: first pair of each vertex, and their number, ``[V+1]``.
        columns: w, ``[E]``.
        offset: log map of w at v, turned back by half of ``turn``, ``[E,2]``.
        turn: rest of the transport's angle, at most half a step of directions, ``[E]``.
        steps: whole steps of directions in the transport, ``[E]``.
        areas: area of each vertex, ``[V]``.
        most: greatest number of pairs of a vertex.
    """

    start: Tensor
    columns: Tensor
    offset: Tensor
    turn: Tensor
    steps: Tensor
    areas: Tensor
    most: int


def directions(count: int) -> str:
    """Return the source of the constants of the compiled loops for the number of directions."""
    return f"COUNT, HALF = {count}, {count // 2}\n\n\n"


def half_steps(count: int, taps: int, dtype: torch.dtype) -> Tensor:
    """Return cosine and sine of ``(2 i + s - taps // 2)`` half steps of directions, ``[2N+taps,2]``, by ``2 i + s``."""
    angle = (torch.arange(2 * count + taps, dtype=torch.float64) - taps // 2) * (math.pi / count)
    return torch.stack((angle.cos(), angle.sin()), dim=1).to(dtype)


def padded(lists: DirectionalNeighbors) -> tuple[Tensor, Tensor]:
    """Return pairs of each vertex side by side, ``[V,most]``, and which of them exist."""
    slot = torch.arange(lists.most, device=lists.start.device)
    exists = slot < lists.start.diff()[:, None]
    return torch.where(exists, lists.start[:-1, None] + slot, lists.start[:-1, None]), exists


def coordinates(lists: DirectionalNeighbors, pair: Tensor, direction: Tensor, step: Tensor, count: int) -> Tensor:
    """Return half-angle coordinates ``[...,3]`` of taps (pair, step) from ``direction`` among ``count``."""
    grid = 2 * math.pi / count
    x, y = lists.offset[pair].unbind(-1)
    angle = (2 * direction + step).to(x) * (-grid / 2)
    c, s = torch.cos(angle), torch.sin(angle)
    turn = lists.turn[pair] + step.to(x) * grid
    return torch.stack(torch.broadcast_tensors(c * x - s * y, s * x + c * y, turn), dim=-1)


def source(lists: DirectionalNeighbors, pair: Tensor, direction: Tensor, step: Tensor, count: int) -> Tensor:
    """Return the flat position in [N*V] that the taps read."""
    return (direction + step - lists.steps[pair]) % count * (lists.start.numel() - 1) + lists.columns[pair]


def squared_norm(matrix: Tensor, y: Tensor) -> Tensor:
    """Return ``y^T G y`` for matrices ``[C,3,3]`` and coordinates ``[...,3]``: ``[C,...]``."""
    return torch.einsum("...i,cij,...j->c...", y, matrix, y)
