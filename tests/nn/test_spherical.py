"""Layers on the sphere and on SO(3): what they compute, batch norm, whole networks, bad input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.spaces.so3 import to_real_fibre
from pdegcnn.testing import equivariance_error

from ..helpers import SPHERE_CASES, random_rotation, spherical

S2, SO3 = SPHERE_CASES[:2]
BASE = pg.S2(SO3.grid)


def thresholds(layer: nn.Module) -> nn.Module:
    """Biases that put some lengths to zero and leave others."""
    nn.init.uniform_(layer.bias, -1, 0.5)  # pyright: ignore
    return layer


@pytest.mark.parametrize(
    "distance, metric", [("logarithmic", "diagonal"), ("tilt_twist", "spd"), ("exact", "axisymmetric")]
)
def test_the_whole_network_nearly_commutes(distance: str, metric: str) -> None:
    """A smooth signal through lift, all four terms and projection; the error is the grid's, and falls with it."""
    errors = []
    for size in (8, 16):
        torch.manual_seed(3)
        space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(size), orientations=8)
        model = nn.Sequential(
            pg.nn.Lift(space, 1, 3),
            pg.nn.PDELayer(space, 3, 3, alpha=0.9, distance=distance, metric=metric),
            pg.nn.Project(space, mode="max"),
        ).double()
        x = spherical(pg.S2(space.grid), channels=1, band=2.0)
        model(x)
        errors.append(sum(equivariance_error(model, x, space, rotation=random_rotation()) for _ in range(2)) / 2)
    assert errors[1] < errors[0] < 0.2


def test_batch_norm_does_not_see_rotations() -> None:
    norm = pg.nn.BatchNorm(2, S2).double()
    x = spherical(S2, batch=3)
    moved = S2.transform(x, rotation=random_rotation())
    torch.testing.assert_close(S2.transform(moved, rotation=torch.eye(3, dtype=torch.float64)), moved)
    norm(x)
    first = norm.running_mean.clone(), norm.running_var.clone()
    norm.reset_running_stats()
    norm(moved)
    # means are integrals of the band; variances of its square, which the grid integrates exactly as well
    torch.testing.assert_close((norm.running_mean, norm.running_var), first)


def test_batch_norm_is_that_of_torch_where_points_are_equal() -> None:
    ours, theirs = pg.nn.BatchNorm(2, S2).double(), nn.BatchNorm2d(2).double()
    ours.point_weights = torch.ones_like(ours.point_weights)
    x = torch.randn(3, 2, *S2.grid.shape, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_gradients_of_batch_norm() -> None:
    space = pg.SO3(SO3.grid, orientations=3)
    norm = pg.nn.BatchNorm(2, space).double()
    u = torch.randn(2, 2, space.orientations, *space.grid.shape, dtype=torch.float64, requires_grad=True)
    nn.init.normal_(norm.weight)

    def by_definition(u: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        share = norm.point_weights / norm.point_weights.sum() / u.shape[2] / len(u)
        mean = (u * share).sum((0, 2, 3, 4), keepdim=True)
        variance = ((u - mean) ** 2 * share).sum((0, 2, 3, 4), keepdim=True)
        weight, bias = (x.view(-1, 1, 1, 1) for x in (weight, bias))
        return weight * (u - mean) / (variance + norm.eps).sqrt() + bias

    inputs = (u, norm.weight, norm.bias)
    target = torch.randn_like(u)
    found, expected = norm(u), by_definition(*inputs)
    torch.testing.assert_close(found, expected)
    first = [torch.autograd.grad((y * target).sum(), inputs, create_graph=True) for y in (found, expected)]
    torch.testing.assert_close(*first)
    second = [torch.autograd.grad(sum(g.square().sum() for g in grads), inputs[:2]) for grads in first]
    torch.testing.assert_close(*second)
    per_sample = torch.func.vmap(torch.func.grad(lambda v: norm(v[None]).square().sum() / 2), randomness="same")
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    one = u[:1].detach().requires_grad_()
    expected = torch.autograd.grad(by_definition(one, norm.weight, norm.bias).square().sum() / 2, one)[0]
    torch.testing.assert_close(per_sample(u.detach())[:1], expected)


def test_cake_lift_loses_nothing() -> None:
    lift = pg.nn.Lift(SO3, 1, 1, filters="cake").double()
    with torch.no_grad():
        lift.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 1, 2))
    x = spherical(BASE, channels=1)
    torch.testing.assert_close(lift(x).mean(2), x)


