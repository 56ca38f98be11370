"""Loops of the max-plus convolution on rings, compiled by Numba (see ``cpu.py``).

A plane is copied with its inner axis doubled, so that a cyclic shift is a constant offset. The inner axis is the ring,
or the fibre where rings are single points; every tap is then one vectorised loop.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FLAGS = {"contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=FLAGS)
def line_value(best, p, k):
    """Improve ``best`` by one tap of constant cost."""
    for w in range(np.uint64(best.size)):
        v = p[w] - k
        best[w] = v if v > best[w] else best[w]


@njit(cache=True, nogil=True, fastmath=FLAGS)
def line_index(best, index, p, k, tap):
    """Improve ``best`` by one tap of constant cost and note in ``index`` where it won."""
    for w in range(np.uint64(best.size)):
        v = p[w] - k
        index[w] = tap if v > best[w] else index[w]
        best[w] = v if v > best[w] else best[w]


@njit(cache=True, nogil=True, fastmath=FLAGS)
def line_costs(best, index, p, k, tap):
    """The same with a cost for each place; an infinite cost never wins, for its value is -inf."""
    for w in range(np.uint64(best.size)):
        v = p[w] - k[w]
        index[w] = tap if v > best[w] else index[w]
        best[w] = v if v > best[w] else best[w]


@njit(cache=True, nogil=True)
def line_nan(best, index, p, k, tap):
    """Any place may give NaN here; a NaN that is met first stays."""
    for w in range(best.size):
        cost = k[w % k.size]
        if cost != np.inf:
            v = p[w] - cost
            if v > best[w] or (np.isnan(v) and not np.isnan(best[w])):
                best[w] = v
                index[w] = tap


@njit(cache=True, nogil=True)
def not_ordinary(k):
    """Whether a cost is NaN or -inf."""
    for s in range(k.shape[0]):
        for f in range(k.shape[1]):
            if not k[s, f] > -np.inf:
                return True
    return False


@njit(cache=True, nogil=True)
def fill_rings(frame, u, sign):
    """Write sign * u [F,G,n] twice along the last axis; return the smallest and largest value and whether NaN occurs.

    NaN counts also where infinities could make one.
    """
    length = u.shape[2]
    low, high, nans = np.inf, -np.inf, 0
    for f in range(u.shape[0]):
        for g in range(u.shape[1]):
            for j in range(length):
                value = sign * u[f, g, j]
                frame[f, g, j] = value
                frame[f, g, j + length] = value
                nans += not np.isfinite(value)
                low = value if value < low else low
                high = value if value > high else high
    return low, high, nans > 0


@njit(cache=True, nogil=True)
def forward_rings(u, kernel, taps, start, out, winner, keep, none, sign, first, last):
    """Planes ``first`` to ``last`` of u [B*C,F,G,n] with kernel [C,1 or F,S]; winning taps where ``keep``."""
    _, fibre, rings, length = u.shape
    channels, kernels, _ = kernel.shape
    frame = np.empty((fibre, rings, 2 * length), u.dtype)
    best, index = np.empty(length, u.dtype), np.empty(length, np.int32)
    one = u.dtype.type(sign)
    for plane in range(first, last):
        low, high, nans = fill_rings(frame, u[plane], one)
        for f in range(fibre):
            k = kernel[plane % channels, f % kernels]
            for g in range(rings):
                best[:] = -np.inf
                index[:] = none
                for s in range(start[g], start[g + 1]):
                    p = frame[(f + taps[s, 1]) % fibre, taps[s, 0], taps[s, 2] : taps[s, 2] + length]
                    if nans or not k[s] > -np.inf:
                        line_nan(best, index, p, k[s : s + 1], s - start[g])
                    elif k[s] == np.inf or high - k[s] < low - k[start[g]]:
                        continue  # its best case is below the worst case of the first tap
                    elif keep:
                        line_index(best, index, p, k[s], np.int32(s - start[g]))
                    else:
                        line_value(best, p, k[s])
                for j in range(length):
                    out[plane, f, g, j] = one * best[j]
                    if keep:
                        winner[plane, f, g, j] = index[j]


@njit(cache=True, nogil=True)
def forward_points(u, kernel, taps, start, out, winner, keep, none, sign, first, last):
    """The same for rings of one point: u [B*C,1,P,F] and kernel [C,S,1 or F]; the inner axis is the fibre."""
    _, _, points, fibre = u.shape
    channels, _, kernels = kernel.shape
    frame = np.empty((1, points, 2 * fibre), u.dtype)
    best, index = np.empty(fibre, u.dtype), np.empty(fibre, np.int32)
    one = u.dtype.type(sign)
    for plane in range(first, last):
        _, _, nans = fill_rings(frame, u[plane], one)
        k = kernel[plane % channels]
        nans = nans or not_ordinary(k)
        for g in range(points):
            best[:] = -np.inf
            index[:] = none
            for s in range(start[g], start[g + 1]):
                p = frame[0, taps[s, 0], taps[s, 1] : taps[s, 1] + fibre]
                tap = np.int32(s - start[g])
                if nans:
                    line_nan(best, index, p, k[s], tap)
                elif kernels == 1 and keep:
                    line_index(best, index, p, k[s, 0], tap)
                elif kernels == 1:
                    line_value(best, p, k[s, 0])
                else:
                    line_costs(best, index, p, k[s], tap)
            for j in range(fibre):
                out[plane, 0, g, j] = one * best[j]
                if keep:
                    winner[plane, 0, g, j] = index[j]


@njit(cache=True, nogil=True)
def backward(grad, winner, taps, start, none, grad_u, sums, first, last):
    """Channels ``first`` to ``last``: send grad [B,C,F,G,n] to the winning taps, and sum it into sums [C,kernels,S]."""
    batch, _, fibre, rings, length = grad.shape
    kernels = sums.shape[1]
    for c in range(first, last):
        sums[c] = 0
        for b in range(batch):
            grad_u[b, c] = 0
            for f in range(fibre):
                for g in range(rings):
                    for j in range(length):
                        t = winner[b, c, f, g, j]
                        if t != none:
                            s = start[g] + t
                            value = grad[b, c, f, g, j]
                            grad_u[b, c, (f + taps[s, 1]) % fibre, taps[s, 0], (j + taps[s, 2]) % length] += value
                            sums[c, f % kernels, s] += value
