"""Kernels of (fractional) diffusion as functions of the squared distance, up to a constant factor."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._dtypes import wide_dtype
from pdegcnn._typing import from_numpy

Nodes = tuple[Tensor, Tensor, Tensor]
"""Angles u ``[N]``, logarithms of e ``[M]`` and weights ``[N,M]`` of sum about one, float64."""


def _nodes(angles: int, rates: int) -> Nodes:
    """Return the quadrature of the stable law in its two variables: Gauss-Legendre in u, trapezoidal in log e."""
    x, w = np.polynomial.legendre.leggauss(angles)
    grid = np.linspace(-12.0, 3.5, rates)
    weight = np.outer(w / 2, np.exp(grid - np.exp(grid)) * (grid[1] - grid[0]))
    return from_numpy((x + 1) * np.pi / 2), from_numpy(grid), from_numpy(weight)


COARSE, FINE = _nodes(24, 24), _nodes(48, 192)
FINE_BELOW = 0.3
"""Powers below need more nodes: scales spread as ``e^(1 / alpha)``."""
TABLE = (-16.0, 18.0, 160)
"""Logarithms of the squared distance, first, last and how many, between which a density is interpolated."""
HIGHEST = 60.0
"""Greatest logarithm of a rate of decay: the kernel has then long fallen to zero beside the unit element."""
SMALLEST_ALPHA = 0.1
"""Below this power the kernel's spread over scales outruns float32."""


def diffusion_profile(squared_distance: Tensor, alpha: float | Tensor, dim: int, time: float = 1.0) -> Tensor:
    r"""Return the kernel of :math:`\exp(-t (-\Delta)^\alpha)` up to a factor that does not depend on the distance.

    It is :math:`\exp(-d^2/4t)` for :math:`\alpha = 1` and :math:`(t^2 + d^2)^{-(n+1)/2}` for :math:`\alpha = 1/2`.
    Other powers integrate Gaussians over time with the one-sided stable law (subordination), by quadrature of Kanter's
    representation (*Ann. Probab.* 3, 1975). Half precision is computed in float32.

    Args:
        squared_distance: squared distances, any shape.
        alpha: power, in (0, 1]; may be a learned tensor of one number.
        dim: dimension n of the space.
        time: length of the step, positive.

    Raises:
        TypeError: if ``squared_distance`` is not a floating-point tensor.
        ValueError: if ``alpha`` or ``time`` is out of range, or ``alpha`` has several numbers.
    """
    _checks.tensor("squared_distance", squared_distance)
    alpha = _checks.power(alpha, 0.0, 1.0, open_low=True)
    time = _checks.plain_number("time", time, 0.0, math.inf, open_low=True)
    _checks.positive_int("dim", dim)
    return profile(squared_distance, alpha, dim, time)


def profile(squared_distance: Tensor, alpha: float | Tensor, dim: int, time: float) -> Tensor:
    """Return what :func:`diffusion_profile` returns, for arguments that were checked."""
    dtype = squared_distance.dtype
    squared_distance = squared_distance.to(wide_dtype(dtype))
    if not isinstance(alpha, Tensor):
        if alpha == 1.0:
            return torch.exp(-squared_distance / (4 * time)).to(dtype)
        if alpha == 0.5:
            return ((time**2 / (time**2 + squared_distance)) ** ((dim + 1) / 2)).to(dtype)
    log_s, log_weight = time_scales(squared_distance, alpha, time)
    log_mixture = log_weight - dim / 2 * log_s
    scale = torch.exp((-log_s).clamp_max(HIGHEST)) / 4
    amplitude = torch.exp(log_mixture - log_mixture.detach().logsumexp(0))
    return (torch.exp(-squared_distance[..., None] * scale) @ amplitude).to(dtype)