def test_lift_is_the_correlation_integral() -> None:
    """Against quadrature: the value at R is the integral of the signal times the filter moved by R."""
    space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(8), orientations=7)
    lift = pg.nn.Lift(space, 1, 1, kernel_size=7).double()
    x = spherical(pg.S2(space.grid), channels=1)
    out = lift(x)
    psi = lift.filter_coefficients()[0, 0]
    kernel = psi.new_zeros(8, 8)
    kernel[:, : lift.max_frequency + 1] = psi[:, lift.max_frequency :]
    for k, i, j in ((0, 0, 0), (2, 3, 5), (6, 7, 1)):
        p = space.grid.xyz[i, j]
        angles = [torch.atan2(p[1], p[0]), torch.acos(p[2]), torch.tensor(2 * torch.pi * k / 7, dtype=torch.float64)]
        axes = torch.eye(3, dtype=torch.float64)[[2, 1, 2]]
        q = space.identity()
        for angle, axis in zip(angles, axes):
            q = space.compose(q, space.exp(angle * axis))
        moved = pg.sphere.rotate_coefficients(kernel, space.to_matrix(q))
        filter_there = pg.sphere.InverseRealSHT(space.grid, dtype=torch.float64)(moved)
        value = (x[0, 0] * filter_there * space.grid.weights).sum()
        torch.testing.assert_close(out[0, 0, k, i, j], value, atol=1e-10, rtol=0)


def test_convolution_holds_every_linear_layer() -> None:
    """Convection is one such map: with a knot for every degree some weights give it exactly."""
    conv = pg.nn.SphereConv(SO3, 1, 1, num_radial=6, bias=False).double()
    step = pg.nn.Convection(SO3, 1).double()
    x = spherical(SO3, channels=1, batch=1)
    columns = pg.sphere.SO3FFT(SO3.grid, SO3.orientations, dtype=torch.float64)
    u, v = (to_real_fibre(columns(signal))[0, 0] for signal in (x, step(x)))  # [l,m,n]
    with torch.no_grad():
        for degree in range(6):
            before, after = (torch.cat((w[degree].real, w[degree].imag)) for w in (u, v))
            conv.weight[0, 0, degree] = torch.linalg.lstsq(before, after, driver="gelsd").solution
    torch.testing.assert_close(conv(x), step(x), atol=1e-9, rtol=0)
    other = spherical(SO3, channels=1)
    rotation = random_rotation()
    assert equivariance_error(conv, other, SO3, rotation=rotation) < 1e-12


def test_norm_and_finer_maximum() -> None:
    u = spherical(SO3)
    torch.testing.assert_close(pg.nn.Project(SO3, "norm")(u), u.pow(2).mean(2).sqrt())
    coarse, fine = pg.nn.Project(SO3, "max")(u), pg.nn.Project(SO3, "max", oversample=4)(u)
    assert (fine >= coarse - 1e-12).all() and (fine > coarse + 1e-3).any()


@pytest.mark.parametrize("space", [BASE, SO3], ids=["S2", "SO3"])
def test_lengths_of_coefficients(space: pg.S2 | pg.SO3) -> None:
    """No bias changes nothing, a great threshold leaves nothing, and the gradient at zero is finite."""
    u = spherical(space, 2, 2)
    layer = pg.nn.SphereNormReLU(space, 2, dtype=u.dtype)
    nn.init.zeros_(layer.bias)
    torch.testing.assert_close(layer(u), u, atol=1e-6, rtol=0)
    nn.init.constant_(layer.bias, -100.0)
    assert (layer(u) == 0).all()
    thresholds(layer)
    zero = torch.zeros_like(u).requires_grad_()
    layer(zero).sum().backward()
    assert zero.grad is not None and zero.grad.isfinite().all()
    assert torch.autograd.gradcheck(layer, u[:1].requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("space", [BASE, SO3], ids=["S2", "SO3"])
def test_finer_maximum_is_more_invariant(space: pg.S2 | pg.SO3) -> None:
    """The maximum of the samples is below that of the function by a second-order term in their distance."""
    u = spherical(space, 8, 8)
    turned = space.transform(u, rotation=random_rotation())
    errors = []
    for oversample in (1, 2, 4):
        greatest = pg.nn.GlobalPool(space, "max", oversample=oversample, dtype=u.dtype)
        errors.append(float((greatest(u) - greatest(turned)).norm() / greatest(u).norm()))
    assert errors[1] < 0.5 * errors[0] and errors[2] < 0.5 * errors[1]


@pytest.mark.parametrize("space", [BASE, SO3], ids=["S2", "SO3"])
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_the_maximum_has_the_gradients_of_amax(space: pg.S2 | pg.SO3, levels: int) -> None:
    """Also where places share it, at NaN and infinity, and for second derivatives."""
    u = spherical(space, 3, 2).mul(levels).round()
    u.flatten(2)[0, 1, 3], u.flatten(2)[1, 2, 5] = torch.nan, torch.inf
    u.requires_grad_()
    weight = torch.arange(1.0, 7.0, dtype=u.dtype).view(2, 3)

    def derivatives(greatest: Callable[[Tensor], Tensor]) -> list[Tensor]:
        out = greatest(u)
        (once,) = torch.autograd.grad((out * weight).sum(), u, retain_graph=True)
        (through,) = torch.autograd.grad((out.nan_to_num(0, 0) ** 2).sum(), u, create_graph=True)
        (twice,) = torch.autograd.grad(through.nan_to_num().sum(), u)
        return [out.detach(), once, through.detach(), twice]

    expected = derivatives(lambda x: x.flatten(2).amax(2))
    for result, known in zip(derivatives(pg.nn.GlobalPool(space, "max")), expected):
        torch.testing.assert_close(result, known, equal_nan=True, atol=0, rtol=0)
