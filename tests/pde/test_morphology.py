"""Dilation and erosion: order, constants, duality, semigroup, the Hamilton-Jacobi limit, automatic kernel size.

Laws of the largest sample hold to the bit with ``oversample=1``; the default also reads between samples.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.functional import dilation, erosion
from pdegcnn.kernels import DISTANCES, METRICS
from pdegcnn.kernels.metric import PLANE_ONLY
from pdegcnn.spaces import GridSpace

from ..cases import signal as any_signal
from ..helpers import GRID_CASES, SPACE_CASES, bump, signal, spd, weights

ALPHAS = (0.5, 0.65, 1.0)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_order_constants_and_duality(space: GridSpace, alpha: float) -> None:
    u, w = signal(space), weights(space)
    out = dilation(u, space, w, alpha=alpha, oversample=1)
    higher = u + torch.rand_like(u)
    assert (dilation(higher, space, w, alpha=alpha, oversample=1) >= out).all()
    assert (out >= u).all()
    assert (out <= u.max()).all()
    torch.testing.assert_close(dilation(u + 3.25, space, w, alpha=alpha, oversample=1), out + 3.25)
    torch.testing.assert_close(
        erosion(u, space, w, alpha=alpha, oversample=1),
        -dilation(-u, space, w, alpha=alpha, oversample=1),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("space", GRID_CASES, ids=str)
@given(seed=st.integers(0, 10**6))
def test_dilation_of_a_maximum_is_the_maximum_of_dilations(space: GridSpace, seed: int) -> None:
    torch.manual_seed(seed)
    u, v, w = signal(space, (5, 6)), signal(space, (5, 6)), weights(space)
    both = dilation(torch.maximum(u, v), space, w, oversample=1)
    torch.testing.assert_close(
        both, torch.maximum(*(dilation(x, space, w, oversample=1) for x in (u, v))), rtol=0, atol=0
    )


@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_opening_and_closing_are_idempotent(space: GridSpace) -> None:
    """For the flat kernel, and any kernel on the grid: erosion and dilation are adjoint."""
    u, w = signal(space), weights(space)

    def opening(u: torch.Tensor) -> torch.Tensor:
        return dilation(erosion(u, space, w, alpha=0.5, oversample=1), space, w, alpha=0.5, oversample=1)

    once = opening(u)
    assert (once <= u).all()
    torch.testing.assert_close(opening(once), once, rtol=0, atol=0)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("alpha", [0.65, 1.0])
def test_auto_size_cuts_no_tap_that_could_win(distance: str, alpha: float) -> None:
    for space in (pg.SE2(8), pg.R2(), pg.R3((1.5, 1.0, 0.8))):
        if not space.has_orientations and distance in ("sub_riemannian", "combined"):
            continue
        u, w = signal(space, (7, 8)), weights(space, low=0.4)
        everything = (9, 15, 17)[-space.dim :]
        exact = dilation(u, space, w, alpha=alpha, distance=distance, kernel_size=everything)
        auto = dilation(u, space, w, alpha=alpha, distance=distance, kernel_size="auto")
        torch.testing.assert_close(auto, exact, rtol=0, atol=0)


@pytest.mark.parametrize("form", METRICS)
def test_auto_size_on_every_metric_form(form: str) -> None:
    space = pg.R2() if form in PLANE_ONLY else pg.SE2(4)
    u = signal(space, (6, 6))
    metric = METRICS[form].from_raw(0.5 * torch.randn(2, *METRICS[form].raw_shape(space.dim), dtype=torch.float64))
    everything = (5, 11, 11)[-space.dim :]
    exact = dilation(u, space, metric, kernel_size=everything)
    torch.testing.assert_close(dilation(u, space, metric, kernel_size="auto"), exact, rtol=0, atol=0)


def cone(size: int, slope: float) -> torch.Tensor:
    line = (torch.arange(size, dtype=torch.float64) - size // 2) * slope
    return -(line[:, None] ** 2 + line**2)[None, None]


@pytest.mark.parametrize("alpha", [0.65, 0.8, 1.0])
def test_semigroup_gets_exact_with_resolution(alpha: float) -> None:
    """``k_s [] k_t = k_(s+t)``: exact in the continuum, up to the grid here, as pixels get finer."""

    def error(size: int) -> float:
        h = 8.0 / size  # the length of a pixel
        u = bump(pg.R2(), size, 1.0 / h)
        w = torch.full((1, 2), h, dtype=torch.float64)
        halves = u
        for _ in range(2):
            halves = dilation(halves, pg.R2(), w, alpha=alpha, time=0.5, kernel_size=size)
        return float((halves - dilation(u, pg.R2(), w, alpha=alpha, kernel_size=size)).abs().max())

    coarse, fine = error(17), error(33)
    assert fine < 0.6 * coarse
    assert fine < 0.05


def test_quadratic_cap_follows_the_hamilton_jacobi_equation() -> None:
    """``u_t = |grad u|^2`` from ``-a |x|^2`` gives ``-a |x|^2 / (1 + 4 a t)``; the error falls as the square of h."""

    def error(size: int, a: float = 0.5, t: float = 0.3) -> float:
        h = 4.0 / size
        u, w = a * cone(size, h), torch.full((1, 2), h, dtype=torch.float64)
        out = dilation(u, pg.R2(), w, alpha=1.0, time=t, kernel_size=size - (size + 1) % 2)
        middle = slice(size // 4, -(size // 4))
        return float((out - u / (1 + 4 * a * t))[..., middle, middle].abs().max())

    coarse, fine = error(15), error(45)  # a third of the step
    assert fine < coarse / 5


def test_dilation_on_se2_is_that_of_the_plane_for_signals_without_orientation() -> None:
    """For a metric isotropic in the plane: turning gains nothing, so the kernels agree where they matter."""
    plane, space = pg.R2(), pg.SE2(8)
    image = signal(plane, (8, 9))
    w = torch.tensor([[0.7, 0.7, 1.1]], dtype=torch.float64)
    lifted = dilation(image.unsqueeze(2).expand(-1, -1, 8, -1, -1).contiguous(), space, w)
    expected = dilation(image, plane, w[:, :2])
    torch.testing.assert_close(lifted, expected.unsqueeze(2).expand_as(lifted))


def test_dilation_on_se2_is_that_of_the_circle_for_signals_without_position() -> None:
    space = pg.SE2(12)
    line = torch.randn(12, dtype=torch.float64)
    u = line[:, None, None].expand(1, 1, 12, 5, 5).contiguous()
    out = dilation(u, space, torch.tensor([0.8, 1.3, 0.9]).double(), alpha=1.0, kernel_size=(13, 3, 3), oversample=1)
    steps = torch.arange(12)
    away = (steps[:, None] - steps).abs()
    turn = torch.minimum(away, 12 - away) * (2 * math.pi / 12)
    expected = (line - (0.9 * turn) ** 2 / 4).amax(1)
    torch.testing.assert_close(out, expected[:, None, None].expand_as(u))


@pytest.mark.parametrize("alpha", (0.5, 0.65))
@pytest.mark.parametrize("space", SPACE_CASES, ids=str)
def test_a_power_in_a_tensor_is_the_number(space: pg.spaces.Space, alpha: float) -> None:
    """Also the lowest one, whose kernel is flat."""
    u, w = any_signal(space).double(), torch.ones(space.metric_dim, dtype=torch.float64)
    for term in (dilation, erosion):
        expected = term(u, space, w, alpha=alpha, kernel_size=3)
        for shape in ((), (1, 1)):
            got = term(u, space, w, alpha=torch.full(shape, alpha, dtype=torch.float64), kernel_size=3)
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("term", [dilation, erosion])
@pytest.mark.parametrize("space", [pg.R2(), pg.SE2(4), pg.R3(0.7)], ids=str)
def test_gradients_in_signal_metric_and_power(space: GridSpace, term) -> None:
    """White noise keeps clear of ties."""
    u = signal(space, (4, 4) if space.is_periodic else (2, 3)).requires_grad_()
    alpha = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def run(u: torch.Tensor, w: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return term(u, space, w, alpha=alpha, kernel_size=3)

    assert torch.autograd.gradcheck(run, (u, weights(space).requires_grad_(), alpha))

    def full(u: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
        return term(u, space, lower @ lower.mT, kernel_size=3)

    assert torch.autograd.gradcheck(full, (u, torch.linalg.cholesky(spd(space)).requires_grad_()))
