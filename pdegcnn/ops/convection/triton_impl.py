# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Convection in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

The transpose of the sampling is gathered axis by axis: a position reads the two samples that used it, and the first
or last position also those that lay outside the image, hence no atomics and the same bits in every run.
Boundaries are numbered 0 zeros, 1 replicate, 2 periodic.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512


@triton.jit
def _split(shift, size, BOUNDARY: tl.constexpr):
    """Whole steps, brought to a range that samples alike, and the fraction."""
    whole = tl.floor(shift)
    if BOUNDARY == 2:
        step = (whole.to(tl.int64) % size + size) % size  # of a negative number, % is negative on a GPU
    else:
        step = tl.minimum(tl.maximum(whole, -size - 1.0), size + 1.0).to(tl.int64)
    return step.to(tl.int32), shift - whole


@triton.jit
def _source(i, size, BOUNDARY: tl.constexpr):
    """Index that stands for i on an axis, and whether the signal is there."""
    if BOUNDARY == 2:
        return (i % size + size) % size, i == i
    if BOUNDARY == 1:
        return tl.minimum(tl.maximum(i, 0), size - 1), i == i
    return i, (i >= 0) & (i < size)


@triton.jit
def _corners(first, p0, p1, h, w, height, width, s1, s2, inside, WIDE: tl.constexpr, BOUNDARY: tl.constexpr):
    """The eight samples around the shifted position, of planes ``p0`` and ``p1``."""
    r0, i0 = _source(h + s1, height, BOUNDARY)
    r1, i1 = _source(h + s1 + 1, height, BOUNDARY)
    c0, j0 = _source(w + s2, width, BOUNDARY)
    c1, j1 = _source(w + s2 + 1, width, BOUNDARY)
    pixels = height * width
    m00, m01, m10, m11 = inside & i0 & j0, inside & i0 & j1, inside & i1 & j0, inside & i1 & j1
    a00, a01, a10, a11 = r0 * width + c0, r0 * width + c1, r1 * width + c0, r1 * width + c1
    lower, upper = first + p0 * pixels, first + p1 * pixels
    x000 = tl.load(lower + a00, mask=m00, other=0.0).to(WIDE)
    x001 = tl.load(lower + a01, mask=m01, other=0.0).to(WIDE)
    x010 = tl.load(lower + a10, mask=m10, other=0.0).to(WIDE)
    x011 = tl.load(lower + a11, mask=m11, other=0.0).to(WIDE)
    x100 = tl.load(upper + a00, mask=m00, other=0.0).to(WIDE)
    x101 = tl.load(upper + a01, mask=m01, other=0.0).to(WIDE)
    x110 = tl.load(upper + a10, mask=m10, other=0.0).to(WIDE)
    x111 = tl.load(upper + a11, mask=m11, other=0.0).to(WIDE)
    return x000, x001, x010, x011, x100, x101, x110, x111


