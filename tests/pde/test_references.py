"""The solvers on grids against solutions written without them, at settings where the error is known to be small.

Convergence is a law: with finer orientations the error of the defaults falls.
"""

from __future__ import annotations

import math

import pytest
import torch

import pdegcnn as pg
from pdegcnn.functional import convection, diffusion, dilation, erosion, project

from .references import Waves, convected, diffused, dilated

INNER = (slice(None), slice(4, -4), slice(4, -4))
"""What dilation computes from inside the image: the solutions are periodic."""


def error(found: torch.Tensor, true: torch.Tensor, before: torch.Tensor) -> float:
    """Error of a dilation relative to the change that it should make."""
    return float((found - true)[INNER].norm() / (true - before)[INNER].norm())


@pytest.fixture(scope="module")
def solved() -> tuple[Waves, torch.Tensor]:
    """A function on SE(2), and its dilation of power one at 32 orientations."""
    wave = Waves(16, order=2, correlation=1.5)
    return wave, dilated(wave.sample(32, 2), torch.eye(3), 1.0, per_pixel=2)[:, ::2, ::2]


def test_reference_dilation_is_that_of_plane_waves() -> None:
    """``u_t = |u_x|^2`` from ``a cos(k x)`` by the formula of Lax and Oleinik, its supremum searched finely."""
    n, k, a = 16, 2 * math.pi / 16, 1.5
    x = torch.arange(4 * n, dtype=torch.float64) / 4
    u = (a * torch.cos(k * x)).expand(1, 4 * n, 4 * n)
    away = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    true = (a * torch.cos(k * (x[:, None] - away)) - away**2 / 4).amax(1)
    found = dilated(u.contiguous(), torch.eye(2), 1.0, per_pixel=4)
    assert (found - true).abs().max() < 0.01


def test_default_dilation_is_near_the_equation_and_gains_from_orientations(solved: tuple[Waves, torch.Tensor]) -> None:
    wave, true = solved
    metric, errors = torch.ones(3, dtype=torch.float64), {}
    for count in (8, 16):
        space, u = pg.SE2(count), wave.sample(count)
        for oversample in (None, (2, None), 2, 1):
            found = dilation(u[None, None], space, metric, alpha=1.0, oversample=oversample)[0, 0]
            errors[count, oversample] = error(found, true[:: 32 // count], u)
        negative = erosion(-u[None, None], space, metric, alpha=1.0)[0, 0]
        torch.testing.assert_close(-negative, dilation(u[None, None], space, metric, alpha=1.0)[0, 0])
    assert errors[8, None] < 0.13 and errors[16, None] < 0.11
    assert errors[8, 2] < 0.09 and errors[16, 2] < 0.06
    for count in (8, 16):
        assert errors[count, 2] < errors[count, (2, None)] < errors[count, None] < errors[count, 1]
    assert all(errors[16, o] < errors[8, o] for o in (None, (2, None), 1, 2))


def test_default_dilation_on_the_plane(solved: tuple[Waves, torch.Tensor]) -> None:
    wave = Waves(16, order=0, correlation=1.5, seed=1)
    true = dilated(wave.sample(1, 3), torch.eye(2), 1.0, per_pixel=3)[:, ::3, ::3]
    u, errors = wave.sample(), []
    for factor in (1, 2, 3):
        found = dilation(u[None], pg.R2(), torch.ones(2).double(), alpha=1.0, oversample=factor)[0]
        errors.append(error(found, true, u))
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.05


@pytest.mark.parametrize("orientations", [8, 9])
def test_convection_moves_what_the_grid_resolves(orientations: int) -> None:
    wave, space = Waves(20, correlation=1.2), pg.SE2(orientations)
    u = wave.sample(orientations)
    for c in ((0.7, -0.4, 0.5), (-0.5, 0.5, 2 * math.pi / orientations), (3.2, -1.4, -2.5)):
        true = convected(wave, orientations, torch.tensor(c))
        for method, bound in (("spectral", 1e-4), ("cubic", 0.05)):
            boundary = "periodic"
            vector = torch.tensor(c, dtype=torch.float64)
            found = convection(u[None, None], space, vector, method=method, boundary=boundary)[0, 0]
            assert (found - true).norm() / true.norm() < bound, (c, method)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_spectral_diffusion_is_the_exponential(alpha: float) -> None:
    wave, space = Waves(12, order=2), pg.SE2(7)
    metric = torch.tensor([[1.0, 0.2, 0.1], [0.2, 1.5, -0.3], [0.1, -0.3, 0.8]], dtype=torch.float64)
    u = wave.sample(7)
    found = diffusion(u[None, None], space, metric[None], alpha=alpha, method="spectral")[0, 0]
    torch.testing.assert_close(found, diffused(u, metric, alpha), atol=1e-10, rtol=0)


@pytest.mark.parametrize("form", ["equal", "leaning"])
@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.65, 1.0])
def test_default_diffusion_is_near_the_exponential(alpha: float, form: str) -> None:
    """At most 5 %, except for what the kernel's distance costs; mass and mean are exact (``test_diffusion.py``)."""
    wave, space = Waves(16), pg.SE2(8)
    leaning = torch.tensor([[1.1, 0.2, 0.1], [0.2, 1.3, -0.2], [0.1, -0.2, 0.9]], dtype=torch.float64)
    metric = leaning if form == "leaning" else torch.eye(3, dtype=torch.float64)
    u = wave.sample(8)
    true = diffused(u, metric, alpha)
    found = diffusion(u[None, None], space, metric[None], alpha=alpha, boundary="periodic")[0, 0]
    assert (found - true).norm() / true.norm() < 0.06


