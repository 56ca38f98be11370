"""Filters on the sphere for lifting, given by their harmonic coefficients."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pdegcnn._typing import Floats
from pdegcnn.sphere._legendre import legendre_block


def localised_basis(lmax: int, orders: int, knots: int, spacing: float) -> Floats:
    """Return coefficients of Gaussian rings around the pole with orders n, ``[knots,orders+1,lmax+1]``.

    Ring k lies at colatitude ``k * spacing`` and has standard deviation ``spacing / 2``; ring 0, a spot, has order 0
    only. Each function ``g(theta) cos(n phi)`` has the norm that a filter of unit norm on a grid of that spacing has.
    """
    x, w = np.polynomial.legendre.leggauss(2 * lmax + 16)
    theta = np.arccos(x)
    basis = np.zeros((knots, orders + 1, lmax + 1))
    for k in range(knots):
        away = (theta / spacing - k) ** 2
        ring = np.exp(-2 * (away - np.floor(away.min())))  # not zero, even where a ring lies beyond all nodes
        for n in range(min(orders, lmax) + 1 if k else 1):
            profile = ring * np.sin(theta) ** min(n, 2)
            square = 2 * math.pi * float((w * profile**2).sum()) / (2 if n else 1)
            table = legendre_block(lmax, range(n, n + 1), x)[0]  # [l - n, i]
            basis[k, n, n:] = 2 * math.pi * (table * (w * profile)).sum(-1) / math.sqrt(square) / spacing
    return basis


def degree_profiles(lmax: int, knots: int) -> Floats:
    """Return piecewise linear functions of the degree, one at one knot and zero at others, ``[knots,lmax+1]``."""
    if knots == 1:
        return np.ones((1, lmax + 1))
    at = np.linspace(0, lmax, knots)
    return np.stack([np.interp(np.arange(lmax + 1), at, row) for row in np.eye(knots)])


def spectral_basis(lmax: int, orders: int, knots: int) -> Floats:
    """Return piecewise linear profiles over the degree, each with all orders it can carry, ``[knots,orders+1,lmax+1]``.

    The coefficients ``sqrt((2l+1)/4pi)`` of a unit profile are those of a point: it passes degree l unchanged.
    """
    degree = np.arange(lmax + 1)
    hats = degree_profiles(lmax, knots)
    carries = degree >= np.arange(orders + 1)[:, None]
    return hats[:, None] * carries * np.sqrt((2 * degree + 1) / (4 * math.pi))


def cake_orders(orders: int, fibre: int) -> tuple[Floats, Floats]:
    """Return coefficients over n = 0..orders of cake wavelets, even (lines) and odd (edges) ones.

    They are ``sinc(n / fibre)^4``.

    Transforms of a cubic B-spline wedge of one fibre step along the frame's first vector; order 0 is one, so that the
    mean over the fibre is the signal itself. Source: Duits et al., *Invertible orientation scores* (2007), carried over
    to the sphere.
    """
    n = np.arange(orders + 1)
    window = np.sinc(n / fibre) ** 4
    return window * (n % 2 == 0), window * (n % 2 == 1)


def cake_basis(lmax: int, orders: int, fibre: int) -> Floats:
    """Return coefficients of the even and the odd cake wavelet, ``[2,orders+1,lmax+1]``."""
    return np.stack(cake_orders(orders, fibre))[:, :, None] * spectral_basis(lmax, orders, 1)


def full_orders(half: Tensor) -> Tensor:
    """Extend coefficients for n = 0..N of a real function to n = -N..N.

    They satisfy ``psi_-n = (-1)^n conj(psi_n)``, on the last axis.
    """
    sign = 1 - 2 * (torch.arange(1, half.shape[-1], device=half.device) % 2)
    return torch.cat(((half[..., 1:].conj() * sign).flip(-1), half), dim=-1)
