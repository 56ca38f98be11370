"""Loops of the convection operator, compiled by Numba once per dtype (see ``numba_impl.py``).

The shift is constant on a plane. A strip of rows of two neighbouring planes is sampled at whole steps, with a row and a
column more than it has outputs; what follows is done on the strip as on one long line, in loops that become vector
instructions also where rows are short: blend the planes, then rows, then columns. Boundaries are numbered 0 zeros,
1 replicate, 2 periodic.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz", "reassoc"}
STRIP = 2048
"""Numbers in a strip: a few strips stay in the first cache."""
LONG = 32
"""Rows from this length on are blended while they are read; for shorter ones, a copy first is faster."""


@njit(**PART)
def source(i, size, boundary):
    """Compute the index that stands for i on an axis, or -1 where the signal is zero."""
    if boundary == 2:
        return i % size
    if 0 <= i < size:
        return i
    return -1 if boundary == 0 else min(max(i, 0), size - 1)


@njit(**PART)
def sources(whole, size, boundary):
    """Return the index of each sample 0 to ``size`` (inclusive) after a whole shift."""
    index = np.empty(size + 1, np.int64)
    limit = 2.0**40
    step = np.int64(min(max(whole, -limit), limit))
    for i in range(size + 1):
        index[i] = source(i + step, size, boundary)
    return index


@njit(**PART)
def lines_together(height, wide):
    """Compute the number of rows of a strip, about equal for all strips of a plane."""
    strips = max(1, min(height, (height * wide + STRIP - 1) // STRIP))
    return (height + strips - 1) // strips


@njit(**PART)
def neighbours(columns):
    """Return the longest range of samples that are neighbours in the signal: ``first, last`` (exclusive)."""
    first, last, low = 0, 0, 0
    for w in range(columns.size):
        if columns[w] < 0 or (w > low and columns[w] != columns[w - 1] + 1):
            low = w if columns[w] >= 0 else w + 1
        if w + 1 - low > last - first and columns[w] >= 0:
            first, last = low, w + 1
    return first, last


@njit(**PART)
def copy(out, row):
    """Write row into out."""
    for w in range(out.size):
        out[w] = row[w]


@njit(**PART)
def sample(strip, plane, rows, columns, first, last):
    """Read ``plane`` at rows and columns into the strip; samples ``first`` to ``last`` of a row are neighbours."""
    width = columns.size
    begin = columns[first] if last > first else 0
    for h in range(rows.size):
        line = strip[h * width : (h + 1) * width]
        if rows[h] < 0:
            line[:] = 0
            continue
        row = plane[rows[h]]
        for w in range(first):
            line[w] = row[columns[w]] if columns[w] >= 0 else 0
        copy(line[first:last], row[begin : begin + last - first])
        for w in range(last, width):
            line[w] = row[columns[w]] if columns[w] >= 0 else 0


@njit(**PART, fastmath={"contract", "nsz"})
def add_row(line, row, weight):
    """Add weight * row to line."""
    for w in range(line.size):
        line[w] += weight * row[w]


@njit(**PART, fastmath={"contract", "nsz"})
def spread(strip, plane, weight, rows, columns, first, last):
    """Transpose of :func:`sample`: add ``weight`` times the strip to the plane."""
    width = columns.size
    begin = columns[first] if last > first else 0
    for h in range(rows.size):
        if rows[h] < 0:
            continue
        line, row = strip[h * width : (h + 1) * width], plane[rows[h]]
        for w in range(first):
            if columns[w] >= 0:
                row[columns[w]] += weight * line[w]
        add_row(row[begin : begin + last - first], line[first:last], weight)
        for w in range(last, width):
            if columns[w] >= 0:
                row[columns[w]] += weight * line[w]


@njit(**PART, fastmath={"contract", "nsz"})
def blend(out, one, other, share):
    """Interpolate linearly between two strips."""
    rest = one.dtype.type(1) - share
    for k in range(out.size):
        out[k] = rest * one[k] + share * other[k]


@njit(**PART, fastmath={"contract", "nsz"})
def blend_columns(plane, low, count, line, share):
    """Interpolate between neighbours into rows ``low`` to ``low + count`` of the plane."""
    wide = plane.shape[1] + 1
    for h in range(count):
        row = line[h * wide : (h + 1) * wide]
        blend(plane[low + h], row, row[1:], share)


@njit(**PART, fastmath=FLAGS)
def slope(flow, one, other):
    """Compute the inner product of ``flow`` with the difference of two strips."""
    total = 0.0
    for low in range(0, flow.size, 256):
        size = np.uint64(min(256, flow.size - low))
        a, b, c = flow[low:], one[low:], other[low:]
        part = flow.dtype.type(0)
        for k in range(size):
            part += a[k] * (c[k] - b[k])
        total += part
    return total


@njit(**PART)
def mix(strip, one, other, share, rows, columns, first, last):
    """Combine :func:`sample` of two planes and :func:`blend` of the two strips."""
    width, rest = columns.size, strip.dtype.type(1) - share
    begin = columns[first] if last > first else 0
    for h in range(rows.size):
        line = strip[h * width : (h + 1) * width]
        if rows[h] < 0:
            line[:] = 0
            continue
        a, b = one[rows[h]], other[rows[h]]
        for w in range(first):
            line[w] = rest * a[columns[w]] + share * b[columns[w]] if columns[w] >= 0 else 0
        blend(line[first:last], a[begin : begin + last - first], b[begin : begin + last - first], share)
        for w in range(last, width):
            line[w] = rest * a[columns[w]] + share * b[columns[w]] if columns[w] >= 0 else 0


@njit(**ENTRY)
def forward(u, shift, out, boundary, start, stop):
    """Compute planes ``start`` to ``stop`` of u [B*C,Or,H,W] at shift [C,Or,3]."""
    _, orientations, height, width = u.shape
    wide, most = width + 1, lines_together(height, width + 1)
    strips = np.empty((3, (most + 1) * wide), u.dtype)
    mixed, line, other = strips[0], strips[1], strips[2]
    for n in range(start, stop):
        for o in range(orientations):
            s = shift[n % shift.shape[0], o]
            planes = sources(np.floor(s[0]), orientations, np.int64(2))
            rows = sources(np.floor(s[1]), height, boundary)
            columns = sources(np.floor(s[2]), width, boundary)
            first, last = neighbours(columns)
            f = s - np.floor(s)
            for low in range(0, height, most):
                count = min(most, height - low)
                taken, size = rows[low : low + count + 1], count * wide
                if width >= LONG:
                    mix(mixed, u[n, planes[o]], u[n, planes[o + 1]], f[0], taken, columns, first, last)
                else:
                    sample(line, u[n, planes[o]], taken, columns, first, last)
                    sample(other, u[n, planes[o + 1]], taken, columns, first, last)
                    blend(mixed[: size + wide], line, other, f[0])
                blend(line[:size], mixed, mixed[wide:], f[1])
                blend_columns(out[n, o], low, count, line, f[2])


@njit(**PART)
def adjoint(grad, low, count, f, flow, along, back):
    """Compute the transposes of the blends.

    These are rows of grad as a strip ``flow``, after those of columns ``along`` and rows ``back``.

    Each strip has a number of zeros before it, so that neighbours can be read there.
    """
    width = grad.shape[1]
    wide = width + 1
    size = count * wide
    for h in range(count):
        at = (h + 1) * wide
        copy(flow[at : at + width], grad[low + h])
        flow[at + width] = 0
    blend(along[wide : wide + size], flow[wide:], flow[wide - 1 :], f[2])
    along[wide + size : wide + size + wide] = 0
    blend(back[: size + wide], along[wide:], along, f[1])


@njit(**ENTRY)
def backward(grad, u, shift, grad_u, grad_shift, boundary, start, stop):
    """Transpose of :func:`forward` into grad_u, and the derivative in the shift into grad_shift [B*C,Or,3]."""
    _, orientations, height, width = u.shape
    wide, most = width + 1, lines_together(height, width + 1)
    strips = np.zeros((6, (most + 2) * wide), u.dtype)
    here, there, mixed, flow, along, back = strips[0], strips[1], strips[2], strips[3], strips[4], strips[5]
    for n in range(start, stop):
        grad_u[n] = 0
        for o in range(orientations):
            s = shift[n % shift.shape[0], o]
            planes = sources(np.floor(s[0]), orientations, np.int64(2))
            rows = sources(np.floor(s[1]), height, boundary)
            columns = sources(np.floor(s[2]), width, boundary)
            first, last = neighbours(columns)
            f = s - np.floor(s)
            grad_shift[n, o] = 0
            for low in range(0, height, most):
                count = min(most, height - low)
                taken, size = rows[low : low + count + 1], count * wide
                adjoint(grad[n, o], low, count, f, flow, along, back)
                spread(back, grad_u[n, planes[o]], u.dtype.type(1) - f[0], taken, columns, first, last)
                spread(back, grad_u[n, planes[o + 1]], f[0], taken, columns, first, last)
                sample(here, u[n, planes[o]], taken, columns, first, last)
                sample(there, u[n, planes[o + 1]], taken, columns, first, last)
                grad_shift[n, o, 0] += slope(back[: size + wide], here, there)
                blend(mixed[: size + wide], here, there, f[0])
                grad_shift[n, o, 1] += slope(along[wide : wide + size], mixed, mixed[wide:])
                blend(here[:size], mixed, mixed[wide:], f[1])
                here[size] = 0
                grad_shift[n, o, 2] += slope(flow[wide : wide + size], here, here[1:])
