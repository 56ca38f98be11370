# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""Padded copies of signals and launch grids for Triton kernels that hold some rows of a column in registers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES, ROWS = 128, 8
"""Columns and most rows of a strip."""


@triton.jit(do_not_specialize=["planes", "orientations", "height", "width", "frame_height", "frame_width"])
def _fill_frame(
    u,
    frame,
    special,
    planes,
    orientations,
    height,
    width,
    frame_height,
    frame_width,
    TOP: tl.constexpr,
    LEFT: tl.constexpr,
    EMPTY: tl.constexpr,
    CHECK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Copy planes into their frames of EMPTY; with CHECK, note which signals hold NaN or infinity."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # columns of the frames of all planes
    plane, x = lane // frame_width, lane % frame_width
    top = tl.program_id(1) * ROWS
    p = u + plane.to(tl.int64) * (height * width) + (top - TOP) * width + (x - LEFT)
    q = frame + plane.to(tl.int64) * (frame_height * frame_width) + top * frame_width + x
    above = tl.where((x >= LEFT) & (x < width + LEFT) & (plane < planes), height, 0)
    left = tl.where(plane < planes, frame_height - top, 0)
    odd = tl.zeros([BLOCK], tl.int32)
    for r in tl.static_range(ROWS):
        y = top + r - TOP
        value = tl.load(p, mask=(y >= 0) & (y < above), other=EMPTY)
        tl.store(q, value.to(frame.dtype.element_ty), mask=left > r)
        if CHECK:
            ordinary = tl.abs(value.to(tl.float32)) < float("inf")
            odd = tl.where((y >= 0) & (y < above) & ~ordinary, 1, odd)
        p += width
        q += frame_width
    if CHECK:
        tl.atomic_max(special + plane // orientations, odd, mask=odd > 0)


def wide(dtype: torch.dtype) -> tl.dtype:
    """Return the dtype of the computation."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def strip(height: int) -> int:
    """Return rows of a strip: at most ROWS, and such that the strips cover little more than the image."""
    return -(-height // -(-height // ROWS))


def lanes(count: int) -> int:
    """Return how many of ``count`` numbers a program processes in parallel."""
    return min(LANES, max(32, 1 << (count - 1).bit_length()))


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype: float32 for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def programs(shape: Sequence[int], block: int) -> tuple[int, int, int]:
    """Return the grid of kernels over strips of rows: kernels, strips, blocks of columns of the batch."""
    batch, channels, orientations, height, width = shape
    return channels * orientations, -(-height // strip(height)), -(-batch * width // block)


def frame(
    x: Tensor,
    rows: int,
    size: Sequence[int],
    margin: Sequence[int],
    dtype: torch.dtype,
    empty: float,
    special: Tensor | None = None,
) -> Tensor:
    """Put planes [B,C,Or,H,W] into frames of ``empty``, as high as whole strips: no load of a kernel needs a mask.

    Args:
        x: signal.
        rows: rows of the output, whose strips the frame serves.
        size: rows and columns of the kernel.
        margin: rows above and columns left of the image.
        dtype: type of the frame.
        empty: what lies outside the image.
        special: int32 [B*C]; becomes 1 where a signal holds NaN or infinity.
    """
    height, width = x.shape[-2:]
    high = -(-rows // strip(rows)) * strip(rows)
    room = (high + size[0] - 1, width + 2 * margin[1])
    made = torch.empty(*x.shape[:3], *room, dtype=dtype, device=x.device)
    planes = x.shape[0] * x.shape[1] * x.shape[2]
    _fill_frame[(triton.cdiv(planes * room[1], LANES), triton.cdiv(room[0], ROWS))](
        *(x, made, made if special is None else special, planes, x.shape[2], height, width, *room),
        TOP=margin[0],
        LEFT=margin[1],
        EMPTY=empty,
        CHECK=special is not None,
        ROWS=ROWS,
        BLOCK=LANES,
    )
    return made
