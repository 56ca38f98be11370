# pyright: reportArgumentType=false, reportMissingImports=false, reportCallIssue=false, reportGeneralTypeIssues=false
# (kernels declare tl.constexpr and are launched with plain numbers; Triton has no wheels for some systems)
"""The gathered mean in Triton, for CUDA (and under ``TRITON_INTERPRET=1`` for tests).

One program owns a block of vertices of one channel, with all their orientations, and walks over the taps; weights are
computed in each pass and never stored. The weights are symmetric except for the areas, so that the gradient in the
signal is a gather over the same taps: no atomics, the same bits in every run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pdegcnn.ops.triton_lists import block, orientation, pair

BLOCK = 16
"""Vertices per program."""


@triton.jit
def _tap(at, use, row, zx, zy, rest):
    """Compute half-angle coordinates of the taps of one step, by orientation, and their shares of a cell."""
    c = tl.load(at, mask=use, other=0.0)[None, :]
    d = tl.load(at + row, mask=use, other=0.0)[None, :]
    y2 = rest + tl.load(at + 2 * row, mask=use, other=0.0)[None, :]
    share = tl.load(at + 3 * row, mask=use, other=0.0)[None, :]
    return c * zx + d * zy, c * zy - d * zx, y2, share


@triton.jit
def _store_sums(target, rate, xx, yy, zz, xy, xz, yz):
    """Store six sums over a program, in float64."""
    tl.store(target, tl.sum(tl.sum((rate * xx).to(tl.float64), 1), 0))
    tl.store(target + 1, tl.sum(tl.sum((rate * yy).to(tl.float64), 1), 0))
    tl.store(target + 2, tl.sum(tl.sum((rate * zz).to(tl.float64), 1), 0))
    tl.store(target + 3, tl.sum(tl.sum((rate * xy).to(tl.float64), 1), 0))
    tl.store(target + 4, tl.sum(tl.sum((rate * xz).to(tl.float64), 1), 0))
    tl.store(target + 5, tl.sum(tl.sum((rate * yz).to(tl.float64), 1), 0))


@triton.jit(do_not_specialize=["vertices", "channels", "count", "most", "samples"])
def _gather(
    u,
    flow,
    mean,
    start,
    columns,
    offset,
    turn,
    steps,
    areas,
    matrix,
    table,
    profile,
    scale,
    out,
    total,
    sums,
    vertices,
    channels,
    count,
    most,
    samples,
    NUMBER: tl.constexpr,
    BACK: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute means and sums of weights; with BACK gradients in the signal and, per program, in the metric."""
    plane, v, i, real, use, here, first, end = block(start, vertices, count, LANES, BLOCK)
    inside = real[:, None] & use[None, :]
    g = matrix + plane % channels * 9
    g00, g11, g22 = tl.load(g), tl.load(g + 4), tl.load(g + 8)
    g01, g02, g12 = tl.load(g + 1) + tl.load(g + 3), tl.load(g + 2) + tl.load(g + 6), tl.load(g + 5) + tl.load(g + 7)
    grow = tl.load(scale)
    own = tl.load(u + here, mask=inside, other=0.0)
    result, whole = own * 0, own * 0
    xx, yy, zz, xy, xz, yz = whole, whole, whole, whole, whole, whole
    if BACK:
        gain, centre = tl.load(flow + here, mask=inside, other=0.0), tl.load(mean + here, mask=inside, other=0.0)
    for slot in range(most):
        e = first + slot
        exists = real & (e < end)
        w, zx, zy, rest, back = pair(columns, offset, turn, steps, e, exists)
        area = tl.load(areas + w, mask=exists, other=0.0)[:, None]
        lanes = exists[:, None] & use[None, :]
        for s in range(NUMBER):
            y0, y1, y2, share = _tap(table + s * count + i, use, NUMBER * count, zx, zy, rest)
            q = y0 * (g00 * y0 + g01 * y1 + g02 * y2) + y1 * (g11 * y1 + g12 * y2) + g22 * y2 * y2
            place = tl.sqrt(tl.maximum(q, 0.0)) * grow
            share = tl.where(lanes & (place < samples - 1), share, 0.0)
            below = tl.minimum(tl.floor(place), samples - 2.0).to(tl.int32)
            low = tl.load(profile + below)
            rise = tl.load(profile + below + 1) - low
            weight = (low + (place - below) * rise) * share
            there = (plane * vertices + w)[:, None] * count + orientation(i, s - NUMBER // 2, back, count)
            value = tl.load(u + there, mask=lanes, other=0.0)
            if BACK:
                result += weight * tl.load(flow + there, mask=lanes, other=0.0)
                push = gain * (value - centre) * area * rise * share
                push = tl.where(place > 0, push / tl.where(place > 0, place, 1.0), 0.0)
                xx += push * y0 * y0
                yy += push * y1 * y1
                zz += push * y2 * y2
                xy += push * y0 * y1
                xz += push * y0 * y2
                yz += push * y1 * y2
            else:
                result += weight * area * value
                whole += weight * area
    if BACK:
        tl.store(out + here, result * tl.load(areas + v, mask=real, other=0.0)[:, None], mask=inside)
        _store_sums(sums + tl.program_id(0).to(tl.int64) * 6, grow * grow * 0.5, xx, yy, zz, xy, xz, yz)
    else:
        tl.store(out + here, result / tl.where(inside, whole, 1.0), mask=inside)
        tl.store(total + here, whole, mask=inside & (plane < channels))


def run(
    signals: Sequence[Tensor],
    lists: Sequence[Tensor],
    geometry: Sequence[Tensor],
    results: Sequence[Tensor],
    channels: int,
    most: int,
    taps: int,
    back: bool,
) -> None:
    """Launch the kernel and fill ``results``.

    Args:
        signals: by rows [B,C*V,N]; the signal, and with ``back`` the gradient over the sums of weights, and the means.
        lists: tensors of a ``DirectionalNeighbors``: start, columns, offset, turn, steps, areas.
        geometry: metric [C,3,3], table of taps [4,taps*N], profile [T], samples of the profile for one unit [1].
        results: values or gradient like the signal, sums of weights [C*V,N], parts of the metric's gradient [P,6] with
            ``P = B C ceil(V / BLOCK)``.
        channels: number of channels.
        most: greatest number of pairs of a vertex.
        taps: steps of orientations.
        back: whether gradients are wanted.
    """
    u = signals[0]
    vertices, count = u.shape[1] // channels, u.shape[2]
    with torch.cuda.device_of(u):
        _gather[(u.shape[0] * channels * triton.cdiv(vertices, BLOCK),)](
            *(x.contiguous() for x in (*signals, *lists, *geometry)),
            *(*results, vertices, channels, count, most, geometry[2].numel()),
            NUMBER=taps,
            BACK=back,
            LANES=triton.next_power_of_2(count),
            BLOCK=BLOCK,
        )


def parts(u: Tensor, channels: int) -> int:
    """Return the number of programs, each of which sums a part of the metric's gradient."""
    return u.shape[0] * channels * -(-(u.shape[1] // channels) // BLOCK)
