"""Derivatives along the frame: those of known functions, the generator of diffusion, periodic angles in radians."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pdegcnn as pg
from pdegcnn.functional import diffusion, gradient_norm, laplacian, lateral_laplacian
from pdegcnn.pde.derivatives import PAIRS
from pdegcnn.pde.mesh_derivatives import MeshDerivatives
from pdegcnn.spaces import Space

from ..helpers import DIFFERENTIABLE, sheet, spherical

DOUBLE = {"dtype": torch.float64}
GRID = pg.sphere.SphereGrid.gauss_legendre(12)
SPHERE, GROUP = pg.S2(GRID), pg.SO3(GRID, 5)
LEAST = 1e-6
"""Smoothing that a band-limited signal does not notice."""


def leaning(seed: int) -> Tensor:
    """A metric ``[1,3,3]`` whose axes are not those of the frame."""
    torch.manual_seed(seed)
    factor = torch.eye(3, **DOUBLE) + 0.4 * torch.tril(torch.randn(3, 3, **DOUBLE), -1)
    return (factor @ factor.mT)[None]


def quadratic(x: Tensor, y: Tensor, c: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """A polynomial with its gradient ``[2,...]`` and its Hessian ``[2,2]``."""
    value = c[0] + c[1] * x + c[2] * y + c[3] * x**2 / 2 + c[4] * x * y + c[5] * y**2 / 2
    gradient = torch.stack((c[1] + c[3] * x + c[4] * y, c[2] + c[4] * x + c[5] * y))
    return value, gradient, torch.tensor([[c[3], c[4]], [c[4], c[5]]], **DOUBLE)


COEFFICIENTS = st.lists(st.floats(-2, 2), min_size=6, max_size=6)
INSIDE = slice(4, -4)


def image(c: list[float], size: int = 13) -> tuple[Tensor, Tensor, Tensor]:
    at = torch.arange(size, **DOUBLE) - size // 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    return quadratic(x, y, c)


@settings(max_examples=6)
@given(c=COEFFICIENTS, smoothing=st.floats(0.1, 1.3))
def test_quadratic_polynomials_on_the_plane_are_exact(c: list[float], smoothing: float) -> None:
    u, gradient, hessian = image(c)
    w = torch.tensor([2.0, 0.5], **DOUBLE)
    norm = ((gradient / w[:, None, None]) ** 2).sum(0).sqrt()
    found = gradient_norm(u[None, None], pg.R2(), w, smoothing=smoothing)
    torch.testing.assert_close(found[0, 0, INSIDE, INSIDE], norm[INSIDE, INSIDE], atol=1e-9, rtol=1e-9)
    trace = laplacian(u[None, None], pg.R2(), w, smoothing=smoothing)[0, 0, INSIDE, INSIDE]
    torch.testing.assert_close(trace, hessian[0, 0] / 4 + 4 * hessian[1, 1] + 0 * trace, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("orientations", [1, 5, 8])
@settings(max_examples=6)
@given(c=COEFFICIENTS)
def test_quadratic_polynomials_on_se2_are_exact_along_every_direction(orientations: int, c: list[float]) -> None:
    u, gradient, hessian = image(c)
    space = pg.SE2(orientations)
    score = u.expand(1, 1, orientations, *u.shape)
    far = torch.tensor([1.0, 1e9, 1e9], **DOUBLE)  # a metric that sees one derivative alone
    ahead = gradient_norm(score, space, far)
    aside = gradient_norm(score, space, far[[1, 0, 2]])
    across = lateral_laplacian(score, space)
    for k, angle in enumerate(space.angles):
        forward = torch.stack((angle.cos(), angle.sin()))
        sideways = torch.stack((-angle.sin(), angle.cos()))
        for found, way in ((ahead, forward), (aside, sideways)):
            wanted = torch.einsum("i,ihw->hw", way, gradient).abs()
            torch.testing.assert_close(found[0, 0, k, INSIDE, INSIDE], wanted[INSIDE, INSIDE], atol=1e-7, rtol=1e-7)
        inside = across[0, 0, k, INSIDE, INSIDE]
        torch.testing.assert_close(inside, sideways @ hessian @ sideways + 0 * inside, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("orientations", [5, 8])
@settings(max_examples=6)
@given(order=st.integers(0, 2), phase=st.floats(0, 6), smoothing=st.floats(0, 1))
def test_angles_are_periodic_and_in_radians(orientations: int, order: int, phase: float, smoothing: float) -> None:
    space = pg.SE2(orientations)
    wave = torch.cos(order * space.angles + phase)[:, None, None].expand(1, 1, orientations, 5, 6)
    slope = torch.sin(order * space.angles + phase)[:, None, None].expand_as(wave)
    factor = math.exp(-((smoothing * order) ** 2) / 2)
    metric = torch.tensor([1.0, 1.0, 2.0], **DOUBLE)
    found = gradient_norm(wave, space, metric, smoothing=(smoothing, 1.0))
    torch.testing.assert_close(found, (order * factor * slope).abs() / 2, atol=1e-9, rtol=1e-9)
    found = laplacian(wave, space, metric, smoothing=(smoothing, 1.0))
    torch.testing.assert_close(found, -(order**2) * factor * wave / 4, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_laplacian_generates_diffusion_in_every_metric(seed: int) -> None:
    """By spectral solvers: to rounding on S2 and SO(3), up to the stencil on SE(2), where waves are resolved."""
    metric, rate = leaning(seed), 1e-6
    space = pg.SE2(8)
    at = torch.arange(64, **DOUBLE) * (2 * math.pi / 64)
    u = torch.cos(at + 2 * at[:, None] + seed) * torch.cos(2 * space.angles + 0.5)[:, None, None]
    u = (u + torch.sin(2 * at - at[:, None]) * torch.cos(space.angles)[:, None, None])[None, None]
    wanted = (diffusion(u, space, metric, time=rate, method="spectral") - u) / rate
    found = laplacian(u, space, metric, smoothing=(0.0, 0.3), boundary="periodic")
    assert (found - wanted).abs().max() < 6e-3 * wanted.abs().max()
    for space, form in ((GROUP, metric), (SPHERE, torch.tensor([0.7], **DOUBLE))):
        u = spherical(space)
        wanted = (diffusion(u, space, form, time=rate) - u) / rate
        found = laplacian(u, space, form, smoothing=(0.0, LEAST))
        assert (found - wanted).abs().max() < 2e-4 * wanted.abs().max()  # the step's own error


def harmonic(degree: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``cos^degree`` of the colatitude with its first and second derivative by it, and the colatitude."""
    theta = torch.tensor(GRID.theta, **DOUBLE)[:, None].expand(GRID.shape)
    c, s = theta.cos(), theta.sin()
    slope = -degree * c ** (degree - 1) * s
    bend = degree * (degree - 1) * c ** max(degree - 2, 0) * s**2 - degree * c**degree
    return c**degree, slope, bend, theta


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_zonal_functions_on_the_sphere(degree: int) -> None:
    u, slope, bend, theta = harmonic(degree)
    w = torch.tensor([2.0], **DOUBLE)
    found = gradient_norm(u[None, None], SPHERE, w, smoothing=LEAST)[0, 0]
    torch.testing.assert_close(found, slope.abs() / 2, atol=1e-9, rtol=1e-7)
    found = laplacian(u[None, None], SPHERE, w, smoothing=LEAST)[0, 0]
    torch.testing.assert_close(found, (bend + slope * theta.cos() / theta.sin()) / 4, atol=1e-9, rtol=1e-7)
    found = lateral_laplacian(u[None, None], SPHERE, smoothing=LEAST)[0, 0]
    some = slope.abs() > 0.05  # elsewhere no direction is that of the gradient
    torch.testing.assert_close(found[some], bend[some], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("degree", [1, 2])
def test_functions_of_the_sphere_seen_from_so3(degree: int) -> None:
    """Sideways of a meridian's direction is along the circle of latitude, and the other way round."""
    u, slope, bend, theta = harmonic(degree)
    lifted = u.expand(1, 1, 8, *GRID.shape)
    space = pg.SO3(GRID, 8)
    across = lateral_laplacian(lifted, space, smoothing=(0.0, LEAST))[0, 0]
    torch.testing.assert_close(across[0], slope * theta.cos() / theta.sin(), atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(across[2], bend, atol=1e-9, rtol=1e-7)
    norm = gradient_norm(lifted, space, torch.tensor([1.0, 1.0, 7.0], **DOUBLE), smoothing=(0.0, LEAST))
    torch.testing.assert_close(norm[0, 0], slope.abs().expand_as(norm[0, 0]), atol=1e-7, rtol=1e-6)


@lru_cache
def flat(orientations: int = 8) -> tuple[pg.Mesh, Tensor]:
    """A flat mesh in a random gauge, and its directions ``[2,Or,V]`` in the plane."""
    mesh = sheet(6, 7, orientations=orientations)
    mesh = mesh.with_gauge(6 * torch.rand(mesh.vertex_count))
    x, y, _ = mesh.frames_in_space()
    c, s = mesh.angles.cos()[:, None, None], mesh.angles.sin()[:, None, None]
    return mesh, (c * x + s * y).movedim(-1, 0)[:2]


@settings(max_examples=6)
@given(c=COEFFICIENTS)
def test_quadratic_polynomials_on_a_flat_mesh_are_exact(c: list[float]) -> None:
    """Everywhere, the border included, whatever the gauge; lengths are in units of the mesh."""
    mesh, ways = flat()
    u, gradient, hessian = quadratic(*mesh.vertices.T[:2], c)
    u = u.expand(1, 1, 8, -1)
    found = MeshDerivatives(mesh, None, None, u).first(u)[:, 0, 0]
    wanted = torch.einsum("iv,iov->ov", gradient, ways) * mesh.unit
    torch.testing.assert_close(found[0], wanted, atol=1e-9, rtol=1e-9)
    aside = torch.einsum("iv,iov->ov", gradient, ways.roll(-2, 1)) * mesh.unit  # a quarter turn on
    torch.testing.assert_close(found[1], aside, atol=1e-9, rtol=1e-9)
    bends = torch.einsum("iov,ij,jov->ov", ways, hessian, ways) * mesh.unit**2
    torch.testing.assert_close(lateral_laplacian(u, mesh)[0, 0], bends.roll(-2, 0), atol=1e-9, rtol=1e-9)


def test_directions_are_turned_on_the_way_to_a_neighbour() -> None:
    """A function of the direction in the plane alone has no derivatives but by the angle."""
    mesh, ways = flat()
    angle = torch.atan2(ways[1], ways[0])
    u = (torch.cos(angle) + 0.5 * torch.sin(3 * angle))[None, None]
    derivatives = MeshDerivatives(mesh, (0.0, 1.0), None, u)
    assert derivatives.first(u)[:2].abs().max() < 1e-10
    second = dict(zip(PAIRS[3], derivatives.second(u)))
    turned = -(torch.cos(angle) + 4.5 * torch.sin(3 * angle))
    torch.testing.assert_close(second[2, 2][0, 0], turned, atol=1e-9, rtol=1e-9)
    for pair in ((0, 0), (1, 1), (0, 1), (0, 2), (1, 2)):
        assert second[pair].abs().max() < 1e-10


def test_products_on_a_flat_mesh_are_those_of_se2() -> None:
    """The frame turns with the direction: ``A3 A1 = A1 A3 + A2``, of which the symmetric product holds a half."""
    mesh, ways = flat()
    x, y = mesh.vertices.T[:2] / mesh.unit
    u = (ways[0] * (x**2 + x * y))[None, None]  # cos(angle) times a polynomial
    second = dict(zip(PAIRS[3], MeshDerivatives(mesh, (0.0, 1.0), None, u).second(u)))
    c, s, sign = ways[0], ways[1], torch.sign(ways[0, 0] * ways[1, 2] - ways[1, 0] * ways[0, 2])
    gradient = torch.stack((2 * x + y, x))
    ahead = c * gradient[0] + s * gradient[1]
    aside = sign * (c * gradient[1] - s * gradient[0])
    turned = -sign * s * ahead + c * aside / 2  # A1 applied to the derivative by the angle, and half of A2
    torch.testing.assert_close(second[0, 2][0, 0], turned, atol=1e-9, rtol=1e-9)


def test_derivatives_on_a_sphere_mesh_approach_those_on_the_sphere() -> None:
    errors = []
    for subdivisions in (2, 3):
        mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(subdivisions), orientations=1)
        z = mesh.vertices[:, 2]
        found = laplacian((z**2)[None, None, None], mesh, torch.ones(3, **DOUBLE))[0, 0, 0] / mesh.unit**2
        errors.append(float((found - (2 - 6 * z**2)).abs().max()))
    assert errors[1] < 0.5 * errors[0] < 1.0


def test_across_is_along_the_gradient_for_functions_of_position() -> None:
    mesh, _ = flat(1)
    x, y = mesh.vertices.T[:2] / mesh.unit
    u = ((0.6 * x + 0.8 * y + 20) ** 2)[None, None, None]
    found = lateral_laplacian(u, mesh)
    torch.testing.assert_close(found, torch.full_like(found, 2.0), atol=1e-8, rtol=1e-8)


def test_the_crest_of_a_line_knows_its_direction() -> None:
    """Where the gradient vanishes: a bright line bends down across itself, a dark one up."""
    at = torch.arange(15, **DOUBLE) - 7
    for angle in (0.0, 0.4, math.pi / 4):
        across = math.cos(angle) * at + math.sin(angle) * at[:, None]
        line = torch.exp(-(across**2) / 4)[None, None]
        for sign in (1, -1):
            assert sign * lateral_laplacian(sign * line, pg.R2())[0, 0, 7, 7] < -0.2


@pytest.mark.parametrize("space", DIFFERENTIABLE, ids=str)
def test_gradcheck_and_constants(space: Space) -> None:
    shape = space.grid.shape if hasattr(space, "grid") else (5, 6)
    shape = (space.vertex_count,) if isinstance(space, pg.Mesh) else shape
    shape = (4, 5, 6) if isinstance(space, pg.R3) else shape
    lifted = (space.orientations,) if space.has_orientations else ()
    u = torch.rand(1, 1, *lifted, *shape, **DOUBLE).requires_grad_()
    w = (0.5 + torch.rand(1, space.metric_dim, **DOUBLE)).requires_grad_()
    for run in (
        lambda u, w: gradient_norm(u, space, w),
        lambda u, w: laplacian(u, space, w),
        lambda u, w: lateral_laplacian(u, space),
    ):
        assert torch.autograd.gradcheck(run, (u, w), fast_mode=True, atol=1e-5)
        flat_signal = torch.full_like(u, 0.7).detach().requires_grad_()
        value = run(flat_signal, w.detach())
        assert value.abs().max() < 1e-8
        (gradient,) = torch.autograd.grad(value.sum(), flat_signal)
        assert gradient.isfinite().all()


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), smoothing=st.floats(0.2, 0.7))
def test_quadratic_polynomials_of_volumes_are_exact(seed: int, smoothing: float) -> None:
    """In units of length, whatever the shape of a voxel."""
    torch.manual_seed(seed)
    space, spd = pg.R3(spacing=(2.0, 0.5, 1.0)), leaning(seed)
    at = [(torch.arange(n, **DOUBLE) - n // 2) * step for n, step in zip((13, 25, 15), space.grid_steps)]
    z, y, x = torch.meshgrid(*at, indexing="ij")
    points = torch.stack((x, y, z), -1)
    slope, hessian = torch.randn(3, **DOUBLE), torch.randn(3, 3, **DOUBLE)
    hessian = hessian + hessian.mT
    u = (points @ slope + torch.einsum("...i,ij,...j->...", points, hessian, points) / 2)[None, None]
    inside = (0, 0, *(slice(5, -5) if n > 20 else slice(4, -4) for n in u.shape[2:]))
    gradient = slope + points @ hessian
    inverse = torch.linalg.inv(spd[0])
    norm = torch.einsum("...i,ij,...j->...", gradient, inverse, gradient).sqrt()
    options = {"smoothing": smoothing}
    found = gradient_norm(u, space, spd, **options)
    torch.testing.assert_close(found[inside], norm[None, None][inside], atol=1e-9, rtol=1e-9)
    found = laplacian(u, space, spd, **options)[inside]
    torch.testing.assert_close(found, (inverse * hessian).sum() + 0 * found, atol=1e-8, rtol=1e-8)


def test_tubes_and_sheets_know_what_is_across_them() -> None:
    """On the axis of a tube the gradient vanishes; the gradients around it say that two directions are across."""
    at = torch.arange(15, **DOUBLE) - 7
    z, y, x = torch.meshgrid(at, at, at, indexing="ij")
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.4, 0.3], [0.4, 0, -0.7], [-0.3, 0.7, 0]], **DOUBLE))
    along, first, second = torch.einsum("ij,j...->i...", turn, torch.stack((x, y, z)))
    for square, across in ((first**2 + second**2, 1), (first**2, 1)):
        u = torch.exp(-square / 8)[None, None] + 0.01 * along**2  # flat along it, except for a small bend
        found = lateral_laplacian(u, pg.R3(), smoothing=0.5)[0, 0, 7, 7, 7]
        bend = -across / 4 / (1 + 0.25 / 4)  # of the Gaussian, smoothed; less than itself
        assert bend * 1.1 < found < bend * 0.75
