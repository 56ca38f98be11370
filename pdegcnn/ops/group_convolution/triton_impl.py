# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Depthwise group convolution in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

Signal and output may differ in size by the padding that is missing. All sums are gathered: no atomics, the same bits
in every run.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512
TAPS, CHUNK = 32, 128


@triton.jit
def _correlate(
    u,
    kernel,
    out,
    channels,
    orientations,
    source_height,
    source_width,
    height,
    width,
    TOP: tl.constexpr,
    LEFT: tl.constexpr,
    KO: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    FORWARD: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``out[o,h,w] = sum u[o+do,h+i-TOP,w+j-LEFT] k[o,do,i,j]``, or its transpose unless FORWARD."""
    pixels = height * width
    blocks = tl.cdiv(pixels, BLOCK)
    plane = tl.program_id(0) // blocks
    signal, o = plane // orientations, plane % orientations
    channel = signal % channels * orientations
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    h, w = at // width, at % width
    total = tl.zeros([BLOCK], WIDE)
    for a in range(KO):
        if FORWARD:
            other = (o + a + KO * orientations - KO // 2) % orientations
            weights = kernel + ((channel + o) * KO + a) * (KH * KW)
        else:
            other = (o - a + KO * orientations + KO // 2) % orientations
            weights = kernel + ((channel + other) * KO + a) * (KH * KW)
        source = u + (signal * orientations + other).to(tl.int64) * source_height * source_width
        for i in range(KH):
            row = h + i - TOP if FORWARD else h - i + TOP
            in_row = (at < pixels) & (row >= 0) & (row < source_height)
            for j in tl.static_range(KW):
                column = w + j - LEFT if FORWARD else w - j + LEFT
                here = in_row & (column >= 0) & (column < source_width)
                value = tl.load(source + row * source_width + column, mask=here, other=0.0).to(WIDE)
                total += value * tl.load(weights + i * KW + j).to(WIDE)
    tl.store(out + plane.to(tl.int64) * pixels + at, total, mask=at < pixels)


@triton.jit
def _products(
    grad,
    u,
    out,
    batch,
    channels,
    orientations,
    source_height,
    source_width,
    height,
    width,
    TOP: tl.constexpr,
    LEFT: tl.constexpr,
    KO: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    TAPS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``out[c,o,do,i,j] = sum over b,h,w of grad[b,c,o,h,w] u[b,c,o+do,h+i-TOP,w+j-LEFT]``, TAPS entries a program."""
    tap = tl.program_id(1) * TAPS + tl.arange(0, TAPS)
    c, o = tl.program_id(0) // orientations, tl.program_id(0) % orientations
    other = (o + tap // (KH * KW) + KO * orientations - KO // 2) % orientations
    down, right = (tap // KW % KH - TOP)[:, None], (tap % KW - LEFT)[:, None]
    pixels, sources = height * width, source_height * source_width
    total = tl.zeros([TAPS], tl.float64)
    for b in range(batch):
        signal = (b * channels + c) * orientations
        first = u + (signal + other).to(tl.int64)[:, None] * sources
        g_first = grad + (signal + o).to(tl.int64) * pixels
        for start in range(0, pixels, BLOCK):
            at = start + tl.arange(0, BLOCK)
            row, column = (at // width)[None, :] + down, (at % width)[None, :] + right
            here = (row >= 0) & (row < source_height) & (column >= 0) & (column < source_width)
            here = here & (at < pixels)[None, :] & (tap < KO * KH * KW)[:, None]
            g = tl.load(g_first + at, mask=at < pixels, other=0.0).to(WIDE)
            value = tl.load(first + row * source_width + column, mask=here, other=0.0).to(WIDE)
            total += tl.sum(g[None, :] * value, 1).to(tl.float64)
    entry = tl.program_id(0) * (KO * KH * KW) + tap
    tl.store(out + entry, total.to(WIDE), mask=tap < KO * KH * KW)


def _options(dtype: torch.dtype, padding: list[int]) -> dict[str, Any]:
    return {
        "TOP": padding[0],
        "LEFT": padding[1],
        "WIDE": tl.float64 if dtype == torch.float64 else tl.float32,
    }


def _run(u: Tensor, kernel: Tensor, padding: list[int], forward: bool) -> Tensor:
    batch, channels, orientations = u.shape[:3]
    side = 1 if forward else -1
    height, width = (n + side * (2 * p - k + 1) for n, p, k in zip(u.shape[3:], padding, kernel.shape[3:]))
    out = torch.empty(*u.shape[:3], height, width, dtype=u.dtype, device=u.device)
    grid = (batch * channels * orientations * triton.cdiv(height * width, BLOCK),)
    with torch.cuda.device_of(u):
        _correlate[grid](
            *(u, kernel, out, channels, orientations, *u.shape[3:], height, width),
            **_options(u.dtype, padding),
            **dict(zip(("KO", "KH", "KW"), kernel.shape[2:])),
            FORWARD=forward,
            BLOCK=BLOCK,
        )
    return out


def correlate(u: Tensor, kernel: Tensor, padding: list[int]) -> Tensor:
    """Signal [B,C,Or,H,W] with kernel [C,Or,KO,KH,KW]."""
    return _run(u, kernel, padding, True)


def spread(grad: Tensor, kernel: Tensor, padding: list[int]) -> Tensor:
    """Transpose of :func:`correlate` in the signal."""
    return _run(grad, kernel, padding, False)


def products(grad: Tensor, u: Tensor, padding: list[int], taps: int) -> Tensor:
    """Transpose of :func:`correlate` in the kernel."""
    batch, channels, orientations, height, width = grad.shape
    kh, kw = (n + 2 * p - m + 1 for n, p, m in zip(u.shape[3:], padding, grad.shape[3:]))
    out = torch.empty(channels, orientations, taps, kh, kw, dtype=grad.dtype, device=grad.device)
    with torch.cuda.device_of(grad):
        _products[channels * orientations, triton.cdiv(taps * kh * kw, TAPS)](
            *(grad, u, out, batch, channels, orientations, *u.shape[3:], height, width),
            **_options(grad.dtype, padding),
            KO=taps,
            KH=kh,
            KW=kw,
            TAPS=TAPS,
            BLOCK=CHUNK,
        )
    return out
