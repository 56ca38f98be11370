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
    planes = _jit.array(u.flatten(0, 1))
    out = torch.empty(planes.shape, dtype=wide_dtype(u.dtype))
    _jit.parallel(_loops().forward, out.shape[0], planes, _jit.array(shift), out.numpy(), boundary)
    return out.view(u.shape).to(u.dtype)


def backward(grad: Tensor, u: Tensor, shift: Tensor, boundary: int) -> tuple[Tensor, Tensor]:
    """Return gradients in u and shift."""
    planes = _jit.array(u.flatten(0, 1))
    grad_u = torch.empty(planes.shape, dtype=wide_dtype(u.dtype))
    grad_shift = torch.empty(planes.shape[0], shift.shape[1], 3, dtype=torch.float64)
    flat = _jit.array(grad.flatten(0, 1))
    _jit.parallel(
        _loops().backward,
        *(planes.shape[0], flat, planes, _jit.array(shift), grad_u.numpy(), grad_shift.numpy(), boundary),
    )
    total = grad_shift.view(u.shape[0], *shift.shape).sum(0)
    return grad_u.view(u.shape).to(u.dtype), total.to(shift.dtype)
