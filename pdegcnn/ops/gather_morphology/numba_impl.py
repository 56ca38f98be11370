"""Fast CPU version of the gathered morphology."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors, half_steps

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def forward(
    u: Tensor, lists: DirectionalNeighbors, matrix: Tensor, law: Tensor, taps: int, sign: int, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Values and winning taps (``pair * taps + step``, counted from the vertex's first pair)."""
    loops = _jit.specialise(LOOPS, None, 0)
    rows = u.transpose(2, 3).contiguous()
    out, winner = torch.empty_like(rows), torch.empty(rows.shape, dtype=index_dtype)
    count, items = u.shape[2], rows[..., 0].numel()
    _jit.parallel(
        loops.search,
        items,
        _jit.array(rows.view(items, count)),
        *(_jit.array(x) for x in lists[:5]),
        _jit.array(matrix),
        half_steps(count, taps, u.dtype).numpy(),
        _jit.array(law),
        taps,
        sign,
        out.view(items, count).numpy(),
        winner.view(items, count).numpy(),
    )
    return out.transpose(2, 3).contiguous(), winner.transpose(2, 3).contiguous()


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
    """Gradients in u, and with ``metric`` (else zero) in the matrix and the law."""
    loops = _jit.specialise(LOOPS, None, 0)
    rows, winners = (x.transpose(2, 3).contiguous() for x in (grad, winner))
    out, sums = torch.empty_like(rows), torch.zeros(grad.shape[1], 11 if metric else 0, dtype=torch.float64)
    arrays = [_jit.array(x) for x in (rows, winners, *lists[:5], matrix)]
    table = half_steps(grad.shape[2], taps, grad.dtype).numpy()
    results = out.numpy(), sums.numpy()
    _jit.parallel(loops.pull, grad.shape[1], *arrays, table, _jit.array(law), taps, sign, *results)
    grad_u = out.transpose(2, 3).contiguous()
    if not metric:
        return grad_u, torch.zeros_like(matrix), torch.zeros_like(law)
    return grad_u, sums[:, :9].view(matrix.shape).to(matrix.dtype), sums[:, 9:].sum(0).to(law.dtype)
