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


@njit(cache=True, nogil=True, inline="always")
def tap_of(offset, turn, turned, angle, half_turn):
    """Half-angle coordinates of a tap: the offset turned back by ``angle`` half steps, and the turn."""
    c, d = turned[angle, 0], turned[angle, 1]
    return c * offset[0] + d * offset[1], c * offset[1] - d * offset[0], turn + half_turn


@njit(cache=True, nogil=True)
def forward(u, geometry, out, total, first, last):
    """Rows ``first`` to ``last`` of out [B,C*V,N] and of the sums of weights [C*V,N]."""
    start, columns, offset, turn, steps, areas, matrix, turned, profile, scale, taps = geometry
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
                    y0, y1, y2 = tap_of(offset[e], turn[e], turned, 2 * i + s, (s - half) * grid)
                    place = place_of(g, y0, y1, y2, scale)
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
def backward(flow, u, out, geometry, grad_u, grad_matrix, grad_profile, block, first, last):
    """Gradients from ``flow`` = grad / total [B,C*V,N]; metric and profile summed over blocks of vertices."""
    start, columns, _, _, _, areas, matrix, _, _, _, _ = geometry
    vertices = start.size - 1
    blocks = (vertices + block - 1) // block
    for item in range(first, last):
        channel, low = item // blocks, item % blocks * block
        grad_matrix[item] = 0
        for v in range(low, min(low + block, vertices)):
            grad_u[:, channel * vertices + v] = 0
            for e in range(start[v], start[v + 1]):
                w = columns[e]
                rows = (channel * vertices + v, channel * vertices + w)
                sizes = (areas[v], areas[w])
                sums = (grad_u, grad_matrix[item], grad_profile[item])
                pair(flow, u, out, geometry, e, rows, sizes, matrix[channel], sums)


@njit(cache=True, nogil=True)
def pair(flow, u, out, geometry, e, rows, sizes, g, sums):
    """What the taps of one pair of vertices add to the gradients."""
    _, _, offset, turn, steps, _, _, turned, profile, scale, taps = geometry
    grad_u, grad_matrix, grad_profile = sums
    batch, _, count = u.shape
    half, samples = taps // 2, profile.size
    grid, ends = u.dtype.type(2 * np.pi / count), taps == count + 1
    for i in range(count):
        j = (i - half - steps[e]) % count
        for s in range(taps):
            y0, y1, y2 = tap_of(offset[e], turn[e], turned, 2 * i + s, (s - half) * grid)
            place = place_of(g, y0, y1, y2, scale)
            below = int(place)
            if below < samples - 1:
                share = 0.5 if ends and (s == 0 or s == taps - 1) else 1.0
                rest = place - below
                weight = (profile[below] * (1 - rest) + profile[below + 1] * rest) * share
                gain = 0.0
                for b in range(batch):
                    grad_u[b, rows[0], i] += weight * sizes[0] * flow[b, rows[1], j]
                    gain += flow[b, rows[0], i] * (u[b, rows[1], j] - out[b, rows[0], i])
                gain *= sizes[1] * share
                if grad_profile.size > 0:
                    grad_profile[below] += gain * (1 - rest)
                    grad_profile[below + 1] += gain * rest
                if place > 0:
                    slope = gain * (profile[below + 1] - profile[below]) * scale * scale / (2 * place)
                    grad_matrix[0] += slope * y0 * y0
                    grad_matrix[1] += slope * y1 * y1
                    grad_matrix[2] += slope * y2 * y2
                    grad_matrix[3] += slope * y0 * y1
                    grad_matrix[4] += slope * y0 * y2
                    grad_matrix[5] += slope * y1 * y2
            j = j + 1 if j + 1 < count else 0
