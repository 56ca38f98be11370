"""Fast CPU version of the max-plus convolution on rings."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pdegcnn.ops import _jit

LOOPS = str(Path(__file__).with_name("loops.py"))


def forward(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, sign: int, keep: bool, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Values, and the winning taps (numbered within their ring) where ``keep`` (else an empty tensor)."""
    loops = _jit.specialise(LOOPS, None, 0)
    points = u.shape[-1] == 1
    run = loops.forward_points if points else loops.forward_rings
    if points:  # the fibre becomes the inner axis
        planes, costs = u.transpose(2, 4).flatten(0, 1), kernel.mT
    else:
        planes, costs = u.flatten(0, 1), kernel
    out = torch.empty(planes.shape, dtype=torch.promote_types(u.dtype, torch.float32))
    winner = torch.empty(out.shape if keep else (1, 1, 1, 1), dtype=index_dtype)
    lists = taps.numpy(), start.numpy()
    none = torch.iinfo(index_dtype).max
    given = _jit.array(planes), _jit.array(costs), *lists, out.numpy(), winner.numpy(), keep, none, sign
    _jit.parallel(run, out.shape[0], *given)

    def back(value: Tensor) -> Tensor:
        value = value.unflatten(0, u.shape[:2])
        return value.transpose(2, 4).contiguous() if points else value

    return back(out).to(u.dtype), back(winner) if keep else winner.new_empty(0)


def backward(grad: Tensor, winner: Tensor, taps: Tensor, start: Tensor, kernels: int) -> tuple[Tensor, Tensor]:
    """Gradient in u, and the sum of ``grad`` over the places each kernel entry won, ``[C,kernels,S]``."""
    loops = _jit.specialise(LOOPS, None, 0)
    channels = grad.shape[1]
    grad_u = torch.empty(grad.shape, dtype=torch.promote_types(grad.dtype, torch.float32))
    sums = torch.empty(channels, kernels, taps.shape[0], dtype=torch.float64)
    none = torch.iinfo(winner.dtype).max
    lists = taps.numpy(), start.numpy()
    given = _jit.array(grad), winner.contiguous().numpy(), *lists, none, grad_u.numpy(), sums.numpy()
    _jit.parallel(loops.backward, channels, *given)
    return grad_u.to(grad.dtype), sums.to(grad.dtype)
