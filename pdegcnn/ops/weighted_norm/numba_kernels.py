"""Loops of the weighted norm, compiled by Numba once per dtype (see ``numba_impl.py``).

Each item is a channel, whose numbers stay in the second cache from one pass to the next. Sums run over pieces of a few
hundred numbers in the dtype of the signal, and over the pieces in double precision.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

FLAGS = {"contract", "nsz", "reassoc"}
PIECE = 256


@njit(**PART, fastmath=FLAGS)
def piece_sum(x, weights, even):
    """Compute the weighted sum of a piece."""
    total = x.dtype.type(0)
    if even:
        for k in range(x.size):
            total += x[k]
    else:
        for k in range(x.size):
            total += weights[k] * x[k]
    return total


@njit(**PART, fastmath=FLAGS)
def piece_square(x, weights, even, mean):
    """Compute the weighted sum of squared deviations of a piece from ``mean``."""
    total = x.dtype.type(0)
    if even:
        for k in range(x.size):
            total += (x[k] - mean) * (x[k] - mean)
    else:
        for k in range(x.size):
            total += weights[k] * (x[k] - mean) * (x[k] - mean)
    return total


@njit(**PART, fastmath=FLAGS)
def piece_along(grad, x, mean):
    """Compute the sum of a piece of grad, and of its products with deviations from ``mean``."""
    total, along = x.dtype.type(0), x.dtype.type(0)
    for k in range(x.size):
        total += grad[k]
        along += grad[k] * (x[k] - mean)
    return total, along


@njit(**PART, fastmath={"contract", "nsz"})
def affine(out, x, mean, factor, shift):
    """Write ``shift + (x - mean) * factor``."""
    for k in range(x.size):
        out[k] = shift + (x[k] - mean) * factor


@njit(**PART, fastmath={"contract", "nsz"})
def combine(out, grad, x, weights, even, mean, factor, constant, slope):
    """Write ``factor * grad + weights * (constant + slope * (x - mean))``."""
    if even:
        for k in range(x.size):
            out[k] = factor * grad[k] + (constant + slope * (x[k] - mean))
    else:
        for k in range(x.size):
            out[k] = factor * grad[k] + weights[k] * (constant + slope * (x[k] - mean))


@njit(**ENTRY)
def forward(u, weights, scale, shift, out, mean, variance, eps, start, stop):
    """Normalise channels ``start`` to ``stop`` of u [B,C,N] by ``weights [N]``, or [1] where all are alike."""
    batch, _, size = u.shape
    even, kind = weights.size < size, u.dtype.type
    for c in range(start, stop):
        total = 0.0
        for b in range(batch):
            for low in range(0, size, PIECE):
                high = min(low + PIECE, size)
                total += piece_sum(u[b, c, low:high], weights[0 if even else low :], even)
        middle = kind(total / (batch * size))
        total = 0.0
        for b in range(batch):
            for low in range(0, size, PIECE):
                high = min(low + PIECE, size)
                total += piece_square(u[b, c, low:high], weights[0 if even else low :], even, middle)
        mean[c], variance[c] = middle, total / (batch * size)
        factor = kind(scale[c] / np.sqrt(variance[c] + eps))
        for b in range(batch):
            affine(out[b, c], u[b, c], middle, factor, shift[c])


@njit(**ENTRY)
def backward(weights, grad, u, scale, mean, variance, grad_u, grad_scale, grad_shift, eps, start, stop):
    """Compute the gradients of channels ``start`` to ``stop``."""
    batch, _, size = u.shape
    even, kind = weights.size < size, u.dtype.type
    for c in range(start, stop):
        total, along = 0.0, 0.0
        for b in range(batch):
            for low in range(0, size, PIECE):
                high = min(low + PIECE, size)
                first, second = piece_along(grad[b, c, low:high], u[b, c, low:high], mean[c])
                total, along = total + first, along + second
        rate = 1 / np.sqrt(np.float64(variance[c]) + eps)
        grad_scale[c], grad_shift[c] = rate * along, total
        count, factor = batch * size, scale[c] * rate
        constant, slope = kind(-factor * total / count), kind(-factor * rate * rate * along / count)
        for b in range(batch):
            combine(grad_u[b, c], grad[b, c], u[b, c], weights, even, mean[c], kind(factor), constant, slope)
