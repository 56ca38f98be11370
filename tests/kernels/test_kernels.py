"""Morphological and diffusion kernels, and the filters of the lift."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

import pdegcnn as pg
from pdegcnn.kernels.diffusion import diffusion_profile
from pdegcnn.kernels.filters import BASES, cake_windows, lifting_basis
from pdegcnn.kernels.morphological import morphological_kernel, radius_of_cost


@given(alpha=st.floats(0.55, 1.0), slope=st.floats(0.05, 2.0), time=st.floats(0.3, 3.0))
def test_kernel_is_the_legendre_transform_of_the_power(alpha: float, slope: float, time: float) -> None:
    """``max_d slope d - k_t(d) = t slope^(2 alpha)``."""
    best = time * 2 * alpha * slope ** (2 * alpha - 1)
    d = torch.linspace(0, 2 * best, 20001, dtype=torch.float64)
    value = (slope * d - morphological_kernel(d**2, alpha, time)).max()
    assert value.item() == pytest.approx(time * slope ** (2 * alpha), rel=1e-5)


def test_flat_kernel_and_its_edge() -> None:
    d2 = torch.tensor([0.0, 0.999, 1.0, 1.1], dtype=torch.float64)
    assert morphological_kernel(d2, 0.5).tolist() == [0.0, 0.0, 0.0, math.inf]


@given(alpha=st.floats(0.55, 1.0), cost=st.floats(0.01, 10.0), time=st.floats(0.3, 3.0))
def test_radius_inverts_the_kernel(alpha: float, cost: float, time: float) -> None:
    radius = radius_of_cost(torch.tensor(cost, dtype=torch.float64), alpha, time)
    assert morphological_kernel(radius**2, alpha, time).item() == pytest.approx(cost, rel=1e-9)


def test_gradient_in_alpha_also_at_distance_zero() -> None:
    alpha = torch.tensor(0.65, dtype=torch.float64, requires_grad=True)
    d2 = torch.tensor([0.0, 0.5, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: morphological_kernel(d2[1:], a), alpha)
    (grad,) = torch.autograd.grad(morphological_kernel(d2, alpha).sum(), alpha)
    assert grad.isfinite()


@pytest.mark.parametrize("time", [0.5, 1.0, 2.0])
def test_fractional_profile_meets_its_closed_forms(time: float) -> None:
    d2 = torch.linspace(0, 20, 50, dtype=torch.float64)
    for alpha, near in ((0.5, torch.tensor(0.5)), (1.0, torch.tensor(1 - 1e-9))):
        exact = diffusion_profile(d2, alpha, 3, time)
        mixed = diffusion_profile(d2, near.double(), 3, time)
        torch.testing.assert_close(mixed / mixed[0], exact / exact[0], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.4, 0.65, 0.8, 0.95])
def test_fractional_profile_is_the_fourier_transform_of_the_symbol(alpha: float) -> None:
    """In three dimensions the kernel is ``1/(2 pi^2 r) int k sin(k r) exp(-k^(2 alpha)) dk``."""
    radii = [0.25, 0.5, 1.0, 2.0, 4.0]

    def kernel(r: float) -> float:
        top = 40 ** (1 / (2 * alpha))
        return (
            integrate.quad(lambda k: k * math.exp(-(k ** (2 * alpha))), 0, top, weight="sin", wvar=r, limit=400)[0] / r
        )

    exact = torch.tensor([kernel(r) for r in radii], dtype=torch.float64)
    mixed = diffusion_profile(torch.tensor(radii, dtype=torch.float64) ** 2, torch.tensor(alpha).double(), 3)
    torch.testing.assert_close(mixed / mixed[0], exact / exact[0], rtol=5e-3, atol=0)


def test_profile_gradient_in_power_and_distance() -> None:
    d2 = torch.tensor([0.0, 0.7, 3.0], dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def ratio(d2: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        profile = diffusion_profile(d2, alpha, 3)
        return profile / profile.sum()

    assert torch.autograd.gradcheck(ratio, (d2, alpha))


@pytest.mark.parametrize("orientations", [1, 2, 3, 4, 8, 13])
@pytest.mark.parametrize("shape", [(8, 8), (9, 7), (1, 6)])
def test_cake_wedges_sum_to_one(orientations: int, shape: tuple[int, int]) -> None:
    windows = cake_windows(orientations, *shape)
    torch.testing.assert_close(windows.sum(0), torch.ones(shape, dtype=torch.float64))
    assert (windows >= 0).all()


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("size", [3, 5, 7])
def test_lifting_filters_turn_with_the_grid(basis: str, size: int) -> None:
    functions = lifting_basis(pg.SE2(8), size, basis)
    turned = torch.rot90(functions, -1, dims=(-2, -1)).roll(2, dims=0)
    torch.testing.assert_close(turned, functions, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [5, 7])
def test_harmonics_do_not_see_the_mean(size: int) -> None:
    functions = lifting_basis(pg.SE2(16), size, "steerable")
    sums = functions.sum((-2, -1))
    assert (sums.abs().amax(0) < 1e-10).sum() == functions.shape[1] - (size // 2 + 1)
