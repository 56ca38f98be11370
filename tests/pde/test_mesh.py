"""PDE terms on the bundle of directions of a mesh: order, gauges, motions, and the agreement with SE(2)."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import pdegcnn as pg
import pdegcnn.functional as F
from pdegcnn.spaces.mesh_operators import turn_fibre
from pdegcnn.testing import equivariance_error

from ..helpers import bumpy_sphere, sheet, smooth, torus

MESHES = {"closed": bumpy_sphere(1), "open": sheet(4, 5, orientations=5)}
VECTOR = torch.tensor([[0.7, 0.3, 0.2], [-1.3, 0.4, -0.5]], dtype=torch.float64)
WEIGHTS = torch.tensor([[0.9, 1.4, 1.1], [0.6, 0.8, 0.7]], dtype=torch.float64)
TERMS: dict[str, Callable[[Tensor, pg.Mesh], Tensor]] = {
    "convection": lambda u, mesh: F.convection(u, mesh, VECTOR.to(u.dtype)),
    "convection-far": lambda u, mesh: F.convection(u, mesh, 4 * VECTOR.to(u.dtype)),
    "diffusion": lambda u, mesh: F.diffusion(u, mesh, WEIGHTS.to(u.dtype), alpha=0.65),
    "dilation": lambda u, mesh: F.dilation(u, mesh, WEIGHTS.to(u.dtype)),
    "erosion-flat": lambda u, mesh: F.erosion(u, mesh, WEIGHTS.to(u.dtype), alpha=0.5),
}


def signal(mesh: pg.Mesh, batch: int = 2, **kind) -> Tensor:
    kind.setdefault("dtype", torch.float64)
    return torch.randn(batch, 2, mesh.orientations, mesh.vertex_count, **kind)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("term", TERMS)
def test_constants_bounds_and_order(term: str, mesh: pg.Mesh) -> None:
    u, run = signal(mesh), TERMS[term]
    out = run(u, mesh)
    ones = torch.full_like(u, 3.25)
    torch.testing.assert_close(run(ones, mesh), ones)
    assert out.max() <= u.max() + 1e-12 and out.min() >= u.min() - 1e-12
    assert (run(u + torch.rand_like(u), mesh) >= out - 1e-12).all()
    torch.testing.assert_close(run(u[:1], mesh), out[:1])


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("term", TERMS)
def test_gauges_by_whole_steps_are_exact(term: str, dtype: torch.dtype, bound: float, mesh: pg.Mesh) -> None:
    u, run = signal(mesh, dtype=dtype), TERMS[term]
    angles = torch.randint(mesh.orientations, (mesh.vertex_count,)).double() * (2 * math.pi / mesh.orientations)
    turned = run(turn_fibre(u, -angles), mesh.with_gauge(angles))
    assert relative(turned, turn_fibre(run(u, mesh), -angles)) < bound


def directional(mesh: pg.Mesh, image: Tensor, slope: Tensor) -> Tensor:
    """A function plus the component of a tangent field along each direction: the same in every gauge."""
    angle = mesh.angles[:, None]
    return (image + slope.real * angle.cos() + slope.imag * angle.sin())[None, None].expand(1, 2, -1, -1)


@pytest.mark.parametrize("term", ["convection", "diffusion", "dilation"])
def test_errors_of_other_gauges_fall_with_the_number_of_directions(term: str) -> None:
    mesh, errors = bumpy_sphere(1), []
    image, slope = mesh.vertices[:, 0], 0.7 * torch.randn(mesh.vertex_count, dtype=torch.complex128)
    angles = 6 * torch.rand(mesh.vertex_count, dtype=torch.float64)
    for count in (8, 32):
        fine = mesh.with_orientations(count)
        turned = fine.with_gauge(angles)
        taps = (5 * count // 8) // 2 * 2 + 1  # the same angle
        options = {} if term == "convection" else {"kernel_size": (taps, 3)}
        argument = VECTOR if term == "convection" else WEIGHTS
        run = getattr(F, term)
        expected = turn_fibre(run(directional(fine, image, slope), fine, argument, **options), -angles)
        phase = torch.polar(torch.ones_like(angles), -angles)
        out = run(directional(turned, image, slope * phase), turned, argument, **options)
        errors.append(relative(out, expected))
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("term", TERMS)
def test_isometries_of_an_icosphere(term: str) -> None:
    """A fifth of a turn about a vertex maps the mesh onto itself; with five directions no interpolation is needed."""
    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(2), orientations=5)
    x, y, axis = (v[0] for v in mesh.frames_in_space())
    spin = torch.stack((x, y, axis), dim=1)
    c, s = math.cos(2 * math.pi / 5), math.sin(2 * math.pi / 5)
    turn = spin @ torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64) @ spin.T
    image = torch.cdist(mesh.vertices @ turn.T, mesh.vertices).argmin(1)
    angles = pg.spaces.mesh_isometry.isometry(mesh, image)[1]
    gauge, seen = torch.zeros(mesh.vertex_count, dtype=torch.float64), set()
    for first in range(mesh.vertex_count):  # frames that the turn maps to one another
        v = first
        while v not in seen:
            seen.add(v)
            if int(image[v]) not in seen:
                gauge[image[v]] = gauge[v] + angles[v]
            v = int(image[v])
    mesh = mesh.with_gauge(gauge)
    u = signal(mesh, batch=1)
    assert equivariance_error(lambda u: TERMS[term](u, mesh), u, mesh, symmetry=image) < 1e-9


def test_signals_and_layers_move_with_shifts_of_the_torus() -> None:
    mesh = torus(10, 11, orientations=4)
    r, c = torch.meshgrid(torch.arange(10), torch.arange(11), indexing="ij")
    image = ((r + 3) % 10 * 11 + (c - 2) % 11).flatten()
    model = nn.Sequential(pg.nn.Lift(mesh, 2, 3), pg.nn.PDELayer(mesh, 3, 2), pg.nn.Project(mesh)).double()
    assert equivariance_error(model, torch.randn(1, 2, 110, dtype=torch.float64), mesh, symmetry=image) < 1e-12


def compact(n: int) -> Tensor:
    """Noise on a patch in the middle of an image."""
    u = torch.zeros(1, 2, 8, n, n, dtype=torch.float64)
    u[..., 8:-8, 8:-8] = torch.rand(1, 2, 8, n - 16, n - 16, dtype=torch.float64)
    return u


@pytest.mark.parametrize("alpha", [0.5, 0.65, 1.0])
@pytest.mark.parametrize("term", ["dilation", "erosion"])
def test_morphology_of_the_flat_torus_is_that_of_se2(term: str, alpha: float) -> None:
    """The largest sample at the half-angle distance, as meshes take it: the same taps at the same costs."""
    n, run = 22, getattr(F, term)
    u = compact(n)
    samples = {"oversample": 1, "distance": "half_angle"}
    expected = run(u, pg.SE2(8), WEIGHTS, alpha=alpha, kernel_size="auto", **samples)
    out = run(u.flatten(-2), torus(n, n), WEIGHTS, alpha=alpha, kernel_size=(9, 9)).unflatten(-1, (n, n))
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)


def test_diffusion_of_the_flat_torus_is_that_of_se2() -> None:
    """Up to the balancing of the planar kernel's orientations, the sampled profile, and corners of its box."""
    n, weights = 26, WEIGHTS + torch.tensor([1.0, 1.0, 0.0])
    u = compact(n)
    expected = F.diffusion(
        u, pg.SE2(8), weights, alpha=1.0, method="sampled", kernel_size=(9, 11, 11), boundary="periodic"
    )
    out = F.diffusion(u.flatten(-2), torus(n, n), weights, alpha=1.0, kernel_size=(9, 13)).unflatten(-1, (n, n))
    assert relative(out, expected) < 1e-4


