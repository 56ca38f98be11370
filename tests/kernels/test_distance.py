"""Approximate distances against the exact one and their proven bounds (Bellaard et al. 2023)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import pdegcnn as pg
from pdegcnn.kernels.distance import DISTANCES, ball_reach
from pdegcnn.kernels.exact import exact_distance
from pdegcnn.kernels.metric import SPD, Diagonal

SPACE = pg.SE2(8)
METRICS = [(1.0, 1.0, 1.0), (1.0, 2.0, 1.0), (0.5, 2.0, 1.5)]


def points(count: int = 40) -> torch.Tensor:
    x = 4 * torch.rand(count, 2, dtype=torch.float64) - 2
    theta = math.pi * (2 * torch.rand(count, 1, dtype=torch.float64) - 1) * 0.95
    return torch.cat((x, theta), dim=1)


def distance(name: str, w: tuple[float, ...], g: torch.Tensor) -> torch.Tensor:
    return DISTANCES[name](SPACE, Diagonal(torch.tensor([w], dtype=torch.float64)), g)[0].sqrt()


@pytest.mark.parametrize("w", METRICS)
def test_bounds_against_the_exact_distance(w: tuple[float, float, float]) -> None:
    g = points(16)
    d = torch.as_tensor(exact_distance(g, torch.tensor(w, dtype=torch.float64)))
    zeta, slack = w[1] / w[0], 1e-6
    half_angle, logarithmic = distance("half_angle", w, g), distance("logarithmic", w, g)
    least = (w[0] ** 2 * (g[:, :2] ** 2).sum(1) + w[2] ** 2 * g[:, 2] ** 2).sqrt()
    assert (least <= d * (1 + slack)).all()
    assert (d <= logarithmic * (1 + slack)).all()
    assert (d / zeta <= half_angle * (1 + slack)).all()
    assert (half_angle <= zeta * d * (1 + slack)).all()
    assert (distance("combined", w, g) >= least * (1 - slack)).all()
    assert (distance("combined", w, g) <= half_angle * (1 + slack)).all()


def test_half_angle_is_exact_for_an_isotropic_metric() -> None:
    g = points(16)
    d = torch.as_tensor(exact_distance(g, torch.tensor([1.3, 1.3, 0.7], dtype=torch.float64)))
    torch.testing.assert_close(distance("half_angle", (1.3, 1.3, 0.7), g), d)


@pytest.mark.parametrize("w", [(1.0, 8.0, 1.0), (1.5, 0.5, 0.8)])
def test_combined_follows_the_exact_distance_better_under_anisotropy(w: tuple[float, float, float]) -> None:
    g = points(8)
    d = torch.as_tensor(exact_distance(g, torch.tensor(w, dtype=torch.float64)))

    def worst(name: str) -> float:
        ratio = distance(name, w, g) / d
        return float(torch.maximum(ratio, 1 / ratio).max())

    assert worst("combined") < 1.2
    assert worst("combined") < min(worst(other) for other in ("half_angle", "logarithmic"))


def test_combined_is_the_half_angle_norm_where_the_plane_is_isotropic() -> None:
    g, w = points(16), (1.3, 1.3, 0.7)
    torch.testing.assert_close(distance("combined", w, g), distance("half_angle", w, g))
    leaning = SPD(torch.tensor([[1.0, 0.2, 0.1], [0.2, 1.5, -0.3], [0.1, -0.3, 0.8]], dtype=torch.float64)[None])
    torch.testing.assert_close(DISTANCES["combined"](SPACE, leaning, g), DISTANCES["half_angle"](SPACE, leaning, g))
    h = pg.R2().identity() + g[:, :2]
    flat = Diagonal(torch.tensor([[0.5, 1.5]], dtype=torch.float64))
    assert torch.equal(DISTANCES["combined"](pg.R2(), flat, h), DISTANCES["half_angle"](pg.R2(), flat, h))


@pytest.mark.parametrize("name", DISTANCES)
def test_inverse_elements_are_equally_far(name: str) -> None:
    g = points()
    torch.testing.assert_close(distance(name, METRICS[2], g), distance(name, METRICS[2], SPACE.inverse(g)))


@pytest.mark.parametrize("name", [n for n in DISTANCES if n != "logarithmic"])
def test_reflections_of_the_exact_distance_are_kept(name: str) -> None:
    """Mirroring at either half-angle axis, or the sense of rotation, changes no length."""
    g = points()
    b = SPACE.half_angle(g)
    for signs in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        mirrored = b * torch.tensor(signs, dtype=b.dtype)
        half = mirrored[:, 2] / 2
        c, s = torch.cos(half), torch.sin(half)
        back = torch.stack(
            (c * mirrored[:, 0] - s * mirrored[:, 1], s * mirrored[:, 0] + c * mirrored[:, 1], mirrored[:, 2]), 1
        )
        torch.testing.assert_close(distance(name, METRICS[2], back), distance(name, METRICS[2], g))


@pytest.mark.parametrize("name", DISTANCES)
def test_gradient_in_the_weights_also_at_the_unit_element(name: str) -> None:
    g = torch.cat((points(4), torch.zeros(1, 3, dtype=torch.float64)))
    w = torch.tensor([[0.7, 1.9, 1.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: DISTANCES[name](SPACE, Diagonal(w), g)[:, :4], w)
    (grad,) = torch.autograd.grad(DISTANCES[name](SPACE, Diagonal(w), g).sum(), w)
    assert grad.isfinite().all()


@pytest.mark.parametrize("name", DISTANCES)
def test_gradient_in_equal_weights(name: str) -> None:
    g, w = points(4), torch.full((1, 3), 1.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: DISTANCES[name](SPACE, Diagonal(w), g), w)


@pytest.mark.parametrize("name", DISTANCES)
def test_extreme_weights_give_numbers(name: str) -> None:
    g = torch.cat((points(20), torch.zeros(1, 3, dtype=torch.float64))).float()
    for weights in itertools.product((1e-38, 1e-20, 1.0, 1e8), repeat=3):
        found = DISTANCES[name](SPACE, Diagonal(torch.tensor([weights])), g)
        assert not found.isnan().any(), weights
        assert (found >= 0).all(), weights


@pytest.mark.parametrize("name", DISTANCES)
def test_reach_encloses_the_ball(name: str) -> None:
    metric = Diagonal(torch.tensor([[0.6, 1.7, 0.9]], dtype=torch.float64))
    g = torch.cat((points(4000), points(4000) * 0.3))
    inside = DISTANCES[name](SPACE, metric, g)[0] <= 1.0
    image, turn = ball_reach(metric, torch.ones(1, dtype=torch.float64), name)[0]
    assert inside.any()
    assert g[inside, :2].norm(dim=1).max() <= image * (1 + 1e-9)
    assert g[inside, 2].abs().max() <= turn * (1 + 1e-9)


@pytest.mark.parametrize("name", ["sub_riemannian"])
def test_distances_for_diagonal_metrics_only_say_so(name: str) -> None:
    with pytest.raises(ValueError, match="metric: expected a 'diagonal'"):
        DISTANCES[name](SPACE, SPD(torch.eye(3)[None]), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="distance: .*has no orientations"):
        DISTANCES[name](pg.R2(), Diagonal(torch.ones(1, 2)), torch.zeros(1, 2))


def test_a_plain_function_may_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the tutorial does: dilation, sampled diffusion and layers read the distance of the elements."""
    monkeypatch.setitem(DISTANCES, "own", lambda space, metric, g: metric.squared_norm(space.half_angle_of_path(g)))
    u, w = torch.randn(1, 2, 8, 7, 7, dtype=torch.float64), torch.tensor([1.0, 1.6, 0.8], dtype=torch.float64)
    for run in (pg.functional.dilation, pg.functional.diffusion):
        own, listed = (run(u, SPACE, w, distance=name) for name in ("own", "half_angle"))
        torch.testing.assert_close(own, listed, rtol=1e-12, atol=1e-12)
