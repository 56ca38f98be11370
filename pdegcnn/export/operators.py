"""This library's own operators in plain torch, for exported graphs: forward only, any batch size.

Each agrees with the operator's ``reference.py``; a new operator needs a function here and an entry of ``PLAIN``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops._operator import index_dtype
from pdegcnn.ops.between_samples import reference as _between
from pdegcnn.ops.convection import reference as _convection
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors, coordinates, padded, source, squared_norm
from pdegcnn.ops.gather_mean import reference as _mean
from pdegcnn.ops.geodesic_flow import geodesic_tracing as _tracing
from pdegcnn.ops.group_convolution import reference as _group
from pdegcnn.ops.newton_gain import reference as _newton
from pdegcnn.ops.padding import BOUNDARIES
from pdegcnn.ops.weighted_norm import reference as _norm
from pdegcnn.sphere._constants import _MAKERS

SLOTS = 32
"""Taps that are compared at once where they are gathered: more make the graph shorter and its memory larger."""


def morphology(
    u: Tensor, kernel: Tensor, sign: int, keep: bool, backend: str, periodic: bool = True
) -> tuple[Tensor, Tensor]:
    """Take the maximum over all taps of an orientation step at once; leave out the winning taps."""
    dtype = wide_dtype(u.dtype)
    height, width = u.shape[-2:]
    ko, kh, kw = kernel.shape[-3:]
    beyond = 0 if periodic else ko // 2
    field = F.pad(sign * u.to(dtype), (kw // 2, kw // 2, kh // 2, kh // 2, beyond, beyond), value=-torch.inf)
    rows = torch.arange(kh, device=u.device)[:, None] + torch.arange(height, device=u.device)
    columns = torch.arange(kw, device=u.device)[:, None] + torch.arange(width, device=u.device)
    place = rows[:, None, :, None] * field.shape[-1] + columns[:, None]  # [KH,KW,H,W]
    field, weights = field.flatten(3), kernel.to(dtype)[..., None, None]
    planes = slice(beyond, beyond + u.shape[2], u.shape[2] // kernel.shape[1])
    best = torch.full_like(u[:, :, :: u.shape[2] // kernel.shape[1]], -torch.inf, dtype=dtype)
    for a in range(ko):
        weight = weights[:, :, a]
        value = field.roll(ko // 2 - a, dims=2)[:, :, planes, place] - weight
        best = torch.maximum(best, torch.where(weight == torch.inf, -torch.inf, value).amax((3, 4)))
    index = index_dtype(ko * kh * kw + 1)
    return (sign * best).to(u.dtype), torch.zeros(best.shape if keep else (0,), dtype=index, device=u.device)


def morphology_pair(u: Tensor, dilation: Tensor, erosion: Tensor, keep: bool, backend: str) -> tuple[Tensor, ...]:
    """Compute both signs in turn."""
    return *morphology(u, dilation, 1, keep, backend), *morphology(u, erosion, -1, keep, backend)


def convection(u: Tensor, shift: Tensor, boundary: int, backend: str) -> Tensor:
    """Run the specification."""
    return _convection.convection(u, shift, BOUNDARIES[boundary])


def between_samples(u: Tensor, matrix: Tensor, outside: Tensor, shifts: list[float], backend: str) -> Tensor:
    """Run the specification."""
    pairs = [(0.0, row, column) for row, column in zip(shifts[::2], shifts[1::2])]
    return _between.between_samples(u, matrix, outside, pairs)


def group_correlate(u: Tensor, kernel: Tensor, padding: list[int], backend: str) -> Tensor:
    """Run the specification, without its border."""
    whole = F.pad(u, (padding[1], padding[1], padding[0], padding[0]))
    rows, columns = kernel.shape[3] // 2, kernel.shape[4] // 2
    out = _group.group_convolution(whole, kernel)
    return out[..., rows : out.shape[3] - rows, columns : out.shape[4] - columns]


def _ring_taps(
    u: Tensor, weights: Tensor, taps: Tensor, start: Tensor, longest: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield samples [B,C,slots,F,G,n], weights [C,slots,F or 1,G,1], and if they exist, of some taps of every list."""
    fibre, rings, length = u.shape[2:]
    field = u.flatten(2)
    f = torch.arange(fibre, device=u.device)[:, None, None]
    j = torch.arange(length, device=u.device)
    for first in range(0, longest, SLOTS):
        slot = first + torch.arange(min(SLOTS, longest - first), device=u.device)[:, None]
        exists = slot < start.diff()  # [slots,G]
        tap = torch.where(exists, start[:-1] + slot, start[:-1])
        ring, df, dj = (x[:, None, :, None] for x in taps[tap].unbind(-1))  # [slots,1,G,1]
        place = ((f + df) % fibre * rings + ring) * length + (j + dj) % length  # [slots,F,G,n]
        weight = weights[:, :, tap].movedim(2, 1)[..., None]
        yield field[:, :, place], weight, exists[:, None, :, None]


