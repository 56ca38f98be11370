"""Loops of the gathered mean, compiled by Numba once for each number of directions.

The weights are symmetric except for the areas, so that the gradient in the signal is a gather over the same taps.

The taps (step, pair) of a direction are worked on together, in this order: long loops without branches, which become
vector instructions. What tap t of direction i reads is then number ``i * pairs + t`` of one list for all directions.
So are its coordinates, at ``2 * i * pairs + t``: they depend on ``2 i + step`` only. Where the taps lie serves all
channels, and their weights serve all signals. Where no metric couples positions to directions, a half turn does not
change weights: they are computed for the first half of the directions (``folds`` = 2). Numbers are of one dtype
throughout: a product with an int would be computed in float64.

Results of the functions are rows of two arrays: ``y`` for a vertex or a channel of it, ``taps`` for all directions.
Slices of them would take longer to compile than the offsets that the functions get.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz", "reassoc"}
SLACK = 32
"""The taps of a direction are filled up to a multiple of this by taps of weight zero, so that no vector is cut off."""


# rows: generic
COUNT, HALF = 2, 1  # directions, and half of them


# rows: end
@njit(**PART)
def filled(size, taps):
    """Return the number of taps filled up, if all directions are read: those added read the ones after the others."""
    return (size + SLACK - 1) // SLACK * SLACK if taps >= COUNT else size


@njit(**PART, fastmath=FLAGS)
def locate(lists, v, half_steps, rows, steps, y):
    """Compute half-angle coordinates ``y[:3]`` of the taps of v, their shares, and these times areas.

    ``half_steps [2N+taps,2]``: cosines and sines, of which ``rows`` are needed; ``steps [2,taps]``: turns and shares.
    """
    start, columns, offset, turn, _, areas = lists
    first, pairs, t = np.uint64(start[v]), np.uint64(start[v + 1] - start[v]), np.uint64(0)
    for m in range(rows):
        c, d = half_steps[m, 0], half_steps[m, 1]
        for e in range(pairs):
            zx, zy = offset[first + e, 0], offset[first + e, 1]
            y[0, t + e] = c * zx + d * zy
            y[1, t + e] = c * zy - d * zx
        t += pairs
    t = np.uint64(0)
    for s in range(steps.shape[1]):
        rise, part = steps[0, s], steps[1, s]
        for e in range(pairs):
            y[2, t + e] = turn[first + e] + rise
            y[3, t + e] = part
            y[4, t + e] = part * areas[columns[first + e]]
        t += pairs
    for k in range(np.uint64(SLACK)):
        y[2, t + k], y[3, t + k], y[4, t + k] = 0, 0, 0


@njit(**PART, fastmath=FLAGS)
def square(y, matrix, c, size):
    """Compute the parts ``y[5:7]`` of squared distances that depend on positions; turns are to multiply the second."""
    a, b, d = matrix[c, 0, 0], matrix[c, 1, 1], matrix[c, 0, 1] + matrix[c, 1, 0]
    f, h = matrix[c, 0, 2] + matrix[c, 2, 0], matrix[c, 1, 2] + matrix[c, 2, 1]
    for t in range(np.uint64(size)):
        y[5, t] = y[0, t] * (a * y[0, t] + d * y[1, t]) + b * y[1, t] * y[1, t]
        y[6, t] = f * y[0, t] + h * y[1, t]


@njit(**PART, fastmath=FLAGS)
def look_up(y, first, c, scale, lines, taps, below, line, low, size):
    """Compute distances ``taps[0]`` in samples of the profile, the samples below and their entries of ``lines``.

    The coordinates begin at ``first``. ``lines [T]`` are complex numbers: values and rises. The look-up has a loop of
    its own, so that the other becomes vectors.
    """
    zero, last = y.dtype.type(0), y.dtype.type(lines.size - 1)
    first, low = np.uint64(first), np.uint64(low)
    for t in range(np.uint64(size)):
        q = y[5, first + t] + y[2, t] * (y[6, first + t] + c * y[2, t])
        place = np.sqrt(max(q, zero)) * scale
        taps[0, low + t] = place
        below[low + t] = max(np.int32(min(place, last)), np.int32(0))
    for t in range(np.uint64(size)):
        line[t] = lines[np.uint32(below[low + t])]


@njit(**PART, fastmath=FLAGS)
def weigh(y, share, taps, below, line, low, size):
    """Compute weights ``taps[1]``, with the shares in row ``share`` of y, and return their sum."""
    total, low = y.dtype.type(0), np.uint64(low)
    for t in range(np.uint64(size)):
        rest = taps[0, low + t] - y.dtype.type(below[low + t])
        w = (line[t].real + rest * line[t].imag) * y[share, t]
        taps[1, low + t] = w
        total += w
    return total


@njit(**PART)
def list_places(lists, v, half, channels, places):
    """Compute where signals ``[V,C,N]`` have what the taps of v read in the first channel, ``places [N,pairs]``."""
    start, columns, _, _, steps, _ = lists
    first, pairs = np.uint64(start[v]), np.uint64(start[v + 1] - start[v])
    for e in range(pairs):
        row, j = columns[first + e] * channels * COUNT, (-half - steps[first + e]) % COUNT
        for k in range(np.uint64(COUNT)):
            places[k * pairs + e] = row + j
            j = j + 1 if j + 1 < COUNT else 0


@njit(**PART)
def unroll(u, b, c, places, size, again, y):
    """Compute what taps read, ``y[7]``, ``[N+taps-1,pairs]``: at ``size`` places, and ``again`` the first of these."""
    first, size, again = np.uint64(c * COUNT), np.uint64(size), np.uint64(again)
    for t in range(size):
        y[7, t] = u[b, first + np.uint64(places[t])]
    for t in range(again):
        y[7, size + t] = y[7, t]
    for t in range(np.uint64(SLACK)):
        y[7, size + again + t] = 0


@njit(**PART, fastmath=FLAGS)
def two_sums(y, taps, one, two, low, size):
    """Return the sums of the weighted values from ``one`` and from ``two``."""
    first, second = y.dtype.type(0), y.dtype.type(0)
    one, two, low = np.uint64(one), np.uint64(two), np.uint64(low)
    for t in range(np.uint64(size)):
        first += taps[1, low + t] * y[7, one + t]
        second += taps[1, low + t] * y[7, two + t]
    return first, second


@njit(**ENTRY, fastmath=FLAGS)
def forward(y, taps, below, line, places, u, lists, geometry, folds, out, total, first, last):
    """Compute vertices ``first`` to ``last`` of out [B,V,C,N] and of the sums of weights [V,C,N]; u ``[B,V*C*N]``.

    Arrays before u are room: y [8,2N*pairs+taps*pairs], taps [4,(N+1)*taps*pairs], see the functions above.
    ``geometry``: metric, cosines and sines of half steps, turns and shares of steps, lines of the profile, samples of
    it per unit.
    """
    start, (matrix, half_steps, steps, lines, scale) = lists[0], geometry
    y, taps = y.reshape(8, y.size // 8), taps.reshape(4, taps.size // 4)
    width, shared = steps.shape[1], COUNT // folds
    rows = 2 * (shared - 1) + width
    for v in range(first, last):
        pairs = start[v + 1] - start[v]
        size = filled(width * pairs, width)
        locate(lists, v, half_steps, rows, steps, y)
        list_places(lists, v, width // 2, out.shape[2], places)
        for c in range(out.shape[2]):
            square(y, matrix, c, rows * pairs + SLACK)
            for i in range(shared):
                look_up(y, 2 * i * pairs, matrix[c, 2, 2], scale, lines, taps, below, line, i * size, size)
                whole = weigh(y, np.uint64(4), taps, below, line, i * size, size)
                total[v, c, i] = whole
                if folds == 2:
                    total[v, c, i + HALF] = whole
            for b in range(out.shape[0]):
                unroll(u, b, c, places, COUNT * pairs, (width - 1) * pairs, y)
                for i in range(shared):
                    j = i + HALF if folds == 2 else i
                    one, two = two_sums(y, taps, i * pairs, j * pairs, i * size, size)
                    out[b, v, c, i], out[b, v, c, j] = one / total[v, c, i], two / total[v, c, i]


@njit(**PART, fastmath=FLAGS, error_model="numpy")
def grow(y, taps, line, low, size):
    """Compute how much weights grow with squared distances, ``taps[2]``."""
    zero, low = y.dtype.type(0), np.uint64(low)
    for t in range(np.uint64(size)):
        rate = line[t].imag * y[4, t] / taps[0, low + t]
        taps[2, low + t] = rate if taps[0, low + t] > zero else zero


@njit(**PART, fastmath=FLAGS)
def add_gains(y, taps, flow, here, new, one, low, size):
    """Add the part of one signal to the gains of weights, ``taps[3]``, which are zero before if ``new``."""
    one, low = np.uint64(one), np.uint64(low)
    if new:
        for t in range(np.uint64(size)):
            taps[3, low + t] = flow * (y[7, one + t] - here)
    else:
        for t in range(np.uint64(size)):
            taps[3, low + t] += flow * (y[7, one + t] - here)


@njit(**ENTRY, fastmath=FLAGS)
def backward(
    y, taps, below, line, places, flow, u, out, lists, geometry, folds, grad_u, sums, samples, block, first, last
):
    """Compute gradients from ``flow`` = grad / total, blocks of vertices ``first`` to ``last``; u, flow ``[B,V*C*N]``.

    Those in the metric are added to ``sums [blocks,C,6]``, those in the profile, unless empty, to ``samples``.
    """
    start, areas, (matrix, half_steps, steps, lines, scale) = lists[0], lists[5], geometry
    y, taps = y.reshape(8, y.size // 8), taps.reshape(4, taps.size // 4)
    width, shared = steps.shape[1], COUNT // folds
    rows = 2 * (shared - 1) + width
    batch, vertices, channels, _ = out.shape
    for item in range(first, last):
        for v in range(item * block, min((item + 1) * block, vertices)):
            pairs = start[v + 1] - start[v]
            size = filled(width * pairs, width)
            locate(lists, v, half_steps, rows, steps, y)
            list_places(lists, v, width // 2, channels, places)
            for c in range(channels):
                square(y, matrix, c, rows * pairs + SLACK)
                for i in range(shared):
                    look_up(y, 2 * i * pairs, matrix[c, 2, 2], scale, lines, taps, below, line, i * size, size)
                    weigh(y, np.uint64(3), taps, below, line, i * size, size)
                    grow(y, taps, line, i * size, size)
                for b in range(batch):
                    unroll(flow, b, c, places, COUNT * pairs, (width - 1) * pairs, y)
                    for i in range(shared):
                        j = i + HALF if folds == 2 else i
                        one, two = two_sums(y, taps, i * pairs, j * pairs, i * size, size)
                        grad_u[b, v, c, i], grad_u[b, v, c, j] = areas[v] * one, areas[v] * two
                    unroll(u, b, c, places, COUNT * pairs, (width - 1) * pairs, y)
                    for i in range(COUNT):
                        share = flow[b, (v * channels + c) * COUNT + i]
                        add_gains(y, taps, share, out[b, v, c, i], b == 0, i * pairs, i * size, size)
                for i in range(shared):
                    other = (i + HALF) * size if folds == 2 else taps.shape[1] - size  # the last are zeros
                    add_metric(y, taps, 2 * i * pairs, i * size, other, size, scale, sums, item, c)
                    if samples.shape[1] > 0:
                        add_profile(y, taps, i * size, i * size, size, samples, item)
                        add_profile(y, taps, i * size, other, size, samples, item)


@njit(**PART, fastmath=FLAGS)
def add_metric(y, taps, first, low, other, size, scale, sums, item, c):
    """Add the part of the taps of a direction and the opposite one to the gradient in the metric.

    A half turn negates two terms.
    """
    zero = y.dtype.type(0)
    xx, yy, zz, xy, xz, yz = zero, zero, zero, zero, zero, zero
    first, low, other = np.uint64(first), np.uint64(low), np.uint64(other)
    for t in range(np.uint64(size)):
        ahead, aside, turn, rate = y[0, first + t], y[1, first + t], y[2, t], taps[2, low + t]
        flow, coupled = (taps[3, low + t] + taps[3, other + t]) * rate, (taps[3, low + t] - taps[3, other + t]) * rate
        xx += flow * ahead * ahead
        yy += flow * aside * aside
        zz += flow * turn * turn
        xy += flow * ahead * aside
        xz += coupled * turn * ahead
        yz += coupled * turn * aside
    factor = scale * scale * y.dtype.type(0.5)
    sums[item, c, 0] += factor * xx
    sums[item, c, 1] += factor * yy
    sums[item, c, 2] += factor * zz
    sums[item, c, 3] += factor * xy
    sums[item, c, 4] += factor * xz
    sums[item, c, 5] += factor * yz


@njit(**PART)
def add_profile(y, taps, low, gain, size, samples, item):
    """Add what the taps of a direction give to the gradient in the profile."""
    for t in range(size):
        place, flow = taps[0, low + t], taps[3, gain + t] * y[4, t]
        below = int(place)
        if 0 <= below < samples.shape[1] - 1:
            samples[item, below] += flow * (1 - (place - below))
            samples[item, below + 1] += flow * (place - below)
