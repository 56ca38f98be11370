"""Specification of the gain of a Newton step from the winning tap, in plain torch on any device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pdegcnn.kernels.metric import ENTRIES
from pdegcnn.kernels.morphological import Law, cost_by_law, slopes_by_law

LENGTHS = (0.25, 0.5, 0.75, 1.0)
"""Parts of the step that are tried: where the kernel steepens on the way, a shorter one gains more."""
SCALES = 45
"""Greatest power of two of the units in which a quadratic form is inverted."""
SMALL = 0.3
"""Uphill steps shorter than the dtype's least normal number to this power are not made longer."""


class StepTables(NamedTuple):
    """What a step needs to know of a space, without gradients.

    Args:
        table: squared distance of every tap, its slopes and its second derivatives, as factors of the metric's entries,
            ``[S,1+dims+pairs,6]``.
        turn: cosine and sine of the angle of every fibre sample, ``[2,F]``.
        reach: greatest step along each frame vector, ``[dims]``.
    """

    table: Tensor
    turn: Tensor
    reach: Tensor


def newton_gain(
    signal: Tensor,
    position: Tensor,
    tap: Tensor,
    tables: StepTables,
    entries: Tensor,
    least: Tensor,
    law: Law,
    sign: int,
) -> Tensor:
    """Return ``sign`` times the best gain ``[B,C,N]`` along the Newton step, which is never below zero.

    Args:
        signal: derivatives of the signal along the frame: slopes, then second ones, ``[B,C,dims+pairs,N]``.
        position: index in N of the winning sample of every point, ``[B,C,N]``.
        tap: number of the winning tap, ``[B,C,N]``.
        tables: what is known of the space.
        entries: entries of the metric in the frame of each fibre sample, ``[C,R,6]``, which repeat after R of them.
        least: kernels flatter than a parabola have no curvature at the centre: that at this squared distance is taken,
            ``[C]``.
        law: factor, unit and power of the kernel.
        sign: +1 for dilation, -1 for erosion.
    """
    dims, fibre = len(tables.reach), tables.turn.shape[1]
    where = position[:, :, None].expand(-1, -1, signal.shape[2], -1)
    there = sign * signal.gather(3, where)
    turn = tables.turn[:, :, None].expand(-1, -1, signal.shape[3] // fibre).flatten(1)
    slope, bend = _turned(there[:, :, :dims], there[:, :, dims:], turn, _pairs(dims))
    distance = _distance_jets(entries, tables.table, tap, fibre)
    squared, p, q = distance[:, :, 0], distance[:, :, 1 : 1 + dims], distance[:, :, 1 + dims :]
    now, _ = slopes_by_law(squared, law)
    first, second = slopes_by_law(torch.maximum(squared, least[:, None]), law)
    product = torch.stack([p[:, :, i] * p[:, :, j] for i, j in _pairs(dims)], dim=2)
    bowl = second[:, :, None] * product + first[:, :, None] * q - bend
    step = _newton_step(slope - now[:, :, None] * p, bowl, tables.reach)
    linear, quadratic = (slope * step).sum(2), _quadratic(bend, step)
    away, bent = (p * step).sum(2), _quadratic(q, step)
    cost = cost_by_law(squared, law)
    gains = [torch.zeros_like(cost)]
    for t in LENGTHS:
        moved = (squared + t * away + 0.5 * t * t * bent).clamp_min(0)
        gains.append(t * linear + 0.5 * t * t * quadratic - cost_by_law(moved, law) + cost)
    return sign * torch.stack(gains).amax(0)


def _pairs(dims: int) -> list[tuple[int, int]]:
    """Return which entries of a form there are."""
    return [p for p in ENTRIES if max(p) < dims]


def _distance_jets(entries: Tensor, table: Tensor, tap: Tensor, fibre: int) -> Tensor:
    """Return squared distances of the winning taps and their first two derivatives, ``[B,C,1+dims+pairs,N]``."""
    batch, _, count = tap.shape
    channels, rows, _ = entries.shape
    every = (entries @ table.flatten(0, 1).mT).view(channels, rows * table.shape[0], table.shape[1])
    row = torch.arange(fibre, device=tap.device) % rows
    entry = row[:, None].expand(-1, count // fibre).flatten() * table.shape[0] + tap
    picked = every.expand(batch, -1, -1, -1).gather(2, entry[..., None].expand(-1, -1, -1, table.shape[1]))
    return picked.movedim(3, 2).contiguous()


def _turned(first: Tensor, second: Tensor, turn: Tensor, pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return derivatives ``[B,C,dims,N]`` and ``[B,C,pairs,N]`` in the frame of the first fibre sample."""
    c, s = turn
    x, y, *rest = first.unbind(2)
    turned = torch.stack((c * x - s * y, s * x + c * y, *rest), dim=2)
    of = {pair: second[:, :, k] for k, pair in enumerate(pairs)}
    xx, yy, xy = of[0, 0], of[1, 1], of[0, 1]
    new = {
        (0, 0): c * c * xx + s * s * yy - 2 * c * s * xy,
        (1, 1): s * s * xx + c * c * yy + 2 * c * s * xy,
        (0, 1): c * s * (xx - yy) + (c * c - s * s) * xy,
    }
    if (2, 2) in of:
        new[2, 2] = of[2, 2]
        new[0, 2] = c * of[0, 2] - s * of[1, 2]
        new[1, 2] = s * of[0, 2] + c * of[1, 2]
    return turned, torch.stack([new[pair] for pair in pairs], dim=2)


def _newton_step(slope: Tensor, bowl: Tensor, reach: Tensor) -> Tensor:
    """Step ``[B,C,dims,N]`` from slopes, likewise, and minus the second derivatives ``[B,C,pairs,N]``.

    Uphill where those are not positive definite; shortened to ``reach [dims]`` along each axis.
    """
    shift, size = _balance(bowl)
    slope_there = slope * size  # in units in which the diagonal is near one: its determinant does not overflow
    if slope.shape[2] == 2:
        (a, b, c), (x, y) = shift.unbind(2), slope_there.unbind(2)
        minor, determinant = a, a * b - c * c
        solution = torch.stack((b * x - c * y, a * y - c * x), dim=2)
    else:
        (a, b, d, c, e, f), (x, y, z) = shift.unbind(2), slope_there.unbind(2)
        minor = torch.minimum(a, a * b - c * c)
        p, q, r, s, t, w = b * d - f * f, e * f - c * d, c * f - b * e, a * d - e * e, c * e - a * f, a * b - c * c
        determinant = a * p + c * q + e * r
        solution = torch.stack((p * x + q * y + r * z, q * x + s * y + t * z, r * x + t * y + w * z), dim=2)
    definite = (minor > 0) & (determinant > torch.finfo(determinant.dtype).eps)
    safe = torch.where(definite, determinant, torch.ones_like(determinant))
    uphill = slope * reach[:, None] ** 2
    length = (uphill.abs() / reach[:, None]).amax(2, keepdim=True)
    uphill = uphill / torch.where(length > torch.finfo(length.dtype).tiny ** SMALL, length, torch.ones_like(length))
    step = torch.where(definite[:, :, None], solution / safe[:, :, None] * size, uphill)
    longest = (step.abs() / reach[:, None]).amax(2, keepdim=True)
    return step / longest.clamp_min(1)


def _balance(bowl: Tensor) -> tuple[Tensor, Tensor]:
    """Return forms ``[B,C,pairs,N]`` in units of powers of two, so without rounding, and the units ``[B,C,dims,N]``.

    A definite one then has a diagonal near one, and no entry above two; the entries of others are cut there.
    """
    pairs = _pairs(2 if bowl.shape[2] == 3 else 3)
    diagonal = bowl[:, :, [k for k, (i, j) in enumerate(pairs) if i == j]].detach()
    half = torch.frexp(diagonal).exponent.div(2, rounding_mode="floor").clamp(-SCALES, SCALES)
    size = torch.ldexp(torch.ones_like(diagonal), -half)
    factors = torch.stack([size[:, :, i] * size[:, :, j] for i, j in pairs], dim=2)
    return (bowl * factors).clamp(-2, 2), size


def _quadratic(form: Tensor, step: Tensor) -> Tensor:
    """Return the value ``[B,C,N]`` of quadratic forms ``[B,C,pairs,N]`` at steps ``[B,C,dims,N]``."""
    pairs = _pairs(step.shape[2])
    parts = [(1 if i == j else 2) * form[:, :, k] * step[:, :, i] * step[:, :, j] for k, (i, j) in enumerate(pairs)]
    return torch.stack(parts).sum(0)
