"""Laws of the grids and of the transforms on the sphere."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from pdegcnn.sphere import InverseRealSHT, RealSHT, SphereGrid

GRIDS = {
    "gauss": SphereGrid.gauss_legendre,
    "driscoll_healy": SphereGrid.equiangular,
    "full_band": lambda n: SphereGrid.equiangular(n, "full_band"),
    "poles": lambda n: SphereGrid.clenshaw_curtis(n + 1, 2 * n) if n > 1 else SphereGrid.clenshaw_curtis(3),
    "reduced": SphereGrid.reduced_gauss,
}


def coefficients(lmax, seed=0, batch=(2,)):
    draw = torch.Generator().manual_seed(seed)
    c = torch.randn(*batch, lmax + 1, lmax + 1, dtype=torch.complex128, generator=draw).tril()
    c[..., 0] = c[..., 0].real.to(c.dtype)
    return c


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(GRIDS)), size=st.integers(1, 70), seed=st.integers(0, 99))
def test_roundtrip_and_parseval(kind, size, seed):
    grid = GRIDS[kind](size)
    c = coefficients(size - 1, seed)
    sht = RealSHT(grid, size - 1, dtype=torch.float64)
    f = InverseRealSHT(grid, size - 1, dtype=torch.float64)(c)
    rounding = 2e-15 * size * max(float(f.abs().max()), 1.0)  # of sums over as many rings of values so large
    assert (sht(f) - c).abs().max() < rounding
    if grid.degree >= 2 * (size - 1):
        energy = c.abs().square().sum((-2, -1)) * 2 - c[..., 0].abs().square().sum(-1)
        torch.testing.assert_close((f.square() * grid.weights).flatten(1).sum(1), energy, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", GRIDS)
def test_harmonics_are_those_of_scipy(kind):
    grid = GRIDS[kind](9)
    x, y, z = grid.xyz.numpy().reshape(-1, 3).T
    theta, phi = np.arctan2(np.hypot(x, y), z).reshape(grid.shape), np.arctan2(y, x).reshape(grid.shape)
    assert math.isclose(float(grid.weights.sum()), 4 * math.pi, rel_tol=1e-14)
    isht = InverseRealSHT(grid, 8, dtype=torch.float64)
    for degree in range(9):
        for m in range(degree + 1):
            c = torch.zeros(9, 9, dtype=torch.complex128)
            c[degree, m] = 0.6 + (0.8j if m else 0)
            want = ((2 if m else 1) * (c[degree, m].item() * sph_harm_y(degree, m, theta, phi))).real
            np.testing.assert_allclose(isht(c).numpy(), want, atol=1e-13)


@pytest.mark.parametrize("norm", ["orthonormal", "4pi", "schmidt", "e3nn"])
def test_normalisations_are_multiples_of_scipy_s(norm):
    grid = SphereGrid.gauss_legendre(5)
    theta, phi = np.array(grid.theta)[:, None], 2 * np.pi * np.arange(grid.nlon) / grid.nlon
    isht = InverseRealSHT(grid, norm=norm, dtype=torch.float64)
    for degree in range(5):
        for m in range(degree + 1):
            c = torch.zeros(5, 5, dtype=torch.complex128)
            c[degree, m] = 1
            factor = {
                "orthonormal": 1,
                "4pi": math.sqrt(4 * math.pi),
                "schmidt": math.sqrt(4 * math.pi / (2 * degree + 1)),
                "e3nn": (-1) ** m,
            }[norm]
            want = ((2 if m else 1) * factor * sph_harm_y(degree, m, theta, phi)).real
            np.testing.assert_allclose(isht(c).numpy(), want, atol=1e-13)


@pytest.mark.parametrize("norm", ["orthonormal", "4pi", "schmidt", "e3nn"])
def test_every_normalisation_inverts(norm):
    grid, c = SphereGrid.gauss_legendre(40), coefficients(39)
    f = InverseRealSHT(grid, 39, norm, dtype=torch.float64)(c)
    assert (RealSHT(grid, 39, norm, dtype=torch.float64)(f) - c).abs().max() < 1e-12


def test_double_rebuilds_and_modules_copy():
    grid, c = SphereGrid.gauss_legendre(33), coefficients(32)
    pair = [m(grid, 32, dtype=torch.float32).double() for m in (RealSHT, InverseRealSHT)]
    sht, isht = (pickle.loads(pickle.dumps(copy.deepcopy(m))) for m in pair)
    assert (sht(isht(c)) - c).abs().max() < 1e-12
    assert not sht.state_dict()
    assert sht.half()(isht(c).half()).dtype == torch.complex64


def test_gradients_and_accuracy_in_float32():
    grid = SphereGrid.gauss_legendre(5)
    sht, isht = RealSHT(grid, dtype=torch.float64), InverseRealSHT(grid, dtype=torch.float64)
    f = torch.randn(2, 5, 10, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: isht(sht(f)), f)
    grid, c = SphereGrid.gauss_legendre(128), coefficients(127).to(torch.complex64)
    back = RealSHT(grid, dtype=torch.float32)(InverseRealSHT(grid, dtype=torch.float32)(c))
    assert (back - c).norm() / c.norm() < 1e-6


@pytest.mark.parametrize(
    "grid",
    [
        SphereGrid.gauss_legendre(8),
        SphereGrid.equiangular(8, "full_band"),
        SphereGrid.clenshaw_curtis(13, 24),
        SphereGrid.reduced_gauss(8),
    ],
    ids=lambda g: g.name,
)
def test_fewer_coefficients_are_those_of_the_full_transform(grid: SphereGrid) -> None:
    """What lies above them in the signal does not enter."""
    signal = InverseRealSHT(grid, dtype=torch.float64)(
        RealSHT(grid, dtype=torch.float64)(torch.randn(2, *grid.shape).double())
    )
    whole = RealSHT(grid, dtype=torch.float64)(signal)
    for lmax in (0, 3, grid.band):
        part = RealSHT(grid, lmax=lmax, dtype=torch.float64)(signal)
        torch.testing.assert_close(part, whole[:, : lmax + 1, : lmax + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "grid",
    [
        SphereGrid.gauss_legendre(65),
        SphereGrid.equiangular(7, "full_band"),
        SphereGrid.reduced_gauss(9),
        SphereGrid.clenshaw_curtis(7, 12),
    ],
)
def test_gradients_are_the_transposes(grid):
    """The gradient of a linear map is its transpose: <A f, c> = <f, A^T c>, and that of the transpose the map again."""
    analysis, synthesis = RealSHT(grid, dtype=torch.float64), InverseRealSHT(grid, dtype=torch.float64)
    f = torch.randn(2, *grid.shape, dtype=torch.float64)
    c = analysis(torch.randn_like(f))
    for transform, at, along in ((analysis, f, c), (synthesis, c, f)):
        x = torch.zeros_like(at).requires_grad_()
        weight = along.clone().requires_grad_()
        (back,) = torch.autograd.grad(transform(x), x, weight, create_graph=True)
        torch.testing.assert_close(inner(back, at), inner(along, transform(at)), rtol=1e-12, atol=1e-12)
        (again,) = torch.autograd.grad(back, weight, at)
        torch.testing.assert_close(again, transform(at), rtol=1e-12, atol=1e-12)


def inner(a, b):
    """Return the real scalar product."""
    return (a.conj() * b).real.sum()
