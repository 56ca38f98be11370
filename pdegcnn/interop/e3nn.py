"""Conversion between irreps of e3nn and harmonic coefficients of spherical signals.

``C`` channels of coefficients up to degree L become the irreps ``Cx0e + Cx1o + Cx2e + ...``: blocks by degree, and in
each block channel after channel. Vectors of e3nn are (y, z, x) of ours, because its polar axis is the second one. See
:func:`pdegcnn.sphere.to_e3nn` for one channel and ``docs/conventions.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn.sphere.rotation import check_coefficients, check_rotation, from_e3nn, to_e3nn

if TYPE_CHECKING:
    from e3nn import o3

__all__ = ["from_irreps", "irreps", "rotation_to_e3nn", "to_irreps"]


def irreps(channels: int, lmax: int) -> o3.Irreps:
    """Return the irreps ``Cx0e + Cx1o + Cx2e + ...`` of the output of :func:`to_irreps`.

    Args:
        channels: number of channels C.
        lmax: largest degree.
    """
    _checks.positive_int("channels", channels)
    if isinstance(lmax, bool) or not isinstance(lmax, int) or lmax < 0:
        raise ValueError(f"lmax: expected an int >= 0, got {lmax!r}")
    from e3nn import o3  # takes as long to import as torch

    made: Any = o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(lmax + 1)])
    return made


def to_irreps(coefficients: Tensor) -> Tensor:
    """Convert orthonormal coefficients to a tensor ``[B, C (lmax+1)^2]`` of ``irreps(C, lmax)``.

    Args:
        coefficients: ``[B,C,lmax+1,lmax+1]``, complex.

    Raises:
        TypeError: if the coefficients are not complex.
        ValueError: for another shape.
    """
    check_coefficients("coefficients", coefficients)
    if coefficients.ndim != 4:
        raise ValueError(f"coefficients: expected [B,C,lmax+1,lmax+1], got shape {tuple(coefficients.shape)}")
    rows = to_e3nn(coefficients)
    parts = rows.split([2 * degree + 1 for degree in range(coefficients.shape[-1])], dim=-1)
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def from_irreps(x: Tensor, channels: int) -> Tensor:
    """Convert ``[B, C (lmax+1)^2]`` of ``irreps(C, lmax)`` to coefficients: the inverse of :func:`to_irreps`.

    Args:
        x: tensor ``[B, C (lmax+1)^2]``.
        channels: number of channels C.

    Returns:
        Orthonormal coefficients ``[B,C,lmax+1,lmax+1]``.

    Raises:
        TypeError: if ``x`` is not a floating tensor.
        ValueError: if its width is not ``C (lmax+1)^2``.
    """
    _checks.tensor("x", x, 2, "[B, C*(lmax+1)^2]")
    _checks.positive_int("channels", channels)
    size = round((x.shape[1] / channels) ** 0.5)
    if size < 1 or channels * size * size != x.shape[1]:
        raise ValueError(f"x: expected a width of {channels} (lmax+1)^2, got shape {tuple(x.shape)}")
    parts = x.split([channels * (2 * degree + 1) for degree in range(size)], dim=1)
    return from_e3nn(torch.cat([part.unflatten(1, (channels, -1)) for part in parts], dim=2))


def rotation_to_e3nn(rotation: Tensor) -> Tensor:
    """Return the matrix of a rotation of (x, y, z) in e3nn's coordinates (y, z, x).

    Args:
        rotation: rotation matrices ``[..., 3, 3]``.
    """
    order = torch.tensor([1, 2, 0], device=check_rotation("rotation", rotation).device)
    return rotation[..., order, :][..., order]
