"""Log-plus convolutions ``t log sum exp((u - k) / t)`` of every geometry, from one linear convolution of exponentials.

With a the least value of a signal, ``K = exp(-k / t)`` and ``N = sum of K`` over the taps that exist, the result
is ``t log N`` plus a mean over the taps, ``a + t log(1 + Q)`` with ``Q = sum of K (exp((u - a) / t) - 1) / N``. No term
of Q is negative, so neither a temperature far above the range of u nor a constant u loses digits.

Exponentials have a limited range. Where the signal's range fits, float32 is taken; else float64; beyond that, and in
traced code, whose values cannot be read, the max-plus convolution replaces sums that underflow.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import widen
from pdegcnn._typing import Function


class Scale(NamedTuple):
    """Scaling of exponentials in a dtype, so that sums hold all relevant terms.

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
that underflows would change the sum by less than rounding, if a tap that every output has costs least."""
MODERATE = (1e-12, 1e12)
"""Temperatures whose squares float32 holds."""
COLDEST = 1e-100
"""Lower temperatures are taken as this one, whose square float64 holds."""


class Sums(ABC):
    """A linear convolution of signals ``[B,C,...]`` with weights."""

    @abstractmethod
    def add(self, u: Tensor, weights: Tensor) -> Tensor:
        """Return the sum of u times the weights over the taps; nothing outside counts."""

    def least(self, u: Tensor) -> Tensor:
        """Return the least value that outputs depend on, for broadcasting: of every channel, [B,C,1,...]."""
        return u.flatten(2).amin(2).reshape(*u.shape[:2], *(1 for _ in u.shape[2:]))


class Taps(Sums):
    """The same with weights ``[C,lists,...]``, and its max-plus counterpart."""

    @abstractmethod
    def pull(self, grad: Tensor, u: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of :meth:`add` in u and the weights; they are not recorded."""

    @abstractmethod
    def largest(self, u: Tensor, costs: Tensor) -> Tensor:
        """Return the maximum of u less the costs over the taps."""

    @abstractmethod
    def total(self, u: Tensor, weights: Tensor) -> Tensor:
        """Return :meth:`add` of one signal of ones like those of u, ``[C,...]``."""

    @abstractmethod
    def cheapest(self, u: Tensor, costs: Tensor) -> Tensor:
        """Return :meth:`largest` of one signal of zeros like those of u, ``[C,...]``."""

    @abstractmethod
    def extra_cost(self, costs: Tensor) -> Tensor:
        """Return by how much the taps that every output has exceed the least cost, ``[C]``."""


def soft_extremum(
    u: Tensor, costs: Tensor, temperature: Tensor | float, sign: int, taps: Taps, *, mean: bool
) -> Tensor:
    """Return the log-plus convolution with sign +1, or with -1 that of -u, reversed; see :func:`_log_plus`."""
    if _checks.autocasts(u.device):
        with torch.autocast(u.device.type, enabled=False):  # sums in half precision would be inaccurate
            return soft_extremum(u, costs, temperature, sign, taps, mean=mean)
    if sign == -1:
        return -_log_plus(-u, costs, temperature, taps, mean)
    return _log_plus(u, costs, temperature, taps, mean)


def _log_plus(u: Tensor, costs: Tensor, temperature: Tensor | float, taps: Taps, mean: bool) -> Tensor:
    """Return ``t log sum exp((u - k) / t)`` over the taps.

    With ``mean`` the sum is divided by that of ``exp(-k / t)``.
    """
    given = temperature
    if not isinstance(given, Tensor):
        given = torch.tensor(given, dtype=torch.float64, device=u.device)
    t = given.reshape(-1, *(1 for _ in u.shape[2:]))
    known = _transforms.differentiated(u, costs, t)  # by transforms that need a formula
    scale = fitting(u, t, taps.extra_cost(widen(costs.detach())), known)
    complete = scale is None
    scale = SCALES[-1] if scale is None else scale
    signal, prices, t = (x.to(scale.dtype) for x in (u, costs, t))
    t = t.clamp_min(COLDEST) if complete else t
    weights, least = _weights(prices, t, scale)
    least = least.reshape(*least.shape, *(1 for _ in u.shape[3:]))
    total = taps.total(signal, weights)
    smallest = torch.finfo(scale.dtype).tiny
    inside = total.clamp_min(smallest)
    norm = t * (inside.log() - scale.raised) - least
    if not complete:
        arguments = signal, weights, inside, t, scale, taps
        value = soft_mean(*arguments, complete=False)[0] if known else _Mean.apply(*arguments)
        return (value if mean else torch.where(total > 0, value + norm, -torch.inf)).to(u.dtype)
    value, _, ratio = soft_mean(signal, weights, inside, t, scale, taps, complete=True)
    floor = taps.cheapest(u, costs).to(norm.dtype)
    norm = torch.where(total > smallest, torch.maximum(norm, floor), floor)
    bound = taps.largest(u, costs).to(norm.dtype)
    value, bound = (value, bound - norm) if mean else (value + norm, bound)
    return torch.where(held(ratio, scale), torch.maximum(value, bound), bound).to(u.dtype)


