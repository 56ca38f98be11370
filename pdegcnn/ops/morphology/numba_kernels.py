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

from pdegcnn.ops._jit import ENTRY, INSIDE, PART
from pdegcnn.ops._vectors import whole_vectors

BLOCK, LANES, SIDE = 2048, 16, 64
FLAGS = {"contract", "nsz"}


# rows: generic
@njit(**PART)
def row_value(best, p, k, skip):
    """Improve ``best`` by one row of taps, except ``skip`` taps at either end."""
    for w in range(best.size):
        for j in range(skip, k.size - skip):
            value = p[w + j] - k[j]
            best[w] = value if value > best[w] else best[w]


@njit(**PART)
def row_index(best, index, p, k, number, skip):
    """Improve ``best`` by one row of taps and note ``number`` in ``index`` where it attains the maximum."""
    for w in range(best.size):
        for j in range(k.size):
            value = p[w + j] - k[j]
            index[w] = number if value > best[w] else index[w]
            best[w] = value if value > best[w] else best[w]


WIDTH, VECTOR = np.uint64(1), 1  # taps of a row, and numbers of the vector that holds them
FULL, EACH = False, 1  # whether winners are noted as taps, not rows of taps, and how many numbers each row then has


# rows: end
@intrinsic
def first_greatest(typing, p, k, at, tap):
    """Return the number of the first greatest ``p[at + j] - k[tap + j]`` for j below VECTOR; none is NaN."""

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


@njit(**PART)
def plane_back(grad, winner, signal, k, offset, frame, sums, columns):
    """Send grad [H,W] of one orientation to the winning taps: to ``frame`` and to the sums; ``k [rows, VECTOR]``."""
    none = np.uint64(offset.size)
    for h in range(grad.shape[0]):
        base = np.uint64(h * columns)
        for w in range(np.uint64(grad.shape[1])):
            row = np.uint64(winner[h, w])
            if row < none:
                at = np.uint64(offset[row]) + base + w
                j = first_greatest(signal, k, at, row * np.uint64(VECTOR))  # pyright: ignore[reportCallIssue]
                frame[at + j] += grad[h, w]
                sums[row * WIDTH + j] += grad[h, w]


@njit(**PART)
def plane_full_back(grad, winner, taps, offset, frame, sums, columns):
    """Return the same where the winning ones of ``taps`` taps are known."""
    none = np.uint64(taps)
    for h in range(grad.shape[0]):
        base = np.uint64(h * columns)
        for w in range(np.uint64(grad.shape[1])):
            tap = np.uint64(winner[h, w])
            if tap < none:
                frame[np.uint64(offset[tap]) + base + w] += grad[h, w]
                sums[tap] += grad[h, w]


@njit(**PART)
def row_nan(best, index, p, k, number):
    """Compare taps that may give NaN; the first NaN stays."""
    for j in range(k.size):
        if k[j] != np.inf:
            for w in range(best.size):
                value = p[w + j] - k[j]
                if value > best[w] or (np.isnan(value) and not np.isnan(best[w])):
                    best[w] = value
                    index[w] = number + j if FULL else number


@njit(**PART)
def plane_nan_back(grad, winner, signal, k, offset, frame, sums, columns):
    """Return the same where a tap may be absent or give NaN; the first NaN of a row is kept."""
    for h in range(grad.shape[0]):
        for w in range(grad.shape[1]):
            row = np.int64(winner[h, w])
            if row < offset.size:
                at, tap = offset[row] + h * columns + w, row * VECTOR
                best, j = -np.inf, 0
                for i in range(np.int64(WIDTH)):
                    value = signal[at + i] - k[tap + i]
                    if k[tap + i] != np.inf and (value > best or (np.isnan(value) and not np.isnan(best))):
                        best, j = value, i
                frame[at + j] += grad[h, w]
                sums[row * np.int64(WIDTH) + j] += grad[h, w]


@njit(**PART, fastmath={"nnan", "nsz", "reassoc"})
def extremes(u, lows, highs):
    """Compute the smallest and largest entry where none is NaN, by several running extremes side by side."""
    lanes = np.uint64(SIDE)
    for j in range(lanes):
        lows[j], highs[j] = u[0], u[0]
    whole = np.uint64(u.size) // lanes
    for block in range(whole):
        for j in range(lanes):
            value = u[block * lanes + j]
            lows[j] = value if value < lows[j] else lows[j]
            highs[j] = value if value > highs[j] else highs[j]
    low, high = lows[0], highs[0]
    for j in range(lanes):
        low = lows[j] if lows[j] < low else low
        high = highs[j] if highs[j] > high else high
    for w in range(whole * lanes, np.uint64(u.size)):
        low = u[w] if u[w] < low else low
        high = u[w] if u[w] > high else high
    return low, high


@njit(**PART)
def has_nan(u):
    """Return whether an entry is NaN."""
    count = np.int32(0)
    for w in range(np.uint64(u.size)):
        count += np.int32(u[w] != u[w])
    return count > 0


