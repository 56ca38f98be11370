"""Loops of the morphological convolution, compiled by Numba once per kernel width and dtype (see ``numba_impl.py``).

A signal's plane is copied into a frame of -inf, and the frame is read as one long line: a tap is then a constant
offset, and a block of whole rows is one vectorisable loop whose result stays in the first cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK, LANES = 2048, 16
FLAGS = {"contract", "nsz"}


# rows: generic
@njit(cache=True, nogil=True)
def row_value(best, p, k):
    """Improve ``best`` by one row of taps."""
    for w in range(best.size):
        for j in range(k.size):
            value = p[w + j] - k[j]
            best[w] = value if value > best[w] else best[w]


@njit(cache=True, nogil=True)
def row_index(best, index, p, k, tap):
    """Improve ``best`` by one row of taps and note in ``index`` which won."""
    for w in range(best.size):
        for j in range(k.size):
            value = p[w + j] - k[j]
            index[w] = tap + j if value > best[w] else index[w]
            best[w] = value if value > best[w] else best[w]


# rows: end
@njit(cache=True, nogil=True)
def row_nan(best, index, p, k, tap):
    """Any tap may give NaN here; a NaN that is met first stays."""
    for j in range(k.size):
        if k[j] != np.inf:
            for w in range(best.size):
                value = p[w + j] - k[j]
                if value > best[w] or (np.isnan(value) and not np.isnan(best[w])):
                    best[w] = value
                    index[w] = tap + j


@njit(cache=True, nogil=True)
def count_nan(u):
    """How many entries are NaN."""
    count = 0
    for w in range(u.size):
        count += u[w] != u[w]
    return count


@njit(cache=True, nogil=True)
def widen(low, high, u):
    """Let low and high, elementwise, enclose u."""
    for w in range(u.size):
        low[w] = u[w] if u[w] < low[w] else low[w]
        high[w] = u[w] if u[w] > high[w] else high[w]


@njit(cache=True, nogil=True)
def extremes(u):
    """Smallest and largest entry where none is NaN, piece by piece: no compiler vectorises a minimum by itself."""
    piece = min(u.size, 256)
    low, high = u[:piece].copy(), u[:piece].copy()
    for start in range(0, u.size, piece):
        stop = min(start + piece, u.size)
        widen(low[: stop - start], high[: stop - start], u[start:stop])
    return low.min(), high.max()


@njit(cache=True, nogil=True)
def scaled(out, u, factor):
    """Write factor * u into out, converting."""
    for w in range(out.size):
        out[w] = factor * u[w]


@njit(cache=True, nogil=True)
def fill_frame(frame, u, sign, stride, top, left, columns):
    """Write sign * u [stride*Or,H,W] into the frame.

    Return the smallest value of the planes where outputs are, the largest of all, and whether NaN occurs.
    """
    orientations, height, width = u.shape
    for o in range(orientations):
        for h in range(height):
            start = (o * (height + 2 * top) + h + top) * columns + left
            scaled(frame[start : start + width], u[o, h], sign)
    low, high = extremes(u.reshape(-1))
    least = min(sign * low, sign * high)
    if stride > 1:
        least = np.inf
        for o in range(0, orientations, stride):
            first, last = extremes(u[o].reshape(-1))
            least = min(least, sign * first, sign * last)
    return least, max(sign * low, sign * high), count_nan(u.reshape(-1)) > 0


@njit(cache=True, nogil=True)
def classify(kind, k, low, high, nans):
    """Per row of taps: 0 cannot win, 1 ordinary, 2 NaN is possible.

    A tap whose best case is below the worst case of the centre tap, which is never outside, cannot win.
    """
    ko, kh, kw = k.shape
    floor = low - k[ko // 2, kh // 2, kw // 2]
    for a in range(ko):
        for i in range(kh):
            kind[a, i] = 0
            for j in range(kw):
                weight = k[a, i, j]
                if nans or not weight > -np.inf:
                    kind[a, i] = 2
                elif kind[a, i] == 0 and weight < np.inf and not high - weight < floor:
                    kind[a, i] = 1


@njit(cache=True, nogil=True)
def forward(u, kernel, out, winner, keep, sign, start, stop):
    """Signals ``start`` to ``stop`` of u [B*C,stride*Or,H,W] with kernel [C,Or,KO,KH,KW]; winners where ``keep``."""
    _, planes, height, width = u.shape
    channels, orientations, ko, kh, kw = kernel.shape
    stride = planes // orientations
    columns, rows = width + kw - 1, height + kh - 1
    frame = np.full(planes * rows * columns + kw + LANES, -np.inf).astype(u.dtype)
    block = max(1, BLOCK // columns)
    best_buffer = np.empty(block * columns + LANES, u.dtype)
    index_buffer = np.empty(block * columns + LANES, np.int32)
    kind = np.empty((ko, kh), np.int64)
    one = u.dtype.type(sign)
    for n in range(start, stop):
        low, high, nans = fill_frame(frame, u[n], one, stride, kh // 2, kw // 2, columns)
        for o in range(orientations):
            k = kernel[n % channels, o]
            classify(kind, k, low, high, nans)
            for top in range(0, height, block):
                lines = min(block, height - top)
                size = (lines * columns + LANES - 1) // LANES * LANES  # whole vectors; what is too much is not read
                best, index = best_buffer[:size], index_buffer[:size]
                best[:] = -np.inf
                index[:] = ko * kh * kw
                for a in range(ko):
                    plane = (stride * o + a - ko // 2) % planes * rows
                    for i in range(kh):
                        base = (plane + top + i) * columns
                        p = frame[base : base + best.size + kw - 1]
                        if kind[a, i] == 2:
                            row_nan(best, index, p, k[a, i], (a * kh + i) * kw)
                        elif kind[a, i] == 1 and keep:
                            row_index(best, index, p, k[a, i], (a * kh + i) * kw)
                        elif kind[a, i] == 1:
                            row_value(best, p, k[a, i])
                for h in range(lines):
                    scaled(out[n, o, top + h], best[h * columns : h * columns + width], one)
                    if keep:
                        scaled(winner[n, o, top + h], index[h * columns : h * columns + width], np.int32(1))


@njit(cache=True, nogil=True)
def backward(grad, winner, sizes, stride, grad_u, grad_kernel, start, stop):
    """Send grad [B*C,Or,H,W] to the winning taps: into grad_u, and summed into grad_kernel [B*C,Or,taps]."""
    _, orientations, height, width = grad.shape
    ko, kh, kw = sizes
    taps = ko * kh * kw
    columns, rows, planes = width + kw - 1, height + kh - 1, stride * orientations
    frame = np.empty(planes * rows * columns, grad.dtype)
    offset = np.empty(taps, np.int64)
    sums = np.empty(taps, np.float64)
    for n in range(start, stop):
        frame[:] = 0
        for o in range(orientations):
            sums[:] = 0
            for t in range(taps):
                plane = (stride * o + t // (kh * kw) - ko // 2) % planes
                offset[t] = (plane * rows + t // kw % kh) * columns + t % kw
            for h in range(height):
                for w in range(width):
                    t = winner[n, o, h, w]
                    if t < taps:
                        g = grad[n, o, h, w]
                        frame[offset[t] + h * columns + w] += g
                        sums[t] += g
            grad_kernel[n, o] = sums
        for o in range(planes):
            for h in range(height):
                base = (o * rows + h + kh // 2) * columns + kw // 2
                grad_u[n, o, h] = frame[base : base + width]
