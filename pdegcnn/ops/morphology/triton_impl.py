# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Morphological convolution in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

One program owns one block of pixels of one plane and walks over the taps in order, so ties go to the first tap as in
every backend. Gradients are gathered, never scattered: each source looks up the outputs that it may have won, each
kernel entry sums its own plane, hence no atomics and the same bits in every run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512
TAPS, CHUNK = 32, 128


@triton.jit
def _improve(best, index, value, weight, tap):
    """The better of ``best`` and ``value - weight``, and the tap it comes from; NaN that is met first stays."""
    value = tl.where(weight == float("inf"), float("-inf"), value - weight)
    wins = (value > best) | ((value != value) & (best == best))
    return tl.where(wins, value, best), tl.where(wins, tap, index)


@triton.jit
def _forward(
    u,
    kernel,
    kernel2,
    out,
    out2,
    winner,
    winner2,
    channels,
    orientations,
    height,
    width,
    KO: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SIGN: tl.constexpr,
    KEEP: tl.constexpr,
    PAIR: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Convolution of ``SIGN``; with PAIR also that of the other sign by ``kernel2``, from the same loads of u."""
    pixels = height * width
    blocks = tl.cdiv(pixels, BLOCK)
    plane = tl.program_id(0) // blocks
    signal, o = plane // orientations, plane % orientations
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    h, w = at // width, at % width
    first = u + signal.to(tl.int64) * orientations * pixels
    entry = (signal % channels * orientations + o) * (KO * KH * KW)
    best = tl.full([BLOCK], float("-inf"), WIDE)
    index = tl.full([BLOCK], KO * KH * KW, tl.int32)
    best2, index2 = best, index
    for a in range(KO):
        source = first + (o + a + KO * orientations - KO // 2) % orientations * pixels
        for i in range(KH):
            row = h + i - KH // 2
            in_row = (at < pixels) & (row >= 0) & (row < height)
            for j in tl.static_range(KW):
                column = w + j - KW // 2
                here = in_row & (column >= 0) & (column < width)
                tap = (a * KH + i) * KW + j
                x = SIGN * tl.load(source + row * width + column, mask=here, other=0.0).to(WIDE)
                weight = tl.load(kernel + entry + tap).to(WIDE)
                best, index = _improve(best, index, tl.where(here, x, float("-inf")), weight, tap)
                if PAIR:
                    weight = tl.load(kernel2 + entry + tap).to(WIDE)
                    best2, index2 = _improve(best2, index2, tl.where(here, -x, float("-inf")), weight, tap)
    there = plane.to(tl.int64) * pixels + at
    tl.store(out + there, SIGN * best, mask=at < pixels)
    if KEEP:
        tl.store(winner + there, index, mask=at < pixels)
    if PAIR:
        tl.store(out2 + there, -SIGN * best2, mask=at < pixels)
        if KEEP:
            tl.store(winner2 + there, index2, mask=at < pixels)


@triton.jit
def _backward_signal(
    grad,
    winner,
    grad_u,
    orientations,
    height,
    width,
    KO: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pixels = height * width
    blocks = tl.cdiv(pixels, BLOCK)
    plane = tl.program_id(0) // blocks
    signal, o = plane // orientations, plane % orientations
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    h, w = at // width, at % width
    total = tl.zeros([BLOCK], WIDE)
    for a in range(KO):
        first = (signal * orientations + (o - a + KO * orientations + KO // 2) % orientations).to(tl.int64) * pixels
        for i in range(KH):
            row = h - i + KH // 2
            in_row = (at < pixels) & (row >= 0) & (row < height)
            for j in tl.static_range(KW):
                column = w - j + KW // 2
                here = in_row & (column >= 0) & (column < width)
                place = first + row * width + column
                won = here & (tl.load(winner + place, mask=here, other=0).to(tl.int32) == (a * KH + i) * KW + j)
                total += tl.load(grad + place, mask=won, other=0.0).to(WIDE)
    tl.store(grad_u + plane.to(tl.int64) * pixels + at, total, mask=at < pixels)


@triton.jit
def _backward_kernel(
    grad,
    winner,
    sums,
    pixels,
    NUMBER: tl.constexpr,
    WIDE: tl.constexpr,
    TAPS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    plane = tl.program_id(0).to(tl.int64)
    tap = tl.program_id(1) * TAPS + tl.arange(0, TAPS)
    total = tl.zeros([TAPS], tl.float64)
    for start in range(0, pixels, CHUNK):
        at = start + tl.arange(0, CHUNK)
        index = tl.load(winner + plane * pixels + at, mask=at < pixels, other=NUMBER).to(tl.int32)
        flow = tl.load(grad + plane * pixels + at, mask=at < pixels, other=0.0).to(WIDE)
        total += tl.sum(tl.where(index[None, :] == tap[:, None], flow[None, :], 0.0), 1).to(tl.float64)
    tl.store(sums + plane * NUMBER + tap, total, mask=tap < NUMBER)


def wide(dtype: torch.dtype) -> tl.dtype:
    """Type to compute in."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def forward(u: Tensor, kernel: Tensor, sign: int, keep: bool, index_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values, and the winning taps where ``keep`` (else an empty tensor)."""
    return _run(u, [kernel], sign, keep, index_dtype)[0]


def forward_pair(u: Tensor, kernels: list[Tensor], keep: bool, index_dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """What :func:`forward` gives for sign +1 with the first kernel and for -1 with the second, in one pass."""
    return _run(u, kernels, 1, keep, index_dtype)


def _run(
    u: Tensor, kernels: list[Tensor], sign: int, keep: bool, index_dtype: torch.dtype
) -> list[tuple[Tensor, Tensor]]:
    batch, channels, orientations, height, width = u.shape
    outs = [torch.empty_like(u) for _ in kernels]
    winners = [torch.empty(u.shape if keep else (0,), dtype=index_dtype, device=u.device) for _ in kernels]
    grid = (batch * channels * orientations * triton.cdiv(height * width, BLOCK),)
    with torch.cuda.device_of(u):
        _forward[grid](
            *(u, kernels[0], kernels[-1], outs[0], outs[-1], winners[0], winners[-1]),
            *(channels, orientations, height, width, *kernels[0].shape[2:]),
            SIGN=sign,
            KEEP=keep,
            PAIR=len(kernels) == 2,
            WIDE=wide(u.dtype),
            BLOCK=BLOCK,
        )
    return list(zip(outs, winners))


def backward(grad: Tensor, winner: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Gradient in u, and the sum of ``grad`` over the places each kernel entry won."""
    batch, channels, orientations, height, width = grad.shape
    planes, number = batch * channels * orientations, sizes[0] * sizes[1] * sizes[2]
    grad_u = torch.empty_like(grad)
    sums = torch.empty(batch, channels, orientations, *sizes, dtype=torch.float64, device=grad.device)
    with torch.cuda.device_of(grad):
        _backward_signal[(planes * triton.cdiv(height * width, BLOCK),)](
            *(grad, winner, grad_u, orientations, height, width, *sizes),
            WIDE=wide(grad.dtype),
            BLOCK=BLOCK,
        )
        _backward_kernel[(planes, triton.cdiv(number, TAPS))](
            *(grad, winner, sums, height * width),
            NUMBER=number,
            WIDE=wide(grad.dtype),
            TAPS=TAPS,
            CHUNK=CHUNK,
        )
    return grad_u, sums.sum(0).to(grad.dtype)
