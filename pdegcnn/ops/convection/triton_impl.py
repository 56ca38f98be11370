# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Convection in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

All outputs of a channel and an orientation have one shift, so that a program splits it once, finds its columns once,
and walks down the rows with what it blended from the row above. The transpose of the sampling is gathered: a position
reads the two samples that used it, and the first or last position also those that lay outside the image, hence no
atomics and the same bits in every run. Boundaries are numbered 0 zeros, 1 replicate, 2 periodic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pdegcnn.ops.triton_strips import wide

LANES, ROWS = 128, 8
"""Columns and rows of a strip."""


@triton.jit
def _split(shift, size, BOUNDARY: tl.constexpr):
    """Compute whole steps, brought to a range that samples alike, and the fraction."""
    whole = tl.floor(shift)
    if BOUNDARY == 2:
        step = (whole.to(tl.int64) % size + size) % size  # of a negative number, % is negative on a GPU
    else:
        step = tl.minimum(tl.maximum(whole, -size - 1.0), size + 1.0).to(tl.int64)
    return step.to(tl.int32), shift - whole


@triton.jit
def _source(i, size, BOUNDARY: tl.constexpr):
    """Compute the index that replaces i on an axis, ``-size - 1 <= i < 2 size``, and whether a sample exists."""
    if BOUNDARY == 2:
        return tl.where(i >= size, i - size, i), i == i
    if BOUNDARY == 1:
        return tl.minimum(tl.maximum(i, 0), size - 1), i == i
    return i, (i >= 0) & (i < size)