@triton.jit
def _forward(
    u,
    shift,
    out,
    channels,
    orientations,
    height,
    width,
    BOUNDARY: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pixels = height * width
    blocks = tl.cdiv(pixels, BLOCK)
    plane = tl.program_id(0) // blocks
    signal, o = plane // orientations, plane % orientations
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    s = shift + (signal % channels * orientations + o) * 3
    s0, f0 = _split(tl.load(s).to(WIDE), orientations, 2)
    s1, f1 = _split(tl.load(s + 1).to(WIDE), height, BOUNDARY)
    s2, f2 = _split(tl.load(s + 2).to(WIDE), width, BOUNDARY)
    p0 = (o + s0) % orientations
    p1 = (o + s0 + 1) % orientations
    first = u + signal.to(tl.int64) * orientations * pixels
    x000, x001, x010, x011, x100, x101, x110, x111 = _corners(
        first, p0, p1, at // width, at % width, height, width, s1, s2, at < pixels, WIDE, BOUNDARY
    )
    lower = (1 - f1) * ((1 - f2) * x000 + f2 * x001) + f1 * ((1 - f2) * x010 + f2 * x011)
    upper = (1 - f1) * ((1 - f2) * x100 + f2 * x101) + f1 * ((1 - f2) * x110 + f2 * x111)
    tl.store(out + plane.to(tl.int64) * pixels + at, (1 - f0) * lower + f0 * upper, mask=at < pixels)


@triton.jit
def _backward_shift(
    grad,
    u,
    shift,
    sums,
    channels,
    orientations,
    height,
    width,
    BOUNDARY: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pixels = height * width
    plane = tl.program_id(0)
    signal, o = plane // orientations, plane % orientations
    s = shift + (signal % channels * orientations + o) * 3
    s0, f0 = _split(tl.load(s).to(WIDE), orientations, 2)
    s1, f1 = _split(tl.load(s + 1).to(WIDE), height, BOUNDARY)
    s2, f2 = _split(tl.load(s + 2).to(WIDE), width, BOUNDARY)
    p0 = (o + s0) % orientations
    p1 = (o + s0 + 1) % orientations
    first = u + signal.to(tl.int64) * orientations * pixels
    total0 = tl.zeros([BLOCK], WIDE)
    total1 = tl.zeros([BLOCK], WIDE)
    total2 = tl.zeros([BLOCK], WIDE)
    for start in range(0, pixels, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x000, x001, x010, x011, x100, x101, x110, x111 = _corners(
            first, p0, p1, at // width, at % width, height, width, s1, s2, at < pixels, WIDE, BOUNDARY
        )
        g = tl.load(grad + plane.to(tl.int64) * pixels + at, mask=at < pixels, other=0.0).to(WIDE)
        row0 = (1 - f2) * x000 + f2 * x001
        row1 = (1 - f2) * x010 + f2 * x011
        row2 = (1 - f2) * x100 + f2 * x101
        row3 = (1 - f2) * x110 + f2 * x111
        total0 += g * ((1 - f1) * (row2 - row0) + f1 * (row3 - row1))
        total1 += g * ((1 - f0) * (row1 - row0) + f0 * (row3 - row2))
        lower = (1 - f1) * (x001 - x000) + f1 * (x011 - x010)
        upper = (1 - f1) * (x101 - x100) + f1 * (x111 - x110)
        total2 += g * ((1 - f0) * lower + f0 * upper)
    there = sums + plane.to(tl.int64) * 3
    tl.store(there, tl.sum(total0.to(tl.float64), 0))
    tl.store(there + 1, tl.sum(total1.to(tl.float64), 0))
    tl.store(there + 2, tl.sum(total2.to(tl.float64), 0))


@triton.jit
def _transpose_axis(
    grad,
    shift,
    out,
    channels,
    orientations,
    pixels,
    size,
    stride,
    AXIS: tl.constexpr,
    BOUNDARY: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Transpose of sampling along an image axis of ``size`` positions ``stride`` apart."""
    blocks = tl.cdiv(pixels, BLOCK)
    plane = tl.program_id(0) // blocks
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = at < pixels
    q = at // stride % size
    entry = plane // orientations % channels * orientations + plane % orientations
    step, f = _split(tl.load(shift + entry * 3 + AXIS).to(WIDE), size, BOUNDARY)
    g = grad + plane.to(tl.int64) * pixels
    line = at - q * stride
    i0 = q - step
    i1 = i0 - 1
    if BOUNDARY == 2:
        i0 = (i0 + size) % size
        i1 = (i1 + 2 * size) % size
    m0, m1 = inside & (i0 >= 0) & (i0 < size), inside & (i1 >= 0) & (i1 < size)
    total = (1 - f) * tl.load(g + line + i0 * stride, mask=m0, other=0.0).to(WIDE)
    total += f * tl.load(g + line + i1 * stride, mask=m1, other=0.0).to(WIDE)
    if BOUNDARY == 1:
        below = step < 0
        edge = inside & (q == tl.where(below, 0, size - 1))
        reach = tl.where(below, -step, step + 1)
        for d in range(tl.minimum(reach, size)):
            i = tl.where(below, d, size - 1 - d)
            near = tl.where(below, d + step < 0, d < step)
            far = tl.where(below, d + step + 1 < 0, d < step + 1)
            weight = tl.where(near, 1 - f, 0.0) + tl.where(far, f, 0.0)
            total += weight * tl.load(g + line + i * stride, mask=edge, other=0.0).to(WIDE)
    tl.store(out + plane.to(tl.int64) * pixels + at, total, mask=inside)


@triton.jit
def _transpose_fibre(
    grad,
    shift,
    out,
    channels,
    orientations,
    pixels,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Transpose of sampling along the orientations."""
    blocks = tl.cdiv(pixels, BLOCK)
    plane = tl.program_id(0) // blocks
    signal, p = plane // orientations, plane % orientations
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], WIDE)
    for o in range(orientations):
        s, f = _split(tl.load(shift + (signal % channels * orientations + o) * 3).to(WIDE), orientations, 2)
        low, high = (o + s) % orientations == p, (o + s + 1) % orientations == p
        weight = tl.where(low, 1 - f, 0.0) + tl.where(high, f, 0.0)
        if weight != 0:
            there = grad + (signal * orientations + o).to(tl.int64) * pixels + at
            total += weight * tl.load(there, mask=at < pixels, other=0.0).to(WIDE)
    tl.store(out + plane.to(tl.int64) * pixels + at, total, mask=at < pixels)


def wide(dtype: torch.dtype) -> tl.dtype:
    """Type to compute in."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def forward(u: Tensor, shift: Tensor, boundary: int) -> Tensor:
    """Value of u [B,C,Or,H,W] at shift [C,Or,3]."""
    batch, channels, orientations, height, width = u.shape
    out = torch.empty_like(u)
    grid = (batch * channels * orientations * triton.cdiv(height * width, BLOCK),)
    with torch.cuda.device_of(u):
        _forward[grid](
            *(u, shift, out, channels, orientations, height, width),
            BOUNDARY=boundary,
            WIDE=wide(u.dtype),
            BLOCK=BLOCK,
        )
    return out


def backward(grad: Tensor, u: Tensor, shift: Tensor, boundary: int) -> tuple[Tensor, Tensor]:
    """Gradients in u and shift."""
    batch, channels, orientations, height, width = u.shape
    planes, pixels = batch * channels * orientations, height * width
    options = {"WIDE": wide(u.dtype), "BLOCK": BLOCK}
    grid = (planes * triton.cdiv(pixels, BLOCK),)
    sums = torch.empty(batch, *shift.shape, dtype=torch.float64, device=u.device)
    accumulate = torch.promote_types(u.dtype, torch.float32)
    by_columns, by_rows = (torch.empty(u.shape, dtype=accumulate, device=u.device) for _ in range(2))
    grad_u = torch.empty_like(u)
    sizes = (channels, orientations, pixels)
    with torch.cuda.device_of(u):
        _backward_shift[(planes,)](
            *(grad, u, shift, sums, channels, orientations, height, width), BOUNDARY=boundary, **options
        )
        axis = {"BOUNDARY": boundary, **options}
        _transpose_axis[grid](grad, shift, by_columns, *sizes, width, 1, AXIS=2, **axis)
        _transpose_axis[grid](by_columns, shift, by_rows, *sizes, height, width, AXIS=1, **axis)
        _transpose_fibre[grid](by_rows, shift, grad_u, *sizes, **options)
    return grad_u, sums.sum(0).to(shift.dtype)
