"""Specification of the interpolation between samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


def between_samples(u: Tensor, matrix: Tensor, outside: Tensor, shifts: Sequence[tuple[float, float, float]]) -> Tensor:
    """Return readings ``[B,C,n*Or,H,W]`` of u [B,C,Or,H,W]: mixed by ``matrix [(n-1)*Or,Or]``, then shifted."""
    readings = [u]
    if len(shifts) > 1:
        mixed = (matrix @ u.flatten(3)).view(*u.shape[:2], len(shifts) - 1, *u.shape[2:])
        readings += mixed.unbind(2)
    for i, shift in enumerate(shifts):
        if any(shift):
            readings[i] = _ahead(readings[i], shift, outside[:, :, None, None, None])
    return torch.stack(readings, dim=3).flatten(2, 3) if len(shifts) > 1 else readings[0]


@cache
def weights(fraction: float) -> tuple[float, float, float, float]:
    """Return weights of the samples at -1, 0, 1 and 2 for the point at ``fraction``: cubic convolution (Keys 1981)."""
    f, bend = fraction, fraction * (1 - fraction) / 2
    return -bend * (1 - f), 1 - f + (2 - 3 * f) * bend, f + (3 * f - 1) * bend, -bend * f


def _ahead(u: Tensor, shift: Sequence[float], outside: Tensor) -> Tensor:
    """Return u at points ``shift`` further, along its last three axes; ``outside`` where they leave the grid."""
    inside = torch.ones((1, 1, 1), dtype=torch.bool, device=u.device)
    for axis, fraction in enumerate(shift):
        if fraction:
            size, margins = u.shape[2 + axis], [0] * 6
            inside = inside & (torch.arange(size, device=u.device) < size - 1).view(-1, *(1,) * (2 - axis))
            margins[4 - 2 * axis : 6 - 2 * axis] = 1, 2
            wide = F.pad(u, margins, mode="replicate")
            a, b, c, d = weights(fraction)
            near = wide.narrow(2 + axis, 1, size) * b + wide.narrow(2 + axis, 2, size) * c
            u = near + wide.narrow(2 + axis, 0, size) * a + wide.narrow(2 + axis, 3, size) * d
    return torch.where(inside, u, outside)
