"""Specification of the gathered mean, and its portable version: short, readable, differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.kernels.metric import safe_sqrt
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors, coordinates, padded, source, squared_norm

REFUSAL = (
    "gather_mean: expected at most second derivatives in the metric of diffusion on a mesh, got a third; take it "
    "by differences"
)


def interpolate(profile: Tensor, distance: Tensor, reach: float | Tensor) -> Tensor:
    """Return the profile at any distances: linear between samples, zero beyond the last."""
    place = distance * ((profile.numel() - 1) / reach)
    below = place.detach().long().clamp(max=profile.numel() - 2)
    rest = place - below
    value = profile[below] * (1 - rest) + profile[below + 1] * rest
    if place.requires_grad or _transforms.differentiated(place):
        value = value + _bend(profile, place, below)
    return torch.where(rest <= 1, value, 0)


def _bend(profile: Tensor, place: Tensor, below: Tensor) -> Tensor:
    """Return zero with the second derivative of the curve behind the samples, because that of lines is zero.

    The second difference reaches over several samples, for those of neighbours would be rounding in float32.
    """
    last = profile.numel() - 1
    reach = max(1, last // 64)
    centre = below.clamp(max=max(last - reach, 0))
    sides = profile[(centre - reach).abs()] + profile[(centre + reach).clamp(max=last)]
    moved = place - place.detach()
    curve = (sides - 2 * profile[centre]) / reach**2
    return curve / 2 * moved**2 + _transforms.vanishing(moved, 2, REFUSAL)


def gather_mean(
    u: Tensor, lists: DirectionalNeighbors, matrix: Tensor, profile: Tensor, reach: float | Tensor, taps: int
) -> Tensor:
    """Return ``sum_q k(d_pq) a_q u_q / sum_q k(d_pq) a_q`` over the taps q of every point p."""
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
