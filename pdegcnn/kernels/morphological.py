"""Kernels of dilation and erosion, and how far they reach."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms

FLAT_SLACK = 1e-5
"""Relative slack of the flat kernel's edge, so that rounding does not decide whether a tap at distance t belongs."""


def morphological_kernel(squared_distance: Tensor, alpha: float | Tensor, time: float = 1.0) -> Tensor:
    """``(2a-1)/(2a)^(2a/(2a-1)) t^(-1/(2a-1)) d^(2a/(2a-1))`` for 1/2 < alpha <= 1.

    At alpha = 1/2 it is flat: zero where d <= t, infinite elsewhere. The Legendre transform of
    ``|p|^(2 alpha)``. Source: Smets et al. (arXiv 2001.09046), section 5.

    Args:
        squared_distance: squared distances from the unit element, any shape; below zero (by rounding) counts as zero.
        alpha: half the power of the gradient, in [1/2, 1]; a tensor in (1/2, 1] when learned.
        time: length of the step, positive.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.kernels.morphological_kernel(torch.tensor([0.0, 1.0, 4.0]), alpha=1.0)
        tensor([0.0000, 0.2500, 1.0000])
    """
    _checks.tensor("squared_distance", squared_distance)
    _checks.interval("alpha", alpha, 0.5, 1.0, open_low=isinstance(alpha, Tensor))
    _checks.interval("time", time, 0.0, math.inf, open_low=True)
    if not isinstance(alpha, Tensor) and alpha == 0.5:
        inside = squared_distance <= (time * (1 + FLAT_SLACK)) ** 2
        return torch.where(inside, 0.0, torch.inf).to(squared_distance.dtype)
    excess = 2 * alpha - 1
    power = alpha / excess
    return (excess * (2 * alpha) ** (-2 * power) * time ** (-1 / excess)) * _raised(squared_distance, power)


def _raised(squared_distance: Tensor, power: float | Tensor) -> Tensor:
    """``d^(2 power)``, power at least one; at distance zero with the slope's own limit and no infinite second one."""
    learned = squared_distance.requires_grad or _transforms.differentiated(squared_distance)
    if not learned or (not isinstance(power, Tensor) and power == 1):
        return squared_distance.clamp_min(0) ** power
    none = squared_distance <= 0
    raised = torch.where(none, 1.0, squared_distance) ** power  # in its layout, which rounding depends on
    if isinstance(power, Tensor):  # the slope at zero is one where the power is
        return torch.where(none, squared_distance.clamp_min(0) * (power == 1), raised)
    return torch.where(none, 0.0, raised)


def kernel_slopes(squared_distance: Tensor, alpha: float | Tensor, time: float = 1.0) -> tuple[Tensor, Tensor]:
    """First and second derivative of :func:`morphological_kernel` in the squared distance, for alpha > 1/2.

    At the unit element the second one is taken as zero: there it multiplies a slope that vanishes.
    """
    excess = 2 * alpha - 1
    power = alpha / excess
    factor = excess * (2 * alpha) ** (-2 * power) * time ** (-1 / excess)
    away = squared_distance > 0
    safe = torch.where(away, squared_distance, torch.ones_like(squared_distance))
    at_zero = torch.ones_like(squared_distance) * (alpha == 1 if isinstance(alpha, Tensor) else float(alpha == 1))
    first = factor * power * torch.where(away, safe ** (power - 1), at_zero)
    second = factor * power * (power - 1) * torch.where(away, safe ** (power - 2), 0.0)
    return first, second


def radius_of_cost(cost: Tensor, alpha: float | Tensor, time: float = 1.0) -> Tensor:
    """Distance at which the morphological kernel equals ``cost``: taps further away cost more."""
    if not isinstance(alpha, Tensor) and alpha == 0.5:
        return torch.full_like(cost, time * (1 + FLAT_SLACK))
    excess = 2 * alpha - 1
    factor = excess * (2 * alpha) ** (-2 * alpha / excess) * time ** (-1 / excess)
    return (cost / factor) ** (excess / (2 * alpha))
