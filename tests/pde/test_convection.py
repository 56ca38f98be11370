"""Convection: inverse, composition, transport of known signals, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.functional import convection
from pdegcnn.spaces import GridSpace

from ..helpers import GRID_CASES, bump, signal

METHODS = ("cubic", "linear", "spectral")


def vectors(space: GridSpace, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(2, space.dim, dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_nothing_moves_along_zero(space: GridSpace, method: str) -> None:
    u = signal(space)
    torch.testing.assert_close(convection(u, space, torch.zeros(2, space.dim).double(), method=method), u)


@pytest.mark.parametrize("method", METHODS)
@given(rows=st.integers(-3, 3), columns=st.integers(-3, 3))
def test_whole_pixels_on_the_plane_are_exact(method: str, rows: int, columns: int) -> None:
    u = signal(pg.R2(), (8, 9))
    moved = convection(
        u, pg.R2(), torch.tensor([columns, rows], dtype=torch.float64), method=method, boundary="periodic"
    )
    torch.testing.assert_close(moved, u.roll((rows, columns), dims=(-2, -1)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_each_orientation_moves_forward_along_itself(method: str) -> None:
    space = pg.SE2(4)
    u = signal(space, (7, 7))
    moved = convection(u, space, torch.tensor([2.0, 0.0, 0.0]).double(), method=method, boundary="periodic")
    for o, (rows, columns) in enumerate([(0, 2), (2, 0), (0, -2), (-2, 0)]):
        torch.testing.assert_close(moved[:, :, o], u[:, :, o].roll((rows, columns), dims=(-2, -1)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("space", [pg.SE2(8), pg.SE2(5)], ids=str)
def test_a_turn_by_one_step_shifts_the_orientations(space: pg.SE2, method: str) -> None:
    u = signal(space)
    turn = torch.tensor([0.0, 0.0, 2 * math.pi / space.orientations], dtype=torch.float64)
    torch.testing.assert_close(convection(u, space, turn, method=method), u.roll(1, dims=2), atol=1e-12, rtol=0)


@pytest.mark.parametrize("space", [s for s in GRID_CASES if s.orientations % 2], ids=str)
@given(seed=st.integers(0, 10**6))
def test_adjoint_of_a_spectral_step_is_its_inverse(space: GridSpace, seed: int) -> None:
    """Unitary on odd numbers of samples; even ones have a mode without sign."""
    torch.manual_seed(seed)
    u, c = signal(space).requires_grad_(), vectors(space)
    there = convection(u, space, c, method="spectral")
    (back,) = torch.autograd.grad(there, u, there.detach())
    torch.testing.assert_close(back, u.detach(), atol=1e-11, rtol=0)
    torch.testing.assert_close(there.detach().norm(), u.detach().norm())


@pytest.mark.parametrize("padding", ["replicate", "zeros", "periodic"])
def test_cubic_steps_are_exact_for_polynomials_of_degree_two(padding: str) -> None:
    """Away from the border, whatever lies outside the image."""
    y, x = torch.meshgrid(torch.arange(12.0).double(), torch.arange(13.0).double(), indexing="ij")

    def polynomial(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 1 + 0.3 * x - 0.7 * y + 0.2 * x * y - 0.1 * x**2 + 0.05 * y**2

    c = torch.tensor([0.3, -1.4], dtype=torch.float64)
    moved = convection(polynomial(x, y)[None, None], pg.R2(), c, boundary=padding)
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(moved[inner], polynomial(x - c[0], y - c[1])[None, None][inner])


def test_cubic_step_sees_the_border_as_its_padding_says() -> None:
    """A step across an image that is extended by hand gives the same."""
    u, c = signal(pg.R2(), (7, 8)), torch.tensor([1.3, -0.6], dtype=torch.float64)
    for name, mode in (("replicate", "replicate"), ("zeros", "constant"), ("periodic", "circular")):
        wide = torch.nn.functional.pad(u, (6, 6, 6, 6), mode=mode)
        moved = convection(wide, pg.R2(), c)[..., 6:-6, 6:-6]
        torch.testing.assert_close(convection(u, pg.R2(), c, boundary=name), moved)


@given(seed=st.integers(0, 10**6), s=st.floats(-1.5, 1.5), t=st.floats(-1.5, 1.5))
def test_spectral_steps_along_one_translation_compose_exactly(seed: int, s: float, t: float) -> None:
    torch.manual_seed(seed)
    space = pg.SE2(5)
    u, c = signal(space), vectors(space)
    c[:, 2] = 0
    twice = convection(convection(u, space, s * c, method="spectral"), space, t * c, method="spectral")
    torch.testing.assert_close(twice, convection(u, space, (s + t) * c, method="spectral"), atol=1e-11, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_composition_along_a_screw_gets_exact_with_resolution(method: str) -> None:
    c = torch.tensor([2.0, 0.5, 0.7], dtype=torch.float64)

    def error(orientations: int, size: int) -> float:
        space, scale = pg.SE2(orientations), size / 17
        u = bump(space, size, 2 * scale)
        v = c * torch.tensor([scale, scale, 1.0], dtype=torch.float64)
        halves = convection(convection(u, space, v, method=method, time=0.5), space, v, method=method, time=0.5)
        return float((halves - convection(u, space, v, method=method)).norm() / u.norm())

    coarse, fine = error(8, 17), error(16, 33)
    assert fine < 0.6 * coarse
    assert fine < {"linear": 0.05, "cubic": 0.01, "spectral": 5e-4}[method]


def test_methods_agree_on_smooth_signals() -> None:
    space = pg.SE2(16)
    u, c = bump(space, 25, 3.0), torch.tensor([1.3, -0.4, 0.3], dtype=torch.float64)
    exact = convection(u, space, c, method="spectral")
    for method, error in (("linear", 0.03), ("cubic", 0.002)):
        assert (convection(u, space, c, method=method) - exact).norm() / u.norm() < error


@pytest.mark.parametrize("boundary", ["replicate", "zeros", "periodic"])
@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_maximum_principle(space: GridSpace, boundary: str) -> None:
    u = signal(space)
    moved = convection(u, space, vectors(space, 2.0), method="linear", boundary=boundary)
    low, high = u.min(), u.max()
    assert moved.min() >= low - 1e-12
    assert moved.max() <= high + 1e-12


@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_constants_stay(space: GridSpace) -> None:
    u = torch.ones_like(signal(space))
    for method in METHODS:
        torch.testing.assert_close(convection(u, space, vectors(space, 3.0), method=method), u)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("space", [*GRID_CASES[:3], GRID_CASES[-1]], ids=str)
def test_gradients(space: GridSpace, method: str) -> None:
    u = signal(space, (4, 3), batch=1).requires_grad_()
    c = (0.3 + 0.2 * torch.rand(2, space.dim, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda u, c: convection(u, space, c, method=method), (u, c))


@pytest.mark.parametrize("space", GRID_CASES[:2], ids=str)
def test_generator_is_the_directional_derivative(space: GridSpace) -> None:
    """For small t, ``(u(g exp(-t c)) - u) / t`` tends to ``-c u`` with c the left-invariant field."""
    u, t = bump(space, 21, 3.0), 1e-5
    c = torch.tensor([1.0, 0.6], dtype=torch.float64)
    field = torch.cat((c, c.new_zeros(space.dim - 2)))
    grid = space.to_grid(u)
    line = 2 * math.pi * torch.fft.fftfreq(21, dtype=torch.float64)
    spectrum = torch.fft.fft2(grid)
    dx = torch.fft.ifft2(1j * line * spectrum).real
    dy = torch.fft.ifft2(1j * line[:, None] * spectrum).real
    a = space.angles[:, None, None]
    expected = -((c[0] * a.cos() - c[1] * a.sin()) * dx + (c[0] * a.sin() + c[1] * a.cos()) * dy)
    got = (convection(u, space, field, time=t, method="spectral") - u) / t
    torch.testing.assert_close(space.to_grid(got), expected, atol=1e-5, rtol=0)
