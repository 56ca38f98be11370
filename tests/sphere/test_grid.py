"""Laws of the grids: weights, rings, what each can carry."""

import builtins
import copy
import math
import pickle

import healpy
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pdegcnn.sphere import InverseRealSHT, RealSHT, SphereGrid

GRIDS = {
    "gauss": SphereGrid.gauss_legendre(9),
    "gauss, short rings": SphereGrid.gauss_legendre(9, 11),
    "driscoll_healy": SphereGrid.equiangular(8),
    "full_band": SphereGrid.equiangular(8, "full_band"),
    "poles": SphereGrid.clenshaw_curtis(9, 16),
    "poles, even number of rings": SphereGrid.clenshaw_curtis(8),
    "reduced": SphereGrid.reduced_gauss(24),
    "reduced, even": SphereGrid.reduced_gauss(25, spacing="even"),
    "icosahedron": SphereGrid.icosahedral(0),
    "icosahedral": SphereGrid.icosahedral(3),
    "healpix": SphereGrid.healpix(4),
}


@pytest.mark.parametrize("name", GRIDS)
def test_points_and_weights(name):
    grid = GRIDS[name]
    xyz, weights = grid.xyz, grid.weights
    assert xyz.shape == (*grid.shape, 3)
    assert weights.shape == grid.shape
    assert xyz.dtype == weights.dtype == torch.float64
    assert (weights > 0).all()
    assert math.isclose(float(weights.sum()), 4 * math.pi, rel_tol=1e-14)
    torch.testing.assert_close(xyz.norm(dim=-1), torch.ones(grid.shape, dtype=torch.float64), rtol=0, atol=1e-15)
    mean = (weights[..., None] * xyz).flatten(0, -2).sum(0)
    torch.testing.assert_close(mean, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-13)
    for twin in (copy.deepcopy(grid), pickle.loads(pickle.dumps(grid))):
        assert twin == grid
        assert hash(twin) == hash(grid)
    assert [grid == other for other in GRIDS.values()].count(True) == 1


@pytest.mark.parametrize("name", [name for name, grid in GRIDS.items() if grid.has_rings])
def test_rings(name):
    grid = GRIDS[name]
    xyz, offsets = grid.xyz.reshape(-1, 3), grid.ring_offsets
    assert len(offsets) == len(grid.ring_lengths) + 1 == len(grid.theta) + 1
    assert offsets[-1] == len(xyz)
    for ring, (start, length) in enumerate(zip(offsets, grid.ring_lengths)):
        phi = 2 * torch.pi * torch.arange(length, dtype=torch.float64) / length
        points = xyz[start : start + length]
        torch.testing.assert_close(points[:, 2], torch.full((length,), math.cos(grid.theta[ring])).double())
        torch.testing.assert_close(points[:, 0], math.sin(grid.theta[ring]) * phi.cos(), rtol=0, atol=1e-15)
        torch.testing.assert_close(points[:, 1], math.sin(grid.theta[ring]) * phi.sin(), rtol=0, atol=1e-15)
        assert (grid.weights.flatten()[start : start + length] == grid.ring_weights[ring]).all()


@given(size=st.integers(1, 40), seed=st.integers(0, 99))
def test_reduced_rings_carry_the_band_they_state(size, seed):
    draw = torch.Generator().manual_seed(seed)
    for tolerance, spacing in ((1e-14, "exact"), (1e-6, "exact"), (1e-12, "even"), (1e-4, "even")):
        grid = SphereGrid.reduced_gauss(size, tolerance, spacing)
        lmax = grid.band
        assert lmax == size - 1 or spacing == "even"
        c = torch.randn(lmax + 1, lmax + 1, dtype=torch.complex128, generator=draw).tril()
        c[:, 0] = c[:, 0].real.to(c.dtype)
        back = RealSHT(grid, dtype=torch.float64)(InverseRealSHT(grid, dtype=torch.float64)(c))
        # Each entry collects aliasing from all others, of unit size.
        assert (back - c).abs().max() < 1e-12 + tolerance * (lmax + 1) ** 2


def test_reduced_grid_saves_points_and_even_spacing_is_even():
    assert SphereGrid.reduced_gauss(64).shape[0] < 0.83 * 2 * 64**2
    grid = SphereGrid.reduced_gauss(64, spacing="even")
    gap = 2 * np.pi * np.sin(grid.theta) / np.array(grid.ring_lengths)
    assert gap.max() < 1.3 * np.pi / 64
    assert gap.min() > 0.5 * np.pi / 64
    assert SphereGrid.reduced_gauss(64, 1e-2, "even").band > grid.band


@pytest.mark.parametrize("level", range(4))
def test_icosahedral_counts_and_nearest_points(level):
    grid = SphereGrid.icosahedral(level)
    assert grid.shape == (10 * 4**level + 2,)
    cosine = (grid.xyz @ grid.xyz.T).fill_diagonal_(-1).amax(1)
    assert (torch.acos(cosine) < 1.3 / 2**level).all()
    # Monte Carlo of the Voronoi cells: the nearest of all points to a random one.
    p = torch.nn.functional.normalize(torch.randn(20000, 3, dtype=torch.float64), dim=-1)
    shares = torch.bincount((p @ grid.xyz.T).argmax(1), minlength=grid.shape[0]) / 20000
    expected = grid.weights / (4 * math.pi)
    assert ((shares - expected).abs() < 6 * (expected / 20000).sqrt()).all()


@pytest.mark.parametrize("nest", [False, True])
def test_healpix_is_healpy_s(nest):
    grid = SphereGrid.healpix(4, nest)
    pixel = healpy.vec2pix(4, *grid.xyz.numpy().T, nest=nest)
    assert (pixel == np.arange(192)).all()


def test_healpix_without_healpy(monkeypatch):
    found = builtins.__import__

    def without(name, *rest):
        if name == "healpy":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="expected the package healpy"):
        SphereGrid.healpix(2)
