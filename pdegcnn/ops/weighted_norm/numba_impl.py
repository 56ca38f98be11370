"""Fast CPU version of the weighted norm."""

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


def _line(weights: Tensor, u: Tensor) -> Any:
    """Return the weights of all numbers of a channel, or one if all are alike."""
    return _jit.array((weights.expand(u.shape[2:]) if weights.ndim else weights).reshape(-1))


def forward(u: Tensor, weights: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return u ``[B,C,...]`` normalised, mean ``[C]`` and variance ``[C]``."""
    out = torch.empty(u.shape, dtype=wide_dtype(u.dtype))
    mean, variance = (torch.empty(u.shape[1], dtype=out.dtype) for _ in range(2))
    given = _jit.array(u.flatten()), _line(weights, u), _jit.array(scale), _jit.array(shift)
    found = (x.numpy() for x in (out.flatten(), mean, variance))
    _jit.parallel(_loops().forward, u.shape[1], *given, *found, u.shape[0], u.shape[2:].numel(), eps)
    return out.to(u.dtype), mean.to(u.dtype), variance.to(u.dtype)


def backward(
    grad: Tensor, u: Tensor, weights: Tensor, scale: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients in u, scale and shift."""
    grad_u = torch.empty(u.shape, dtype=wide_dtype(u.dtype))
    grad_scale, grad_shift = (torch.empty(u.shape[1], dtype=grad_u.dtype) for _ in range(2))
    given = (_jit.array(x) for x in (grad.flatten(), u.flatten(), scale, mean, variance))
    found = (x.numpy() for x in (grad_u.flatten(), grad_scale, grad_shift))
    _jit.parallel(
        _loops().backward, u.shape[1], _line(weights, u), *given, *found, u.shape[0], u.shape[2:].numel(), eps
    )
    return grad_u.to(u.dtype), grad_scale.to(u.dtype), grad_shift.to(u.dtype)
