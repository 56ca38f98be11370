"""Fast CPU version of the gathered morphology."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops.bundle import Bundle, half_steps

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def forward(
    u: Tensor, lists: Bundle, matrix: Tensor, law: Tensor, taps: int, sign: int, index_dtype: torch.dtype
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
