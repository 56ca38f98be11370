"""An icosphere reproduces the library's own layer on SO(3), with errors that fall under refinement."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import pdegcnn as pg
import pdegcnn.functional as F

BAND = 3
EXACT = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(BAND + 1), orientations=2 * BAND + 1)
"""Resolves every function below, so that the spherical layer's linear terms are exact on it."""


def frames(points: Tensor) -> tuple[Tensor, Tensor]:
    """Directions of the SO(3) fibre's first sample at each point, ``[V,3]``, and a quarter turn on."""
    theta, phi = torch.acos(points[:, 2].clamp(-1, 1)), torch.atan2(points[:, 1], points[:, 0])
    south = torch.stack((theta.cos() * phi.cos(), theta.cos() * phi.sin(), -theta.sin()), dim=1)
    return south, torch.linalg.cross(points, south)


def rotations(points: Tensor, count: int) -> Tensor:
    """The rotation of each sample, ``[count,V,3,3]``."""
    south, east = frames(points)
    angle = (torch.arange(count, dtype=torch.float64) * (2 * math.pi / count))[:, None, None]
    forward, left = angle.cos() * south + angle.sin() * east, angle.cos() * east - angle.sin() * south
    return torch.stack((forward, left, points.expand_as(left)), dim=-1)


def icosphere(subdivisions: int, directions: int) -> pg.Mesh:
    """An icosphere whose reference directions are those of SO(3)."""
    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(subdivisions), orientations=directions)
    x, y, _ = mesh.frames_in_space()
    south, _ = frames(mesh.vertices)
    return mesh.with_gauge(torch.atan2((south * y).sum(1), (south * x).sum(1)))


DRAW = torch.Generator().manual_seed(5)
POLYNOMIALS = torch.randn(96, BAND, 3, 3, generator=DRAW, dtype=torch.float64)
"""Products of up to three entries' combinations: they span all functions of degree three (of which there are 84)."""


def functions(g: Tensor, which: slice = slice(None)) -> Tensor:
    """Values ``[96,...]`` of the polynomials at rotations ``[...,3,3]``."""
    factors = torch.einsum("fkij,...ij->fk...", POLYNOMIALS[which], g) + 0.5
    return factors.prod(1)


def evaluate(values: Tensor, g: Tensor) -> Tensor:
    """A function of degree three, given on ``EXACT``, at other rotations."""
    known = functions(rotations(EXACT.grid.xyz.reshape(-1, 3), EXACT.orientations)).flatten(1)
    weights = torch.linalg.lstsq(known.T, values.reshape(-1, 1), driver="gelsd").solution
    torch.testing.assert_close(known.T @ weights, values.reshape(-1, 1), atol=1e-9, rtol=0)
    return torch.einsum("f...,f->...", functions(g), weights[:, 0])


def to_so3(vector: Tensor) -> Tensor:
    """(forward, left, turn) to a rotation vector: forward is a rotation about the left axis."""
    return torch.stack((-vector[..., 1], vector[..., 0], vector[..., 2]), dim=-1)


def test_the_evaluation_is_exact() -> None:
    g = rotations(icosphere(1, 3).vertices, 3)
    grid = rotations(EXACT.grid.xyz.reshape(-1, 3), EXACT.orientations)
    torch.testing.assert_close(evaluate(functions(grid)[3], g), functions(g)[3], atol=1e-9, rtol=0)


Layer = Callable[[Tensor, pg.Mesh | pg.SO3, float], Tensor]


def difference(out: Tensor, expected: Tensor, u: Tensor) -> float:
    """Root mean square of the difference of two layers by that of the change they make."""
    return float((out - expected).norm() / (expected - u).norm())


def error_of(layer: Layer, subdivisions: int, coarsest: int = 6) -> float:
    """Difference of a linear layer on an icosphere from the same on SO(3), with ``coarsest`` directions at level 0."""
    directions = coarsest * 2**subdivisions
    mesh = icosphere(subdivisions, directions)
    on_grid = functions(rotations(EXACT.grid.xyz.reshape(-1, 3), EXACT.orientations))[0]
    solved = layer(on_grid.reshape(1, 1, EXACT.orientations, *EXACT.grid.shape), EXACT, mesh.unit)
    g = rotations(mesh.vertices, directions)
    u = functions(g, slice(1))[0]
    return difference(layer(u[None, None], mesh, mesh.unit)[0, 0], evaluate(solved, g), u)


@pytest.mark.parametrize("vector", [(0.8, 0.3, 0.0), (0.0, 0.0, 0.9), (0.6, -0.5, 0.7)], ids=str)
def test_convection(vector: tuple[float, float, float]) -> None:
    """Vectors in units of the mesh, as layers have them: the same ones in radians on the sphere."""
    c = torch.tensor(vector, dtype=torch.float64)

    def layer(u: Tensor, space: pg.Mesh | pg.SO3, unit: float) -> Tensor:
        if isinstance(space, pg.Mesh):
            return F.convection(u, space, c)
        return F.convection(u, space, to_so3(c * torch.tensor([unit, unit, 1.0])))

    coarse, fine = error_of(layer, 1), error_of(layer, 3)
    assert fine < 0.35 * coarse
    assert fine < 0.06


def test_diffusion() -> None:
    """One step in units of the mesh; on the sphere the metric is that in radians."""
    weights = torch.tensor([0.8, 1.2, 1.0], dtype=torch.float64)

    def layer(u: Tensor, space: pg.Mesh | pg.SO3, unit: float) -> Tensor:
        if isinstance(space, pg.SO3):
            return F.diffusion(u, space, to_so3(weights).abs() / unit)
        return F.diffusion(u, space, weights * torch.tensor([1.0, 1.0, 1 / unit]), kernel_size=13)

    coarse, fine = error_of(layer, 1), error_of(layer, 3)
    assert fine < 0.45 * coarse
    assert fine < 0.02


@pytest.mark.parametrize("term", ["dilation", "erosion"])
@pytest.mark.parametrize("alpha", [0.65, 1.0])
def test_morphology(term: str, alpha: float) -> None:
    """The same points, directions and slopes by unit; only the distances differ."""
    weights, run = torch.tensor([1.2, 0.8, 1.0], dtype=torch.float64), getattr(F, term)

    def error(subdivisions: int) -> float:
        directions = 6 * 2**subdivisions
        mesh = icosphere(subdivisions, directions)
        space = pg.SO3(pg.sphere.SphereGrid.icosahedral(subdivisions), orientations=directions)
        place = torch.cdist(mesh.vertices, space.grid.xyz).argmin(1)
        assert (space.grid.xyz[place] - mesh.vertices).norm(dim=1).max() < 1e-9
        u = functions(rotations(space.grid.xyz, directions), slice(1, 2))[:, None] / (25 * mesh.unit)
        expected = run(u, space, to_so3(weights).abs() / mesh.unit, alpha=alpha, kernel_size=7)[..., place]
        out = run(u[..., place], mesh, weights * torch.tensor([1.0, 1.0, 1 / mesh.unit]), alpha=alpha, kernel_size=7)
        return difference(out, expected, u[..., place])

    coarse, fine = error(1), error(3)
    assert fine < 0.35 * coarse
    assert fine < 0.02
