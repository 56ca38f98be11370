"""Which points dilation compares on grids of any kind: what lists hold, in which order, at what cost."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.functional import dilation
from pdegcnn.kernels.sphere_filters import localised_basis
from pdegcnn.pde.sphere_window import Neighbours, neighbour_lists, window

Grid = pg.sphere.SphereGrid
GRIDS = [Grid.gauss_legendre(4), Grid.equiangular(3), Grid.reduced_gauss(5), Grid.icosahedral(1), Grid.healpix(2)]
SPACES = [*(pg.S2(grid) for grid in GRIDS), *(pg.SO3(grid, 6) for grid in GRIDS)]


@given(space=st.sampled_from(SPACES), size=st.sampled_from([1, 3, 5, 9, 31]), fibre=st.sampled_from([1, 3, 7]))
def test_lists_hold_every_point_of_the_window_once(space, size, fibre) -> None:
    """The centre first, then the others by place and fibre sample; each element is the one its place says."""
    sizes = (fibre if isinstance(space, pg.SO3) else 1, size)
    taps, start, elements = neighbour_lists(space, sizes)
    points = space.grid.xyz.numpy()
    length = points.shape[1] if points.ndim == 3 else 1
    points = points.reshape(-1, 3)
    reach, _ = window(space, sizes)
    assert start[0] == 0 and start[-1] == len(taps) == len(elements) and (np.diff(start) > 0).all()
    for ring, (first, last) in enumerate(zip(start[:-1], start[1:])):
        place = taps[first:last, 0] * length + taps[first:last, 2]
        angle = np.arccos(np.clip(points @ points[ring * length], -1, 1))
        assert place[0] == ring * length and taps[first, 1] == 0
        assert set(place) <= set(np.flatnonzero(angle <= reach + 1e-6))
        assert fibre < 7 or set(place) >= set(np.flatnonzero(angle <= reach - 1e-6))
        rank = (place != place[0]) * len(points) * 8 + place * 8 + taps[first:last, 1]
        assert (np.diff(rank) > 0).all()
    tilt = 2 * np.arctan2(np.hypot(elements[:, 1], elements[:, 2]), np.hypot(elements[:, 0], elements[:, 3]))
    owner = np.repeat(np.arange(len(start) - 1), np.diff(start)) * length
    between = (points[owner] * points[taps[:, 0] * length + taps[:, 2]]).sum(-1)
    np.testing.assert_allclose(np.cos(tilt), between, atol=1e-12)
    assert (elements[start[:-1]] == [1, 0, 0, 0]).all()


@given(grid=st.sampled_from(["icosahedral", "healpix"]), size=st.sampled_from([3, 5, 31]), seed=st.integers(0, 99))
@example(grid="icosahedral", size=31, seed=0)
def test_lists_do_not_depend_on_rounding(grid, size, seed) -> None:
    """Other processors round a point's coordinates otherwise; opposite points have no twist, so none decides."""
    exact = getattr(Grid, grid)(1)
    noise = 1e-15 * np.random.default_rng(seed).normal(size=exact.points.shape)
    for space in (pg.S2, lambda g: pg.SO3(g, 4)):
        moved = dataclasses.replace(exact, points=exact.points + noise)
        lists = [neighbour_lists(space(g), (3, size)) for g in (exact, moved)]
        np.testing.assert_array_equal(lists[0][0], lists[1][0])
        np.testing.assert_array_equal(lists[0][1], lists[1][1])


def test_the_cost_of_the_centre_is_zero() -> None:
    for space in SPACES:
        for distance in ("logarithmic", "tilt_twist"):
            lists = Neighbours(space, (3, 5), distance, torch.empty(0, dtype=torch.float64))
            squared = lists.squared_distance(pg.kernels.Diagonal(torch.full((1, space.metric_dim), 1e3).double()))
            assert bool((squared[..., lists.start[:-1]] == 0).all())


@pytest.mark.parametrize("fibre", [None, 4])
def test_all_points_are_listed_at_once(fibre, monkeypatch) -> None:
    """The number of products of arrays does not grow with the number of points."""
    counts = []
    compose = pg.spaces.RotationSpace.compose
    monkeypatch.setattr(pg.spaces.RotationSpace, "compose", lambda *args: counts.append(1) or compose(*args))
    for subdivisions in (0, 2):
        grid = Grid.icosahedral(subdivisions)
        neighbour_lists(pg.S2(grid) if fibre is None else pg.SO3(grid, fibre), (3, 3))
    assert len(counts) == 4


def test_rings_beyond_the_opposite_pole_have_finite_filters() -> None:
    for lmax, knots, spacing in ((2, 40, math.pi / 2), (0, 1, 1e-3)):
        assert np.isfinite(localised_basis(lmax, 1, knots, spacing)).all()


def lost(space: pg.S2 | pg.SO3, weight: torch.Tensor, **options: Any) -> float:
    """Part of what dilation adds to a smooth signal that a window cuts off."""
    p = space.grid.xyz
    u = torch.sin(2 * p[..., 0] + 1) * torch.cos(3 * p[..., 1]) + p[..., 2] ** 2
    if space.has_orientations:
        angle = torch.arange(space.orientations, dtype=u.dtype) * (2 * math.pi / space.orientations)
        u = u + p[..., 1] * torch.cos(angle)[:, None, None]
    whole = dilation(u[None, None], space, weight, kernel_size="auto")
    part = dilation(u[None, None], space, weight, **options)
    return float((whole - part).norm() / (whole - u).norm())


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_finer_grids_cut_no_more_off_by_default(weight: float) -> None:
    w = torch.full((1,), weight, dtype=torch.float64)
    found = [lost(pg.S2(pg.sphere.SphereGrid.gauss_legendre(rings)), w) for rings in (8, 12, 24)]
    assert max(found) <= found[0] + 0.05, found  # where samples lie within the window is chance
    steps = [lost(pg.S2(pg.sphere.SphereGrid.gauss_legendre(rings)), w, kernel_size=5) for rings in (8, 24)]
    assert steps[1] > found[0] + 0.1  # a number of steps does
    grid = pg.sphere.SphereGrid.gauss_legendre(5)
    w = torch.tensor([2.0, 2.0, weight], dtype=torch.float64)
    found = [lost(pg.SO3(grid, count), w) for count in (8, 16, 24)]
    assert max(found) <= found[0] + 0.05, found  # where samples lie within the window is chance


def test_a_radius_is_the_same_on_every_grid() -> None:
    """A cap of that radius in radians, and turns up to an angle."""
    for rings in (6, 11):
        space = pg.S2(pg.sphere.SphereGrid.gauss_legendre(rings))
        pole = torch.zeros(1, 1, *space.grid.shape, dtype=torch.float64)
        pole[..., 0, :] = 1
        got = dilation(pole, space, torch.ones(1, dtype=torch.float64), time=9.0, alpha=0.5, radius=1.2)[0, 0]
        nearest = (space.grid.xyz @ space.grid.xyz[0].mT).amax(-1).clamp(-1, 1).acos()
        assert torch.equal(got == 1, nearest <= 1.2)
