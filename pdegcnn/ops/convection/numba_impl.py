"""Fast CPU version of the convection operator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import _jit

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def _loops() -> Any:
    return _jit.specialise(LOOPS, None, 0)


def _parts(u: Tensor, strip: int) -> tuple[int, int, int]:
    """Return how many signals, and rows of each, the loops take at once, about equal each time, and all items."""
    batch, channels, _, height, width = u.shape
    most = max(1, min(batch, strip // max(1, (height + 1) * width)))
    strips = max(1, min(height, -(-height * width // strip)))
    groups = -(-batch // most)
    return -(-batch // max(1, groups)), -(-height // strips), channels * groups


def _given(u: Tensor, shift: Tensor) -> tuple[Any, Any, Any]:
    """Return arrays: u, whole steps of the shift, and what is left of it."""
    total, limit = _jit.array(shift.flatten()), 2.0**40
    whole = np.floor(total)
    with np.errstate(invalid="ignore"):  # of an infinite shift
        share = total - whole
    return _jit.array(u.flatten()), np.fmin(np.fmax(whole, -limit), limit).astype(np.int64), share


def _run(loop: str, u: Tensor, arrays: Sequence[Any], boundary: int, parts: tuple[int, int, int]) -> None:
    """Run a loop over all items."""
    loops, (together, rows, items) = _loops(), parts
    room = loops.LINES * (together * (rows + 1) + 2) * u.shape[4]  # rows before and after those of a line
    function = _jit.with_room(getattr(loops, loop), (room, wide_dtype(u.dtype), 0))
    _jit.parallel(function, items, *arrays, *u.shape, together, rows, boundary)


def forward(u: Tensor, shift: Tensor, boundary: int) -> Tensor:
    """Return the value of u [B,C,Or,H,W] at shift [C,Or,3]."""
    out = torch.empty(u.shape, dtype=wide_dtype(u.dtype))
    _run("forward", u, (*_given(u, shift), out.flatten().numpy()), boundary, _parts(u, _loops().STRIP))
    return out.to(u.dtype)


def backward(grad: Tensor, u: Tensor, shift: Tensor, boundary: int) -> tuple[Tensor, Tensor]:
    """Return gradients in u and shift."""
    grad_u, parts = torch.empty(u.shape, dtype=wide_dtype(u.dtype)), _parts(u, _loops().STRIP)
    grad_shift = torch.empty(parts[2] * shift.shape[1:].numel(), dtype=torch.float64)
    arrays = *_given(u, shift), _jit.array(grad.flatten()), grad_u.flatten().numpy(), grad_shift.numpy()
    _run("backward", u, arrays, boundary, parts)
    return grad_u.to(u.dtype), grad_shift.view(-1, *shift.shape).sum(0).to(shift.dtype)
