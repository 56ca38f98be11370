"""Volumes: the 48 symmetries of the cube, rotations between voxels, voxels of unequal sides, wrong arguments."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import pdegcnn as pg
from pdegcnn import functional as F
from pdegcnn.testing import equivariance_error

from ..helpers import random_rotation, spd, weights

SYMMETRIES = [
    torch.tensor([[float(j == axes[i]) * signs[i] for j in range(3)] for i in range(3)], dtype=torch.float64)
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""The matrices that permute and mirror x, y and z."""
symmetry = st.sampled_from(SYMMETRIES)


def noise(*size: int, channels: int = 1) -> Tensor:
    return torch.randn(1, channels, *size, dtype=torch.float64)


def ball(size: int, width: float, spacing: tuple[float, float, float], at: Tensor) -> Tensor:
    """A Gaussian about the point (x, y, z) = ``at``, in units of length from the centre, ``[1,1,D,H,W]``."""
    lines = [(torch.arange(size, dtype=torch.float64) - (size - 1) / 2) * step for step in spacing]
    points = torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], dim=-1)
    return torch.exp(-((points - at) ** 2).sum(-1) / (2 * width**2))[None, None]


def test_there_are_48_symmetries() -> None:
    assert len({tuple(matrix.flatten().tolist()) for matrix in SYMMETRIES}) == 48


@given(first=symmetry, second=symmetry)
def test_symmetries_act_as_a_group_and_move_every_voxel_to_its_place(first: Tensor, second: Tensor) -> None:
    space, u = pg.R3(0.7), noise(4, 4, 4)
    moved = space.transform(u, rotation=first)
    assert torch.equal(space.transform(moved, rotation=second), space.transform(u, rotation=second @ first))
    where = torch.tensor([1.5, -0.5, 0.5], dtype=torch.float64)

    def at(field: Tensor, point: Tensor) -> Tensor:
        x, y, z = (round(float(p) + 1.5) for p in point)
        return field[0, 0, z, y, x]

    assert at(moved, first @ where) == at(u, where)


@given(matrix=symmetry, seed=st.integers(0, 10**6))
def test_every_term_is_covariant_with_the_symmetries(matrix: Tensor, seed: int) -> None:
    """Metrics G become ``R G R^T`` and vectors c become ``R c``; on a cube with voxels of equal sides."""
    torch.manual_seed(seed)
    space, u, g = pg.R3(0.8), noise(5, 5, 5), spd(pg.R3(), 1)
    c = torch.randn(3, dtype=torch.float64)
    turned, rotated = space.transform(u, rotation=matrix), matrix @ g @ matrix.mT
    soft = {"semifield": "log_plus", "temperature": 0.3}
    shock = {"contrast": 2.0, "sharpness": 0.4}
    steps = {
        "log-plus": (F.dilation(turned, space, rotated, **soft), F.dilation(u, space, g, **soft)),
        "shock": tuple(F.diffusion_shock(v, space, m, m, **shock) for v, m in ((turned, rotated), (u, g))),
        "slope": tuple(F.gradient_norm(v, space, m) for v, m in ((turned, rotated), (u, g))),
        "bend": tuple(F.laplacian(v, space, m) for v, m in ((turned, rotated), (u, g))),
        "across": (F.lateral_laplacian(turned, space), F.lateral_laplacian(u, space)),
        "dilation": (F.dilation(turned, space, rotated), F.dilation(u, space, g)),
        "finer": (F.dilation(turned, space, rotated, oversample=1), F.dilation(u, space, g, oversample=1)),
        "erosion": (F.erosion(turned, space, rotated, alpha=1.0), F.erosion(u, space, g, alpha=1.0)),
        "kernel": (F.diffusion(turned, space, rotated, alpha=0.7), F.diffusion(u, space, g, alpha=0.7)),
        "spectral": tuple(F.diffusion(v, space, m, method="spectral") for v, m in ((turned, rotated), (u, g))),
        **{
            method: (F.convection(turned, space, matrix @ c, method=method), F.convection(u, space, c, method=method))
            for method in ("cubic", "linear", "spectral")
        },
    }
    for name, (found, wanted) in steps.items():
        torch.testing.assert_close(found, space.transform(wanted, rotation=matrix), atol=1e-11, rtol=0, msg=name)


@given(matrix=symmetry)
def test_layers_with_isotropic_metrics_commute_with_the_symmetries(matrix: Tensor) -> None:
    space = pg.R3()
    layer = pg.nn.PDELayer(space, 2, 3, ("diffusion", "dilation", "erosion"), dtype=torch.float64).eval()
    for term in layer.terms.values():
        term.metric.raw.data[:] = term.metric.raw.data[:, :1]
    for size in (5, 4):
        assert equivariance_error(layer, noise(size, size, size, channels=2), space, rotation=matrix) < 1e-11


@given(matrix=symmetry, seed=st.integers(0, 10**6))
def test_unequal_voxels_keep_the_symmetries_of_their_shape(matrix: Tensor, seed: int) -> None:
    """Mirrors, and those that swap the two axes that are sampled alike; others are splines, without an error."""
    torch.manual_seed(seed)
    space, u = pg.R3((2.0, 1.0, 1.0)), noise(4, 5, 5)
    exact = bool((matrix[2] != 0).equal(torch.tensor([False, False, True])))
    assert (space.comparison_weights(u, rotation=matrix).ndim == 0) == exact
    moved = space.transform(u, rotation=matrix)
    assert moved.shape == u.shape
    if exact:
        w = torch.tensor([0.7, 0.7, 0.7], dtype=torch.float64)
        wanted = space.transform(F.dilation(u, space, w), rotation=matrix)
        torch.testing.assert_close(F.dilation(moved, space, w), wanted)


