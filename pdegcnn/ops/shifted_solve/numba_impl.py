"""Fast CPU version of the shifted solve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops.shifted_solve.reference import MORE, diagonal_of
from pdegcnn.ops.transport_gather import Stencil

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))
WIDTH = 16
"""Real numbers side by side: enough to fill two vectors."""


def constants(parts: int) -> str:
    """Return the source of the constants for numbers of ``parts`` reals."""
    return f"LANES, PARTS = {WIDTH // parts}, {parts}\n\n\n"


def solve(right: Tensor, time: Tensor, stencil: Stencil, tolerance: float, sizes: Sequence[int]) -> Tensor:
    """Return the solution for right-hand sides ``[B,V,2,C]`` and times ``[C]`` or, for real channels, ``[2,C]``."""
    real = time.ndim == 2
    fields = right.flatten(2).unsqueeze(2) if real else right
    times, parts = time.flatten(), fields.shape[2]
    loops = _jit.specialise(LOOPS, constants, parts)
    out = torch.empty(fields.shape, dtype=fields.dtype)
    bounds = torch.tensor([0, *sizes]).cumsum(0)
    lists = tuple(_jit.array(x) for x in stencil[:3])
    arrays = [_jit.array(x) for x in (fields, times, times.argsort(stable=True))]
    items = fields.shape[0] * len(sizes) * -(-times.numel() // (WIDTH // parts))
    rest = (_jit.array(diagonal_of(stencil)), tolerance, MORE, bounds.numpy(), out.numpy())
    room = loops.FIELDS * max(sizes) * WIDTH, fields.dtype, 0
    loop = _jit.with_room(loops.solve, room, (loops.NUMBERS * loops.LANES, fields.dtype, 0))
    _jit.parallel(loop, items, *arrays, lists, *rest)
    return out.view(right.shape)
