# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Morphological convolution in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

The signal is copied once into a frame that is never the maximum; the kernels of ``triton_source.py`` then find values
and the row of each winning tap without a mask; the backward pass begins by finding its column. Signals that hold NaN
or infinity, kernels that hold NaN or -inf, and kernels too large to write out are walked over tap by tap. Gradients
are gathered, never scattered, without atomics, so sums have the same bits in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType

import torch
import triton
import triton.language as tl
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops._operator import index_dtype
from pdegcnn.ops.morphology import torch_impl, triton_source
from pdegcnn.ops.triton_strips import ROWS, dtype_name, frame, lanes, programs, strip, wide

BLOCK = 256
TAPS, CHUNK = 32, 128
COUNTS = ["channels", "orientations", "stride", "height", "width"]
"""Numbers whose values do not change the code of a kernel."""
STEPS = 32
"""Blocks of outputs that one program of the kernel's gradient adds up."""


@triton.jit
def _difference(p, q, SIGN: tl.constexpr):
    """Return what a tap gives; -infinity for an absent one, of weight infinity."""
    weight = tl.load(q)
    return tl.where(weight == float("inf"), float("-inf"), SIGN * tl.load(p) - weight)


@triton.jit(do_not_specialize=["batch", *COUNTS, "frame_height", "frame_width"])
def _columns(
    frame,
    kernel,
    winner,
    batch,
    channels,
    orientations,
    stride,
    height,
    width,
    frame_height,
    frame_width,
    KO: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SIGN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Replace the row of each winning tap by the tap: the first of the row that gives the greatest value."""
    entry, y = tl.program_id(0), tl.program_id(1) * ROWS
    lane = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    o = entry % orientations
    b, x = tl.minimum(lane // width, batch - 1), lane % width
    before, planes = b.to(tl.int64) * (channels * orientations), orientations * stride
    there = winner + (before + entry) * (height * width) + (y * width + x)
    source = frame + (before + entry - o) * stride * (frame_height * frame_width) + (y * frame_width + x)
    left = tl.where(lane < batch * width, height - y, 0)
    for r in tl.static_range(ROWS):
        row = tl.load(there, mask=left > r, other=KO * KH).to(tl.int32)
        won, row = row < KO * KH, tl.minimum(row, KO * KH - 1)
        turned = o * stride + row // KH - KO // 2
        for _ in tl.static_range(KO // 2):
            turned = tl.where(turned < 0, turned + planes, turned)
            turned = tl.where(turned >= planes, turned - planes, turned)
        first = row * KW
        p, q = source + (turned * frame_height + row % KH) * frame_width, kernel + entry * (KO * KH * KW) + first
        best = _difference(p, q, SIGN)
        tap = first
        for j in tl.static_range(1, KW):
            value = _difference(p + j, q + j, SIGN)
            better = (value > best) | ((value != value) & (best == best))
            tap, best = tl.where(better, first + j, tap), tl.where(better, value, best)
        tap = tl.where(won, tap, KO * KH * KW)
        tl.store(there, tap.to(winner.dtype.element_ty), mask=left > r)
        there += width
        source += frame_width


@triton.jit(do_not_specialize=[*COUNTS, "groups"])
def _walk(
    u,
    kernel,
    special,
    out,
    winner,
    channels,
    orientations,
    stride,
    height,
    width,
    groups,
    KO: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SIGN: tl.constexpr,
    KEEP: tl.constexpr,
    PERIODIC: tl.constexpr,
    ALL: tl.constexpr,
    LINE: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute a block of pixels of one plane tap by tap, with NaN and infinity as in ``reference.py``.

    Unless ALL, only the planes whose signal or kernel may give NaN, and ``groups`` programs share a plane.
    """
    pixels = height * width
    plane = tl.program_id(0) // groups
    signal, o = plane // orientations, plane % orientations
    entry = (signal % channels * orientations + o) * (KO * KH * KW)
    last = tl.cdiv(pixels, BLOCK)
    if not ALL:
        line = tl.arange(0, LINE)
        k = tl.load(kernel + entry + line, mask=line < KO * KH * KW, other=0.0).to(tl.float32)
        odd = tl.load(special + signal) | tl.max((~(k > float("-inf"))).to(tl.int32), 0)
        last = tl.where(odd > 0, last, 0)
    planes = stride * orientations
    first = u + signal.to(tl.int64) * planes * pixels
    for block in range(tl.program_id(0) % groups, last, groups):
        at = block * BLOCK + tl.arange(0, BLOCK)
        h, w = at // width, at % width
        best = tl.full([BLOCK], float("-inf"), WIDE)
        index = tl.full([BLOCK], KO * KH * KW, tl.int32)
        for a in range(KO):
            turned = stride * o + a - KO // 2
            exists = PERIODIC | ((turned >= 0) & (turned < planes))
            source = first + ((turned + KO * planes) % planes).to(tl.int64) * pixels
            for i in range(KH):
                row = h + i - KH // 2
                in_row = exists & (at < pixels) & (row >= 0) & (row < height)
                for j in range(KW):
                    column = w + j - KW // 2
                    here = in_row & (column >= 0) & (column < width)
                    x = SIGN * tl.load(source + row * width + column, mask=here, other=0.0).to(WIDE)
                    weight = tl.load(kernel + entry + (a * KH + i) * KW + j).to(WIDE)
                    value = tl.where(here, x, float("-inf")) - weight
                    value = tl.where(weight == float("inf"), float("-inf"), value)
                    wins = (value > best) | ((value != value) & (best == best))
                    index = tl.where(wins, (a * KH + i) * KW + j, index)
                    best = tl.where(wins, value, best)
        there = plane.to(tl.int64) * pixels + at
        tl.store(out + there, (SIGN * best).to(out.dtype.element_ty), mask=at < pixels)
        if KEEP:
            tl.store(winner + there, (index // KW).to(winner.dtype.element_ty), mask=at < pixels)


@triton.jit(do_not_specialize=COUNTS[1:])
def _backward_signal(
    grad,
    winner,
    grad_u,
    orientations,
    stride,
    height,
    width,
    KO: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Return the gradient of each source, for kernels too large to write out."""
    pixels = height * width
    blocks = tl.cdiv(pixels, BLOCK)
    plane = tl.program_id(0) // blocks
    planes = stride * orientations
    signal, o = plane // planes, plane % planes
    at = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    h, w = at // width, at % width
    total = tl.zeros([BLOCK], WIDE)
    for a in range(KO):
        centre = (o - a + KO * planes + KO // 2) % planes
        first = (signal * orientations + centre // stride).to(tl.int64) * pixels
        for i in range(KH):
            row = h - i + KH // 2
            in_row = (at < pixels) & (row >= 0) & (row < height) & (centre % stride == 0)
            for j in range(KW):
                column = w - j + KW // 2
                here = in_row & (column >= 0) & (column < width)
                place = first + row * width + column
                won = here & (tl.load(winner + place, mask=here, other=0).to(tl.int32) == (a * KH + i) * KW + j)
                total += tl.load(grad + place, mask=won, other=0.0).to(WIDE)
    tl.store(grad_u + plane.to(tl.int64) * pixels + at, total, mask=at < pixels)


@triton.jit(do_not_specialize=["pixels"])
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
    """Return the gradient of each kernel entry, for kernels too large to write out."""
    plane = tl.program_id(0).to(tl.int64)
    tap = tl.program_id(1) * TAPS + tl.arange(0, TAPS)
    total = tl.zeros([TAPS], tl.float64)
    for start in range(0, pixels, CHUNK):
        at = start + tl.arange(0, CHUNK)
        index = tl.load(winner + plane * pixels + at, mask=at < pixels, other=NUMBER).to(tl.int32)
        flow = tl.load(grad + plane * pixels + at, mask=at < pixels, other=0.0).to(WIDE)
        total += tl.sum(tl.where(index[None, :] == tap[:, None], flow[None, :], 0.0), 1).to(tl.float64)
    tl.store(sums + plane * NUMBER + tap, total, mask=tap < NUMBER)


def written_out(u: Tensor, size: Sequence[int]) -> bool:
    """Return whether the kernels that are written for one size can run.

    They number the planes of one signal in 32 bits.
    """
    channels, planes, height, width = u.shape[1:]
    room = planes * (height + size[1] + ROWS) * (width + size[2])
    return size[1] * size[2] <= triton_source.MOST_TAPS and size[0] <= 16 and room < 2**31 and channels < 2**15


@cache
def _module(name: str, *arguments: object) -> ModuleType:
    """Return the kernel ``name`` of ``triton_source.py`` for one size of the kernel and what else it depends on."""
    return _jit.import_text(f"morphology_{name}", getattr(triton_source, name)(*arguments))


def _frame(x: Tensor, size: Sequence[int], dtype: torch.dtype, empty: float, special: Tensor | None = None) -> Tensor:
    """Pad planes by half a kernel of ``empty``."""
    return frame(x, x.shape[-2], size[1:], (size[1] // 2, size[2] // 2), dtype, empty, special)


def forward(
    u: Tensor, kernel: Tensor, sign: int, keep: bool, row_dtype: torch.dtype, periodic: bool
) -> tuple[Tensor, Tensor]:
    """Compute values, and the rows of the winning taps where ``keep`` (else an empty tensor)."""
    size = tuple(kernel.shape[2:])
    out = u.new_empty(*u.shape[:2], kernel.shape[1], *u.shape[3:])
    winner = torch.empty(out.shape if keep else (0,), dtype=row_dtype, device=u.device)
    with torch.cuda.device_of(u):
        special = torch.zeros(u.shape[0] * u.shape[1], dtype=torch.int32, device=u.device)
        whole = written_out(u, size)
        if whole:
            # half precision stays packed for values; winners are those of float32
            dtype = torch.promote_types(u.dtype, torch.float32) if keep or u.dtype == torch.bfloat16 else u.dtype
            framed = _frame(u, size, dtype, -sign * float("inf"), special)
            _by_strips(framed, kernel.to(dtype), out, winner, sign, keep, periodic)
        _tap_by_tap(u, kernel, special, out, winner, sign, keep, periodic, not whole)
    return out, winner


def _by_strips(
    framed: Tensor, kernel: Tensor, out: Tensor, winner: Tensor, sign: int, keep: bool, periodic: bool
) -> None:
    """Compute values and winners of ordinary signals."""
    batch, channels, orientations, height, width = out.shape
    size = tuple(kernel.shape[2:])
    block = lanes(batch * width)
    counts = (batch, channels, orientations, framed.shape[2] // orientations, height, width, *framed.shape[-2:])
    columns = block if framed.dtype.itemsize >= 4 else 2 * block  # two halves fill a register
    module = _module("forward", size, strip(height), sign, keep, dtype_name(framed.dtype), periodic)
    module.forward[programs(out.shape, columns)](
        *(framed, kernel, out, *([winner] if keep else [])),
        *counts,
        BLOCK=columns,
        num_warps=block // 32,
    )


def _tap_by_tap(
    u: Tensor,
    kernel: Tensor,
    special: Tensor,
    out: Tensor,
    winner: Tensor,
    sign: int,
    keep: bool,
    periodic: bool,
    everything: bool,
) -> None:
    """Compute values and winners of ``special`` signals and kernels (with ``everything``, of all)."""
    batch, channels, orientations, height, width = out.shape
    size = kernel.shape[2:]
    stride = u.shape[2] // orientations
    groups = triton.cdiv(height * width, BLOCK) if everything else min(4, triton.cdiv(height * width, BLOCK))
    _walk[(batch * channels * orientations * groups,)](
        *(u, kernel, special, out, winner, channels, orientations, stride, height, width, groups, *size),
        SIGN=sign,
        KEEP=keep,
        PERIODIC=periodic,
        ALL=everything,
        LINE=triton.next_power_of_2(size.numel()),
        WIDE=wide(u.dtype),
        BLOCK=BLOCK,
    )


def backward(grad: Tensor, rows: Tensor, u: Tensor, kernel: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Compute gradients in u and kernel, from the rows of the winning taps."""
    grad_u, sizes = torch.empty_like(u), list(kernel.shape[2:])
    with torch.cuda.device_of(grad):
        if written_out(u, sizes):
            sums = _gather_by_strips(grad, _winning_taps(rows, u, kernel, sign), sizes, grad_u)
        else:
            winner = torch_impl.winning_taps(rows, u, kernel, sign).to(index_dtype(kernel[0, 0].numel() + 1))
            sums = _gather_tap_by_tap(grad, winner, sizes, grad_u)
    return grad_u, -sign * sums.sum(0).to(grad.dtype)


def _winning_taps(rows: Tensor, u: Tensor, kernel: Tensor, sign: int) -> Tensor:
    """Compute numbers of the winning taps, whose rows are known."""
    batch, channels, orientations, height, width = rows.shape
    size, block = tuple(kernel.shape[2:]), lanes(batch * width)
    framed = _frame(u, size, torch.promote_types(u.dtype, torch.float32), -sign * float("inf"))
    taps = rows.to(index_dtype(kernel[0, 0].numel() + 1), copy=True)
    _columns[programs(rows.shape, block)](
        *(framed, kernel.to(framed.dtype), taps, batch, channels, orientations, u.shape[2] // orientations),
        *(height, width, *framed.shape[-2:], *size),
        SIGN=sign,
        ROWS=strip(height),
        BLOCK=block,
        num_warps=block // 32,
    )
    return taps


def _gather_by_strips(grad: Tensor, winner: Tensor, sizes: list[int], grad_u: Tensor) -> Tensor:
    """Write ``grad_u``; return parts of the kernel's sums, ``[N,C,Or,KO,KH,KW]``."""
    batch, channels, orientations, height, width = grad.shape
    dtype, size = torch.promote_types(grad.dtype, torch.float32), tuple(sizes)
    gradients, winners = _frame(grad, size, dtype, 0.0), _frame(winner, size, winner.dtype, size[0] * size[1] * size[2])
    block = lanes(batch * width)
    _module("backward_signal", size, strip(height), dtype_name(dtype)).backward_signal[programs(grad_u.shape, block)](
        *(gradients, winners, grad_u, batch, channels, orientations, grad_u.shape[2] // orientations),
        *(height, width, *gradients.shape[-2:]),
        BLOCK=block,
        num_warps=block // 32,
    )
    pixels, block = height * width, lanes(height * width)
    length = min(triton.cdiv(pixels, block), STEPS) * block
    group = max(1, 2 * STEPS * block // length)
    parts = (triton.cdiv(batch, group), triton.cdiv(pixels, length))
    sums = torch.empty(parts[0] * parts[1], channels, orientations, *size, dtype=torch.float64, device=grad.device)
    _module("backward_kernel", size, dtype_name(dtype)).backward_kernel[(channels * orientations * size[0], *parts)](
        *(grad, winner, sums, batch, channels * orientations, pixels, group, length),
        BLOCK=block,
        num_warps=block // 32,
    )
    return sums


def _gather_tap_by_tap(grad: Tensor, winner: Tensor, sizes: list[int], grad_u: Tensor) -> Tensor:
    """Do the same as :func:`_gather_by_strips` for kernels too large to unroll."""
    batch, channels, orientations, height, width = grad.shape
    planes, number = batch * channels * orientations, sizes[0] * sizes[1] * sizes[2]
    sums = torch.empty(batch, channels, orientations, *sizes, dtype=torch.float64, device=grad.device)
    stride = grad_u.shape[2] // orientations
    _backward_signal[(stride * planes * triton.cdiv(height * width, BLOCK),)](
        *(grad, winner, grad_u, orientations, stride, height, width, *sizes), WIDE=wide(grad.dtype), BLOCK=BLOCK
    )
    _backward_kernel[(planes, triton.cdiv(number, TAPS))](
        *(grad, winner, sums, height * width), NUMBER=number, WIDE=wide(grad.dtype), TAPS=TAPS, CHUNK=CHUNK
    )
    return sums
