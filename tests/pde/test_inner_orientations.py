"""Terms on SE(2) that are solved on more orientations than their signals have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pdegcnn as pg
from pdegcnn.functional import convection, diffusion, dilation, erosion
from pdegcnn.pde.grid_interpolation import coarser_matrix, finer_matrix

from .references import Waves

W = torch.tensor([0.8, 1.3, 1.0], dtype=torch.float64)
C = torch.tensor([0.9, -0.4, 0.3], dtype=torch.float64)
TERMS: dict[str, Callable[..., Tensor]] = {
    "convection": lambda u, s, **o: convection(u, s, C, **o),
    "spectral": lambda u, s, **o: convection(u, s, C, method="spectral", **o),
    "diffusion": lambda u, s, **o: diffusion(u, s, W, kernel_size=3, **o),
    "dilation": lambda u, s, **o: dilation(u, s, W, kernel_size=5, **o),
    "erosion": lambda u, s, **o: erosion(u, s, W, kernel_size=5, **o),
    "log-plus": lambda u, s, **o: dilation(u, s, W, kernel_size=3, semifield="log_plus", temperature=0.3, **o),
}
COUNTS = st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda pair: (pair[0], sum(pair)))


def signal(orientations: int, size: int = 6) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 2, orientations, size, size, dtype=torch.float64)


def held(u: Tensor) -> Tensor:
    """The orders that the orientations of u hold: all but that of Nyquist."""
    waves = torch.fft.rfft(u, dim=2)
    if u.shape[2] % 2 == 0:
        waves[:, :, -1] = 0
    return torch.fft.irfft(waves, n=u.shape[2], dim=2)


@given(counts=COUNTS)
@settings(deadline=None, max_examples=30)
def test_there_and_back_keeps_the_orders_held(counts: tuple[int, int]) -> None:
    few, many = counts
    u = signal(few, 2)
    back = coarser_matrix(few, many) @ finer_matrix(few, many) @ u.flatten(3)
    torch.testing.assert_close(back, held(u).flatten(3), atol=1e-12, rtol=0)
    torch.testing.assert_close(coarser_matrix(few, many).sum(1), torch.ones(few).double(), atol=1e-12, rtol=0)


@given(counts=COUNTS, order=st.integers(0, 20))
@settings(deadline=None, max_examples=50)
def test_what_orientations_cannot_hold_is_left_out(counts: tuple[int, int], order: int) -> None:
    """A wave that the finer orientations resolve either stays what it is or vanishes."""
    few, many = counts
    order = order % ((many - 1) // 2 + 1)
    fine, coarse = (2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in (many, few))
    stays = float(order <= (few - 1) // 2)
    expected = stays * torch.cos(order * coarse + 0.4)
    found = coarser_matrix(few, many) @ torch.cos(order * fine + 0.4)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("inner", [12, 16])
@pytest.mark.parametrize("term", TERMS)
def test_constants_and_quarter_turns(term: str, inner: int) -> None:
    space, run = pg.SE2(8), TERMS[term]
    constant = torch.full((1, 1, 8, 6, 6), 0.7, dtype=torch.float64)
    torch.testing.assert_close(run(constant, space, inner_orientations=inner), constant, atol=1e-12, rtol=0)
    u = signal(8)
    moved = run(space.transform(u, angle=90), space, inner_orientations=inner)
    there = space.transform(run(u, space, inner_orientations=inner), angle=90)
    torch.testing.assert_close(moved, there, atol=1e-11, rtol=0)


@pytest.mark.parametrize("term", TERMS)
def test_it_is_the_term_on_more_orientations(term: str) -> None:
    """Of a signal that few orientations hold: solve on many, leave out the orders that few do not hold."""
    wave, run = Waves(8, order=2), TERMS[term]
    found = run(wave.sample(8)[None, None], pg.SE2(8), inner_orientations=16)
    many = run(wave.sample(16)[None, None], pg.SE2(16))
    expected = (coarser_matrix(8, 16) @ many.flatten(3)).view_as(found)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_convection_by_nothing_keeps_the_orders_held() -> None:
    u = signal(8)
    still = torch.zeros(3, dtype=torch.float64)
    for method in ("cubic", "linear", "spectral"):
        found = convection(u, pg.SE2(8), still, method=method, inner_orientations=12)
        torch.testing.assert_close(found, held(u), atol=1e-11, rtol=0)


def test_diffusion_keeps_the_mean() -> None:
    u = signal(8)
    for method in ("kernel", "spectral"):
        found = diffusion(u, pg.SE2(8), W, method=method, boundary="periodic", inner_orientations=16)
        torch.testing.assert_close(found.mean((2, 3, 4)), u.mean((2, 3, 4)))


def test_derivatives() -> None:
    space, u = pg.SE2(4), signal(4, 4)[:1, :1].requires_grad_()
    vector, metric = C.clone().requires_grad_(), W.clone().requires_grad_()

    def run(u: Tensor, vector: Tensor, metric: Tensor) -> Tensor:
        u = convection(u, space, vector, inner_orientations=8)
        return dilation(u, space, metric, kernel_size=3, inner_orientations=8)

    assert torch.autograd.gradcheck(run, (u, vector, metric))


@pytest.mark.parametrize("count", [8, 10, 4])
def test_numbers_that_do_not_fit(count: int) -> None:
    with pytest.raises(ValueError, match="inner_orientations: expected a multiple of 4 above 8"):
        pg.nn.PDELayer(pg.SE2(8), 1, 1, inner_orientations=count)


@pytest.mark.parametrize("space", [pg.R2(), pg.R3()])
def test_other_spaces_have_no_orientations(space: pg.R2 | pg.R3) -> None:
    with pytest.raises(ValueError, match="inner_orientations: expected None on"):
        pg.nn.PDELayer(space, 1, 1, inner_orientations=8)


def test_a_layer_passes_it_to_every_term_and_to_nothing_else() -> None:
    terms = ("convection", "diffusion", "dilation", "erosion")
    layer = pg.nn.PDELayer(pg.SE2(8), 2, 2, terms, inner_orientations=12, convection="spectral")
    parts: dict[str, Any] = dict(layer.terms.items())
    assert all(term.solver.options.inner_orientations == 12 for term in parts.values())
    plain = pg.nn.PDELayer(pg.SE2(8), 2, 2, terms, convection="spectral")
    plain.load_state_dict(layer.state_dict())
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in layer.parameters())
    u = torch.rand(1, 2, 8, 6, 6)
    assert layer(u).shape == plain(u).shape


@pytest.mark.parametrize("orientations", [4, 8, 9])
def test_cells_between_more_orientations_are_those_of_the_default_there(orientations: int) -> None:
    """``oversample=(2, None)`` reads what the default reads of the same signal on twice as many orientations."""
    u, space = signal(orientations, 9), pg.SE2(orientations)
    wide = (finer_matrix(orientations, 2 * orientations) @ u.flatten(3)).view(2, 2, -1, 9, 9)
    for term in (dilation, erosion):
        found = term(u, space, W, oversample=(2, None))
        expected = term(wide, pg.SE2(2 * orientations), W)[:, :, ::2]
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_cells_by_their_names() -> None:
    u, plane = signal(8), torch.rand(1, 1, 6, 6)
    torch.testing.assert_close(dilation(u, pg.SE2(8), W, oversample=(1, None)), dilation(u, pg.SE2(8), W))
    ones = torch.ones(2)
    torch.testing.assert_close(dilation(plane, pg.R2(), ones, oversample=(1, None)), dilation(plane, pg.R2(), ones))
    with pytest.raises(ValueError, match="oversample: expected"):
        dilation(plane, pg.R2(), ones, oversample=(2, None))
    with pytest.raises(TypeError, match="oversample: expected a positive int, got None"):
        sphere = pg.S2(pg.sphere.SphereGrid.gauss_legendre(4))
        dilation(torch.rand(1, 1, 4, 8), sphere, torch.ones(1), oversample=(1, None))
