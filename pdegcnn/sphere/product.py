"""Products of functions on the sphere by their coefficients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn.sphere.grid import SphereGrid
from pdegcnn.sphere.rotation import check_coefficients, from_e3nn, to_e3nn
from pdegcnn.sphere.sht import InverseRealSHT, RealSHT

if TYPE_CHECKING:
    from e3nn import o3

MOST = 2**20
"""Highest degree that `irreps` writes down."""


def irreps(lmax: int) -> o3.Irreps:
    """Return the irreps 0e + 1o + 2e + ... of the output of :func:`to_e3nn`, for e3nn's tensor products.

    Args:
        lmax: largest degree.
    """
    if isinstance(lmax, bool) or not isinstance(lmax, int) or not 0 <= lmax <= MOST:
        raise ValueError(f"lmax: expected an int >= 0, got {lmax!r} (the greatest is {MOST})")
    from e3nn import o3  # takes as long to import as torch

    return o3.Irreps.spherical_harmonics(lmax)


def clebsch_gordan_product(a: Tensor, b: Tensor, lmax: int | None = None) -> Tensor:
    """Multiply two functions on the sphere by their coefficients, degree by degree.

    Every pair of degrees is coupled by e3nn's Wigner 3j symbols, in :math:`O(l_{max}^5)`. This is the specification of
    :class:`ExactProduct`.

    Args:
        a: orthonormal coefficients ``[..., l+1, l+1]`` of the first factor.
        b: orthonormal coefficients of the second factor, of any band.
        lmax: band of the product; None: that of ``a``.

    Returns:
        Orthonormal coefficients ``[..., lmax+1, lmax+1]``.

    Raises:
        ValueError: if ``lmax`` exceeds the sum of the two bands, where all coefficients vanish.
    """
    first, second = to_e3nn(check_coefficients("a", a)), to_e3nn(check_coefficients("b", b))
    _checks.same_kind("b", second, "a", first)
    try:
        torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except RuntimeError as error:
        raise ValueError(f"b: expected a batch as that of a, {tuple(a.shape)}, got {tuple(b.shape)}") from error
    for name, value in (("a", a), ("b", b)):
        if value.is_meta or value.numel() == 0:
            raise ValueError(f"{name}: expected numbers, got shape {tuple(value.shape)} on {value.device}")
    top, highest = a.shape[-1] - 1 if lmax is None else lmax, a.shape[-1] + b.shape[-1] - 2
    if isinstance(top, bool) or not isinstance(top, int):
        raise TypeError(f"lmax: expected an int from 0 to {highest} or None, got {lmax!r}")
    if not 0 <= top <= highest:
        raise ValueError(f"lmax: expected 0 to {highest}, the degree of the product, got {lmax}")
    from e3nn import o3  # takes as long to import as torch

    out = []
    for degree in range(top + 1):
        total = first.new_zeros(*torch.broadcast_shapes(first.shape[:-1], second.shape[:-1]), 2 * degree + 1)
        for one in range(a.shape[-1]):
            for two in range(abs(degree - one), min(degree + one, b.shape[-1] - 1) + 1):
                symbol = o3.wigner_3j(one, two, degree, dtype=first.dtype, device=first.device)
                sizes = (2 * one + 1) * (2 * two + 1) * (2 * degree + 1) / (4 * math.pi)
                weight = symbol[one, two, degree] * sizes**0.5  # from the values at the pole
                parts = first[..., one**2 : (one + 1) ** 2], second[..., two**2 : (two + 1) ** 2]
                total = total + weight * torch.einsum("...i,...j,ijk->...k", *parts, symbol)
        out.append(total)
    return from_e3nn(torch.cat(out, -1))


class ExactProduct(nn.Module):
    """Multiply two functions on the sphere by their coefficients: exact, in :math:`O(l_{max}^3)`.

    The functions are multiplied on a Gauss grid whose quadrature is exact to degree ``lmax + other + out``, 3/2 times
    the usual one, and the result is truncated at ``out``. This is the scalar Clebsch-Gordan product with Gaunt's
    weights (arXiv 2401.10216).

    Args:
        lmax: band of the first factor.
        other: band of the second factor; None: ``lmax``.
        out: band of the product; None: ``lmax``.
        device: where the tables live.
        dtype: real dtype of the tables.

    Shape:
        Orthonormal coefficients ``[..., lmax+1, lmax+1]`` and ``[..., other+1, other+1] -> [..., out+1, out+1]``;
        leading axes broadcast.
    """

    def __init__(
        self,
        lmax: int,
        other: int | None = None,
        out: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        other, out = lmax if other is None else other, lmax if out is None else out
        for name, value in (("lmax", lmax), ("other", other), ("out", out)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}: expected an int >= 0, got {value!r} of type {type(value).__name__}")
            if not 0 <= value < 2**20:
                raise ValueError(f"{name}: expected an int >= 0, got {value}" + " (above 2**20)" * (value > 0))
        degree = max(lmax + other + out, 2 * max(lmax, other, out))
        grid = SphereGrid.gauss_legendre(degree // 2 + 1, degree + 2 - degree % 2)
        self.first = InverseRealSHT(grid, lmax, device=device, dtype=dtype)
        self.second = self.first if other == lmax else InverseRealSHT(grid, other, device=device, dtype=dtype)
        self.analysis = RealSHT(grid, out, device=device, dtype=dtype)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply ``a`` ``[..., lmax+1, lmax+1]`` and ``b`` ``[..., other+1, other+1]``; leading axes broadcast.

        Args:
            a: complex coefficients of the first function.
            b: complex coefficients of the second one.

        Returns:
            Coefficients of the product up to degree ``out``, ``[..., out+1, out+1]``.
        """
        return self.analysis(self.first(a) * self.second(b))