def test_kernel_diffusion_of_small_powers_on_the_plane() -> None:
    """Most of the mass lies within a pixel and far outside any window, and both count."""
    u = Waves(21, order=0, seed=3).sample()
    for alpha in (0.1, 0.2, 0.3):
        true = diffused(u, torch.eye(2, dtype=torch.float64), alpha)
        for options in ({}, {"kernel_size": 5}, {"kernel_size": 21}):
            found = diffusion(u[None], pg.R2(), torch.ones(2).double(), alpha=alpha, boundary="periodic", **options)[0]
            assert (found - true).norm() / true.norm() < 0.15, (alpha, options)


def test_a_default_chain_commutes_with_turns_between_the_grids_angles() -> None:
    """Lift, convection, dilation, maximum: the image turned by formula, the answers compared after a blur."""
    size, space, angle = 40, pg.SE2(8), math.pi / 8
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    torch.manual_seed(0)
    k, phase = torch.randn(60, 2).double() / 1.5, 7 * torch.rand(60).double()
    k, phase = k[k.norm(dim=1) < 2.2], phase[k.norm(dim=1) < 2.2]

    def image(angle: float) -> torch.Tensor:
        c, s = math.cos(angle), math.sin(angle)
        waves = (c * x + s * y)[..., None] * k[:, 0] + (c * y - s * x)[..., None] * k[:, 1] + phase
        return torch.cos(waves).sum(-1)[None, None]

    errors = {}
    for name, filters, inner, options in (
        ("default", None, None, {}),
        ("samples", "smooth", None, {"oversample": 1}),
        ("rings", "steerable", None, {}),
        ("more orientations", None, 16, {"oversample": 2}),
    ):
        torch.manual_seed(1)
        lift = pg.nn.Lift(space, 1, 4, filters=filters).double()
        vector = (2 * torch.rand(4, 3).double() - 1) * space.grid_spacing
        metric = 0.5 + torch.rand(4, 3).double()
        with torch.no_grad():
            scale = lift(image(0.0)).std((0, 2, 3, 4), keepdim=True)

            def net(f: torch.Tensor) -> torch.Tensor:
                u = convection(lift(f) / scale, space, vector, inner_orientations=inner)  # noqa: B023
                u = dilation(u, space, metric, inner_orientations=inner, **options)  # noqa: B023
                return project(u, space, oversample=2)

            pair = space.transform(net(image(0.0)), angle=math.degrees(angle)), net(image(angle))
            blurred = [diffusion(v, pg.R2(), torch.ones(2).double(), time=1.1, method="spectral") for v in pair]
            disk = (x**2 + y**2 < 12**2).double()
            mean = (blurred[1] * disk).sum((2, 3), keepdim=True) / disk.sum()
            wrong, right = ((v * disk).norm() for v in (blurred[0] - blurred[1], blurred[1] - mean))
            errors[name] = float(wrong / right)
    assert errors["default"] < 0.09
    assert errors["more orientations"] < min(0.04, 0.6 * errors["default"])
    assert errors["default"] < 0.8 * min(errors["samples"], errors["rings"])
