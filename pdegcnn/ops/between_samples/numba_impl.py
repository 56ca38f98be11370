"""Fast CPU version of the interpolation between samples: one pass over orientations, and its adjoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import _jit
from pdegcnn.ops.between_samples.reference import weights

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


@cache
def _loops() -> Any:
    return _jit.specialise(LOOPS, None, 0)


@cache
def _taps(shifts: tuple[float, ...], dtype: torch.dtype) -> Any:
    """Return weights along rows and along columns, then both in reverse order: ``n`` times 16 numbers, NumPy."""
    taps = torch.tensor([weights(x) for x in shifts], dtype=torch.float64).view(-1, 2, 4)
    return torch.cat([taps, taps.flip(2)], 1).to(dtype).flatten().numpy()


def forward(u: Tensor, matrix: Tensor, outside: Tensor, shifts: Sequence[float]) -> Tensor:
    """Return readings [B,C,n*Or,H,W] of u [B,C,Or,H,W]."""
    batch, channels, orientations, height, width = u.shape
    taps = _taps(tuple(shifts), wide_dtype(u.dtype))
    readings = taps.size // 16
    out = torch.empty(batch, channels, readings * orientations, height, width, dtype=wide_dtype(u.dtype))
    arrays = (_jit.array(x.flatten()) for x in (u, matrix, outside))
    rooms = orientations * height * width, height * width + 3
    given = *arrays, taps, out.flatten().numpy()
    _run(_loops().forward, given, rooms, (readings, orientations, height, width), batch * channels)
    return out.to(u.dtype)


def adjoint(grad: Tensor, matrix: Tensor, shifts: Sequence[float]) -> Tensor:
    """Return the gradient [B,C,Or,H,W] in the signal."""
    batch, channels, planes, height, width = grad.shape
    taps = _taps(tuple(shifts), wide_dtype(grad.dtype))
    readings = taps.size // 16
    orientations = planes // readings
    out = torch.empty(batch, channels, orientations, height, width, dtype=wide_dtype(grad.dtype))
    rooms = orientations * height * width, height * width + 3, (height + 3) * width
    given = _jit.array(grad.flatten()), _jit.array(matrix.flatten()), taps, out.flatten().numpy()
    _run(_loops().adjoint, given, rooms, (readings, orientations, height, width), batch * channels)
    return out.to(grad.dtype)


def _run(loop: Any, arrays: tuple[Any, ...], rooms: Sequence[int], sizes: Sequence[int], items: int) -> None:
    """Run a loop with room of zeros: allocated here, for in the loop it takes longer to compile."""

    def part(start: int, stop: int) -> None:
        loop(*arrays, *(np.zeros(room, arrays[0].dtype) for room in rooms), *sizes, start, stop)

    _jit.parallel(part, items)
