"""Kernels of dilation and erosion, and their radii."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._dtypes import HALF, widen

FLAT_SLACK = 1e-5
"""Relative slack of the flat kernel's edge, so that rounding does not decide whether a tap at distance t belongs."""
MOST_COST = 0.6
"""Costs above the dtype's largest number to this power are infinite, so that their slopes and curvatures are finite."""
HIGHEST = 700.0
"""Greatest logarithm of a float."""
MILD = 20.0
"""Greatest logarithm of the time's factor ``t^(-1/(2a-1))`` that is computed as it is written."""

Law = Sequence[float | Tensor]
"""Factor, unit and power of a kernel, see :func:`cost_law`."""


def cost_law(alpha: float | Tensor, time: float) -> tuple[float | Tensor, float | Tensor, float | Tensor]:
    """Return factor, unit and power of the kernel ``factor * (d^2 / unit)^power`` for alpha > 1/2, without overflow.

    The unit is one, or ``t^2`` where ``t^(-1/(2a-1))`` is far from one: as the power is ``a/(2a-1)``, the factor then
    has t instead. A learned alpha in half precision gives float32.
    """
    if isinstance(alpha, Tensor):
        alpha = widen(alpha)
    excess = 2 * alpha - 1
    power = alpha / excess
    mild = abs(math.log(time)) <= MILD * excess
    if isinstance(mild, Tensor):
        exponent = torch.where(mild, -1 / excess, 1.0)
        unit = torch.where(mild, torch.ones_like(exponent), time**2)
    else:
        exponent, unit = (-1 / excess, 1.0) if mild else (1.0, time**2)
    return excess * (2 * alpha) ** (-2 * power) * time**exponent, unit, power


def morphological_kernel(squared_distance: Tensor, alpha: float | Tensor, time: float = 1.0) -> Tensor:
    r"""Return the kernel of dilation and erosion, the Legendre transform of :math:`t\,|p|^{2\alpha}`.

    .. math:: k(d) = \frac{2\alpha-1}{(2\alpha)^{2\alpha/(2\alpha-1)}}\, t^{-1/(2\alpha-1)}\, d^{2\alpha/(2\alpha-1)}
        \quad\text{for } \tfrac12 < \alpha \le 1

    For :math:`\alpha = 1/2` it is zero where :math:`d \le t` and infinite elsewhere. Costs near the largest number of
    the dtype become infinite, without gradient. Half precision is computed in float32. Source: Smets et al.
    (arXiv 2001.09046), section 5.

    Args:
        squared_distance: squared distances from the unit element, any shape; negative ones (by rounding) count as zero.
        alpha: half the power of the gradient, in [1/2, 1]; may be a tensor of one number, in (1/2, 1] when learned.
        time: length of the step, positive.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.kernels.morphological_kernel(torch.tensor([0.0, 1.0, 4.0]), alpha=1.0)
        tensor([0.0000, 0.2500, 1.0000])
    """
    _checks.tensor("squared_distance", squared_distance)
    alpha = _checks.power(alpha, 0.5, 1.0)
    time = _checks.plain_number("time", time, 0.0, math.inf, open_low=True)
    return cost(squared_distance, alpha, time)


def cost(squared_distance: Tensor, alpha: float | Tensor, time: float) -> Tensor:
    """Return what :func:`morphological_kernel` returns, for arguments that were checked."""
    time = float(time)  # squares of large ints do not fit tensors
    if not isinstance(alpha, Tensor) and alpha == 0.5:
        inside = squared_distance <= (time * (1 + FLAT_SLACK)) ** 2
        return torch.where(inside, 0.0, torch.inf).to(squared_distance.dtype)
    squared = widen(squared_distance) if squared_distance.dtype in HALF else squared_distance
    return cost_by_law(squared, cost_law(alpha, time)).to(squared_distance.dtype)


def cost_by_law(squared: Tensor, law: Law) -> Tensor:
    """Return what :func:`cost` returns for squared distances in single or double precision, by :func:`cost_law`."""
    factor, unit, power = law
    if not isinstance(power, Tensor) and power == 1:
        value = factor / unit * squared.clamp_min(0)
    else:
        base, away, near = _bounded(squared if isinstance(unit, float) and unit == 1.0 else squared / unit, power)
        centre = factor / unit * squared.clamp_min(0) * (power == 1) if isinstance(power, Tensor) else 0.0  # at alpha 1
        value = torch.where(away, torch.where(near, factor * base**power, torch.inf), centre)
    return value.to(squared.dtype)


def _bounded(base: Tensor, power: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Set the base of a power to one where it is not positive or the power exceeds ``MOST_COST``; return the rest."""
    away = ~(base <= 0)
    most = MOST_COST * math.log(torch.finfo(base.dtype).max)
    if isinstance(power, Tensor):
        near = ~(power * torch.where(away, base, 1.0).log() > most)
    else:
        near = ~(base > math.exp(min(most / power, HIGHEST)))
    return torch.where(away & near, base, 1.0), away, near


def kernel_slopes(squared_distance: Tensor, alpha: float | Tensor, time: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the first and second derivative of :func:`morphological_kernel` in the squared distance, for alpha > 1/2.

    At the unit element the second one is taken as zero: there it multiplies a slope that vanishes. Both are at most
    the dtype's largest number to the power ``MOST_COST``.
    """
    return slopes_by_law(squared_distance, cost_law(alpha, time))


def slopes_by_law(squared: Tensor, law: Law) -> tuple[Tensor, Tensor]:
    """Return what :func:`kernel_slopes` returns, by :func:`cost_law`."""
    factor, unit, power = law
    base, away, near = _bounded(squared / unit, power)
    most = torch.finfo(base.dtype).max ** MOST_COST
    at_zero = torch.ones_like(base) * (power == 1 if isinstance(power, Tensor) else float(power == 1))
    first = factor * power / unit * torch.where(away, base ** (power - 1), at_zero)
    second = factor * power * (power - 1) / unit**2 * torch.where(away, base ** (power - 2), 0.0)
    return torch.where(near, first, most).clamp_max(most), torch.where(near, second, most).clamp_max(most)


def radius_of_cost(cost: Tensor, alpha: float | Tensor, time: float = 1.0) -> Tensor:
    """Return the distance at which the morphological kernel equals ``cost``: taps further away cost more."""
    cost = widen(cost)
    if not isinstance(alpha, Tensor) and alpha == 0.5:
        return torch.full_like(cost, time * (1 + FLAT_SLACK))
    factor, unit, power = cost_law(alpha, time)
    return (cost / factor) ** (0.5 / power) * unit**0.5
