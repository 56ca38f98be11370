"""The report names planted faults, and only those."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pdegcnn as pg
from pdegcnn.nn.lift import LiftLayer
from pdegcnn.testing import Report, report
from pdegcnn.testing.diagnostics import CAUSES

from ..helpers import bumpy_sphere, spherical

SE2, R2, GRID = pg.SE2(8), pg.R2(), pg.sphere.SphereGrid.gauss_legendre(10)
SO3, S2, MESH = pg.SO3(GRID, 8), pg.S2(GRID), bumpy_sphere(1, orientations=8)


class Code(nn.Module):
    """A function as a layer of the user's own."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args, **options):
        return self.function(*args, **options)


class Columns(nn.Module):
    """Batch norm of the columns instead of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(12)

    def forward(self, u):
        return self.norm(u.transpose(1, 4)).transpose(1, 4)


def planar(*layers: nn.Module, space=SE2, after: bool = False) -> nn.Sequential:
    """Layers between lift and projection, or after both."""
    if after:
        return nn.Sequential(pg.nn.Lift(space, 3, 4, kernel_size=5), pg.nn.Project(space), *layers)
    return nn.Sequential(pg.nn.Lift(space, 3, 4, kernel_size=5), *layers, pg.nn.Project(space))


def position(u: torch.Tensor) -> torch.Tensor:
    return u + torch.arange(u.shape[-1], dtype=u.dtype)


# name: the model, the size of the image, the place of the fault, its cause and a word of the advice
PLANAR = {
    "stride on an odd size": (planar(nn.MaxPool3d((1, 2, 2))), 13, "1", "stride", "odd size 13"),
    "stride on an even size": (planar(nn.AvgPool2d(3, 2, padding=1), after=True), 12, "2", "stride", "even size 12"),
    "stride over orientations": (
        nn.Sequential(pg.nn.Lift(pg.SE2(4), 3, 4), nn.MaxPool3d((2, 1, 1))), 12, "1", "stride", "drops directions",
    ),
    "uneven padding": (planar(nn.ReplicationPad2d((0, 1, 0, 1)), after=True), 12, "2", "padding", "pad evenly"),
    "even kernel": (planar(nn.Conv2d(4, 4, 2, padding="same"), after=True), 12, "2", "padding", "even kernel"),
    "zeros beyond the last orientation": (
        planar(nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0))), 12, "1", "padding", "periodic",
    ),
    "plain convolution": (planar(nn.Conv2d(4, 4, 3, padding=1), after=True), 12, "2", "plain convolution", "turned"),
    "linear along columns": (planar(nn.Linear(12, 12)), 12, "1", "wrong axis", "axis 4"),
    "softmax along rows": (planar(nn.Softmax(dim=-2), after=True), 12, "2", "wrong axis", "axis 2"),
    "layer norm": (planar(nn.LayerNorm([12, 12])), 12, "1", "normalisation", "each place"),
    "batch norm over the grid": (planar(Columns()), 12, "1.norm", "normalisation", "each place"),
    "batch norm of each orientation": (
        nn.Sequential(pg.nn.Lift(SE2, 3, 4), nn.Flatten(1, 2), nn.BatchNorm2d(32), nn.Unflatten(1, (4, 8))), 12, "2",
        "normalisation", "8 orientations",
    ),
    "joined orientations": (
        nn.Sequential(pg.nn.Lift(SE2, 3, 4), nn.Flatten(1, 2), nn.Conv2d(32, 4, 1)), 12, "2", "joined orientations",
        "joined",
    ),
    "flattening": (planar(nn.Flatten(), nn.Linear(4 * 12 * 12, 3), after=True), 12, "2", "flattening", "fixed frame"),
    "nearest pixel": (planar(nn.Upsample(size=17), after=True), 12, "2", "resizing", "not centred"),
    "position": (planar(Code(position), after=True), 12, "2", "own code", "depends on the place"),
}  # fmt: skip


def check(found: Report, place: str, cause: str, word: str) -> None:
    assert not found.ok
    assert [(f.name, f.cause) for f in found.culprits] == [(place, cause)], str(found)
    assert word in found.culprits[0].advice
    assert f"! {place} " in str(found)


@pytest.mark.parametrize("name", PLANAR)
def test_planted_faults_on_the_plane(name: str) -> None:
    model, size, *fault = PLANAR[name]
    space = next(m.space for m in model.modules() if isinstance(m, LiftLayer))
    check(report(model, torch.randn(2, 3, size, size), space), *fault)


def test_a_model_without_fault_has_none() -> None:
    for model in (pg.models.vessel_segmentation(3, layers=3, channels=4), pg.models.rotated_digits(in_channels=3)):
        found = report(model, torch.randn(2, 3, 14, 14), SE2)
        assert found.ok, str(found)
        assert found.error < 1e-5
        assert str(found).startswith("equivariant under angle=90")
    x = spherical(S2, channels=3, band=3.0, dtype=torch.float32)
    assert report(pg.models.spherical_classifier(GRID, in_channels=3, channels=(4, 4)), x, S2).ok
    features = {0: torch.randn(2, 3, MESH.vertex_count)}
    assert report(GaugeNet(pg.gauge.GatedNonlinearity({0: 4, 1: 4})), (features, MESH), MESH).ok


def test_unsampled_angle_is_named_for_every_layer_it_harms() -> None:
    six = pg.SE2(6)
    found = report(planar(pg.nn.PDELayer(six, 4, 4, ("convection",)), space=six), torch.randn(1, 3, 12, 12), six)
    assert {f.cause for f in found.culprits} == {"unsampled angle"}
    assert "360/6" in found.culprits[0].advice
    assert report(planar(space=six), torch.randn(1, 3, 12, 12), six, angle=180).ok


def test_shifts_find_strides_and_borders() -> None:
    x = torch.randn(1, 3, 16, 16)
    check(report(planar(nn.MaxPool3d((1, 2, 2))), x, SE2, shift=(1, 0), tolerance=0.6), "1", "stride", "multiples")
    found = report(nn.Conv2d(3, 3, 3, padding=1, bias=False), x, R2, shift=(2, 3))
    assert [f.cause for f in found.culprits] == ["padding"]
    assert report(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"), x, R2, shift=(2, 3)).ok


def mean(u: torch.Tensor) -> torch.Tensor:
    return u.mean((-2, -1))


SPHERICAL = {
    "batch norm": (nn.Sequential(pg.nn.Lift(SO3, 3, 4), nn.BatchNorm3d(4), pg.nn.Project(SO3)), "1", "normalisation"),
    "batch norm without its space": (nn.Sequential(pg.nn.BatchNorm(3)), "0", "normalisation"),
    "plain mean": (nn.Sequential(pg.nn.Lift(S2, 3, 4), Code(mean)), "1", "plain mean"),
    "pooled mean": (nn.Sequential(pg.nn.Lift(S2, 3, 4), nn.AdaptiveAvgPool2d(1)), "1", "plain mean"),
    "plain convolution": (nn.Sequential(pg.nn.Lift(S2, 3, 4), nn.Conv2d(4, 4, 3, padding=1)), "1", "plain convolution"),
    "stride": (nn.Sequential(pg.nn.Lift(S2, 3, 4), nn.AvgPool2d(2)), "1", "stride"),
    "softmax along a meridian": (nn.Sequential(pg.nn.Lift(S2, 3, 4), nn.Linear(20, 20)), "1", "wrong axis"),
}


@pytest.mark.parametrize("name", SPHERICAL)
def test_planted_faults_on_the_sphere(name: str) -> None:
    model, place, cause = SPHERICAL[name]
    torch.manual_seed(1)
    found = report(model, spherical(S2, channels=3, batch=2, band=4.0, dtype=torch.float32), S2)
    assert (place, cause) in [(f.name, f.cause) for f in found.culprits], str(found)
    assert {f.name for f in found.culprits} <= {place, "(model)"}


class GaugeNet(nn.Module):
    """Scalars to spins 0 and 1, something, and back."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle = pg.gauge.GaugeConv({0: 3}, {0: 4, 1: 4}), middle
        self.last = pg.gauge.GaugeConv({0: 4, 1: 4}, {0: 2})

    def forward(self, features, mesh):
        return self.last(self.middle(self.first(features, mesh)), mesh)


