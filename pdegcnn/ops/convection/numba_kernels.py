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
SMALL, UNIT = 1024, 64
"""Planes of at most ``SMALL`` pixels are copied, with room after each, so that loops run over whole units: the rest of
a loop, number by number, would take as long as the loop itself."""


@njit(**PART)
def source(i, size, boundary):
    """Compute the index that stands for i on an axis, or -1 where the signal is zero."""
    if boundary == 2:
        return i % size
    if 0 <= i < size:
        return i
    return -1 if boundary == 0 else min(max(i, 0), size - 1)


@njit(**PART)
def sources(index, shift, size, boundary, low):
    """Write the index of samples from ``low`` on after a whole shift, and return the shift."""
    limit = 2.0**40
    step = np.int64(min(max(shift, -limit), limit))
    for i in range(index.size):
        index[i] = source(low + i + step, size, boundary)
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
def copy(out, to, line, start, size):
    """Write ``size`` numbers of a line from ``start`` on into out, from ``to`` on."""
    to, start = np.uint64(to), np.uint64(start)
    for k in range(np.uint64(size)):
        out[to + k] = line[start + k]


@njit(**PART)
def clear(out, to, size):
    """Write zeros."""
    to = np.uint64(to)
    for k in range(np.uint64(size)):
        out[to + k] = 0


@njit(**PART, fastmath={"contract", "nsz"})
def add(out, to, line, start, size, weight):
    """Add weight * line to out."""
    to, start = np.uint64(to), np.uint64(start)
    for k in range(np.uint64(size)):
        out[to + k] += weight * line[start + k]


@njit(**PART, fastmath={"contract", "nsz"})
def blend(out, to, line, one, other, size, share):
    """Interpolate linearly between a line from ``one`` on and the same from ``other`` on."""
    to, one, other, rest = np.uint64(to), np.uint64(one), np.uint64(other), line.dtype.type(1) - share
    for k in range(np.uint64(size)):
        out[to + k] = rest * line[one + k] + share * line[other + k]


@njit(**PART, fastmath=FLAGS)
def slope(flow, start, line, one, other, size):
    """Compute the inner product of ``flow`` with the difference of a line from ``other`` and from ``one`` on."""
    total = 0.0
    for low in range(0, size, 256):
        a, b, c = np.uint64(start + low), np.uint64(one + low), np.uint64(other + low)
        part = flow.dtype.type(0)
        for k in range(np.uint64(min(256, size - low))):
            part += flow[a + k] * (line[c + k] - line[b + k])
        total += part
    return total


@njit(**PART)
def whole(size, unit):
    """Round a size up to whole units."""
    return (size + unit - 1) // unit * unit


@njit(**PART)
def read(mixed, field, one, other, share, rows, low, first, last, count, width, unit):
    """Blend ``count`` rows of the planes that begin at ``one`` and ``other``.

    Rows ``first`` to ``last`` follow one another there, others are read one by one.
    """
    if last > first:
        start = rows[low + first] * width
        blend(mixed, first * width, field, one + start, other + start, whole((last - first) * width, unit), share)
    for h in range(count):
        if first <= h < last:
            continue
        start = rows[low + h] * width
        if start < 0:
            clear(mixed, h * width, width)
        else:
            blend(mixed, h * width, field, one + start, other + start, width, share)


@njit(**PART)
def spread(flow, target, plane, weight, rows, low, first, last, count, width, unit):
    """Transpose of :func:`read` for one plane: add ``weight`` times the rows of ``flow``."""
    if last > first:
        start = plane + rows[low + first] * width
        add(target, start, flow, first * width, whole((last - first) * width, unit), weight)
    for h in range(count):
        if not first <= h < last and rows[low + h] >= 0:
            add(target, plane + rows[low + h] * width, flow, h * width, width, weight)


@njit(**PART)
def along_planes(flow, field, one, other, rows, low, first, last, count, width, unit):
    """Compute the inner product of the rows of ``flow`` with the difference of two planes."""
    total = 0.0
    if last > first:
        start = rows[low + first] * width
        total += slope(flow, first * width, field, one + start, other + start, whole((last - first) * width, unit))
    for h in range(count):
        if not first <= h < last and rows[low + h] >= 0:
            start = rows[low + h] * width
            total += slope(flow, h * width, field, one + start, other + start, width)
    return total


