"""Specification of the gathered morphology: short, readable, differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn.ops.directional_neighbors import DirectionalNeighbors, coordinates, padded, source, squared_norm


def cost(squared: Tensor, law: Tensor) -> Tensor:
    """Return the cost of taps at squared distance: a power, or for power infinity a flat ball."""
    factor, power = law.unbind()
    if bool(power.isinf()):
        return torch.where(squared <= factor, 0.0, torch.inf).to(squared)
    safe = torch.where(squared > 0, squared, 1)
    return torch.where(squared > 0, factor * safe**power, 0)


def gather_morphology(
    u: Tensor, lists: DirectionalNeighbors, matrix: Tensor, law: Tensor, taps: int, sign: int = +1
) -> Tensor:
    """Return ``max(u - k)`` or ``min(u + k)`` over the taps; the point itself first, then in the order (pair, step)."""
    if sign == -1:
        return -gather_morphology(-u, lists, matrix, law, taps)
    count = u.shape[2]
    pairs, exists = padded(lists)
    direction = torch.arange(count, device=u.device)[:, None]
    best = u
    for slot in range(lists.most):
        for s in range(taps):
            step = torch.tensor(s - taps // 2, device=u.device)
            y = coordinates(lists, pairs[:, slot], direction, step, count)  # [N,V,3]
            value = u.flatten(2)[:, :, source(lists, pairs[:, slot], direction, step, count)]
            value = value - cost(squared_norm(matrix, y), law)
            wins = (value > best) | (value.isnan() & ~best.isnan())
            best = torch.where(wins & exists[:, slot], value, best)
    return best
