"""Specification of the periodic two-band filter bank."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _wrapped(size: int, taps: int, device: torch.device) -> Tensor:
    return torch.arange(size + taps - 2, device=device) % size


def analyse(x: Tensor, filters: Tensor) -> Tensor:
    """``out[..., band, k] = sum over m of filters[band, m] * x[..., (2k + m) mod N]``: [...,N] to [...,2,N/2].

    N must be even and the filters [2,L] of even length (Mallat, *A Wavelet Tour of Signal Processing*, theorem 7.10).
    """
    flat = x.reshape(-1, 1, x.shape[-1])
    padded = flat[..., _wrapped(x.shape[-1], filters.shape[-1], x.device)]
    return F.conv1d(padded, filters[:, None].to(x.dtype), stride=2).reshape(*x.shape[:-1], 2, x.shape[-1] // 2)


def synthesise(bands: Tensor, filters: Tensor) -> Tensor:
    """The transpose of `analyse` with the same filters: [...,2,N/2] to [...,N]; its inverse with the dual filters."""
    half = bands.shape[-1]
    spread = F.conv_transpose1d(bands.reshape(-1, 2, half), filters[:, None].to(bands.dtype), stride=2)
    index = _wrapped(2 * half, filters.shape[-1], bands.device)
    out = torch.zeros(spread.shape[0], 1, 2 * half, dtype=spread.dtype, device=spread.device)
    return out.index_add(2, index, spread).reshape(*bands.shape[:-2], 2 * half)
