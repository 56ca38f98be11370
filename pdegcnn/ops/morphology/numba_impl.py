"""Fast CPU version of the morphological convolution: one compiled loop module per kernel width."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import _jit

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def rows(width: int) -> str:
    """Source of the row functions for one kernel width: all taps of a row in one expression."""
    head = "@njit(cache=True, nogil=True, fastmath=FLAGS)\n"
    load = "".join(f"    k{j} = k[{j}]\n" for j in range(width))
    loop = "    for w in range(np.uint64(best.size)):\n        s = p[w] - k0\n"
    for j in range(1, width):
        loop += f"        v = p[w + np.uint64({j})] - k{j}\n        s = v if v > s else s\n"
    loop += "        b = best[w]\n"
    last = "        best[w] = s if s > b else b\n"
    note = "        index[w] = row if s > b else index[w]\n"
    return (
        f"{head}def row_value(best, p, k):\n{load}{loop}{last}\n\n"
        f"{head}def row_index(best, index, p, k, row):\n{load}{loop}{note}{last}\n\n"
        f"WIDTH, VECTOR = np.uint64({width}), {1 << (width - 1).bit_length()}\n\n\n"
    )


def forward(u: Tensor, kernel: Tensor, sign: int, keep: bool, row_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values, and the rows of the winning taps where ``keep`` (else an empty tensor)."""
    loops = _jit.specialise(LOOPS, rows, kernel.shape[-1])
    planes = _jit.array(u.flatten(0, 1))
    out = torch.empty(planes.shape, dtype=wide_dtype(u.dtype))
    winner = torch.empty(out.shape if keep else (1, 1, 1, 1), dtype=row_dtype)
    _jit.parallel(loops.forward, out.shape[0], planes, _jit.array(kernel), out.numpy(), winner.numpy(), keep, sign)
    return out.view(u.shape).to(u.dtype), winner.view(u.shape) if keep else winner.new_empty(0)


def backward(grad: Tensor, winner: Tensor, u: Tensor, kernel: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Gradients in u and kernel, from the rows of the winning taps."""
    loops = _jit.specialise(LOOPS, rows, kernel.shape[-1])
    grads, planes, winners = (_jit.array(x.flatten(0, 1)) for x in (grad, u, winner))
    grad_u = torch.empty(grads.shape, dtype=wide_dtype(grad.dtype))
    sums = torch.empty(grads.shape[0], grad.shape[2], kernel[0, 0].numel(), dtype=torch.float64)
    arguments = (grads, winners, planes, _jit.array(kernel), sign, grad_u.numpy(), sums.numpy())
    _jit.parallel(loops.backward, grads.shape[0], *arguments)
    total = sums.view(grad.shape[0], *kernel.shape).sum(0)
    return grad_u.view(grad.shape).to(grad.dtype), -sign * total.to(grad.dtype)