def test_convection_of_the_flat_torus_tends_to_that_of_se2() -> None:
    """Whole pixels along the axes are exact; else triangles and squares interpolate differently, to second order."""
    n = 20
    u = compact(n)
    shift = torch.tensor([[2.0, 0.0, 0.0], [0.0, -3.0, math.pi / 4]], dtype=torch.float64)
    mesh = torus(n, n, orientations=4)
    along = shift * torch.tensor([1, 1, 0.0])
    expected = F.convection(u[:, :, ::2], pg.SE2(4), along, method="linear", boundary="periodic")
    out = F.convection(u[:, :, ::2].flatten(-2), mesh, along).unflatten(-1, (n, n))
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)

    torch.manual_seed(3)
    wave = torch.fft.ifft2(torch.randn(1, 2, 5, 5, dtype=torch.complex128), s=(16, 16)).real

    def error(scale: int) -> float:
        size = 16 * scale
        spectrum = torch.fft.fftshift(torch.fft.fft2(wave), dim=(-2, -1))[..., 5:12, 5:12]
        big = torch.zeros(1, 2, size, size, dtype=torch.complex128)
        middle = size // 2
        big[..., middle - 3 : middle + 4, middle - 3 : middle + 4] = spectrum
        image = torch.fft.ifft2(torch.fft.ifftshift(big, dim=(-2, -1))).real
        count = 8 * scale
        angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
        v = image[:, :, None] * (2 + torch.cos(angles - 1))[:, None, None]
        vector = VECTOR * torch.tensor([scale, scale, 1.0])
        planar = F.convection(v, pg.SE2(count), vector, method="linear", boundary="periodic")
        return relative(
            F.convection(v.flatten(-2), torus(size, size, count), vector).unflatten(-1, (size, size)), planar
        )

    coarse, fine = error(1), error(2)
    assert fine < 0.4 * coarse
    assert fine < 0.02