def test_a_turn_goes_from_x_to_y_and_shifts_count_voxels() -> None:
    space, u = pg.R3(), torch.zeros(1, 1, 5, 5, 5)
    u[0, 0, 1, 2, 4] = 1  # at +x, in slice 1
    assert space.transform(u, angle=90)[0, 0, 1, 4, 2] == 1
    assert space.transform(u, angle=90, axis=(1, 0, 0))[0, 0, 2, 3, 4] == 1  # z = -1 becomes y = +1
    assert space.transform(u, shift=(1, -1, 2))[0, 0, 2, 1, 1] == 1
    pooled = torch.randn(2, 3)
    assert space.transform(pooled, angle=90) is pooled
    assert space.transform(pooled, shift=(1, 0, 0)) is pooled


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.6, 1.0, 0.8)])
def test_rotations_between_voxels_move_functions_in_units_of_length(spacing: tuple[float, float, float]) -> None:
    space, rotation = pg.R3(spacing), random_rotation()
    rotation[0] *= -1  # a reflection too
    at = torch.tensor([2.0, -1.0, 1.5], dtype=torch.float64)
    u, wanted = ball(21, 2.5, spacing, at), ball(21, 2.5, spacing, rotation @ at)
    weight = space.comparison_weights(u, rotation=rotation)
    assert 0.1 < float(weight.mean()) < 0.6
    assert ((space.transform(u, rotation=rotation) - wanted) * weight).abs().max() < 3e-3  # of the fourth order


def test_layers_with_isotropic_metrics_commute_with_rotations_up_to_sampling() -> None:
    """Whatever the shape of a voxel: metrics are in units of length."""
    w = torch.full((3,), 0.8, dtype=torch.float64)
    for spacing in ((1.0, 1.0, 1.0), (1.5, 1.0, 0.8)):
        space, u = pg.R3(spacing), ball(21, 2.5, spacing, torch.tensor([2.0, -1.0, 1.5], dtype=torch.float64))
        terms = {
            "diffusion": lambda v, s=space: F.diffusion(v, s, w, method="spectral"),
            "dilation": lambda v, s=space: F.dilation(v, s, w, alpha=1.0, radius=2.5, oversample=2),
        }
        for name, term in terms.items():
            assert equivariance_error(term, u, space, rotation=random_rotation()) < 0.05, name


def test_the_report_finds_what_breaks_a_symmetry() -> None:
    """A convolution of white noise does; a layer with an isotropic metric does not."""
    space, x = pg.R3(), torch.randn(1, 2, 5, 5, 5)
    diffuse = pg.nn.Diffusion(space, 2)
    diffuse.metric.raw.data[:] = 0.1
    assert pg.testing.report(diffuse, x, space).ok
    assert not pg.testing.report(torch.nn.Conv3d(2, 2, 3, padding=1), x, space).ok


@given(
    scale=st.floats(0.2, 5.0),
    spacing=st.tuples(*[st.floats(0.5, 2.0)] * 3),
    term=st.sampled_from(["dilation", "diffusion", "spectral", "convection"]),
)
def test_units_of_length_are_free(scale: float, spacing: tuple[float, float, float], term: str) -> None:
    """Voxels, vectors and radii times a number, weights divided by it: nothing changes."""
    u, w, c = noise(4, 5, 6), weights(pg.R3(), 1), torch.randn(3, dtype=torch.float64)
    spaces = pg.R3(spacing), pg.R3(tuple(scale * s for s in spacing))
    run = {
        "dilation": lambda s, k: F.dilation(u, s, w / k, alpha=0.8, kernel_size=3),
        "diffusion": lambda s, k: F.diffusion(u, s, w / k, alpha=0.6, kernel_size=3),
        "spectral": lambda s, k: F.diffusion(u, s, w / k, alpha=0.6, method="spectral"),
        "convection": lambda s, k: F.convection(u, s, c * k),
    }[term]
    torch.testing.assert_close(run(spaces[1], scale), run(spaces[0], 1.0), atol=1e-9, rtol=0)


def test_spacing_may_be_any_kind_of_numbers() -> None:
    for given_ in (2, 2.0, np.float32(2), (2, 2, 2), [2.0, 2.0, 2.0], np.full(3, 2.0), torch.full((3,), 2.0)):
        space = pg.R3(given_)  # type: ignore[arg-type]
        assert space == pg.R3(2.0) and hash(space) == hash(pg.R3(2.0))
        assert space.spacing == (2.0, 2.0, 2.0) and all(type(s) is float for s in space.spacing)


def test_coarser_volumes_have_larger_voxels() -> None:
    """A network on the coarser grid goes on in the same units: diffusion there is that on the fine grid."""
    space = pg.R3((2.0, 1.0, 1.0))
    down, w = pg.nn.Downsample(space), torch.full((3,), 0.5, dtype=torch.float64)
    assert down.out_space == pg.R3((4.0, 2.0, 2.0)) and pg.nn.Upsample(space).in_space == down.out_space
    assert pg.nn.Lift(space, 1, 1, stride=3).out_space == pg.R3((6.0, 3.0, 3.0))
    u = ball(24, 5.0, (2.0, 1.0, 1.0), torch.zeros(3, dtype=torch.float64))
    coarse = F.diffusion(down(u), down.out_space, w, time=2.0, method="spectral")
    fine = down(F.diffusion(u, space, w, time=2.0, method="spectral"))
    assert (coarse - fine).abs().max() < 0.01 < (fine - down(u)).abs().max()
    assert pg.models.unet(space, channels=(2, 3))(torch.randn(2, 1, 5, 6, 7)).shape == (2, 1, 5, 6, 7)
