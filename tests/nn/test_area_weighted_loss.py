"""Losses by area: integrals do not depend on where a grid has its points, and what is missing does not count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import pdegcnn as pg

from ..helpers import bumpy_sphere, random_rotation, spherical

GRIDS = pg.sphere.SphereGrid
BALL = pg.SO3(GRIDS.gauss_legendre(8), orientations=4)


def test_it_is_the_integral_of_the_loss() -> None:
    """Of sin(latitude)^2 over the sphere: a third, on every grid; a plain mean says another."""
    for grid in (GRIDS.gauss_legendre(8), GRIDS.clenshaw_curtis(13, 24), GRIDS.equiangular(8)):
        height = torch.cos(torch.tensor(grid.theta, dtype=torch.float64))[:, None].expand(1, 1, *grid.shape)
        loss = pg.nn.AreaWeightedLoss(pg.S2(grid))(height, torch.zeros_like(height))
        assert float(loss) == pytest.approx(1 / 3, abs=1e-12)
        assert abs(float(height.square().mean()) - 1 / 3) > 1e-3 or grid.name == "gauss_legendre"


def test_rotations_of_both_change_nothing() -> None:
    a, b, rotation = spherical(BALL, band=2.0), spherical(BALL, band=2.0), random_rotation()
    a, b = (BALL.transform(BALL.band_limit(u, rotation=rotation), rotation=torch.eye(3).double()) for u in (a, b))
    loss = pg.nn.AreaWeightedLoss(BALL)
    moved = loss(*(BALL.transform(u, rotation=rotation) for u in (a, b)))
    assert float(moved) == pytest.approx(float(loss(a, b)), rel=1e-3)


@pytest.mark.parametrize("space", [pg.R2(), pg.S2(BALL.grid), BALL, bumpy_sphere(1, orientations=3)], ids=str)
def test_what_is_missing_does_not_count(space: pg.spaces.Space) -> None:
    shape = {"R2": (5, 6), "S2": (8, 16), "SO3": (4, 8, 16), "Mesh": (3, 42)}[type(space).__name__]
    x, y = torch.randn(2, 2, 3, *shape, dtype=torch.float64)
    x.requires_grad_()
    mask = torch.rand(x.shape) > 0.3
    loss = pg.nn.AreaWeightedLoss(space, nn.L1Loss(reduction="none"))
    areas = torch.ones(shape[-1]) if space.areas is None else space.areas
    expected = ((x - y).abs() * mask * areas).sum() / (mask * areas).sum()
    came = loss(x, torch.where(mask, y, math.nan), mask)
    torch.testing.assert_close(came, expected)
    (grad,) = torch.autograd.grad(came, x)
    assert grad.isfinite().all() and (grad[~mask] == 0).all() and (grad[mask] != 0).all()
    assert loss(x, y, torch.zeros_like(mask)) == 0
    torch.testing.assert_close(loss(x, y, mask[:1, :1]), loss(x, y, mask[:1, :1].expand(x.shape)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("space", [pg.R2(), pg.S2(GRIDS.gauss_legendre(200))], ids=str)
def test_sums_of_half_precision_do_not_overflow(space: pg.spaces.Space, dtype: torch.dtype) -> None:
    x = torch.full((1, 1, 200, 400), 3.0, dtype=dtype, requires_grad=True)
    loss = pg.nn.AreaWeightedLoss(space)(x, torch.zeros_like(x))
    assert loss == 9.0 and loss.dtype == dtype
    (grad,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(float(grad.float().sum()), 6.0, rtol=0.02, atol=0.0)  # gradients are near the least half


def test_errors() -> None:
    loss, u = pg.nn.AreaWeightedLoss(pg.S2(BALL.grid)), torch.zeros(1, 1, 8, 16)
    for call, message in (
        (lambda: loss(u, u[:, :, :4]), "target: expected shape"),
        (lambda: loss(u[..., :4], u[..., :4]), r"input: expected last axes \(8, 16\)"),
        (lambda: loss(u, u, torch.ones(3, dtype=torch.bool)), "mask: expected a shape that fits"),
        (lambda: pg.nn.AreaWeightedLoss(loss.space, nn.MSELoss())(u, u), "loss: expected the loss of every entry"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
