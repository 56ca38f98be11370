"""Loops of the weighted norm, compiled by Numba once per dtype (see ``numba_impl.py``).

Each item is a channel, whose numbers stay in the second cache from one pass to the next. Sums run over pieces of a few
hundred numbers in the dtype of the signal, and over the pieces in double precision. All arrays are lines, and a part of
a line is given by its place: slices take longer to compile.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz", "reassoc"}
PIECE = 256


@njit(**PART, fastmath=FLAGS)
def add_up(total, x, at, size, weights, even):
    """Return ``total`` and the weighted sum of ``size`` numbers of x from ``at`` on."""
    for low in range(0, size, PIECE):
        part, a, b = x.dtype.type(0), np.uint64(at + low), np.uint64(low)
        if even:
            for k in range(np.uint64(min(PIECE, size - low))):
                part += x[a + k]
        else:
            for k in range(np.uint64(min(PIECE, size - low))):
                part += weights[b + k] * x[a + k]
        total += part
    return total


@njit(**PART, fastmath=FLAGS)
def add_squares(total, x, at, size, weights, even, mean):
    """Return ``total`` and the weighted sum of squared deviations of numbers from ``mean``."""
    for low in range(0, size, PIECE):
        part, a, b = x.dtype.type(0), np.uint64(at + low), np.uint64(low)
        if even:
            for k in range(np.uint64(min(PIECE, size - low))):
                part += (x[a + k] - mean) * (x[a + k] - mean)
        else:
            for k in range(np.uint64(min(PIECE, size - low))):
                part += weights[b + k] * (x[a + k] - mean) * (x[a + k] - mean)
        total += part
    return total


@njit(**PART, fastmath=FLAGS)
def add_along(total, along, grad, x, at, size, mean):
    """Return ``total`` and the sum of numbers of grad, ``along`` and that of products with deviations from ``mean``."""
    for low in range(0, size, PIECE):
        first, second, a = x.dtype.type(0), x.dtype.type(0), np.uint64(at + low)
        for k in range(np.uint64(min(PIECE, size - low))):
            first += grad[a + k]
            second += grad[a + k] * (x[a + k] - mean)
        total += first
        along += second
    return total, along


@njit(**PART, fastmath={"contract", "nsz"})
def affine(out, x, at, size, mean, factor, shift):
    """Write ``shift + (x - mean) * factor``."""
    at = np.uint64(at)
    for k in range(np.uint64(size)):
        out[at + k] = shift + (x[at + k] - mean) * factor


@njit(**PART, fastmath={"contract", "nsz"})
def combine(out, grad, x, at, size, weights, even, mean, factor, constant, slope):
    """Write ``factor * grad + weights * (constant + slope * (x - mean))``."""
    at = np.uint64(at)
    if even:
        for k in range(np.uint64(size)):
            out[at + k] = factor * grad[at + k] + (constant + slope * (x[at + k] - mean))
    else:
        for k in range(np.uint64(size)):
            out[at + k] = factor * grad[at + k] + weights[k] * (constant + slope * (x[at + k] - mean))


@njit(**ENTRY)
def forward(u, weights, scale, shift, out, mean, variance, batch, size, eps, start, stop):
    """Normalise channels ``start`` to ``stop`` of u [B,C,N] by ``weights [N]``, or [1] where all are alike."""
    even, kind, apart = weights.size < size, u.dtype.type, mean.size * size
    for c in range(start, stop):
        total = 0.0
        for b in range(batch):
            total = add_up(total, u, b * apart + c * size, size, weights, even)
        middle = kind(total / (batch * size))
        total = 0.0
        for b in range(batch):
            total = add_squares(total, u, b * apart + c * size, size, weights, even, middle)
        mean[c], variance[c] = middle, total / (batch * size)
        factor = kind(scale[c] / np.sqrt(variance[c] + eps))
        for b in range(batch):
            affine(out, u, b * apart + c * size, size, middle, factor, shift[c])


@njit(**ENTRY)
def backward(weights, grad, u, scale, mean, variance, grad_u, grad_scale, grad_shift, batch, size, eps, start, stop):
    """Compute the gradients of channels ``start`` to ``stop``."""
    even, kind, apart = weights.size < size, u.dtype.type, mean.size * size
    for c in range(start, stop):
        total, along = 0.0, 0.0
        for b in range(batch):
            total, along = add_along(total, along, grad, u, b * apart + c * size, size, mean[c])
        rate = 1 / np.sqrt(np.float64(variance[c]) + eps)
        grad_scale[c], grad_shift[c] = rate * along, total
        count, factor = batch * size, scale[c] * rate
        constant, slope = kind(-factor * total / count), kind(-factor * rate * rate * along / count)
        for b in range(batch - 1, -1, -1):  # the last numbers that were read are in the cache
            at = b * apart + c * size
            combine(grad_u, grad, u, at, size, weights, even, mean[c], kind(factor), constant, slope)
