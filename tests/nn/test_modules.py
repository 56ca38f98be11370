"""House rules of modules: state, dtype, device, copies, transforms of torch."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

import pdegcnn as pg
from pdegcnn.nn.parameters import LearnableAlpha, MetricParameter
from pdegcnn.spaces import GridSpace

from ..helpers import GRID_CASES, MESH_CASES, SPHERE_CASES, signal

SPACE, MESH = pg.SE2(4), MESH_CASES[0]
S2, SO3 = SPHERE_CASES[:2]
LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "Lift": (lambda **k: pg.nn.Lift(SPACE, 2, 3, **k), (2, 2, 8, 7)),
    "Lift-bspline": (lambda **k: pg.nn.Lift(SPACE, 2, 3, filters="bspline", **k), (2, 2, 8, 7)),
    "Lift-cake": (lambda **k: pg.nn.Lift(SPACE, 2, 3, filters="cake", **k), (2, 2, 8, 7)),
    "PDELayer": (lambda **k: pg.nn.PDELayer(SPACE, 2, 3, kernel_size=3, **k), (2, 2, 4, 8, 7)),
    "PDELayer-spd-alpha": (
        lambda **k: pg.nn.PDELayer(SPACE, 2, 3, kernel_size=3, metric="spd", learn_alpha=True, batch_norm=False, **k),
        (2, 2, 4, 8, 7),
    ),
    "PDELayer-plane-randers": (lambda **k: pg.nn.PDELayer(pg.R2(), 2, 3, metric="randers", **k), (2, 2, 8, 7)),
    "PDELayer-plane-finsler": (lambda **k: pg.nn.PDELayer(pg.R2(), 2, 3, metric="finsler", **k), (2, 2, 8, 7)),
    "GroupConv": (lambda **k: pg.nn.GroupConv(SPACE, 2, 3, 3, **k), (2, 2, 4, 8, 7)),
    "ChannelLinear": (lambda **k: pg.nn.ChannelLinear(2, 3, **k), (2, 2, 4, 8, 7)),
    "Lift-mesh": (lambda **k: pg.nn.Lift(MESH, 2, 3, **k), (2, 2, 42)),
    "PDELayer-mesh": (lambda **k: pg.nn.PDELayer(MESH, 2, 3, kernel_size=3, **k), (2, 2, 8, 42)),
    "PDELayer-mesh-spd": (
        lambda **k: pg.nn.PDELayer(MESH, 2, 3, kernel_size=3, metric="spd", learn_alpha=True, batch_norm=False, **k),
        (2, 2, 8, 42),
    ),
    "Project-mesh": (lambda **k: pg.nn.Project(MESH), (2, 2, 8, 42)),
    "MaxPool": (lambda **k: pg.nn.MaxPool(2), (2, 2, 4, 8, 6)),
    "SphereLift": (lambda **k: pg.nn.Lift(SO3, 2, 3, **k), (2, 2, 6, 12)),
    "SphereLift-cake": (lambda **k: pg.nn.Lift(SO3, 2, 3, filters="cake", **k), (2, 2, 6, 12)),
    "PDELayer-SO3": (lambda **k: pg.nn.PDELayer(SO3, 2, 3, kernel_size=3, **k), (2, 2, 5, 6, 12)),
    "PDELayer-SO3-exact": (
        lambda **k: pg.nn.PDELayer(SO3, 2, 3, ("dilation",), metric="axisymmetric", distance="exact", **k),
        (2, 2, 5, 6, 12),
    ),
    "PDELayer-SO3-joint": (
        lambda **k: pg.nn.PDELayer(SO3, 2, 3, ("convection_diffusion",), metric="spd", learn_alpha=True, **k),
        (2, 2, 5, 6, 12),
    ),
    "PDELayer-S2": (lambda **k: pg.nn.PDELayer(S2, 2, 3, pg.S2.supported_terms, learn_alpha=True, **k), (2, 2, 8, 16)),
    "SphereConv": (lambda **k: pg.nn.SphereConv(SO3, 2, 3, **k), (2, 2, 5, 6, 12)),
    "Project-SO3": (lambda **k: pg.nn.Project(SO3, mode="max", oversample=2), (2, 2, 5, 6, 12)),
    "SphereActivation": (lambda **k: pg.nn.SphereActivation(SO3, **k), (2, 2, 5, 6, 12)),
    "SphereGated": (lambda **k: pg.nn.SphereGated(SO3, 2, **k), (2, 2, 5, 6, 12)),
    "SphereNormReLU": (lambda **k: pg.nn.SphereNormReLU(SO3, 2, **k), (2, 2, 5, 6, 12)),
    "SpectralResample": (lambda **k: pg.nn.SpectralResample(S2, pg.S2(SO3.grid), **k), (2, 2, 8, 16)),
    "GlobalPool": (lambda **k: pg.nn.GlobalPool(SO3), (2, 2, 5, 6, 12)),
    "GlobalPool-fine": (lambda **k: pg.nn.GlobalPool(SO3, "max", oversample=2, **k), (2, 2, 5, 6, 12)),
    "spherical_classifier": (
        lambda **k: pg.models.spherical_classifier(S2.grid, in_channels=2, channels=(2, 3), fibre=5, **k),
        (2, 2, 8, 16),
    ),
    "spherical_detector": (
        lambda **k: pg.models.spherical_detector(SO3.grid, 2, 2, width=2, layers=1, fibre=5, **k),
        (2, 2, 6, 12),
    ),
    "spherical_segmenter": (
        lambda **k: pg.models.spherical_segmenter(S2.grid, 2, width=2, levels=2, fibre=5, **k),
        (2, 2, 8, 16),
    ),
    "rotated_digits": (lambda **k: pg.models.rotated_digits(space=SPACE, in_channels=2, **k), (2, 2, 16, 16)),
    "vessel_segmentation": (
        lambda **k: pg.models.vessel_segmentation(2, space=SPACE, layers=3, channels=2, **k),
        (2, 2, 8, 7),
    ),
}


def test_every_public_module_is_tested() -> None:
    built = {type(m) for build, _ in LAYERS.values() for m in build().modules()}
    public = {v for v in vars(pg.nn).values() if isinstance(v, type) and issubclass(v, nn.Module)}
    assert {v for v in public if not any(issubclass(b, v) for b in built)} == set()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_out_is_dtype_in(name: str, dtype: torch.dtype, device: torch.device) -> None:
    build, shape = LAYERS[name]
    out = build(dtype=dtype, device=device)(torch.randn(shape, dtype=dtype, device=device))
    assert out.dtype == dtype
    assert out.isfinite().all()


@pytest.mark.parametrize("name", LAYERS)
def test_every_parameter_learns(name: str) -> None:
    build, shape = LAYERS[name]
    layer = build()
    x = torch.randn(shape, requires_grad=True)
    (layer(x) * torch.randn_like(layer(x))).sum().backward()
    assert x.grad is not None
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert (parameter.grad != 0).any(), key


@pytest.mark.parametrize("name", LAYERS)
def test_state_holds_parameters_and_statistics_only(name: str) -> None:
    build, _ = LAYERS[name]
    layer = build()
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    expected = {k for k, _ in layer.named_parameters()} | {
        k for k, _ in layer.named_buffers() if k.endswith(statistics)
    }
    assert set(layer.train().state_dict()) == expected == set(layer.eval().state_dict())


@pytest.mark.parametrize("name", LAYERS)
def test_copies_compute_the_same(name: str) -> None:
    build, shape = LAYERS[name]
    layer, x = build().eval(), torch.randn(shape)
    expected = layer(x)
    other = build().eval()
    other.load_state_dict(layer.state_dict())
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    copies = (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False), other)
    for twin in copies:
        torch.testing.assert_close(twin(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_without_initial_values(name: str) -> None:
    """On the meta device, emptied, reset: a new layer, described as one; ``skip_init`` does the first two steps."""
    build, shape = LAYERS[name]
    layer = build(device="meta")
    assert all(t.is_meta for t in (*layer.parameters(), *layer.buffers()))
    layer = layer.to_empty(device="cpu")
    for m in layer.modules():
        if hasattr(m, "reset_parameters"):
            m.reset_parameters()
    assert layer.eval()(torch.randn(shape)).isfinite().all()
    assert repr(layer) == repr(build().eval())


@pytest.mark.parametrize("build", [pg.nn.GroupConv, pg.nn.GridLift, pg.nn.PDELayer])
def test_skipped_initial_values(build: type[nn.Module]) -> None:
    layer, fresh = torch.nn.utils.skip_init(build, SPACE, 2, 2), build(SPACE, 2, 2)
    layer.load_state_dict(fresh.state_dict())
    u = torch.randn(1, 2, 9, 9) if build is pg.nn.GridLift else torch.randn(1, 2, 4, 9, 9)
    assert torch.equal(layer.eval()(u), fresh.eval()(u))


@pytest.mark.parametrize("name", LAYERS)
def test_training_step_under_autocast(name: str) -> None:
    build, shape = LAYERS[name]
    layer = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(torch.randn(shape, requires_grad=True))
    out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("name", ["PDELayer-plane-randers"])
def test_one_graph_for_compile_and_export(name: str) -> None:
    """What the tables of ``tests/robustness`` and ``tests/export`` lack: they hold every layer and network once."""
    build, shape = LAYERS[name]
    layer, x = build().eval(), torch.randn(shape)
    expected = layer(x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), expected)


@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_splittings_agree_to_their_order(space: GridSpace) -> None:
    """Lie and Strang tend to the same flow; one term needs no splitting at all."""
    u = signal(space, (7, 7))
    layer = pg.nn.PDELayer(space, 2, 2, ("diffusion",), kernel_size=3, diffusion="spectral").double().eval()
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
    with pytest.raises(ValueError, match="alpha: expected a value in .* to learn from"):
        LearnableAlpha(0.5)


def test_resampling_keeps_constants_means_and_symmetry() -> None:
    u = torch.randn(1, 2, 4, 24, 24, dtype=torch.float64)
    for size in (14, 5, 24, 31):
        ones = pg.functional.resample(torch.ones_like(u), size)
        torch.testing.assert_close(ones, torch.ones_like(ones))
        small = pg.functional.resample(u, size)
        assert small.shape[-2:] == (size, size)
        torch.testing.assert_close(pg.functional.resample(u.flip(-1), size), small.flip(-1))
    torch.testing.assert_close(pg.functional.resample(u, 24), u)


def test_pooling_is_centred_or_refused() -> None:
    pool = pg.nn.MaxPool(2)
    u = torch.randn(1, 2, 4, 8, 8)
    assert pool(u).shape == (1, 2, 4, 4, 4)
    assert pg.testing.equivariance_error(pool, u, SPACE, angle=90) == 0
    with pytest.raises(ValueError, match="u: expected sizes that windows of 2"):
        pool(torch.randn(1, 2, 4, 9, 8))
