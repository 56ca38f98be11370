"""Loops of the gathered mean, compiled by Numba once for each number of directions.

The weights are symmetric except for the areas, so that the gradient in the signal is a gather over the same taps.

The taps of a vertex are worked on together: long loops without branches, which become vector instructions. Where they
lie serves all channels, and their weights serve all signals. Where no metric couples positions to directions, a half
turn does not change weights: they are computed for the first half of the directions (``folds`` = 2). Numbers are of one
dtype throughout: a product with an int would be computed in float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz", "reassoc"}


# rows: generic
COUNT, HALF = 2, 1  # directions, and half of them


# rows: end
@njit(**PART, fastmath=FLAGS)
def locate(lists, v, turned, y):
    """Compute half-angle coordinates and shares ``y [4, pairs*taps*N]`` of the taps of v; return their number."""
    start, _, offset, turn, _, _ = lists
    t, size = 0, turned.shape[1]
    for e in range(start[v], start[v + 1]):
        zx, zy, rest = offset[e, 0], offset[e, 1], turn[e]
        for k in range(np.uint64(size)):
            y[0, t + k] = turned[0, k] * zx + turned[1, k] * zy
            y[1, t + k] = turned[0, k] * zy - turned[1, k] * zx
            y[2, t + k] = turned[2, k] + rest
            y[3, t + k] = turned[3, k]
        t += size
    return t


@njit(**PART)
def folded(matrix, turned):
    """Return the number of directions that share weights, 2 or 1, and the table of taps of one of each."""
    folds = 1
    if COUNT % 2 == 0:
        folds = 2
        for g in matrix:
            if g[0, 2] != 0 or g[1, 2] != 0 or g[2, 0] != 0 or g[2, 1] != 0:
                folds = 1
    if folds == 1:
        return folds, turned
    half = np.empty((turned.shape[0], turned.shape[1] // 2), turned.dtype)
    for i in range(half.shape[0]):
        for j in range(half.shape[1]):
            half[i, j] = turned[i, j // HALF * COUNT + j % HALF]
    return folds, half


@njit(**PART, fastmath=FLAGS)
def weigh(y, g, lines, scale, below, place, weight, slope):
    """Compute distances of taps in samples of the profile, weights and how much these grow.

    ``lines [T,2]`` are values and rises.

    The numbers of samples in ``below`` and the look-up have separate loops, so that the others become vectors.
    """
    a, b, c, zero = g[0, 0], g[1, 1], g[2, 2], g.dtype.type(0)
    d, f, h = g[0, 1] + g[1, 0], g[0, 2] + g[2, 0], g[1, 2] + g[2, 1]
    last = g.dtype.type(lines.shape[0] - 1)
    for t in range(place.size):
        q = y[0, t] * (a * y[0, t] + d * y[1, t] + f * y[2, t])
        q += y[1, t] * (b * y[1, t] + h * y[2, t]) + c * y[2, t] * y[2, t]
        place[t] = np.sqrt(max(q, zero)) * scale
        below[t] = max(np.int32(min(place[t], last)), np.int32(0))
    for t in range(place.size):
        line = np.uint32(below[t])
        weight[t], slope[t] = lines[line, 0], lines[line, 1]
    for t in range(place.size):
        slope[t] *= y[3, t]
        weight[t] = weight[t] * y[3, t] + (place[t] - g.dtype.type(below[t])) * slope[t]


@njit(inline="always")
def unrolled(row, first, line):
    """Compute ``line[k] = row[(first + k) % N]``: what the taps of a pair read, so that no index wraps around."""
    j = first % COUNT
    for k in range(line.size):
        line[k] = row[j]
        j = j + 1 if j + 1 < COUNT else 0


@njit(inline="always")
def add_taps(weight, t, taps, folds, factor, line, sums):
    """Add ``factor`` times the weighted values of one pair to ``sums [N]``."""
    if folds == 2:
        for s in range(taps):
            for i in range(HALF):
                scaled = weight[t + i] * factor
                sums[i] += scaled * line[s + i]
                sums[i + HALF] += scaled * line[s + i + HALF]
            t += HALF
    else:
        for s in range(taps):
            for i in range(COUNT):
                sums[i] += weight[t + i] * factor * line[s + i]
            t += COUNT


@njit(**ENTRY, fastmath=FLAGS)
def forward(u, lists, matrix, turned, lines, scale, taps, most, out, total, first, last):
    """Compute vertices ``first`` to ``last`` of out [B,V,C,N] and of the sums of weights [V,C,N].

    Each vertex has at most ``most`` pairs.
    """
    start, columns, _, _, steps, areas = lists
    folds, turned = folded(matrix, turned)
    half, each = taps // 2, turned.shape[1]
    y, place, weight = (
        np.empty((4, most * each), u.dtype),
        np.empty(most * each, u.dtype),
        np.empty(most * each, u.dtype),
    )
    line, ones = np.empty(COUNT + taps, u.dtype), np.ones(COUNT + taps, u.dtype)
    slope, below = np.empty(most * each, u.dtype), np.empty(most * each, np.int32)
    sums, whole = np.empty(COUNT, u.dtype), np.empty(COUNT, u.dtype)
    for v in range(first, last):
        size = locate(lists, v, turned, y)
        for c in range(u.shape[2]):
            weigh(y, matrix[c], lines, scale, below, place[:size], weight[:size], slope)
            for b in range(-1, u.shape[0]):
                sums[:] = 0
                for e in range(start[v], start[v + 1]):
                    if b >= 0:
                        unrolled(u[b, columns[e], c], -half - steps[e], line)
                    values = line if b >= 0 else ones
                    add_taps(weight, (e - start[v]) * each, taps, folds, areas[columns[e]], values, sums)
                for i in range(COUNT):
                    if b >= 0:
                        out[b, v, c, i] = sums[i] / whole[i]
                    else:
                        whole[i] = total[v, c, i] = sums[i]


@njit(inline="always")
def add_gains(gain, other, t, taps, folds, area, flow, line, here):
    """Add the part of one signal to the gains of the weights of one pair; to ``other`` those of the second half."""
    if folds == 2:
        for s in range(taps):
            for i in range(HALF):
                gain[t + i] += flow[i] * (line[s + i] - here[i]) * area
                other[t + i] += flow[i + HALF] * (line[s + i + HALF] - here[i + HALF]) * area
            t += HALF
    else:
        for s in range(taps):
            for i in range(COUNT):
                gain[t + i] += flow[i] * (line[s + i] - here[i]) * area
            t += COUNT


@njit(**PART, fastmath=FLAGS)
def unfold(gain, other, folds):
    """Replace the gains of the two halves by their sum, and ``other`` by their difference."""
    for t in range(gain.size):
        if folds == 2:
            gain[t], other[t] = gain[t] + other[t], gain[t] - other[t]
        else:
            other[t] = gain[t]


@njit(**ENTRY, fastmath=FLAGS)
def backward(flow, u, out, lists, matrix, turned, lines, scale, taps, most, grad_u, sums, samples, block, first, last):
    """Compute gradients from ``flow`` = grad / total [B,V,C,N], blocks of vertices ``first`` to ``last``.

    Those in the metric are summed in ``sums [blocks,C,6]``, those in the profile, unless empty, in ``samples``.
    """
    start, columns, _, _, steps, areas = lists
    folds, turned = folded(matrix, turned)
    half, each = taps // 2, turned.shape[1]
    y, place, weight = (
        np.empty((4, most * each), u.dtype),
        np.empty(most * each, u.dtype),
        np.empty(most * each, u.dtype),
    )
    slope, gain, other = np.empty(most * each, u.dtype), np.empty(most * each, u.dtype), np.empty(most * each, u.dtype)
    below = np.empty(most * each, np.int32)
    line, found = np.empty(COUNT + taps, u.dtype), np.empty(COUNT, u.dtype)
    for item in range(first, last):
        sums[item] = 0
        for v in range(item * block, min((item + 1) * block, u.shape[1])):
            size = locate(lists, v, turned, y)
            for c in range(u.shape[2]):
                weigh(y, matrix[c], lines, scale, below, place[:size], weight[:size], slope)
                gain[:size] = 0
                other[:size] = 0
                for b in range(u.shape[0]):
                    found[:] = 0
                    for e in range(start[v], start[v + 1]):
                        w, t, first_step = columns[e], (e - start[v]) * each, -half - steps[e]
                        unrolled(flow[b, w, c], first_step, line)
                        add_taps(weight, t, taps, folds, areas[v], line, found)
                        unrolled(u[b, w, c], first_step, line)
                        add_gains(gain, other, t, taps, folds, areas[w], flow[b, v, c], line, out[b, v, c])
                    for i in range(COUNT):
                        grad_u[b, v, c, i] = found[i]
                unfold(gain[:size], other[:size], folds)
                add_metric(y, place[:size], slope, gain, other, scale, sums[item, c])
                if samples.shape[1] > 0:
                    add_profile(place[:size], gain, y[3], samples[item])


@njit(inline="always")
def add_metric(y, place, slope, gain, other, scale, total):
    """Add the part of the taps of one vertex to the gradient in the metric; a half turn negates two terms."""
    zero = slope.dtype.type(0)
    xx, yy, zz, xy, xz, yz = zero, zero, zero, zero, zero, zero
    for t in range(place.size):
        rate = slope[t] / place[t] if place[t] > zero else zero
        flow, coupled = gain[t] * rate, other[t] * rate
        xx += flow * y[0, t] * y[0, t]
        yy += flow * y[1, t] * y[1, t]
        zz += flow * y[2, t] * y[2, t]
        xy += flow * y[0, t] * y[1, t]
        xz += coupled * y[0, t] * y[2, t]
        yz += coupled * y[1, t] * y[2, t]
    factor = scale * scale * slope.dtype.type(0.5)
    total[0] += factor * xx
    total[1] += factor * yy
    total[2] += factor * zz
    total[3] += factor * xy
    total[4] += factor * xz
    total[5] += factor * yz


@njit(inline="always")
def add_profile(place, gain, share, total):
    """Add what the taps of one vertex give to the gradient in the profile."""
    for t in range(place.size):
        below = int(place[t])
        if 0 <= below < total.size - 1:
            rest = place[t] - below
            total[below] += gain[t] * share[t] * (1 - rest)
            total[below + 1] += gain[t] * share[t] * rest
