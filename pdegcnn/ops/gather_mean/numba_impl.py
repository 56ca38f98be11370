"""Fast CPU version of the gathered mean: rows of a vertex hold all channels, those of a channel all directions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops.directional_neighbors import directions, half_steps

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))
BLOCK = 256
"""Vertices whose sums are kept together."""


def rows(u: Tensor) -> Tensor:
    """Rearrange ``[B,C,Or,V] -> [B,V,C,N]``."""
    return u.permute(0, 3, 1, 2).contiguous()


def back(rows: Tensor) -> Tensor:
    """Rearrange ``[B,V,C,N] -> [B,C,Or,V]``; torch copies transposed matrices by blocks, other tensors more slowly."""
    batch, vertices, channels, count = rows.shape
    out = rows.new_empty(batch, channels, count, vertices)
    for signal, row in zip(out.view(batch, -1, vertices), rows.view(batch, vertices, -1)):
        signal.copy_(row.t())
    return out


def _tables(lists: tuple[Tensor, ...], geometry: tuple[Tensor, ...], reach: float, taps: int) -> list[Any]:
    """Return what the loops read besides signals, in the precision of the signal, or all would become float64.

    Lines of the profile are complex numbers, value and rise; the last is zero, as is the profile beyond it. The last
    entry says how many directions share weights.
    """
    matrix, table, profile = geometry
    count, scale = table.shape[1] // taps, profile.new_tensor((profile.numel() - 1) / reach)
    lines = profile.new_zeros(profile.numel(), 2)
    lines[:-1, 0], lines[:-1, 1] = profile[:-1], profile.diff()
    tensors = matrix, half_steps(count, taps, profile.dtype), table[2:, ::count], torch.view_as_complex(lines)
    coupled = count % 2 == 1 or bool(matrix[:, (0, 1, 2, 2), (2, 2, 0, 1)].any())
    return [tuple(_jit.array(x) for x in lists), (*(_jit.array(x) for x in tensors), scale.numpy()[()]), 2 - coupled]


def _loop(name: str, dtype: torch.dtype, count: int, taps: int, most: int) -> Callable[..., Any]:
    """Return a loop with its room, for vertices of at most ``most`` pairs.

    It is: 8 rows of numbers of a vertex, 4 of numbers of its directions and of zeros, samples of the latter, lines of
    the profile for one direction, places.
    """
    loops = _jit.specialise(LOOPS, directions, count)
    size, taken = taps * most + loops.SLACK, (2 * count + taps) * most + loops.SLACK
    pair = torch.promote_types(dtype, torch.complex64)
    numbers, each = (8 * taken, dtype, 0), (4 * (count + 1) * size, dtype, 0)
    rooms = numbers, each, (count * size, torch.int32, 0), (size, pair, 0), (count * most, torch.int64, 0)
    return _jit.with_room(getattr(loops, name), *rooms)


def forward(
    u: Tensor, lists: tuple[Tensor, ...], geometry: tuple[Tensor, ...], reach: float, taps: int, most: int
) -> tuple[Tensor, Tensor]:
    """Return the mean, and the sums of weights ``[V*C,N]``; ``geometry``: metric, table of taps, profile."""
    signal = rows(u)
    out, total = torch.empty_like(signal), torch.empty_like(signal[0])
    loop = _loop("forward", u.dtype, u.shape[2], taps, most)
    tables = _tables(lists, geometry, reach, taps)
    _jit.parallel(loop, u.shape[3], _jit.array(signal.flatten(1)), *tables, out.numpy(), total.numpy())
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
    sums = torch.zeros(blocks, grad.shape[2], 6, dtype=torch.float64)
    samples = torch.zeros(blocks, geometry[-1].numel() if learn else 0, dtype=torch.float64)
    loop = _loop("backward", grad.dtype, grad.shape[3], taps, most)
    arrays = [_jit.array(x) for x in (flow.flatten(1), signal.flatten(1), out)]
    results = (grad_u.numpy(), sums.numpy(), samples.numpy())
    _jit.parallel(loop, blocks, *arrays, *_tables(lists, geometry, reach, taps), *results, BLOCK)
    return back(grad_u), sums.sum(0), samples.sum(0)
