"""Loops of the transport gather, compiled by Numba; each pair's row of fields is read once, sums stay in the cache."""

from __future__ import annotations

import numpy as np
from numba import njit

FLAGS = {"contract", "nsz", "reassoc"}


@njit(cache=True, nogil=True, fastmath=FLAGS)
def gather(fields, start, columns, values, out, first, last):
    """Compute rows ``first`` to ``last`` of out [B*V,2,C] from fields [B*V,K,2,C]."""
    vertices = start.size - 1
    kinds, channels = fields.shape[1], fields.shape[3]
    real, imag = np.empty(channels, fields.dtype), np.empty(channels, fields.dtype)
    for row in range(first, last):
        v = row % vertices
        base = row - v
        real[:] = 0
        imag[:] = 0
        for e in range(start[v], start[v + 1]):
            source = fields[base + columns[e]]
            for k in range(kinds):
                a, b = values[e, k, 0], values[e, k, 1]
                x, y = source[k, 0], source[k, 1]
                for c in range(channels):
                    real[c] += a * x[c] - b * y[c]
                    imag[c] += a * y[c] + b * x[c]
        out[row, 0] = real
        out[row, 1] = imag


@njit(cache=True, nogil=True, fastmath=FLAGS)
def spread(grad, start, columns, back, out, first, last):
    """Compute rows ``first`` to ``last`` of out [B*V,K,2,C] from grad [B*V,2,C]: the adjoint."""
    vertices = start.size - 1
    kinds, channels = out.shape[1], out.shape[3]
    for row in range(first, last):
        v = row % vertices
        base = row - v
        here = out[row]
        here[:] = 0
        for e in range(start[v], start[v + 1]):
            x, y = grad[base + columns[e], 0], grad[base + columns[e], 1]
            for k in range(kinds):
                a, b = back[e, k, 0], back[e, k, 1]
                real, imag = here[k, 0], here[k, 1]
                for c in range(channels):
                    real[c] += a * x[c] - b * y[c]
                    imag[c] += a * y[c] + b * x[c]
