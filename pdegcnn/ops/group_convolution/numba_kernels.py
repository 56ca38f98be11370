"""The kernel's gradient of a convolution of single planes or volumes, compiled by Numba once per dtype.

One call of conv2d or conv3d takes several times as long for it, as a group of its channels holds one plane only.
"""

from __future__ import annotations

from numba import njit

from pdegcnn.ops._jit import ENTRY, PART

BLOCK = 4096
"""Entries of a plane that are multiplied at once: two of these stay in the first cache."""


@njit(**PART, fastmath={"contract", "nsz", "reassoc"})
def product(a, b):
    """Sum of products of two lines."""
    total = a[0] * b[0]
    for w in range(1, a.size):
        total += a[w] * b[w]
    return total


@njit(**ENTRY)
def products(grad, u, out, start, stop):
    """Compute ``out[c,a,i,j] = sum of grad[b,c,d,h,w] u[b,c,d+a,h+i,w+j]`` for some channels.

    u holds the zeros around; rows of grad end with zeros and are as long as those of u, so that blocks of rows are
    lines. Sums over blocks are of the dtype of u, sums of these of that of ``out``, float64.
    """
    depth, height, width = grad.shape[2:]
    kd, kh, kw = out.shape[1:]
    rows = max(1, BLOCK // width)
    for c in range(start, stop):
        out[c] = 0
        for b in range(u.shape[0]):
            for d in range(depth):
                g = grad[b, c, d].reshape(-1)
                for first in range(0, height, rows):
                    begin, end = first * width, min(first + rows, height) * width - kw + 1
                    for a in range(kd):
                        plane = u[b, c, d + a].reshape(-1)
                        for i in range(kh):
                            for j in range(kw):
                                move = i * width + j
                                out[c, a, i, j] += product(g[begin:end], plane[begin + move : end + move])