def on_sphere(subdivisions: int, directions: int, **options) -> tuple[pg.Mesh, Tensor]:
    """An icosphere, and the rotation (forward, left, normal) of every direction at every vertex, ``[N,V,3,3]``."""
    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(subdivisions), orientations=directions, **options)
    point, (x, _, _) = mesh.vertices, mesh.frames_in_space()
    x = torch.nn.functional.normalize(x - (x * point).sum(1, keepdim=True) * point, dim=1)
    y = torch.linalg.cross(point, x)
    angle = mesh.angles[:, None, None]
    forward, left = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    return mesh, torch.stack((forward, left, point.expand_as(left)), dim=-1)


@pytest.mark.parametrize("vector", [(0.5, 0.2, 0.0), (0.0, 0.0, 0.7), (1.0, -0.5, 0.4)], ids=str)
def test_convection_of_the_icosphere_tends_to_that_of_the_rotation_group(vector: tuple[float, float, float]) -> None:
    """``u(g exp(-c))`` on SO(3), c measured in edges as layers do; the error falls with the square of the edge."""
    weights = 0.5 * torch.randn(3, 3, dtype=torch.float64)

    def function(g: Tensor) -> Tensor:
        return torch.sin((g * weights).sum((-2, -1)))

    def error(subdivisions: int) -> float:
        mesh, g = on_sphere(subdivisions, 4 * 2**subdivisions)
        x, y, turn = -mesh.unit * vector[0], -mesh.unit * vector[1], -vector[2]
        step = torch.tensor([[0, -turn, x], [turn, 0, y], [-x, -y, 0]], dtype=torch.float64)
        exact = function(g @ torch.linalg.matrix_exp(step))
        out = F.convection(function(g)[None, None], mesh, torch.tensor(vector, dtype=torch.float64))
        return float((out[0, 0] - exact).abs().max())

    coarse, fine = error(2), error(4)
    assert fine < 0.15 * coarse
    assert fine < 0.01


FREE_TURN = torch.tensor([1.0, 1.0, 0.01], dtype=torch.float64)


