# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""The transport gather in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

One program owns a block of channels at one vertex; sums stay in registers, nothing of the size of the pairs is stored.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pdegcnn.ops.triton_strips import wide

BLOCK = 32
"""Channels per program."""


@triton.jit
def _gather(
    fields,
    start,
    columns,
    values,
    out,
    vertices,
    channels,
    KINDS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    v = row % vertices
    real = tl.zeros([BLOCK], WIDE)
    imag = tl.zeros([BLOCK], WIDE)
    for e in range(tl.load(start + v), tl.load(start + v + 1)):
        source = row - v + tl.load(columns + e)
        for k in range(KINDS):
            a = tl.load(values + (e * KINDS + k) * 2).to(WIDE)
            b = tl.load(values + (e * KINDS + k) * 2 + 1).to(WIDE)
            place = fields + (source * KINDS + k) * 2 * channels + c
            x = tl.load(place, mask=c < channels, other=0.0).to(WIDE)
            y = tl.load(place + channels, mask=c < channels, other=0.0).to(WIDE)
            real += a * x - b * y
            imag += a * y + b * x
    place = out + row * 2 * channels + c
    tl.store(place, real, mask=c < channels)
    tl.store(place + channels, imag, mask=c < channels)


@triton.jit
def _spread(
    grad, start, columns, values, out, vertices, channels, KINDS: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k = tl.program_id(2)
    v = row % vertices
    real = tl.zeros([BLOCK], WIDE)
    imag = tl.zeros([BLOCK], WIDE)
    for e in range(tl.load(start + v), tl.load(start + v + 1)):
        place = grad + (row - v + tl.load(columns + e)) * 2 * channels + c
        a = tl.load(values + (e * KINDS + k) * 2).to(WIDE)
        b = tl.load(values + (e * KINDS + k) * 2 + 1).to(WIDE)
        x = tl.load(place, mask=c < channels, other=0.0).to(WIDE)
        y = tl.load(place + channels, mask=c < channels, other=0.0).to(WIDE)
        real += a * x - b * y
        imag += a * y + b * x
    place = out + (row * KINDS + k) * 2 * channels + c
    tl.store(place, real, mask=c < channels)
    tl.store(place + channels, imag, mask=c < channels)


def gather(fields: Tensor, start: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Sum over pairs and fields, ``[B,V,K,2,C] -> [B,V,2,C]``."""
    batch, vertices, kinds, _, channels = fields.shape
    out = fields.new_empty(batch, vertices, 2, channels)
    grid = (batch * vertices, triton.cdiv(channels, BLOCK))
    with torch.cuda.device_of(fields):
        _gather[grid](
            *(fields, start, columns, values.contiguous(), out, vertices, channels),
            KINDS=kinds,
            WIDE=wide(fields.dtype),
            BLOCK=BLOCK,
        )
    return out


def spread(grad: Tensor, start: Tensor, columns: Tensor, back: Tensor) -> Tensor:
    """Compute the adjoint of :func:`gather`, ``[B,V,2,C] -> [B,V,K,2,C]``."""
    batch, vertices, _, channels = grad.shape
    kinds = back.shape[1]
    out = grad.new_empty(batch, vertices, kinds, 2, channels)
    grid = (batch * vertices, triton.cdiv(channels, BLOCK), kinds)
    with torch.cuda.device_of(grad):
        _spread[grid](
            *(grad, start, columns, back.contiguous(), out, vertices, channels),
            KINDS=kinds,
            WIDE=wide(grad.dtype),
            BLOCK=BLOCK,
        )
    return out
