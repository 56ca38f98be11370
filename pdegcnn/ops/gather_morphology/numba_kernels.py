"""The search for winning taps, compiled by Numba once for each number of directions.

All directions of a point are compared together. A lower bound of the costs of a point's taps is computed by vectors
for each channel, and serves all signals: a tap can be the maximum only if its value less the bound exceeds the best so
far. Costs are computed for these few taps only. Pairs without such a tap are skipped before that: by the greatest value
of the vertex and a bound that holds for all of its directions.

What is done for each pair is written into the loops (``inline``): calls would count references to every table.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY

SAFE = 0.999
"""What bounds are multiplied by, so that rounding cannot lift them above the costs."""
MOST_FACTORS = 16
"""Greatest power of the distance in a bound; beyond it, and below distance one, the bound is zero."""


# rows: generic
COUNT, HALF = 2, 1  # directions, and half of them


# rows: end
@njit(inline="always")
def locate(e, offset, turn, turned, taps, y):
    """Compute coordinates ``y [3, taps*N]`` of the taps of pair e, in the order (step, direction)."""
    grid, zx, zy = y.dtype.type(2 * np.pi / COUNT), offset[e, 0], offset[e, 1]
    for s in range(taps):
        y2 = turn[e] + (s - taps // 2) * grid
        for i in range(COUNT):
            c, d, t = turned[2 * i + s, 0], turned[2 * i + s, 1], s * COUNT + i
            y[0, t], y[1, t], y[2, t] = c * zx + d * zy, c * zy - d * zx, y2


@njit(inline="always")
def square(y, g, distance):
    """Compute squared distances of taps."""
    zero = distance.dtype.type(0)
    d, f, h = g[0, 1] + g[0, 1], g[0, 2] + g[0, 2], g[1, 2] + g[1, 2]
    for t in range(distance.size):
        q = y[0, t] * (g[0, 0] * y[0, t] + d * y[1, t] + f * y[2, t])
        q += y[1, t] * (g[1, 1] * y[1, t] + h * y[2, t]) + g[2, 2] * y[2, t] * y[2, t]
        distance[t] = q if q > zero else zero


@njit(inline="always")
def bound_costs(distance, law, bound):
    """Write into ``bound`` what the costs at squared distances do not fall below; distances are changed."""
    factor, power = law[0], law[1]
    one, zero = bound.dtype.type(1), bound.dtype.type(0)
    if np.isinf(power):
        limit = factor / distance.dtype.type(SAFE)
        for t in range(bound.size):
            bound[t] = bound.dtype.type(np.inf) if distance[t] > limit else zero
    else:
        for t in range(bound.size):
            distance[t] = np.sqrt(distance[t])
            bound[t] = one
        factors = min(int(2 * power), MOST_FACTORS)
        for _ in range(factors):
            for t in range(bound.size):
                bound[t] *= distance[t]
        scale = factor * bound.dtype.type(SAFE)
        near = scale if factors < MOST_FACTORS else zero
        for t in range(bound.size):
            bound[t] *= near * distance[t] if distance[t] < one else scale


@njit(inline="always")
def cost(y, t, y2, g, factor, power):
    """Compute the cost of tap t with the turn ``y2``, in float64."""
    y0, y1 = y[0, t], y[1, t]
    q = np.float64(g[0, 0] * y0 * y0 + g[1, 1] * y1 * y1 + g[2, 2] * y2 * y2)
    q += 2.0 * (g[0, 1] * y0 * y1 + g[0, 2] * y0 * y2 + g[1, 2] * y1 * y2)
    if np.isinf(power):
        return np.inf if q > factor else 0.0
    return factor * q**power if q > 0 else 0.0


@njit(inline="always")
def may_win(line, s, bound, t, near):
    """Return whether a value less the bound of its cost reaches the best so far, or is NaN, in any direction."""
    count = np.int32(0)
    for i in range(COUNT):
        count += np.int32(not line[s + i] - bound[t + i] < near[i])
    return count > 0


@njit(inline="always")
def improve(line, y, bound, turn, g, law, taps, best, near, index, number):
    """Improve the best of all directions by the taps of one pair, whose first has the number ``number``.

    ``best`` is kept in float64; ``near`` is the same, rounded. Returns the least of ``near``; one that is NaN cannot
    be improved.
    """
    factor, power, grid = law[0], law[1], y.dtype.type(2 * np.pi / COUNT)
    for s in range(taps):
        angle, t = turn + (s - taps // 2) * grid, s * COUNT
        if may_win(line, s, bound, t, near):
            for i in range(COUNT):
                value = np.float64(line[s + i])
                if line[s + i] - bound[t + i] < near[i] or value <= best[i]:
                    continue
                value -= cost(y, t + i, angle, g, factor, power)
                if value > best[i] or (np.isnan(value) and not np.isnan(best[i])):
                    best[i], near[i], index[i] = value, value, number + s
    return least(near)


@njit(inline="always")
def least(near):
    """Return the least number of those that are not NaN."""
    lowest = near.dtype.type(np.inf)
    for i in range(COUNT):
        lowest = near[i] if near[i] < lowest else lowest
    return lowest


@njit(**ENTRY)
def search(u, tops, lists, matrix, stretch, turned, law, taps, sign, most, out, winner, first, last):
    """Compute vertices ``first`` to ``last`` of out and winner [B,V,C,N] from u; ``turned``.

    ``turned [2N+taps,2]`` are cosines of half steps.

    ``tops [B,V,C]``: greatest value of all directions, of ``sign`` times u; ``stretch [C]``: what the squared length of
    an offset is multiplied by at least; ``most``: greatest number of pairs of a vertex.
    """
    start, columns, offset, turn, steps = lists
    batch, _, channels, _ = u.shape
    half, size = taps // 2, taps * COUNT
    y, bounds = np.empty((most, 3, size), u.dtype), np.empty((most, size), u.dtype)
    distance, length = np.empty(size, u.dtype), np.empty((3, most), u.dtype)
    located, bounded = np.empty(most, np.bool_), np.empty(most, np.bool_)
    line, near = np.empty(COUNT + taps, u.dtype), np.empty(COUNT, u.dtype)
    best, index = np.empty(COUNT, np.float64), np.empty(COUNT, np.int64)
    one = u.dtype.type(sign)
    for v in range(first, last):
        begin, pairs = start[v], start[v + 1] - start[v]
        located[:] = False
        for e in range(pairs):
            length[0, e] = offset[begin + e, 0] ** 2 + offset[begin + e, 1] ** 2
        for c in range(channels):
            g = matrix[c]
            bounded[:] = False
            for e in range(pairs):
                length[1, e] = length[0, e] * stretch[c]
            bound_costs(length[1, :pairs], law, length[2, :pairs])
            for b in range(batch):
                for i in range(COUNT):
                    near[i], best[i], index[i] = one * u[b, v, c, i], one * u[b, v, c, i], half
                lowest = least(near)
                for e in range(pairs):
                    w = columns[begin + e]
                    if tops[b, w, c] - length[2, e] < lowest:
                        continue
                    if not bounded[e]:
                        if not located[e]:
                            locate(begin + e, offset, turn, turned, taps, y[e])
                            located[e] = True
                        square(y[e], g, distance)
                        bound_costs(distance, law, bounds[e])
                        bounded[e] = True
                    j = (-half - steps[begin + e]) % COUNT
                    for k in range(COUNT + taps - 1):
                        line[k] = one * u[b, w, c, j]
                        j = j + 1 if j + 1 < COUNT else 0
                    angle = turn[begin + e]
                    lowest = improve(line, y[e], bounds[e], angle, g, law, taps, best, near, index, e * taps)
                for i in range(COUNT):
                    out[b, v, c, i] = one * best[i]
                    winner[b, v, c, i] = index[i]


@njit(**ENTRY)
def pull(grad, winner, start, columns, offset, turn, steps, matrix, turned, law, taps, sign, out, sums, first, last):
    """Send grad [B,C,V,N] of channels ``first`` to ``last`` to the winning taps in out.

    ``sums [C,11]`` gets the gradients in the matrix (nine numbers) and the law, unless it is empty.
    """
    batch, _, vertices, count = grad.shape
    factor, power = law
    learn, half = sums.size > 0 and not np.isinf(power), taps // 2
    grid = grad.dtype.type(2 * np.pi / count)
    y, total = np.empty(3, grad.dtype), np.empty(11, np.float64)
    for c in range(first, last):
        g = matrix[c]
        total[:] = 0
        for b in range(batch):
            out[b, c] = 0
            for v in range(vertices):
                for i in range(count):
                    e, s = start[v] + np.int64(winner[b, c, v, i]) // taps, np.int64(winner[b, c, v, i]) % taps
                    flow = grad[b, c, v, i]
                    out[b, c, columns[e], (i + s - half - steps[e]) % count] += flow
                    if not learn:
                        continue
                    cosine, sine = turned[2 * i + s, 0], turned[2 * i + s, 1]
                    y[0] = cosine * offset[e, 0] + sine * offset[e, 1]
                    y[1] = cosine * offset[e, 1] - sine * offset[e, 0]
                    y[2] = turn[e] + (s - half) * grid
                    q = g[0, 0] * y[0] * y[0] + g[1, 1] * y[1] * y[1] + g[2, 2] * y[2] * y[2]
                    q += (g[0, 1] + g[1, 0]) * y[0] * y[1] + (g[0, 2] + g[2, 0]) * y[0] * y[2]
                    q += (g[1, 2] + g[2, 1]) * y[1] * y[2]
                    if q > 0:
                        raised = q**power
                        slope = -sign * flow * factor * power * raised / q
                        for m in range(9):
                            total[m] += slope * y[m // 3] * y[m % 3]
                        total[9] -= sign * flow * raised
                        total[10] -= sign * flow * factor * raised * np.log(q)
        if sums.size > 0:
            for m in range(total.size):
                sums[c, m] = total[m]
