"""Loops of the max-plus convolution on rings, compiled by Numba (see ``numba_impl.py``).

Several signals of one channel, which share a kernel, are copied with their numbers innermost and the ring doubled, so
that a tap is a constant offset and one vectorised loop over the ring and the signals. Four taps go in one loop: what it
keeps of the outputs is then read and written once for four.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FLAGS = {"contract", "nsz"}


@njit(cache=True, nogil=True, fastmath=FLAGS)
def lines_value(best, p, q, r, s, k):
    """Improve ``best`` by four taps of constant costs."""
    a, b, c, d = k[0], k[1], k[2], k[3]
    for w in range(np.uint64(best.size)):
        v = p[w] - a
        m = v if v > best[w] else best[w]
        v = q[w] - b
        m = v if v > m else m
        v = r[w] - c
        m = v if v > m else m
        v = s[w] - d
        best[w] = v if v > m else m


@njit(cache=True, nogil=True, fastmath=FLAGS)
def lines_index(best, index, p, q, r, s, k, taps):
    """Return the same, noting the winning tap in ``index``; taps of infinite cost are never noted."""
    a, b, c, d = k[0], k[1], k[2], k[3]
    e, f, g, h = taps[0], taps[1], taps[2], taps[3]
    for w in range(np.uint64(best.size)):
        m, t = best[w], index[w]
        v = p[w] - a
        t = e if v > m else t
        m = v if v > m else m
        v = q[w] - b
        t = f if v > m else t
        m = v if v > m else m
        v = r[w] - c
        t = g if v > m else t
        m = v if v > m else m
        v = s[w] - d
        index[w] = h if v > m else t
        best[w] = v if v > m else m


@njit(cache=True, nogil=True, fastmath=FLAGS)
def line_costs(best, index, p, k, tap):
    """Improve ``best`` by one tap with a cost for each place and note in ``index`` where it attains the maximum."""
    for w in range(np.uint64(best.size)):
        v = p[w] - k[w]
        index[w] = tap if v > best[w] else index[w]
        best[w] = v if v > best[w] else best[w]


@njit(cache=True, nogil=True)
def line_nan(best, index, p, k, tap):
    """Compare places that may give NaN; the first NaN stays."""
    for w in range(best.size):
        cost = k[w % k.size]
        if cost != np.inf:
            v = p[w] - cost
            if v > best[w] or (np.isnan(v) and not np.isnan(best[w])):
                best[w] = v
                index[w] = tap


@njit(cache=True, nogil=True)
def not_ordinary(k):
    """Return whether a cost is NaN or -inf."""
    for s in range(k.shape[0]):
        for f in range(k.shape[1]):
            if not k[s, f] > -np.inf:
                return True
    return False


@njit(cache=True, nogil=True)
def fill(frame, low, high, u, sign):
    """Write sign * u [b,F,G,n] into frame [F,G,2n,b], twice along the ring, and the bounds of each ring.

    Returns whether NaN occurs, or infinities that could make one.
    """
    size, fibre, rings, length = u.shape
    finite = True
    for f in range(fibre):
        for g in range(rings):
            least, most = np.inf, -np.inf
            for i in range(size):
                for j in range(length):
                    value = sign * u[i, f, g, j]
                    frame[f, g, j, i] = value
                    frame[f, g, j + length, i] = value
                    finite &= np.isfinite(value)
                    least = value if value < least else least
                    most = value if value > most else most
            low[f, g], high[f, g] = least, most
    return not finite


@njit(cache=True, nogil=True)
def select(offset, cost, number, taps, k, f, low, high, length, size):
    """Compute offsets in the frame, costs and numbers of the taps that can be a maximum; return how many, to fours.

    A tap whose best case is below the worst case of the first one cannot be a maximum. A NaN or -inf cost ends the list
    with -1.
    """
    fibre, rings = low.shape
    count = 0
    floor = low[(f + taps[0, 1]) % fibre, taps[0, 0]] - k[0]
    for s in range(taps.shape[0]):
        if not k[s] > -np.inf:
            return -1
        plane = (f + taps[s, 1]) % fibre
        if k[s] < np.inf and not high[plane, taps[s, 0]] - k[s] < floor:
            offset[count] = ((plane * rings + taps[s, 0]) * 2 * length + taps[s, 2]) * size
            cost[count], number[count] = k[s], s
            count += 1
    stop = (count + 3) // 4 * 4
    offset[count:stop], cost[count:stop], number[count:stop] = 0, np.inf, 0
    return stop


@njit(cache=True, nogil=True)
def forward_rings(u, kernel, taps, start, out, winner, keep, none, sign, size, first, last):
    """Convolve u [B,C,F,G,n] with kernel [C,1 or F,S], ``size`` signals of one channel at a time.

    Blocks ``first`` to ``last`` of ceil(B/size) per channel, the last of which may overlap its neighbour.
    """
    batch, _, fibre, rings, length = u.shape
    blocks, wide = -(-batch // size), length * size
    frame = np.empty((fibre, rings, 2 * length, size), u.dtype)
    line = frame.reshape(-1)
    low, high = np.empty((fibre, rings), u.dtype), np.empty((fibre, rings), u.dtype)
    longest = np.max(start[1:] - start[:-1]) + 3
    offset, cost, number = np.empty(longest, np.int64), np.empty(longest, u.dtype), np.empty(longest, np.int32)
    best, index = np.empty(wide, u.dtype), np.empty(wide, np.int32)
    one = u.dtype.type(sign)
    for block in range(first, last):
        c, at = block // blocks, min(block % blocks * size, batch - size)
        nans = fill(frame, low, high, u[at : at + size, c], one)
        for f in range(fibre):
            every = kernel[c, f % kernel.shape[1]]
            for g in range(rings):
                best[:] = -np.inf
                index[:] = none
                near, k = taps[start[g] : start[g + 1]], every[start[g] : start[g + 1]]
                count = -1 if nans else select(offset, cost, number, near, k, f, low, high, length, size)
                for t in range(0, count, 4):
                    p, q, r, s = (
                        line[offset[t] : offset[t] + wide],
                        line[offset[t + 1] : offset[t + 1] + wide],
                        line[offset[t + 2] : offset[t + 2] + wide],
                        line[offset[t + 3] : offset[t + 3] + wide],
                    )
                    if keep:
                        lines_index(best, index, p, q, r, s, cost[t : t + 4], number[t : t + 4])
                    else:
                        lines_value(best, p, q, r, s, cost[t : t + 4])
                if count < 0:
                    for t in range(k.size):
                        p = frame[(f + near[t, 1]) % fibre, near[t, 0], near[t, 2] : near[t, 2] + length]
                        line_nan(best, index, p.reshape(-1), k[t : t + 1], np.int32(t))
                for i in range(size):
                    for j in range(length):
                        out[at + i, c, f, g, j] = one * best[j * size + i]
                        if keep:
                            winner[at + i, c, f, g, j] = index[j * size + i]


@njit(cache=True, nogil=True)
def forward_points(u, kernel, taps, start, out, winner, keep, none, sign, first, last):
    """Convolve rings of one point with few signals: planes of u [B*C,P,F] with kernel [C,S,F].

    The inner axis is the fibre.
    """
    _, points, fibre = u.shape
    frame = np.empty((points, 2 * fibre), u.dtype)
    best, index = np.empty(fibre, u.dtype), np.empty(fibre, np.int32)
    one = u.dtype.type(sign)
    for plane in range(first, last):
        frame[:, :fibre] = one * u[plane]
        frame[:, fibre:] = frame[:, :fibre]
        k = kernel[plane % kernel.shape[0]]
        nans = not np.isfinite(u[plane]).all() or not_ordinary(k)
        for g in range(points):
            best[:] = -np.inf
            index[:] = none
            for s in range(start[g], start[g + 1]):
                p = frame[taps[s, 0], taps[s, 1] : taps[s, 1] + fibre]
                if nans:
                    line_nan(best, index, p, k[s], np.int32(s - start[g]))
                else:
                    line_costs(best, index, p, k[s], np.int32(s - start[g]))
            for j in range(fibre):
                out[plane, g, j] = one * best[j]
                if keep:
                    winner[plane, g, j] = index[j]


@njit(cache=True, nogil=True)
def backward(grad, winner, taps, start, none, grad_u, sums, first, last):
    """Compute gradients of channels ``first`` to ``last``.

    Send grad [B,C,F,G,n] to the winning taps, and sum it into sums [C,kernels,S].
    """
    batch, _, fibre, rings, length = grad.shape
    kernels = sums.shape[1]
    ring, around, along = taps[:, 0] * length, taps[:, 1].copy(), taps[:, 2].copy()
    for c in range(first, last):
        sums[c] = 0
        for b in range(batch):
            plane = grad_u[b, c].reshape(-1)
            plane[:] = 0
            for f in range(fibre):
                total = sums[c, f % kernels]
                for g in range(rings):
                    for j in range(length):
                        t = winner[b, c, f, g, j]
                        if t != none:
                            s = np.uint64(start[g] + t)
                            value, turn, at = grad[b, c, f, g, j], f + around[s], j + along[s]
                            turn -= fibre if turn >= fibre else 0
                            at -= length if at >= length else 0
                            plane[np.uint64(turn * rings * length + ring[s] + at)] += value
                            total[s] += value