@njit(**PART)
def blend_column(out, to, line, start, one, other, size, width, share):
    """Interpolate between the columns ``one`` and ``other``, at the border, or zero where there is none."""
    rest, none = line.dtype.type(1) - share, line.dtype.type(0)
    for h in range(0, size, width):
        a = line[start + h + one] if one >= 0 else none
        b = line[start + h + other] if other >= 0 else none
        out[to + h] = rest * a + share * b


@njit(**PART)
def spread_column(along, start, grad, at, one, other, size, width, share):
    """Transpose of :func:`blend_column`."""
    rest = along.dtype.type(1) - share
    for h in range(0, size, width):
        if one >= 0:
            along[start + h + one] += rest * grad[at + h]
        if other >= 0:
            along[start + h + other] += share * grad[at + h]


@njit(**PART)
def slope_column(grad, at, line, start, one, other, size, width):
    """Compute the inner product of a column of grad, at the border, with the difference of those that it reads."""
    total, none = 0.0, line.dtype.type(0)
    for h in range(0, size, width):
        a = line[start + h + one] if one >= 0 else none
        b = line[start + h + other] if other >= 0 else none
        total += grad[at + h] * (b - a)
    return total


@njit(**PART)
def plan(shift, height, width, boundary):
    """Return what the outputs of every plane read, from its shift [C,Or,3]: planes, rows and columns, and the steps."""
    channels, orientations, _ = shift.shape
    planes = np.empty((channels, orientations, 2), np.int64)
    rows = np.empty((channels, orientations, height + 1), np.int64)
    columns = np.empty((channels, orientations, width + 1), np.int64)
    steps = np.empty(shift.shape, np.int64)
    for c in range(channels):
        for o in range(orientations):
            first, second, third = np.floor(shift[c, o, 0]), np.floor(shift[c, o, 1]), np.floor(shift[c, o, 2])
            steps[c, o, 0] = sources(planes[c, o], first, orientations, np.int64(2), o)
            steps[c, o, 1] = sources(rows[c, o], second, height, boundary, 0)
            steps[c, o, 2] = sources(columns[c, o], third, width, boundary, 0)
    return planes, rows, columns, steps


@njit(**PART)
def broken(shift):
    """Return the part of a shift beyond whole steps."""
    return shift - np.floor(shift)


@njit(**PART)
def unit_of(pixels):
    """Return the numbers that loops over a plane take at once: one, or UNIT where the plane is small and copied."""
    return UNIT if pixels <= SMALL else 1


@njit(**ENTRY)
def forward(u, shift, out, height, width, boundary, start, stop):
    """Compute u, [B,C,Or,H,W] as one line, at shift [C,Or,3]; items are channels of signals."""
    channels, orientations, _ = shift.shape
    pixels, unit = height * width, unit_of(height * width)
    most = lines_together(height, width)
    room = whole((most + 2) * width, UNIT) + UNIT
    frame = np.zeros(orientations * room if unit > 1 else 1, u.dtype)
    mixed, line, made = np.zeros(room, u.dtype), np.zeros(room, u.dtype), np.zeros(room, u.dtype)
    planes, rows, columns, steps = plan(shift, height, width, boundary)
    for item in range(start, stop):
        c, here = item % channels, item * orientations * pixels
        if unit > 1:
            for o in range(orientations):
                copy(frame, o * room, u, here + o * pixels, pixels)
        field, origin, apart = (frame, 0, room) if unit > 1 else (u, here, pixels)
        for o in range(orientations):
            f0, f1, f2 = broken(shift[c, o, 0]), broken(shift[c, o, 1]), broken(shift[c, o, 2])
            step, down = steps[c, o, 2], steps[c, o, 1]
            one, other = origin + planes[c, o, 0] * apart, origin + planes[c, o, 1] * apart
            left, right = inside(step, 0, width, width - 1)
            taken = rows[c, o]
            for low in range(0, height, most):
                count = min(most, height - low)
                size, to = count * width, here + o * pixels + low * width
                first, last = inside(down, low, count + 1, height)
                read(mixed, field, one, other, f0, taken, low, first, last, count + 1, width, unit)
                blend(line, width, mixed, 0, width, whole(size, unit), f1)
                if unit > 1:
                    if right > left:
                        blend(made, 0, line, width + step, width + step + 1, whole(size, unit), f2)
                    copy(out, to, made, 0, size)
                elif right > left:
                    blend(out, to, line, width + step, width + step + 1, size, f2)
                for w in range(width):
                    if not left <= w < right:
                        blend_column(out, to + w, line, width, columns[c, o, w], columns[c, o, w + 1], size, width, f2)


