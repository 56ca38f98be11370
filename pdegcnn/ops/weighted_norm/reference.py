"""Specification of the weighted norm: the channels of a batch, normalised by their means and variances."""

from __future__ import annotations

from torch import Tensor


def per_channel(value: Tensor, u: Tensor) -> Tensor:
    """Return numbers ``[C]`` with as many axes as u ``[B,C,...]``."""
    return value.view(1, -1, *(1,) * (u.ndim - 2))


def moments(u: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return means ``[C]`` of ``u [B,C,...,*base]`` by ``weights [*base]`` of mean 1, centred u, and variances."""
    line = weights.expand(u.shape[2:]).flatten()
    mean = (u.flatten(2) @ line).mean(0) / len(line)
    centred = u - per_channel(mean, u)
    return mean, centred, (centred.square().flatten(2) @ line).mean(0) / len(line)


def weighted_norm(
    u: Tensor, weights: Tensor, scale: Tensor, shift: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``scale (u - mean)/sqrt(variance + eps) + shift`` for u ``[B,C,...]``, mean ``[C]`` and variance ``[C]``.

    ``weights``, of mean 1, are those of the points, with as many of the last axes of u as they have.
    """
    mean, centred, variance = moments(u, weights)
    factor = per_channel(scale * (variance + eps).rsqrt(), u)
    return per_channel(shift, u) + centred * factor, mean, variance
