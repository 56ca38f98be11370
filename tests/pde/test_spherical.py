"""The terms on the sphere and on SO(3): known solutions, semigroups, bounds, rotations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.functional import convection, convection_diffusion, diffusion, dilation, erosion
from pdegcnn.kernels.metric import Axisymmetric, as_metric
from pdegcnn.pde import evolve
from pdegcnn.pde.sphere import window_sizes
from pdegcnn.pde.sphere_spectral import FrameGenerators
from pdegcnn.pde.sphere_turns import Turns
from pdegcnn.pde.sphere_window import Neighbours
from pdegcnn.testing import equivariance_error

from ..helpers import SPHERE_CASES, random_rotation, spd, spherical

GROUPS = [s for s in SPHERE_CASES if isinstance(s, pg.SO3)]
FULL = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(4), orientations=7)
"""The fibre resolves every order of the band, so that all linear solutions are exact."""


def rotations(space: pg.SO3) -> torch.Tensor:
    """The rotation of every sample, ``[fibre,nlat,nlon,3,3]``."""
    p = space.grid.xyz
    theta, phi = torch.acos(p[..., 2].clamp(-1, 1)), torch.atan2(p[..., 1], p[..., 0])
    gamma = torch.arange(space.orientations, dtype=torch.float64) * (2 * math.pi / space.orientations)
    a, b = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    a[2] = b[1] = 1.0
    position = space.compose(space.exp(phi[..., None] * a), space.exp(theta[..., None] * b))
    q = space.compose(position, space.exp(gamma[:, None, None, None] * a))
    return space.to_matrix(q)


def polynomial(r: torch.Tensor) -> torch.Tensor:
    """A function of rotations of degree three."""
    return r[..., 0, 1] * r[..., 2, 2] * r[..., 1, 0] + 0.5 * r[..., 2, 0] - r[..., 1, 1] * r[..., 2, 1] + 0.3


def test_convection_is_the_shifted_function() -> None:
    c = torch.tensor([0.7, -1.1, 2.0], dtype=torch.float64)
    r = rotations(FULL)
    moved = polynomial(r @ FULL.to_matrix(FULL.exp(-0.8 * c)))
    got = convection(polynomial(r)[None, None], FULL, c, time=0.8)
    torch.testing.assert_close(got[0, 0], moved, atol=1e-12, rtol=0)


@pytest.mark.parametrize("space", GROUPS, ids=str)
@given(seed=st.integers(0, 10**6), s=st.floats(-2, 2), t=st.floats(0, 2))
def test_convection_is_a_unitary_group(space: pg.SO3, seed: int, s: float, t: float) -> None:
    torch.manual_seed(seed)
    u, c = spherical(space), torch.randn(2, 3, dtype=torch.float64)
    one = convection(convection(u, space, c, time=t, method="galerkin"), space, s * c, method="galerkin")
    torch.testing.assert_close(one, convection(u, space, (s + t) * c, method="galerkin"), atol=1e-11, rtol=0)
    area = space.grid.weights
    torch.testing.assert_close((one**2 * area).sum(), (u**2 * area).sum())
    torch.testing.assert_close((one * area).sum((2, 3, 4)), (u * area).sum((2, 3, 4)), atol=1e-11, rtol=0)


def with_more_directions(u: torch.Tensor, few: pg.SO3, many: pg.SO3) -> torch.Tensor:
    """The same function on a fibre that resolves every order."""
    columns = pg.sphere.SO3FFT(few.grid, few.orientations, dtype=u.dtype)(u)
    more = pg.sphere.InverseSO3FFT(many.grid, many.orientations, nmax=(columns.shape[-1] - 1) // 2, dtype=u.dtype)
    return more(columns)


@given(seed=st.integers(0, 10**6), size=st.floats(0, 3), count=st.integers(1, 6))
def test_convection_is_exact_on_the_orders_that_a_small_fibre_holds(seed: int, size: float, count: int) -> None:
    torch.manual_seed(seed)
    few = pg.SO3(FULL.grid, count)
    u, c = spherical(few), size * torch.randn(2, 3, dtype=torch.float64)
    got = convection(u, few, c)
    moved = convection(with_more_directions(u, few, FULL), FULL, c)
    nmax = min((count - 1) // 2, FULL.grid.band)
    held = pg.sphere.SO3FFT(FULL.grid, FULL.orientations, nmax=nmax, dtype=torch.float64)(moved)
    expected = pg.sphere.InverseSO3FFT(few.grid, few.orientations, dtype=torch.float64)(held)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)
    area = few.grid.weights
    assert (got**2 * area).sum() <= (u**2 * area).sum() * (1 + 1e-12)  # what is cut is lost
    torch.testing.assert_close((got * area).sum((2, 3, 4)), (u * area).sum((2, 3, 4)), atol=1e-11, rtol=0)


@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from((0.0, 1e-200, 1e-3, 0.1, 1.0, 10.0)),
    held=st.sampled_from((0, 2, 6)),
)
def test_turns_are_the_exponential_over_every_order_cut(seed: int, size: float, held: int) -> None:
    """Their derivatives are too, also where Euler angles have none."""
    torch.manual_seed(seed)
    like = torch.empty(0, dtype=torch.float64)
    grid = pg.sphere.SphereGrid.gauss_legendre(7)
    every, turns = FrameGenerators(grid, grid.band, like), Turns(grid, held, like)
    beyond = every.nmax - held
    order = torch.arange(-held, held + 1).abs()
    real = torch.maximum(order, order[:, None]) <= torch.arange(every.lmax + 1)[:, None, None]
    c = (size * torch.randn(2, 3, dtype=torch.float64)).requires_grad_()
    turned = torch.linalg.matrix_exp(every.velocity(c))
    expected = turned[..., beyond : turned.shape[-1] - beyond, beyond : turned.shape[-1] - beyond] * real
    got = turns(c)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)
    weight = torch.randn_like(got)
    first, second = (torch.autograd.grad(x, c, weight)[0] for x in (got, expected))
    torch.testing.assert_close(first, second, atol=1e-10, rtol=0)  # sums of hundreds of entries


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_diffusion_damps_matrix_entries_by_their_eigenvalue(alpha: float) -> None:
    r, t = rotations(FULL), 0.3
    w = torch.tensor([[1.3, 1.3, 0.6]], dtype=torch.float64)
    for entry, value in (((2, 2), 2 / 1.3**2), ((1, 0), 1 / 1.3**2 + 1 / 0.6**2)):
        u = r[..., entry[0], entry[1]][None, None]
        got = diffusion(u, FULL, w, alpha=alpha, time=t)
        torch.testing.assert_close(got, u * math.exp(-t * value**alpha), atol=1e-12, rtol=0)


def test_diffusion_on_the_sphere_damps_by_degree() -> None:
    space = SPHERE_CASES[0]
    z = space.grid.xyz[..., 2]
    u = ((5 * z**3 - 3 * z) / 2)[None, None]  # degree 3
    got = diffusion(u, space, torch.tensor([0.5], dtype=torch.float64), alpha=0.7, time=0.01)
    torch.testing.assert_close(got, u * math.exp(-0.01 * (12 / 0.25) ** 0.7), atol=1e-12, rtol=0)


def test_generator_of_a_full_metric_is_the_sum_of_derivatives() -> None:
    metric, r, h = spd(FULL, 1), rotations(FULL), 1e-3
    inverse = torch.linalg.inv(metric)[0]
    values, vectors = torch.linalg.eigh(inverse)
    expected = torch.zeros(r.shape[:3], dtype=torch.float64)
    for value, c in zip(values, vectors.T):
        ahead, behind = (polynomial(r @ FULL.to_matrix(FULL.exp(s * h * c))) for s in (1, -1))
        expected += value * (ahead + behind - 2 * polynomial(r)) / h**2
    u = polynomial(r)[None, None]
    got = (diffusion(u, FULL, metric, time=1e-6) - u)[0, 0] / 1e-6
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("space", SPHERE_CASES, ids=str)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0.3, 1.0), s=st.floats(0.01, 0.5), t=st.floats(0.01, 0.5))
def test_diffusion_is_a_mass_conserving_semigroup(space, seed: int, alpha: float, s: float, t: float) -> None:
    torch.manual_seed(seed)
    u, w = spherical(space), 3 * weights_of(space)
    two = diffusion(diffusion(u, space, w, alpha=alpha, time=s), space, w, alpha=alpha, time=t)
    one = diffusion(u, space, w, alpha=alpha, time=s + t)
    torch.testing.assert_close(two, one, atol=1e-11, rtol=0)
    area, axes = space.grid.weights, tuple(range(2, u.ndim))
    torch.testing.assert_close((one * area).sum(axes), (u * area).sum(axes), atol=1e-11, rtol=0)
    assert ((one**2 * area).sum(axes) <= (u**2 * area).sum(axes)).all()


@pytest.mark.parametrize("space", GROUPS, ids=str)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0.3, 1.0), s=st.floats(0.01, 0.5), t=st.floats(0.01, 0.5))
def test_both_at_once_are_a_mass_conserving_contracting_semigroup(
    space: pg.SO3, seed: int, alpha: float, s: float, t: float
) -> None:
    torch.manual_seed(seed)
    u, c, metric = spherical(space), torch.randn(2, 3, dtype=torch.float64), 3 * spd(space, 2)
    two = convection_diffusion(
        convection_diffusion(u, space, c, metric, alpha=alpha, time=s), space, c, metric, alpha=alpha, time=t
    )
    one = convection_diffusion(u, space, c, metric, alpha=alpha, time=s + t)
    torch.testing.assert_close(two, one, atol=1e-11, rtol=0)
    area, axes = space.grid.weights, tuple(range(2, u.ndim))
    torch.testing.assert_close((one * area).sum(axes), (u * area).sum(axes), atol=1e-11, rtol=0)
    assert ((one**2 * area).sum(axes) <= (u**2 * area).sum(axes)).all()


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("space", GROUPS, ids=str)
def test_both_at_once_are_the_limit_of_one_after_the_other(space: pg.SO3, alpha: float) -> None:
    """Lie splitting in N steps errs by O(1/N), Strang splitting by O(1/N^2)."""
    u, c, metric = spherical(space), torch.tensor([0.9, -0.4, 1.2], dtype=torch.float64), 2 * spd(space, 2)
    whole = convection_diffusion(u, space, c, metric, alpha=alpha)
    errors: dict[str, list[float]] = {"lie": [], "strang": []}
    steps = [
        lambda v, t: convection(v, space, c, time=t, method="galerkin"),
        lambda v, t: diffusion(v, space, metric, alpha=alpha, time=t),
    ]
    for name, found in errors.items():
        for count in (8, 16):
            found.append(float((evolve(u, steps, name, count) - whole).abs().max()))
    assert 1.8 < errors["lie"][0] / errors["lie"][1] < 2.2
    assert 3.6 < errors["strang"][0] / errors["strang"][1] < 4.4


@pytest.mark.parametrize("space", GROUPS, ids=str)
def test_both_at_once_are_each_alone_where_the_other_is_nothing(space: pg.SO3) -> None:
    u, c, w = spherical(space), torch.randn(2, 3, dtype=torch.float64), 0.5 + torch.rand(2, 3, dtype=torch.float64)
    got = convection_diffusion(u, space, torch.zeros(3, dtype=torch.float64), w, alpha=0.7, time=0.3)
    torch.testing.assert_close(got, diffusion(u, space, w, alpha=0.7, time=0.3), atol=1e-11, rtol=0)
    got = convection_diffusion(u, space, c, torch.full((3,), 1e9, dtype=torch.float64), time=0.3)
    torch.testing.assert_close(got, convection(u, space, c, time=0.3, method="galerkin"), atol=1e-11, rtol=0)
    even = torch.full((2, 3), 1.5, dtype=torch.float64)  # the same in all directions: nothing is split
    got = convection_diffusion(u, space, c, even, alpha=0.7, time=0.3)
    apart = diffusion(convection(u, space, c, time=0.3, method="galerkin"), space, even, alpha=0.7, time=0.3)
    torch.testing.assert_close(got, apart, atol=1e-11, rtol=0)
    apart = diffusion(convection(u, space, c, time=0.3, method="galerkin"), space, w, alpha=0.7, time=0.3)
    assert (convection_diffusion(u, space, c, w, alpha=0.7, time=0.3) - apart).abs().max() > 1e-4  # but here it is


def weights_of(space) -> torch.Tensor:
    return 0.5 + torch.rand(2, space.metric_dim, dtype=torch.float64)


@pytest.mark.parametrize("space", SPHERE_CASES, ids=str)
@pytest.mark.parametrize("alpha", [0.5, 0.65, 1.0])
def test_order_constants_and_duality(space, alpha: float) -> None:
    u, v = torch.randn(2, 1, 2, *signal_shape(space), dtype=torch.float64)
    w = 4 * weights_of(space)
    big = dilation(torch.maximum(u, v), space, w, alpha=alpha)
    torch.testing.assert_close(big, torch.maximum(*(dilation(x, space, w, alpha=alpha) for x in (u, v))))
    assert (dilation(u, space, w, alpha=alpha) >= u).all()
    torch.testing.assert_close(erosion(u, space, w, alpha=alpha), -dilation(-u, space, w, alpha=alpha))
    torch.testing.assert_close(dilation(u + 3, space, w, alpha=alpha), dilation(u, space, w, alpha=alpha) + 3)
    opened = dilation(erosion(u, space, w, alpha=alpha), space, w, alpha=alpha)
    assert (opened <= u + 1e-12).all()  # the window is symmetric


def signal_shape(space) -> tuple[int, ...]:
    return (space.orientations, *space.grid.shape) if isinstance(space, pg.SO3) else space.grid.shape


@pytest.mark.parametrize("space", SPHERE_CASES, ids=str)
def test_automatic_window_leaves_nothing_out(space) -> None:
    u, w = torch.randn(1, 2, *signal_shape(space), dtype=torch.float64), 6 * weights_of(space)
    everything = window_sizes(space, 99)
    wide = dilation(u, space, w, kernel_size=everything if isinstance(space, pg.SO3) else 99)
    torch.testing.assert_close(dilation(u, space, w, kernel_size="auto"), wide)


@pytest.mark.parametrize("distance", ["logarithmic", "tilt_twist", "exact"])
def test_axisymmetric_dilation_commutes_with_turns_of_the_fibre(distance: str) -> None:
    space = GROUPS[0]
    metric = Axisymmetric(torch.tensor([[4.0, 4.0, 0.7], [3.0, 3.0, 2.0]], dtype=torch.float64))
    u = torch.randn(1, 2, *signal_shape(space), dtype=torch.float64)
    turned = dilation(u.roll(2, dims=2), space, metric, distance=distance)
    assert torch.equal(turned, dilation(u, space, metric, distance=distance).roll(2, dims=2))
    assert not torch.equal(turned, u.roll(2, dims=2))


def test_shared_kernel_is_the_full_one() -> None:
    space = GROUPS[0]
    w = torch.tensor([[4.0, 4.0, 0.7]], dtype=torch.float64)
    u = torch.randn(1, 1, *signal_shape(space), dtype=torch.float64)
    torch.testing.assert_close(dilation(u, space, Axisymmetric(w)), dilation(u, space, w))


@pytest.mark.parametrize("distance", ["logarithmic", "tilt_twist"])
def test_costs_are_distances_of_the_elements_between_samples(distance: str) -> None:
    space = GROUPS[1]
    metric = as_metric(spd(space, 2), 3, 2)
    plan = Neighbours(space, (3, 3), distance, torch.empty(0, dtype=torch.float64))
    squared = plan.squared_distance(metric)
    r = rotations(space)
    coordinates = space.log if distance == "logarithmic" else space.half_angle
    for ring in (0, 3):
        for f in (0, 3):
            for s in range(int(plan.start[ring]), int(plan.start[ring + 1]), 5):
                there, df, dj = plan.taps[s].tolist()
                h = r[(f + df) % space.orientations, there, dj % space.grid.shape[1]]
                g = space.from_matrix(h.T @ r[f, ring, 0])
                torch.testing.assert_close(metric.squared_norm(coordinates(g[None]))[:, 0], squared[:, f, s])


def test_flat_dilation_widens_a_cone_by_the_radius() -> None:
    """``cos(angle to a point)`` becomes ``cos(max(angle - t, 0))``; the error is that of the grid's spacing."""
    errors = []
    for size in (12, 24):
        space = pg.S2(pg.sphere.SphereGrid.gauss_legendre(size))
        towards = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
        angle = torch.acos((space.grid.xyz @ towards).clamp(-1, 1))
        w = torch.ones(1, dtype=torch.float64)
        got = dilation(angle.cos()[None, None], space, w, alpha=0.5, time=0.6, kernel_size="auto")[0, 0]
        errors.append(float((got - (angle - 0.6).clamp_min(0).cos()).abs().mean()))
    assert errors[1] < 0.7 * errors[0] < 0.05