@njit(**PART)
def adjoint(flow, along, grad, at, size, columns, step, width, unit, share):
    """Copy rows of grad, without columns at the border, into flow; write the transpose of the blend of columns."""
    left, right = inside(step, 0, width, width - 1)
    copy(flow, width, grad, at, size)
    clear(flow, width + size, width)  # the strip before may have been longer
    for w in range(width):
        if not left <= w < right:
            for h in range(width + w, width + size, width):
                flow[h] = 0
    if right > left:
        blend(along, width, flow, width - step, width - step - 1, whole(size, unit), share)
    else:
        clear(along, width, size)
    clear(along, width + size, width + unit)
    for w in range(width):
        if not left <= w < right:
            spread_column(along, width, grad, at + w, columns[w], columns[w + 1], size, width, share)


@njit(**ENTRY)
def backward(grad, u, shift, grad_u, grad_shift, height, width, boundary, start, stop):
    """Transpose of :func:`forward` into grad_u, and the derivative in the shift into grad_shift [B*C,Or,3].

    Lines have a row before their own, and what is read after it: zeros where gradients are read.
    """
    channels, orientations, _ = shift.shape
    pixels, unit = height * width, unit_of(height * width)
    most = lines_together(height, width)
    room = whole((most + 2) * width, UNIT) + 2 * UNIT
    frame = np.zeros(orientations * room if unit > 1 else 1, u.dtype)
    sums = np.zeros(frame.size, u.dtype)
    mixed, line, flow = np.zeros(room, u.dtype), np.zeros(room, u.dtype), np.zeros(room, u.dtype)
    along, back = np.zeros(room, u.dtype), np.zeros(room, u.dtype)
    planes, rows, columns, steps = plan(shift, height, width, boundary)
    for item in range(start, stop):
        c, here = item % channels, item * orientations * pixels
        if unit > 1:
            for o in range(orientations):
                copy(frame, o * room, u, here + o * pixels, pixels)
        field, target, origin, apart = (frame, sums, 0, room) if unit > 1 else (u, grad_u, here, pixels)
        clear(target, origin, orientations * apart)
        for o in range(orientations):
            f0, f1, f2 = broken(shift[c, o, 0]), broken(shift[c, o, 1]), broken(shift[c, o, 2])
            step, down = steps[c, o, 2], steps[c, o, 1]
            one, other = origin + planes[c, o, 0] * apart, origin + planes[c, o, 1] * apart
            left, right = inside(step, 0, width, width - 1)
            taken = rows[c, o]
            along_o, along_h, along_w = 0.0, 0.0, 0.0
            for low in range(0, height, most):
                count = min(most, height - low)
                size, at = count * width, here + o * pixels + low * width
                long, more = whole(size, unit), whole(size + width, unit)
                first, last = inside(down, low, count + 1, height)
                adjoint(flow, along, grad, at, size, columns[c, o], step, width, unit, f2)
                blend(back, 0, along, width, 0, more, f1)
                clear(back, size + width, more - size - width + unit)
                spread(back, target, one, u.dtype.type(1) - f0, taken, low, first, last, count + 1, width, unit)
                spread(back, target, other, f0, taken, low, first, last, count + 1, width, unit)
                along_o += along_planes(back, field, one, other, taken, low, first, last, count + 1, width, unit)
                read(mixed, field, one, other, f0, taken, low, first, last, count + 1, width, unit)
                along_h += slope(along, width, mixed, 0, width, long)
                blend(line, width, mixed, 0, width, long, f1)
                if right > left:
                    along_w += slope(flow, width, line, width + step, width + step + 1, long)
                for w in range(width):
                    if not left <= w < right:
                        along_w += slope_column(
                            grad, at + w, line, width, columns[c, o, w], columns[c, o, w + 1], size, width
                        )
            grad_shift[item, o, 0], grad_shift[item, o, 1], grad_shift[item, o, 2] = along_o, along_h, along_w
        if unit > 1:
            for o in range(orientations):
                copy(grad_u, here + o * pixels, sums, o * room, pixels)