@triton.jit
def _place(channels, orientations, batch, height, width, BLOCK: tl.constexpr):
    """Compute the orientation of the program, and signal and column of each of its lanes, the last one repeated."""
    entry = tl.program_id(0)
    lane = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    o = entry % orientations
    b, x = tl.minimum(lane // width, batch - 1), lane % width
    first = (b * (channels * orientations) + (entry - o)).to(tl.int64) * (height * width)
    return entry, o, first, x, lane < batch * width


@triton.jit
def _steps(shift, orientations, height, width, BOUNDARY: tl.constexpr, WIDE: tl.constexpr):
    """Return the whole steps of a shift along the three axes, and the three fractions."""
    s0, f0 = _split(tl.load(shift).to(WIDE), orientations, 2)
    s1, f1 = _split(tl.load(shift + 1).to(WIDE), height, BOUNDARY)
    s2, f2 = _split(tl.load(shift + 2).to(WIDE), width, BOUNDARY)
    return (s0, s1, s2), f0, f1, f2


@triton.jit
def _planes(signal, o, x, step, orientations, height, width, BOUNDARY: tl.constexpr):
    """Return the planes below and above orientation o after the step, the columns next to x, and whether they exist."""
    lower = signal + (o + step[0]) % orientations * (height * width)
    upper = signal + (o + step[0] + 1) % orientations * (height * width)
    c0, m0 = _source(x + step[2], width, BOUNDARY)
    c1, m1 = _source(c0 + 1 if BOUNDARY == 2 else x + step[2] + 1, width, BOUNDARY)
    return lower, upper, c0, c1, m0, m1


@triton.jit
def _row(lower, upper, c0, c1, m0, m1, row, height, width, WIDE: tl.constexpr, BOUNDARY: tl.constexpr):
    """Return samples of a row at two columns of two planes."""
    there = (row >= 0) & (row < height)
    r = tl.minimum(tl.maximum(row, 0), height - 1) if BOUNDARY == 1 else row
    at0, at1 = r * width + c0, r * width + c1
    if BOUNDARY == 0:
        m0, m1 = m0 & there, m1 & there
        x00 = tl.load(lower + at0, mask=m0, other=0.0).to(WIDE)
        x01 = tl.load(lower + at1, mask=m1, other=0.0).to(WIDE)
        x10 = tl.load(upper + at0, mask=m0, other=0.0).to(WIDE)
        x11 = tl.load(upper + at1, mask=m1, other=0.0).to(WIDE)
        return x00, x01, x10, x11
    x00, x01 = tl.load(lower + at0).to(WIDE), tl.load(lower + at1).to(WIDE)
    x10, x11 = tl.load(upper + at0).to(WIDE), tl.load(upper + at1).to(WIDE)
    return x00, x01, x10, x11


@triton.jit
def _first_row(top, step, height, BOUNDARY: tl.constexpr):
    """Compute the row that the output row ``top`` reads, not yet brought into the image but where it is periodic."""
    return (top + step) % height if BOUNDARY == 2 else top + step


@triton.jit(do_not_specialize=["batch", "channels", "orientations", "height", "width"])
def _forward(
    u,
    shift,
    out,
    batch,
    channels,
    orientations,
    height,
    width,
    ROWS: tl.constexpr,
    BOUNDARY: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    entry, o, first, x, real = _place(channels, orientations, batch, height, width, BLOCK)
    step, f0, f1, f2 = _steps(shift + entry * 3, orientations, height, width, BOUNDARY, WIDE)
    lower, upper, c0, c1, m0, m1 = _planes(u + first, o, x, step, orientations, height, width, BOUNDARY)
    top = tl.program_id(1) * ROWS
    left = tl.where(real, height - top, 0)  # rows to write
    w00, w01, w10, w11 = (1 - f0) * (1 - f2), (1 - f0) * f2, f0 * (1 - f2), f0 * f2
    row = _first_row(top, step[1], height, BOUNDARY)
    x00, x01, x10, x11 = _row(lower, upper, c0, c1, m0, m1, row, height, width, WIDE, BOUNDARY)
    above = w00 * x00 + w01 * x01 + w10 * x10 + w11 * x11
    target = out + first + o * (height * width) + top * width + x
    for r in tl.static_range(ROWS):
        row = tl.where(row + 1 < height, row + 1, 0) if BOUNDARY == 2 else top + r + step[1] + 1
        x00, x01, x10, x11 = _row(lower, upper, c0, c1, m0, m1, row, height, width, WIDE, BOUNDARY)
        below = w00 * x00 + w01 * x01 + w10 * x10 + w11 * x11
        tl.store(target, ((1 - f1) * above + f1 * below).to(out.dtype.element_ty), mask=left > r)
        target += width
        above = below


@triton.jit(do_not_specialize=["batch", "channels", "orientations", "height", "width"])
def _backward_shift(
    grad,
    u,
    shift,
    sums,
    batch,
    channels,
    orientations,
    height,
    width,
    ROWS: tl.constexpr,
    BOUNDARY: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    entry, o, first, x, real = _place(channels, orientations, batch, height, width, BLOCK)
    step, f0, f1, f2 = _steps(shift + entry * 3, orientations, height, width, BOUNDARY, WIDE)
    lower, upper, c0, c1, m0, m1 = _planes(u + first, o, x, step, orientations, height, width, BOUNDARY)
    top = tl.program_id(1) * ROWS
    left = tl.where(real, height - top, 0)
    row = _first_row(top, step[1], height, BOUNDARY)
    x00, x01, x10, x11 = _row(lower, upper, c0, c1, m0, m1, row, height, width, WIDE, BOUNDARY)
    low, high = x00 + f2 * (x01 - x00), x10 + f2 * (x11 - x10)
    value, turn = low + f0 * (high - low), high - low
    aside = (x01 - x00) + f0 * ((x11 - x10) - (x01 - x00))
    total0 = tl.zeros([BLOCK], WIDE)
    total1 = tl.zeros([BLOCK], WIDE)
    total2 = tl.zeros([BLOCK], WIDE)
    p = grad + first + o * (height * width) + top * width + x
    for r in tl.static_range(ROWS):
        row = tl.where(row + 1 < height, row + 1, 0) if BOUNDARY == 2 else top + r + step[1] + 1
        x00, x01, x10, x11 = _row(lower, upper, c0, c1, m0, m1, row, height, width, WIDE, BOUNDARY)
        low, high = x00 + f2 * (x01 - x00), x10 + f2 * (x11 - x10)
        value1, turn1 = low + f0 * (high - low), high - low
        aside1 = (x01 - x00) + f0 * ((x11 - x10) - (x01 - x00))
        g = tl.load(p, mask=left > r, other=0.0).to(WIDE)
        total0 += g * (turn + f1 * (turn1 - turn))
        total1 += g * (value1 - value)
        total2 += g * (aside + f1 * (aside1 - aside))
        value, turn, aside = value1, turn1, aside1
        p += width
    part = tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)
    there = sums + (part.to(tl.int64) * (channels * orientations) + entry) * 3
    tl.store(there, tl.sum(total0.to(tl.float64), 0))
    tl.store(there + 1, tl.sum(total1.to(tl.float64), 0))
    tl.store(there + 2, tl.sum(total2.to(tl.float64), 0))


@triton.jit
def _readers(q, step, size, BOUNDARY: tl.constexpr):
    """Return the two samples that used position q of an axis, and whether they exist."""
    i0 = q - step
    if BOUNDARY == 2:
        i0 = tl.where(i0 < 0, i0 + size, i0)
        i1 = tl.where(i0 == 0, size - 1, i0 - 1)
        return i0, i1, i0 >= 0, i1 >= 0
    i1 = i0 - 1
    return i0, i1, (i0 >= 0) & (i0 < size), (i1 >= 0) & (i1 < size)


@triton.jit
def _beyond(d, step, f, size):
    """Sample ``d`` of those that lie outside the image, and its weight for the edge that they are replaced by."""
    below = step < 0
    i = tl.where(below, d, size - 1 - d)
    near = tl.where(below, d + step < 0, d < step)
    far = tl.where(below, d + step + 1 < 0, d < step + 1)
    return i, tl.where(near, 1 - f, 0.0) + tl.where(far, f, 0.0)


@triton.jit(do_not_specialize=["batch", "channels", "orientations", "height", "width"])
def _transpose_columns(
    grad,
    shift,
    out,
    batch,
    channels,
    orientations,
    height,
    width,
    BOUNDARY: tl.constexpr,
    WIDE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Transpose of sampling along the rows of each output."""
    entry, o, first, x, real = _place(channels, orientations, batch, height, width, BLOCK)
    step, f = _split(tl.load(shift + entry * 3 + 2).to(WIDE), width, BOUNDARY)
    y = tl.program_id(1) * TILE + tl.arange(0, TILE)
    i0, i1, m0, m1 = _readers(x, step, width, BOUNDARY)
    plane, line = first + o * (height * width), (y * width)[:, None]
    source = grad + plane
    inside = (y < height)[:, None] & real[None, :]
    total = (1 - f) * tl.load((source + i0)[None, :] + line, mask=inside & m0[None, :], other=0.0).to(WIDE)
    total += f * tl.load((source + i1)[None, :] + line, mask=inside & m1[None, :], other=0.0).to(WIDE)
    if BOUNDARY == 1:
        edge = inside & (x == tl.where(step < 0, 0, width - 1))[None, :]
        for d in range(tl.minimum(tl.where(step < 0, -step, step + 1), width)):
            i, weight = _beyond(d, step, f, width)
            total += weight * tl.load((source + i)[None, :] + line, mask=edge, other=0.0).to(WIDE)
    tl.store((out + plane + x)[None, :] + line, total, mask=inside)


@triton.jit(do_not_specialize=["batch", "channels", "orientations", "height", "width"])
def _transpose_rows(
    grad,
    shift,
    out,
    batch,
    channels,
    orientations,
    height,
    width,
    BOUNDARY: tl.constexpr,
    WIDE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Transpose of sampling along columns and orientations."""
    entry, plane, first, x, real = _place(channels, orientations, batch, height, width, BLOCK)
    y = tl.program_id(1) * TILE + tl.arange(0, TILE)
    total = tl.zeros([TILE, BLOCK], WIDE)
    for o in range(orientations):
        s = shift + (entry - plane + o) * 3
        turn, f0 = _split(tl.load(s).to(WIDE), orientations, 2)
        low, high = (o + turn) % orientations == plane, (o + turn + 1) % orientations == plane
        share = tl.where(low, 1 - f0, 0.0) + tl.where(high, f0, 0.0)
        if share != 0:
            step, f = _split(tl.load(s + 1).to(WIDE), height, BOUNDARY)
            i0, i1, m0, m1 = _readers(y, step, height, BOUNDARY)
            column = grad + first + o * (height * width) + x
            p0, p1 = column[None, :] + (i0 * width)[:, None], column[None, :] + (i1 * width)[:, None]
            total += share * (1 - f) * tl.load(p0, mask=m0[:, None] & real[None, :], other=0.0).to(WIDE)
            total += share * f * tl.load(p1, mask=m1[:, None] & real[None, :], other=0.0).to(WIDE)
            if BOUNDARY == 1:
                edge = y == tl.where(step < 0, 0, height - 1)
                reach = tl.minimum(tl.where(step < 0, -step, step + 1), height)
                for d in range(tl.where(tl.max(edge.to(tl.int32), 0) > 0, reach, 0)):
                    i, weight = _beyond(d, step, f, height)
                    value = share * weight * tl.load(column + i * width, mask=real, other=0.0).to(WIDE)
                    total += tl.where(edge[:, None], value[None, :], 0.0)
    there = out + first + plane * (height * width) + x
    inside = (y < height)[:, None] & real[None, :]
    tl.store(there[None, :] + (y * width)[:, None], total.to(out.dtype.element_ty), mask=inside)


def _programs(shape: Sequence[int], rows: int) -> tuple[tuple[int, int, int], int]:
    """Compute the grid (channels and orientations, strips of rows, blocks of columns), and columns of a block."""
    batch, channels, orientations, height, width = shape
    block = min(LANES, max(32, 1 << (batch * width - 1).bit_length()))
    return (channels * orientations, -(-height // rows), -(-batch * width // block)), block


def forward(u: Tensor, shift: Tensor, boundary: int) -> Tensor:
    """Compute the value of u [B,C,Or,H,W] at shift [C,Or,3]."""
    out = torch.empty_like(u)
    grid, block = _programs(u.shape, ROWS)
    with torch.cuda.device_of(u):
        _forward[grid](
            *(u, shift, out, *u.shape),
            ROWS=ROWS,
            BOUNDARY=boundary,
            WIDE=wide(u.dtype),
            BLOCK=block,
            num_warps=block // 32,
        )
    return out


def backward(grad: Tensor, u: Tensor, shift: Tensor, boundary: int) -> tuple[Tensor, Tensor]:
    """Compute gradients in u and shift."""
    grid, block = _programs(u.shape, ROWS)
    options = {"BOUNDARY": boundary, "WIDE": wide(u.dtype), "BLOCK": block, "num_warps": block // 32}
    sums = torch.empty(grid[1] * grid[2], *shift.shape, dtype=torch.float64, device=u.device)
    by_columns = torch.empty(u.shape, dtype=torch.promote_types(u.dtype, torch.float32), device=u.device)
    grad_u = torch.empty_like(u)
    with torch.cuda.device_of(u):
        _backward_shift[grid](grad, u, shift, sums, *u.shape, ROWS=ROWS, **options)
        _transpose_columns[grid](grad, shift, by_columns, *u.shape, TILE=ROWS, **options)
        _transpose_rows[grid](by_columns, shift, grad_u, *u.shape, TILE=ROWS, **options)
    return grad_u, sums.sum(0).to(shift.dtype)
