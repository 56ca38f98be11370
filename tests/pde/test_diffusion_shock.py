"""Diffusion-shock: the range of values, fixed points, the limits where one part is left, sharper edges, bad input."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pdegcnn as pg
from pdegcnn.functional import diffusion, diffusion_shock, dilation, erosion
from pdegcnn.pde.families import solver_for
from pdegcnn.pde.shock import ShockParameters, ShockSolver
from pdegcnn.pde.solver import Options
from pdegcnn.spaces import GridSpace, Mesh, RotationSpace, Space
from pdegcnn.testing import equivariance_error

from ..helpers import DIFFERENTIABLE, MESH_CASES, spherical

DOUBLE = {"dtype": torch.float64}
SMALL: dict[str, Any] = {"kernel_size": 3}
EVERY_SPACE = pytest.mark.parametrize("space", DIFFERENTIABLE, ids=str)
FIRM, SOFT = {"contrast": 3.0, "sharpness": 0.3}, {"contrast": 1e-30, "sharpness": 0.3}


def noise(space: Space, channels: int = 2) -> Tensor:
    base = (5, 6, 7) if isinstance(space, pg.R3) else (6, 7)
    if isinstance(space, RotationSpace):
        base = space.grid.shape
    if isinstance(space, Mesh):
        base = (space.vertex_count,)
    lifted = (space.orientations,) if space.has_orientations else ()
    return torch.randn(1, channels, *lifted, *base, **DOUBLE)


def metric(space: Space, channels: int = 2) -> Tensor:
    """Weights that reach a few samples far."""
    scale = space.metric_scale
    return (0.5 + torch.rand(channels, space.metric_dim, **DOUBLE)) / scale


def diffused(u: Tensor, space: Space, weights: Tensor) -> Tensor:
    """The part that diffuses: by a mean of pixels or vertices, or in the harmonic domain, which may leave the range."""
    if not isinstance(space, RotationSpace):
        method = {"method": "sampled"} if isinstance(space, (GridSpace, pg.Mesh)) else {}
        return diffusion(u, space, weights, **method, **SMALL)
    axes = tuple(range(2, u.ndim))
    return diffusion(u, space, weights).maximum(u.amin(axes, True)).minimum(u.amax(axes, True))


def in_range(changed: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """A supremum over points between samples can be greater than all of them; a step is limited to their range."""
    axes = tuple(range(2, u.ndim))
    return torch.minimum(torch.maximum(changed, u.amin(axes, True)), u.amax(axes, True))


@EVERY_SPACE
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), contrast=st.floats(1e-3, 1e3), sharpness=st.floats(1e-3, 10), time=st.floats(0.1, 5))
def test_values_stay_in_the_range_of_the_signal(
    space: Space, seed: int, contrast: float, sharpness: float, time: float
) -> None:
    torch.manual_seed(seed)
    u = noise(space)
    out = diffusion_shock(
        u, space, metric(space), metric(space), contrast=contrast, sharpness=sharpness, time=time, **SMALL
    )
    axes = tuple(range(2, u.ndim))
    slack = 1e-12 * (u.amax(axes) - u.amin(axes))
    assert (out.amax(axes) <= u.amax(axes) + slack).all()
    assert (out.amin(axes) >= u.amin(axes) - slack).all()


@EVERY_SPACE
def test_constants_stay(space: Space) -> None:
    u = torch.full_like(noise(space), 0.7)
    out = diffusion_shock(u, space, metric(space), metric(space), **FIRM, **SMALL)
    torch.testing.assert_close(out, u, atol=1e-12, rtol=1e-12)


@EVERY_SPACE
def test_negatives_and_shifts(space: Space) -> None:
    """Dilation and erosion change places under -u; adding a number changes nothing else."""
    u, first, second = noise(space), metric(space), metric(space)
    run = lambda u: diffusion_shock(u, space, first, second, **FIRM, **SMALL)  # noqa: E731
    torch.testing.assert_close(run(-u), -run(u), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(run(u + 2.5), run(u) + 2.5, atol=1e-10, rtol=1e-10)


@EVERY_SPACE
def test_no_contrast_is_diffusion(space: Space) -> None:
    u, first, second = noise(space), metric(space), metric(space)
    out = diffusion_shock(u, space, first, second, **SOFT, **SMALL)
    wanted = diffused(u, space, first)
    torch.testing.assert_close(out, wanted, atol=1e-10, rtol=1e-10)


@EVERY_SPACE
def test_much_contrast_and_sharpness_is_dilation_or_erosion(space: Space) -> None:
    """By the sign of the second derivative across; far from where it changes sign."""
    u, first, second = noise(space), metric(space), metric(space)
    across = pg.functional.lateral_laplacian(u, space)
    out = diffusion_shock(u, space, first, second, contrast=1e30, sharpness=1e-6, **SMALL)
    dilated, eroded = (in_range(f(u, space, second, **SMALL), u) for f in (dilation, erosion))
    sure = across.abs() > 1e-3 * across.abs().amax()
    wanted = torch.where(across < 0, dilated, eroded)
    assert sure.sum() > 0.9 * sure.numel()
    torch.testing.assert_close(out[sure], wanted[sure], atol=1e-7, rtol=1e-7)


@EVERY_SPACE
def test_a_step_is_the_mean_of_its_parts(space: Space) -> None:
    """The equation: g Lap u - (1 - g) S |grad u|^(2 alpha), by a step of each."""
    u, first, second = noise(space), metric(space), metric(space)
    solver = solver_for(space, "diffusion_shock", Options(kernel_size=3), dtype=torch.float64)
    assert isinstance(solver, ShockSolver)
    contrast, sharpness = torch.tensor([0.5, 2.0], **DOUBLE), torch.tensor([0.4, 1.0], **DOUBLE)
    diagonal = pg.kernels.Diagonal
    flat, side = solver.switches(u, ShockParameters(diagonal(first), diagonal(second), contrast, sharpness))
    shape = (-1, *(1,) * (u.ndim - 2))
    slope = pg.functional.gradient_norm(u, space, second)
    torch.testing.assert_close(flat, 1 / (1 + contrast.reshape(shape) * slope**2), atol=1e-12, rtol=1e-9)
    across = pg.functional.lateral_laplacian(u, space)
    turn = torch.atan2(across, sharpness.reshape(shape) ** 2 + 0 * across) * 2 / math.pi
    torch.testing.assert_close(side, turn, atol=1e-12, rtol=1e-9)
    dilated, eroded = (in_range(f(u, space, second, **SMALL), u) for f in (dilation, erosion))
    shocked = torch.where(side < 0, dilated, eroded)
    wanted = flat * diffused(u, space, first) + (1 - flat) * (side.abs() * shocked + (1 - side.abs()) * u)
    out = diffusion_shock(u, space, first, second, contrast=contrast, sharpness=sharpness, **SMALL)
    torch.testing.assert_close(out, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("mesh", MESH_CASES[:1], ids=str)
def test_the_gauge_of_a_mesh_turns_by_steps(mesh: pg.Mesh) -> None:
    """Signals move with the reference directions, here by whole steps, and so do results."""
    steps = torch.randint(0, mesh.orientations, (mesh.vertex_count,))
    turned = mesh.with_gauge(steps.double() * (2 * math.pi / mesh.orientations))
    u, first, second = noise(mesh), metric(mesh), metric(mesh)
    index = (torch.arange(mesh.orientations)[:, None] + steps) % mesh.orientations
    move = lambda u: u.gather(2, index.expand_as(u))  # noqa: E731
    run = lambda u, m: diffusion_shock(u, m, first, second, **FIRM, **SMALL)  # noqa: E731
    torch.testing.assert_close(run(move(u), turned), move(run(u, mesh)), atol=1e-10, rtol=1e-10)


def test_rotations_of_the_sphere_up_to_sampling() -> None:
    """The error falls with the resolution."""
    errors = []
    rotation = torch.linalg.matrix_exp(torch.tensor([[0, -0.4, 0.3], [0.4, 0, -0.7], [-0.3, 0.7, 0]], **DOUBLE))
    for size in (12, 24):
        space = pg.S2(pg.sphere.SphereGrid.gauss_legendre(size))
        u = spherical(space, band=3.0)
        weight = torch.tensor([2.0], **DOUBLE)
        run = partial(
            diffusion_shock, space=space, diffusion_metric=weight, shock_metric=2 * weight, contrast=1.0,
            sharpness=1.0, smoothing=0.1, alpha=1.0, radius=1.0,
        )  # fmt: skip
        errors.append(equivariance_error(run, u, space, rotation=rotation))
    assert errors[1] < 0.5 * errors[0] < 0.1


SMOOTH = [s for s in DIFFERENTIABLE if not (isinstance(s, GridSpace) and s.orientations == 1 and s.has_orientations)]


@pytest.mark.parametrize("space", SMOOTH, ids=str)
def test_gradients_in_signal_metrics_and_rates(space: Space) -> None:
    u, first, second = (x.requires_grad_() for x in (noise(space), metric(space), metric(space)))
    contrast, sharpness = (torch.tensor(x, **DOUBLE).requires_grad_() for x in ([0.7, 2.0], [0.5, 1.0]))
    alpha = torch.tensor(0.7, **DOUBLE).requires_grad_()

    def run(u: Tensor, first: Tensor, second: Tensor, contrast: Tensor, sharpness: Tensor, alpha: Tensor) -> Tensor:
        return diffusion_shock(u, space, first, second, contrast=contrast, sharpness=sharpness, alpha=alpha, **SMALL)

    inputs = (u, first, second, contrast, sharpness, alpha)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, atol=1e-5, rtol=1e-3)


def sharpen(u: Tensor, space: Space, steps: int, **options: Any) -> Tensor:
    for _ in range(steps):
        u = diffusion_shock(u, space, **options)
    return u


def test_a_blurred_disc_becomes_sharp() -> None:
    """Few pixels stay between dark and bright, and the disc keeps its place and size."""
    at = torch.arange(33, **DOUBLE) - 16
    distance = (at**2 + at[:, None] ** 2).sqrt()
    disc = torch.sigmoid((9 - distance) / 2)[None, None]
    w = torch.ones(2, **DOUBLE)
    options = {"diffusion_metric": 4 * w, "shock_metric": w, "contrast": 1e3, "sharpness": 0.05, "alpha": 0.5}
    out = sharpen(disc, pg.R2(), 8, **options)
    between = lambda u: int(((u > 0.1) & (u < 0.9)).sum())  # noqa: E731
    assert between(out) < 0.1 * between(disc)
    assert ((out > 0.5) == (disc > 0.5)).double().mean() > 0.98


def test_a_broken_line_closes_on_se2() -> None:
    """Diffusion along the direction bridges the gap; shocks across it keep the line thin."""
    space = pg.SE2(8)
    image = torch.zeros(1, 1, 25, 25, **DOUBLE)
    image[..., 12, :10] = image[..., 12, 15:] = 1
    image = diffusion(image, pg.R2(), torch.tensor([2.0, 2.0], **DOUBLE))
    score = pg.functional.cake_lift(image, space).roll(2, 2)
    score = score / score.max()
    out = sharpen(
        score, space, 8, diffusion_metric=torch.tensor([0.7, 10.0, 20.0], **DOUBLE),
        shock_metric=torch.tensor([6.0, 1.5, 20.0], **DOUBLE), contrast=10.0, sharpness=0.1,
    )  # fmt: skip
    before, after = (pg.functional.cake_reconstruct(x, space)[0, 0] for x in (score, out))
    assert before[12, 12] < 0.01 * before[12, 4]
    assert after[12, 12] > 0.3 * after[12, 4]
    assert after[[9, 15], 12].abs().max() < 0.2 * after[12, 12]


@pytest.mark.parametrize("space", MESH_CASES[:1], ids=str)
def test_one_layer_solves_on_every_mesh(space: pg.Mesh) -> None:
    other = pg.Mesh.from_arrays(*pg.surface.icosphere(0), orientations=space.orientations)
    layer, alone = (
        pg.nn.PDELayer(s, 2, 3, ("diffusion_shock",), kernel_size=3, **DOUBLE).eval() for s in (space, other)
    )
    alone.load_state_dict(layer.state_dict())
    u = noise(other)
    assert torch.equal(layer(u, other), alone(u))


def test_large_signals_are_solved_a_few_channels_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    term = pg.nn.DiffusionShock(pg.SE2(4), 5, **DOUBLE).eval()
    for parameter in term.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    u = noise(pg.SE2(4), 5)
    with torch.no_grad():
        whole = term(u)
        monkeypatch.setattr(pg.nn.terms, "STREAM_ABOVE", u.numel())
        torch.testing.assert_close(term(u), whole, rtol=1e-12, atol=1e-12)


def test_half_precision_is_that_of_single_precision_rounded() -> None:
    u = noise(pg.SE2(4)).bfloat16()
    w = [metric(pg.SE2(4)).float() for _ in range(2)]
    out = diffusion_shock(u, pg.SE2(4), *w, **FIRM, **SMALL)
    assert out.dtype == torch.bfloat16
    wanted = diffusion_shock(u.float(), pg.SE2(4), *w, **FIRM, **SMALL)
    torch.testing.assert_close(out.float(), wanted, atol=3e-2, rtol=3e-2)


def test_layers_of_asymmetric_metrics_take_symmetric_ones() -> None:
    layer = pg.nn.PDELayer(pg.R2(), 2, 2, ("dilation", "diffusion_shock"), metric="randers")
    assert layer.terms["diffusion_shock"].metric.form == "spd"


def test_weights_differ_between_spaces() -> None:
    """A new layer notices its grid: sharpness is per step of it."""
    coarse, fine = (
        pg.nn.DiffusionShock(pg.S2(pg.sphere.SphereGrid.gauss_legendre(n)), 1).log_sharpness for n in (8, 16)
    )
    assert float((fine - coarse).detach()) == pytest.approx(math.log(2))