@intrinsic
def scale_four(typing, out, u, at, factor):
    """Write factor * u into out at four places from ``at`` on; integers are converted only."""

    def build(context, builder, signature, arguments):
        arrays = [context.make_array(kind)(context, builder, x) for kind, x in zip(signature.args, arguments[:2])]
        target, source = (builder.gep(x.data, [arguments[2]]) for x in arrays)
        kinds = [ir.VectorType(x.type.pointee, 4) for x in (target, source)]
        value = builder.load(builder.bitcast(source, kinds[1].as_pointer()), align=1)
        if isinstance(kinds[0].element, ir.IntType):
            value = builder.trunc(value, kinds[0]) if kinds[0] != kinds[1] else value
        else:
            one = builder.insert_element(ir.Constant(kinds[0], ir.Undefined), arguments[3], ir.IntType(32)(0))
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
            value = builder.fmul(value, builder.shuffle_vector(one, one, lanes))
        builder.store(value, builder.bitcast(target, kinds[0].as_pointer()), align=1)
        return context.get_dummy_value()

    return types.none(out, u, types.uint64, factor), build


@njit(**PART)
def scaled(out, u, factor):
    """Write factor * u into out, converting: four numbers at a time, the last of which may overlap the ones before."""
    size, four = np.uint64(out.size), np.uint64(4)
    if size < four:
        for w in range(size):
            out[w] = factor * u[w]
    else:
        for start in range(np.uint64(0), size, four):
            at = start if start < size - four else size - four
            scale_four(out, u, at, factor)  # pyright: ignore[reportCallIssue]


@njit(**PART)
def fill_frame(frame, u, flat, b, c, count, sign, kernel, lows, highs):
    """Write sign * u of ``count`` signals from b on into the frame; return bounds and whether NaN occurs.

    The frame is a line of planes and rows, and in each row lie the signals side by side. Between them lies what is
    outside: half a kernel of rows and columns, which serves both neighbours. The lower bound is that of the planes
    where outputs are. ``flat [B,C,pixels]`` is u.
    """
    _, _, planes, height, width = u.shape
    top, left = kernel.shape[3] // 2, kernel.shape[4] // 2
    columns = width + left
    low, high, nans = np.inf, -np.inf, False
    stride = planes // kernel.shape[1]
    for n in range(count):
        signal = flat[b + n, c]
        first, last = extremes(signal, lows, highs)
        most, nans = sign * last if sign > 0 else sign * first, nans or has_nan(signal)
        high = most if most > high else high
        for o in range(0, planes if stride > 1 else 1, stride):
            if stride > 1:
                first, last = extremes(signal[o * height * width : (o + 1) * height * width], lows, highs)
            least = sign * first if sign > 0 else sign * last
            low = least if least < low else low
        for o in range(planes):
            for h in range(height):
                start = ((o * (height + top) + h + top) * count + n) * columns + left
                scaled(frame[start : start + width], u[b + n, c, o, h], sign)
    return u.dtype.type(low), u.dtype.type(high), nans


@njit(**PART)
def frame_size(planes, height, width, kernel, count):
    """Compute the length of the frame for ``count`` signals, with some room for whole vectors at its end."""
    top, left = kernel.shape[3] // 2, kernel.shape[4] // 2
    return (planes * (height + top) + top) * (width + left) * count + 2 * left + VECTOR + LANES


