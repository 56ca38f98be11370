"""Specification of the linear convolution on rings: short, readable, differentiable torch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def slots(u: Tensor, taps: Tensor, start: Tensor, longest: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the samples that the first, second, ... taps in all lists read, their numbers, and if they exist, [G]."""
    fibre, _, length = u.shape[2:]
    f = torch.arange(fibre, device=u.device)[:, None, None]
    j = torch.arange(length, device=u.device)
    counts = start.diff()
    for t in range(longest):
        number = start[:-1] + (counts - 1).clamp(min=0, max=t)
        ring, df, dj = taps[number].T[:, :, None]
        yield u[:, :, (f + df) % fibre, ring, (j + dj) % length], number, counts > t


def correlate(u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int) -> Tensor:
    """Compute ``sum over s of u[(f+df) mod F,ring,(j+dj) mod n] * kernel[f,s]`` over the taps s of each ring.

    Args:
        u: signal ``[B,C,F,G,n]``: fibre, rings, points of a ring.
        kernel: weights ``[C,F,S]``, or ``[C,1,S]`` where the fibre does not matter.
        taps: int64 ``[S,3]``: ``(ring, df, dj) = taps[s]``, df in [0,F) and dj in [0,n).
        start: int64 ``[G+1]``, where the list of each ring begins.
        longest: length of the longest list.

    Returns:
        Tensor of the shape and dtype of ``u``.
    """
    out = torch.zeros_like(u)
    for value, number, exists in slots(u, taps, start, longest):
        out = out + torch.where(exists[:, None], value * kernel[:, :, number, None], 0)
    return out
