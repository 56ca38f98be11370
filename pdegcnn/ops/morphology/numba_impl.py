"""Fast CPU version of the morphological convolution: one compiled loop module per kernel width."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn.ops import _jit

BLOCK, FEW = 2048, 512
"""Outputs of one inner loop, and pixels of a plane up to which it takes several signals."""
PARTS = 8
"""Most parts that the signals of a channel are cut into for several threads."""
LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def vector(width: int) -> int:
    """Length of the vector that holds a row of taps."""
    return 1 << (width - 1).bit_length()


def rows(width: int) -> str:
    """Source of the row functions for one kernel width: all taps of a row in one expression."""
    head = "@njit(cache=True, nogil=True, fastmath=FLAGS)\n"
    load = "".join(f"    k{j}, s{j} = k[{j}], np.uint64({j}) * step\n" for j in range(width))
    loop = "    for w in range(np.uint64(best.size)):\n        s = p[w] - k0\n"
    for j in range(1, width):
        loop += f"        v = p[w + s{j}] - k{j}\n        s = v if v > s else s\n"
    loop += "        b = best[w]\n"
    last = "        best[w] = s if s > b else b\n"
    note = "        index[w] = row if s > b else index[w]\n"
    return (
        f"{head}def row_value(best, p, k, step):\n{load}{loop}{last}\n\n"
        f"{head}def row_index(best, index, p, k, step, row):\n{load}{loop}{note}{last}\n\n"
        f"WIDTH, VECTOR = np.uint64({width}), {vector(width)}\n\n\n"
    )


def forward(
    u: Tensor, kernel: Tensor, sign: int, keep: bool, row_dtype: torch.dtype, periodic: bool
) -> tuple[Tensor, Tensor]:
    """Values, and the rows of the winning taps where ``keep`` (else an empty tensor)."""
    loops = _jit.specialise(LOOPS, rows, kernel.shape[-1])
    batch, channels = u.shape[:2]
    together = signals_together(u, kernel)
    out = torch.empty((*u.shape[:2], kernel.shape[1], *u.shape[3:]), dtype=wide_dtype(u.dtype))
    winner = torch.empty(out.shape if keep else (1,) * 5, dtype=row_dtype)
    arrays = _jit.array(u), _jit.array(kernel), out.numpy(), winner.numpy()
    _jit.parallel(loops.forward, channels * -(-batch // together), *arrays, keep, sign, together, periodic)
    return out.to(u.dtype), winner if keep else winner.new_empty(0)


def signals_together(u: Tensor, kernel: Tensor) -> int:
    """How many signals of a channel are convolved in one loop: planes of few pixels alone do not fill it."""
    pixels = u.shape[3] * (u.shape[4] + kernel.shape[4] // 2)
    return 1 if pixels > FEW else max(1, min(u.shape[0], BLOCK // pixels))


def backward(grad: Tensor, winner: Tensor, u: Tensor, kernel: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Gradients in u and kernel, from the rows of the winning taps."""
    loops = _jit.specialise(LOOPS, rows, kernel.shape[-1])
    batch, channels, orientations = grad.shape[:3]
    parts, width = min(batch, PARTS), kernel.shape[-1]
    wide = widen(kernel)
    costs = F.pad(wide, (0, vector(width) - width), value=torch.inf).flatten(2)
    ordinary = (wide > -torch.inf).flatten(2).all(2)
    grad_u = torch.empty(u.shape, dtype=wide_dtype(grad.dtype))
    sums = torch.empty(parts, channels, orientations, kernel[0, 0].numel(), dtype=torch.float64)
    arrays = (_jit.array(x) for x in (grad, winner, u, wide, costs, ordinary))
    _jit.parallel(loops.backward, channels * parts, *arrays, sign, grad_u.numpy(), sums.numpy())
    return grad_u.to(grad.dtype), -sign * sums.sum(0).view(kernel.shape).to(grad.dtype)
