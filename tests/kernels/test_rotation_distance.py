"""Distances on SO(3): bounds, symmetries, and the exact one against shooting."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from pdegcnn.kernels.metric import Diagonal
from pdegcnn.kernels.rotation_distance import COORDINATES, energies, energy_table, exact_squared_distance

from ..helpers import SPHERE_CASES

SPACE = SPHERE_CASES[1]
RATIOS = [1 / 25, 0.3, 1.0, 4.0, 25.0]
TABLE = torch.from_numpy(energy_table())


def elements(count: int, reach: float = math.pi) -> torch.Tensor:
    c = torch.randn(count, 3, dtype=torch.float64)
    return SPACE.exp(c / c.norm(dim=-1, keepdim=True) * reach * torch.rand(count, 1, dtype=torch.float64))


def exact(ratio: float, g: torch.Tensor) -> torch.Tensor:
    """Distances for squared weights (ratio, ratio, 1)."""
    v = SPACE.half_angle(g)
    a, c = torch.tensor([ratio, 1.0], dtype=torch.float64)[:, None]
    return exact_squared_distance(TABLE, a, c, torch.hypot(v[:, 0], v[:, 1]), v[:, 2].abs())[0].sqrt()


def weights(ratio: float) -> Diagonal:
    return Diagonal(torch.tensor([[ratio**0.5, ratio**0.5, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize("ratio", RATIOS)
def test_exact_distance_lies_between_its_bounds(ratio: float) -> None:
    g = elements(400)
    angle = SPACE.log(g).norm(dim=-1)
    d = exact(ratio, g)
    longest = weights(ratio).squared_norm(SPACE.log(g))[0].sqrt()
    assert (d >= min(ratio**0.5, 1) * angle * 0.994).all()  # the table is good to half a percent
    assert (d <= longest * 1.006).all()


def test_round_metric_is_the_rotation_angle() -> None:
    g = elements(300)
    torch.testing.assert_close(exact(1.0, g), SPACE.log(g).norm(dim=-1), rtol=5e-4, atol=1e-6)


@pytest.mark.parametrize("name", COORDINATES)
@pytest.mark.parametrize("ratio", RATIOS)
def test_coordinate_norms_are_exact_to_first_order(name: str, ratio: float) -> None:
    g = elements(200, reach=0.02)
    near = weights(ratio).squared_norm(COORDINATES[name](SPACE, g))[0].sqrt()
    torch.testing.assert_close(near, exact(ratio, g), rtol=0.02, atol=0)


@pytest.mark.parametrize("ratio", RATIOS)
@given(seed=st.integers(0, 10**6))
def test_triangle_inequality_and_inverse(ratio: float, seed: int) -> None:
    torch.manual_seed(seed)
    g, h = elements(20), elements(20)
    assert (exact(ratio, SPACE.compose(g, h)) <= 1.01 * (exact(ratio, g) + exact(ratio, h))).all()
    torch.testing.assert_close(exact(ratio, SPACE.inverse(g)), exact(ratio, g))


@pytest.mark.parametrize("ratio", [0.1, 0.5, 6.0])
def test_no_curve_is_shorter(ratio: float) -> None:
    """Piecewise constant velocities with a fixed end, minimised: an independent upper bound that is nearly attained."""
    pieces = 6
    for g in elements(4, reach=2.0):
        goal = SPACE.to_matrix(g)

        def length(x, goal=goal, pieces=pieces):
            v = torch.tensor(x, dtype=torch.float64).view(pieces, 3).requires_grad_()
            q = SPACE.identity()
            for step in v:
                q = SPACE.compose(q, SPACE.exp(step))
            miss = (SPACE.to_matrix(q / q.norm()) - goal).square().sum()
            energy = pieces * (v**2 @ torch.tensor([ratio, ratio, 1.0], dtype=torch.float64)).sum()
            total = energy + 1e4 * miss
            total.backward()
            return float(total), v.grad.flatten().numpy()

        start = (SPACE.log(g) / pieces).repeat(pieces).numpy()
        best = minimize(length, start, jac=True, method="L-BFGS-B", options={"maxiter": 400})
        assert abs(best.fun**0.5 / float(exact(ratio, g[None])) - 1) < 0.02


@pytest.mark.parametrize("ratio", RATIOS)
def test_table_is_within_one_percent_of_the_shooting(ratio: float) -> None:
    tilts = torch.linspace(0.03, 3.1, 17).tolist()
    twists = torch.linspace(0.0, 3.1, 23, dtype=torch.float64)
    for tilt in tilts:
        a, b = energies(tilt, twists.numpy(), ratio)
        wanted = torch.from_numpy(ratio * a + b).sqrt()
        ones = torch.ones(1, dtype=torch.float64)
        got = exact_squared_distance(TABLE, ratio * ones, ones, torch.full_like(twists, tilt), twists)[0].sqrt()
        torch.testing.assert_close(got, wanted, rtol=0.01, atol=0)


def test_gradient_is_that_of_the_distance() -> None:
    """The envelope theorem against differences of the table's own values (which have kinks at its nodes)."""
    g = elements(50)
    v = SPACE.half_angle(g)
    tilt, twist = torch.hypot(v[:, 0], v[:, 1]), v[:, 2].abs()
    a = torch.tensor([1.7], dtype=torch.float64, requires_grad=True)
    c = torch.tensor([0.8], dtype=torch.float64)
    (slope,) = torch.autograd.grad(exact_squared_distance(TABLE, a, c, tilt, twist).sum(), a)
    with torch.no_grad():
        ahead, behind = (exact_squared_distance(TABLE, a + s, c, tilt, twist).sum() for s in (0.05, -0.05))
    torch.testing.assert_close(slope[0], (ahead - behind) / 0.1, rtol=0.02, atol=0)
