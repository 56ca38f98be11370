"""Irreps of e3nn and our coefficients: the same rotations, the same linear maps, the same functions."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

import pdegcnn as pg
from pdegcnn.interop import e3nn as bridge

from ..helpers import random_rotation

GRID = pg.sphere.SphereGrid.gauss_legendre(6)
KIND = {"dtype": torch.float64}


def coefficients(channels: int = 3) -> torch.Tensor:
    return pg.sphere.RealSHT(GRID, **KIND)(torch.randn(2, channels, *GRID.shape, **KIND))


def test_there_and_back() -> None:
    c = coefficients()
    x = bridge.to_irreps(c)
    assert x.shape == (2, bridge.irreps(3, GRID.band).dim)
    torch.testing.assert_close(bridge.from_irreps(x, 3), c)
    assert torch.equal(bridge.to_irreps(c.conj()), bridge.to_irreps(c.conj().resolve_conj()))


def test_rotations_are_the_same() -> None:
    c, rotation = coefficients(), random_rotation()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # e3nn keeps its tables in the default dtype
    try:
        theirs = bridge.irreps(3, GRID.band).D_from_matrix(bridge.rotation_to_e3nn(rotation))
    finally:
        torch.set_default_dtype(before)
    ours = bridge.to_irreps(pg.sphere.rotate_coefficients(c, rotation))
    torch.testing.assert_close(bridge.to_irreps(c) @ theirs.mT, ours, atol=1e-11, rtol=1e-11)


def test_functions_are_the_same() -> None:
    """The values on our grid, summed from e3nn's spherical harmonics."""
    c = coefficients(1)
    values = pg.sphere.InverseRealSHT(GRID, **KIND)(c)
    points = GRID.xyz.reshape(-1, 3)[:, [1, 2, 0]]
    harmonics = o3.spherical_harmonics(bridge.irreps(1, GRID.band), points, normalize=True, normalization="integral")
    torch.testing.assert_close((bridge.to_irreps(c) @ harmonics.mT).view(values.shape), values, atol=1e-9, rtol=1e-9)


def test_linear_maps_are_the_same() -> None:
    """e3nn's ``Linear`` commutes with our rotations, and mixes our channels degree by degree."""
    kinds = bridge.irreps(3, GRID.band)
    linear = o3.Linear(kinds, bridge.irreps(2, GRID.band)).double()
    c, rotation = coefficients(), random_rotation()
    turned = bridge.from_irreps(linear(bridge.to_irreps(pg.sphere.rotate_coefficients(c, rotation))), 2)
    out = bridge.from_irreps(linear(bridge.to_irreps(c)), 2)
    torch.testing.assert_close(turned, pg.sphere.rotate_coefficients(out, rotation), atol=1e-9, rtol=1e-9)
    weights = torch.stack(list(linear.weight.split(6))).view(-1, 3, 2) / 3**0.5  # by degree, then [C, C']
    torch.testing.assert_close(out, torch.einsum("bilm,lio->bolm", c, weights.to(c.dtype)), atol=1e-9, rtol=1e-9)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"coefficients: expected \[B,C,lmax\+1,lmax\+1\]"):
        bridge.to_irreps(coefficients()[0])
    with pytest.raises(ValueError, match=r"x: expected a width of 3 \(lmax\+1\)\^2"):
        bridge.from_irreps(torch.randn(2, 10), 3)
    with pytest.raises(ValueError, match="lmax: expected an int >= 0"):
        bridge.irreps(2, -1)
