"""Loops of the convection operator, compiled by Numba once per dtype (see ``numba_impl.py``).

The shift is constant on a plane, and a plane is read as one long line, so that loops become vector instructions also
where rows are short. A strip of rows of two neighbouring planes is blended into a line whose rows are those after the
whole shift. Then its neighbouring rows are blended, then neighbouring columns, which are a constant number of places
away. Columns whose neighbours lie beyond the border, a few at either end, are computed again one by one. Boundaries are
numbered 0 zeros, 1 replicate, 2 periodic.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz", "reassoc"}
STRIP = 2048
"""Numbers in a strip: a few strips stay in the first cache."""


@njit(**PART)
def source(i, size, boundary):
    """Compute the index that stands for i on an axis, or -1 where the signal is zero."""
    if boundary == 2:
        return i % size
    if 0 <= i < size:
        return i
    return -1 if boundary == 0 else min(max(i, 0), size - 1)


@njit(**PART)
def sources(index, whole, size, boundary):
    """Write the index of each sample 0 to ``size`` (inclusive) after a whole shift, and return the shift."""
    limit = 2.0**40
    step = np.int64(min(max(whole, -limit), limit))
    for i in range(size + 1):
        index[i] = source(i + step, size, boundary)
    return step


@njit(**PART)
def inside(step, low, count, size):
    """Return the range of ``count`` samples from ``low`` on that lie inside the axis after a shift by ``step``."""
    first = min(max(-step - low, 0), count)
    return first, max(min(size - step - low, count), first)


@njit(**PART)
def lines_together(height, width):
    """Compute the number of rows of a strip, about equal for all strips of a plane."""
    strips = max(1, min(height, (height * width + STRIP - 1) // STRIP))
    return (height + strips - 1) // strips


@njit(**PART)
def copy(out, line):
    """Write a line into out."""
    for k in range(out.size):
        out[k] = line[k]


@njit(**PART, fastmath={"contract", "nsz"})
def add(line, other, weight):
    """Add weight * other to line."""
    for k in range(line.size):
        line[k] += weight * other[k]


@njit(**PART, fastmath={"contract", "nsz"})
def blend(out, one, other, share):
    """Interpolate linearly between two lines."""
    rest = one.dtype.type(1) - share
    for k in range(out.size):
        out[k] = rest * one[k] + share * other[k]


@njit(**PART, fastmath=FLAGS)
def slope(flow, one, other):
    """Compute the inner product of ``flow`` with the difference of two lines."""
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
def read(mixed, one, other, share, rows, first, last, width):
    """Blend rows of two planes; rows ``first`` to ``last`` follow one another there, others are read one by one."""
    if last > first:
        begin, end = rows[first] * width, (rows[last - 1] + 1) * width
        blend(mixed[first * width : last * width], one[begin:end], other[begin:end], share)
    for h in range(rows.size):
        if first <= h < last:
            continue
        line, at = mixed[h * width : (h + 1) * width], rows[h] * width
        if at < 0:
            line[:] = 0
        else:
            blend(line, one[at : at + width], other[at : at + width], share)


@njit(**PART)
def spread(flow, plane, weight, rows, first, last, width):
    """Transpose of :func:`read` for one plane: add ``weight`` times the rows of ``flow``."""
    if last > first:
        begin, end = rows[first] * width, (rows[last - 1] + 1) * width
        add(plane[begin:end], flow[first * width : last * width], weight)
    for h in range(rows.size):
        if not first <= h < last and rows[h] >= 0:
            at = rows[h] * width
            add(plane[at : at + width], flow[h * width : (h + 1) * width], weight)


@njit(**PART)
def along_planes(flow, one, other, rows, first, last, width):
    """Compute the inner product of the rows of ``flow`` with the difference of two planes."""
    total = 0.0
    if last > first:
        begin, end = rows[first] * width, (rows[last - 1] + 1) * width
        total += slope(flow[first * width : last * width], one[begin:end], other[begin:end])
    for h in range(rows.size):
        if not first <= h < last and rows[h] >= 0:
            at = rows[h] * width
            total += slope(flow[h * width : (h + 1) * width], one[at : at + width], other[at : at + width])
    return total


@njit(**PART)
def blend_column(out, line, share, w, columns):
    """Interpolate between the two columns that output column w, at the border, reads."""
    one, other, width, none = columns[w], columns[w + 1], columns.size - 1, line.dtype.type(0)
    rest = line.dtype.type(1) - share
    for h in range(0, out.size, width):
        a = line[h + one] if one >= 0 else none
        b = line[h + other] if other >= 0 else none
        out[h + w] = rest * a + share * b


@njit(**PART)
def spread_column(along, grad, share, w, columns):
    """Transpose of :func:`blend_column`."""
    one, other, width = columns[w], columns[w + 1], columns.size - 1
    rest = along.dtype.type(1) - share
    for h in range(0, grad.size, width):
        if one >= 0:
            along[h + one] += rest * grad[h + w]
        if other >= 0:
            along[h + other] += share * grad[h + w]


@njit(**PART)
def slope_column(grad, line, w, columns):
    """Compute the inner product of column w of grad, at the border, with the difference of those that it reads."""
    one, other, width, none = columns[w], columns[w + 1], columns.size - 1, line.dtype.type(0)
    total = 0.0
    for h in range(0, grad.size, width):
        a = line[h + one] if one >= 0 else none
        b = line[h + other] if other >= 0 else none
        total += grad[h + w] * (b - a)
    return total


@njit(**ENTRY)
def forward(u, shift, out, width, boundary, parts, start, stop):
    """Compute u [B,C,Or,H*W] at shift [C,Or,3]; each item is one part of the signals of one channel."""
    batch, _, orientations, pixels = u.shape
    height = pixels // width
    most = lines_together(height, width)
    mixed, line = np.zeros((most + 1) * width, u.dtype), np.zeros((most + 2) * width, u.dtype)
    planes, rows = np.empty(orientations + 1, np.int64), np.empty(height + 1, np.int64)
    columns = np.empty(width + 1, np.int64)
    for item in range(start, stop):
        c, part = item // parts, item % parts
        for o in range(orientations):
            s = shift[c, o]
            f0, f1, f2 = s[0] - np.floor(s[0]), s[1] - np.floor(s[1]), s[2] - np.floor(s[2])
            sources(planes, np.floor(s[0]), orientations, np.int64(2))
            down = sources(rows, np.floor(s[1]), height, boundary)
            step = sources(columns, np.floor(s[2]), width, boundary)
            left, right = inside(step, 0, width, width - 1)
            for b in range(batch * part // parts, batch * (part + 1) // parts):
                one, other = u[b, c, planes[o]], u[b, c, planes[o + 1]]
                for low in range(0, height, most):
                    count = min(most, height - low)
                    size, result = count * width, out[b, c, o, low * width : (low + count) * width]
                    first, last = inside(down, low, count + 1, height)
                    read(mixed[: size + width], one, other, f0, rows[low : low + count + 1], first, last, width)
                    centre = line[width : width + size]
                    blend(centre, mixed, mixed[width:], f1)
                    if right > left:
                        blend(result, line[width + step :], line[width + step + 1 :], f2)
                    for w in range(width):
                        if not left <= w < right:
                            blend_column(result, centre, f2, w, columns)


@njit(**ENTRY)
def backward(grad, u, shift, grad_u, grad_shift, width, boundary, parts, start, stop):
    """Transpose of :func:`forward` into grad_u, and the derivative in the shift into grad_shift [parts,C,Or,3].

    Lines have a row before and after their own, of zeros where it is read.
    """
    batch, _, orientations, pixels = u.shape
    height = pixels // width
    most = lines_together(height, width)
    lines = np.zeros((5, (most + 2) * width), u.dtype)
    mixed, line, flow, along, back = lines[0], lines[1], lines[2], lines[3], lines[4]
    planes, rows = np.empty(orientations + 1, np.int64), np.empty(height + 1, np.int64)
    columns = np.empty(width + 1, np.int64)
    for item in range(start, stop):
        c, part = item // parts, item % parts
        begin, end = batch * part // parts, batch * (part + 1) // parts
        grad_shift[part, c] = 0
        for b in range(begin, end):
            grad_u[b, c] = 0
        for o in range(orientations):
            s = shift[c, o]
            f0, f1, f2 = s[0] - np.floor(s[0]), s[1] - np.floor(s[1]), s[2] - np.floor(s[2])
            sources(planes, np.floor(s[0]), orientations, np.int64(2))
            down = sources(rows, np.floor(s[1]), height, boundary)
            step = sources(columns, np.floor(s[2]), width, boundary)
            left, right = inside(step, 0, width, width - 1)
            total = grad_shift[part, c, o]
            for b in range(begin, end):
                one, other = u[b, c, planes[o]], u[b, c, planes[o + 1]]
                for low in range(0, height, most):
                    count = min(most, height - low)
                    size, given = count * width, grad[b, c, o, low * width : (low + count) * width]
                    taken = rows[low : low + count + 1]
                    first, last = inside(down, low, count + 1, height)
                    inner, within = flow[width : width + size], along[width : width + size]
                    copy(inner, given)
                    flow[width + size :] = 0
                    along[width + size :] = 0
                    for w in range(width):
                        if not left <= w < right:
                            for h in range(w, size, width):
                                inner[h] = 0
                    if right > left:
                        blend(within, flow[width - step :], flow[width - step - 1 :], f2)
                    else:
                        within[:] = 0
                    for w in range(width):
                        if not left <= w < right:
                            spread_column(within, given, f2, w, columns)
                    blend(back[: size + width], along[width:], along, f1)
                    spread(back, grad_u[b, c, planes[o]], u.dtype.type(1) - f0, taken, first, last, width)
                    spread(back, grad_u[b, c, planes[o + 1]], f0, taken, first, last, width)
                    total[0] += along_planes(back, one, other, taken, first, last, width)
                    read(mixed[: size + width], one, other, f0, taken, first, last, width)
                    total[1] += slope(within, mixed, mixed[width:])
                    centre = line[width : width + size]
                    line[width + size :] = 0
                    blend(centre, mixed, mixed[width:], f1)
                    if right > left:
                        total[2] += slope(inner, line[width + step :], line[width + step + 1 :])
                    for w in range(width):
                        if not left <= w < right:
                            total[2] += slope_column(given, centre, w, columns)
