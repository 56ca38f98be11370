"""The log-plus convolution ``t log sum exp((u - k) / t)``, from one linear convolution of exponentials.

With a the least value of a plane, ``K = exp(-k / t)`` and ``N = sum of K`` over the taps inside the image, the result
is ``t log N`` plus a mean over the taps, ``a + t log(1 + Q)`` with ``Q = sum of K (exp((u - a) / t) - 1) / N``. No term
of Q is negative, so neither a temperature far above the range of u nor a constant u loses digits.

Exponentials have a limited range. Where the signal's range fits, float32 is taken; else float64; beyond that, and where
code is traced and values cannot be looked at, the max-plus convolution fills in what the sums cannot hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._dtypes import widen
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.group_convolution import group_convolution


class Scale(NamedTuple):
    """How exponentials are scaled in a dtype, so that the sums hold all terms that count.

    Attributes:
        dtype: the type in which the sums are computed.
        room: range of the signal, in temperatures, up to which they hold everything.
        lowered: the signal's exponentials are divided by the exponential of this,
        raised: the kernel's are multiplied by the exponential of this.
    """

    dtype: torch.dtype
    room: float
    lowered: float
    raised: float


SCALES = (
    Scale(torch.float32, 76.0, 0.0, 6.5),
    Scale(torch.float32, 102.0, 51.0, 32.0),
    Scale(torch.float64, 685.0, 0.0, 15.0),
    Scale(torch.float64, 914.0, 457.0, 243.0),
)
"""The first that fits is taken. Products stay below ``exp(83)`` in float32 and ``exp(700)`` in float64, and a weight
that underflows would change the sum by less than rounding, if the centre of the kernel costs least."""
MODERATE = (1e-12, 1e12)
"""Temperatures whose squares float32 holds."""
COLDEST = 1e-100
"""Lower temperatures are taken as this one, whose square float64 holds."""


def log_plus(
    u: Tensor,
    kernel: Tensor,
    temperature: Tensor | float,
    backend: str | None,
    largest: Callable[[Tensor, Tensor], Tensor],
    mean: bool,
) -> Tensor:
    """``t log sum exp((u - k) / t)`` over the taps; with ``mean`` the sum is divided by that of ``exp(-k / t)``.

    ``largest`` is the max-plus convolution.
    """
    t = torch.as_tensor(temperature, device=u.device).reshape(-1, 1, 1, 1)
    scale = _fitting(widen(u.detach()), widen(kernel.detach()), t.detach())
    complete = scale is None
    scale = SCALES[-1] if scale is None else scale
    signal, costs, t = (x.to(scale.dtype) for x in (u, kernel, t))
    t = t.clamp_min(COLDEST) if complete else t
    if backend is None and u.is_cuda and not _backend.refusal("group_convolution", "triton", "cuda", scale.dtype):
        backend = "triton"  # conv2d may take algorithms whose errors are those of the greatest value nearby
    weights, least = _weights(costs, t, scale)
    total = _beside_the_border(signal, weights, lambda ones: group_convolution(ones, weights, "zeros", backend))
    smallest = torch.finfo(scale.dtype).tiny
    inside = total.clamp_min(smallest)
    value, held = _mean(signal, weights, inside, t, scale, complete, backend)
    norm = t * (inside.log() - scale.raised) - least
    if not complete:
        return (value if mean else torch.where(total > 0, value + norm, -torch.inf)).to(u.dtype)
    floor = _beside_the_border(u, kernel, lambda ones: largest(0 * ones, kernel)).to(norm.dtype)
    norm = torch.where(total > smallest, torch.maximum(norm, floor), floor)
    bound = largest(u, kernel).to(norm.dtype)
    value, bound = (value, bound - norm) if mean else (value + norm, bound)
    return torch.where(held, torch.maximum(value, bound), bound).to(u.dtype)


def _fitting(u: Tensor, kernel: Tensor, t: Tensor) -> Scale | None:
    """The first scale that loses nothing, None where none is known to."""
    if not all(map(_checks.has_values, (u, kernel, t))):
        return None
    if u.is_cuda and torch.cuda.is_current_stream_capturing():
        return None
    if not u.numel():
        return SCALES[2]
    low, high = torch.aminmax(u.flatten(2), dim=2)
    finite = torch.where(kernel == torch.inf, -torch.inf, kernel).flatten(2)
    least, centre = kernel.flatten(2).amin(2), finite[..., finite.shape[2] // 2]
    spread = torch.where(centre == least, 0, 2 * (finite.amax(2) - least))  # of taps that may be outside the image
    ranges = (high - low).double() / t.view(-1) + (spread.double() / t.view(-1, 1)).amax(1)
    needed, coldest, hottest = torch.stack((ranges.max(), t.min().double(), t.max().double())).tolist()
    for scale in SCALES:
        moderate = scale.dtype != torch.float32 or MODERATE[0] <= coldest <= hottest <= MODERATE[1]
        if u.dtype.itemsize <= scale.dtype.itemsize and moderate and coldest >= COLDEST and needed <= scale.room:
            return scale
    return None


def _weights(kernel: Tensor, t: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
    """``exp((least - k) / t + raised)``, zero at absent taps, and the least finite cost of each plane [C,Or,1,1]."""
    finite = kernel.detach().isfinite()
    least = torch.where(finite, kernel.detach(), torch.inf).amin((2, 3, 4), keepdim=True)
    least = torch.where(least.isfinite(), least, 0)
    costs = torch.where(finite, kernel, least)
    weights = torch.where(finite, torch.exp((least - costs) / t[..., None] + scale.raised), 0)
    return weights, least[..., 0]


def _beside_the_border(u: Tensor, kernel: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """``run`` of a signal of ones like one of u, [C,Or,H,W]: of few pixels, for away from the border all are alike."""
    kh, kw = kernel.shape[-2:]
    sizes = [cast("int", torch.sym_min(n, k)) for n, k in zip(u.shape[3:], (kh, kw))]
    found = run(u.new_ones(1, *u.shape[1:3], *sizes))[0]
    for axis, (n, k, size) in enumerate(zip(u.shape[3:], (kh, kw), sizes), 2):
        index = torch.arange(n, device=u.device)
        found = found.index_select(axis, index - (index - k // 2).clamp_min(0).clamp_max(n - size))
    return found


def _mean(
    u: Tensor, weights: Tensor, total: Tensor, t: Tensor, scale: Scale, complete: bool, backend: str | None
) -> tuple[Tensor, Tensor]:
    """``t log(sum K exp(u / t) / sum K)``, and where the sums hold it, if it is not everywhere (``complete``).

    Only there can the signal be infinite or NaN: such taps are left out.
    """
    plain = u.detach()
    if complete:
        finite = plain.isfinite()
        low = torch.where(finite, plain, torch.inf).amin((2, 3, 4), keepdim=True)
        high = torch.where(finite, plain, -torch.inf).amax((2, 3, 4), keepdim=True)
        low = torch.where(low.isfinite(), torch.maximum(low, high - scale.room * t.detach()), 0)
        u = torch.where(finite, u, low)
    else:
        finite = torch.ones((), dtype=torch.bool, device=u.device)
        low = plain.flatten(2).amin(2)[..., None, None, None]
    lowered = math.exp(-scale.lowered)
    half = torch.expm1((u - low) * (0.5 / t))  # expm1(x) is half (half + 2), where half alone does not overflow
    excess = half * lowered * (half + 2) if scale.lowered else half * (half + 2)
    if complete:
        excess = torch.where(finite, excess, -lowered)
    ratio = group_convolution(excess, weights, "zeros", backend) / total
    held = finite
    if complete:
        held = ratio > -0.5 * lowered
        ratio = torch.where(held, ratio, 0)
    if not scale.lowered:
        return low + t * torch.log1p(ratio), held
    large = ratio > 1
    logarithm = torch.log1p(torch.where(large, ratio - 1 + lowered, ratio / lowered))
    return low + t * (logarithm + torch.where(large, scale.lowered, 0.0)), held
