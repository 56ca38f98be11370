"""On finer icospheres the terms tend to the solutions on the sphere, at a fixed metric, time and window."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import pdegcnn as pg
import pdegcnn.functional as F
from pdegcnn.kernels.morphological import cost

from .test_mesh_sphere import difference, error_of

RADIUS = 1.0
"""Of the window, in radians."""
POLE = torch.tensor([0.48, 0.6, 0.64], dtype=torch.float64)
"""Not a vertex, so that no error vanishes by symmetry."""


def falls(errors: Sequence[float], factor: float, limit: float) -> bool:
    """Whether every refinement takes ``factor`` off, and the last error is below ``limit``."""
    return all(after < factor * before for before, after in zip(errors, errors[1:])) and errors[-1] < limit


def sphere(subdivisions: int, directions: int = 1) -> pg.Mesh:
    """An icosphere of radius one."""
    return pg.Mesh.from_arrays(*pg.surface.icosphere(subdivisions), orientations=directions)


def in_units(mesh: pg.Mesh, weights: Sequence[float]) -> Tensor:
    """Weights per radian as weights per unit of the mesh."""
    return torch.tensor(weights, dtype=torch.float64) * torch.tensor([mesh.unit, mesh.unit, 1.0], dtype=torch.float64)


def window(mesh: pg.Mesh) -> tuple[float, float]:
    """``RADIUS`` and all turns, as the terms take it."""
    return math.pi, RADIUS / mesh.unit


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.65, 1.0])
def test_diffusion_of_functions_damps_harmonics(alpha: float) -> None:
    """Legendre polynomials of degrees one to three, each by ``exp(-(l (l + 1) / w^2)^alpha)``."""
    errors = []
    for subdivisions in (1, 2, 3):
        mesh = sphere(subdivisions)
        z, rate = mesh.vertices @ POLE, [(n * (n + 1) / 7.0**2) ** alpha for n in (1, 2, 3)]
        parts = z, 1.5 * z**2 - 0.5, 2.5 * z**3 - 1.5 * z
        u, expected = sum(parts), sum(math.exp(-r) * part for r, part in zip(rate, parts))
        assert isinstance(u, Tensor) and isinstance(expected, Tensor)
        out = F.diffusion(u[None, None, None], mesh, in_units(mesh, (7, 7, 1)), alpha=alpha, radius=window(mesh))
        errors.append(difference(out[0, 0, 0], expected, u))
    assert falls(errors, 0.9, 0.06), errors


@pytest.mark.parametrize("alpha", [0.3, 0.65, 1.0])
def test_diffusion_of_directions_tends_to_that_of_the_rotation_group(alpha: float) -> None:
    """The spectral solver on SO(3) is exact for these functions. There are more directions on finer meshes."""

    def layer(u: Tensor, space: pg.Mesh | pg.SO3, unit: float) -> Tensor:
        if isinstance(space, pg.SO3):
            return F.diffusion(u, space, torch.tensor([8.0, 6.0, 3.0], dtype=torch.float64), alpha=alpha)
        return F.diffusion(u, space, in_units(space, (6, 8, 3)), alpha=alpha, radius=window(space))

    errors = [error_of(layer, subdivisions, 3) for subdivisions in (1, 2)]
    assert falls(errors, 0.55, 0.05), errors


HILLS: dict[str, Callable[[Tensor], Tensor]] = {
    "smooth": lambda theta: torch.cos(theta) + 0.3 * torch.cos(2 * theta),
    "cap": lambda theta: torch.exp(-((torch.remainder(theta + math.pi, 2 * math.pi) - math.pi) ** 2) / 0.18),
    "cone": lambda theta: -(torch.remainder(theta + math.pi, 2 * math.pi) - math.pi).abs(),
}
"""Functions of the angle to the pole, all the way round."""


@pytest.mark.parametrize("hill", list(HILLS))
@pytest.mark.parametrize("alpha", [0.5, 0.65, 1.0])
def test_dilation_and_erosion_of_functions_tend_to_the_supremum(hill: str, alpha: float) -> None:
    """Functions of the angle to a pole dilate along meridians, where the supremum is searched finely."""
    weight, time = 3.0, 0.9
    away = torch.linspace(0, RADIUS, 1001, dtype=torch.float64)
    charge, errors = cost((weight * away) ** 2, alpha, time), []
    for subdivisions in (1, 2, 3):
        mesh = sphere(subdivisions)
        theta, f = torch.acos((mesh.vertices @ POLE).clamp(-1, 1)), HILLS[hill]
        near = torch.maximum(f(theta[:, None] - away), f(theta[:, None] + away))
        expected, u = (near - charge).amax(1), f(theta)
        given = in_units(mesh, (weight, weight, 1))
        out = F.dilation(u[None, None, None], mesh, given, alpha=alpha, time=time, radius=window(mesh))
        lower = F.erosion(-u[None, None, None], mesh, given, alpha=alpha, time=time, radius=window(mesh))
        torch.testing.assert_close(-lower, out)
        errors.append(difference(out[0, 0, 0], expected, u))
    assert falls(errors, 0.7, 0.3 if alpha == 0.5 else 0.15), errors


@pytest.mark.parametrize("term", ["dilation", "diffusion"])
def test_the_default_window_does_not_shrink_with_finer_directions(term: str) -> None:
    """It is an angle: with more directions the terms come nearer to what many of them give."""
    found = {}
    for directions in (8, 16, 32):
        mesh = sphere(1, directions)
        angle = mesh.angles[:, None] + mesh.vertices[:, 0]
        u = (torch.cos(angle) + 0.5 * torch.sin(2 * angle))[None, None]
        out = getattr(F, term)(u, mesh, torch.ones(3, dtype=torch.float64), alpha=1.0)
        found[directions] = (out - u)[..., :: directions // 8, :]
    errors = [float((found[n] - found[32]).norm() / found[32].norm()) for n in (8, 16)]
    assert errors[1] < min(0.6 * errors[0], 0.15), errors
