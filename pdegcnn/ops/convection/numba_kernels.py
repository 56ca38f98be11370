"""Loops of the convection operator, compiled by Numba once per dtype (see ``numba_impl.py``).

The shift is constant on a plane, and a plane is read as one long line, so that loops become vector instructions also
where rows are short. Rows of two neighbouring planes are blended into a line whose rows are those after the whole
shift. Then its neighbouring rows are blended, then neighbouring columns, which are a constant number of places away.
Columns whose neighbours lie beyond the border, a few at either end, are computed again one by one. A line holds a strip
of a plane, or small planes of several signals, and one row more for each. Boundaries are numbered 0 zeros, 1 replicate,
2 periodic.

All lines are parts of one array ``room``, given by their places. Places are cast to unsigned numbers in the inner
loops, which then need no test for negative ones.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz", "reassoc"}
STRIP = 1024
"""Numbers in a strip: a few strips stay in the first cache."""
PIECE = 512
"""Numbers whose products are summed in the dtype of the signal; these sums are added in double precision."""
LINES = 6
"""Lines in ``room``."""


@njit(**PART)
def source(i, size, boundary):
    """Compute the index that stands for i on an axis, or -1 where the signal is zero."""
    if 0 <= i < size:
        return i
    if boundary == 2:
        return i % size
    if boundary == 0:
        return -1
    return 0 if i < 0 else size - 1


@njit(**PART)
def inside(step, count, size):
    """Return the range of ``count`` samples that lie inside the axis after a shift by ``step``."""
    first = 0 if step > 0 else -step
    first = first if first < count else count
    last = size - step if size - step < count else count
    return first, last if last > first else first


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
def blend(out, to, line, one, other, size, share):
    """Interpolate linearly between a line from ``one`` on and the same from ``other`` on."""
    to, rest = np.uint64(to), line.dtype.type(1) - share
    one, other = np.uint64(one), np.uint64(other)
    for k in range(np.uint64(size)):
        out[to + k] = rest * line[one + k] + share * line[other + k]


@njit(**PART, fastmath=FLAGS)
def blend_slope(room, to, one, other, size, share, flow):
    """Do the same in ``room``, and return the inner product of ``flow`` with the derivative in ``share``."""
    total, rest = 0.0, room.dtype.type(1) - share
    for low in range(0, size, PIECE):
        a, b = np.uint64(one + low), np.uint64(other + low)
        c, d = np.uint64(flow + low), np.uint64(to + low)
        part = room.dtype.type(0)
        for k in range(np.uint64(PIECE if size - low > PIECE else size - low)):
            x, y = room[a + k], room[b + k]
            part += room[c + k] * (y - x)
            room[d + k] = rest * x + share * y
        total += part
    return total


@njit(**PART, fastmath=FLAGS)
def exchange(room, mixed, flow, u, grad_u, one, other, size, share):
    """Blend two planes of u into ``mixed``; add the transpose of this, of ``flow``, to planes of ``grad_u``.

    Return the inner product of ``flow`` with the derivative in ``share``.
    """
    total, rest = 0.0, u.dtype.type(1) - share
    for low in range(0, size, PIECE):
        a, b = np.uint64(one + low), np.uint64(other + low)
        c, d = np.uint64(flow + low), np.uint64(mixed + low)
        part = u.dtype.type(0)
        for k in range(np.uint64(PIECE if size - low > PIECE else size - low)):
            x, y, g = u[a + k], u[b + k], room[c + k]
            part += g * (y - x)
            room[d + k] = rest * x + share * y
            grad_u[a + k] += rest * g
            grad_u[b + k] += share * g
        total += part
    return total


@njit(**PART)
def blend_column(out, to, room, line, one, other, rows, width, share):
    """Interpolate between columns ``one`` and ``other``, at the border; where there is none, zero, as at place 0."""
    to, rest = np.uint64(to), room.dtype.type(1) - share
    a, left = np.uint64(line + one if one >= 0 else 0), np.uint64(width if one >= 0 else 0)
    b, right = np.uint64(line + other if other >= 0 else 0), np.uint64(width if other >= 0 else 0)
    for h in range(np.uint64(rows)):
        out[to + h * np.uint64(width)] = rest * room[a + h * left] + share * room[b + h * right]


@njit(**PART)
def cut_column(room, edge, flow, rows, width):
    """Move a column of ``flow`` to ``edge`` and write zeros there."""
    edge, flow = np.uint64(edge), np.uint64(flow)
    for h in range(np.uint64(rows)):
        room[edge + h] = room[flow + h * np.uint64(width)]
        room[flow + h * np.uint64(width)] = 0


@njit(**PART)
def spread_column(room, along, edge, rows, width, weight):
    """Add ``weight`` times the numbers from ``edge`` on to a column."""
    along, edge = np.uint64(along), np.uint64(edge)
    for h in range(np.uint64(rows)):
        room[along + h * np.uint64(width)] += weight * room[edge + h]


@njit(**PART)
def slope_column(room, edge, line, one, other, rows, width):
    """Compute the inner product of a column of grad, at the border, with the difference of those that it reads."""
    total, edge = 0.0, np.uint64(edge)
    a, left = np.uint64(line + one if one >= 0 else 0), np.uint64(width if one >= 0 else 0)
    b, right = np.uint64(line + other if other >= 0 else 0), np.uint64(width if other >= 0 else 0)
    for h in range(np.uint64(rows)):
        total += room[edge + h] * (room[b + h * right] - room[a + h * left])
    return total


@njit(**PART)
def spread_columns(room, along, flow, edges, rows, width, left, right, step, share, boundary):
    """Transpose the interpolation between columns of ``flow`` into ``along``.

    Columns from ``left`` to ``right`` lie inside; the others, at the border, move from ``flow`` to ``edges`` first.
    """
    rest = room.dtype.type(1) - share
    for w in range(width):
        if not left <= w < right:
            cut_column(room, edges + w * rows, flow + w, rows, width)
    if right > left:
        blend(room, along, room, flow - step, flow - step - 1, rows * width, share)
    else:
        clear(room, along, rows * width)
    for w in range(width):
        if not left <= w < right:
            a, b = source(w + step, width, boundary), source(w + step + 1, width, boundary)
            if a >= 0:
                spread_column(room, along + a, edges + w * rows, rows, width, rest)
            if b >= 0:
                spread_column(room, along + b, edges + w * rows, rows, width, share)


@njit(**ENTRY)
def forward(
    room, u, steps, shares, out, batch, channels, orientations, height, width, together, most, boundary, start, stop
):
    """Compute u, [B,C,Or,H,W] as one line, at a shift by ``steps`` and ``shares`` of a step, [C,Or,3] as one line.

    Items are channels of ``together`` signals. At most ``most`` rows of each are computed at once.
    """
    pixels, area = height * width, room.size // LINES
    apart, mixed = channels * orientations * pixels, width
    line, made = area + width, 2 * area + width
    for item in range(start, stop):
        c, signal = item % channels, item // channels * together
        here, signals = (signal * channels + c) * orientations * pixels, batch - signal
        signals = signals if signals < together else together
        for o in range(orientations):
            p = 3 * (c * orientations + o)
            f0, f1, f2 = shares[p], shares[p + 1], shares[p + 2]
            down, step = steps[p + 1], steps[p + 2]
            one = here + (o + steps[p]) % orientations * pixels
            other = here + (o + steps[p] + 1) % orientations * pixels
            left, right = inside(step, width, width - 1)
            for low in range(0, height, most):
                count = (most if height - low > most else height - low) + 1
                first, last = inside(down + low, count, height)
                for k in range(signals):
                    h = 0
                    while h < count:
                        rows = last - first if h == first and last > first else 1
                        first_row, to = source(low + h + down, height, boundary), mixed + (k * count + h) * width
                        if first_row < 0:
                            clear(room, to, width)
                        else:
                            at = k * apart + first_row * width
                            blend(room, to, u, one + at, other + at, rows * width, f0)
                        h += rows
                rows = signals * count - 1
                blend(room, line, room, mixed, mixed + width, rows * width, f1)
                to = here + o * pixels + low * width
                target, place = (room, made) if signals > 1 else (out, to)
                if right > left:
                    blend(target, place, room, line + step, line + step + 1, rows * width, f2)
                for w in range(width):
                    if not left <= w < right:
                        a, b = source(w + step, width, boundary), source(w + step + 1, width, boundary)
                        blend_column(target, place + w, room, line, a, b, rows, width, f2)
                if signals > 1:
                    for k in range(signals):
                        copy(out, to + k * apart, room, made + k * count * width, (count - 1) * width)


@njit(**ENTRY)
def backward(
    room, u, steps, shares, grad, grad_u, grad_shift, batch, channels, orientations, height, width, together, most,
    boundary, start, stop
):  # fmt: skip
    """Transpose of :func:`forward` into grad_u, and the derivative in the shift into grad_shift [items,Or,3].

    The row after those of a plane is zero where gradients are read.
    """
    pixels, area = height * width, room.size // LINES
    apart, mixed = channels * orientations * pixels, width
    line, flow = area + width, 2 * area + width
    along, back, edges = 3 * area + width, 4 * area + width, 5 * area
    for item in range(start, stop):
        c, signal = item % channels, item // channels * together
        here, signals = (signal * channels + c) * orientations * pixels, batch - signal
        signals = signals if signals < together else together
        for k in range(signals):
            clear(grad_u, here + k * apart, orientations * pixels)
        for o in range(orientations):
            p = 3 * (c * orientations + o)
            f0, f1, f2 = shares[p], shares[p + 1], shares[p + 2]
            down, step = steps[p + 1], steps[p + 2]
            one = here + (o + steps[p]) % orientations * pixels
            other = here + (o + steps[p] + 1) % orientations * pixels
            left, right = inside(step, width, width - 1)
            along_o, along_h, along_w = 0.0, 0.0, 0.0
            for low in range(0, height, most):
                count = (most if height - low > most else height - low) + 1
                total, size = signals * count, signals * count * width
                for k in range(signals):
                    to = flow + k * count * width
                    copy(room, to, grad, here + k * apart + o * pixels + low * width, (count - 1) * width)
                    clear(room, to + (count - 1) * width, width)
                clear(room, flow + size, width)  # the line before may have been longer
                spread_columns(room, along, flow, edges, total, width, left, right, step, f2, boundary)
                blend(room, back, room, along, along - width, size, f1)
                first, last = inside(down + low, count, height)
                for k in range(signals):
                    h = 0
                    while h < count:
                        rows = last - first if h == first and last > first else 1
                        first_row, to = source(low + h + down, height, boundary), (k * count + h) * width
                        if first_row < 0:
                            clear(room, mixed + to, width)
                        else:
                            at = k * apart + first_row * width
                            along_o += exchange(
                                room, mixed + to, back + to, u, grad_u, one + at, other + at, rows * width, f0
                            )
                        h += rows
                along_h += blend_slope(room, line, mixed, mixed + width, size - width, f1, along)
                clear(room, line + size - width, width)
                if right > left:
                    along_w += blend_slope(room, mixed, line + step, line + step + 1, size - width, f2, flow)
                for w in range(width):
                    if not left <= w < right:
                        a, b = source(w + step, width, boundary), source(w + step + 1, width, boundary)
                        along_w += slope_column(room, edges + w * total, line, a, b, total - 1, width)
            to = 3 * (item * orientations + o)
            grad_shift[to], grad_shift[to + 1], grad_shift[to + 2] = along_o, along_h, along_w
