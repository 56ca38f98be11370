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