def ring_morphology(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, sign: int, keep: bool, backend: str
) -> tuple[Tensor, Tensor]:
    """Take the maximum over lists that are padded to the longest, and the winning taps where ``keep``."""
    dtype, kind = wide_dtype(u.dtype), index_dtype(longest + 1)
    best = torch.full_like(u, -torch.inf, dtype=dtype)
    winner = torch.full_like(u, torch.iinfo(kind).max, dtype=torch.int64)
    for n, (value, weight, exists) in enumerate(_ring_taps(sign * u.to(dtype), kernel.to(dtype), taps, start, longest)):
        value = torch.where((weight == torch.inf) | ~exists, -torch.inf, value - weight)
        most, slot = value.max(2) if keep else (value.amax(2), None)
        if slot is not None:
            wins = (most > best) | (most.isnan() & ~best.isnan())
            winner = torch.where(wins, n * SLOTS + slot, winner)
        best = torch.maximum(best, most)
    return (sign * best).to(u.dtype), winner.to(kind) if keep else winner.new_empty(0, dtype=kind)


def ring_correlate(u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, backend: str) -> Tensor:
    """Sum over lists that are padded to the longest."""
    out = torch.zeros_like(u)
    for value, weight, exists in _ring_taps(u, kernel, taps, start, longest):
        out = out + torch.where(exists, value * weight, 0).sum(2)
    return out


