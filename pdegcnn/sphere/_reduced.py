"""Ring lengths of reduced Gauss grids."""

from __future__ import annotations

import numpy as np

from pdegcnn.sphere._legendre import Array, legendre_block

_BLOCK = 16


def _next_even_smooth(n: int) -> int:
    """Return the least even number >= n without prime factors above 5: short Fourier transforms."""
    candidate = max(n + n % 2, 2)
    while True:
        rest = candidate
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return candidate
        candidate += 2


def _log_sizes(lmax: int, x: Array) -> Array:
    """Return the logarithm of max over l <= lmax and orders >= m of |Y_lm(x)|, [len(x), lmax + 1]."""
    largest = np.empty((len(x), lmax + 1))
    for start in range(0, lmax + 1, _BLOCK):
        orders = range(start, min(start + _BLOCK, lmax + 1))
        largest[:, start : orders.stop] = np.abs(legendre_block(lmax, orders, x)).max(1).T
    largest = np.maximum.accumulate(largest[:, ::-1], 1)[:, ::-1]
    return np.log(np.maximum(largest, 1e-300))


def _least_lengths(lmax: int, theta: Array, areas: Array, tolerance: float) -> np.ndarray:
    """Return the least lengths [(nlat+1)//2] of northern rings without aliasing: see `ring_lengths`.

    On a ring of n points orders m and m' are confused if their sum or difference is a multiple of n; the error this
    brings into the scalar product of two harmonics is at most the ring's area times their sizes there.
    """
    half = (len(theta) + 1) // 2
    logs = _log_sizes(lmax, np.cos(theta[:half]))
    logs = np.concatenate([logs, np.full((half, lmax + 2), -np.inf)], 1)  # orders beyond lmax do not occur
    allowed = np.log(max(tolerance, 1e-300)) - np.log(4 * areas[:half])
    low, high = np.zeros(half, dtype=int), np.full(half, 2 * lmax + 1)
    m, rows = np.arange(lmax + 1), np.arange(half)[:, None]
    while (low < high).any():
        middle = (low + high) // 2
        other = middle[:, None] - m
        pairs = np.where(other >= 0, logs[rows, m] + logs[rows, np.abs(other)], -np.inf)
        fine = pairs.max(1) <= allowed
        low, high = np.where(fine, low, np.minimum(middle + 1, high)), np.where(fine, middle, high)
    return high


def ring_lengths(lmax: int, theta: Array, areas: Array, tolerance: float) -> np.ndarray:
    """Return lengths [nlat] with aliasing below ``tolerance``.

    Rings lie at ``theta`` [nlat] and have total area ``areas`` [nlat].
    """
    north = [_next_even_smooth(int(n)) for n in _least_lengths(lmax, theta, areas, tolerance)]
    return _mirrored(np.minimum(north, 2 * (lmax + 1)), len(theta))


def uniform_ring_lengths(theta: Array) -> np.ndarray:
    """Return lengths [nlat] that put the points of a ring about as far apart as the rings are, at least 4."""
    north = [max(_next_even_smooth(round(2 * len(theta) * np.sin(t)) - 1), 4) for t in theta[: (len(theta) + 1) // 2]]
    return _mirrored(np.array(north), len(theta))


def exact_band(lengths: np.ndarray, theta: Array, areas: Array, tolerance: float) -> int:
    """Return the largest lmax whose products alias by at most ``tolerance`` on rings of these ``lengths`` [nlat]."""
    low, high = 0, len(theta) - 1
    while low < high:
        middle = (low + high + 1) // 2
        fits = (_least_lengths(middle, theta, areas, tolerance) <= lengths[: (len(theta) + 1) // 2]).all()
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _mirrored(north: np.ndarray, nlat: int) -> np.ndarray:
    return np.concatenate([north, north[: nlat // 2][::-1]])