def split_relu(features):
    return {0: features[0].relu(), 1: torch.complex(features[1].real.relu(), features[1].imag)}


MESHES = {
    "one direction": (nn.Sequential(pg.nn.Lift(MESH, 3, 4), Code(lambda u: u[:, :, 0])), "1", "gauge"),
    "linear over directions": (
        nn.Sequential(pg.nn.Lift(MESH, 3, 4), Code(lambda u: u * torch.arange(8.0)[:, None]), pg.nn.Project(MESH)),
        "1", "gauge",
    ),
    "convolution over numbers": (nn.Sequential(nn.Conv1d(3, 3, 3, padding=1)), "0", "plain convolution"),
    "linear over vertices": (nn.Sequential(nn.Linear(42, 42)), "0", "wrong axis"),
    "plain mean": (nn.Sequential(nn.AdaptiveAvgPool1d(1)), "0", "plain mean"),
}  # fmt: skip


@pytest.mark.parametrize("name", MESHES)
def test_planted_faults_on_meshes(name: str) -> None:
    model, place, cause = MESHES[name]
    found = report(model, torch.randn(2, 3, 42), MESH)
    assert [(f.name, f.cause) for f in found.culprits] == [(place, cause)], str(found)


def test_spins_are_features_of_a_gauge() -> None:
    features = {0: torch.randn(2, 3, MESH.vertex_count)}
    found = report(GaugeNet(Code(split_relu)), (features, MESH), MESH)
    assert [(f.name, f.cause) for f in found.culprits] == [("middle", "gauge")]


def test_every_cause_is_planted_somewhere() -> None:
    planted = {c for _, _, _, c, _ in PLANAR.values()} | {c for _, _, c in (*SPHERICAL.values(), *MESHES.values())}
    assert set(CAUSES) - {"sampling", "unsampled angle"} <= planted


