"""The search for winning taps, compiled by Numba once for each number of directions.

All directions of a point are compared together. A lower bound of the costs of a point's taps is computed by vectors
for each channel, and serves all signals: a tap can be the maximum only if its value less the bound exceeds the best so
far. Costs are computed for these few taps only. Pairs without such a tap are skipped before that: by the greatest value
of the vertex and a bound that holds for all of its directions.

What is done for each signal is written into the loops (``inline``); what serves all signals are functions, which take
less time to compile.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, INSIDE, PART

SAFE = 0.999
"""What bounds are multiplied by, so that rounding cannot lift them above the costs."""
MOST_FACTORS = 16
"""Greatest power of the distance in a bound; beyond it, and below distance one, the bound is zero."""


# rows: generic
COUNT, HALF = 2, 1  # directions, and half of them


# rows: end
@njit(**PART)
def locate(e, offset, turn, turned, taps, y):
    """Compute coordinates ``y [3, taps*N]`` of the taps of pair e, in the order (step, direction)."""
    grid, zx, zy = y.dtype.type(2 * np.pi / COUNT), offset[e, 0], offset[e, 1]
    for s in range(taps):
        y2 = turn[e] + (s - taps // 2) * grid
        for i in range(COUNT):
            c, d, t = turned[2 * i + s, 0], turned[2 * i + s, 1], s * COUNT + i
            y[0, t], y[1, t], y[2, t] = c * zx + d * zy, c * zy - d * zx, y2


@njit(**INSIDE)
def least_cost(q, factors, near, far, one):
    """Compute what the cost at the squared distance q does not fall below, for a finite power."""
    r = np.sqrt(q)
    r2 = r * r
    r4 = r2 * r2
    r8 = r4 * r4
    raised = (r if factors & 1 else one) * (r2 if factors & 2 else one)
    raised *= (r4 if factors & 4 else one) * (r8 if factors & 8 else one) * (r8 * r8 if factors & 16 else one)
    return raised * (near * r if r < one else far)


@njit(**PART)
def bound_pairs(length, stretch, law, bound):
    """Write into ``bound`` what the costs of all taps of pairs of the given squared length do not fall below."""
    factor, one, zero = law[0], length.dtype.type(1), length.dtype.type(0)
    limit, far = factor / length.dtype.type(SAFE), factor * length.dtype.type(SAFE)
    if np.isinf(law[1]):
        for e in range(np.uint64(bound.size)):
            bound[e] = length.dtype.type(np.inf) if length[e] * stretch > limit else zero
    else:
        factors = min(int(2 * law[1]), MOST_FACTORS)
        near = far if factors < MOST_FACTORS else zero
        for e in range(np.uint64(bound.size)):
            bound[e] = least_cost(length[e] * stretch, factors, near, far, one)


@njit(**PART)
def bound_taps(y, matrix, c, law, bound):
    """Write into ``bound`` what the costs of taps at the coordinates y do not fall below."""
    factor, one, zero = law[0], bound.dtype.type(1), bound.dtype.type(0)
    limit, far = factor / bound.dtype.type(SAFE), factor * bound.dtype.type(SAFE)
    g00, g11, g22 = matrix[c, 0, 0], matrix[c, 1, 1], matrix[c, 2, 2]
    d, f, h = matrix[c, 0, 1] + matrix[c, 0, 1], matrix[c, 0, 2] + matrix[c, 0, 2], matrix[c, 1, 2] + matrix[c, 1, 2]
    factors = 0 if np.isinf(law[1]) else min(int(2 * law[1]), MOST_FACTORS)
    near = far if factors < MOST_FACTORS else zero
    for t in range(np.uint64(bound.size)):
        q = y[0, t] * (g00 * y[0, t] + d * y[1, t] + f * y[2, t])
        q += y[1, t] * (g11 * y[1, t] + h * y[2, t]) + g22 * y[2, t] * y[2, t]
        q = q if q > zero else zero
        if np.isinf(law[1]):
            bound[t] = bound.dtype.type(np.inf) if q > limit else zero
        else:
            bound[t] = least_cost(q, factors, near, far, one)


@njit(**INSIDE)
def cost(y, t, y2, g, factor, power):
    """Compute the cost of tap t with the turn ``y2``, in float64."""
    y0, y1 = y[0, t], y[1, t]
    q = np.float64(g[0, 0] * y0 * y0 + g[1, 1] * y1 * y1 + g[2, 2] * y2 * y2)
    q += 2.0 * (g[0, 1] * y0 * y1 + g[0, 2] * y0 * y2 + g[1, 2] * y1 * y2)
    if np.isinf(power):
        return np.inf if q > factor else 0.0
    return factor * q**power if q > 0 else 0.0


@njit(**INSIDE)
def may_win(line, s, bound, t, near):
    """Return whether a value less the bound of its cost reaches the best so far, or is NaN, in any direction."""
    count = np.int32(0)
    for i in range(COUNT):
        count += np.int32(not line[s + i] - bound[t + i] < near[i])
    return count > 0


@njit(**INSIDE)
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


@njit(**INSIDE)
def least(near):
    """Return the least number of those that are not NaN."""
    lowest = near.dtype.type(np.inf)
    for i in range(COUNT):
        lowest = near[i] if near[i] < lowest else lowest
    return lowest


@njit(**ENTRY)
def search(
    y, bounds, length, line, near, flags, index, best,
    u, tops, lists, matrix, stretch, turned, law, taps, sign, out, winner, first, last,
):  # fmt: skip
    """Compute vertices ``first`` to ``last`` of out and winner [B,V,C,N] from u; ``turned``.

    ``turned [2N+taps,2]`` are cosines of half steps.

    ``tops [B,V,C]``: greatest value of all directions, of ``sign`` times u; ``stretch [C]``: what the squared length of
    an offset is multiplied by at least. The arrays before u are room.
    """
    start, columns, offset, turn, steps = lists
    batch, _, channels, _ = u.shape
    half, size, most = taps // 2, taps * COUNT, flags.size // 2
    y, bounds, length = y.reshape(most, 3, size), bounds.reshape(most, size), length.reshape(2, most)
    located, bounded = flags[:most], flags[most:]
    one = u.dtype.type(sign)
    for v in range(first, last):
        begin, pairs = start[v], start[v + 1] - start[v]
        for e in range(pairs):
            located[e] = False
            length[0, e] = offset[begin + e, 0] ** 2 + offset[begin + e, 1] ** 2
        for c in range(channels):
            for e in range(pairs):
                bounded[e] = False
            bound_pairs(length[0, :pairs], stretch[c], law, length[1, :pairs])
            for b in range(batch):
                for i in range(COUNT):
                    near[i], best[i], index[i] = one * u[b, v, c, i], one * u[b, v, c, i], half
                lowest = least(near)
                for e in range(pairs):
                    w = columns[begin + e]
                    if tops[b, w, c] - length[1, e] < lowest:
                        continue
                    if not bounded[e]:
                        if not located[e]:
                            locate(begin + e, offset, turn, turned, taps, y[e])
                            located[e] = True
                        bound_taps(y[e], matrix, c, law, bounds[e])
                        bounded[e] = True
                    j = (-half - steps[begin + e]) % COUNT
                    for k in range(COUNT + taps - 1):
                        line[k] = one * u[b, w, c, j]
                        j = j + 1 if j + 1 < COUNT else 0
                    angle = turn[begin + e]
                    lowest = improve(line, y[e], bounds[e], angle, matrix[c], law, taps, best, near, index, e * taps)
                for i in range(COUNT):
                    out[b, v, c, i] = one * best[i]
                    winner[b, v, c, i] = index[i]


@njit(**ENTRY)
def pull(grad, winner, start, columns, offset, turn, steps, matrix, turned, law, taps, sign, out, sums, first, last):
    """Add grad [B,C,V,N] of channels ``first`` to ``last`` to the winning taps in out.

    ``sums [C,11]`` gets the gradients in the matrix (nine numbers) and the law, unless it is empty.
    """
    batch, _, vertices, count = grad.shape
    factor, power = law
    learn, half = sums.size > 0 and not np.isinf(power), taps // 2
    grid = grad.dtype.type(2 * np.pi / count)
    for c in range(first, last):
        g = matrix[c]
        for b in range(batch):
            for v in range(vertices):
                for i in range(count):
                    e, s = start[v] + np.int64(winner[b, c, v, i]) // taps, np.int64(winner[b, c, v, i]) % taps
                    flow = grad[b, c, v, i]
                    out[b, c, columns[e], (i + s - half - steps[e]) % count] += flow
                    if not learn:
                        continue
                    cosine, sine = turned[2 * i + s, 0], turned[2 * i + s, 1]
                    x = cosine * offset[e, 0] + sine * offset[e, 1]
                    y = cosine * offset[e, 1] - sine * offset[e, 0]
                    z = grad.dtype.type(turn[e] + (s - half) * grid)
                    q = g[0, 0] * x * x + g[1, 1] * y * y + g[2, 2] * z * z
                    q += (g[0, 1] + g[1, 0]) * x * y + (g[0, 2] + g[2, 0]) * x * z
                    q += (g[1, 2] + g[2, 1]) * y * z
                    if q > 0:
                        raised = q**power
                        slope = -sign * flow * factor * power * raised / q
                        sums[c, 0] += slope * x * x
                        sums[c, 1] += slope * x * y
                        sums[c, 2] += slope * x * z
                        sums[c, 3] += slope * y * x
                        sums[c, 4] += slope * y * y
                        sums[c, 5] += slope * y * z
                        sums[c, 6] += slope * z * x
                        sums[c, 7] += slope * z * y
                        sums[c, 8] += slope * z * z
                        sums[c, 9] -= sign * flow * raised
                        sums[c, 10] -= sign * flow * factor * raised * np.log(q)
