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
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import widen
from pdegcnn._typing import Function
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.group_convolution import pull as group_convolution_pull


class Scale(NamedTuple):
    """How exponentials are scaled in a dtype, so that the sums hold all terms that count.

    Attributes:
        dtype: the type in which the sums are computed.
        room: range of the signal, in temperatures, up to which they hold everything.
        lowered: the signal's exponentials are divided by the exponential of this (second derivatives underflow then),
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
    """Return ``t log sum exp((u - k) / t)`` over the taps; with ``mean`` the sum is divided by that of ``exp(-k / t)``.

    ``largest`` is the max-plus convolution.
    """
    given = temperature if isinstance(temperature, Tensor) else u.new_tensor(temperature, dtype=torch.float64)
    t = given.reshape(-1, 1, 1, 1)
    known = _transforms.differentiated(u, kernel, t)  # by transforms that need a formula
    scale = _fitting(widen(u.detach()), widen(kernel.detach()), t.detach(), known)
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
    norm = t * (inside.log() - scale.raised) - least
    if not complete:
        arguments = signal, weights, inside, t, scale, backend
        value = _mean(*arguments, complete=False)[0] if known else _Mean.apply(*arguments)
        return (value if mean else torch.where(total > 0, value + norm, -torch.inf)).to(u.dtype)
    value, _, ratio = _mean(signal, weights, inside, t, scale, backend, complete=True)
    floor = _beside_the_border(u, kernel, lambda ones: largest(0 * ones, kernel)).to(norm.dtype)
    norm = torch.where(total > smallest, torch.maximum(norm, floor), floor)
    bound = largest(u, kernel).to(norm.dtype)
    value, bound = (value, bound - norm) if mean else (value + norm, bound)
    return torch.where(_held(ratio, scale), torch.maximum(value, bound), bound).to(u.dtype)


def _fitting(u: Tensor, kernel: Tensor, t: Tensor, plain: bool) -> Scale | None:
    """Return the first scale that loses nothing, None where none is known; with ``plain`` one that lowers nothing."""
    if not all(map(_checks.has_values, (u, kernel, t))):
        return None
    if u.is_cuda and torch.cuda.is_current_stream_capturing():
        return None
    if not u.numel():
        return SCALES[-1]
    low, high = u.flatten(2).amin(2), u.flatten(2).amax(2)
    finite = torch.where(kernel == torch.inf, -torch.inf, kernel).flatten(2)
    least, centre = kernel.flatten(2).amin(2), finite[..., finite.shape[2] // 2]
    spread = torch.where(centre == least, 0, 2 * (finite.amax(2) - least))  # of taps that may be outside the image
    ranges = (high - low).double() / t.view(-1) + (spread.double() / t.view(-1, 1)).amax(1)
    needed, coldest, hottest = torch.stack((ranges.max(), t.min().double(), t.max().double())).tolist()
    for scale in SCALES:
        moderate = scale.dtype != torch.float32 or MODERATE[0] <= coldest <= hottest <= MODERATE[1]
        fits = u.dtype.itemsize <= scale.dtype.itemsize and not (plain and scale.lowered)
        if fits and moderate and coldest >= COLDEST and needed <= scale.room:
            return scale
    return None


def _weights(kernel: Tensor, t: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
    """Return ``exp((least - k) / t + raised)``, zero at absent taps, and the least cost of each plane [C,Or,1,1]."""
    finite = kernel.detach().isfinite()
    least = torch.where(finite, kernel.detach(), torch.inf).amin((2, 3, 4), keepdim=True)
    least = torch.where(least.isfinite(), least, 0)
    costs = torch.where(finite, kernel, least)
    weights = torch.where(finite, torch.exp((least - costs) / t[..., None] + scale.raised), 0)
    return weights, least[..., 0]


def _beside_the_border(u: Tensor, kernel: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``run`` of a signal of ones, [C,Or,H,W], on few pixels, because all away from the border are equal."""
    if _transforms.is_tracing():  # sizes are tensors, of which no smaller one can be taken
        return run(torch.ones_like(u[:1]))[0]
    kh, kw = kernel.shape[-2:]
    sizes = [cast("int", torch.sym_min(n, k)) for n, k in zip(u.shape[3:], (kh, kw))]
    found = run(u.new_ones(1, *u.shape[1:3], *sizes))[0]
    for axis, (n, k, size) in enumerate(zip(u.shape[3:], (kh, kw), sizes), 2):
        index = torch.arange(n, device=u.device)
        found = found.index_select(axis, index - (index - k // 2).clamp_min(0).clamp_max(n - size))
    return found


class _Mean(Function):
    """``t log(sum K exp(u / t) / sum K)`` where the sums hold everything, with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        value, *kept = _mean(*arguments, complete=False)
        *tensors, ctx.scale, ctx.backend = arguments
        ctx.save_for_backward(*tensors, *kept)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (u, weights, total, t, excess, ratio) = grads, ctx.saved_tensors
        needs = ctx.needs_input_grad[:4]
        graph = torch.is_grad_enabled()
        if graph or _transforms.is_batched(grad):  # what differentiates it needs a formula
            with torch.enable_grad():
                fresh = [x.view_as(x) if graph else x.detach().requires_grad_() for x in (u, weights, total, t)]
                first, second, third, fourth = (x.to(SCALES[-1].dtype) for x in fresh)
                value, *_ = _mean(first, second, third, fourth, SCALES[-1], ctx.backend, complete=False)
                value = value.to(grad.dtype)
            wanted = [x for x, need in zip(fresh, needs) if need]
            found = iter(torch.autograd.grad(value, wanted, grad, create_graph=graph))
            return *(next(found) if need else None for need in needs), None, None
        lowered = math.exp(-ctx.scale.lowered)
        slope = grad * t / (ratio + lowered).mul_(total)
        to_excess, to_weights = group_convolution_pull(slope, excess, weights, ctx.backend)
        to_total = -(slope.mul_(ratio)).sum(0) if needs[2] else None
        to_u = torch.addcmul(lowered * to_excess, to_excess, excess).div_(t)
        to_t = None
        if needs[3]:
            low = u.flatten(2).amin(2)[..., None, None, None]
            to_t = grad * _logarithm(ratio, ctx.scale) - (u - low).mul_(to_u).div_(t)
            to_t = to_t.sum_to_size(t.shape)
        return to_u, to_weights, to_total, to_t, None, None


def _mean(
    u: Tensor, weights: Tensor, total: Tensor, t: Tensor, scale: Scale, backend: str | None, complete: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``t log(sum K exp(u / t) / sum K)``, and what it is computed from.

    These are ``exp((u - a) / t) - 1`` and its mean Q.

    Both are divided by the exponential of ``scale.lowered``. With ``complete`` the signal may have any range, also
    infinite or NaN values, which are left out; where the sums do not hold the value, it is what belongs to Q = 0.
    """
    plain, lowered = u.detach(), math.exp(-scale.lowered)
    finite = plain.isfinite() if complete else None
    if finite is None:
        low = plain.flatten(2).amin(2)[..., None, None, None]
    else:
        low = torch.where(finite, plain, torch.inf).amin((2, 3, 4), keepdim=True)
        high = torch.where(finite, plain, -torch.inf).amax((2, 3, 4), keepdim=True)
        low = torch.where(low.isfinite(), torch.maximum(low, high - scale.room * t.detach()), 0)
        u = torch.where(finite, u, low)
    if scale.lowered:  # expm1(x) is half (half + 2), where half alone does not overflow
        half = torch.expm1((u - low) * (0.5 / t))
        excess = half * lowered * (half + 2)
    else:
        excess = torch.expm1((u - low) / t)
    if finite is not None:
        excess = torch.where(finite, excess, -lowered)
    ratio = group_convolution(excess, weights, "zeros", backend) / total
    held = torch.where(_held(ratio, scale), ratio, 0) if complete else ratio
    return low + t * _logarithm(held, scale), excess, ratio


def _held(ratio: Tensor, scale: Scale) -> Tensor:
    """Return where the sums are accurate; elsewhere most terms are below the range of exponentials."""
    return ratio > -0.5 * math.exp(-scale.lowered)


def _logarithm(ratio: Tensor, scale: Scale) -> Tensor:
    """Return ``log(1 + Q)`` for ``ratio = Q exp(-lowered)``."""
    if not scale.lowered:
        return torch.log1p(ratio)
    large, lowered = ratio > 1, math.exp(-scale.lowered)
    logarithm = torch.log1p(torch.where(large, ratio - 1 + lowered, ratio / lowered))
    return logarithm + torch.where(large, scale.lowered, 0.0)
