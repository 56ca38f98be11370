"""Loops of the linear convolution on rings, compiled by Numba (see ``numba_impl.py``).

Several signals of one channel are copied with their numbers innermost and the ring doubled, so that a tap is a constant
offset and one vectorised loop over the ring and the signals, as in the loops of the max-plus convolution.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, INSIDE, PART

FLAGS = {"contract", "nsz", "reassoc"}


@njit(**PART, fastmath=FLAGS)
def add_four(total, line, p, q, r, s, a, b, c, d):
    """Add the samples from four places of a line on, each times its weight."""
    for w in range(np.uint64(total.size)):
        total[w] += (a * line[p + w] + b * line[q + w]) + (c * line[r + w] + d * line[s + w])


@njit(**PART, fastmath=FLAGS)
def add_one(total, line, p, a):
    """Add the samples from a place of a line on, times a weight."""
    for w in range(np.uint64(total.size)):
        total[w] += a * line[p + w]


@njit(**PART, fastmath=FLAGS)
def products_of_four(row, line, p, q, r, s):
    """Return the inner products of a row with the samples from four places of a line on."""
    a = b = c = d = row.dtype.type(0)
    for w in range(np.uint64(row.size)):
        a += row[w] * line[p + w]
        b += row[w] * line[q + w]
        c += row[w] * line[r + w]
        d += row[w] * line[s + w]
    return a, b, c, d


@njit(**PART, fastmath=FLAGS)
def product(row, line, p):
    """Return the same for one place."""
    total = row.dtype.type(0)
    for w in range(np.uint64(row.size)):
        total += row[w] * line[p + w]
    return total


@njit(**PART)
def doubled(line, u, c, at, size):
    """Write ``size`` signals of u [B,C,F,G,n] from ``at`` on as a line, with these innermost and the ring twice."""
    _, _, fibre, rings, length = u.shape
    count, wide = np.uint64(size), np.uint64(length * size)
    for f in range(fibre):
        for g in range(rings):
            begin = np.uint64((f * rings + g) * 2) * wide
            for i in range(count):
                for j in range(np.uint64(length)):
                    value, place = u[np.uint64(at) + i, c, f, g, j], begin + j * count + i
                    line[place] = line[place + wide] = value


@njit(**INSIDE)
def gather(line, u, c, at, f, g, size):
    """Write the points of a ring of ``size`` signals into a line with the numbers of signals innermost."""
    for i in range(np.uint64(size)):
        for j in range(np.uint64(u.shape[4])):
            line[j * np.uint64(size) + i] = u[np.uint64(at) + i, c, f, g, j]


@njit(**PART)
def locate(places, taps, f, fibre, rings, length, size):
    """Write the places where the taps begin in the line of :func:`doubled`, seen from the fibre sample f."""
    for s in range(taps.shape[0]):
        plane = f + taps[s, 1]
        plane -= fibre if plane >= fibre else 0
        places[s] = ((plane * rings + taps[s, 0]) * 2 * length + taps[s, 2]) * size


@njit(**ENTRY)
def reverse(taps, start, place, fibre, length, back, first, order):
    """Write what reads each ring: taps ``[S,3]``, where the lists start, and which tap each one reverses.

    With these the transpose of a convolution is a convolution. ``first`` and ``place`` are zeros, as many as ``start``.
    """
    for s in range(taps.shape[0]):
        first[taps[s, 0] + 1] += 1
    for g in range(first.size - 1):
        first[g + 1] += first[g]
        place[g + 1] = first[g + 1]
    for g in range(start.size - 1):
        for s in range(start[g], start[g + 1]):
            ring, turn, shift = taps[s, 0], taps[s, 1], taps[s, 2]
            at = place[ring]
            back[at, 0], back[at, 1], back[at, 2] = g, (fibre - turn) % fibre, (length - shift) % length
            order[at] = s
            place[ring] += 1


@njit(**ENTRY)
def convolve(line, total, places, turned, u, kernel, taps, start, order, out, size, first, last):
    """Convolve blocks ``first`` to ``last`` of ceil(B/size) per channel of u [B,C,F,G,n] with kernel [C,1 or F,S].

    The weights are those of the taps ``order`` that the taps reverse; if it is empty, their own. There is room for the
    line, a ring of sums, the places of taps, and turned weights.
    """
    batch, _, fibre, rings, length = u.shape
    blocks, kernels = -(-batch // size), kernel.shape[1]
    for block in range(first, last):
        c, at = block // blocks, block % blocks * size
        count = min(size, batch - at)
        sums = total[: length * count]
        doubled(line, u, c, at, count)
        for f in range(fibre):
            for s in range(order.size):
                turned[s] = kernel[c, (f + taps[s, 1]) % kernels, order[s]]
            k = turned if order.size else kernel[c, f % kernels]
            locate(places, taps, f, fibre, rings, length, count)
            for g in range(rings):
                for w in range(np.uint64(sums.size)):
                    sums[w] = 0
                begin, end = start[g], start[g + 1]
                whole = begin + (end - begin) // 4 * 4
                for t in range(begin, whole, 4):
                    p, q, r, s = places[t], places[t + 1], places[t + 2], places[t + 3]
                    add_four(sums, line, p, q, r, s, k[t], k[t + 1], k[t + 2], k[t + 3])
                for t in range(whole, end):
                    add_one(sums, line, places[t], k[t])
                for i in range(np.uint64(count)):
                    for j in range(np.uint64(length)):
                        out[np.uint64(at) + i, c, f, g, j] = sums[j * np.uint64(count) + i]


@njit(**ENTRY)
def products(line, row, places, grad, u, taps, start, out, size, first, last):
    """Sum grad times what the taps read into out [C,kernels,S], for channels ``first`` to ``last``.

    There is room for the line, a ring, and the places of taps.
    """
    batch, _, fibre, rings, length = grad.shape
    kernels = out.shape[1]
    for c in range(first, last):
        out[c] = 0
        for at in range(0, batch, size):
            count = min(size, batch - at)
            ring = row[: length * count]
            doubled(line, u, c, at, count)
            for f in range(fibre):
                total = out[c, f % kernels]
                locate(places, taps, f, fibre, rings, length, count)
                for g in range(rings):
                    gather(ring, grad, c, at, f, g, count)
                    begin, end = start[g], start[g + 1]
                    whole = begin + (end - begin) // 4 * 4
                    for t in range(begin, whole, 4):
                        p, q, r, s = places[t], places[t + 1], places[t + 2], places[t + 3]
                        a, b, d, e = products_of_four(ring, line, p, q, r, s)
                        total[t] += a
                        total[t + 1] += b
                        total[t + 2] += d
                        total[t + 3] += e
                    for t in range(whole, end):
                        total[t] += product(ring, line, places[t])
