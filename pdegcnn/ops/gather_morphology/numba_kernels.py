"""The search for winning taps, compiled by Numba.

A tap can only win if its value exceeds the best so far, for costs are not negative: most taps are passed over by one
comparison, and their cost is never computed.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def search(u, start, columns, offset, turn, steps, matrix, turned, law, taps, sign, out, winner, first, last):
    """Rows ``first`` to ``last`` of out [B*C*V,N] from u [B*C*V,N]; ``turned [2N+taps,2]``: cosines of half steps."""
    vertices, count, channels = start.size - 1, u.shape[1], matrix.shape[0]
    factor, power = law
    flat, half = np.isinf(power), taps // 2
    one = u.dtype.type(sign)
    grid = u.dtype.type(2 * np.pi / count)
    for row in range(first, last):
        v = row % vertices
        base = row - v
        g = matrix[(row // vertices) % channels]
        begin, end = start[v], start[v + 1]
        for i in range(count):
            best, index = one * u[row, i], half
            for e in range(begin, end):
                line = u[base + columns[e]]
                zx, zy = offset[e, 0], offset[e, 1]
                rest = turn[e]
                j = (i - half - steps[e]) % count
                for s in range(taps):
                    value = one * line[j]
                    j = j + 1 if j + 1 < count else 0
                    if value <= best:
                        continue
                    angle = 2 * i + s  # half steps, counted from -half
                    c, d = turned[angle, 0], turned[angle, 1]
                    y0, y1, y2 = c * zx + d * zy, c * zy - d * zx, rest + (s - half) * grid
                    q = g[0, 0] * y0 * y0 + g[1, 1] * y1 * y1 + g[2, 2] * y2 * y2
                    q += 2 * (g[0, 1] * y0 * y1 + g[0, 2] * y0 * y2 + g[1, 2] * y1 * y2)
                    if flat:
                        if q > factor:
                            continue
                    elif q > 0:
                        value -= factor * q**power
                    if value > best or (np.isnan(value) and not np.isnan(best)):
                        best, index = value, (e - begin) * taps + s
            out[row, i] = one * best
            winner[row, i] = index


@njit(cache=True, nogil=True)
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
            sums[c] = total
