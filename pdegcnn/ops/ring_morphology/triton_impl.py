# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Max-plus convolution on rings in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

One program owns a block of one fibre layer and walks the lists of its rings in step, so ties go to the first tap as
in every backend. Gradients are gathered, never scattered: each source looks up the outputs whose maximum it may be, by
lists of taps sorted by the ring they read; each kernel entry sums those of its outputs. There are no atomics, so
every run has the same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pdegcnn.ops.triton_strips import wide

BLOCK, TAPS, CHUNK = 256, 32, 64


@triton.jit
def _forward(
    u,
    kernel,
    taps,
    start,
    out,
    winner,
    channels,
    fibre,
    rings,
    length,
    kernels,
    number,
    SIGN: tl.constexpr,
    KEEP: tl.constexpr,
    NONE: tl.constexpr,
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
    costs = kernel + (plane % channels * kernels + f % kernels).to(tl.int64) * number
    best = tl.full([BLOCK], float("-inf"), WIDE)
    index = tl.full([BLOCK], NONE, tl.int32)
    for t in range(tl.max(count, 0)):
        there = t < count
        tap = taps + (first + t) * 3
        row = (f + tl.load(tap + 1, mask=there, other=0)) % fibre * rings + tl.load(tap, mask=there, other=0)
        column = (j + tl.load(tap + 2, mask=there, other=0)) % length
        x = SIGN * tl.load(source + row * length + column, mask=there, other=0.0).to(WIDE)
        weight = tl.load(costs + first + t, mask=there, other=float("inf")).to(WIDE)
        value = tl.where(weight == float("inf"), float("-inf"), x - weight)
        wins = (value > best) | ((value != value) & (best == best))
        best = tl.where(wins, value, best)
        index = tl.where(wins, t, index)
    place = layer.to(tl.int64) * points + at
    tl.store(out + place, SIGN * best, mask=inside)
    if KEEP:
        tl.store(winner + place, index, mask=inside)


@triton.jit
def _backward_signal(
    grad,
    winner,
    taps,
    start,
    order,
    readers,
    owner,
    grad_u,
    fibre,
    rings,
    length,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Pull gradients to the signal; ``order`` lists taps by the ring they read, ``owner`` is the ring of a tap."""
    points = rings * length
    blocks = tl.cdiv(points, BLOCK)
    layer = tl.program_id(0) // blocks
    plane, f = layer // fibre, layer % fibre
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = at < points
    ring, j = at // length, at % length
    first = tl.load(readers + ring, mask=inside, other=0)
    count = (tl.load(readers + ring + 1, mask=inside, other=0) - first).to(tl.int32)
    base = plane.to(tl.int64) * fibre * points
    total = tl.zeros([BLOCK], WIDE)
    for i in range(tl.max(count, 0)):
        there = i < count
        tap = tl.load(order + first + i, mask=there, other=0)
        to = tl.load(owner + tap, mask=there, other=0)
        layer_there = (f + fibre - tl.load(taps + tap * 3 + 1, mask=there, other=0)) % fibre
        column = (j + length - tl.load(taps + tap * 3 + 2, mask=there, other=0)) % length
        place = base + (layer_there * rings + to) * length + column
        t = tap - tl.load(start + to, mask=there, other=0)
        won = there & (tl.load(winner + place, mask=there, other=0).to(tl.int64) == t)
        total += tl.load(grad + place, mask=won, other=0.0).to(WIDE)
    tl.store(grad_u + layer.to(tl.int64) * points + at, total, mask=inside)


@triton.jit
def _backward_kernel(
    grad,
    winner,
    start,
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
    plane, row = tl.program_id(0) // kernels, tl.program_id(0) % kernels
    tap = tl.program_id(1) * TAPS + tl.arange(0, TAPS)
    real = tap < number
    ring = tl.load(owner + tap, mask=real, other=0)
    t = tap - tl.load(start + ring, mask=real, other=0)
    total = tl.zeros([TAPS], tl.float64)
    for f in range(row, fibre, kernels):
        line = ((plane.to(tl.int64) * fibre + f) * rings + ring) * length
        for left in range(0, length, CHUNK):
            j = left + tl.arange(0, CHUNK)
            place, there = line[:, None] + j[None, :], real[:, None] & (j < length)[None, :]
            won = there & (tl.load(winner + place, mask=there, other=0).to(tl.int64) == t[:, None])
            total += tl.sum(tl.load(grad + place, mask=won, other=0.0).to(tl.float64), 1)
    tl.store(sums + tl.program_id(0).to(tl.int64) * number + tap, total, mask=real)


def forward(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, sign: int, keep: bool, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute values, and the winning taps (numbered within their ring) where ``keep`` (else an empty tensor)."""
    batch, channels, fibre, rings, length = u.shape
    out, winner = torch.empty_like(u), torch.empty(u.shape if keep else (0,), dtype=index_dtype, device=u.device)
    with torch.cuda.device_of(u):
        _forward[(batch * channels * fibre * triton.cdiv(rings * length, BLOCK),)](
            *(u, kernel, taps.contiguous(), start, out, winner),
            *(channels, fibre, rings, length, kernel.shape[1], kernel.shape[2]),
            SIGN=sign,
            KEEP=keep,
            NONE=torch.iinfo(index_dtype).max,
            WIDE=wide(u.dtype),
            BLOCK=BLOCK,
        )
    return out, winner


def backward(grad: Tensor, winner: Tensor, taps: Tensor, start: Tensor, kernels: int) -> tuple[Tensor, Tensor]:
    """Compute the gradient in u, and the sum of ``grad`` over the outputs of each kernel entry, ``[C,kernels,S]``."""
    batch, channels, fibre, rings, length = grad.shape
    number, grad_u = len(taps), torch.empty_like(grad)
    sums = torch.empty(batch, channels, kernels, number, dtype=torch.float64, device=grad.device)
    owner = torch.repeat_interleave(torch.arange(rings, device=grad.device), start.diff(), output_size=number)
    order = taps[:, 0].argsort(stable=True)
    readers = torch.nn.functional.pad(torch.bincount(taps[:, 0], minlength=rings).cumsum(0), (1, 0))
    with torch.cuda.device_of(grad):
        _backward_signal[(batch * channels * fibre * triton.cdiv(rings * length, BLOCK),)](
            *(grad, winner.contiguous(), taps.contiguous(), start, order, readers, owner, grad_u),
            *(fibre, rings, length),
            WIDE=wide(grad.dtype),
            BLOCK=BLOCK,
        )
        _backward_kernel[(batch * channels * kernels, triton.cdiv(number, TAPS))](
            *(grad, winner.contiguous(), start, owner, sums),
            *(fibre, rings, length, kernels, number),
            WIDE=wide(grad.dtype),
            TAPS=TAPS,
            CHUNK=CHUNK,
        )
    return grad_u, sums.sum(0).to(grad.dtype)
