# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Linear convolution on rings in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

One program owns a block of one fibre layer and walks the lists of its rings in step. The gradient in the signal is a
convolution with the reversed lists; each kernel entry sums its own products. There are no atomics, so every run has the
same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pdegcnn.ops.ring_convolution.torch_impl import reversed_lists
from pdegcnn.ops.triton_strips import wide

BLOCK, TAPS, CHUNK = 256, 16, 64


@triton.jit
def _correlate(
    u,
    kernel,
    taps,
    start,
    out,
    channels,
    fibre,
    rings,
    length,
    kernels,
    number,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    points = rings * length
    blocks = tl.cdiv(points, BLOCK)
    layer = tl.program_id(0) // blocks
    plane, f = layer // fibre, layer % fibre
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = at < points
    ring, j = at // length, at % length
    first = tl.load(start + ring, mask=inside, other=0)
    count = (tl.load(start + ring + 1, mask=inside, other=0) - first).to(tl.int32)
    source = u + plane.to(tl.int64) * fibre * points
    weights = kernel + (plane % channels * kernels + f % kernels).to(tl.int64) * number
    total = tl.zeros([BLOCK], WIDE)
    for t in range(tl.max(count, 0)):
        there = t < count
        tap = taps + (first + t) * 3
        row = (f + tl.load(tap + 1, mask=there, other=0)) % fibre * rings + tl.load(tap, mask=there, other=0)
        column = (j + tl.load(tap + 2, mask=there, other=0)) % length
        x = tl.load(source + row * length + column, mask=there, other=0.0).to(WIDE)
        total += x * tl.load(weights + first + t, mask=there, other=0.0).to(WIDE)
    tl.store(out + layer.to(tl.int64) * points + at, total, mask=inside)


@triton.jit
def _products(
    grad,
    u,
    taps,
    owner,
    sums,
    fibre,
    rings,
    length,
    kernels,
    number,
    WIDE: tl.constexpr,
    TAPS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Sum what each tap reads times the gradient there, over the samples of one fibre row."""
    plane, row = tl.program_id(0) // kernels, tl.program_id(0) % kernels
    tap = tl.program_id(1) * TAPS + tl.arange(0, TAPS)
    real = tap < number
    to = tl.load(owner + tap, mask=real, other=0)
    ring = tl.load(taps + tap * 3, mask=real, other=0)
    turn = tl.load(taps + tap * 3 + 1, mask=real, other=0)
    shift = tl.load(taps + tap * 3 + 2, mask=real, other=0)
    base = plane.to(tl.int64) * fibre * rings
    total = tl.zeros([TAPS], tl.float64)
    for f in range(row, fibre, kernels):
        there, here = (base + f * rings + to) * length, (base + (f + turn) % fibre * rings + ring) * length
        for left in range(0, length, CHUNK):
            j = left + tl.arange(0, CHUNK)
            inside = real[:, None] & (j < length)[None, :]
            flow = tl.load(grad + there[:, None] + j[None, :], mask=inside, other=0.0).to(WIDE)
            column = (j[None, :] + shift[:, None]) % length
            value = tl.load(u + here[:, None] + column, mask=inside, other=0.0).to(WIDE)
            total += tl.sum((flow * value).to(tl.float64), 1)
    tl.store(sums + tl.program_id(0).to(tl.int64) * number + tap, total, mask=real)


def correlate(u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int) -> Tensor:
    """Return the sum over the taps."""
    batch, channels, fibre, rings, length = u.shape
    out = torch.empty_like(u)
    with torch.cuda.device_of(u):
        _correlate[(batch * channels * fibre * triton.cdiv(rings * length, BLOCK),)](
            *(u, kernel.contiguous(), taps.contiguous(), start, out),
            *(channels, fibre, rings, length, kernel.shape[1], kernel.shape[2]),
            WIDE=wide(u.dtype),
            BLOCK=BLOCK,
        )
    return out


def spread(grad: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int) -> Tensor:
    """Return the gradient of :func:`correlate` in the signal."""
    turned, back, first = reversed_lists(kernel, taps, start, grad.shape[2], grad.shape[4])
    return correlate(grad, turned, back, first, longest)


def products(grad: Tensor, u: Tensor, taps: Tensor, start: Tensor, longest: int, kernels: int) -> Tensor:
    """Return the gradient of :func:`correlate` in the kernel ``[C,kernels,S]``."""
    batch, channels, fibre, rings, length = grad.shape
    number = len(taps)
    sums = torch.empty(batch, channels, kernels, number, dtype=torch.float64, device=grad.device)
    owner = torch.repeat_interleave(torch.arange(rings, device=grad.device), start.diff(), output_size=number)
    with torch.cuda.device_of(grad):
        _products[(batch * channels * kernels, triton.cdiv(number, TAPS))](
            *(grad, u, taps.contiguous(), owner, sums, fibre, rings, length, kernels, number),
            WIDE=wide(grad.dtype),
            TAPS=TAPS,
            CHUNK=CHUNK,
        )
    return sums.sum(0).to(grad.dtype)