def test_coarse_grids_are_told_from_faults() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(pg.nn.Lift(S2, 3, 4), nn.ReLU(), pg.nn.PDELayer(S2, 4, 4, ("dilation",)))
    found = report(model, torch.randn(1, 3, 10, 20), S2, tolerance=1e-3)
    assert {f.cause for f in found.culprits} == {"sampling"}


def test_faults_between_layers_belong_to_the_container() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.project = pg.nn.Lift(SE2, 3, 4), pg.nn.Project(SE2)

        def forward(self, x):
            return self.project(self.lift(x))[..., ::2, ::2]

    found = report(Net(), torch.randn(1, 3, 12, 12), SE2)
    assert [(f.name, f.kind) for f in found.culprits] == [("(model)", "Net")]
    assert "between its parts" in found.culprits[0].advice


def test_the_model_is_left_as_it_was() -> None:
    model = pg.models.rotated_digits().train()
    model[1].eval()
    modes, state = [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    report(model, torch.rand(2, 1, 28, 28), SE2)
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_functions_and_named_arguments() -> None:
    assert report(torch.relu, torch.randn(1, 3, 8, 8), R2).ok
    assert not report(position, torch.randn(1, 3, 8, 8), R2).ok

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Code(lambda x, scale: x * scale)

        def forward(self, x, scale):
            return self.part(x, scale=scale)

    # a scale that is an image moves along, one that is hidden in the layer would not
    Net.forward.__defaults__ = (torch.rand(1, 3, 8, 8),)
    assert [f.name for f in report(Net(), torch.randn(1, 3, 8, 8), R2).culprits] == ["(model)"]
    assert report(Net(), (torch.randn(1, 3, 8, 8), torch.rand(1, 3, 8, 8)), R2).ok


def test_the_report_says_what_each_layer_contributes_and_what_would_lower_it() -> None:
    grid = pg.sphere.SphereGrid.gauss_legendre(6)
    ball, sphere = pg.SO3(grid, 5), pg.S2(grid)
    torch.manual_seed(0)
    layers = [
        pg.nn.Lift(ball, 1, 2), pg.nn.PDELayer(ball, 2, 2, ("convection", "dilation")), pg.nn.Project(ball),
        pg.nn.SphereActivation(sphere, torch.relu, 1),
    ]  # fmt: skip
    found = report(nn.Sequential(*layers).double(), torch.randn(1, 1, *grid.shape, dtype=torch.float64), sphere)
    row = {f.name: f for f in found.findings}
    # exact layers leave the whole error, the last one leaves nothing
    for name in ("0", "1.terms.convection"):
        assert row[name].remaining == pytest.approx(found.error, rel=1e-6)
        assert row[name].remedies == ()
    assert row["1.terms.dilation"].remaining < found.error
    assert row["1.norm"].remaining == pytest.approx(row["1.terms.dilation"].remaining, rel=1e-6)
    assert row["3"].remaining < 1e-12
    told = {remedy.argument: remedy for remedy in row["1.terms.dilation"].remedies}
    finer = told["oversample=2"]
    again = nn.Sequential(layers[0], pg.nn.PDELayer(ball, 2, 2, ("convection", "dilation"), oversample=2)).double()
    again.load_state_dict(nn.Sequential(*layers[:2]).state_dict())
    x = torch.randn(1, 1, *grid.shape, dtype=torch.float64)
    later = {f.name: f for f in report(again, x, sphere).findings}
    assert finer.error < 0.5 * row["1.terms.dilation"].error and finer.cost > 1
    assert later["1.terms.dilation"].error < 0.5 * row["1.terms.dilation"].error
    assert str(finer) in str(found) and "oversample=2 lowers this to" in str(finer)
    assert [remedy.argument for remedy in row["3"].remedies] == ["oversample=2"]
    small = nn.Sequential(*layers[:3])
    limit = max(f.error for f in report(small, x, sphere).findings[:-1] if f.error == f.error) * 1.001
    added = report(small, x, sphere, tolerance=limit)
    assert added.ok or [(f.name, f.cause) for f in added.culprits] == [("(model)", "sampling")]
    assert all(f.remaining != f.remaining for f in report(nn.Sequential(*layers[:1]), x, sphere).findings)


def test_reports_warn_of_what_is_seldom_meant() -> None:
    def told(orientations: int, x: torch.Tensor) -> tuple[str, ...]:
        space = pg.SE2(orientations)
        model = nn.Sequential(pg.nn.Lift(space, 1, 2, kernel_size=3), pg.nn.Project(space))
        found = pg.testing.report(model, x, space)
        assert all(text in str(found) for text in found.warnings)
        return found.warnings

    x = torch.rand(1, 1, 8, 8)
    assert not told(8, x) and not told(8, 255 * (x - 0.5))
    (eight,) = told(8, (255 * x).floor())
    assert eight.endswith("x / 255")
    (seven,) = told(7, x)
    assert "the 7 orientations" in seven and "multiples of 4" in seven
