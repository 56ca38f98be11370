"""Fast CPU version of the gathered morphology."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors, directions, half_steps
from pdegcnn.ops.gather_mean.numba_impl import back

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))
ROUNDING = 1e-5
"""Part of the trace of a metric that may be rounding in distances."""


def forward(
    u: Tensor, lists: DirectionalNeighbors, matrix: Tensor, law: Tensor, taps: int, sign: int, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return values and winning taps (``pair * taps + step``, counted from the vertex's first pair)."""
    rows, count = u.permute(0, 3, 1, 2).contiguous(), u.shape[2]
    out, winner = torch.empty_like(rows), torch.empty(rows.shape, dtype=index_dtype)
    tables = tuple(_jit.array(x) for x in lists[:5])
    numbers = [_jit.array(x) for x in (matrix, _stretch(matrix), half_steps(count, taps, u.dtype), law)]
    results = out.numpy(), winner.numpy()
    loops = _jit.specialise(LOOPS, directions, count)
    signals = _jit.array(rows), _jit.array((sign * rows).amax(3))
    most = lists.most
    sizes = 3 * most * taps * count, most * taps * count, 2 * most, count + taps, count
    rooms = [(size, u.dtype, 0.0) for size in sizes] + [(2 * most, torch.bool, 0), (count, torch.int64, 0)]
    loop = _jit.with_room(loops.search, *rooms, (count, torch.float64, 0))
    _jit.parallel(loop, u.shape[3], *signals, tables, *numbers, taps, sign, *results)
    return back(out), back(winner)


def _stretch(matrix: Tensor) -> Tensor:
    """Return what the metric [C,3,3] multiplies squared lengths by at least, whatever the turn: [C], a little less."""
    g = matrix.detach().double()
    plane = g[:, :2, :2] - g[:, :2, 2:] @ g[:, 2:, :2] / g[:, 2:, 2:]
    middle, half = (plane[:, 0, 0] + plane[:, 1, 1]) / 2, (plane[:, 0, 0] - plane[:, 1, 1]) / 2
    apart = torch.hypot(half, plane[:, 0, 1])
    safe = middle - apart - ROUNDING * g.diagonal(dim1=1, dim2=2).sum(1)
    return safe.clamp_min(0).nan_to_num(0.0, 0.0).to(matrix.dtype)


def backward(
    grad: Tensor,
    lists: DirectionalNeighbors,
    matrix: Tensor,
    law: Tensor,
    winner: Tensor,
    taps: int,
    sign: int,
    metric: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients in u, and with ``metric`` (else zero) in the matrix and the law."""
    loops = _jit.specialise(LOOPS, directions, grad.shape[2])
    rows, winners = (x.transpose(2, 3).contiguous() for x in (grad, winner))
    out, sums = torch.zeros_like(rows), torch.zeros(grad.shape[1], 11 if metric else 0, dtype=torch.float64)
    arrays = [_jit.array(x) for x in (rows, winners, *lists[:5], matrix)]
    table = half_steps(grad.shape[2], taps, grad.dtype).numpy()
    results = out.numpy(), sums.numpy()
    _jit.parallel(loops.pull, grad.shape[1], *arrays, table, _jit.array(law), taps, sign, *results)
    grad_u = out.transpose(2, 3).contiguous()
    if not metric:
        return grad_u, torch.zeros_like(matrix), torch.zeros_like(law)
    return grad_u, sums[:, :9].view(matrix.shape).to(matrix.dtype), sums[:, 9:].sum(0).to(law.dtype)
