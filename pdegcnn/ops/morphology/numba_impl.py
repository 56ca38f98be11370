"""Fast CPU version of the morphological convolution: one compiled loop module per kernel width."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from llvmlite import binding
from torch import Tensor

from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn.ops import _jit
from pdegcnn.ops.morphology import torch_impl

BLOCK, FEW, TOGETHER = 2048, 512, 1024
"""Outputs of one inner loop, pixels of a plane up to which it takes several signals, and their pixels: the fewer, the
closer the bounds of their values, so that more taps are left out."""
NARROW, WIDE = 3, 15
"""Rows of more taps than the first, up to the second, are compared only at the taps that can attain the maximum: with a
loop for each number of them. Compiling these loops for longer rows would take minutes."""
PARTS = 8
"""Most parts that the signals of a channel are cut into for several threads."""
LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def vector(width: int) -> int:
    """Return the length of the vector that holds a row of taps."""
    return 1 << (width - 1).bit_length()


def has_masks() -> bool:
    """Return whether the processor compares into masks (AVX-512): noting a tap then costs less than a search."""
    features = binding.get_host_cpu_features()
    return "NUMBA_CPU_NAME" not in os.environ and bool(features.get("avx512f") and features.get("avx512vl"))


FULL = has_masks()


def keeps_taps(kernel: Tensor) -> bool:
    """Return whether winning taps are kept, which saves a search in the backward pass; otherwise their rows are.

    They are kept where the processor notes them quickly and they take one byte each.
    """
    return FULL and kernel[0, 0].numel() < 256


def rows(width: int) -> str:
    """Return the source of the row functions for one kernel width: a row is one expression; rows are noted."""
    return _source(width, False)


def taps(width: int) -> str:
    """Do the same and note the winning taps."""
    return _source(width, True)


def _source(width: int, full: bool) -> str:
    head = "@njit(**PART, fastmath=FLAGS)\n"
    load = "    whole_vectors()\n" + "".join(f"    k{j} = k[{j}]\n" for j in range(width))
    values, winners = load, load
    if full:
        winners += "".join(f"    t{j} = index.dtype.type(number + {j})\n" for j in range(width))
    parts = NARROW < width <= WIDE
    for skip in range(width // 2 + 1 if parts else 1):  # a loop for each part of the row that can attain it
        condition = f"skip == {skip}" if parts else "True"
        branch = f"    if {condition}:\n"
        branch += "        for w in range(np.uint64(best.size)):\n"
        inner = range(skip, width - skip)
        values += branch + _best_of(inner) + "            best[w] = s if s > b else b\n"
        winners += branch + (_noted(inner) if full else _best_of(inner) + ROW_NOTED)
    return (
        f"{head}def row_value(best, p, k, skip):\n{values}\n\n"
        f"{head}def row_index(best, index, p, k, number, skip):\n{winners}\n\n"
        f"WIDTH, VECTOR = np.uint64({width}), {vector(width)}\nFULL, EACH = {full}, {width if full else 1}\n\n\n"
    )


ROW_NOTED = """            index[w] = number if s > b else index[w]
            best[w] = s if s > b else b
