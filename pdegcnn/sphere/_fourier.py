"""The Fourier transform along rings, with a backward pass of its own cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _RingAnalysis(torch.autograd.Function):
    """rfft of the last axis, first ``size`` orders. PyTorch's own backward runs a complex transform of full length."""

    generate_vmap_rule = True

    @staticmethod
    def forward(f: Tensor, size: int) -> Tensor:
        return torch.fft.rfft(f)[..., :size]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.count = inputs[0].shape[-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        half = torch.full((grads[0].shape[-1],), 0.5, dtype=grads[0].real.dtype, device=grads[0].device)
        half[0] = 1.0
        return torch.fft.irfft(grads[0] * half, n=ctx.count, norm="forward"), None


def ring_analysis(f: Tensor, size: int) -> Tensor:
    """sum_j f_j e^{-2 pi i m j / n} over the last axis of length n, m = 0..size-1, for 2 size - 1 <= n."""
    return _RingAnalysis.apply(f, size)  # type: ignore[return-value]


def ring_synthesis(waves: Tensor, count: int) -> Tensor:
    """w_0 + 2 Re sum_{m>0} w_m e^{2 pi i m j / count}, j = 0..count-1, over the last axis."""
    return torch.fft.irfft(waves, n=count, norm="forward")
