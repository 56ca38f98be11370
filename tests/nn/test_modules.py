"""PDE layers and their parts: splittings, published sizes, initial values, resampling, pooling."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import pdegcnn as pg
from pdegcnn.nn.parameters import LearnableAlpha, MetricParameter
from pdegcnn.spaces import GridSpace

from ..cases import signal as any_signal
from ..helpers import GRID_CASES, SPHERE_CASES, bumpy_sphere, signal

SPACE = pg.SE2(4)


@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_splittings_agree_to_their_order(space: GridSpace) -> None:
    """Lie and Strang tend to the same flow; one term needs no splitting at all."""
    u = signal(space, (7, 7))
    layer = pg.nn.PDELayer(space, 2, 2, ("diffusion",), diffusion="spectral").double().eval()
    once = layer(u)
    layer.iterations = 3
    torch.testing.assert_close(layer(u), once)
    layer.splitting = "strang"
    torch.testing.assert_close(layer(u), once)


def test_strang_is_of_higher_order_than_lie() -> None:
    space = pg.SE2(9)
    u = signal(space, (7, 7), channels=1)
    torch.manual_seed(3)
    layer = pg.nn.PDELayer(
        space,
        1,
        1,
        ("convection", "diffusion"),
        convection="spectral",
        diffusion="spectral",
        alpha=1.0,
        batch_norm=False,
    ).double()
    with torch.no_grad():
        layer.terms["diffusion"].metric.raw.copy_(torch.tensor([[0.9, 0.2, 0.5]]))
        layer.terms["convection"].vector.copy_(torch.tensor([[0.6, 0.3, 0.0]]))

    def solve(splitting: str, iterations: int) -> torch.Tensor:
        layer.splitting, layer.iterations = splitting, iterations
        with torch.no_grad():
            return layer(u)

    exact = solve("strang", 32)
    errors = {s: [(solve(s, n) - exact).norm().item() for n in (1, 2)] for s in ("lie", "strang")}
    assert errors["lie"][1] < 0.65 * errors["lie"][0]
    assert errors["strang"][1] < 0.35 * errors["strang"][0]
    assert errors["strang"][0] < errors["lie"][0]


def test_cake_lift_loses_nothing() -> None:
    for size in ((16, 16), (15, 18), (9, 9)):
        image = torch.randn(2, 3, *size)
        for orientations in (1, 4, 7, 8):
            space = pg.SE2(orientations)
            back = pg.functional.cake_reconstruct(pg.functional.cake_lift(image, space), space)
            assert (back - image).norm() / image.norm() < 1e-5


def test_published_sizes() -> None:
    """Smets et al.: 2,542 for digits; 4,128, 3,678 and (grey) 2,560 for vessels. The steerable lift needs fewer."""

    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    digits = pg.models.rotated_digits()
    layers = sum(count(m) for m in digits if isinstance(m, pg.nn.PDELayer))
    assert layers == 150 + 220
    assert count(digits) <= 2542
    assert count(pg.models.vessel_segmentation(3)) <= 4128
    assert count(pg.models.vessel_segmentation(3, layers=12)) <= 3678
    assert count(pg.models.vessel_segmentation(1)) <= 2560


def test_power_and_metric_start_where_they_should() -> None:
    assert LearnableAlpha(0.65)().item() == pytest.approx(0.65)
    metric = MetricParameter(pg.SE2(8), 4)()
    assert ((metric.weights >= 0.5) & (metric.weights <= 1.5)).all()


def test_resampling_keeps_constants_means_and_symmetry() -> None:
    u = torch.randn(1, 2, 4, 24, 24, dtype=torch.float64)
    for size in (14, 5, 24, 31):
        ones = pg.functional.resample(torch.ones_like(u), size)
        torch.testing.assert_close(ones, torch.ones_like(ones))
        small = pg.functional.resample(u, size)
        assert small.shape[-2:] == (size, size)
        torch.testing.assert_close(pg.functional.resample(u.flip(-1), size), small.flip(-1))
    u[..., 0, 0] = math.inf
    assert torch.equal(pg.functional.resample(u, 24), u)


def test_pooling_is_centred_or_refused() -> None:
    pool = pg.nn.MaxPool(2)
    u = torch.randn(1, 2, 4, 8, 8)
    assert pool(u).shape == (1, 2, 4, 4, 4)
    assert pg.testing.equivariance_error(pool, u, SPACE, angle=90) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [300.0, 1e-4])
@pytest.mark.parametrize("space", [SPACE, *SPHERE_CASES, bumpy_sphere(2, orientations=4)], ids=str)
def test_means_keep_constants_in_half_precision(space: pg.spaces.Space, value: float, dtype: torch.dtype) -> None:
    """Also where squares, or sums over the space, leave the range of half precision."""
    u = torch.full_like(any_signal(space), value, dtype=dtype)
    means = [pg.functional.project(u, space, mode) for mode in ("mean", "norm")]
    if isinstance(space, pg.spaces.RotationSpace):
        means.append(pg.nn.GlobalPool(space)(u))
    if "diffusion" in space.supported_terms:
        means.append(pg.functional.diffusion(u, space, torch.ones(space.metric_dim, dtype=dtype)))
    for mean in means:
        assert mean.dtype == dtype
        torch.testing.assert_close(mean, u.flatten()[0].expand(mean.shape), rtol=4 * torch.finfo(dtype).eps, atol=0)
