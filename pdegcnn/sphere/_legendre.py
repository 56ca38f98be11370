"""Normalised associated Legendre functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def legendre_block(lmax: int, orders: range, x: Array) -> Array:
    """Return P[m, l, i] with P e^{im phi} = Y_lm, m in ``orders``, l = orders.start..lmax, at x_i = cos(theta_i).

    Orthonormal, with the Condon-Shortley phase; entries with l < m are zero. Float64 three-term recurrence in l
    (Holmes and Featherstone 2002, eq. 11), started from sectoral values taken through their logarithm. Up
    to lmax = 512 a start value that underflows belongs to entries far below rounding, so nothing is rescaled later.

    Shape [len(orders), lmax + 1 - orders.start, len(x)].
    """
    m = np.arange(orders.start, orders.stop, dtype=np.float64)
    k = np.arange(1, orders.stop, dtype=np.float64)
    log_ratio = np.concatenate([[0.0], np.cumsum(np.log1p(1 / (2 * k)))])[orders.start :]
    log_sin = 0.5 * np.log1p(-x * x)
    sign = np.where(m % 2 == 0, 1.0, -1.0)
    start = sign[:, None] * np.exp(0.5 * (log_ratio - np.log(4 * np.pi))[:, None] + m[:, None] * log_sin)
    table = np.zeros((len(m), lmax + 1 - orders.start, len(x)))
    below, twice_below = np.zeros_like(start), np.zeros_like(start)
    for row, degree in enumerate(range(orders.start, lmax + 1)):
        above = np.maximum(degree * degree - m * m, 1.0)
        a = np.sqrt(max(4.0 * degree * degree - 1.0, 0.0) / above)[:, None]
        shift = np.maximum((degree - 1.0) ** 2 - m * m, 0.0) / max(4.0 * (degree - 1.0) ** 2 - 1.0, 1.0)
        now = a * (x * below - np.sqrt(shift)[:, None] * twice_below)
        now = np.where((m == degree)[:, None], start, np.where((m < degree)[:, None], now, 0.0))
        table[:, row] = now
        below, twice_below = now, below
    return table