def gather_morphology(u: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Take the maximum over lists that are padded to the longest; leave out the winning taps."""
    *lists, matrix, law, taps, sign, _ = rest
    bundle = DirectionalNeighbors._make(lists)
    count = u.shape[2]
    pairs, exists = padded(bundle)
    direction = torch.arange(count, device=u.device)[:, None]
    field = (sign * u).flatten(2)
    factor, power = law.unbind()
    best = sign * u
    for slot in range(bundle.most):
        for s in range(taps):
            step = torch.full((), s - taps // 2, device=u.device)
            squared = squared_norm(matrix, coordinates(bundle, pairs[:, slot], direction, step, count))
            bent = factor * torch.where(squared > 0, squared, 1) ** torch.where(power.isinf(), 1, power)
            cost = torch.where(squared > 0, bent, 0)
            flat = torch.where(squared <= factor, 0.0, torch.inf).to(squared)
            value = field[:, :, source(bundle, pairs[:, slot], direction, step, count)]
            value = value - torch.where(power.isinf(), flat, cost)
            best = torch.maximum(best, torch.where(exists[:, slot], value, -torch.inf))
    return sign * best, torch.zeros(u.shape, dtype=index_dtype(bundle.most * taps), device=u.device)


def gather_mean(u: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Run the specification without the sums of weights. A graph names the backend only if it is not the default."""
    *lists, matrix, profile, reach, taps = rest[: len(DirectionalNeighbors._fields) + 4]
    out = _mean.gather_mean(u, DirectionalNeighbors._make(lists), matrix, profile, reach, taps)
    return out, u.new_zeros(u.shape[1] * u.shape[3], u.shape[2])


def transport_gather(
    fields: Tensor, start: Tensor, columns: Tensor, values: Tensor, back: Tensor, backend: str
) -> Tensor:
    """Sum products of complex numbers, as two reals, at their rows."""
    dtype = wide_dtype(fields.dtype)
    pairs = columns.numel()
    count = torch.arange(start.numel() - 1, device=start.device)
    rows = torch.repeat_interleave(count, start.diff(), output_size=pairs)
    there, factor = fields.to(dtype)[:, columns], values.to(dtype)[..., None]  # [B,E,K,2,C], [E,K,2,1]
    (x, y), (a, b) = there.unbind(3), factor.unbind(2)
    terms = torch.stack(((x * a - y * b).sum(2), (x * b + y * a).sum(2)), dim=2)
    out = terms.new_zeros(fields.shape[0], fields.shape[1], 2, fields.shape[4])
    return out.index_add(1, rows, terms).to(fields.dtype)


def weighted_norm(
    u: Tensor, weights: Tensor, scale: Tensor, shift: Tensor, eps: float, backend: str
) -> tuple[Tensor, ...]:
    """Run the specification."""
    return _norm.weighted_norm(u, weights, scale, shift, eps)


def newton_gain(
    signal: Tensor,
    position: Tensor,
    tap: Tensor,
    table: Tensor,
    turn: Tensor,
    reach: Tensor,
    entries: Tensor,
    least: Tensor,
    law: Tensor,
    sign: int,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Run the specification; leave out which lengths attain the gain."""
    tables, numbers = _newton.StepTables(table, turn, reach), law.to(signal.dtype).unbind()
    gain = _newton.newton_gain(signal, position, tap, tables, entries, least, numbers, sign)
    return gain, torch.zeros_like(tap, dtype=torch.uint8)


def shifted_solve(
    right: Tensor,
    time: Tensor,
    start: Tensor,
    columns: Tensor,
    values: Tensor,
    back: Tensor,
    sizes: list[int],
    tolerance: float,
    backend: str,
) -> Tensor:
    """Solve by a dense factorisation, which takes the memory of a matrix: for meshes of few vertices."""
    count = right.shape[1]
    rows = torch.repeat_interleave(torch.arange(count, device=start.device), start.diff(), output_size=columns.numel())
    dense = values.new_zeros(count * count, 2).index_add(0, rows * count + columns, values[:, 0])
    real, imaginary = dense.unflatten(0, (count, count)).unbind(2)
    if time.ndim == 2:  # real systems, one for each part
        matrix = torch.eye(count, dtype=right.dtype, device=right.device) + time[..., None, None] * real
        return torch.linalg.solve(matrix, right.permute(2, 3, 1, 0)).permute(3, 2, 0, 1)
    pairs = torch.cat((torch.cat((real, -imaginary), 1), torch.cat((imaginary, real), 1)))
    matrix = torch.eye(2 * count, dtype=right.dtype, device=right.device) + time[:, None, None] * pairs
    found = torch.linalg.solve(matrix, right.permute(3, 2, 1, 0).flatten(1, 2))
    return found.unflatten(1, (2, count)).permute(3, 2, 1, 0)


def geodesic_landing(
    tables: list[Tensor], vertex: Tensor, radius: Tensor, angle: Tensor, backend: str
) -> tuple[Tensor, ...]:
    """Follow the paths by plain torch: for frozen programs, where they are constants."""
    return tuple(_tracing.land(_tracing.HalfEdges._make(tables), vertex, radius, angle))


def geodesic_flow(u: Tensor, path: Tensor, tables: list[Tensor]) -> Tensor:
    """Run the specification."""
    return _tracing.flow(u, _tracing.HalfEdges._make(tables), path, "torch")


def sphere_constant(name: str, degree: int) -> Tensor:
    """Return the array itself."""
    return torch.tensor(_MAKERS[name](degree))


PLAIN: dict[str, Callable[..., Any]] = {
    "morphology": morphology,
    "morphology_pair": morphology_pair,
    "convection": convection,
    "between_samples": between_samples,
    "group_correlate": group_correlate,
    "ring_morphology": ring_morphology,
    "ring_correlate": ring_correlate,
    "gather_morphology": gather_morphology,
    "gather_mean": gather_mean,
    "transport_gather": transport_gather,
    "shifted_solve": shifted_solve,
    "weighted_norm": weighted_norm,
    "newton_gain": newton_gain,
    "geodesic_flow": geodesic_flow,
    "geodesic_landing": geodesic_landing,
    "sphere_constant": sphere_constant,
}
"""Name of every operator that a forward pass may hold, and what it is."""
