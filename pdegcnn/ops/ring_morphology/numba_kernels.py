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
from numba.extending import intrinsic

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz"}
BLOCK, BLOCK_NOTED, REST = 64, 32, 16
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


@njit(**PART)
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
                best[w] = v
                index[w] = tap


@njit(**PART)
def not_ordinary(k):
    """Return whether a cost of two axes is NaN or -inf."""
    for s in range(k.shape[0]):
        for f in range(k.shape[1]):
            if not k[s, f] > -np.inf:
                return True
    return False


@njit(**PART)
def fill(frame, low, high, u, sign):
    """Write sign * u [b,F,G,n] into frame [F,G,2n,b], twice along the ring, and the bounds of each ring.

    Returns whether NaN occurs, or infinities that could make one.
    """
    size, fibre, rings, length = u.shape
    total = u.dtype.type(0)
    for f in range(fibre):
        for g in range(rings):
            least, most = np.inf, -np.inf
            for i in range(size):
                for j in range(length):
                    value = sign * u[i, f, g, j]
                    frame[f, g, j, i] = value
                    frame[f, g, j + length, i] = value
                    total += value * 0
                    least = value if value < least else least
                    most = value if value > most else most
            low[f, g], high[f, g] = least, most
    return total != 0


@njit(**PART)
def select(offset, cost, number, plane, place, k, f, low, high, stride):
    """Compute offsets in the frame, costs and numbers of the taps that can be a maximum; return how many.

    A tap whose best case is below the worst case of the first one cannot be a maximum. ``plane`` has the numbers of the
    rings that taps of the first fibre sample read, and ``place`` their first samples; rings are ``stride`` apart.
    """
    fibre, rings = low.shape
    lows, highs, count = low.reshape(-1), high.reshape(-1), 0
    around, ahead = np.int32(fibre * rings), np.int32(f * rings)
    first = plane[0] + ahead
    floor = lows[first - around if first >= around else first] - k[0]
    for s in range(np.uint64(k.size)):
        turn = ahead - around if plane[s] + ahead >= around else ahead
        offset[count] = place[s] + np.int64(turn) * stride
        cost[count], number[count] = k[s], s
        count += np.int64((k[s] < np.inf) & (not highs[np.uint64(plane[s] + turn)] - k[s] < floor))
    return count


@njit(**PART)
def write(out, winner, best, index, number, at, c, f, g, one, none, keep, nans, size):
    """Write the results of a ring to their places; outputs of -inf have no winning tap."""
    for i in range(size):
        row = out[at + i, c, f, g]
        for j in range(np.uint64(row.size)):
            row[j] = one * best[j * np.uint64(size) + np.uint64(i)]
        if keep:
            winners = winner[at + i, c, f, g]
            for j in range(np.uint64(row.size)):
                w = j * np.uint64(size) + np.uint64(i)
                t = index[w]
                if not nans:
                    t = number[np.uint64(t)] if best[w] > -np.inf else none
                winners[j] = t


@njit(**ENTRY)
def forward_rings(u, kernel, taps, start, out, winner, keep, none, sign, size, first, last):
    """Convolve u [B,C,F,G,n] with kernel [C,1 or F,S], ``size`` signals of one channel at a time.

    Blocks ``first`` to ``last`` of ceil(B/size) per channel, the last of which may overlap its neighbour.
    """
    batch, _, fibre, rings, length = u.shape
    blocks, wide = -(-batch // size), length * size
    line = np.zeros(fibre * rings * 2 * wide + REST, u.dtype)
    frame = line[: fibre * rings * 2 * wide].reshape(fibre, rings, 2 * length, size)
    low, high = np.empty((fibre, rings), u.dtype), np.empty((fibre, rings), u.dtype)
    plane = (taps[:, 1] * rings + taps[:, 0]).astype(np.int32)
    place = plane * np.int64(2 * wide) + taps[:, 2] * size
    longest = 1
    for g in range(rings):
        longest = max(longest, start[g + 1] - start[g])
    offset, cost, number = np.empty(longest, np.int64), np.empty(longest, u.dtype), np.empty(longest, np.int32)
    best, index = np.empty(wide + REST, u.dtype), np.empty(wide + REST, np.int32)
    one = u.dtype.type(sign)
    for block in range(first, last):
        c, at = block // blocks, min(block % blocks * size, batch - size)
        nans = fill(frame, low, high, u[at : at + size, c], one) or not_ordinary(kernel[c])
        for f in range(fibre):
            every = kernel[c, f % kernel.shape[1]]
            for g in range(rings):
                near = slice(start[g], start[g + 1])
                k = every[near]
                if nans:
                    best[:] = -np.inf
                    index[:] = none
                    for t in range(k.size):
                        ring, turn, along = taps[start[g] + t]
                        p = frame[(f + turn) % fibre, ring, along : along + length].reshape(-1)
                        line_nan(best[:wide], index[:wide], p, k[t : t + 1], np.int32(t))
                else:
                    count = 0
                    if k.size:
                        count = select(offset, cost, number, plane[near], place[near], k, f, low, high, 2 * wide)
                    compare(line, offset, cost, count, best, index, wide, keep)
                write(out, winner, best, index, number, at, c, f, g, one, none, keep, nans, size)


@njit(**ENTRY)
def forward_points(u, kernel, taps, start, out, winner, keep, none, sign, first, last):
    """Convolve rings of one point with few signals: planes of u [B*C,P,F] with kernel [C,S,F].

    The inner axis is the fibre.
    """
    _, points, fibre = u.shape
    frame = np.empty((points, 2 * fibre), u.dtype)
    best, index = np.empty(fibre, u.dtype), np.empty(fibre, np.int32)
    one = u.dtype.type(sign)
    for plane in range(first, last):
        k = kernel[plane % kernel.shape[0]]
        nans = not_ordinary(k)
        for g in range(points):
            for f in range(fibre):
                frame[g, f] = frame[g, f + fibre] = one * u[plane, g, f]
                nans |= not np.isfinite(u[plane, g, f])
        for g in range(points):
            best[:] = -np.inf
            index[:] = none
            for s in range(start[g], start[g + 1]):
                p = frame[taps[s, 0], taps[s, 1] : taps[s, 1] + fibre]
                if nans:
                    line_nan(best, index, p, k[s], np.int32(s - start[g]))
                else:
                    line_costs(best, index, p, k[s], np.int32(s - start[g]))
            for j in range(fibre):
                out[plane, g, j] = one * best[j]
                if keep:
                    winner[plane, g, j] = index[j]


@njit(**ENTRY)
def backward(grad, winner, taps, start, none, grad_u, sums, first, last):
    """Compute gradients of channels ``first`` to ``last``.

    Send grad [B,C,F,G,n] to the winning taps, and sum it into sums [C,kernels,S].
    """
    batch, _, fibre, rings, length = grad.shape
    kernels = sums.shape[1]
    ring, around, along = taps[:, 0] * length, taps[:, 1].copy(), taps[:, 2].copy()
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
                            value, turn, at = grad[b, c, f, g, j], f + around[s], j + along[s]
                            turn -= fibre if turn >= fibre else 0
                            at -= length if at >= length else 0
                            plane[np.uint64(turn * rings * length + ring[s] + at)] += value
                            total[s] += value
