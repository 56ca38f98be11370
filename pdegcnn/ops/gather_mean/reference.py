"""Specification of the gathered mean, and its portable version: short, readable, differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn.kernels.metric import safe_sqrt
from pdegcnn.ops.bundle import Bundle, coordinates, padded, source, squared_norm


def interpolate(profile: Tensor, distance: Tensor, reach: float) -> Tensor:
    """The profile at any distances: linear between samples, zero beyond the last."""
    place = distance * ((profile.numel() - 1) / reach)
    below = place.detach().long().clamp(max=profile.numel() - 2)
    rest = place - below
    return torch.where(rest <= 1, profile[below] * (1 - rest) + profile[below + 1] * rest, 0)


def gather_mean(u: Tensor, lists: Bundle, matrix: Tensor, profile: Tensor, reach: float, taps: int) -> Tensor:
    """``sum_q k(d_pq) a_q u_q / sum_q k(d_pq) a_q`` over the taps q of every point p."""
    count = u.shape[2]
    pairs, exists = padded(lists)
    direction = torch.arange(count, device=u.device)[:, None]
    above: Tensor | float = 0.0
    below: Tensor | float = 0.0
    for slot in range(lists.most):
        for s in range(taps):
            step = torch.tensor(s - taps // 2, device=u.device)
            y = coordinates(lists, pairs[:, slot], direction, step, count)
            weight = interpolate(profile, safe_sqrt(squared_norm(matrix, y)), reach)
            weight = weight * torch.where(exists[:, slot], lists.areas[lists.columns[pairs[:, slot]]], 0)
            if taps == count + 1 and s in (0, taps - 1):
                weight = weight / 2
            above = above + weight * u.flatten(2)[:, :, source(lists, pairs[:, slot], direction, step, count)]
            below = below + weight
    assert isinstance(above, Tensor)
    return above / below
