"""The terms on the sphere and on SO(3) converge to solutions that are computed without the library.

Linear terms: series in Legendre functions and characters, and functions at moved rotations. Dilation and erosion: the
best of very many points, by the angle between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre, spherical_in
from torch import Tensor

import pdegcnn as pg
from pdegcnn.functional import convection, convection_diffusion, diffusion, dilation, erosion

from .test_spherical import rotations

KAPPA = 3.0
"""How steep the functions are: none is band-limited."""
TOWARDS = torch.tensor([0.6, 0.48, 0.64], dtype=torch.float64)
"""A unit vector off all axes."""


def falls(errors: list[float], factor: float, limit: float) -> bool:
    """Whether every refinement takes ``factor`` off, until rounding, and the last error is below ``limit``."""
    pairs = zip(errors, errors[1:])
    return errors[-1] < limit and all(fine < max(factor * coarse, 1e-12) for coarse, fine in pairs)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def hill(cosine: Tensor, alpha: float, time: float, weight: float) -> Tensor:
    """``exp(kappa cos)`` on the sphere, diffused: its Legendre series, each degree damped."""
    degrees = np.arange(40)
    damped = np.exp(-time * (degrees * (degrees + 1) / weight**2) ** alpha) * (2 * degrees + 1)
    terms = damped * spherical_in(degrees, KAPPA) * eval_legendre(degrees, cosine.numpy()[..., None])
    return torch.from_numpy(terms.sum(-1))


@pytest.mark.parametrize("alpha", [0.3, 0.65, 1.0])
def test_diffusion_on_the_sphere(alpha: float) -> None:
    errors = []
    for rings in (4, 7, 12, 20):
        space = pg.S2(pg.sphere.SphereGrid.gauss_legendre(rings))
        cosine, w = space.grid.xyz @ TOWARDS, torch.tensor([2.0], dtype=torch.float64)
        got = diffusion((KAPPA * cosine).exp()[None, None], space, w, alpha=alpha, time=0.3)[0, 0]
        errors.append(relative(got, hill(cosine, alpha, 0.3, 2.0)))
    assert falls(errors, 0.3, 1e-11), errors


def character_series(angle: Tensor, factor: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """``exp(kappa cos(angle))`` on SO(3), each degree times a factor: its series in characters, by quadrature."""
    degrees = np.arange(30)
    x, weight = np.polynomial.legendre.leggauss(200)
    at = (x + 1) * math.pi / 2

    def characters(t: np.ndarray) -> np.ndarray:
        small = np.abs(np.sin(t / 2)) < 1e-8
        ratio = np.sin((degrees + 0.5) * t[..., None]) / np.where(small, 1.0, np.sin(t / 2))[..., None]
        return np.where(small[..., None], 2 * degrees + 1.0, ratio)

    share = weight * (1 - np.cos(at)) / 2
    series = (share * np.exp(KAPPA * np.cos(at))) @ characters(at)
    return torch.from_numpy(characters(angle.numpy()) @ (series * factor(degrees)))


def angles_from(space: pg.SO3, turn: Tensor) -> Tensor:
    """Angle of the rotation from ``turn`` to every sample."""
    trace = torch.einsum("ij,...ij->...", turn, rotations(space))
    return ((trace - 1) / 2).clamp(-1, 1).acos()


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_diffusion_on_the_group(alpha: float) -> None:
    errors, w = [], torch.full((3,), 2.5, dtype=torch.float64)
    for rings in (4, 7, 11):
        space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(rings), 2 * rings - 1)
        turn = space.to_matrix(space.exp(torch.tensor([0.4, -0.9, 0.5], dtype=torch.float64)))
        angle = angles_from(space, turn)
        whole = character_series(angle, lambda degree: np.ones(len(degree)))
        torch.testing.assert_close(whole, (KAPPA * angle.cos()).exp(), atol=1e-11, rtol=0)
        got = diffusion(whole[None, None], space, w, alpha=alpha, time=0.2)[0, 0]
        wanted = character_series(angle, lambda degree: np.exp(-0.2 * (degree * (degree + 1) / 2.5**2) ** alpha))
        errors.append(relative(got, wanted))
    assert falls(errors, 0.2, 1e-3), errors


def steep(r: Tensor) -> Tensor:
    """A function of rotations of every degree and order."""
    return (1.2 * r[..., 0, 1] - 0.9 * r[..., 2, 0] + 0.7 * r[..., 2, 2] + 0.5 * r[..., 1, 0]).exp()


def test_convection_on_the_group() -> None:
    errors, c = [], torch.tensor([0.5, -0.3, 0.8], dtype=torch.float64)
    for rings in (4, 7, 11):
        space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(rings), 2 * rings - 1)
        r, back = rotations(space), space.to_matrix(space.exp(-1.3 * c))
        got = convection(steep(r)[None, None], space, c, time=1.3)[0, 0]
        errors.append(relative(got, steep(r @ back)))
    assert falls(errors, 0.1, 1e-4), errors


def test_both_at_once_on_the_group() -> None:
    """With the same metric in all directions the two commute: the diffused function, moved."""
    errors, c, w = [], torch.tensor([0.5, -0.3, 0.8], dtype=torch.float64), torch.full((3,), 2.5, dtype=torch.float64)
    for rings in (4, 7, 11):
        space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(rings), 2 * rings - 1)
        turn = space.to_matrix(space.exp(torch.tensor([0.4, -0.9, 0.5], dtype=torch.float64)))
        u = (KAPPA * angles_from(space, turn).cos()).exp()
        got = convection_diffusion(u[None, None], space, c, w, alpha=0.65, time=0.2)[0, 0]
        moved = angles_from(space, turn @ space.to_matrix(space.exp(0.2 * c)))
        wanted = character_series(moved, lambda degree: np.exp(-0.2 * (degree * (degree + 1) / 2.5**2) ** 0.65))
        errors.append(relative(got, wanted))
    assert falls(errors, 0.2, 1e-3), errors


def charge(distance: Tensor, alpha: float) -> Tensor:
    """The kernel for time one, from its formula."""
    power = 2 * alpha / (2 * alpha - 1)
    return (2 * alpha - 1) * (2 * alpha) ** -power * distance**power


def landscape(p: Tensor) -> Tensor:
    return torch.sin(2 * p[..., 0] + 1) * torch.cos(3 * p[..., 1]) + p[..., 2] ** 2


@pytest.mark.parametrize(("term", "sign"), [(dilation, 1), (erosion, -1)], ids=["dilation", "erosion"])
@pytest.mark.parametrize("alpha", [0.65, 1.0])
def test_dilation_and_erosion_on_the_sphere(term: Callable[..., Tensor], sign: int, alpha: float) -> None:
    many = pg.sphere.SphereGrid.gauss_legendre(64).xyz.reshape(-1, 3)
    heights = sign * landscape(many)
    errors: dict[str, list[float]] = {"samples": [], "finer": []}
    for rings in (6, 12, 24):
        space, w = pg.S2(pg.sphere.SphereGrid.gauss_legendre(rings)), torch.tensor([4.0], dtype=torch.float64)
        u = landscape(space.grid.xyz).flatten()
        which = torch.linspace(0, u.numel() - 1, min(u.numel(), 250)).long()
        here, u = space.grid.xyz.reshape(-1, 3)[which], u[which]
        far = 2 * torch.asin((torch.cdist(here, many, compute_mode="donot_use_mm_for_euclid_dist") / 2).clamp(max=1))
        wanted = sign * (heights - charge(4.0 * far, alpha)).amax(1)
        for name, options in (("samples", {}), ("finer", {"oversample": 2})):
            got = term(landscape(space.grid.xyz)[None, None], space, w, alpha=alpha, **options).flatten()[which]
            errors[name].append(relative(got - u, wanted - u))
    assert falls(errors["samples"], 0.7, 0.12), errors
    assert falls(errors["finer"], 0.8, 0.07), errors
    assert all(fine < coarse for coarse, fine in zip(errors["samples"][1:], errors["finer"][1:]))


def test_dilation_on_the_group() -> None:
    """The charge is that of the rotation angle where all directions weigh alike."""
    dense = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(24), 48)
    there = rotations(dense).reshape(-1, 3, 3)
    heights = steep(there)
    errors: dict[str, list[float]] = {"samples": [], "finer": []}
    for rings, count in ((4, 7), (6, 11), (10, 19)):
        space, w = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(rings), count), torch.full((3,), 2.0, dtype=torch.float64)
        r = rotations(space)
        which = torch.linspace(0, r[..., 0, 0].numel() - 1, 40).long()
        here, u = r.reshape(-1, 3, 3)[which], steep(r)
        cosine = ((here.flatten(1) @ there.flatten(1).T - 1) / 2).clamp(-1, 1)
        wanted = (heights - charge(2.0 * cosine.acos(), 0.8)).amax(1)
        for name, options in (("samples", {}), ("finer", {"oversample": 2})):
            got = dilation(u[None, None], space, w, alpha=0.8, kernel_size="auto", **options).flatten()[which]
            errors[name].append(relative(got - u.flatten()[which], wanted - u.flatten()[which]))
    assert falls(errors["samples"], 0.9, 0.25), errors
    assert falls(errors["finer"], 0.9, 0.1), errors
