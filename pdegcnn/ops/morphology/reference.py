"""Specification of the morphological convolutions: short, readable, differentiable torch."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


def morphological_convolution(
    u: Tensor, kernel: Tensor, sign: int = +1, stride: int = 1, periodic: bool = True
) -> Tensor:
    """Return ``max(u - k)`` (sign +1) or ``min(u + k)`` (sign -1) over the taps of a turned kernel.

    ``out[b,c,o,h,w] = max over (do,dh,dw) of u[b,c,(stride*o+do) mod planes,h+dh,w+dw] - kernel[c,o,do,dh,dw]``; taps
    outside the image, and without ``periodic`` beyond the first and last plane, are left out. Ties go to the first tap
    in the order (do, dh, dw). A kernel entry of +inf means that the tap is absent; an output without taps is -inf and
    has no gradient. A tap that is present and gives NaN makes the output NaN (the first such tap receives the
    gradient).
    """
    if sign == -1:
        return -morphological_convolution(-u, kernel, stride=stride, periodic=periodic)
    height, width = u.shape[-2:]
    ko, kh, kw = kernel.shape[-3:]
    beyond = 0 if periodic else ko // 2
    padded = F.pad(u, (kw // 2, kw // 2, kh // 2, kh // 2, beyond, beyond), value=-torch.inf)
    planes = slice(beyond, beyond + u.shape[2], stride)
    best = torch.full_like(u[:, :, ::stride], -torch.inf)
    for a, i, j in product(range(ko), range(kh), range(kw)):
        shifted = padded.roll(ko // 2 - a, dims=2)[:, :, planes, i : i + height, j : j + width]
        weight = kernel[:, :, a, i, j, None, None]
        value = torch.where(weight == torch.inf, -torch.inf, shifted - weight)
        best = torch.where((value > best) | (value.isnan() & ~best.isnan()), value, best)
    return best


def log_plus(
    u: Tensor, kernel: Tensor, temperature: Tensor, sign: int = +1, mean: bool = False, periodic: bool = True
) -> Tensor:
    """Return ``t log sum exp((u - k) / t)`` (sign +1) or ``-t log sum exp(-(u + k) / t)`` (sign -1) over the same taps.

    With ``mean`` the sum is divided by that of ``exp(-k / t)``. The temperature t is [] or [C].
    """
    if sign == -1:
        return -log_plus(-u, kernel, temperature, mean=mean, periodic=periodic)
    planes, height, width = u.shape[-3:]
    ko, kh, kw = kernel.shape[-3:]
    beyond = 0 if periodic else ko // 2
    margin = (kw // 2, kw // 2, kh // 2, kh // 2, beyond, beyond)
    padded, outside = F.pad(u, margin), F.pad(torch.zeros_like(u), margin, value=1.0)
    t, taps = temperature.view(-1, 1, 1, 1), []
    for a, i, j in product(range(ko), range(kh), range(kw)):
        moved = (x.roll(ko // 2 - a, dims=2)[:, :, beyond : beyond + planes] for x in (padded, outside))
        value, away = (x[..., i : i + height, j : j + width] for x in moved)
        weight = kernel[:, :, a, i, j, None, None]
        absent = (away > 0) | (weight == torch.inf)
        taps.append(torch.where(absent, -torch.inf, (value - torch.where(absent, 0, weight)) / t))
    value = t * torch.logsumexp(torch.stack(taps), 0)
    return value - log_plus(torch.zeros_like(u), kernel, temperature, periodic=periodic) if mean else value
