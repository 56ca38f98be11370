"""The error of equivariance charges a model for what the model does, not for how its output is compared."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.testing import equivariance_error, report

from ..helpers import random_rotation, smooth

KIND = {"dtype": torch.float64}
SE2 = pg.SE2(8)


@pytest.mark.parametrize("size", [(12, 12), (11, 14)], ids=str)
def test_maxima_are_not_charged_for_their_creases(size: tuple[int, int]) -> None:
    """At 45 degrees eight orientations move to orientations, so that a maximum over them commutes exactly."""
    noise = torch.randn(1, 2, 8, *size, **KIND)
    assert equivariance_error(pg.nn.Project(SE2), noise, SE2, angle=45) < 1e-13
    assert equivariance_error(torch.relu, noise, SE2, angle=45) < 1e-13
    assert equivariance_error(lambda u: u.abs().amax(2).sqrt(), noise, SE2, angle=135) < 1e-13


@given(angle=st.floats(-180, 180), seed=st.integers(0, 1000))
def test_pointwise_functions_of_images_commute_at_every_angle(angle: float, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(1, 2, 9, 9, **KIND)
    assert equivariance_error(lambda u: u.relu() + u.amax(1, keepdim=True), x, pg.R2(), angle=angle) < 1e-12
    assert equivariance_error(lambda u: u.mean(1)[:, None].expand_as(u), x, pg.R2(), angle=angle) < 1e-12


def test_what_does_not_commute_is_still_seen() -> None:
    x = smooth(20, 6.0, channels=2)
    derivative = nn.Conv2d(2, 2, 3, padding=1, **KIND)
    assert equivariance_error(derivative, x, SE2, angle=45) > 0.1
    position = torch.linspace(0, 1, 20, **KIND)
    assert equivariance_error(lambda u: u * position, x, SE2, angle=30) > 0.1
    assert equivariance_error(lambda u: u[..., ::2, ::2], x, SE2, angle=30) > 0.1  # the samples are not centred
    assert equivariance_error(lambda u: u.roll(1, 2), torch.randn(1, 1, 8, 9, 9, **KIND), pg.R2(), angle=45) < 1e-12


def test_round_filters_commute_with_turns_of_smooth_images() -> None:
    blur = nn.Conv2d(1, 1, 9, padding=4, bias=False, **KIND)
    line = torch.exp(-(torch.arange(-4, 5, **KIND) ** 2) / 3)
    with torch.no_grad():
        blur.weight.copy_((line[:, None] * line)[None, None])
        assert equivariance_error(blur, smooth(24, 5.0), pg.R2(), angle=20) < 0.02


def test_a_formula_is_sampled_in_both_positions() -> None:
    def ring(p: Tensor) -> Tensor:
        return torch.cos(0.9 * p.norm(dim=-1))[None, None]

    def wave(p: Tensor) -> Tensor:
        return (torch.sin(0.5 * p[..., 0]) + torch.cos(0.3 * p[..., 1] - 1))[None, None]

    size = (15, 15)
    for image in (ring, wave):
        for angle in (33, 90):
            assert equivariance_error(torch.relu, image, pg.R2(), size=size, angle=angle) < 1e-12
    # what shifts to the right is seen on a wave, and on a ring too
    assert equivariance_error(lambda u: u.roll(1, 3), wave, pg.R2(), size=size, angle=33) > 0.05
    grid = pg.sphere.SphereGrid.gauss_legendre(6)
    turn = random_rotation()

    def cubic(p: Tensor) -> Tensor:
        return (p[..., 0] * p[..., 1] * p[..., 2] + p[..., 0])[None, None]

    space, weight = pg.S2(grid), torch.ones(1, **KIND)
    assert equivariance_error(lambda u: pg.functional.diffusion(u, space, weight), cubic, space, rotation=turn) < 1e-12
    with pytest.raises(ValueError, match="size: expected height and width"):
        equivariance_error(torch.relu, wave, pg.R2(), angle=33)
    with pytest.raises(TypeError, match="x: expected a tensor"):
        equivariance_error(torch.relu, wave, pg.R2(), shift=(1, 1))


def test_reports_measure_in_the_same_way() -> None:
    model = nn.Sequential(nn.ReLU(), pg.nn.Project(SE2))
    noise = torch.randn(1, 2, 8, 12, 12, **KIND)
    found = report(model, noise, SE2, angle=45)
    assert found.ok and found.error < 1e-13
    assert found.error == equivariance_error(model, noise, SE2, angle=45)
    shrunk = report(lambda u: pg.functional.resample(u, 6), smooth(12, 9.0), SE2, angle=45)
    assert shrunk.error < 0.05


class InPlace(nn.Module):
    """A pointwise layer that overwrites its input."""

    def forward(self, u: Tensor) -> Tensor:
        return u.mul_(u.sigmoid())


@pytest.mark.parametrize(
    "wrap", [lambda layer: layer, lambda layer: nn.Sequential(layer, nn.SiLU())], ids=["alone", "first"]
)
@pytest.mark.parametrize("space", [pg.SE2(8), pg.R2()], ids=str)
@pytest.mark.parametrize("motion", [{"angle": 90}, {"angle": 30}, {"shift": (2, 1)}], ids=str)
def test_layers_in_place_are_judged_as_others_and_the_input_stays(wrap, space, motion) -> None:
    x = torch.randn(1, 1, 9, 9, **KIND)
    kept = x.clone()
    assert equivariance_error(wrap(InPlace()), x, space, **motion) < 1e-12
    found = report(wrap(InPlace()), x, space, **motion)
    assert found.ok and torch.equal(x, kept)


def test_wrong_arguments_are_named() -> None:
    x = torch.randn(1, 1, 9, 9)
    for wrong, kind, message in (
        ((x, "SE2", {"angle": 90}), TypeError, "^space: expected a space"),
        ((x.numpy(), SE2, {"angle": 90}), TypeError, "^x: expected a tensor or a function of positions, got ndarray"),
        ((x, SE2, {"angle": float("nan")}), ValueError, "^angle: expected"),
        ((x[..., :2, :2], SE2, {"angle": 30}), ValueError, r"^x: expected .* got \(2, 2\) pixels"),
    ):
        with pytest.raises(kind, match=message):
            equivariance_error(torch.relu, *wrong[:2], **wrong[2])
