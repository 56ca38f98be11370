"""Fast CPU version of the max-plus convolution on rings."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import _jit

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))
WIDE = 256
"""Outputs of one inner loop: enough to hide what starts it, few enough for the first cache."""
FEW = 8
"""Signals of one channel from which on they, and not the fibre, are worth to be the inner axis."""


def forward(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, sign: int, keep: bool, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return values, and the winning taps (numbered within their ring) where ``keep`` (else an empty tensor)."""
    loops = _jit.specialise(LOOPS, None, 0)
    batch, channels, _, _, length = u.shape
    alike = kernel.shape[1] == 1
    turned = length == 1 and (alike or batch < FEW)  # the fibre becomes the inner axis
    source = u.transpose(2, 4) if turned else u
    out = torch.empty(source.shape, dtype=wide_dtype(u.dtype))
    winner = torch.empty(out.shape if keep else (1,) * 5, dtype=index_dtype)
    how = keep, torch.iinfo(index_dtype).max, sign
    if turned and not alike:
        signals, costs, results = source.flatten(0, 2), kernel.mT, (x.flatten(0, 2).numpy() for x in (out, winner))
        given = _jit.array(signals), _jit.array(costs), taps.numpy(), start.numpy(), *results, *how
        points, fibre = signals.shape[1:]
        rooms = (2 * points * fibre, out.dtype, 0), (fibre, out.dtype, 0), (fibre, torch.int32, 0)
        _jit.parallel(_jit.with_room(loops.forward_points, *rooms), batch * channels, *given)
    else:
        near = taps[:, [0, 2, 1]] if turned else taps
        size = max(1, min(batch, WIDE // source.shape[-1]))
        fibre, rings, wide = source.shape[2], source.shape[3], source.shape[4] * size
        stride = _apart(2 * wide, out.element_size())
        lists = stride * torch.arange(2 * fibre * rings).remainder(fibre * rings), near[:, 1] * rings + near[:, 0]
        given = (
            *(_jit.array(x) for x in (source, kernel, *lists, near[:, 2] * size, start)),
            out.numpy(),
            winner.numpy(),
        )
        most, bounds, whole = max(1, int(start.diff().max())), (2 * fibre * rings, out.dtype, 0), wide + loops.REST
        listed = (most, torch.int64, 0), (most, out.dtype, 0), (most, torch.int32, 0)
        results = (whole, out.dtype, -torch.inf), (whole, torch.int32, how[1])
        line = fibre * rings * stride + loops.REST, out.dtype, 0
        loop = _jit.with_room(loops.forward_rings, line, bounds, bounds, *listed, *results)
        _jit.parallel(loop, channels * -(-batch // size), *given, *how, size, stride)
    if turned:
        out, winner = out.transpose(2, 4).contiguous(), winner.transpose(2, 4).contiguous()
    return out.to(u.dtype), winner if keep else winner.new_empty(0)


def _apart(size: int, bytes_each: int) -> int:
    """Return how far apart lines of ``size`` numbers are kept: an odd number of the cache's lines.

    Lines that are read at the same place of each would otherwise compete for the same places in the cache.
    """
    each = 64 // bytes_each
    return (-(-size // each) | 1) * each


def backward(grad: Tensor, winner: Tensor, taps: Tensor, start: Tensor, kernels: int) -> tuple[Tensor, Tensor]:
    """Return the gradient in u, and the sum of ``grad`` over the outputs of each kernel entry, ``[C,kernels,S]``."""
    loops = _jit.specialise(LOOPS, None, 0)
    channels = grad.shape[1]
    grad_u = torch.empty(grad.shape, dtype=wide_dtype(grad.dtype))
    sums = torch.empty(channels, kernels, taps.shape[0], dtype=torch.float64)
    none = torch.iinfo(winner.dtype).max
    rings, length = grad.shape[3:]
    lists = ((taps[:, 1] * rings + taps[:, 0]) * length).numpy(), taps[:, 2].contiguous().numpy(), start.numpy()
    given = _jit.array(grad), winner.contiguous().numpy(), *lists, none, grad_u.numpy(), sums.numpy()
    _jit.parallel(loops.backward, channels, *given)
    return grad_u.to(grad.dtype), sums.to(grad.dtype)