def test_cap_on_the_icosphere_follows_the_hamilton_jacobi_equation() -> None:
    """``u_t = |grad u|^2`` from minus half the squared angle to a pole: along meridians as on a line."""

    def error(subdivisions: int, a: float = 0.5, t: float = 0.3) -> float:
        mesh, _ = on_sphere(subdivisions, 2, unit=1.0)
        angle = torch.acos(mesh.vertices[:, 2].clamp(-1, 1))
        u = (-a * angle**2).expand(1, 1, 2, -1).contiguous()
        out = F.dilation(u, mesh, FREE_TURN, alpha=1.0, time=t, kernel_size=1)
        return float((out - u / (1 + 4 * a * t))[..., angle < 1.2].abs().max())

    coarse, fine = error(2), error(4)
    assert fine < 0.15 * coarse
    assert fine < 0.003


def test_diffusion_on_the_icosphere_damps_harmonics_by_their_degree() -> None:
    """``exp(-l (l+1) t)`` to first order in t, which is measured in square edges."""
    mesh, _ = on_sphere(4, 2)
    x, y, z = mesh.vertices.T
    for degree, harmonic in ((1, z), (2, x * y)):
        u = harmonic.expand(1, 1, 2, -1).contiguous()
        out = F.diffusion(u, mesh, 2 * FREE_TURN, kernel_size=(1, 7))
        rate = -math.log(float((out * u).sum() / (u * u).sum()))
        assert rate == pytest.approx(degree * (degree + 1) * (mesh.unit / 2) ** 2, rel=0.03)


def test_path_across_a_sheet_is_straight_and_ends_at_the_boundary() -> None:
    mesh = sheet(6, 9, orientations=4, unit=1.0)
    place = (
        mesh.vertices[:, :2].T.expand(1, 2, 2).reshape(1, 2, 1, -1) if False else mesh.vertices[:, :2].T[None, :, None]
    )
    u = place.expand(1, 2, 4, -1).contiguous()
    shift = -torch.tensor([[2.3, 0.9, 0.4], [2.3, 0.9, 0.4]], dtype=torch.float64)
    out = F.convection(u, mesh, shift)
    x, y, _ = mesh.frames_in_space()
    local = pg.SE2(4).exp(-shift[:1])[0]
    angle = mesh.angles[:, None, None]
    forward, sideways = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    end = mesh.vertices + local[0] * forward + local[1] * sideways
    inside = (end[..., 0] >= 0) & (end[..., 0] <= 8) & (end[..., 1] >= 0) & (end[..., 1] <= 5)
    assert inside.any() and not inside.all()
    torch.testing.assert_close(out[0].permute(1, 2, 0)[inside], end[..., :2][inside])


def test_great_circle_returns() -> None:
    """Once around a sphere: back at the start, up to the polyhedron's own geometry."""

    def error(subdivisions: int) -> float:
        mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(subdivisions), orientations=4, unit=1.0)
        u = mesh.vertices.T[None, :, None].expand(1, 3, 4, -1).contiguous()
        around = torch.tensor([[-2 * math.pi, 0.0, 0.0]], dtype=torch.float64).expand(3, 3)
        return float((F.convection(u, mesh, around) - u).abs().mean())

    assert error(3) < min(0.06, 0.5 * error(1))


@pytest.mark.parametrize("term", ["convection", "diffusion", "dilation"])
def test_gradients_in_signal_parameters_and_power(term: str) -> None:
    mesh = bumpy_sphere(0, orientations=4)
    u = signal(mesh, batch=1).requires_grad_()
    w = (VECTOR if term == "convection" else WEIGHTS).clone().requires_grad_()
    alpha = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    run = getattr(F, term)
    if term == "convection":
        assert torch.autograd.gradcheck(lambda u, w: run(u, mesh, w), (u, w), fast_mode=True)
        return
    assert torch.autograd.gradcheck(
        lambda u, w, a: run(u, mesh, w, alpha=a, kernel_size=3), (u, w, alpha), fast_mode=True, atol=1e-4, rtol=1e-2
    )
    lower = torch.randn(2, 3, 3, dtype=torch.float64).tril() * 0.3 + torch.eye(3, dtype=torch.float64)
    full = (lower @ lower.mT).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda u, g: run(u, mesh, (g + g.mT) / 2, alpha=1.0, kernel_size=3),
        (u, full),
        fast_mode=True,
        atol=1e-4,
        rtol=1e-2,
    )


