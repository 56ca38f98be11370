"""Fast CPU version of the transport gather."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import _jit

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def gather(fields: Tensor, start: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Sum over pairs and fields, ``[B,V,K,2,C] -> [B,V,2,C]``."""
    loops = _jit.specialise(LOOPS, None, 0)
    source = _jit.array(fields.flatten(0, 1))
    out = torch.empty(source.shape[0], 2, source.shape[3], dtype=wide_dtype(fields.dtype))
    lists = (start.numpy(), columns.numpy(), _jit.array(values))
    row = out.shape[2], out.dtype, 0
    _jit.parallel(_jit.with_room(loops.gather, row, row), out.shape[0], source, *lists, out.numpy())
    return out.unflatten(0, fields.shape[:2]).to(fields.dtype)


def spread(grad: Tensor, start: Tensor, columns: Tensor, back: Tensor) -> Tensor:
    """Return the adjoint of :func:`gather`, ``[B,V,2,C] -> [B,V,K,2,C]``."""
    loops = _jit.specialise(LOOPS, None, 0)
    source = _jit.array(grad.flatten(0, 1))
    shape = (source.shape[0], back.shape[1], 2, source.shape[2])
    out = torch.empty(shape, dtype=wide_dtype(grad.dtype))
    lists = (start.numpy(), columns.numpy(), _jit.array(back))
    _jit.parallel(loops.spread, out.shape[0], source, *lists, out.numpy())
    return out.unflatten(0, grad.shape[:2]).to(grad.dtype)
