"""The kernel's gradient of a convolution of single planes, compiled by Numba once per dtype.

One call of conv2d takes several times as long for it, as a group of its channels holds one plane only.
"""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc"})
def row_product(a, b):
    """Sum of products of two rows."""
    total = a[0] * b[0]
    for w in range(1, a.size):
        total += a[w] * b[w]
    return total


@njit(cache=True, nogil=True)
def products(grad, u, out, start, stop):
    """Compute ``out[c,i,j] = sum over b,h,w of grad[b,c,h,w] u[b,c,h+i-KH//2,w+j-KW//2]``, zeros outside.

    Sums of rows are of the dtype of u, sums over rows of that of ``out``, float64.
    """
    height, width = u.shape[2:]
    kh, kw = out.shape[1:]
    for c in range(start, stop):
        out[c] = 0
        for b in range(u.shape[0]):
            for i in range(kh):
                down = i - kh // 2
                for h in range(max(0, -down), min(height, height - down)):
                    g, row = grad[b, c, h], u[b, c, h + down]
                    for j in range(kw):
                        right = j - kw // 2
                        first, last = max(0, -right), min(width, width - right)
                        if first < last:
                            out[c, i, j] += row_product(g[first:last], row[first + right : last + right])
