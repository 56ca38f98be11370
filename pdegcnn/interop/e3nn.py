"""Irreps of e3nn and harmonic coefficients of spherical signals.

``C`` channels of coefficients up to degree L are the irreps ``Cx0e + Cx1o + Cx2e + ...`` there: blocks by degree, in
each the channels one after another. Its vectors are (y, z, x) of ours, because its polar axis is the second one; see
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
    """``Cx0e + Cx1o + Cx2e + ...`` up to degree ``lmax``: what :func:`to_irreps` gives."""
    _checks.positive_int("channels", channels)
    if isinstance(lmax, bool) or not isinstance(lmax, int) or lmax < 0:
        raise ValueError(f"lmax: expected an int >= 0, got {lmax!r}")
    from e3nn import o3  # takes as long to import as torch

    made: Any = o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(lmax + 1)])
    return made


def to_irreps(coefficients: Tensor) -> Tensor:
    """Orthonormal coefficients ``[B,C,lmax+1,lmax+1]`` as a tensor ``[B, C (lmax+1)^2]`` of ``irreps(C, lmax)``.

    Raises:
        TypeError: for anything but a complex tensor.
        ValueError: for another shape.
    """
    check_coefficients("coefficients", coefficients)
    if coefficients.ndim != 4:
        raise ValueError(f"coefficients: expected [B,C,lmax+1,lmax+1], got shape {tuple(coefficients.shape)}")
    rows = to_e3nn(coefficients)
    parts = rows.split([2 * degree + 1 for degree in range(coefficients.shape[-1])], dim=-1)
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def from_irreps(x: Tensor, channels: int) -> Tensor:
    """Return a tensor ``[B, C (lmax+1)^2]`` of ``irreps(C, lmax)`` as coefficients: the inverse of :func:`to_irreps`.

    Raises:
        TypeError: for anything but a floating tensor.
        ValueError: for a width that is not ``C (lmax+1)^2``.
    """
    _checks.tensor("x", x, 2, "[B, C*(lmax+1)^2]")
    _checks.positive_int("channels", channels)
    size = round((x.shape[1] / channels) ** 0.5)
    if size < 1 or channels * size * size != x.shape[1]:
        raise ValueError(f"x: expected a width of {channels} (lmax+1)^2, got shape {tuple(x.shape)}")
    parts = x.split([channels * (2 * degree + 1) for degree in range(size)], dim=1)
    return from_e3nn(torch.cat([part.unflatten(1, (channels, -1)) for part in parts], dim=2))


def rotation_to_e3nn(rotation: Tensor) -> Tensor:
    """Return the matrix ``[..., 3, 3]`` by which e3nn knows a rotation of (x, y, z): the same acting on (y, z, x)."""
    order = torch.tensor([1, 2, 0], device=check_rotation("rotation", rotation).device)
    return rotation[..., order, :][..., order]
