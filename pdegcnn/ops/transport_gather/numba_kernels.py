"""Loops of the transport gather, compiled by Numba; each pair's row of fields is read once, sums stay in the cache."""

from __future__ import annotations

from numba import njit

from pdegcnn.ops._jit import ENTRY

FLAGS = {"contract", "nsz", "reassoc"}


@njit(**ENTRY, fastmath=FLAGS)
def gather(real, imag, fields, start, columns, values, out, first, last):
    """Compute rows ``first`` to ``last`` of out [B*V,2,C] from fields [B*V,K,2,C]; there is room for two rows [C]."""
    vertices = start.size - 1
    kinds, channels = fields.shape[1], fields.shape[3]
    for row in range(first, last):
        v = row % vertices
        base = row - v
        for c in range(channels):
            real[c] = imag[c] = 0
        for e in range(start[v], start[v + 1]):
            source = fields[base + columns[e]]
            for k in range(kinds):
                a, b = values[e, k, 0], values[e, k, 1]
                x, y = source[k, 0], source[k, 1]
                for c in range(channels):
                    real[c] += a * x[c] - b * y[c]
                    imag[c] += a * y[c] + b * x[c]
        for c in range(channels):
            out[row, 0, c], out[row, 1, c] = real[c], imag[c]


@njit(**ENTRY, fastmath=FLAGS)
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
