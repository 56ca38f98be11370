"""Specification of the max-plus convolution on rings: short, readable, differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor


def ring_morphology(u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, sign: int = +1) -> Tensor:
    """Return ``max(u - k)`` (sign +1) or ``min(u + k)`` (sign -1) over the taps of each ring.

    ``out[b,c,f,g,j] = max over s in start[g]..start[g+1] of u[b,c,(f+df) mod F,ring,(j+dj) mod n] - kernel[c,f,s]``
    with ``(ring, df, dj) = taps[s]``. Ties go to the first tap; an entry of +inf means that the tap is absent there;
    an output that no tap reaches is -inf. A present tap that gives NaN makes the output NaN.
    """
    if sign == -1:
        return -ring_morphology(-u, kernel, taps, start)
    rings = []
    for g in range(u.shape[3]):
        best = torch.full_like(u[:, :, :, 0], -torch.inf)
        for s in range(int(start[g]), int(start[g + 1])):
            ring, df, dj = taps[s].tolist()
            shifted = u[:, :, :, ring].roll((-df, -dj), dims=(2, 3))
            weight = kernel[:, :, s, None]
            value = torch.where(weight == torch.inf, -torch.inf, shifted - weight)
            best = torch.where((value > best) | (value.isnan() & ~best.isnan()), value, best)
        rings.append(best)
    return torch.stack(rings, dim=3)
