"""Kernels of (fractional) diffusion as functions of the squared distance, up to a constant factor."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import from_numpy

NODES = 24
"""Quadrature nodes in each of the two variables of the stable law: Gauss-Legendre in u, trapezoidal in log e."""
_X, _W = np.polynomial.legendre.leggauss(NODES)
_GRID = np.linspace(-12.0, 3.5, NODES)
_U = from_numpy((_X + 1) * np.pi / 2)
_WEIGHT = from_numpy(np.outer(_W / 2, np.exp(_GRID - np.exp(_GRID)) * (_GRID[1] - _GRID[0])))
_LOG_E = from_numpy(_GRID)
HIGHEST = 60.0
"""Greatest logarithm of a rate of decay: the kernel has then long fallen to zero beside the unit element."""
SMALLEST_ALPHA = 0.1
"""Below this power the kernel's spread over scales outruns float32."""


def diffusion_profile(squared_distance: Tensor, alpha: float | Tensor, dim: int, time: float = 1.0) -> Tensor:
    """Kernel of ``exp(-t (-Laplacian)^alpha)`` up to a factor that does not depend on the distance.

    alpha = 1: ``exp(-d^2/4t)``; alpha = 1/2: ``(t^2 + d^2)^(-(n+1)/2)``; else the Gaussians mixed over time by the
    one-sided stable law (subordination; the law through Kanter's representation, *Ann. Probab.* 3 (1975), by
    quadrature). Half precision is computed in float32.

    Args:
        squared_distance: any shape.
        alpha: power, in (0, 1]; may be a learned tensor.
        dim: dimension n of the space.
        time: length of the step, positive.

    Raises:
        TypeError: ``squared_distance`` is no floating-point tensor.
        ValueError: ``alpha`` or ``time`` out of range.
    """
    _checks.tensor("squared_distance", squared_distance)
    _checks.interval("alpha", alpha, 0.0, 1.0, open_low=True)
    _checks.interval("time", time, 0.0, math.inf, open_low=True)
    _checks.positive_int("dim", dim)
    return profile(squared_distance, alpha, dim, time)


def profile(squared_distance: Tensor, alpha: float | Tensor, dim: int, time: float) -> Tensor:
    """Return what :func:`diffusion_profile` returns, for arguments that were checked."""
    dtype = squared_distance.dtype
    squared_distance = squared_distance.to(torch.promote_types(dtype, torch.float32))
    if not isinstance(alpha, Tensor):
        if alpha == 1.0:
            return torch.exp(-squared_distance / (4 * time)).to(dtype)
        if alpha == 0.5:
            return ((time**2 / (time**2 + squared_distance)) ** ((dim + 1) / 2)).to(dtype)
    u, log_e, weight = _U.to(squared_distance), _LOG_E.to(squared_distance), _WEIGHT.to(squared_distance)
    alpha = torch.as_tensor(alpha, dtype=squared_distance.dtype, device=squared_distance.device)
    # s = t^(1/a) (A(u)/E)^((1-a)/a), written so that alpha -> 1 gives s -> t
    rest = (1 - alpha).clamp_min(torch.finfo(alpha.dtype).tiny ** 0.5)  # the root: no product below is subnormal
    shape = rest * torch.log(torch.sin(rest * u)) + alpha * torch.log(torch.sin(alpha * u)) - torch.log(torch.sin(u))
    log_s = (math.log(time) + shape[:, None] - rest * log_e) / alpha
    log_mixture = torch.log(weight) - dim / 2 * log_s
    scale = torch.exp((-log_s).clamp_max(HIGHEST)).flatten() / 4
    amplitude = torch.exp(log_mixture - log_mixture.detach().logsumexp((0, 1))).flatten()
    return (torch.exp(-squared_distance[..., None] * scale) @ amplitude).to(dtype)


def radius_of_mass(alpha: float, dim: int, time: float = 1.0, tolerance: float = 1e-4) -> float:
    """Distance at which the profile has fallen to ``tolerance`` of its peak (Gaussian core or power-law tail)."""
    core = 2 * math.sqrt(-time * math.log(tolerance))
    if alpha == 1.0:
        return core
    return max(core, time ** (1 / (2 * alpha)) * tolerance ** (-1 / (dim + 2 * alpha)))
