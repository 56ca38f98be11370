"""Loops of the gathered mean, compiled by Numba. The weights are symmetric but for the areas, so that the gradient in
the signal is a gather over the same taps.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def place_of(g, y0, y1, y2, scale):
    """Distance in samples of the profile."""
    q = g[0, 0] * y0 * y0 + g[1, 1] * y1 * y1 + g[2, 2] * y2 * y2
    q += 2 * (g[0, 1] * y0 * y1 + g[0, 2] * y0 * y2 + g[1, 2] * y1 * y2)
    return np.sqrt(max(q, 0)) * scale


@njit(cache=True, nogil=True)
def forward(
    u, start, columns, offset, turn, steps, areas, matrix, turned, profile, scale, taps, out, total, first, last
):
    """Rows ``first`` to ``last`` of out [B,C*V,N] and of the sums of weights [C*V,N]."""
    batch, _, count = u.shape
    vertices, half, samples = start.size - 1, taps // 2, profile.size
    grid, ends = u.dtype.type(2 * np.pi / count), taps == count + 1
    for row in range(first, last):
        v = row % vertices
        base = row - v
        g = matrix[row // vertices]
        total[row] = 0
        out[:, row] = 0
        for e in range(start[v], start[v + 1]):
            w = columns[e]
            for i in range(count):
                j = (i - half - steps[e]) % count
                for s in range(taps):
                    c, d = turned[2 * i + s, 0], turned[2 * i + s, 1]
                    y0, y1 = c * offset[e, 0] + d * offset[e, 1], c * offset[e, 1] - d * offset[e, 0]
                    place = place_of(g, y0, y1, turn[e] + (s - half) * grid, scale)
                    below = int(place)
                    if below < samples - 1:
                        rest = place - below
                        weight = (profile[below] * (1 - rest) + profile[below + 1] * rest) * areas[w]
                        if ends and (s == 0 or s == taps - 1):
                            weight *= 0.5
                        total[row, i] += weight
                        for b in range(batch):
                            out[b, row, i] += weight * u[b, base + w, j]
                    j = j + 1 if j + 1 < count else 0
        for i in range(count):
            for b in range(batch):
                out[b, row, i] /= total[row, i]


@njit(cache=True, nogil=True)
def backward(
    flow,
    u,
    out,
    start,
    columns,
    offset,
    turn,
    steps,
    areas,
    matrix,
    turned,
    profile,
    scale,
    taps,
    grad_u,
    grad_matrix,
    grad_profile,
    block,
    first,
    last,
):
    """Gradients from ``flow`` = grad / total [B,C*V,N]; metric and profile summed over blocks of vertices."""
    batch, _, count = u.shape
    vertices, half, samples = start.size - 1, taps // 2, profile.size
    grid, ends = u.dtype.type(2 * np.pi / count), taps == count + 1
    blocks = (vertices + block - 1) // block
    learn_profile = grad_profile.shape[1] > 0
    for item in range(first, last):
        channel, low = item // blocks, item % blocks * block
        g, base = matrix[channel], channel * vertices
        sums = np.zeros(6)
        for v in range(low, min(low + block, vertices)):
            row = base + v
            grad_u[:, row] = 0
            for e in range(start[v], start[v + 1]):
                w = columns[e]
                for i in range(count):
                    j = (i - half - steps[e]) % count
                    for s in range(taps):
                        c, d = turned[2 * i + s, 0], turned[2 * i + s, 1]
                        y0, y1 = c * offset[e, 0] + d * offset[e, 1], c * offset[e, 1] - d * offset[e, 0]
                        y2 = turn[e] + (s - half) * grid
                        place = place_of(g, y0, y1, y2, scale)
                        below = int(place)
                        if below < samples - 1:
                            rest, share = place - below, 1.0
                            if ends and (s == 0 or s == taps - 1):
                                share = 0.5
                            weight = (profile[below] * (1 - rest) + profile[below + 1] * rest) * share
                            gain = 0.0
                            for b in range(batch):
                                grad_u[b, row, i] += weight * areas[v] * flow[b, base + w, j]
                                gain += flow[b, row, i] * (u[b, base + w, j] - out[b, row, i])
                            gain *= areas[w] * share
                            if learn_profile:
                                grad_profile[item, below] += gain * (1 - rest)
                                grad_profile[item, below + 1] += gain * rest
                            if place > 0:
                                slope = gain * (profile[below + 1] - profile[below]) * scale * scale / (2 * place)
                                sums[0] += slope * y0 * y0
                                sums[1] += slope * y1 * y1
                                sums[2] += slope * y2 * y2
                                sums[3] += slope * y0 * y1
                                sums[4] += slope * y0 * y2
                                sums[5] += slope * y1 * y2
                        j = j + 1 if j + 1 < count else 0
        grad_matrix[item] = sums
