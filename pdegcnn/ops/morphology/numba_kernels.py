"""Loops of the morphological convolution, compiled by Numba once per kernel width and dtype (see ``numba_impl.py``).

A signal's plane is copied into a frame of -inf, and the frame is read as one long line: a tap is then a constant
offset, and a block of whole rows is one vectorisable loop whose result stays in the first cache.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK, LANES = 2048, 16
FLAGS = {"contract", "nsz"}


# rows: generic
@njit(cache=True, nogil=True)
def row_value(best, p, k):
    """Improve ``best`` by one row of taps."""
    for w in range(best.size):
        for j in range(k.size):
            value = p[w + j] - k[j]
            best[w] = value if value > best[w] else best[w]


@njit(cache=True, nogil=True)
def row_index(best, index, p, k, row):
    """Improve ``best`` by one row of taps and note in ``index`` where it won."""
    for w in range(best.size):
        for j in range(k.size):
            value = p[w + j] - k[j]
            index[w] = row if value > best[w] else index[w]
            best[w] = value if value > best[w] else best[w]


WIDTH, VECTOR = np.uint64(1), 1  # taps of a row, and numbers of the vector that holds them


# rows: end
@intrinsic
def first_greatest(typing, p, k, at, tap):
    """Number of the first greatest ``p[at + j] - k[tap + j]`` for j below VECTOR; none is NaN."""

    def build(context, builder, signature, arguments):
        arrays = [context.make_array(kind)(context, builder, x) for kind, x in zip(signature.args, arguments[:2])]
        places = [builder.gep(x.data, [i]) for x, i in zip(arrays, arguments[2:])]
        kind = ir.VectorType(places[0].type.pointee, VECTOR)
        u, w = (builder.load(builder.bitcast(x, kind.as_pointer()), align=4) for x in places)
        value = builder.fsub(u, w)
        name = f"llvm.vector.reduce.fmax.v{VECTOR}f{64 if kind.element == ir.DoubleType() else 32}"
        reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind.element, [kind]), name)
        most = builder.call(reduce, [value], fastmath=("nnan", "nsz"))
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), most, ir.IntType(32)(0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), [0] * VECTOR)
        alike = builder.fcmp_ordered("==", value, builder.shuffle_vector(one, one, lanes))
        bits = builder.bitcast(alike, ir.IntType(VECTOR))
        wide = builder.zext(bits, ir.IntType(64)) if VECTOR < 64 else bits
        return builder.cttz(wide, ir.IntType(1)(1))

    return types.uint64(p, k, types.uint64, types.uint64), build


@njit(cache=True, nogil=True)
def line_back(grad, winner, signal, k, offset, frame, sums, base, none):
    """Add one line of ``grad`` to what won: to ``frame``, and to the sums of all taps ``k [rows, VECTOR]``."""
    for w in range(np.uint64(grad.size)):
        row = np.uint64(winner[w])
        if row < none:
            at = offset[row] + base + w
            j = first_greatest(signal, k, at, row * np.uint64(VECTOR))  # pyright: ignore[reportCallIssue]
            frame[at + j] += grad[w]
            sums[row * WIDTH + j] += grad[w]


@njit(cache=True, nogil=True)
def row_nan(best, index, p, k, row):
    """Any tap may give NaN here; a NaN that is met first stays."""
    for j in range(k.size):
        if k[j] != np.inf:
            for w in range(best.size):
                value = p[w + j] - k[j]
                if value > best[w] or (np.isnan(value) and not np.isnan(best[w])):
                    best[w] = value
                    index[w] = row


@njit(cache=True, nogil=True)
def line_nan_back(grad, winner, signal, k, offset, frame, sums, base, none):
    """The same with ``k [rows, taps]``, where a tap may be absent or give NaN; the first NaN of a row wins."""
    kw = np.int64(WIDTH)
    for w in range(grad.size):
        row = np.uint64(winner[w])
        if row < none:
            at, tap = np.int64(offset[row] + base) + w, np.int64(row) * kw
            best, j = -np.inf, 0
            for i in range(kw):
                value = signal[at + i] - k[tap + i]
                if k[tap + i] != np.inf and (value > best or (np.isnan(value) and not np.isnan(best))):
                    best, j = value, i
            frame[at + j] += grad[w]
            sums[tap + j] += grad[w]


@njit(cache=True, nogil=True)
def enclose(low, high, odd, u):
    """Let low and high, elementwise, enclose u where it is a number, and odd be NaN where it is not."""
    for w in range(np.uint64(low.size)):
        low[w] = u[w] if u[w] < low[w] else low[w]
        high[w] = u[w] if u[w] > high[w] else high[w]
        odd[w] = odd[w] if u[w] == u[w] else u[w]


@njit(cache=True, nogil=True)
def extremes(u):
    """Smallest and largest number, and whether NaN occurs, piece by piece, which compilers turn into vectors."""
    piece = min(u.size, 256)
    low, high, odd = (
        np.full(piece, u.dtype.type(np.inf)),
        np.full(piece, u.dtype.type(-np.inf)),
        np.zeros_like(u[:piece]),
    )
    for start in range(0, u.size - piece + 1, piece):
        enclose(low, high, odd, u[start : start + piece])
    enclose(low, high, odd, u[u.size - piece :])
    return low.min(), high.max(), np.isnan(odd.sum())


@njit(cache=True, nogil=True)
def scaled(out, u, factor):
    """Write factor * u into out, converting."""
    for w in range(out.size):
        out[w] = factor * u[w]


@njit(cache=True, nogil=True)
def fill_frame(frame, u, sign, top, left, columns):
    """Write sign * u [Or,H,W] into the frame; return its smallest and largest value and whether NaN occurs."""
    orientations, height, width = u.shape
    for o in range(orientations):
        for h in range(height):
            start = (o * (height + 2 * top) + h + top) * columns + left
            scaled(frame[start : start + width], u[o, h], sign)
    low, high, nans = extremes(u.reshape(-1))
    return min(sign * low, sign * high), max(sign * low, sign * high), nans


@njit(cache=True, nogil=True)
def classify(kind, k, low, high, nans):
    """Per row of taps: 0 cannot win, 1 ordinary, 2 NaN is possible.

    A tap whose best case is below the worst case of the centre tap, which is never outside, cannot win.
    """
    ko, kh, kw = k.shape
    floor = low - k[ko // 2, kh // 2, kw // 2]
    for a in range(ko):
        for i in range(kh):
            kind[a, i] = 0
            for j in range(kw):
                weight = k[a, i, j]
                if nans or not weight > -np.inf:
                    kind[a, i] = 2
                elif weight == np.inf:
                    kind[a, i] = 2 if high == np.inf else kind[a, i]
                elif kind[a, i] == 0 and not high - weight < floor:
                    kind[a, i] = 1


@njit(cache=True, nogil=True)
def forward(u, kernel, out, winner, keep, sign, start, stop):
    """Planes ``start`` to ``stop`` of u [B*C,Or,H,W] with kernel [C,Or,KO,KH,KW]; winning rows where ``keep``."""
    _, orientations, height, width = u.shape
    channels, _, ko, kh, kw = kernel.shape
    columns, rows = width + kw - 1, height + kh - 1
    frame = np.full(orientations * rows * columns + kw + LANES, -np.inf).astype(u.dtype)
    block = max(1, BLOCK // columns)
    best_buffer = np.empty(block * columns + LANES, u.dtype)
    index_buffer = np.empty(block * columns + LANES, np.int32)
    kind = np.empty((ko, kh), np.int64)
    one = u.dtype.type(sign)
    for n in range(start, stop):
        low, high, nans = fill_frame(frame, u[n], one, kh // 2, kw // 2, columns)
        for o in range(orientations):
            k = kernel[n % channels, o]
            classify(kind, k, low, high, nans)
            for top in range(0, height, block):
                lines = min(block, height - top)
                size = (lines * columns + LANES - 1) // LANES * LANES  # whole vectors; what is too much is not read
                best, index = best_buffer[:size], index_buffer[:size]
                best[:] = -np.inf
                index[:] = ko * kh
                for a in range(ko):
                    plane = (o + a - ko // 2) % orientations * rows
                    for i in range(kh):
                        base = (plane + top + i) * columns
                        p = frame[base : base + best.size + kw - 1]
                        if kind[a, i] == 2:
                            row_nan(best, index, p, k[a, i], np.int32(a * kh + i))
                        elif kind[a, i] == 1 and keep:
                            row_index(best, index, p, k[a, i], np.int32(a * kh + i))
                        elif kind[a, i] == 1:
                            row_value(best, p, k[a, i])
                for h in range(lines):
                    scaled(out[n, o, top + h], best[h * columns : h * columns + width], one)
                    if keep:
                        scaled(winner[n, o, top + h], index[h * columns : h * columns + width], np.int32(1))


@njit(cache=True, nogil=True)
def backward(grad, winner, u, kernel, sign, grad_u, grad_kernel, start, stop):
    """Send grad [B*C,Or,H,W] to the winning taps: into grad_u, and summed into grad_kernel [B*C,Or,taps]."""
    _, orientations, height, width = grad.shape
    channels, _, ko, kh, kw = kernel.shape
    columns, rows = width + kw - 1, height + kh - 1
    frame = np.empty(orientations * rows * columns, grad.dtype)
    signal = np.full(orientations * rows * columns + VECTOR, -np.inf).astype(u.dtype)
    padded = np.full((ko * kh, VECTOR), np.inf).astype(u.dtype)
    offset, none = np.empty(ko * kh, np.uint64), np.uint64(ko * kh)
    sums, kind = np.empty(ko * kh * kw, np.float64), np.empty((ko, kh), np.int64)
    one = u.dtype.type(sign)
    for n in range(start, stop):
        frame[:] = 0
        low, high, nans = fill_frame(signal, u[n], one, kh // 2, kw // 2, columns)
        for o in range(orientations):
            sums[:] = 0
            k = kernel[n % channels, o]
            classify(kind, k, low, high, nans)
            padded[:, :kw] = k.reshape(-1, kw)
            ordinary = high < np.inf and not (kind == 2).any()
            for t in range(ko * kh):
                plane = (o + t // kh - ko // 2) % orientations
                offset[t] = (plane * rows + t % kh) * columns
            for h in range(height):
                g, index, base = grad[n, o, h], winner[n, o, h], np.uint64(h * columns)
                if ordinary:
                    line_back(g, index, signal, padded.reshape(-1), offset, frame, sums, base, none)
                else:
                    line_nan_back(g, index, signal, k.reshape(-1), offset, frame, sums, base, none)
            grad_kernel[n, o] = sums
        for o in range(orientations):
            for h in range(height):
                base = (o * rows + h + kh // 2) * columns + kw // 2
                scaled(grad_u[n, o, h], frame[base : base + width], one * one)
