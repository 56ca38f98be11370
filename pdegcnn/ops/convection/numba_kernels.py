"""Loops of the convection operator, compiled by Numba once per dtype (see ``numba_impl.py``).

The shift is constant on a plane, so trilinear sampling is a blend of four source rows followed by a blend of two
neighbours in the blended row. Boundaries are numbered 0 zeros, 1 replicate, 2 periodic.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def source(i, size, boundary):
    """Index that stands for i on an axis, or -1 where the signal is zero."""
    if boundary == 2:
        return i % size
    if 0 <= i < size:
        return i
    return -1 if boundary == 0 else min(max(i, 0), size - 1)


@njit(cache=True, nogil=True)
def sources(whole, size, boundary):
    """The index of each sample 0 to ``size`` (inclusive) after a whole shift."""
    index = np.empty(size + 1, np.int64)
    limit = 2.0**40
    step = np.int64(min(max(whole, -limit), limit))
    for i in range(size + 1):
        index[i] = source(i + step, size, boundary)
    return index


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def add_row(line, row, weight):
    """Add weight * row to line."""
    for w in range(line.size):
        line[w] += weight * row[w]


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc"})
def dot(a, b):
    """Inner product of two rows."""
    total = a[0] * b[0]
    for w in range(1, a.size):
        total += a[w] * b[w]
    return total


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def blend(out, wide, fraction):
    """Linear interpolation between neighbours of ``wide``."""
    for w in range(out.size):
        out[w] = (1 - fraction) * wide[w] + fraction * wide[w + 1]


@njit(cache=True, nogil=True)
def widen(wide, line, index):
    """Sample ``line`` at ``index``."""
    for w in range(wide.size):
        wide[w] = line[index[w]] if index[w] >= 0 else 0


@njit(cache=True, nogil=True)
def forward(u, shift, out, boundary, start, stop):
    """Planes ``start`` to ``stop`` of u [B*C,Or,H,W] at shift [C,Or,3]."""
    _, orientations, height, width = u.shape
    line, wide = np.empty(width, u.dtype), np.empty(width + 1, u.dtype)
    for n in range(start, stop):
        for o in range(orientations):
            s = shift[n % shift.shape[0], o]
            planes = sources(np.floor(s[0]), orientations, 2)
            rows = sources(np.floor(s[1]), height, boundary)
            columns = sources(np.floor(s[2]), width, boundary)
            f = s - np.floor(s)
            for h in range(height):
                line[:] = 0
                for a in range(2):
                    for i in range(2):
                        if rows[h + i] >= 0:
                            weight = (f[0] if a else 1 - f[0]) * (f[1] if i else 1 - f[1])
                            add_row(line, u[n, planes[o + a], rows[h + i]], weight)
                widen(wide, line, columns)
                blend(out[n, o, h], wide, f[2])


@njit(cache=True, nogil=True)
def backward(grad, u, shift, grad_u, grad_shift, boundary, start, stop):
    """Transpose of :func:`forward` into grad_u, and the derivative in the shift into grad_shift [B*C,Or,3]."""
    _, orientations, height, width = u.shape
    line, wide = np.empty(width, u.dtype), np.empty(width + 1, u.dtype)
    adjoint = np.empty(width, u.dtype)
    dots = np.empty((2, 2), np.float64)
    for n in range(start, stop):
        grad_u[n] = 0
        for o in range(orientations):
            s = shift[n % shift.shape[0], o]
            planes = sources(np.floor(s[0]), orientations, 2)
            rows = sources(np.floor(s[1]), height, boundary)
            columns = sources(np.floor(s[2]), width, boundary)
            f = s - np.floor(s)
            total = np.zeros(3, np.float64)
            for h in range(height):
                g = grad[n, o, h]
                adjoint[:] = 0
                for w in range(width):
                    if columns[w] >= 0:
                        adjoint[columns[w]] += (1 - f[2]) * g[w]
                    if columns[w + 1] >= 0:
                        adjoint[columns[w + 1]] += f[2] * g[w]
                line[:] = 0
                for a in range(2):
                    for i in range(2):
                        dots[a, i] = 0
                        if rows[h + i] >= 0:
                            weight = (f[0] if a else 1 - f[0]) * (f[1] if i else 1 - f[1])
                            row = u[n, planes[o + a], rows[h + i]]
                            add_row(line, row, weight)
                            add_row(grad_u[n, planes[o + a], rows[h + i]], adjoint, weight)
                            dots[a, i] = dot(adjoint, row)
                widen(wide, line, columns)
                total[0] += (1 - f[1]) * (dots[1, 0] - dots[0, 0]) + f[1] * (dots[1, 1] - dots[0, 1])
                total[1] += (1 - f[0]) * (dots[0, 1] - dots[0, 0]) + f[0] * (dots[1, 1] - dots[1, 0])
                total[2] += dot(g, wide[1:]) - dot(g, wide[:-1])
            grad_shift[n, o] = total
