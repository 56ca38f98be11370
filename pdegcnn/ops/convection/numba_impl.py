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


def _room(u: Tensor) -> tuple[Any, int, list[tuple[int, torch.dtype, float]]]:
    """Return the loops, the number of signals that they take at once, and the rooms that they need."""
    loops = _loops()
    batch, channels, orientations, height, width = u.shape
    most = max(1, min(batch, loops.STRIP // ((height + 1) * width)))
    together = -(-batch // -(-batch // most))  # about equally many each time
    plan = channels * orientations * (loops.HEAD + height + width + 2)
    room = loops.LINES * loops.line_size.py_func(loops.lines_together.py_func(height, width), width, together)
    return loops, together, [(plan, torch.int64, 0), (room, wide_dtype(u.dtype), 0)]


def forward(u: Tensor, shift: Tensor, boundary: int) -> Tensor:
    """Return the value of u [B,C,Or,H,W] at shift [C,Or,3]."""
    out = torch.empty(u.shape, dtype=wide_dtype(u.dtype))
    loops, together, rooms = _room(u)
    arrays = _jit.array(u.flatten()), _jit.array(shift.flatten()), out.flatten().numpy()
    items = u.shape[1] * -(-u.shape[0] // together)
    _jit.parallel(_jit.with_room(loops.forward, *rooms), items, *arrays, *u.shape, together, boundary)
    return out.to(u.dtype)


def backward(grad: Tensor, u: Tensor, shift: Tensor, boundary: int) -> tuple[Tensor, Tensor]:
    """Return gradients in u and shift."""
    grad_u = torch.empty(u.shape, dtype=wide_dtype(u.dtype))
    loops, together, rooms = _room(u)
    items = u.shape[1] * -(-u.shape[0] // together)
    grad_shift = torch.empty(items * shift[0].numel(), dtype=torch.float64)
    given = (_jit.array(x.flatten()) for x in (u, shift, grad))
    arrays = *given, grad_u.flatten().numpy(), grad_shift.numpy()
    _jit.parallel(_jit.with_room(loops.backward, *rooms), items, *arrays, *u.shape, together, boundary)
    return grad_u.to(u.dtype), grad_shift.view(-1, *shift.shape).sum(0).to(shift.dtype)
