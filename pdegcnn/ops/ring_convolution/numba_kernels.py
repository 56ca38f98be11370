"""Loops of the linear convolution on rings, compiled by Numba (see ``numba_impl.py``).

Several signals of one channel are copied with their numbers innermost and the ring doubled, so that a tap is a constant
offset and one vectorised loop over the ring and the signals, as in the loops of the max-plus convolution.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FLAGS = {"contract", "nsz", "reassoc"}


@njit(cache=True, nogil=True, fastmath=FLAGS)
def add_four(total, line, p, q, r, s, a, b, c, d):
    """Add the samples from four places of a line on, each times its weight."""
    for w in range(np.uint64(total.size)):
        total[w] += (a * line[p + w] + b * line[q + w]) + (c * line[r + w] + d * line[s + w])


@njit(cache=True, nogil=True, fastmath=FLAGS)
def add_one(total, line, p, a):
    """Add the samples from a place of a line on, times a weight."""
    for w in range(np.uint64(total.size)):
        total[w] += a * line[p + w]


@njit(cache=True, nogil=True, fastmath=FLAGS)
def products_of_four(row, line, p, q, r, s):
    """Return the inner products of a row with the samples from four places of a line on."""
    a = b = c = d = row.dtype.type(0)
    for w in range(np.uint64(row.size)):
        a += row[w] * line[p + w]
        b += row[w] * line[q + w]
        c += row[w] * line[r + w]
        d += row[w] * line[s + w]
    return a, b, c, d


@njit(cache=True, nogil=True, fastmath=FLAGS)
def product(row, line, p):
    """Return the same for one place."""
    total = row.dtype.type(0)
    for w in range(np.uint64(row.size)):
        total += row[w] * line[p + w]
    return total


@njit(cache=True, nogil=True)
def doubled(u):
    """Return signals u [b,F,G,n] as a line, with the batch innermost and the ring twice."""
    size, fibre, rings, length = u.shape
    frame = np.empty((fibre, rings, 2 * length, size), u.dtype)
    for f in range(fibre):
        for g in range(rings):
            for j in range(length):
                for i in range(size):
                    frame[f, g, j, i] = u[i, f, g, j]
            frame[f, g, length:] = frame[f, g, :length]
    return frame.reshape(-1)


@njit(cache=True, nogil=True)
def gather(line, u):
    """Write the points of a ring u [b,n] into a line with the numbers of signals innermost."""
    size, length = u.shape
    for j in range(length):
        for i in range(size):
            line[j * size + i] = u[i, j]


@njit(cache=True, nogil=True)
def locate(places, taps, f, fibre, rings, length, size):
    """Write the places where the taps begin in the line of :func:`doubled`, seen from the fibre sample f."""
    for s in range(taps.shape[0]):
        plane = f + taps[s, 1]
        plane -= fibre if plane >= fibre else 0
        places[s] = ((plane * rings + taps[s, 0]) * 2 * length + taps[s, 2]) * size


@njit(cache=True, nogil=True)
def reverse(taps, start, fibre, length):
    """Return what reads each ring: taps ``[S,3]``, where the lists start, and which tap each one reverses.

    With these the transpose of a convolution is a convolution.
    """
    first, order = np.zeros_like(start), np.empty(taps.shape[0], np.int64)
    for s in range(taps.shape[0]):
        first[taps[s, 0] + 1] += 1
    for g in range(first.size - 1):
        first[g + 1] += first[g]
    place, back = first.copy(), np.empty_like(taps)
    for g in range(start.size - 1):
        for s in range(start[g], start[g + 1]):
            ring, turn, shift = taps[s, 0], taps[s, 1], taps[s, 2]
            at = place[ring]
            back[at, 0], back[at, 1], back[at, 2] = g, (fibre - turn) % fibre, (length - shift) % length
            order[at] = s
            place[ring] += 1
    return back, first, order


@njit(cache=True, nogil=True)
def correlate(u, kernel, taps, start, out, size, first, last):
    """Convolve blocks ``first`` to ``last`` of ceil(B/size) per channel of u [B,C,F,G,n] with kernel [C,1 or F,S]."""
    convolve(u, kernel, taps, start, np.empty(0, np.int64), out, size, first, last)


@njit(cache=True, nogil=True)
def spread(grad, kernel, taps, start, out, size, first, last):
    """Add grad to the samples that the taps read, in the same blocks."""
    back, begins, order = reverse(taps, start, grad.shape[2], grad.shape[4])
    convolve(grad, kernel, back, begins, order, out, size, first, last)


@njit(cache=True, nogil=True)
def convolve(u, kernel, taps, start, order, out, size, first, last):
    """Sum over taps whose weights are those of the taps ``order`` that they reverse; if it is empty, their own."""
    batch, _, fibre, rings, length = u.shape
    blocks, kernels = -(-batch // size), kernel.shape[1]
    places, turned = np.empty(taps.shape[0], np.uint64), np.empty(order.size, kernel.dtype)
    for block in range(first, last):
        c, at = block // blocks, block % blocks * size
        count = min(size, batch - at)
        wide = length * count
        line, total = doubled(u[at : at + count, c]), np.empty(wide, u.dtype)
        for f in range(fibre):
            for s in range(order.size):
                turned[s] = kernel[c, (f + taps[s, 1]) % kernels, order[s]]
            k = turned if order.size else kernel[c, f % kernels]
            locate(places, taps, f, fibre, rings, length, count)
            for g in range(rings):
                total[:] = 0
                begin, end = start[g], start[g + 1]
                whole = begin + (end - begin) // 4 * 4
                for t in range(begin, whole, 4):
                    p, q, r, s = places[t], places[t + 1], places[t + 2], places[t + 3]
                    add_four(total, line, p, q, r, s, k[t], k[t + 1], k[t + 2], k[t + 3])
                for t in range(whole, end):
                    add_one(total, line, places[t], k[t])
                for i in range(count):
                    for j in range(length):
                        out[at + i, c, f, g, j] = total[j * count + i]


@njit(cache=True, nogil=True)
def products(grad, u, taps, start, out, size, first, last):
    """Sum grad times what the taps read into out [C,kernels,S], for channels ``first`` to ``last``."""
    batch, _, fibre, rings, length = grad.shape
    kernels = out.shape[1]
    places = np.empty(taps.shape[0], np.uint64)
    for c in range(first, last):
        out[c] = 0
        for at in range(0, batch, size):
            count = min(size, batch - at)
            wide = length * count
            line, row = doubled(u[at : at + count, c]), np.empty(wide, u.dtype)
            for f in range(fibre):
                total = out[c, f % kernels]
                locate(places, taps, f, fibre, rings, length, count)
                for g in range(rings):
                    gather(row, grad[at : at + count, c, f, g])
                    begin, end = start[g], start[g + 1]
                    whole = begin + (end - begin) // 4 * 4
                    for t in range(begin, whole, 4):
                        p, q, r, s = places[t], places[t + 1], places[t + 2], places[t + 3]
                        a, b, d, e = products_of_four(row, line, p, q, r, s)
                        total[t] += a
                        total[t + 1] += b
                        total[t + 2] += d
                        total[t + 3] += e
                    for t in range(whole, end):
                        total[t] += product(row, line, places[t])
