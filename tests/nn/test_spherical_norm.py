"""Nonlinearities made of the lengths of coefficients: rotations, Parseval, known values, gradients, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.nn.nonlinearity import coefficient_lengths
from pdegcnn.testing import equivariance_error

from ..helpers import random_rotation, spherical

GRIDS = [pg.sphere.SphereGrid.gauss_legendre(6), pg.sphere.SphereGrid.reduced_gauss(6)]
SPACES = {f"{kind}-{grid.name}": space for grid in GRIDS for kind, space in
          (("S2", pg.S2(grid)), ("SO3", pg.SO3(grid, 5)), ("even fibre", pg.SO3(grid, 4)))}  # fmt: skip
LAYERS: dict[str, Callable[..., nn.Module]] = {"gated": pg.nn.SphereGated, "norm": pg.nn.SphereNormReLU}
EVERY_SPACE = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)


def awake(name: str, space: pg.S2 | pg.SO3, channels: int) -> nn.Module:
    """A layer in float64 with parameters of every sign."""
    layer = LAYERS[name](space, channels, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


@EVERY_LAYER
@EVERY_SPACE
def test_they_commute_with_rotations_and_are_not_linear(space: pg.S2 | pg.SO3, name: str) -> None:
    layer, u = awake(name, space, 3), spherical(space, 3, 2)
    assert equivariance_error(layer, u, space, rotation=random_rotation()) < 1e-12
    once, twice = layer(u).detach(), layer(2 * u).detach()
    assert (twice - 2 * once).norm() > 0.01 * once.norm()


@EVERY_LAYER
def test_they_commute_with_turns_of_the_fibre(name: str) -> None:
    space = pg.SO3(GRIDS[0], 5)
    layer, u = awake(name, space, 3), spherical(space, 3, 2)
    torch.testing.assert_close(layer(u.roll(2, 2)), layer(u).roll(2, 2), atol=1e-13, rtol=0)


@EVERY_SPACE
def test_lengths_sum_to_the_mean_square(space: pg.S2 | pg.SO3) -> None:
    """Parseval: the squared lengths, 2l + 1 times each, sum to the integral of the square."""
    u = spherical(space, 3, 2)
    group = isinstance(space, pg.SO3)
    transform = pg.sphere.SO3FFT(space.grid, space.orientations) if group else pg.sphere.RealSHT(space.grid)
    z = transform.double()(u)
    lengths = coefficient_lengths(z if group else z[..., None])
    degree = torch.arange(lengths.shape[-2], dtype=u.dtype)
    total = ((2 * degree + 1)[:, None] * lengths.square()).sum((-2, -1))
    torch.testing.assert_close(total, 4 * math.pi * pg.nn.GlobalPool(space)(u.square()), atol=1e-9, rtol=0)


def legendre() -> tuple[pg.S2, Tensor]:
    """The Legendre polynomial P_2 of z on the sphere: mean square 1/5, length sqrt(4 pi/25)."""
    space = pg.S2(GRIDS[0])
    return space, ((3 * space.grid.xyz[..., 2].double() ** 2 - 1) / 2)[None, None]


def test_a_single_degree_is_scaled_by_its_length() -> None:
    (space, u), length = legendre(), math.sqrt(4 * math.pi) / 5
    norm, gated = (LAYERS[name](space, 1, dtype=u.dtype) for name in ("norm", "gated"))
    with torch.no_grad():
        norm.get_parameter("bias").fill_(-0.25)
        gated.get_parameter("bias").fill_(-1)
        gated.get_parameter("weight").copy_(torch.tensor([[0.5, 2.0]]))
    torch.testing.assert_close(norm(u), (1 - 0.25 / length) * u, atol=1e-11, rtol=0)
    gate = [1 / (1 + math.exp(-x)) for x in (0.5 * length - 1, 0.5 * length - 7, 3 * math.sqrt(math.pi) - 7)]
    torch.testing.assert_close(gated(u), gate[0] * u, atol=1e-11, rtol=0)
    torch.testing.assert_close(gated(u - 3), gate[1] * u - 3 * gate[2], atol=1e-11, rtol=0)  # the mean keeps its sign


def test_gates_without_weights_halve_the_signal() -> None:
    space = pg.SO3(GRIDS[0], 5)
    layer, u = pg.nn.SphereGated(space, 3).double(), spherical(space, 3, 2)
    nn.init.zeros_(layer.weight)
    torch.testing.assert_close(layer(u), u / 2, atol=1e-13, rtol=0)


def test_channels_gate_each_other_only_where_the_weights_say() -> None:
    space = pg.SO3(GRIDS[0], 5)
    layer, u = awake("gated", space, 2), spherical(space, 2, 2)
    other = u.clone()
    other[:, 1] = spherical(space, 1, 2)[:, 0]
    assert not torch.allclose(layer(u)[:, 0], layer(other)[:, 0])
    with torch.no_grad():
        layer.get_parameter("weight")[0, 1::2] = 0
    torch.testing.assert_close(layer(u)[:, 0], layer(other)[:, 0], atol=1e-13, rtol=0)


@EVERY_LAYER
@pytest.mark.parametrize("group", [False, True])
def test_gradients(group: bool, name: str) -> None:
    grid = pg.sphere.SphereGrid.gauss_legendre(2)
    space = pg.SO3(grid, 3) if group else pg.S2(grid)
    layer = awake(name, space, 2)
    parameters = dict(layer.named_parameters())
    u = torch.randn(1, 2, *((3,) if group else ()), *grid.shape, dtype=torch.float64, requires_grad=True)

    def run(u: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(parameters, values)), (u,))

    assert torch.autograd.gradcheck(run, (u, *parameters.values()))
    assert torch.autograd.gradgradcheck(run, (u, *parameters.values()))


@EVERY_LAYER
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_stays_zero_with_finite_gradients(name: str, dtype: torch.dtype) -> None:
    space = pg.SO3(GRIDS[0], 5)
    layer = LAYERS[name](space, 2, dtype=dtype)
    u = torch.zeros(1, 2, 5, *space.grid.shape, dtype=dtype, requires_grad=True)
    out = layer(u)
    out.sum().backward()
    assert out.dtype == dtype and (out == 0).all()
    assert u.grad is not None and u.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "points": (
        lambda: pg.nn.SphereGated(pg.S2(pg.sphere.SphereGrid.icosahedral(2)), 1),
        ValueError,
        "space.grid: expected a grid of rings",
    ),
    "space": (lambda: pg.nn.SphereGated(pg.R2(), 1), TypeError, "space: expected S2 or SO3, got R2"),
    "no channels": (lambda: pg.nn.SphereGated(pg.S2(GRIDS[0]), 0), ValueError, "channels: expected a positive int"),
    "channels": (
        lambda: pg.nn.SphereGated(pg.S2(GRIDS[0]), 2)(torch.zeros(1, 1, *GRIDS[0].shape)),
        ValueError,
        "u: expected 2 channels",
    ),
    "dtype": (
        lambda: pg.nn.SphereNormReLU(pg.S2(GRIDS[0]), 1)(torch.zeros(1, 1, *GRIDS[0].shape).double()),
        TypeError,
        "u: expected dtype torch.float32 as the parameters",
    ),
    "fibre": (
        lambda: pg.nn.SphereGated(pg.SO3(GRIDS[0], 5), 1)(torch.zeros(1, 1, 4, *GRIDS[0].shape)),
        ValueError,
        "u: expected 5 orientations",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused(name: str) -> None:
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()
