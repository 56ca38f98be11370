"""Normalised associated Legendre functions and the spin-weighted Wigner functions d^l_mn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def _first_values(m: Array, spin: int, x: Array) -> Array:
    """Return sqrt((2k+1)/4pi) d^k_{m,spin} at k = max(m, spin), through logarithms: [len(m), len(x)]."""
    top, low = np.maximum(m, spin), np.minimum(m, spin)
    k = np.arange(1, int(top.max(initial=0)) + 1)
    # 4^-top binomial(2 top, top - low) = prod_{k<=top} (1 - 1/2k) prod_{j<=low} (top - j + 1) / (top + j).
    halves = np.concatenate([[0.0], np.cumsum(np.log1p(-0.5 / k))])
    j = np.arange(1, int(low.max(initial=0)) + 1)[:, None]
    ratio = np.where(j <= low, np.log1p((1 - 2 * j) / (top + j).clip(2 * j)), 0.0).sum(0)
    log_size = 0.5 * (np.log((2 * top + 1) / (4 * np.pi)) + halves[top.astype(int)] + ratio)
    sign = np.where((m > spin) & ((m - spin) % 2 == 1), -1.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):  # at a pole a logarithm is -inf, and 0 times it counts as 0
        log_sin, log_half = 0.5 * np.log1p(-x * x), np.log1p(x)
        of_sin = np.where((top == low)[:, None], 0.0, (top - low)[:, None] * log_sin)
        of_half = np.where((low == 0)[:, None], 0.0, low[:, None] * log_half)
    return sign[:, None] * np.exp(log_size[:, None] + of_sin + of_half)


def legendre_block(lmax: int, orders: range, x: Array, spin: int = 0) -> Array:
    """Return T[m, l, i] = sqrt((2l+1)/4pi) d^l_{m,spin}(arccos x_i) for m in ``orders``, l = orders.start..lmax.

    For spin 0, T e^{im phi} is the orthonormal Y_lm with the Condon-Shortley phase. ``orders`` and ``spin`` must not
    be negative; entries with l < max(m, spin) are zero. Float64 three-term recurrence in l of the orthonormal Jacobi
    functions (Holmes and Featherstone 2002, eq. 11, for spin 0; Kostelec and Rockmore 2008, eq. 4, for any),
    started from values taken through their logarithm. Up to lmax = 512 a start value that underflows
    belongs to entries far below rounding, so no rescaling is needed later.

    Shape [len(orders), lmax + 1 - orders.start, len(x)].
    """
    m = np.arange(orders.start, orders.stop, dtype=np.float64)
    first = np.maximum(m, spin)
    start = _first_values(m, spin, x)
    table = np.zeros((len(m), lmax + 1 - orders.start, len(x)))
    below, twice_below = np.zeros_like(start), np.zeros_like(start)
    for row, degree in enumerate(range(orders.start, lmax + 1)):
        up = _coupling(degree, m, spin)
        down = _coupling(degree - 1, m, spin)
        middle = m * spin / max((degree - 1) * degree, 1)
        now = ((x - middle[:, None]) * below - down[:, None] * twice_below) / np.where(up > 0, up, 1.0)[:, None]
        now = np.where((first == degree)[:, None], start, np.where((first < degree)[:, None], now, 0.0))
        table[:, row] = now
        below, twice_below = now, below
    return table


def _coupling(degree: int, m: Array, spin: int) -> Array:
    """Return the factor a_l of x p_{l-1} = a_l p_l + b p_{l-1} + a_{l-1} p_{l-2}."""
    if degree <= 0:
        return np.zeros_like(m)
    square = float(degree * degree)
    product = np.maximum(square - m * m, 0.0) * max(square - spin * spin, 0.0)
    return np.sqrt(product / (square * (4 * square - 1)))