def fitting(u: Tensor, t: Tensor, extra_cost: Tensor, plain: bool) -> Scale | None:
    """Return the first scale without loss of precision, or None; with ``plain`` one that does not lower weights.

    ``extra_cost [C]``: see :class:`Taps`.
    """
    if not all(map(_checks.has_values, (u, t, extra_cost))):
        return None
    u, t = widen(u.detach()), t.detach()
    if u.is_cuda and torch.cuda.is_current_stream_capturing():
        return None
    if not u.numel():
        return SCALES[-1]
    low, high = u.flatten(2).amin(2), u.flatten(2).amax(2)
    ranges = ((high - low).double() + extra_cost.double()) / t.view(-1)
    needed, coldest, hottest = torch.stack((ranges.max(), t.min().double(), t.max().double())).tolist()
    for scale in SCALES:
        moderate = scale.dtype != torch.float32 or MODERATE[0] <= coldest <= hottest <= MODERATE[1]
        fits = u.dtype.itemsize <= scale.dtype.itemsize and not (plain and scale.lowered)
        if fits and moderate and coldest >= COLDEST and needed <= scale.room:
            return scale
    return None


def _weights(costs: Tensor, t: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
    """Return ``exp((least - k) / t + raised)``, zero at absent taps, and the least finite costs [C,lists]."""
    flat = costs.flatten(2)
    finite = flat.detach().isfinite()
    least = torch.where(finite, flat.detach(), torch.inf).amin(2, keepdim=True)
    least = torch.where(least.isfinite(), least, 0)
    exponents = (least - torch.where(finite, flat, least)) / t.reshape(-1, 1, 1) + scale.raised
    return torch.where(finite, torch.exp(exponents), 0).view(costs.shape), least[..., 0]


class _Mean(Function):
    """``t log(sum K exp(u / t) / sum K)`` where sums do not underflow, with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        value, *kept = soft_mean(*arguments, complete=False)
        *tensors, ctx.scale, ctx.taps = arguments
        ctx.save_for_backward(*tensors, *kept)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (u, weights, total, t, excess, ratio) = grads, ctx.saved_tensors
        needs = ctx.needs_input_grad[:4]
        if torch.is_grad_enabled() or _transforms.is_batched(grad):  # further derivatives need a formula

            def formula(*given: Tensor) -> Tensor:
                first, second, third, fourth = (x.to(SCALES[-1].dtype) for x in given)
                return soft_mean(first, second, third, fourth, SCALES[-1], ctx.taps, complete=False)[0].to(grad.dtype)

            return *_transforms.pull(formula, grad, (u, weights, total, t), needs), None, None
        lowered = math.exp(-ctx.scale.lowered)
        slope = grad * t / (ratio + lowered).mul_(total)
        to_excess, to_weights = ctx.taps.pull(slope, excess, weights)
        to_total = -slope.mul_(ratio).sum_to_size(total.shape) if needs[2] else None
        to_u = torch.addcmul(lowered * to_excess, to_excess, excess).div_(t)
        to_t = None
        if needs[3]:
            to_t = grad * _logarithm(ratio, ctx.scale) - (u - ctx.taps.least(u)).mul_(to_u).div_(t)
            to_t = to_t.sum_to_size(t.shape)
        return to_u, to_weights, to_total, to_t, None, None


def soft_mean(
    u: Tensor, weights: Tensor, total: Tensor, t: Tensor, scale: Scale, taps: Sums, complete: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``t log(sum K exp(u / t) / sum K)``, ``exp((u - a) / t) - 1`` and the mean Q of the latter.

    Both are divided by the exponential of ``scale.lowered``. With ``complete`` the signal may have any range, also
    infinite or NaN values, which are left out; where the sums underflow, the value is that of Q = 0.
    """
    plain, lowered = u.detach(), math.exp(-scale.lowered)
    finite = plain.isfinite() if complete else None
    if finite is None:
        low = taps.least(plain)
    else:
        low = taps.least(torch.where(finite, plain, torch.inf))
        high = -taps.least(torch.where(finite, -plain, torch.inf))
        low = torch.where(low.isfinite(), torch.maximum(low, high - scale.room * t.detach()), 0)
        u = torch.where(finite, u, low)
    if scale.lowered:  # expm1(x) is half (half + 2), where half alone does not overflow
        half = torch.expm1((u - low) * (0.5 / t))
        excess = half * lowered * (half + 2)
    else:
        excess = torch.expm1((u - low) / t)
    if finite is not None:
        excess = torch.where(finite, excess, -lowered)
    ratio = taps.add(excess, weights) / total
    known = torch.where(held(ratio, scale), ratio, 0) if complete else ratio
    return low + t * _logarithm(known, scale), excess, ratio


def held(ratio: Tensor, scale: Scale) -> Tensor:
    """Return where the sums are accurate; elsewhere most terms are below the range of exponentials."""
    return ratio > -0.5 * math.exp(-scale.lowered)


def _logarithm(ratio: Tensor, scale: Scale) -> Tensor:
    """Return ``log(1 + Q)`` for ``ratio = Q exp(-lowered)``."""
    if not scale.lowered:
        return torch.log1p(ratio)
    large, lowered = ratio > 1, math.exp(-scale.lowered)
    logarithm = torch.log1p(torch.where(large, ratio - 1 + lowered, ratio / lowered))
    return logarithm + torch.where(large, scale.lowered, 0.0)