"""


def _at(tap: int) -> str:
    """Return the source of an unsigned place: loops then need no test for negative ones."""
    return f"np.uint64({tap})"


def _best_of(taps: range) -> str:
    """Return the source of the best of some taps of a row, and of what was best before."""
    lines = f"            s = p[w + {_at(taps[0])}] - k{taps[0]}\n"
    for j in taps[1:]:
        lines += f"            v = p[w + {_at(j)}] - k{j}\n            s = v if v > s else s\n"
    return f"{lines}            b = best[w]\n"


def _noted(taps: range) -> str:
    """Return the source of the comparison tap by tap, which notes the winning one."""
    lines = "            b, t = best[w], index[w]\n"
    for j in taps:
        lines += f"            v = p[w + {_at(j)}] - k{j}\n"
        lines += f"            t = t{j} if v > b else t\n            b = v if v > b else b\n"
    return f"{lines}            best[w], index[w] = b, t\n"


def _loops(kernel: Tensor) -> Any:
    return _jit.specialise(LOOPS, taps if keeps_taps(kernel) else rows, kernel.shape[-1])


def forward(
    u: Tensor, kernel: Tensor, sign: int, keep: bool, row_dtype: torch.dtype, periodic: bool
) -> tuple[Tensor, Tensor]:
    """Return values, and the rows of the winning taps, or these taps, where ``keep`` (else an empty tensor)."""
    batch, channels = u.shape[:2]
    together = signals_together(u, kernel)
    out = torch.empty((*u.shape[:2], kernel.shape[1], *u.shape[3:]), dtype=wide_dtype(u.dtype))
    winner = torch.empty(out.shape if keep else (1,) * 5, dtype=row_dtype)
    signal = _jit.array(u)
    arrays = signal, signal.reshape(batch, channels, -1), _jit.array(kernel), out.numpy(), winner.numpy()
    loops, line = _loops(kernel), (u.shape[4] + kernel.shape[4] // 2) * together
    frame = loops.frame_size.py_func(*u.shape[2:], kernel, together), out.dtype, -torch.inf
    block, rows = max(BLOCK, line) + loops.LANES, (kernel[0, 0, ..., 0].numel(), torch.int64, 0)
    bounds = [(loops.SIDE, out.dtype, 0)] * 2
    rooms = frame, (block, out.dtype, 0), (block, torch.int32, 0), *bounds, rows, rows
    loop = _jit.with_room(loops.forward, *rooms)
    _jit.parallel(loop, channels * -(-batch // together), *arrays, keep, sign, together, periodic)
    return out.to(u.dtype), winner if keep else winner.new_empty(0)


def winning_taps(winner: Tensor, u: Tensor, kernel: Tensor, sign: int) -> Tensor:
    """Return numbers of the winning taps, int64, of what :func:`forward` kept."""
    return winner.long() if keeps_taps(kernel) else torch_impl.winning_taps(winner, u, kernel, sign)


def signals_together(u: Tensor, kernel: Tensor) -> int:
    """Return how many signals of a channel are convolved in one loop: planes of few pixels alone do not fill it."""
    pixels = u.shape[3] * (u.shape[4] + kernel.shape[4] // 2)
    return 1 if pixels > FEW else max(1, min(u.shape[0], TOGETHER // pixels))


def backward(grad: Tensor, winner: Tensor, u: Tensor, kernel: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Return gradients in u and kernel, from what :func:`forward` kept; winning taps suffice without values of u."""
    batch, channels, orientations = grad.shape[:3]
    parts, width, wide = min(batch, PARTS), kernel.shape[-1], widen(kernel)
    grad_u = torch.empty(u.shape, dtype=wide_dtype(grad.dtype))
    if keeps_taps(kernel):
        u, costs, ordinary = grad_u, wide.flatten(2), torch.empty(kernel.shape[:2], dtype=torch.bool)  # none is read
    else:
        costs = F.pad(wide, (0, vector(width) - width), value=torch.inf).flatten(2)
        ordinary = (wide > -torch.inf).flatten(2).all(2)
    loops = _loops(kernel)
    sums = torch.empty(parts, channels, orientations, kernel[0, 0].numel(), dtype=torch.float64)
    arrays = (_jit.array(x) for x in (grad, winner, u, u.flatten(2), wide, costs, ordinary))
    size = loops.frame_size.py_func(*u.shape[2:], kernel, 1)
    taps = (orientations, kernel[0, 0, ..., 0].numel() * loops.EACH), torch.int64, 0
    frames = [(size, wide_dtype(u.dtype), -torch.inf), (size, grad_u.dtype, 0)]
    bounds = [(loops.SIDE, wide_dtype(u.dtype), 0)] * 2
    loop = _jit.with_room(loops.backward, *frames, taps, *bounds)
    _jit.parallel(loop, channels * parts, *arrays, sign, grad_u.numpy(), sums.numpy())
    return grad_u.to(grad.dtype), -sign * sums.sum(0).view(kernel.shape).to(grad.dtype)