def test_opening_is_idempotent_for_balls_that_are_symmetric() -> None:
    mesh = bumpy_sphere(1)
    u = signal(mesh)

    def opening(u: Tensor, alpha: float) -> Tensor:
        return F.dilation(F.erosion(u, mesh, WEIGHTS, alpha=alpha), mesh, WEIGHTS, alpha=alpha)

    for alpha in (0.5, 0.65):
        once = opening(u, alpha)
        assert (once <= u + 1e-12).all()
        torch.testing.assert_close(opening(once, alpha), once, atol=1e-12, rtol=0)


@pytest.mark.parametrize("term", ["diffusion", "dilation"])
def test_functions_of_position_need_no_gauge_where_the_metric_is_isotropic(term: str) -> None:
    mesh = bumpy_sphere(1, orientations=1)
    u, weights = signal(mesh), torch.tensor([0.8, 0.8, 1.0], dtype=torch.float64)
    expected = getattr(F, term)(u, mesh, weights, kernel_size=3)
    assert (expected != u).any()
    turned = mesh.with_gauge(6 * torch.rand(mesh.vertex_count, dtype=torch.float64))
    torch.testing.assert_close(getattr(F, term)(u, turned, weights, kernel_size=3), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("alpha", [0.5, 0.65, 1.0])
def test_automatic_kernels_leave_nothing_out(mesh: pg.Mesh, alpha: float) -> None:
    """Larger ones give the same; for diffusion, up to weights below 1e-4 of the centre's."""
    lower = torch.randn(2, 3, 3, dtype=torch.float64).tril() * 0.3 + torch.eye(3, dtype=torch.float64)
    u, metric = signal(mesh), lower @ lower.mT
    for term in (F.dilation, F.erosion):
        wanted = term(u, mesh, metric, alpha=alpha, kernel_size=17)
        torch.testing.assert_close(term(u, mesh, metric, alpha=alpha, kernel_size="auto"), wanted, atol=1e-12, rtol=0)
    wanted = F.diffusion(u, mesh, metric, alpha=1.0, kernel_size=17)
    assert relative(F.diffusion(u, mesh, metric, alpha=1.0, kernel_size="auto"), wanted) < 5e-3
    layer = pg.nn.PDELayer(mesh, 2, 2, ("diffusion", "dilation"), kernel_size="auto").double()
    layer(u).sum().backward()


def test_diffusion_damps_noise_more_than_what_is_smooth() -> None:
    mesh = torus(16, 16)
    image = smooth(16, 12.0).expand(1, 2, 16, 16)[:, :, None].expand(-1, -1, 8, -1, -1).flatten(-2)
    noise = torch.randn_like(image)
    kept = [float(F.diffusion(x, mesh, WEIGHTS).norm() / x.norm()) for x in (image, noise)]
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize("term", ["convection", "diffusion", "dilation", "erosion"])
def test_one_layer_solves_on_every_mesh_of_a_data_set(term):
    """``layer(u, mesh)`` is what a layer built for that mesh gives with the same parameters."""
    first, second = (pg.Mesh.from_arrays(*pg.surface.icosphere(n)) for n in (0, 1))
    options = {"dtype": torch.float64} | ({} if term == "convection" else {"kernel_size": 3})
    layer = pg.nn.PDELayer(first, 2, 3, (term,), **options).eval()
    alone = pg.nn.PDELayer(second, 2, 3, (term,), **options).eval()
    alone.load_state_dict(layer.state_dict())
    u = torch.rand(2, 2, second.orientations, second.vertex_count, dtype=torch.float64)
    assert torch.equal(layer(u, second), alone(u))
    with pytest.raises(ValueError, match="u: expected"):
        layer(u)
