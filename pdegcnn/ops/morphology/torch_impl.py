"""Morphological convolution in plain torch on any device: shifts and comparisons, backward by winning tap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn._dtypes import wide_dtype, widen

CHUNK = 2**17
"""Outputs worked on at once on a CPU, so that they stay in its cache."""


def forward(
    u: Tensor, kernel: Tensor, sign: int, keep: bool, index_dtype: torch.dtype, periodic: bool
) -> tuple[Tensor, Tensor]:
    """Return values, and the rows of the winning taps where ``keep`` (else an empty tensor)."""
    dtype = wide_dtype(u.dtype)
    rows = kernel.shape[2] * kernel.shape[3]
    weights = kernel.to(dtype)
    out = u.new_empty(*u.shape[:2], kernel.shape[1], *u.shape[3:])
    winner = torch.full(out.shape if keep else (0,), rows, dtype=index_dtype, device=u.device)
    ordinary = not bool(u.isnan().any() | kernel.isnan().any() | (kernel == -torch.inf).any())
    absent = (kernel == torch.inf).flatten(2).any(1).any(0).tolist()
    step = u.shape[1] if u.device.type != "cpu" else max(1, CHUNK * u.shape[1] // max(u.numel(), 1))
    for start in range(0, u.shape[1], step):
        part = slice(start, start + step)
        noted = winner[:, part] if keep else None
        best = _best(sign * u[:, part].to(dtype), weights[part], noted, absent, ordinary, periodic)
        out[:, part] = sign * best
    return out, winner


def _best(
    u: Tensor, weights: Tensor, winner: Tensor | None, absent: list[bool], ordinary: bool, periodic: bool
) -> Tensor:
    """Return the greatest ``u - k``; write the rows of the first taps that attain it into ``winner``.

    NaN cannot occur where ``ordinary``.
    """
    height, width = u.shape[-2:]
    ko, kh, kw = weights.shape[-3:]
    beyond = 0 if periodic else ko // 2
    padded = F.pad(u, (kw // 2, kw // 2, kh // 2, kh // 2, beyond, beyond), value=-torch.inf)
    planes = slice(beyond, beyond + u.shape[2], u.shape[2] // weights.shape[1])
    best = u.new_full((*u.shape[:2], weights.shape[1], height, width), -torch.inf)
    value, wins = torch.empty_like(best), torch.empty(best.shape, dtype=torch.bool, device=u.device)
    for a in range(ko):
        turned = padded.roll(ko // 2 - a, dims=2)[:, :, planes]
        for t, (i, j) in enumerate(product(range(kh), range(kw)), a * kh * kw):
            weight = weights[:, :, a, i, j, None, None]
            torch.sub(turned[..., i : i + height, j : j + width], weight, out=value)
            if absent[t]:
                value.masked_fill_(weight == torch.inf, -torch.inf)
            if winner is not None:
                torch.gt(value, best, out=wins)
                if not ordinary:
                    wins |= value.isnan() & ~best.isnan()
                winner.masked_fill_(wins, a * kh + i)
            torch.maximum(best, value, out=best)
    return best


def _places(rows: Tensor, sizes: Sequence[int], planes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return flat indices in [planes*H] of the lines that rows of taps read, and of the rows in [Or*KO*KH].

    The third result says whether the row exists and its line is inside.
    """
    orientations, height, _ = rows.shape[-3:]
    ko, kh = sizes[:2]
    row = rows.long()
    inner = row.clamp(max=ko * kh - 1)
    o = torch.arange(orientations, device=rows.device)[:, None, None]
    plane = (planes // orientations * o + inner // kh - ko // 2) % planes
    line = torch.arange(height, device=rows.device)[:, None] + inner % kh - kh // 2
    exists = (row < ko * kh) & (line >= 0) & (line < height)
    return plane * height + line.clamp(0, height - 1), o * (ko * kh) + inner, exists


def winning_taps(rows: Tensor, u: Tensor, kernel: Tensor, sign: int) -> Tensor:
    """Return numbers of the winning taps, int64 like ``rows``, which hold their rows.

    KO*KH*KW stands for none.
    """
    ko, kh, kw = kernel.shape[2:]
    width = u.shape[-1]
    line, entry, exists = _places(rows, kernel.shape[2:], u.shape[2])
    signal, weights = (sign * widen(u)).flatten(2), widen(kernel).flatten(1).expand(u.shape[0], -1, -1)
    best = torch.full(rows.shape, -torch.inf, dtype=signal.dtype, device=u.device)
    taps = torch.full(rows.shape, ko * kh * kw, device=u.device)
    for j in range(kw):
        column = torch.arange(width, device=u.device) + (j - kw // 2)
        place = line * width + column.clamp(0, width - 1)
        weight = weights.gather(2, (entry * kw + j).flatten(2)).view(rows.shape)
        value = signal.gather(2, place.flatten(2)).view(rows.shape) - weight
        absent = (weight == torch.inf) | ~exists | (column < 0) | (column >= width)
        value = torch.where(absent, -torch.inf, value)
        wins = (value > best) | (value.isnan() & ~best.isnan())
        best = torch.where(wins, value, best)
        taps = torch.where(wins, rows.long() * kw + j, taps)
    return taps


def _sources(taps: Tensor, sizes: Sequence[int], planes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return flat source positions in [planes*H*W] and kernel positions in [Or*(taps)], and whether a tap won."""
    kw, width = sizes[2], taps.shape[-1]
    line, entry, won = _places(taps // kw, sizes, planes)
    tap = taps % kw
    column = (torch.arange(width, device=taps.device) + tap - kw // 2).clamp(0, width - 1)
    return line * width + column, entry * kw + tap, won


def backward(grad: Tensor, rows: Tensor, u: Tensor, kernel: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Return gradients in u and kernel."""
    sizes = kernel.shape[2:]
    source, entry, won = _sources(winning_taps(rows, u, kernel, sign), sizes, u.shape[2])
    flow = torch.where(won, widen(grad), 0)
    grad_u = flow.new_zeros(u.shape).flatten(2)
    grad_u.scatter_add_(2, source.flatten(2), flow.flatten(2))
    sums = torch.zeros(*grad.shape[:2], kernel[0].numel(), dtype=torch.float64, device=grad.device)
    sums.scatter_add_(2, entry.flatten(2), flow.double().flatten(2))
    return grad_u.view(u.shape).to(grad.dtype), -sign * sums.sum(0).view(kernel.shape).to(grad.dtype)


def read(taps: Tensor, u: Tensor, kernel: Tensor, sign: int) -> Tensor:
    """Read the value of every output at its winning tap by differentiable torch."""
    source, entry, won = _sources(taps, kernel.shape[2:], u.shape[2])
    from_u = u.flatten(2).gather(2, source.flatten(2))
    from_kernel = kernel.flatten(1).expand(u.shape[0], -1, -1).gather(2, entry.flatten(2))
    return torch.where(won, (from_u - sign * from_kernel).view(taps.shape), -sign * torch.inf)