@pytest.mark.parametrize("space", SPHERE_CASES[:2], ids=str)
@pytest.mark.parametrize("term", [dilation, erosion, diffusion])
def test_gradients_in_signal_metric_and_power(space, term) -> None:
    u = torch.randn(1, 2, *signal_shape(space), dtype=torch.float64, requires_grad=True)
    w = (4 * weights_of(space)).requires_grad_()
    alpha = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def run(u, w, alpha):
        value = term(u, space, w, alpha=alpha)
        return (value * torch.linspace(0, 1, value.numel(), dtype=torch.float64).view(value.shape)).sum()

    assert torch.autograd.gradcheck(run, (u, w, alpha))


def test_gradient_of_convection() -> None:
    u = spherical(GROUPS[0]).requires_grad_()
    c = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u, c: convection(u, GROUPS[0], c).pow(2)[..., ::3].sum(), (u, c))


@pytest.mark.parametrize("alpha", [0.6, 1.0])
def test_gradient_of_both_at_once(alpha: float) -> None:
    space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(4), orientations=3)
    u, c = spherical(space).requires_grad_(), torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    w = (0.5 + torch.rand(2, 3, dtype=torch.float64)).requires_grad_()
    power = torch.tensor(alpha, dtype=torch.float64, requires_grad=alpha < 1)

    def run(u: torch.Tensor, c: torch.Tensor, w: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
        return convection_diffusion(u, space, c, w, alpha=power, time=0.3).pow(2)[..., ::3].sum()

    assert torch.autograd.gradcheck(run, (u, c, w, power))


def test_dilation_nearly_commutes_with_rotations_and_better_on_finer_grids() -> None:
    errors = []
    for size in (8, 16):
        space = pg.S2(pg.sphere.SphereGrid.gauss_legendre(size))
        torch.manual_seed(1)
        x, w = spherical(space, channels=1, band=2.5), torch.tensor([1.0], dtype=torch.float64)
        errors.append(
            sum(
                pg.testing.equivariance_error(
                    lambda u, space=space, w=w: dilation(u, space, w, alpha=1.0, kernel_size="auto"),
                    x,
                    space,
                    rotation=random_rotation(),
                )
                for _ in range(3)
            )
        )
    assert errors[1] < 0.6 * errors[0] < 0.3


@pytest.mark.parametrize("space", SPHERE_CASES, ids=str)
def test_turns_about_the_pole_by_grid_steps_are_exact(space) -> None:
    step = 2 * math.pi / space.grid.shape[1]
    turn = space.to_matrix(space.exp(torch.tensor([0.0, 0.0, 3 * step], dtype=torch.float64)))
    u, w = torch.randn(1, 2, *signal_shape(space), dtype=torch.float64), 4 * weights_of(space)
    assert pg.testing.equivariance_error(lambda u: dilation(u, space, w), u, space, rotation=turn) < 1e-12


def test_a_diffusion_step_first_makes_dilation_more_equivariant() -> None:
    """What dilation breaks is what lies between samples, and that is less of a smoother signal."""
    space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(8), orientations=8)
    weights = torch.tensor([3.0, 3.0, 1.0], dtype=torch.float64)

    def error(time: float) -> float:
        def run(v: torch.Tensor) -> torch.Tensor:
            v = diffusion(v, space, weights, alpha=1.0, time=time) if time else v
            return dilation(v, space, weights, alpha=0.65)

        return sum(equivariance_error(run, u, space, rotation=rotation) for rotation in rotations)

    u, rotations = spherical(space, 2, 1), [random_rotation() for _ in range(2)]
    errors = [error(time) for time in (0.0, 0.3, 1.0)]
    assert errors[2] < errors[1] < errors[0] and errors[2] < 0.85 * errors[0]
