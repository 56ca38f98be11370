"""Metrics are valid whatever their parameters, and reach as far as they say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.kernels.metric import METRICS, SPD, Axisymmetric, Diagonal, Finsler, Randers, as_metric, cell_of

FORMS = [(form, dim) for form, kind in METRICS.items() for dim in kind.dims]


@pytest.mark.parametrize("form, dim", FORMS)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 2.0))
def test_every_parameter_gives_a_norm(form: str, dim: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = scale * torch.randn(3, *METRICS[form].raw_shape(dim), generator=generator, dtype=torch.float64)
    metric = METRICS[form].from_raw(raw)
    v = torch.randn(20, dim, generator=generator, dtype=torch.float64)
    squared = metric.squared_norm(v)
    assert squared.shape == (3, 20)
    assert (squared > 0).all()
    torch.testing.assert_close(metric.squared_norm(2.5 * v), 6.25 * squared)
    assert metric.squared_norm(0 * v).abs().max() == 0


@pytest.mark.parametrize("form, dim", FORMS)
def test_diagonal_start_is_the_diagonal_metric_along_the_axes(form: str, dim: int) -> None:
    log_weights = torch.randn(3, dim, dtype=torch.float64) * 0.3
    if form == "axisymmetric":
        log_weights[:, 1] = log_weights[:, 0]
    metric = METRICS[form].from_raw(METRICS[form].raw_of_diagonal(log_weights))
    axes = torch.eye(dim, dtype=torch.float64)
    torch.testing.assert_close(metric.squared_norm(axes), (2 * log_weights).exp())


@pytest.mark.parametrize("form, dim", FORMS)
@given(seed=st.integers(0, 10**6))
def test_nothing_inside_the_ball_lies_beyond_its_reach(form: str, dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = 0.7 * torch.randn(1, *METRICS[form].raw_shape(dim), generator=generator, dtype=torch.float64)
    metric = METRICS[form].from_raw(raw)
    v = torch.randn(500, dim, generator=generator, dtype=torch.float64)
    v = v / metric.squared_norm(v)[0, :, None].sqrt()  # on the unit sphere of the metric
    image, turn = metric.reach(torch.ones(1, dtype=torch.float64))[0]
    assert v[:, :2].norm(dim=-1).max() <= image * (1 + 1e-9)
    assert dim < 3 or v[:, 2].abs().max() <= turn * (1 + 1e-9)


@pytest.mark.parametrize("form, dim", FORMS)
def test_gradient_of_the_norm(form: str, dim: int) -> None:
    raw = 0.3 * torch.randn(2, *METRICS[form].raw_shape(dim), dtype=torch.float64)
    v = torch.randn(3, dim, dtype=torch.float64)
    raw.requires_grad_()
    assert torch.autograd.gradcheck(lambda r: METRICS[form].from_raw(r).squared_norm(v), raw)


def test_cometric_inverts() -> None:
    w = torch.rand(2, 3, dtype=torch.float64) + 0.5
    torch.testing.assert_close(Diagonal(w).cometric() @ torch.diag_embed(w**2), torch.eye(3).double().expand(2, 3, 3))
    torch.testing.assert_close(SPD(torch.diag_embed(w**2)).cometric(), Diagonal(w).cometric())


@pytest.mark.parametrize("dim", [2, 3])
def test_cell_of_a_metric(dim: int) -> None:
    w, factor = torch.rand(2, dim, dtype=torch.float64) + 0.5, torch.randn(2, dim, dim, dtype=torch.float64)
    for one, other in zip(cell_of(SPD(torch.diag_embed(w**2))), cell_of(Diagonal(w))):
        torch.testing.assert_close(one, other)
    matrix = factor @ factor.mT + torch.eye(dim)
    torch.testing.assert_close(cell_of(SPD(matrix))[1] ** 2, torch.linalg.det(matrix))
    assert torch.autograd.gradgradcheck(lambda f: cell_of(SPD(f @ f.mT + torch.eye(dim))), factor.requires_grad_())


def test_cells_of_extreme_metrics_have_a_size() -> None:
    for weight in (1e-38, 1e-19, 1e30):
        for size in cell_of(Diagonal(torch.full((1, 3), weight))):
            assert size.isfinite().all()
            assert (size > 0).all()


EYE = torch.eye(2, dtype=torch.float64)[None]
BENT = torch.tensor([[[1.0, 0.5], [0.0, 1.0]]], dtype=torch.float64)
WRONG_OBJECTS = {
    "negative": (lambda w: Diagonal(w * torch.tensor([-1.0, 1.0])), "expected positive weights"),
    "zero": (lambda w: Diagonal(w * torch.tensor([0.0, 1.0])), "expected positive weights"),
    "NaN": (lambda w: Diagonal(w * torch.nan), "expected finite values"),
    "too few weights": (lambda w: Diagonal(w[:, :1]), r"expected weights \[C,2\] in 'diagonal', got shape \(1, 1\)"),
    "too many weights": (lambda w: Diagonal(w.repeat(1, 2)), r"expected weights \[C,2\]"),
    "no channels": (lambda w: Diagonal(w[0]), r"expected weights \[C,2\] in 'diagonal', got shape \(2,\)"),
    "other channels": (lambda w: Diagonal(w.repeat(3, 1)), "one for each of 2 channels, got 3"),
    "not definite": (lambda w: SPD(-EYE), "expected positive definite matrices"),
    "asymmetric": (lambda w: SPD(BENT), "expected symmetric matrices"),
    "infinite": (lambda w: SPD(EYE * torch.inf), "expected finite values"),
    "another dimension": (lambda w: SPD(torch.eye(3).double()[None]), r"expected matrix \[C,2,2\]"),
    "vectors": (lambda w: SPD(w), r"expected matrix \[C,2,2\] in 'spd', got shape \(1, 2\)"),
    "in the plane": (lambda w: Axisymmetric(w), "which exists in dimension 3 only"),
    "even": (lambda w: Finsler(w.repeat(1, 2)), r"expected coefficients \[C,2m\+1\]"),
    "NaN in a coefficient": (lambda w: Finsler(torch.full((1, 5), torch.nan).double()), "expected finite values"),
    "long drift": (lambda w: Randers(EYE, w), r"expected a drift b with b\^T G\^-1 b < 1, got 2"),
    "drift of three": (lambda w: Randers(EYE, w[:, [0, 0, 0]]), r"expected drift \[C,2\]"),
    "Randers not definite": (lambda w: Randers(-EYE, 0.1 * w), "expected positive definite matrices"),
}


@pytest.mark.parametrize("which", WRONG_OBJECTS)
def test_a_wrong_object_is_refused_as_wrong_values_are(which: str) -> None:
    make, text = WRONG_OBJECTS[which]
    metric = make(torch.ones(1, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=f"^name: .*{text}"):
        as_metric(metric, 2, 2, "name")
    u = torch.rand(1, 2, 4, 4, dtype=torch.float64)
    functions = [pg.functional.dilation, pg.functional.erosion]
    if isinstance(metric, (Diagonal, SPD)):
        functions += [pg.functional.diffusion, pg.functional.gradient_norm, pg.functional.laplacian]
    for function in functions:
        with pytest.raises(ValueError, match=f"^metric: .*{text}"):
            function(u, pg.R2(), metric)


def test_a_wrong_object_on_a_group_is_refused() -> None:
    space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(3), 4)
    u = torch.rand(1, 1, 4, 3, 6)
    unequal = Axisymmetric(torch.tensor([[1.0, 5.0, 3.0]]))
    for term, options in ((pg.functional.dilation, {"distance": "exact"}), (pg.functional.diffusion, {})):
        with pytest.raises(ValueError, match="^metric: expected two equal weights first in 'axisymmetric'"):
            term(u, space, unequal, **options)
        with pytest.raises(ValueError, match=r"^metric: expected weights \[C,3\]"):
            term(u, space, Diagonal(torch.ones(1, 1)))
    with pytest.raises(ValueError, match="^metric: expected a 'diagonal' or 'spd' metric, got 'randers'"):
        pg.functional.dilation(u, space, Randers(EYE.float(), torch.zeros(1, 2)))


@pytest.mark.parametrize("form, dim", FORMS)
def test_an_object_from_parameters_is_returned_unchanged(form: str, dim: int) -> None:
    for channels in (1, 3):
        metric = METRICS[form].from_raw(torch.randn(channels, *METRICS[form].raw_shape(dim)))
        assert as_metric(metric, dim, 3) is metric
        meta = type(metric)(**{name: value.to("meta") for name, value in vars(metric).items()})
        assert as_metric(meta, dim, 3) is meta


def test_layers_do_not_check_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their metrics are valid for all parameters, and to read values waits for the device."""
    space, u = pg.SE2(4), torch.rand(1, 2, 4, 5, 5)
    layers = [
        pg.nn.PDELayer(space, 2, 2, ("convection", "diffusion", "dilation", "diffusion_shock")),
        pg.nn.Project(space, "dilated"),
    ]
    for name in ("_check_weights", "_check_matrices", "_check_finite"):
        monkeypatch.setattr(f"pdegcnn.kernels.metric.{name}", None)
    for layer in layers:
        layer(u)
