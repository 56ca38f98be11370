"""Loops of the gathered mean, compiled by Numba. The weights are symmetric but for the areas, so that the gradient in
the signal is a gather over the same taps.

The taps of one pair of vertices are worked on together, direction by direction within each step: short arrays that stay
in the cache and loops without branches, which become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FLAGS = {"contract", "nsz", "reassoc"}


@njit(cache=True, nogil=True, fastmath=FLAGS)
def locate(geometry, e, g, y, place):
    """Half-angle coordinates ``y [3,taps*N]`` of the taps of pair e, and distances in samples of the profile."""
    _, _, offset, turn, _, _, _, turned, _, scale, _ = geometry
    zx, zy, rest = offset[e, 0], offset[e, 1], turn[e]
    a, b, c, zero = g[0, 0], g[1, 1], g[2, 2], g.dtype.type(0)
    d, f, h = g[0, 1] + g[1, 0], g[0, 2] + g[2, 0], g[1, 2] + g[2, 1]
    for t in range(place.size):
        y0 = turned[0, t] * zx + turned[1, t] * zy
        y1 = turned[0, t] * zy - turned[1, t] * zx
        y2 = turned[2, t] + rest
        q = y0 * (a * y0 + d * y1 + f * y2) + y1 * (b * y1 + h * y2) + c * y2 * y2
        y[0, t], y[1, t], y[2, t] = y0, y1, y2
        place[t] = np.sqrt(max(q, zero)) * scale


@njit(cache=True, nogil=True, fastmath=FLAGS)
def weigh(geometry, place, weight, slope):
    """Weights of taps (and, unless ``slope`` is empty, by how much they grow with the distance in samples).

    Numbers are of one dtype throughout: a product with an int would be computed in float64.
    """
    _, _, _, _, _, _, _, turned, profile, _, _ = geometry
    zero, top, last = profile.dtype.type(0), profile.dtype.type(profile.size - 1), np.int32(profile.size - 2)
    for t in range(place.size):
        whole = np.floor(place[t])
        below = max(min(np.int32(whole), last), np.int32(0))
        low, rise = profile[below], profile[below + 1] - profile[below]
        share = turned[3, t] if place[t] < top else zero
        weight[t] = (low + (place[t] - whole) * rise) * share
        if slope.size > 0:
            slope[t] = rise * share


@njit(cache=True, nogil=True, fastmath=FLAGS)
def unrolled(u, row, first, line):
    """``line[b,k] = u[b,row,(first + k) % N]``: what the taps of a pair read, so that no index wraps around."""
    count = u.shape[2]
    j = first % count
    for k in range(line.shape[1]):
        for b in range(line.shape[0]):
            line[b, k] = u[b, row, j]
        j = j + 1 if j + 1 < count else 0


@njit(cache=True, nogil=True, fastmath=FLAGS)
def forward(u, geometry, out, total, first, last):
    """Rows ``first`` to ``last`` of out [B,C*V,N] and of the sums of weights [C*V,N]."""
    start, columns, _, _, steps, areas, matrix, turned, _, _, taps = geometry
    batch, _, count = u.shape
    vertices, half, size = start.size - 1, taps // 2, turned.shape[1]
    y, place, weight = np.empty((3, size), u.dtype), np.empty(size, u.dtype), np.empty(size, u.dtype)
    line, none = np.empty((batch, count + taps), u.dtype), np.empty(0, u.dtype)
    sums, whole = np.empty((batch, count), u.dtype), np.empty(count, u.dtype)
    for row in range(first, last):
        v = row % vertices
        base = row - v
        whole[:] = 0
        sums[:] = 0
        for e in range(start[v], start[v + 1]):
            w = columns[e]
            locate(geometry, e, matrix[row // vertices], y, place)
            weigh(geometry, place, weight, none)
            unrolled(u, base + w, -half - steps[e], line)
            area = areas[w]
            for s in range(taps):
                for i in range(count):
                    whole[i] += weight[s * count + i] * area
                for b in range(batch):
                    for i in range(count):
                        sums[b, i] += weight[s * count + i] * area * line[b, s + i]
        total[row] = whole
        for b in range(batch):
            for i in range(count):
                out[b, row, i] = sums[b, i] / whole[i]


@njit(cache=True, nogil=True, fastmath=FLAGS)
def backward(flow, u, out, geometry, grad_u, grad_matrix, grad_profile, block, first, last):
    """Gradients from ``flow`` = grad / total [B,C*V,N]; metric and profile summed over blocks of vertices."""
    start, columns, _, _, steps, areas, matrix, turned, _, _, taps = geometry
    batch, _, count = u.shape
    vertices, half, size = start.size - 1, taps // 2, turned.shape[1]
    blocks = (vertices + block - 1) // block
    y, place, weight = np.empty((3, size), u.dtype), np.empty(size, u.dtype), np.empty(size, u.dtype)
    slope, gain = np.empty(size, u.dtype), np.empty(size, u.dtype)
    there, other = np.empty((batch, count + taps), u.dtype), np.empty((batch, count + taps), u.dtype)
    sums = np.empty((batch, count), u.dtype)
    for item in range(first, last):
        channel, low = item // blocks, item % blocks * block
        grad_matrix[item] = 0
        for v in range(low, min(low + block, vertices)):
            row = channel * vertices + v
            sums[:] = 0
            for e in range(start[v], start[v + 1]):
                w = columns[e]
                locate(geometry, e, matrix[channel], y, place)
                weigh(geometry, place, weight, slope)
                unrolled(flow, channel * vertices + w, -half - steps[e], other)
                unrolled(u, channel * vertices + w, -half - steps[e], there)
                gain[:] = 0
                for s in range(taps):
                    for b in range(batch):
                        for i in range(count):
                            sums[b, i] += weight[s * count + i] * areas[v] * other[b, s + i]
                            gain[s * count + i] += flow[b, row, i] * (there[b, s + i] - out[b, row, i]) * areas[w]
                add_metric(geometry, y, place, slope, gain, grad_matrix[item])
                if grad_profile.shape[1] > 0:
                    add_profile(place, gain, turned[3], grad_profile[item])
            for b in range(batch):
                grad_u[b, row] = sums[b]


@njit(cache=True, nogil=True, fastmath=FLAGS)
def add_metric(geometry, y, place, slope, gain, total):
    """What the taps of one pair add to the gradient in the metric."""
    scale, zero = geometry[9], slope.dtype.type(0)
    xx, yy, zz, xy, xz, yz = zero, zero, zero, zero, zero, zero
    for t in range(place.size):
        flow = gain[t] * slope[t] / place[t] if place[t] > zero else zero
        xx += flow * y[0, t] * y[0, t]
        yy += flow * y[1, t] * y[1, t]
        zz += flow * y[2, t] * y[2, t]
        xy += flow * y[0, t] * y[1, t]
        xz += flow * y[0, t] * y[2, t]
        yz += flow * y[1, t] * y[2, t]
    rate = scale * scale * slope.dtype.type(0.5)
    total[0] += rate * xx
    total[1] += rate * yy
    total[2] += rate * zz
    total[3] += rate * xy
    total[4] += rate * xz
    total[5] += rate * yz


@njit(cache=True, nogil=True)
def add_profile(place, gain, share, total):
    """What the taps of one pair add to the gradient in the profile."""
    for t in range(place.size):
        below = int(place[t])
        if 0 <= below < total.size - 1:
            rest = place[t] - below
            total[below] += gain[t] * share[t] * (1 - rest)
            total[below + 1] += gain[t] * share[t] * rest
