"""Fast CPU version of the gathered mean: rows of a vertex hold all channels, those of a channel all directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops.directional_neighbors import directions

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))
BLOCK = 256
"""Vertices whose sums are kept together."""


def rows(u: Tensor) -> Tensor:
    """Rearrange ``[B,C,Or,V] -> [B,V,C,N]``."""
    return u.permute(0, 3, 1, 2).contiguous()


def back(rows: Tensor) -> Tensor:
    """Rearrange ``[B,V,C,N] -> [B,C,Or,V]``."""
    return rows.permute(0, 2, 3, 1).contiguous()


def _tables(lists: tuple[Tensor, ...], geometry: tuple[Tensor, ...], reach: float) -> list[Any]:
    """Return what the loops read besides signals, in the precision of the signal, or all would become float64."""
    matrix, taps, profile = (_jit.array(x) for x in geometry)
    lines = np.zeros((profile.size, 2), profile.dtype)  # the last is zero, as is the profile beyond it
    lines[:-1, 0], lines[:-1, 1] = profile[:-1], np.diff(profile)
    return [tuple(_jit.array(x) for x in lists), matrix, taps, lines, lines.dtype.type((profile.size - 1) / reach)]


def forward(
    u: Tensor, lists: tuple[Tensor, ...], geometry: tuple[Tensor, ...], reach: float, taps: int, most: int
) -> tuple[Tensor, Tensor]:
    """Return the mean, and the sums of weights ``[V*C,N]``; ``geometry``: metric, table of taps, profile."""
    signal = rows(u)
    out, total = torch.empty_like(signal), torch.empty_like(signal[0])
    loops = _jit.specialise(LOOPS, directions, u.shape[2])
    tables = _tables(lists, geometry, reach)
    _jit.parallel(loops.forward, u.shape[3], _jit.array(signal), *tables, taps, most, out.numpy(), total.numpy())
    return back(out), total.flatten(0, 1)


def backward(
    fields: tuple[Tensor, Tensor, Tensor, Tensor],
    lists: tuple[Tensor, ...],
    geometry: tuple[Tensor, ...],
    reach: float,
    taps: int,
    most: int,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients in the signal, in the six entries of the metric and (with ``learn``, else empty) in the profile.

    ``fields``: gradient, signal, mean, sums of weights.
    """
    grad, signal, out = (rows(x) for x in fields[:3])
    flow = grad / fields[3].view(grad.shape[1:])
    grad_u, blocks = torch.empty_like(flow), -(-grad.shape[1] // BLOCK)
    sums = torch.empty(blocks, grad.shape[2], 6, dtype=torch.float64)
    samples = torch.zeros(blocks, geometry[-1].numel() if learn else 0, dtype=torch.float64)
    loops = _jit.specialise(LOOPS, directions, grad.shape[3])
    arrays = [_jit.array(x) for x in (flow, signal, out)]
    results = (grad_u.numpy(), sums.numpy(), samples.numpy())
    _jit.parallel(loops.backward, blocks, *arrays, *_tables(lists, geometry, reach), taps, most, *results, BLOCK)
    return back(grad_u), sums.sum(0), samples.sum(0)
