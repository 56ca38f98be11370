# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Depthwise group convolution in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

Signal and output may differ in size by the padding that is missing. The kernels of ``triton_source.py`` read a padded
copy of the signal; kernels too large to write out are walked over in a loop. All sums are gathered: no atomics, the
same bits in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops.group_convolution import triton_source
from pdegcnn.ops.triton_strips import ROWS, dtype_name, frame, lanes, programs, strip, wide

BLOCK = 512
TAPS, CHUNK = 32, 64
PIECES = 32
"""Strips and blocks of columns that one program of the kernel's gradient adds up."""


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
    """Compute ``out[o,h,w] = sum u[o+do,h+i-TOP,w+j-LEFT] k[o,do,i,j]``, or its transpose unless FORWARD."""
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
    """Compute ``out[c,o,do,i,j] = sum over b,h,w of grad[b,c,o,h,w] u[b,c,o+do,h+i-TOP,w+j-LEFT]``."""
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
    return {"TOP": padding[0], "LEFT": padding[1], "WIDE": wide(dtype)}


@cache
def _module(name: str, *arguments: object) -> ModuleType:
    """Return the kernel ``name`` of ``triton_source.py`` for one size of the kernel and what else it depends on."""
    return _jit.import_text(f"group_convolution_{name}", getattr(triton_source, name)(*arguments))


def written_out(u: Tensor, size: Sequence[int]) -> bool:
    """Return whether the kernels that are written for one size can run.

    They number the planes of one signal in 32 bits.
    """
    room = u.shape[2] * (u.shape[3] + 2 * size[1] + ROWS) * (u.shape[4] + 2 * size[2])
    return size[1] * size[2] <= triton_source.MOST_TAPS and room < 2**31


def _run(u: Tensor, kernel: Tensor, padding: list[int], forward: bool) -> Tensor:
    batch, channels, orientations = u.shape[:3]
    side, size = 1 if forward else -1, tuple(kernel.shape[2:])
    height, width = (n + side * (2 * p - k + 1) for n, p, k in zip(u.shape[3:], padding, size[1:]))
    out = torch.empty(*u.shape[:3], height, width, dtype=u.dtype, device=u.device)
    with torch.cuda.device_of(u):
        if written_out(u, size):
            dtype, block = torch.promote_types(u.dtype, torch.float32), lanes(batch * width)
            margin = padding if forward else [k - 1 - p for k, p in zip(size[1:], padding)]
            framed = frame(u, height, size[1:], margin, dtype, 0.0)
            _module("correlate", size, strip(height), forward, dtype_name(dtype)).correlate[programs(out.shape, block)](
                *(framed, kernel.to(dtype), out, *out.shape, *framed.shape[3:]), BLOCK=block, num_warps=block // 32
            )
            return out
        _correlate[(batch * channels * orientations * triton.cdiv(height * width, BLOCK),)](
            *(u, kernel, out, channels, orientations, *u.shape[3:], height, width),
            **_options(u.dtype, padding),
            **dict(zip(("KO", "KH", "KW"), size)),
            FORWARD=forward,
            BLOCK=BLOCK,
        )
    return out


def correlate(u: Tensor, kernel: Tensor, padding: list[int]) -> Tensor:
    """Correlate a signal [B,C,Or,H,W] with a kernel [C,Or,KO,KH,KW]."""
    return _run(u, kernel, padding, True)


def spread(grad: Tensor, kernel: Tensor, padding: list[int]) -> Tensor:
    """Transpose of :func:`correlate` in the signal."""
    return _run(grad, kernel, padding, False)


def products(grad: Tensor, u: Tensor, padding: list[int], taps: int) -> Tensor:
    """Transpose of :func:`correlate` in the kernel."""
    batch, channels, orientations, height, width = grad.shape
    kh, kw = (n + 2 * p - m + 1 for n, p, m in zip(u.shape[3:], padding, grad.shape[3:]))
    size = (taps, kh, kw)
    with torch.cuda.device_of(grad):
        if written_out(u, size):
            dtype, block = torch.promote_types(grad.dtype, torch.float32), lanes(batch * width)
            framed = frame(u, height, size[1:], padding, dtype, 0.0)
            entries, strips, blocks = programs(grad.shape, block)
            parts = triton.cdiv(strips * blocks, PIECES)
            sums = torch.empty(parts, channels, orientations, *size, dtype=torch.float64, device=grad.device)
            _module("products", size, strip(height), dtype_name(dtype)).products[(entries * taps, parts)](
                *(framed, grad, sums, *grad.shape, *framed.shape[3:], PIECES), BLOCK=block, num_warps=block // 32
            )
            return sums.sum(0).to(grad.dtype)
        out = torch.empty(channels, orientations, *size, dtype=grad.dtype, device=grad.device)
        _products[channels * orientations, triton.cdiv(taps * kh * kw, TAPS)](
            *(grad, u, out, batch, channels, orientations, *u.shape[3:], height, width),
            **_options(grad.dtype, padding),
            **dict(zip(("KO", "KH", "KW"), size)),
            TAPS=TAPS,
            BLOCK=CHUNK,
        )
    return out
