"""Fast CPU version of the convection operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import _jit

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))
ITEMS = 32
"""Items for several threads: the signals of a channel are cut into parts where there are fewer channels."""


def _loops() -> Any:
    return _jit.specialise(LOOPS, None, 0)


def _parts(u: Tensor) -> int:
    return max(1, min(u.shape[0], -(-ITEMS // max(1, u.shape[1]))))


def forward(u: Tensor, shift: Tensor, boundary: int) -> Tensor:
    """Return the value of u [B,C,Or,H,W] at shift [C,Or,3]."""
    parts = _parts(u)
    out = torch.empty(u.shape, dtype=wide_dtype(u.dtype))
    arrays = _jit.array(u.flatten(3)), _jit.array(shift), out.flatten(3).numpy()
    _jit.parallel(_loops().forward, u.shape[1] * parts, *arrays, u.shape[4], boundary, parts)
    return out.to(u.dtype)


def backward(grad: Tensor, u: Tensor, shift: Tensor, boundary: int) -> tuple[Tensor, Tensor]:
    """Return gradients in u and shift."""
    parts = _parts(u)
    grad_u = torch.empty(u.shape, dtype=wide_dtype(u.dtype))
    grad_shift = torch.empty(parts, *shift.shape, dtype=torch.float64)
    given = (_jit.array(x) for x in (grad.flatten(3), u.flatten(3), shift))
    arrays = *given, grad_u.flatten(3).numpy(), grad_shift.numpy()
    _jit.parallel(_loops().backward, u.shape[1] * parts, *arrays, u.shape[4], boundary, parts)
    return grad_u.to(u.dtype), grad_shift.sum(0).to(shift.dtype)
