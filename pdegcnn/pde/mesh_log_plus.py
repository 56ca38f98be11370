"""Dilation on meshes in the log-plus semifield, from weighted means of exponentials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pdegcnn.kernels.morphological import FLAT_SLACK, cost_law
from pdegcnn.ops._log_plus import COLDEST, SCALES, Sums, fitting, held, soft_mean
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors
from pdegcnn.ops.gather_mean import gather_mean
from pdegcnn.pde.solver import Alpha

SAMPLES = {torch.float32: 2**13, torch.float64: 2**15}
"""Number of samples of the weights over the distance; linear interpolation has an error below a thousandth."""
FAINTEST = {torch.float32: 100.0, torch.float64: 730.0}
"""Cost in temperatures above which taps are left out."""


@dataclass(frozen=True)
class BundleSums(Sums):
    """Means over balls in the bundle of directions, with weights given as samples over the distance.

    Args:
        lists: pairs of the mesh.
        matrix: metric [C,3,3].
        reach: distance of the last sample.
        taps: steps of directions.
        lowest: map of the least values to vertices, ``[...,V] -> [...,1 or V]``.
    """

    lists: DirectionalNeighbors
    matrix: Tensor
    reach: float
    taps: int
    lowest: Callable[[Tensor], Tensor]

    def add(self, u: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted mean."""
        return gather_mean(u, self.lists, self.matrix, weights, self.reach, self.taps)

    def least(self, u: Tensor) -> Tensor:
        """Return the least value of each mesh."""
        return self.lowest(u.amin(2, keepdim=True))


def soft_dilation(
    u: Tensor,
    matrix: Tensor,
    alpha: Alpha,
    time: float,
    temperature: Tensor | float,
    taps: int,
    lists: Callable[[Tensor], DirectionalNeighbors],
    lowest: Callable[[Tensor], Tensor],
    largest: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return ``t log(sum a exp((u - k) / t) / sum a exp(-k / t))`` over the taps, which count by their areas a.

    Args:
        u: signal [B,C,Or,V].
        matrix: metric [C,3,3].
        alpha: the power.
        time: length of the step.
        temperature: t > 0, a number or a tensor [] or [C].
        taps: steps of directions.
        lists: the pairs of the mesh in the precision of a tensor.
        lowest: see :class:`BundleSums`.
        largest: the max-plus dilation, for values whose sums underflow.
    """
    given = temperature
    if not isinstance(given, Tensor):
        given = torch.tensor(given, dtype=torch.float64, device=u.device)
    t = given.reshape(-1, 1, 1)
    scale = fitting(u, t, torch.zeros_like(matrix[:, 0, 0]), plain=True)
    complete = scale is None
    scale = SCALES[-1] if scale is None else scale
    kind = scale.dtype
    field, t = u.to(kind), t.to(kind)
    t = t.clamp_min(COLDEST) if complete else t
    scaled, profile, reach = _weights(matrix.to(kind), alpha, time, t)
    pairs = lists(field)
    sums = BundleSums(pairs, scaled, reach, taps, lowest)
    value, _, ratio = soft_mean(field, profile, torch.ones((), dtype=kind, device=u.device), t, scale, sums, complete)
    if complete:
        bound = largest(u).to(kind) - t * _most(pairs, taps)
        value = torch.where(held(ratio, scale), torch.maximum(value, bound), bound)
    return value.to(u.dtype)


def _weights(matrix: Tensor, alpha: Alpha, time: float, t: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return a metric in which the weight ``exp(-k / t)`` is the same function for all channels, it, and its reach."""
    kind, device = matrix.dtype, matrix.device
    if not isinstance(alpha, Tensor) and alpha == 0.5:
        return matrix, torch.ones(2, dtype=kind, device=device), time * (1 + FLAT_SLACK)
    factor, unit, power = cost_law(alpha.to(kind) if isinstance(alpha, Tensor) else alpha, time)
    reach = FAINTEST[kind] ** (0.5 if isinstance(power, Tensor) else 0.5 / power)  # a learned power is at least one
    distance = torch.linspace(0, reach, SAMPLES[kind], dtype=kind, device=device)
    away = distance.clamp_min(torch.finfo(kind).tiny)
    profile = torch.exp(-(away ** (2 * power)))
    return matrix / unit * (factor / t) ** (1 / power), profile, reach


def _most(pairs: DirectionalNeighbors, taps: int) -> Tensor:
    """Return the logarithm of the area of each vertex's window over its smallest part, ``[V]``."""
    lengths, areas = pairs.start.diff(), pairs.areas[pairs.columns]
    whole, least = (torch.segment_reduce(areas, how, lengths=lengths) for how in ("sum", "min"))
    return (taps * whole / least).log()
