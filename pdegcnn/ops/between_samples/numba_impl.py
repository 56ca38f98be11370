"""Fast CPU version of the interpolation between samples: one pass over orientations, and its adjoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

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
    """Return weights ``[n,2,4]`` along rows and columns, NumPy."""
    return torch.tensor([weights(x) for x in shifts], dtype=torch.float64).view(-1, 2, 4).to(dtype).numpy()


def forward(u: Tensor, matrix: Tensor, outside: Tensor, shifts: Sequence[float]) -> Tensor:
    """Return readings [B,C,n*Or,H,W] of u [B,C,Or,H,W]."""
    signals, wide = u.flatten(0, 1), wide_dtype(u.dtype)
    taps = _taps(tuple(shifts), wide)
    out = torch.empty(signals.shape[0], len(taps) * u.shape[2], *u.shape[3:], dtype=wide)
    arrays = _jit.array(signals), _jit.array(matrix), _jit.array(outside.flatten()), taps, out.numpy()
    _jit.parallel(_loops().forward, len(signals), *arrays)
    return out.view(*u.shape[:2], *out.shape[1:]).to(u.dtype)


def adjoint(grad: Tensor, matrix: Tensor, shifts: Sequence[float]) -> Tensor:
    """Return the gradient [B,C,Or,H,W] in the signal."""
    signals, wide = grad.flatten(0, 1), wide_dtype(grad.dtype)
    taps = _taps(tuple(shifts), wide)
    out = torch.empty(signals.shape[0], grad.shape[2] // len(taps), *grad.shape[3:], dtype=wide)
    _jit.parallel(_loops().adjoint, len(signals), _jit.array(signals), _jit.array(matrix), taps, out.numpy())
    return out.view(*grad.shape[:2], *out.shape[1:]).to(grad.dtype)
