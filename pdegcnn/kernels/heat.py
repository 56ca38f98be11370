"""The kernel of diffusion on the plane and SE(2): Gaussians in position for each turn, mixed over time.

A particle that has turned by theta at time s looked in other directions before, and moved along them. Given the turn,
its position in half-angle coordinates has the mean ``2 sin(theta/2) q`` and the covariance ``2 s (tr(S)/2 + c S_0)``.
Here D is the inverse metric. ``q = D_x3 / D_33`` is what it moves along with turning, ``S = D_xx - D_x3 D_3x / D_33``
is the rest, and S_0 is the traceless part of S. The mean of ``cos 2 (theta_r - theta/2)`` over Brownian ways from 0 to
theta is ``c = int_0^1 cos((2r - 1) theta) exp(-4 D_33 s r (1 - r)) dr``.

The kernel is the Gaussian of that mean and covariance: its moments up to the second are those of the heat kernel for
every turn, and it is the heat kernel where the plane's metric is isotropic. Kernels of powers below one are heat
kernels mixed over time (subordination, see ``diffusion.py``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdegcnn._typing import from_numpy
from pdegcnn.kernels.diffusion import mass_of_cell, time_scales
from pdegcnn.kernels.metric import Metric

TIMES = 24
"""Times at which Gaussians are mixed, evenly spaced in their logarithm."""
RANGE = (-8.0, 9.0)
"""Least and greatest logarithm of such a time: earlier, all lies in one cell, later, nothing in a window."""
NODES = 12
"""Points on the way at which the mean cosine is taken."""
WAY, SHARE = (from_numpy(x) for x in np.polynomial.legendre.leggauss(NODES))
"""These points r, as 2r - 1, and twice their weights, float64."""


class HeatTaps(NamedTuple):
    """The arguments of heat kernels for the taps of a window.

    Attributes:
        places: :func:`features` of their middles ``[paths,KO,Or,KH,KW,5]``.
        cosine: :func:`cosines` of the turns ``[paths,KO,NODES]``.
        turn: the turns ``[paths,KO]`` in radians, zero on the plane.
        cell: sides of a cell ``[dim]``.
    """

    places: Tensor
    cosine: Tensor
    turn: Tensor
    cell: Tensor


def features(b: Tensor) -> Tensor:
    """Return squares, product and entries, ``[..., 5]``, of half-angle coordinates; exponents are linear in them."""
    x, y = b[..., 0], b[..., 1]
    return torch.stack((x * x, y * y, x * y, x, y), dim=-1)


def cosines(turn: Tensor) -> Tensor:
    """Return ``cos((2r - 1) theta)`` at the points r on the way, times their weights, ``[..., NODES]``."""
    return torch.cos(turn[..., None] * WAY.to(turn)) * SHARE.to(turn) / 2


def mixture(scales: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return fewer times and weights ``[J]`` of sum one than ``time_scales``, for the kernel of a power."""
    log_s, log_weight = scales
    log_s = log_s.clamp(*RANGE)
    first, last = log_s.amin(), log_s.amax()
    step = ((last - first) / (TIMES - 3)).clamp_min(torch.finfo(log_s.dtype).eps ** 0.5)
    number = torch.arange(-1, TIMES - 1, dtype=log_s.dtype, device=log_s.device)
    t = ((log_s[:, None] - first) / step - number).abs()
    near, far = (1.5 * t - 2.5) * t * t + 1, ((2.5 - 0.5 * t) * t - 4) * t + 2  # cubic convolution (Keys 1981)
    share = torch.where(t < 1, near, torch.where(t < 2, far, 0.0))
    return torch.exp(first + step * number), log_weight.exp() @ share


def _bounded(d: Tensor) -> Tensor:
    """Return diffusivities ``[C,dim,dim]`` whose products with a time do not overflow: beyond, kernels are flat."""
    most = torch.finfo(d.dtype).max ** 0.25
    d = d.clamp(-(most**2), most**2)
    diagonal = torch.diagonal(d, dim1=-2, dim2=-1)
    shrink = (most / diagonal.clamp_min(1 / most)).clamp_max(1).sqrt()
    return d * shrink[:, :, None] * shrink[:, None]


def heat_mass(
    metric: Metric, taps: HeatTaps, half: Tensor, alpha: float | Tensor, time: float
) -> tuple[Tensor, Tensor]:
    """Return the mass of the kernel in cells, ``[C, paths*KO, Or*KH*KW]``, and in that of the unit element, ``[C]``.

    The former is right for all cells but that of the unit element.

    Args:
        metric: of C channels.
        taps: the cells.
        half: half their sides in the metric's units ``[C,dim]``.
        alpha: power in (0, 1].
        time: length of the step.
    """
    cell = taps.cell
    if not isinstance(alpha, Tensor) and alpha == 1.0:
        middle = mass_of_cell(half, alpha, time)
        s, weight = cell.new_full((1,), time), cell.new_ones(1)
    else:
        scales = time_scales(cell, alpha, time)
        middle = mass_of_cell(half, alpha, time, scales)
        s, weight = mixture(scales)
    places, cosine, turn = taps.places.flatten(2, 4).flatten(0, 1), taps.cosine.flatten(0, 1), taps.turn.flatten()
    d = _bounded(metric.cometric())
    blur = cell**2 / 16  # of the twelfth that a cell's variance is, a quarter less sharpens what the cells blur
    s_plane, log_mass = d[:, :2, :2], torch.log(weight.clamp_min(torch.finfo(s.dtype).tiny)) + cell.log().sum()
    mean = None
    c = cosine.sum(-1)[None, :, None]
    if len(cell) == 3:
        rate = d[:, 2, 2].clamp_min(torch.finfo(d.dtype).tiny ** 0.5)
        damping = torch.exp(-rate[:, None, None] * s[:, None] * (1 - WAY.to(s) ** 2))
        c = torch.einsum("tg,cjg->ctj", cosine, damping)
        variance = (2 * rate[:, None] * s + blur[2])[:, None]
        log_mass = log_mass - (turn**2)[:, None] / (2 * variance) - torch.log(2 * math.pi * variance) / 2
        along = d[:, :2, 2] / rate[:, None]
        s_plane = s_plane - along[:, :, None] * d[:, 2, None, :2]
        chord = 2 * torch.sin(turn / 2)
        mean = along[:, None] * chord[:, None]  # [C,planes,2]
    mid = (s_plane[:, 0, 0] + s_plane[:, 1, 1]) / 2
    lean = (s_plane[:, 0, 0] - s_plane[:, 1, 1]) / 2
    mid, lean, skew = torch.stack((mid, lean, s_plane[:, 0, 1]))[..., None, None] * (2 * s)
    first, second, both = mid + c * lean + blur[0], mid - c * lean + blur[1], c * skew
    det = first * second - both**2
    p11, p22, p12 = second / det, first / det, -both / det
    constant = log_mass - torch.log(det) / 2 - math.log(2 * math.pi)
    zero = torch.zeros_like(p12)
    linear = [zero, zero]
    if mean is not None:
        m1, m2 = mean[..., 0, None], mean[..., 1, None]
        linear = [p11 * m1 + p12 * m2, p12 * m1 + p22 * m2]
        constant = constant - (m1 * linear[0] + m2 * linear[1]) / 2
    factors = torch.stack((-p11 / 2, -p22 / 2, -p12, *linear), dim=-2)  # [C,planes,5,J]
    return torch.exp(places @ factors + constant[..., None, :]).sum(-1), middle
