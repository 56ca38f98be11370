"""Fast CPU version of the morphological convolution: one compiled loop module per kernel width."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pdegcnn.ops import _jit

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def rows(width: int) -> str:
    """Source of the row functions for one kernel width: all taps of a row in one expression."""
    head = "@njit(cache=True, nogil=True, fastmath=FLAGS)\n"
    load = [f"    k{j} = k[{j}]\n" for j in range(width)]
    loop = "    for w in range(np.uint64(best.size)):\n        m = best[w]\n"
    value, index = [], []
    for j in range(width):
        step = f"        v = p[w + np.uint64({j})] - k{j}\n"
        value.append(step + "        m = v if v > m else m\n")
        index.append(step + f"        t = t{j} if v > m else t\n        m = v if v > m else m\n")
    taps = [f"    t{j} = np.int32(tap + {j})\n" for j in range(width)]
    return "".join(
        [head, "def row_value(best, p, k):\n", *load, loop, *value, "        best[w] = m\n\n\n"]
        + [head, "def row_index(best, index, p, k, tap):\n", *load, *taps, loop, "        t = index[w]\n", *index]
        + ["        best[w] = m\n        index[w] = t\n\n\n"]
    )


def forward(u: Tensor, kernel: Tensor, sign: int, keep: bool, index_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values, and the winning taps where ``keep`` (else an empty tensor)."""
    loops = _jit.specialise(LOOPS, rows, kernel.shape[-1])
    planes = _jit.array(u.flatten(0, 1))
    shape = (*u.shape[:2], kernel.shape[1], *u.shape[3:])
    out = torch.empty(shape, dtype=torch.promote_types(u.dtype, torch.float32)).flatten(0, 1)
    winner = torch.empty(out.shape if keep else (1, 1, 1, 1), dtype=index_dtype)
    _jit.parallel(loops.forward, out.shape[0], planes, _jit.array(kernel), out.numpy(), winner.numpy(), keep, sign)
    return out.view(shape).to(u.dtype), winner.view(shape) if keep else winner.new_empty(0)


def backward(grad: Tensor, winner: Tensor, sizes: list[int], stride: int) -> tuple[Tensor, Tensor]:
    """Gradient in u, and the sum of ``grad`` over the places each kernel entry won."""
    loops = _jit.specialise(LOOPS, rows, sizes[2])
    planes = _jit.array(grad.flatten(0, 1))
    batch, channels, orientations = grad.shape[:3]
    taps = sizes[0] * sizes[1] * sizes[2]
    shape = (batch, channels, stride * orientations, *grad.shape[3:])
    grad_u = torch.empty(shape, dtype=torch.promote_types(grad.dtype, torch.float32))
    sums = torch.empty(batch * channels, orientations, taps, dtype=torch.float64)
    winners = winner.contiguous().flatten(0, 1).numpy()
    images = grad_u.flatten(0, 1).numpy()
    _jit.parallel(loops.backward, batch * channels, planes, winners, tuple(sizes), stride, images, sums.numpy())
    total = sums.view(batch, channels, orientations, *sizes).sum(0)
    return grad_u.to(grad.dtype), total.to(grad.dtype)
