"""Diffusion: mass, maximum principle, semigroup, known solutions, agreement of kernel and spectral methods."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.functional import diffusion
from pdegcnn.ops.matrix_function import fractional_exponential
from pdegcnn.spaces import GridSpace

from ..helpers import GRID_CASES, bump, signal, spd, weights

ALPHAS = (0.5, 0.65, 1.0)
ORIENTED = [s for s in GRID_CASES if s.has_orientations]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_kernel_method_is_a_mean(space: GridSpace, alpha: float) -> None:
    u, w = signal(space), weights(space)
    for metric in (w, spd(space)):
        out = diffusion(u, space, metric, alpha=alpha)
        assert out.min() >= u.min() - 1e-12
        assert out.max() <= u.max() + 1e-12
    torch.testing.assert_close(diffusion(torch.ones_like(u), space, w, alpha=alpha), torch.ones_like(u))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_a_metric_near_zero_gives_the_mean(space: GridSpace, alpha: float) -> None:
    u = signal(space).float()
    mean = u.mean(tuple(range(2, u.ndim)), keepdim=True).expand_as(u)
    for metric in (torch.full((space.dim,), 1e-38), 1e-38 * torch.eye(space.dim).repeat(u.shape[1], 1, 1)):
        torch.testing.assert_close(diffusion(u, space, metric, alpha=alpha), mean)


@pytest.mark.parametrize("method", ["kernel", "spectral"])
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_mass_is_conserved(space: GridSpace, alpha: float, method: str) -> None:
    u = signal(space)
    out = diffusion(u, space, weights(space), alpha=alpha, method=method, boundary="periodic")
    torch.testing.assert_close(out.sum((-2, -1)).sum(), u.sum((-2, -1)).sum(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("space", GRID_CASES, ids=str)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0.1, 1.0), s=st.floats(0.1, 2.0), t=st.floats(0.1, 2.0))
def test_spectral_method_is_a_semigroup(space: GridSpace, seed: int, alpha: float, s: float, t: float) -> None:
    torch.manual_seed(seed)
    u, metric = signal(space, (5, 4)), spd(space)

    def step(u: torch.Tensor, time: float) -> torch.Tensor:
        return diffusion(u, space, metric, alpha=alpha, time=time, method="spectral")

    torch.testing.assert_close(step(step(u, s), t), step(u, s + t), atol=1e-10, rtol=0)
    assert step(u, s).norm() <= u.norm() * (1 + 1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_spectral_method_solves_plane_waves(alpha: float) -> None:
    n, w = 12, torch.tensor([0.7, 1.4], dtype=torch.float64)
    x = torch.arange(n, dtype=torch.float64)
    for kx, ky in ((1, 0), (2, 3), (-1, 2)):
        omega = 2 * math.pi / n * torch.tensor([kx, ky], dtype=torch.float64)
        u = torch.cos(omega[0] * x + omega[1] * x[:, None])[None, None]
        rate = ((omega / w) ** 2).sum() ** alpha
        out = diffusion(u, pg.R2(), w, alpha=alpha, method="spectral")
        torch.testing.assert_close(out, torch.exp(-rate) * u, atol=1e-12, rtol=0)


def test_spectral_method_solves_the_heat_equation_of_the_frame() -> None:
    """For small t, ``(u_t - u)/t`` tends to ``sum_ij D_ij A_i A_j u`` with derivatives taken another way."""
    space, t = pg.SE2(16), 1e-6
    u, metric = bump(space, 21, 3.0), spd(space, 1)
    d = torch.linalg.inv(metric)[0]
    line = 2 * math.pi * torch.fft.fftfreq(21, dtype=torch.float64)
    turns = torch.fft.fftfreq(16, d=1 / 16, dtype=torch.float64)
    a = space.angles[:, None, None]

    def derive(v: torch.Tensor, i: int) -> torch.Tensor:
        if i == 2:
            return torch.fft.ifft(1j * turns[:, None, None] * torch.fft.fft(v, dim=2), dim=2).real
        spectrum = torch.fft.fft2(v)
        dx = torch.fft.ifft2(1j * line * spectrum).real
        dy = torch.fft.ifft2(1j * line[:, None] * spectrum).real
        return a.cos() * dx + a.sin() * dy if i == 0 else -a.sin() * dx + a.cos() * dy

    expected = sum(d[i, j] * derive(derive(u, j), i) for i in range(3) for j in range(3))
    got = (diffusion(u, space, metric, time=t, method="spectral") - u) / t
    assert (got - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("alpha", [0.65, 1.0])
def test_kernel_method_approaches_the_exact_one_on_the_plane(alpha: float) -> None:
    """On the plane the kernel is exact except for box and sampling; heavy tails wrap around and leave any box."""
    u = bump(pg.R2(), 41, 4.0)
    w = torch.full((1, 2), 0.8, dtype=torch.float64)
    exact = diffusion(u, pg.R2(), w, alpha=alpha, method="spectral")
    out = diffusion(u, pg.R2(), w, alpha=alpha, kernel_size=41, boundary="periodic")
    assert (out - exact).norm() / exact.norm() < (0.005 if alpha == 1.0 else 0.03)


def test_kernel_method_approaches_the_exact_one_on_se2() -> None:
    space = pg.SE2(12)
    u = bump(space, 25, 3.0)
    w = torch.tensor([[0.9, 0.9, 1.6]], dtype=torch.float64)
    exact = diffusion(u, space, w, method="spectral")
    assert (diffusion(u, space, w, kernel_size=(13, 11, 11)) - exact).norm() / exact.norm() < 0.02


def test_auto_size_keeps_the_mass_of_a_gaussian() -> None:
    u, w = bump(pg.R2(), 41, 3.0), torch.full((1, 2), 0.5, dtype=torch.float64)
    auto, wide = (diffusion(u, pg.R2(), w, kernel_size=k) for k in ("auto", 41))
    assert (auto - wide).abs().max() < 1e-4


@pytest.mark.parametrize("method", ["kernel", "spectral"])
@pytest.mark.parametrize("space", [pg.R2(), pg.SE2(4), pg.R3(0.7)], ids=str)
def test_gradients_in_signal_metric_and_power(space: GridSpace, method: str) -> None:
    u = signal(space, (3, 4) if space.is_periodic else (2, 2)).requires_grad_()
    alpha = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    size = None if method == "spectral" else 3

    def run(u: torch.Tensor, metric: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return diffusion(u, space, metric, alpha=alpha, kernel_size=size, method=method)

    assert torch.autograd.gradcheck(run, (u, weights(space).requires_grad_(), alpha))

    def full(u: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
        return diffusion(u, space, raw @ raw.mT, alpha=1.0, kernel_size=size, method=method)

    assert torch.autograd.gradcheck(full, (u, torch.linalg.cholesky(spd(space)).requires_grad_()))


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_matrix_function_where_eigenvalues_meet(kind: torch.dtype) -> None:
    """A Laplacian on a circle has pairs of equal eigenvalues and a null vector; plain eigh has no gradient there."""
    n = 6
    shift = torch.eye(n, dtype=kind).roll(1, dims=0)
    matrix = 2 * torch.eye(n, dtype=kind) - shift - shift.mH
    scale = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, a: fractional_exponential(s * matrix, a), (scale, alpha))
    expected = torch.matrix_exp(-matrix)
    torch.testing.assert_close(fractional_exponential(matrix, 1.0), expected)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("weights", [(1.0, 0.5, 0.01), (0.6, 2.0, 0.003), (100.0, 1.0, 0.03)], ids=str)
def test_slow_modes_are_right_beside_fast_ones_in_float32(alpha: float, weights: tuple[float, ...]) -> None:
    """Turns may diffuse a million times as fast as positions: the spectral solver keeps what it does to both."""
    torch.manual_seed(0)
    u, metric = torch.randn(1, 1, 7, 12, 12, dtype=torch.float64), torch.tensor(weights).double()
    found = []
    for dtype in (torch.float32, torch.float64):
        chosen = metric.to(dtype).requires_grad_()
        out = diffusion(u.to(dtype), pg.SE2(7), chosen, alpha=alpha, method="spectral")
        out.square().sum().backward()
        assert chosen.grad is not None
        found.append((out.detach().double(), chosen.grad.double() * metric))
    for single, double in zip(*found):
        assert (single - double).norm() < 1e-4 * double.norm()
