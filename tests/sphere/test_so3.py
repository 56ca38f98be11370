"""Laws of the transforms on SO(3) and of spin-weighted transforms."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from pdegcnn.sphere import SO3FFT, InverseSO3FFT, InverseSpinSHT, RealSHT, SphereGrid, SpinSHT

GRIDS = {
    "gauss": SphereGrid.gauss_legendre,
    "driscoll_healy": SphereGrid.equiangular,
    "full_band": lambda n: SphereGrid.equiangular(n, "full_band"),
    "poles": lambda n: SphereGrid.clenshaw_curtis(n + 1, 2 * n) if n > 1 else SphereGrid.clenshaw_curtis(3),
    "reduced": SphereGrid.reduced_gauss,
}


def small_d(degree, beta):
    """exp(-i beta J_y) in the basis m = -l..l, from the definition."""
    m = np.arange(-degree, degree)
    ladder = np.diag(np.sqrt(degree * (degree + 1.0) - m * (m + 1.0)), -1)
    return expm(-1j * beta * (ladder - ladder.T) / 2j).real


def coefficients(lmax, nmax, seed=0):
    """Random coefficients of a real signal: no l < max(m, |n|), and at m = 0 the symmetry in n."""
    draw = torch.Generator().manual_seed(seed)
    W = torch.randn(2, lmax + 1, lmax + 1, 2 * nmax + 1, dtype=torch.complex128, generator=draw)
    degree, n = torch.arange(lmax + 1), torch.arange(-nmax, nmax + 1)
    W = W * ((degree[:, None, None] >= degree[:, None]) & (degree[:, None, None] >= n.abs()))
    W[..., 0, :] = (W[..., 0, :] + (1 - 2 * (n % 2)) * W[..., 0, :].flip(-1).conj()) / 2
    return W


def test_is_the_sum_of_wigner_functions():
    grid, fibre, lmax = SphereGrid.gauss_legendre(5), 8, 4
    f = torch.zeros(fibre, *grid.shape, dtype=torch.complex128)
    W = coefficients(lmax, 3)[0]
    gamma = 2 * np.pi * np.arange(fibre) / fibre
    phi = 2 * np.pi * np.arange(grid.nlon) / grid.nlon
    for degree, n in itertools.product(range(lmax + 1), range(-3, 4)):
        for (i, theta), m in itertools.product(enumerate(grid.theta), range(-degree, degree + 1)):
            if abs(n) > degree:
                continue
            w = W[degree, m, 3 + n] if m >= 0 else (-1) ** (m + n) * W[degree, -m, 3 - n].conj()
            value = np.sqrt((2 * degree + 1) / (4 * np.pi)) * small_d(degree, theta)[degree + m, degree + n]
            f[:, i] += w * torch.from_numpy(value * np.exp(1j * (n * gamma[:, None] + m * phi)))
    assert f.imag.abs().max() < 1e-13
    got = InverseSO3FFT(grid, fibre, dtype=torch.float64)(W)
    torch.testing.assert_close(got, f.real, rtol=0, atol=1e-13)


@settings(max_examples=25)
@given(kind=st.sampled_from(sorted(GRIDS)), size=st.integers(1, 33), fibre=st.integers(1, 20), seed=st.integers(0, 99))
def test_roundtrip_parseval_and_fibre_mean(kind, size, fibre, seed):
    grid = GRIDS[kind](size)
    fft, ifft = SO3FFT(grid, fibre, dtype=torch.float64), InverseSO3FFT(grid, fibre, dtype=torch.float64)
    W = coefficients(size - 1, fft.nmax, seed)
    f = ifft(W)
    assert (fft(f) - W).abs().max() < 1e-12
    mean = RealSHT(grid, dtype=torch.float64)(f.mean(1))
    torch.testing.assert_close(mean, W[..., fft.nmax], rtol=0, atol=1e-12)
    if grid.degree >= 2 * (size - 1):
        energy = W.abs().square()
        energy = 2 * energy.sum((-3, -2, -1)) - energy[..., 0, :].sum((-2, -1))
        torch.testing.assert_close(
            (f.square() * grid.weights).flatten(2).sum((1, 2)) / fibre, energy, rtol=1e-12, atol=0
        )


def test_turning_the_fibre_and_the_axis_are_phases():
    grid = SphereGrid.gauss_legendre(6)
    fft, ifft = SO3FFT(grid, 9, dtype=torch.float64), InverseSO3FFT(grid, 9, dtype=torch.float64)
    W = coefficients(5, 4)
    n, m = torch.arange(-4.0, 5.0, dtype=torch.float64), torch.arange(6.0, dtype=torch.float64)[:, None]
    turned = fft(ifft(W).roll((2, 3), (-3, -1)))
    phase = torch.exp(-2j * torch.pi * (2 * n / 9 + 3 * m / 12))
    torch.testing.assert_close(turned, W * phase, rtol=0, atol=1e-13)


def test_precision_memory_and_copies():
    grid, W = SphereGrid.gauss_legendre(32), coefficients(31, 7)
    fft, ifft = (copy.deepcopy(t(grid, 16, dtype=torch.float32)) for t in (SO3FFT, InverseSO3FFT))
    back = fft(ifft(W.to(torch.complex64)))
    assert (back - W).norm() / W.norm() < 1e-6
    assert fft(ifft(W.to(torch.complex64)).half()).dtype == torch.complex64
    assert (fft.double()(ifft.double()(W)) - W).abs().max() < 1e-12
    assert not fft.state_dict()
    full = SO3FFT(grid, 64, device="meta", dtype=torch.float32)  # all |n| <= 31
    assert sum(b.numel() * b.element_size() for b in full.buffers()) < 8 * 2**20
    assert full(torch.empty(3, 64, 32, 64, device="meta")).shape == (3, 32, 32, 63)


def test_gradients():
    grid = SphereGrid.gauss_legendre(3)
    fft, ifft = SO3FFT(grid, 6, dtype=torch.float64), InverseSO3FFT(grid, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: ifft(fft(f)), torch.randn(6, 3, 6, dtype=torch.float64).requires_grad_())


@settings(max_examples=25)
@given(kind=st.sampled_from(sorted(GRIDS)), size=st.integers(1, 40), spin=st.integers(-9, 9), seed=st.integers(0, 99))
def test_spin_roundtrip_and_parseval(kind, size, spin, seed):
    spin, grid = max(min(spin, size - 1), 1 - size), GRIDS[kind](size)
    draw = torch.Generator().manual_seed(seed)
    a = torch.randn(2, size, 2 * size - 1, dtype=torch.complex128, generator=draw)
    lowest = torch.arange(1 - size, size).abs().clamp(min=abs(spin))
    a = a * (torch.arange(size)[:, None] >= lowest)
    f = InverseSpinSHT(grid, spin, dtype=torch.float64)(a)
    assert (SpinSHT(grid, spin, dtype=torch.float64)(f) - a).abs().max() < 1e-12
    if grid.degree >= 2 * (size - 1):
        energy = (f.abs().square() * grid.weights).flatten(1).sum(1)
        torch.testing.assert_close(energy, a.abs().square().sum((-2, -1)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("spin", [-3, -1, 0, 1, 2])
def test_spin_harmonics_by_their_definition(spin):
    grid, lmax = SphereGrid.gauss_legendre(5), 4
    isht = InverseSpinSHT(grid, spin, dtype=torch.float64)
    phi = 2 * np.pi * np.arange(grid.nlon) / grid.nlon
    for degree in range(abs(spin), lmax + 1):
        for m in range(-degree, degree + 1):
            a = torch.zeros(5, 9, dtype=torch.complex128)
            a[degree, lmax + m] = 1
            d = np.array([small_d(degree, theta)[degree + m, degree - spin] for theta in grid.theta])
            want = (-1) ** spin * np.sqrt((2 * degree + 1) / (4 * np.pi)) * d[:, None] * np.exp(1j * m * phi)
            np.testing.assert_allclose(isht(a).numpy(), want, atol=1e-13)


def test_spin_zero_and_fibre_orders_are_the_other_transforms():
    grid = SphereGrid.gauss_legendre(8)
    f = torch.randn(2, 7, *grid.shape, dtype=torch.float64)
    c, a = RealSHT(grid, dtype=torch.float64)(f), SpinSHT(grid, 0, dtype=torch.float64)(f.to(torch.complex128))
    torch.testing.assert_close(a[..., 7:], c, rtol=0, atol=1e-13)
    W = SO3FFT(grid, 7, dtype=torch.float64)(f)
    for n in (-3, 1, 2):
        order = torch.fft.fft(f, dim=1)[:, n] / 7 * (-1) ** n
        a = SpinSHT(grid, -n, dtype=torch.float64)(order)[..., 7:]
        torch.testing.assert_close(W[..., 3 + n], a, rtol=0, atol=1e-13)


def test_large_degrees_stay_exact():
    """Orthogonality at the largest degree the tables are made for, at orders where start values underflow."""
    from pdegcnn.sphere._legendre import legendre_block

    x, w = np.polynomial.legendre.leggauss(513)
    for spin, first in itertools.product((0, 1, 40), (0, 37, 200, 400)):
        table = legendre_block(512, range(first, first + 1), x, spin)[0][max(spin - first, 0) :]
        # A rounded cosine next to the pole moves the functions by l^2 eps = 3e-11, in a small part of the area.
        np.testing.assert_allclose((table * (2 * np.pi * w)) @ table.T, np.eye(len(table)), atol=2e-11)