def time_scales(like: Tensor, alpha: float | Tensor, time: float) -> tuple[Tensor, Tensor]:
    """Return logarithms of the times s at which heat kernels are mixed, and of their weights, ``[nodes]`` each."""
    hidden = isinstance(alpha, Tensor) and (alpha.is_cuda or not _checks.has_values(alpha))  # a learned power is larger
    power = alpha.detach() if isinstance(alpha, Tensor) else alpha
    nodes = COARSE if hidden or float(power) >= FINE_BELOW else FINE
    u, log_e, weight = nodes[0].to(like), nodes[1].to(like), nodes[2].to(like)
    alpha = torch.as_tensor(alpha, dtype=like.dtype, device=like.device)
    # s = t^(1/a) (A(u)/E)^((1-a)/a), written so that alpha -> 1 gives s -> t
    rest = (1 - alpha).clamp_min(torch.finfo(alpha.dtype).tiny ** 0.5)  # the root: no product below is subnormal
    shape = rest * torch.log(torch.sin(rest * u)) + alpha * torch.log(torch.sin(alpha * u)) - torch.log(torch.sin(u))
    log_s = (math.log(time) + shape[:, None] - rest * log_e) / alpha
    return log_s.flatten(), torch.log(weight / weight.sum()).flatten()


def density(squared_distance: Tensor, alpha: float | Tensor, dim: int, time: float) -> Tensor:
    """Return the kernel of :func:`diffusion_profile` with integral one over flat space, away from distance zero.

    Interpolated in logarithms from a table, whatever the number of distances.
    """
    x = torch.log(squared_distance.clamp_min(torch.finfo(squared_distance.dtype).tiny))
    if not isinstance(alpha, Tensor) and alpha == 1.0:
        return torch.exp(-squared_distance / (4 * time) - dim / 2 * math.log(4 * math.pi * time))
    first, last, count = TABLE
    step = (last - first) / (count - 1)
    node = torch.arange(count, dtype=x.dtype, device=x.device) * step + first
    log_s, log_weight = time_scales(x, alpha, time)
    log_mixture = log_weight - dim / 2 * (log_s + math.log(4 * math.pi))
    rate = torch.exp((node[:, None] - log_s).clamp_max(HIGHEST)) / 4
    table = torch.logsumexp(log_mixture - rate, dim=1)
    place = ((x - first) / step).clamp(1, count - 3)
    cell = place.detach().floor()
    f, index = place - cell, cell.long()
    before, left, right, after = (table[index + i] for i in (-1, 0, 1, 2))
    bend = f * (1 - f) / 2  # cubic convolution (Keys 1981)
    line = (1 - f) * left + f * right
    second = (1 - f) * (before - 2 * left + right) + f * (left - 2 * right + after)
    return torch.exp(line - bend * second)


Scales = tuple[Tensor, Tensor]
"""What :func:`time_scales` returns."""


def mass_of_cell(half: Tensor, alpha: float | Tensor, time: float, scales: Scales | None = None) -> Tensor:
    """Return the integral ``[C]`` of the density over a box about the unit element, of half sides ``half [C,dim]``.

    ``scales`` are those of :func:`time_scales`, if they are known.
    """
    if not isinstance(alpha, Tensor) and alpha == 1.0:
        return torch.erf(half / math.sqrt(4 * time)).prod(-1)
    log_s, log_weight = scales or time_scales(half, alpha, time)
    inside = torch.erf(half[..., None] * torch.exp((-log_s / 2).clamp_max(HIGHEST)) / 2).prod(-2)
    return inside @ torch.exp(log_weight)


def radius_of_mass(alpha: float, dim: int, time: float = 1.0, tolerance: float = 1e-4) -> float:
    """Return the distance at which the profile falls to ``tolerance`` of its peak (Gaussian core, power-law tail)."""
    core = 2 * math.sqrt(-time * math.log(tolerance))
    if alpha == 1.0:
        return core
    return max(core, time ** (1 / (2 * alpha)) * tolerance ** (-1 / (dim + 2 * alpha)))
