"""Morphological convolution in plain torch on any device: shifts and comparisons, backward by winning tap."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2**17
"""Outputs worked on at once on a CPU, so that they stay in its cache."""


def forward(u: Tensor, kernel: Tensor, sign: int, keep: bool, index_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values, and the winning taps where ``keep`` (else an empty tensor)."""
    dtype = torch.promote_types(u.dtype, torch.float32)
    taps = kernel.shape[2] * kernel.shape[3] * kernel.shape[4]
    weights = kernel.to(dtype)
    out = u.new_empty(*u.shape[:2], kernel.shape[1], *u.shape[3:])
    winner = torch.full(out.shape if keep else (0,), taps, dtype=index_dtype, device=u.device)
    ordinary = not bool(u.isnan().any() | kernel.isnan().any() | (kernel == -torch.inf).any())
    absent = (kernel == torch.inf).flatten(2).any(1).any(0).tolist()
    step = u.shape[1] if u.device.type != "cpu" else max(1, CHUNK * u.shape[1] // max(u.numel(), 1))
    for start in range(0, u.shape[1], step):
        part = slice(start, start + step)
        best = _best(sign * u[:, part].to(dtype), weights[part], winner[:, part] if keep else None, absent, ordinary)
        out[:, part] = sign * best
    return out, winner


def _best(u: Tensor, weights: Tensor, winner: Tensor | None, absent: list[bool], ordinary: bool) -> Tensor:
    """Greatest ``u - k``; writes the first taps that reach it into ``winner``. NaN cannot occur where ``ordinary``."""
    height, width = u.shape[-2:]
    ko, kh, kw = weights.shape[-3:]
    padded = F.pad(u, (kw // 2, kw // 2, kh // 2, kh // 2), value=-torch.inf)
    stride = u.shape[2] // weights.shape[1]
    best = u.new_full((*u.shape[:2], weights.shape[1], height, width), -torch.inf)
    value, wins = torch.empty_like(best), torch.empty(best.shape, dtype=torch.bool, device=u.device)
    for a in range(ko):
        turned = padded.roll(ko // 2 - a, dims=2)[:, :, ::stride]
        for t, (i, j) in enumerate(product(range(kh), range(kw)), a * kh * kw):
            weight = weights[:, :, a, i, j, None, None]
            torch.sub(turned[..., i : i + height, j : j + width], weight, out=value)
            if absent[t]:
                value.masked_fill_(weight == torch.inf, -torch.inf)
            if winner is not None:
                torch.gt(value, best, out=wins)
                if not ordinary:
                    wins |= value.isnan() & ~best.isnan()
                winner.masked_fill_(wins, t)
            torch.maximum(best, value, out=best)
    return best


def sources(winner: Tensor, sizes: list[int], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Per output: flat source position in [stride*Or*H*W], flat kernel position in [Or*taps], and if a tap won."""
    planes, height, width = stride * winner.shape[-3], winner.shape[-2], winner.shape[-1]
    ko, kh, kw = sizes
    taps = ko * kh * kw
    won = winner.long() < taps
    tap = winner.long().clamp(max=taps - 1)
    o, h, w = torch.meshgrid(*(torch.arange(n, device=winner.device) for n in winner.shape[-3:]), indexing="ij")
    plane = (stride * o + tap // (kh * kw) - ko // 2) % planes
    row = (h + tap // kw % kh - kh // 2).clamp(0, height - 1)
    column = (w + tap % kw - kw // 2).clamp(0, width - 1)
    return (plane * height + row) * width + column, o * taps + tap, won


def backward(grad: Tensor, winner: Tensor, sizes: list[int], stride: int) -> tuple[Tensor, Tensor]:
    """Gradient in u, and the sum of ``grad`` over the places each kernel entry won."""
    dtype = torch.promote_types(grad.dtype, torch.float32)
    source, entry, won = sources(winner, sizes, stride)
    flow = torch.where(won, grad.to(dtype), 0)
    shape = (*grad.shape[:2], stride * grad.shape[2], *grad.shape[3:])
    grad_u = torch.zeros(shape, dtype=dtype, device=grad.device).flatten(2)
    grad_u.scatter_add_(2, source.flatten(2), flow.flatten(2))
    orientations, taps = grad.shape[2], sizes[0] * sizes[1] * sizes[2]
    sums = torch.zeros(*grad.shape[:2], orientations * taps, dtype=torch.float64, device=grad.device)
    sums.scatter_add_(2, entry.flatten(2), flow.double().flatten(2))
    total = sums.sum(0).view(grad.shape[1], orientations, *sizes)
    return grad_u.view(shape).to(grad.dtype), total.to(grad.dtype)


def gather(grad_u: Tensor, grad_sums: Tensor, winner: Tensor, sizes: list[int], stride: int) -> Tensor:
    """Transpose of :func:`backward`: what each output's winning source and kernel entry hold."""
    source, entry, won = sources(winner, sizes, stride)
    from_u = grad_u.flatten(2).gather(2, source.flatten(2))
    from_kernel = grad_sums.flatten(1).expand(winner.shape[0], -1, -1).gather(2, entry.flatten(2))
    return torch.where(won, (from_u + from_kernel).view(winner.shape), 0)
