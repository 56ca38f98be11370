"""Metrics are valid whatever their parameters, and reach as far as they say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pdegcnn.kernels.metric import METRICS, SPD, Diagonal, cell_of

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