@njit(**INSIDE)
def classify(kind, skip, k, low, high, nans):
    """Classify rows of taps: 0 cannot attain the maximum, 1 ordinary, 2 NaN is possible.

    Also count the taps at either end that cannot attain it.

    A tap whose best case is below the worst case of the centre tap, which is never outside, cannot attain it.
    """
    ko, kh, kw = k.shape
    floor = low - k[ko // 2, kh // 2, kw // 2]
    for a in range(ko):
        for i in range(kh):
            row, found, idle = k[a, i], 0, kw // 2
            for j in range(kw):
                weight = row[j]
                if nans or not weight > -np.inf:
                    found = 2
                elif weight == np.inf:
                    found = 2 if high == np.inf else found
                elif not high - weight < floor:
                    found = 1 if found == 0 else found
                    end = j if j < kw // 2 else kw - 1 - j
                    idle = end if end < idle else idle
            kind[a * kh + i], skip[a * kh + i] = found, idle


@njit(**INSIDE)
def convolve_rows(frame, k, kind, skip, number, plane, first, lines, height, line, best, index, keep):
    """Improve the outputs of rows ``first`` to ``first + lines`` by all taps of one orientation of the frame.

    These taps are the rows from ``number`` on, which are noted if ``keep``.
    ``plane`` is the place of the first pixel, ``line`` the length of a row. Tap rows that lie outside are passed over,
    except for the rest of a vector, which reads what is outside.
    """
    kh, top, left = k.shape[0], k.shape[0] // 2, k.shape[1] // 2
    for i in range(kh):
        now = number + i
        if kind[now] == 0:
            continue
        low = top - i - first if top - i > first else 0
        high = lines if first + lines < height + top - i else height + top - i - first
        if low >= high:
            continue
        low, high = low * line // LANES * LANES, (high * line + LANES - 1) // LANES * LANES
        high = high if high < best.size else best.size
        base = plane + (first + i - top) * line + low - left
        p, taps = frame[base : base + high - low + k.shape[1] - 1], k[i]
        values, winners = best[low:high], index[low:high]
        if kind[now] == 2:
            row_nan(values, winners, p, taps, index.dtype.type(now * EACH))
        elif keep:
            row_index(values, winners, p, taps, index.dtype.type(now * EACH), skip[now])
        else:
            row_value(values, p, taps, skip[now])


@njit(**ENTRY)
def forward(
    frame, best_room, index_room, lows, highs, kind, skip,
    u, flat, kernel, out, winner, keep, sign, together, periodic, start, stop,
):  # fmt: skip
    """Convolve u [B,C,planes,H,W] with kernel [C,Or,KO,KH,KW]; winners where ``keep``.

    There is room for the frame, a block of outputs and their winners, extremes, and two numbers for each row of taps.
    Items ``start`` to ``stop`` of ceil(B / together) for each channel, the last of which may overlap its neighbour.
    """
    whole_vectors()  # pyright: ignore[reportCallIssue]
    batch, _, planes, height, width = u.shape
    _, orientations, ko, kh, kw = kernel.shape
    parts, top, left = -(-batch // together), kh // 2, kw // 2
    line, one = (width + left) * together, u.dtype.type(sign)
    blocks = -(-height * line // BLOCK)
    block = -(-height // blocks) if blocks < height else 1
    for item in range(start, stop):
        c, b = item // parts, item % parts * together
        b = b if b < batch - together else batch - together
        low, high, nans = fill_frame(frame, u, flat, b, c, together, one, kernel, lows, highs)
        for o in range(orientations):
            k = kernel[c, o]
            classify(kind, skip, k, low, high, nans)
            for first in range(0, height, block):
                lines = block if block < height - first else height - first
                size = (lines * line + LANES - 1) // LANES * LANES  # whole vectors; the surplus is not read
                best, index = best_room[:size], index_room[:size]
                for w in range(size):
                    best[w], index[w] = -np.inf, ko * kh * EACH
                for a in range(ko):
                    source = planes // orientations * o + a - ko // 2
                    if not periodic and not 0 <= source < planes:
                        continue
                    plane = (source % planes * (height + top) + top) * line + left
                    convolve_rows(frame, k[a], kind, skip, a * kh, plane, first, lines, height, line, best, index, keep)
                write_rows(out, b, c, o, first, lines, together, best, one, width + left)
                if keep:
                    write_rows(winner, b, c, o, first, lines, together, index, np.int32(1), width + left)


@njit(**PART)
def write_rows(out, b, c, o, first, lines, count, values, factor, columns):
    """Write factor * values, rows of several signals side by side, into ``lines`` rows of each signal of out."""
    width = out.shape[4]
    for n in range(count):
        for h in range(lines):
            place = (h * count + n) * columns
            scaled(out[b + n, c, o, first + h], values[place : place + width], factor)


@njit(**ENTRY)
def backward(
    signal, frame, offset, lows, highs, grad, winner, u, flat, kernel, costs, ordinary, sign, grad_u, sums, start, stop
):
    """Send grad [B,C,Or,H,W] to the winning taps: into grad_u, and summed into sums [parts,C,Or,taps].

    There is room for two frames, the places of taps in them, and extremes. ``costs`` is the kernel with rows of VECTOR
    numbers; ``ordinary [C,Or]`` says where it has no NaN and no -inf. Each item is one part of the signals of one
    channel.
    """
    batch, channels, planes, height, width = grad_u.shape
    _, orientations, ko, kh, kw = kernel.shape
    parts, top, left = sums.shape[0], kh // 2, kw // 2
    columns, rows, single = width + left, height + top, np.int64(1)  # a literal would cause another compilation
    for o in range(orientations):
        for n in range(ko * kh * EACH):
            t = n // EACH
            plane = (planes // orientations * o + t // kh - ko // 2) % planes
            offset[o, n] = (plane * rows + t % kh) * columns + n % EACH
    one = u.dtype.type(sign)
    for item in range(start, stop):
        c, part = item // parts, item % parts
        sums[part, c] = 0
        for b in range(batch * part // parts, batch * (part + 1) // parts):
            frame[:] = 0
            high, nans = one, False
            if not FULL:
                _, high, nans = fill_frame(signal, u, flat, b, c, single, one, kernel, lows, highs)
            for o in range(orientations):
                g, won, total = grad[b, c, o], winner[b, c, o], sums[part, c, o]
                if FULL:
                    plane_full_back(g, won, ko * kh * kw, offset[o], frame, total, columns)
                elif ordinary[c, o] and high < np.inf and not nans:
                    plane_back(g, won, signal, costs[c, o], offset[o], frame, total, columns)
                else:
                    plane_nan_back(g, won, signal, costs[c, o], offset[o], frame, total, columns)
            for o in range(planes):
                for h in range(height):
                    base = (o * rows + h + top) * columns + left
                    scaled(grad_u[b, c, o, h], frame[base : base + width], grad.dtype.type(1))
