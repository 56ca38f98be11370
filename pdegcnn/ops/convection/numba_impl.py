"""Fast CPU version of the convection operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import _jit

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def _loops() -> Any:
    return _jit.specialise(LOOPS, None, 0)


def forward(u: Tensor, shift: Tensor, boundary: int) -> Tensor:
    """Return the value of u [B,C,Or,H,W] at shift [C,Or,3]."""
    out = torch.empty(u.shape, dtype=wide_dtype(u.dtype))
    arrays = _jit.array(u.flatten()), _jit.array(shift), out.flatten().numpy()
    _jit.parallel(_loops().forward, u.shape[0] * u.shape[1], *arrays, *u.shape[3:], boundary)
    return out.to(u.dtype)


def backward(grad: Tensor, u: Tensor, shift: Tensor, boundary: int) -> tuple[Tensor, Tensor]:
    """Return gradients in u and shift."""
    grad_u = torch.empty(u.shape, dtype=wide_dtype(u.dtype))
    grad_shift = torch.empty(u.shape[0] * u.shape[1], *shift.shape[1:], dtype=torch.float64)
    given = (_jit.array(x) for x in (grad.flatten(), u.flatten(), shift))
    arrays = *given, grad_u.flatten().numpy(), grad_shift.numpy()
    _jit.parallel(_loops().backward, u.shape[0] * u.shape[1], *arrays, *u.shape[3:], boundary)
    return grad_u.to(u.dtype), grad_shift.view(-1, *shift.shape).sum(0).to(shift.dtype)
