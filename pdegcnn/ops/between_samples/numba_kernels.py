"""Loops of the interpolation between samples, compiled by Numba once per dtype (see ``numba_impl.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz"}
BLOCK = 1024
"""Pixels whose orientations are mixed at once: they stay in the first cache."""


@njit(**PART, fastmath=FLAGS)
def add_four(out, a, b, c, d, wa, wb, wc, wd):
    """Add four weighted lines to ``out``."""
    for w in range(np.uint64(out.size)):
        out[w] += wa * a[w] + wb * b[w] + (wc * c[w] + wd * d[w])


@njit(**PART, fastmath=FLAGS)
def add_one(out, a, wa):
    """Add a weighted line to ``out``."""
    for w in range(np.uint64(out.size)):
        out[w] += wa * a[w]


@njit(**PART)
def copy(out, line):
    """Write ``line`` into ``out``; an assignment of arrays would take three seconds to compile."""
    for w in range(np.uint64(out.size)):
        out[w] = line[w]


@njit(**PART)
def mix(out, planes, matrix):
    """Add ``matrix [Or,P] @ planes [P,N]`` to ``out [Or,N]``."""
    count, size = planes.shape
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        for o in range(out.shape[0]):
            line, w, i = out[o, start:stop], matrix[o], 0
            while i + 4 <= count:
                add_four(
                    line, planes[i, start:stop], planes[i + 1, start:stop], planes[i + 2, start:stop],
                    planes[i + 3, start:stop], w[i], w[i + 1], w[i + 2], w[i + 3],
                )  # fmt: skip
                i += 4
            while i < count:
                add_one(line, planes[i, start:stop], w[i])
                i += 1


@njit(**PART, fastmath=FLAGS)
def weigh(out, a, b, c, d, taps):
    """Write the weighted sum of four lines."""
    ta, tb, tc, td = taps[0], taps[1], taps[2], taps[3]
    for w in range(np.uint64(out.size)):
        out[w] = ta * a[w] + tb * b[w] + (tc * c[w] + td * d[w])


@njit(**PART)
def shift(out, plane, taps, outside, line):
    """Write ``plane [H,W]`` at points further along rows and columns by ``taps [2,4]``; ``line`` has room for H W + 3.

    All rows are one line, so that small planes are not slower. What the line takes from a nearby row is corrected.
    """
    height, width = plane.shape
    size, flat = height * width, plane.reshape(-1)
    down, right = taps[0, 1] != 1, taps[1, 1] != 1
    moved = line[1 : size + 1] if right else out.reshape(-1)
    if not down:
        copy(moved, flat)
    else:
        if height > 3:
            end = size - 3 * width
            weigh(moved[width : end + width], flat[:end], flat[width:], flat[2 * width :], flat[3 * width :], taps[0])
        for h in (0, height - 2):
            if 0 <= h < height - 1:
                weigh(
                    moved[h * width : (h + 1) * width], plane[max(h - 1, 0)], plane[h], plane[h + 1],
                    plane[min(h + 2, height - 1)], taps[0],
                )  # fmt: skip
        moved[size - width :] = outside
    if right:
        weigh(out.reshape(-1), line[:size], line[1:], line[2:], line[3:], taps[1])
        for h in range(height - 1 if down else height):
            row = moved[h * width : (h + 1) * width]
            for w in (0, width - 2):
                if w >= 0:
                    before, after = row[max(w - 1, 0)], row[min(w + 2, width - 1)]
                    inner = taps[1, 1] * row[w] + taps[1, 2] * row[w + 1]
                    out[h, w] = taps[1, 0] * before + inner + taps[1, 3] * after
            out[h, width - 1] = outside
        if down:
            out[height - 1] = outside


@njit(**PART)
def shift_back(out, grad, taps, line, lines):
    """Write the adjoint of :func:`shift` for ``grad [H,W]``; there is room for H W + 3 and for (H + 3) W numbers."""
    height, width = grad.shape
    size = height * width
    down, right = taps[0, 1] != 1, taps[1, 1] != 1
    back = lines[2 * width : 2 * width + size] if down else out.reshape(-1)
    if right:
        copy(line[2 : size + 2], grad.reshape(-1))
        line[width + 1 : size + 2 : width] = 0  # the last column lies outside
        weigh(back, line[:size], line[1:], line[2:], line[3:], taps[1, ::-1])
        for h in range(height):
            row = back[h * width : (h + 1) * width]
            row[0] = row[width - 1] = 0
            if width > 1:
                first, last = grad[h, 0], grad[h, width - 2]
                row[0] = (taps[1, 0] + taps[1, 1]) * first
                row[width - 1] += (taps[1, 2] + taps[1, 3]) * last
            if width > 2:
                row[0] += taps[1, 0] * grad[h, 1]
                row[width - 1] += taps[1, 3] * grad[h, width - 3]
    else:
        copy(back, grad.reshape(-1))
    if down:
        back[size - width :] = 0
        weigh(out.reshape(-1), lines[:size], lines[width:], lines[2 * width :], lines[3 * width :], taps[0, ::-1])
        if height > 1:
            add_one(out[0], back[:width], taps[0, 0])
            add_one(out[height - 1], back[size - 2 * width : size - width], taps[0, 3])


@njit(**ENTRY)
def forward(u, matrix, outside, taps, out, start, stop):
    """Write readings ``out [N,n*Or,H,W]`` of signals u [N,Or,H,W] number ``start`` to ``stop``; ``taps [n,2,4]``."""
    _, orientations, height, width = u.shape
    readings = taps.shape[0]
    mixed, line = np.empty((orientations, height, width), u.dtype), np.zeros(height * width + 3, u.dtype)
    for item in range(start, stop):
        for p in range(readings):
            planes = u[item]
            if p > 0:
                mixed[:] = 0
                rows = matrix[(p - 1) * orientations : p * orientations]
                mix(mixed.reshape(orientations, -1), u[item].reshape(orientations, -1), rows)
                planes = mixed
            for o in range(orientations):
                shift(out[item, readings * o + p], planes[o], taps[p], outside[item], line)


@njit(**ENTRY)
def adjoint(grad, matrix, taps, out, start, stop):
    """Compute gradients ``out [N,Or,H,W]`` in the signals number ``start`` to ``stop`` from ``grad [N,n*Or,H,W]``."""
    _, orientations, height, width = out.shape
    readings = taps.shape[0]
    mixed, line = np.empty((orientations, height, width), grad.dtype), np.zeros(height * width + 3, grad.dtype)
    lines = np.zeros((height + 3) * width, grad.dtype)
    for item in range(start, stop):
        for o in range(orientations):
            shift_back(out[item, o], grad[item, readings * o], taps[0], line, lines)
        for p in range(1, readings):
            for o in range(orientations):
                shift_back(mixed[o], grad[item, readings * o + p], taps[p], line, lines)
            columns = np.ascontiguousarray(matrix[(p - 1) * orientations : p * orientations].T)
            mix(out[item].reshape(orientations, -1), mixed.reshape(orientations, -1), columns)
