"""Specification of the periodic two-band filter bank."""

from __future__ import annotations

import torch
from torch import Tensor


def _taps(filters: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """For every pair of taps its shift and the two pairs of coefficients [2]."""
    return [(j, filters[:, 2 * j], filters[:, 2 * j + 1]) for j in range(filters.shape[-1] // 2)]


def _shift(x: Tensor, steps: int) -> Tensor:
    return x.roll(steps, -1) if steps else x


def analyse(x: Tensor, filters: Tensor) -> Tensor:
    """``out[..., band, k] = sum over m of filters[band, m] * x[..., (2k + m) mod N]``: [...,N] to [...,2,N/2].

    N must be even and the filters [2,L] of even length (Mallat, *A Wavelet Tour of Signal Processing*, theorem 7.10).
    By polyphase components, which hold far less memory than a convolution of one channel with two.
    """
    (even, odd), filters = x.unflatten(-1, (-1, 2)).unbind(-1), filters.to(x.dtype)
    bands = [
        sum(a[band] * _shift(even, -j) + b[band] * _shift(odd, -j) for j, a, b in _taps(filters)) for band in range(2)
    ]
    return torch.stack(bands, -2)  # pyright: ignore


def synthesise(bands: Tensor, filters: Tensor) -> Tensor:
    """The transpose of `analyse` with the same filters: [...,2,N/2] to [...,N]; its inverse with the dual filters."""
    (low, high), filters = bands.unbind(-2), filters.to(bands.dtype)
    even = sum(_shift(a[0] * low + a[1] * high, j) for j, a, _ in _taps(filters))
    odd = sum(_shift(b[0] * low + b[1] * high, j) for j, _, b in _taps(filters))
    return torch.stack((even, odd), -1).flatten(-2)  # pyright: ignore
