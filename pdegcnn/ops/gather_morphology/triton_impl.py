# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""The gathered morphology in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

One program owns a block of vertices of one channel, with all their directions, and walks over the taps in order: ties
go to the first as in the other versions. The backward pass is that of all versions, from the winning taps.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pdegcnn.ops.directional_neighbors import DirectionalNeighbors, half_steps
from pdegcnn.ops.triton_lists import block, orientation, pair

BLOCK = 16
"""Vertices per program."""


@triton.jit
def _cost(squared, factor, power):
    flat = power == float("inf")
    safe = tl.where(squared > 0, squared, 1.0)
    smooth = tl.where(squared > 0, factor * tl.exp(tl.where(flat, 1.0, power) * tl.log(safe)), 0.0)
    return tl.where(flat, tl.where(squared <= factor, 0.0, float("inf")), smooth)


@triton.jit
def _search(
    u,
    start,
    columns,
    offset,
    turn,
    steps,
    matrix,
    table,
    law,
    out,
    winner,
    vertices,
    channels,
    count,
    most,
    SIGN: tl.constexpr,
    NUMBER: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    plane, v, i, real, use, here, first, end = block(start, vertices, count, LANES, BLOCK)
    inside = real[:, None] & use[None, :]
    g = matrix + (plane % channels) * 9
    g00, g11, g22 = tl.load(g), tl.load(g + 4), tl.load(g + 8)
    g01, g02, g12 = tl.load(g + 1), tl.load(g + 2), tl.load(g + 5)
    factor, power, grid_step = tl.load(law), tl.load(law + 1), tl.load(law + 2)
    best = SIGN * tl.load(u + here, mask=inside, other=0.0)
    index = tl.full([BLOCK, LANES], NUMBER // 2, tl.int32)
    for slot in range(most):
        e = first + slot
        exists = real & (e < end)
        w, zx, zy, rest, back = pair(columns, offset, turn, steps, e, exists)
        lanes = exists[:, None] & use[None, :]
        for s in range(NUMBER):
            there = u + (plane * vertices + w)[:, None] * count + orientation(i, s - NUMBER // 2, back, count)
            value = SIGN * tl.load(there, mask=lanes, other=0.0)
            c = tl.load(table + 2 * (2 * i + s), mask=use, other=0.0)[None, :]
            d = tl.load(table + 2 * (2 * i + s) + 1, mask=use, other=0.0)[None, :]
            y0, y1, y2 = c * zx + d * zy, c * zy - d * zx, rest + (s - NUMBER // 2) * grid_step
            q = g00 * y0 * y0 + g11 * y1 * y1 + g22 * y2 * y2
            q += 2 * (g01 * y0 * y1 + g02 * y0 * y2 + g12 * y1 * y2)
            value -= _cost(q, factor, power)
            wins = lanes & ((value > best) | ((value != value) & (best == best)))
            best = tl.where(wins, value, best)
            index = tl.where(wins, slot * NUMBER + s, index)
    tl.store(out + here, SIGN * best, mask=inside)
    tl.store(winner + here, index.to(winner.dtype.element_ty), mask=inside)


def forward(
    u: Tensor, lists: DirectionalNeighbors, matrix: Tensor, law: Tensor, taps: int, sign: int, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute values and winning taps (``pair * taps + step``, counted from the vertex's first pair)."""
    batch, channels, count, vertices = u.shape
    rows = u.transpose(2, 3).contiguous()
    out, winner = torch.empty_like(rows), torch.empty(rows.shape, dtype=index_dtype, device=u.device)
    table = half_steps(count, taps, u.dtype).to(u.device)
    law = torch.cat((law, law.new_tensor([2 * torch.pi / count])))  # a number would be passed in float32
    with torch.cuda.device_of(u):
        _search[(batch * channels * triton.cdiv(vertices, BLOCK),)](
            *(rows, *(x.contiguous() for x in lists[:5]), matrix.contiguous(), table, law, out, winner),
            *(vertices, channels, count, lists.most),
            SIGN=sign,
            NUMBER=taps,
            LANES=triton.next_power_of_2(count),
            BLOCK=BLOCK,
        )
    return out.transpose(2, 3).contiguous(), winner.transpose(2, 3).contiguous()
