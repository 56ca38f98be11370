"""Loops of the interpolation between samples, compiled by Numba once per dtype (see ``numba_impl.py``).

All arrays are lines, and a part of a line is given by its place: a slice takes Numba as long to compile as ten sums.
Places are cast to unsigned numbers in the inner loops, which then need no test for negative ones.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz"}
BLOCK = 1024
"""Pixels whose orientations are mixed at once: they stay in the first cache."""
ZERO, ONE, TWO, THREE = np.int64(0), np.int64(1), np.int64(2), np.int64(3)
"""Arguments of loops: Numba compiles a loop again for each literal number."""


@njit(**PART, fastmath=FLAGS)
def add_four(out, to, planes, at, gap, size, matrix, entry, step):
    """Add four lines of ``planes``, ``gap`` apart, times four entries of ``matrix``, ``step`` apart."""
    to, a, b, c, d = np.uint64(to), np.uint64(at), np.uint64(at + gap), np.uint64(at + 2 * gap), np.uint64(at + 3 * gap)
    wa, wb, wc, wd = matrix[entry], matrix[entry + step], matrix[entry + 2 * step], matrix[entry + 3 * step]
    for w in range(np.uint64(size)):
        out[to + w] += wa * planes[a + w] + wb * planes[b + w] + (wc * planes[c + w] + wd * planes[d + w])


@njit(**PART, fastmath=FLAGS)
def add_one(out, to, line, at, size, factor):
    """Add ``factor`` times a line to ``out``."""
    to, at = np.uint64(to), np.uint64(at)
    for w in range(np.uint64(size)):
        out[to + w] += factor * line[at + w]


@njit(**PART)
def copy(out, to, line, at, size):
    """Write a line into ``out``."""
    to, at = np.uint64(to), np.uint64(at)
    for w in range(np.uint64(size)):
        out[to + w] = line[at + w]


@njit(**PART)
def fill(out, to, size, value):
    """Write ``size`` times ``value``."""
    for w in range(np.uint64(size)):
        out[np.uint64(to) + w] = value


@njit(**PART)
def mix(out, to, planes, at, size, orientations, matrix, first, row, column):
    """Add to planes ``out`` from ``to`` on those of ``planes`` from ``at`` on, times a square part of ``matrix``.

    The part begins at entry ``first``; its rows are ``row`` entries apart, its columns ``column``.
    """
    for start in range(0, size, BLOCK):
        count = size - start if size - start < BLOCK else BLOCK
        for o in range(orientations):
            line, i = to + o * size + start, 0
            while i < orientations:
                source, entry = at + i * size + start, first + o * row + i * column
                if i + 4 <= orientations:
                    add_four(out, line, planes, source, size, count, matrix, entry, column)
                    i += 4
                else:
                    add_one(out, line, planes, source, count, matrix[entry])
                    i += 1


@njit(**PART, fastmath=FLAGS)
def weigh(out, to, line, a, b, c, d, size, taps, first):
    """Write the sum of four parts of a line, times the taps from number ``first`` on."""
    ta, tb, tc, td = taps[first], taps[first + 1], taps[first + 2], taps[first + 3]
    to, a, b, c, d = np.uint64(to), np.uint64(a), np.uint64(b), np.uint64(c), np.uint64(d)
    for w in range(np.uint64(size)):
        out[to + w] = ta * line[a + w] + tb * line[b + w] + (tc * line[c + w] + td * line[d + w])


@njit(**PART)
def weigh_column(out, to, line, a, b, d, rows, width, taps, first):
    """Do the same for a column, whose second and third part are neighbours."""
    ta, tb, tc, td = taps[first], taps[first + 1], taps[first + 2], taps[first + 3]
    to, a, b, d, step = np.uint64(to), np.uint64(a), np.uint64(b), np.uint64(d), np.uint64(width)
    for h in range(np.uint64(rows)):
        at = h * step
        inner = tb * line[b + at] + tc * line[b + at + np.uint64(1)]
        out[to + at] = ta * line[a + at] + inner + td * line[d + at]


@njit(**PART)
def fill_column(out, to, rows, width, value):
    """Write ``value`` to a column."""
    for h in range(np.uint64(rows)):
        out[np.uint64(to) + h * np.uint64(width)] = value


@njit(**PART)
def shift(out, to, plane, at, height, width, taps, first, outside, line):
    """Write a plane [H,W] at points further along rows and columns by taps; ``line`` has room for H W + 3.

    All rows are one line, so that small planes are not slower. What the line takes from a nearby row is corrected.
    """
    size, down, right = height * width, taps[first + 1] != 1, taps[first + 5] != 1
    moved, base = out, to
    if right:
        moved, base = line, ONE
    if not down:
        copy(moved, base, plane, at, size)
    else:
        if height > 3:
            b = at + width
            weigh(moved, base + width, plane, at, b, b + width, b + 2 * width, size - 3 * width, taps, first)
        for h in range(0, height - 1, height - 2 if height > 2 else 1):
            b = at + h * width
            a, d = b - width if h > 0 else b, b + 2 * width if h + 2 < height else b + width
            weigh(moved, base + h * width, plane, a, b, b + width, d, width, taps, first)
        fill(moved, base + size - width, width, outside)
    if right:
        weigh(out, to, line, ZERO, ONE, TWO, THREE, size, taps, first + 4)
        rows = height - 1 if down else height
        for w in range(0, width - 1, width - 2 if width > 2 else 1):
            a, d = 1 if w == 0 else w, w + 3 if w + 2 < width else w + 2
            weigh_column(out, to + w, line, a, w + 1, d, rows, width, taps, first + 4)
        fill_column(out, to + width - 1, rows, width, outside)
        if down:
            fill(out, to + size - width, width, outside)


@njit(**PART)
def shift_back(out, to, grad, at, height, width, taps, first, line, lines):
    """Write the adjoint of :func:`shift` for a plane of ``grad``; there is room for H W + 3 and for (H + 3) W numbers.

    After the eight taps of a shift come the same in reverse order.
    """
    size, down, right = height * width, taps[first + 1] != 1, taps[first + 5] != 1
    back, base = out, to
    if down:
        back, base = lines, 2 * width
    if right:
        copy(line, TWO, grad, at, size)
        fill_column(line, width + 1, height, width, grad.dtype.type(0))  # the last column lies outside
        weigh(back, base, line, ZERO, ONE, TWO, THREE, size, taps, first + 12)
        for h in range(height):
            row, last = base + h * width, at + h * width + width - 2
            end = row + width - 1
            back[row] = 0
            if width == 1:
                continue
            back[row] = (taps[first + 4] + taps[first + 5]) * grad[last - width + 2]
            value = (taps[first + 6] + taps[first + 7]) * grad[last]
            back[end] = value if width == 2 else value + taps[first + 7] * grad[last - 1]
            if width > 2:
                back[row] += taps[first + 4] * grad[last - width + 3]
    else:
        copy(back, base, grad, at, size)
    if down:
        fill(back, base + size - width, width, grad.dtype.type(0))
        weigh(out, to, lines, ZERO, width, 2 * width, 3 * width, size, taps, first + 8)
        if height > 1:
            add_one(out, to, lines, base, width, taps[first])
            add_one(out, to + size - width, lines, base + size - 2 * width, width, taps[first + 3])


@njit(**ENTRY)
def forward(mixed, line, u, matrix, outside, taps, out, readings, orientations, height, width, start, stop):
    """Write readings ``out [N,n*Or,H,W]`` of signals u [N,Or,H,W] number ``start`` to ``stop``; ``taps [n,4,4]``."""
    size = height * width
    for item in range(start, stop):
        for p in range(readings):
            planes, at = u, item * orientations * size
            if p > 0:
                fill(mixed, ZERO, orientations * size, u.dtype.type(0))
                first = (p - 1) * orientations * orientations
                mix(mixed, ZERO, u, at, size, orientations, matrix, first, orientations, ONE)
                planes, at = mixed, ZERO
            for o in range(orientations):
                to = ((item * orientations + o) * readings + p) * size
                shift(out, to, planes, at + o * size, height, width, taps, 16 * p, outside[item], line)


@njit(**ENTRY)
def adjoint(mixed, line, lines, grad, matrix, taps, out, readings, orientations, height, width, start, stop):
    """Compute gradients ``out [N,Or,H,W]`` in the signals number ``start`` to ``stop`` from ``grad [N,n*Or,H,W]``."""
    size = height * width
    for item in range(start, stop):
        for p in range(readings):
            back, to = out, item * orientations * size
            if p > 0:
                back, to = mixed, ZERO
            for o in range(orientations):
                at = ((item * orientations + o) * readings + p) * size
                shift_back(back, to + o * size, grad, at, height, width, taps, 16 * p, line, lines)
            if p > 0:
                first = (p - 1) * orientations * orientations
                mix(out, item * orientations * size, mixed, ZERO, size, orientations, matrix, first, ONE, orientations)
