"""Dilation and erosion between finer samples of the sphere and of SO(3): a composition, and what it is for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import pdegcnn as pg
from pdegcnn import sphere
from pdegcnn.functional import dilation, erosion
from pdegcnn.nn import terms
from pdegcnn.pde import Options, solver_for
from pdegcnn.pde.sphere import SphereSolver, window_sizes
from pdegcnn.pde.sphere_window import window
from pdegcnn.testing import equivariance_error

from ..helpers import random_rotation

SMALL = [
    pg.S2(sphere.SphereGrid.gauss_legendre(4)),
    pg.S2(sphere.SphereGrid.reduced_gauss(5)),
    pg.SO3(sphere.SphereGrid.gauss_legendre(3), 4),
    pg.SO3(sphere.SphereGrid.equiangular(3), 3),
]
KIND: dict[str, Any] = {"dtype": torch.float64}


def shape_of(space: pg.S2 | pg.SO3) -> tuple[int, ...]:
    return (space.orientations, *space.grid.shape) if isinstance(space, pg.SO3) else space.grid.shape


def between(space: pg.S2 | pg.SO3, factors: tuple[int, int]) -> tuple[Any, Any, Any]:
    """The finer space, transforms in both directions, from public transforms."""
    grid, lmax = sphere.SphereGrid.gauss_legendre(factors[1] * (space.grid.band + 1)), space.grid.band
    if isinstance(space, pg.S2):
        up = sphere.RealSHT(space.grid, **KIND), sphere.InverseRealSHT(grid, lmax, **KIND)
        down = sphere.RealSHT(grid, lmax, **KIND), sphere.InverseRealSHT(space.grid, lmax, **KIND)
        return pg.S2(grid), lambda u: up[1](up[0](u)), lambda u: down[1](down[0](u))
    count = space.orientations
    fine, nmax = pg.SO3(grid, factors[0] * count), min((count - 1) // 2, lmax)
    up = (
        sphere.SO3FFT(space.grid, count, **KIND),
        sphere.InverseSO3FFT(grid, fine.orientations, lmax, nmax, **KIND),
    )
    down = (
        sphere.SO3FFT(grid, fine.orientations, lmax, nmax, **KIND),
        sphere.InverseSO3FFT(space.grid, count, **KIND),
    )
    return fine, lambda u: up[1](up[0](u)), lambda u: down[1](down[0](u))


def rough(space: pg.S2 | pg.SO3, channels: int = 2) -> Tensor:
    """Noise whose coefficients fall as one over the degree, of unit deviation."""
    band = space.grid.band
    fade = torch.arange(band + 1, **KIND).clamp_min(1).reciprocal()
    if isinstance(space, pg.S2):
        noise = torch.complex(*torch.randn(2, 1, channels, band + 1, band + 1, **KIND))
        u = sphere.InverseRealSHT(space.grid, **KIND)(noise * fade[:, None])
    else:
        synthesis = sphere.InverseSO3FFT(space.grid, space.orientations, **KIND)
        noise = torch.complex(*torch.randn(2, 1, channels, band + 1, band + 1, 2 * synthesis.nmax + 1, **KIND))
        u = synthesis(noise * fade[:, None, None])
    return u / u.std()


def step_weights(space: pg.S2 | pg.SO3) -> Tensor:
    """Weights for which a step of the grid costs about one, as in a new layer."""
    return 1 / space.metric_scale


@pytest.mark.parametrize("subgrid", [None, "newton"])
@pytest.mark.parametrize("space", SMALL, ids=str)
def test_it_is_the_composition_of_transforms_and_the_term(space: pg.S2 | pg.SO3, subgrid: str | None) -> None:
    factors = (3, 2) if isinstance(space, pg.SO3) else (1, 2)
    fine, up, down = between(space, factors)
    for term, seed in ((dilation, 0), (erosion, 1)):
        torch.manual_seed(seed)
        u = torch.randn(1, 2, *shape_of(space), **KIND, requires_grad=True)
        w = (step_weights(space) * (0.5 + torch.rand(2, space.metric_dim, **KIND))).requires_grad_()
        option: dict[str, Any] = {"kernel_size": "auto", "subgrid": subgrid}
        got = term(u, space, w, oversample=factors, **option)
        expected = down(term(up(u), fine, w, **option))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)
        push = torch.randn_like(got)
        for one, other in zip(torch.autograd.grad(got, (u, w), push), torch.autograd.grad(expected, (u, w), push)):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("space", SMALL, ids=str)
def test_the_window_keeps_its_size(space: pg.S2 | pg.SO3) -> None:
    """Finer samples lie within the same cap and the same twist, nearly up to their edges."""
    solver = solver_for(space, "dilation", Options(kernel_size=3, oversample=3))
    assert isinstance(solver, SphereSolver) and solver.window is not None
    a, x, y, z = torch.from_numpy(solver.window.neighbours.elements).T
    tilt, twist = 2 * torch.atan2(x.hypot(y), a.hypot(z)), 2 * torch.atan2(z, a)
    twist = torch.minimum(twist.remainder(2 * math.pi), (-twist).remainder(2 * math.pi))
    limits = window(space, window_sizes(space, 3))
    for angle, limit in zip((tilt, twist), limits[: 1 + isinstance(space, pg.SO3)]):
        assert 0.6 * limit <= angle.max() <= limit + 1e-6


@pytest.mark.parametrize("space", [SMALL[0], SMALL[2]], ids=str)
def test_gradients(space: pg.S2 | pg.SO3) -> None:
    torch.manual_seed(3)
    u = torch.randn(1, 1, *shape_of(space), **KIND, requires_grad=True)
    w = (step_weights(space) * 0.8)[None].requires_grad_()
    alpha = torch.tensor(0.75, **KIND, requires_grad=True)
    push = torch.randn_like(u)

    def run(u: Tensor, w: Tensor, alpha: Tensor) -> Tensor:
        return (dilation(u, space, w, alpha=alpha, kernel_size=3, oversample=2) * push).sum()

    assert torch.autograd.gradcheck(run, (u, w, alpha))


@pytest.mark.parametrize("size", [(16, None, 0.05), (8, 8, 0.10)], ids=["S2", "SO3"])
def test_rough_signals_turn_with_rotations(size: tuple[int, int | None, float]) -> None:
    """Worst of two rotations: far below what the samples alone give, and a Newton step from there goes further."""
    rings, fibre, limit = size
    grid = sphere.SphereGrid.gauss_legendre(rings)
    space = pg.S2(grid) if fibre is None else pg.SO3(grid, fibre)
    torch.manual_seed(2)
    u, w, turns = rough(space), step_weights(space), [random_rotation() for _ in range(2)]

    def error(**options: Any) -> float:
        return max(
            equivariance_error(lambda u: dilation(u, space, w, **options), u, space, rotation=turn) for turn in turns
        )

    plain, finer, both = error(), error(oversample=2), error(oversample=2, subgrid="newton")
    assert finer < limit and finer < 0.4 * plain
    assert both < 0.6 * finer


@pytest.mark.parametrize("space", [SMALL[0], SMALL[2]], ids=str)
def test_a_factor_of_one_changes_nothing(space: pg.S2 | pg.SO3) -> None:
    u, w = torch.randn(1, 2, *shape_of(space), **KIND), step_weights(space)
    assert torch.equal(dilation(u, space, w, oversample=1), dilation(u, space, w))
    assert torch.equal(dilation(u, space, w, oversample=(1, 1)), dilation(u, space, w))


@pytest.mark.parametrize("space", [SMALL[0], SMALL[2]], ids=str)
def test_large_signals_are_solved_a_few_channels_at_a_time(
    space: pg.S2 | pg.SO3, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = pg.nn.PDELayer(space, 3, 2, ("dilation", "erosion"), oversample=2, dtype=torch.float64).eval()
    u = torch.randn(2, 3, *shape_of(space), **KIND)
    whole, seen, inner = layer(u), [], terms._of_channels
    monkeypatch.setattr(terms, "STREAM_ABOVE", 2 * u.numel())  # the signal is small, its finer samples are many
    monkeypatch.setattr(terms, "_of_channels", lambda p, group: (seen.append(group), inner(p, group))[1])
    with torch.no_grad():
        torch.testing.assert_close(layer(u), whole, rtol=0, atol=1e-12)
    assert {(group.start, group.stop) for group in seen} == {(c, c + 1) for c in range(3)}
