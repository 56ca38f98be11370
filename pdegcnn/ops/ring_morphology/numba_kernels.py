"""Loops of the max-plus convolution on rings, compiled by Numba (see ``numba_impl.py``).

Several signals of one channel, which share a kernel, are copied with their numbers innermost and the ring doubled, so
that a tap is a constant offset. Outputs are computed in blocks that stay in registers while all taps are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from pdegcnn.ops._jit import ENTRY, INSIDE, PART
from pdegcnn.ops.morphology.numba_impl import has_masks

FLAGS = {"contract", "nsz"}
BLOCK, BLOCK_NOTED, REST = 64, 64 if has_masks() else 32, 16
"""Outputs that are computed at once, those with the number of the winner, and those of which the rest is made up."""


def _compare(lanes: int, noted: bool) -> Callable[..., Any]:
    """Return a function that finds, for ``lanes`` outputs, the greatest value over a list of taps.

    It takes the line of samples, the place of the first output there and in the results, offsets and costs of the taps,
    how many these are, and the arrays of results. No value may be NaN; the first greatest wins.
    """

    @intrinsic
    def compared(typing, line, place, offset, cost, count, best, index):
        def build(context, builder, signature, arguments):
            kinds = zip(signature.args, arguments, strict=True)
            line, offset, cost, best, index = (
                context.make_array(kind)(context, builder, x).data for kind, x in kinds if isinstance(kind, types.Array)
            )
            place, count, one = arguments[1], arguments[4], ir.IntType(64)(1)
            lane = ir.IntType(32)
            values, numbers = ir.VectorType(line.type.pointee, lanes), ir.VectorType(lane, lanes)
            everywhere = ir.Constant(numbers, [0] * lanes)

            def spread(x, kind):
                first = builder.insert_element(ir.Constant(kind, ir.Undefined), x, lane(0))
                return builder.shuffle_vector(first, first, everywhere)

            def vector(array, at, kind):
                return builder.bitcast(builder.gep(array, [at]), kind.as_pointer())

            start, begin = builder.gep(line, [place]), builder.block
            least = ir.Constant(values, [float("-inf")] * lanes)
            loop, end = (builder.append_basic_block(name) for name in ("taps", "after"))
            builder.cbranch(builder.icmp_signed(">", count, one.type(0)), loop, end)
            builder.position_at_end(loop)
            tap, most, winner = builder.phi(one.type), builder.phi(values), builder.phi(numbers)
            samples = builder.load(vector(start, builder.load(builder.gep(offset, [tap])), values), align=4)
            value = builder.fsub(samples, spread(builder.load(builder.gep(cost, [tap])), values))
            better = builder.fcmp_ordered(">", value, most)
            more = builder.select(better, value, most)
            fresh = builder.select(better, spread(builder.trunc(tap, lane), numbers), winner) if noted else winner
            following = builder.add(tap, one)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
            for phi, first, later in ((tap, one.type(0), following), (most, least, more), (winner, everywhere, fresh)):
                phi.add_incoming(first, begin)
                phi.add_incoming(later, loop)
            builder.position_at_end(end)
            found = builder.phi(values), builder.phi(numbers)
            for phi, first, later in zip(found, (least, everywhere), (more, fresh), strict=True):
                phi.add_incoming(first, begin)
                phi.add_incoming(later, loop)
            builder.store(found[0], vector(best, place, values), align=4)
            if noted:
                builder.store(found[1], vector(index, place, numbers), align=4)
            return context.get_dummy_value()

        return types.none(line, types.int64, offset, cost, types.int64, best, index), build

    return compared


BLOCK_VALUE, BLOCK_INDEX = _compare(BLOCK, False), _compare(BLOCK_NOTED, True)
REST_VALUE, REST_INDEX = _compare(REST, False), _compare(REST, True)


@intrinsic
def least(typing, a, b):
    """Return the lesser of two numbers, neither of which may be NaN; loops over it are vectorised."""

    def build(context, builder, signature, arguments):
        return _chosen("minnum", builder, arguments)

    return a(a, a), build


@intrinsic
def most(typing, a, b):
    """Return the greater of two numbers, neither of which may be NaN."""

    def build(context, builder, signature, arguments):
        return _chosen("maxnum", builder, arguments)

    return a(a, a), build


def _chosen(name, builder, arguments):
    """Call the function ``name`` of LLVM on two numbers of one kind."""
    kind = arguments[0].type
    name = f"llvm.{name}.f{64 if kind == ir.DoubleType() else 32}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, kind]), name)
    return builder.call(function, arguments, fastmath=("nnan", "nsz"))


@njit(**INSIDE)
def compare(line, offset, cost, count, best, index, wide, keep):
    """Write the greatest values over ``count`` taps and, where ``keep``, the numbers of these in the list.

    For ``wide`` outputs and some more, to whole parts.
    """
    w = 0
    while not keep and w + BLOCK <= wide:
        BLOCK_VALUE(line, w, offset, cost, count, best, index)
        w += BLOCK
    while keep and w + BLOCK_NOTED <= wide:
        BLOCK_INDEX(line, w, offset, cost, count, best, index)
        w += BLOCK_NOTED
    while w < wide:
        if keep:
            REST_INDEX(line, w, offset, cost, count, best, index)
        else:
            REST_VALUE(line, w, offset, cost, count, best, index)
        w += REST


@njit(**PART, fastmath=FLAGS)
def line_costs(best, index, p, k, tap):
    """Improve ``best`` by one tap with a cost for each place and note in ``index`` where it attains the maximum."""
    for w in range(np.uint64(best.size)):
        v = p[w] - k[w]
        index[w] = tap if v > best[w] else index[w]
        best[w] = v if v > best[w] else best[w]


@njit(**PART)
def line_nan(best, index, p, k, tap):
    """Compare places that may give NaN; the first NaN stays."""
    for w in range(best.size):
        cost = k[w % k.size]
        if cost != np.inf:
            v = p[w] - cost
            if v > best[w] or (np.isnan(v) and not np.isnan(best[w])):
                best[w], index[w] = v, tap


@njit(**PART)
def not_ordinary(k):
    """Return whether a cost of two axes is NaN or -inf."""
    count = np.int32(0)
    for s in range(k.shape[0]):
        for f in range(np.uint64(k.shape[1])):
            count += np.int32(not k[s, f] > -np.inf)
    return count > 0


@njit(**PART)
def twice(second, first):
    """Copy a ring; return its bounds, and how many of its numbers are NaN or infinite."""
    low, high, count = first.dtype.type(np.inf), first.dtype.type(-np.inf), np.int32(0)
    for w in range(np.uint64(first.size)):
        value = first[w]
        second[w] = value
        low, high = least(low, value), most(high, value)  # pyright: ignore[reportCallIssue]
        count += np.int32(value - value != 0)
    return low, high, count


@njit(**INSIDE)
def fill(line, low, high, u, c, at, size, sign, stride):
    """Write sign * u [B,C,F,G,n] of ``size`` signals from ``at`` on into a line [F,G,2n,size], twice along the ring.

    Rings are ``stride`` apart. Also write the bounds of each ring, twice along
    the fibre. Returns whether NaN occurs, or infinities that could make one.
    """
    _, _, fibre, rings, length = u.shape
    wide, count = length * size, np.int32(0)
    for f in range(fibre):
        for g in range(rings):
            ring = f * rings + g
            begin = ring * stride
            middle = begin + wide
            first = line[begin:middle]
            for i in range(np.uint64(size)):
                for j in range(np.uint64(length)):
                    first[j * np.uint64(size) + i] = sign * u[np.uint64(at) + i, c, f, g, j]
            low[ring], high[ring], more = twice(line[middle : middle + wide], first)
            low[ring + fibre * rings], high[ring + fibre * rings] = low[ring], high[ring]
            count += more
    return count > 0


@njit(**INSIDE)
def select(offset, cost, number, plane, along, k, base, low, high):
    """Compute offsets in the line, costs and numbers of the taps that can be a maximum.

    A tap whose best case is below the worst case of the first one cannot be a maximum. ``plane`` has the numbers of the
    rings that the taps read, ``along`` their shifts; ``base``, ``low`` and ``high`` say where rings begin, and their
    bounds. Returns how many taps there are.
    """
    count, floor = np.uint64(0), low[plane[0]] - k[0]
    for s in range(np.uint64(k.size)):
        ring, weight = plane[s], k[s]
        offset[count], cost[count], number[count] = base[ring] + along[s], weight, s
        count += np.uint64(high[ring] - weight >= floor)
    return np.int64(count)


@njit(**PART)
def write(out, b, c, f, g, values, factor, size):
    """Write factor * values of a ring, with its signals innermost, to the signals from b on."""
    for i in range(np.uint64(size)):
        for j in range(np.uint64(out.shape[4])):
            out[np.uint64(b) + i, c, f, g, j] = factor * values[j * np.uint64(size) + i]


@njit(**ENTRY)
def forward_rings(
    line, low, high, offset, cost, number, best, index,
    u, kernel, base, plane, along, start, out, winner, keep, none, sign, size, stride, first, last,
):  # fmt: skip
    """Convolve u [B,C,F,G,n] with kernel [C,1 or F,S], ``size`` signals of one channel at a time.

    There is room for the line, bounds of rings, taps of the longest list, and a ring of outputs; ``base``, ``plane``
    and ``along`` as in :func:`select`, for the first fibre sample and those after it. Blocks ``first`` to ``last`` of
    ceil(B/size) per channel, the last of which may overlap its neighbour.
    """
    batch, _, fibre, rings, length = u.shape
    blocks, wide = -(-batch // size), length * size
    one = u.dtype.type(sign)
    for block in range(first, last):
        c, at = block // blocks, min(block % blocks * size, batch - size)
        nans = fill(line, low, high, u, c, at, size, one, stride) or not_ordinary(kernel[c])
        for f in range(fibre):
            every = kernel[c, f % kernel.shape[1]]
            for g in range(rings):
                begin, end = start[g], start[g + 1]
                k, count = every[begin:end], 0
                if nans:
                    for w in range(wide):
                        best[w], index[w] = -np.inf, none
                    for t in range(k.size):
                        at_first = base[plane[begin + t] + f * rings] + along[begin + t]
                        p = line[at_first : at_first + wide]
                        line_nan(best[:wide], index[:wide], p, k[t : t + 1], np.int32(t))
                else:
                    if k.size:
                        near, seen = along[begin:end], slice(f * rings, (f + fibre) * rings)
                        many, at_first, floor, ceiling = plane[begin:end], base[seen], low[seen], high[seen]
                        count = select(offset, cost, number, many, near, k, at_first, floor, ceiling)
                    compare(line, offset, cost, count, best, index, wide, keep)
                    for w in range(np.uint64(wide if keep else 0)):
                        index[w] = number[np.uint64(index[w])] if best[w] > -np.inf else none
                write(out, at, c, f, g, best, one, size)
                if keep:
                    write(winner, at, c, f, g, index, np.int32(1), size)


@njit(**ENTRY)
def forward_points(frame, best, index, u, kernel, taps, start, out, winner, keep, none, sign, first, last):
    """Convolve rings of one point with few signals: planes of u [B*C,P,F] with kernel [C,S,F].

    The inner axis is the fibre. There is room for a frame [P,2F] and for a fibre of outputs.
    """
    _, points, fibre = u.shape
    one = u.dtype.type(sign)
    for plane in range(first, last):
        k = kernel[plane % kernel.shape[0]]
        nans = not_ordinary(k)
        for g in range(points):
            for f in range(fibre):
                value = one * u[plane, g, f]
                frame[2 * g * fibre + f] = frame[(2 * g + 1) * fibre + f] = value
                nans |= not np.isfinite(value)
        for g in range(points):
            for f in range(fibre):
                best[f], index[f] = -np.inf, none
            for s in range(start[g], start[g + 1]):
                at = 2 * taps[s, 0] * fibre + taps[s, 1]
                p = frame[at : at + fibre]
                if nans:
                    line_nan(best, index, p, k[s], np.int32(s - start[g]))
                else:
                    line_costs(best, index, p, k[s], np.int32(s - start[g]))
            for j in range(fibre):
                out[plane, g, j] = one * best[j]
                if keep:
                    winner[plane, g, j] = index[j]


@njit(**ENTRY)
def backward(grad, winner, place, along, start, none, grad_u, sums, first, last):
    """Compute gradients of channels ``first`` to ``last``.

    Send grad [B,C,F,G,n] to the winning taps, and sum it into sums [C,kernels,S]. ``place`` is where the ring begins
    that a tap of the first fibre sample reads, ``along`` the shift along it.
    """
    batch, _, fibre, rings, length = grad.shape
    kernels, around, step = sums.shape[1], fibre * rings * length, rings * length
    for c in range(first, last):
        sums[c] = 0
        for b in range(batch):
            plane = grad_u[b, c].reshape(-1)
            plane[:] = 0
            for f in range(fibre):
                total = sums[c, f % kernels]
                for g in range(rings):
                    for j in range(length):
                        t = winner[b, c, f, g, j]
                        if t != none:
                            s = np.uint64(start[g] + t)
                            value, turn, at = grad[b, c, f, g, j], f * step + place[s], j + along[s]
                            turn -= around if turn >= around else 0
                            at -= length if at >= length else 0
                            plane[np.uint64(turn + at)] += value
                            total[s] += value
