"""Every layer commutes with the exact motions of its space, to rounding; errors of others fall with the resolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn import gauge
from pdegcnn.spaces import PlanarSpace, RotationSpace
from pdegcnn.testing import equivariance_error

from ..cases import LAYERS, SPACED_TERMS, Case
from ..helpers import bumpy_sphere, random_rotation, sheet, spherical

EXACT = [c for c in (*LAYERS, *SPACED_TERMS) if c.exact]
ON_GRIDS = [c for c in EXACT if isinstance(c.space, PlanarSpace)]
IN_VOLUMES = [c for c in EXACT if isinstance(c.space, pg.R3)]
ON_SPHERES = [c for c in EXACT if isinstance(c.space, RotationSpace)]
GAUGE = [c for c in EXACT if isinstance(c.inputs[0], dict)]
SURFACES = {"closed": bumpy_sphere(1), "open": sheet(4, 5)}


def randomised(case: Case) -> nn.Module:
    """In double precision, with statistics and thresholds that are not those of a fresh layer."""
    layer = case.build().double().eval()
    for m in layer.modules():
        if isinstance(m, pg.nn.BatchNorm):
            m.running_mean.uniform_(-0.5, 0.5)
            m.running_var.uniform_(0.5, 1.5)
        if isinstance(m, pg.nn.SphereNormReLU):
            nn.init.uniform_(m.bias, -1, 0.5)
    return layer


def pixels(case: Case, *size: int) -> Tensor:
    """An input of another size."""
    return torch.randn(1, *case.inputs[0].shape[1 : -len(size)], *size, dtype=torch.float64)


def keeps_pixels(case: Case) -> bool:
    """Whether an image keeps its size, and the layer looks at a part of it only."""
    return case.make is not pg.nn.Resample and "valid" not in case.name and "translations" not in case.lacks


@pytest.mark.parametrize("case", ON_GRIDS, ids=str)
def test_quarter_turns_and_translations_are_exact(case: Case, device: torch.device) -> None:
    """On images of an odd and an even size; in float32 to its rounding. The plane alone moves by translations only.

    Under translations the signal vanishes near the border, so what enters there and what leaves are alike: nothing, or
    a constant.
    """
    layer, space = randomised(case).to(device), case.space
    assert isinstance(space, PlanarSpace)
    for size in (9, 8) if space.has_orientations else ():
        x = pixels(case, size, size).to(device)
        for angle in (90, 180, -90):
            assert equivariance_error(layer.double(), x, space, angle=angle) < 1e-11
        assert equivariance_error(layer.float(), x.float(), space, angle=90) < 1e-5
    if keeps_pixels(case):
        x = torch.zeros_like(pixels(case, 44, 44)).to(device)
        x[..., 20:24, 20:24] = torch.rand_like(x[..., 20:24, 20:24])
        assert equivariance_error(layer.double(), x, space, shift=(2, -3)) < 1e-11


@pytest.mark.parametrize("case", [c for c in IN_VOLUMES if keeps_pixels(c)], ids=str)
def test_translations_of_volumes_are_exact(case: Case) -> None:
    """Of a signal that vanishes near the border, as for images."""
    layer, size = randomised(case), (28, 28, 28)
    x = torch.zeros_like(pixels(case, *size))
    x[..., 12:16, 12:16, 12:16] = torch.rand_like(x[..., 12:16, 12:16, 12:16])
    assert equivariance_error(layer, x, case.space, shift=(1, -2, 2)) < 1e-11


@pytest.mark.parametrize("case", ON_SPHERES, ids=str)
def test_rotations_are_exact(case: Case) -> None:
    """Of band-limited signals, with the statistics that batch norm has seen; in float32 to its rounding."""
    space = case.space
    assert isinstance(space, RotationSpace)
    where = pg.S2(space.grid) if case.inputs[0].ndim < space.signal_ndim else space
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        layer, x, rotation = randomised(case).to(dtype), spherical(where, dtype=dtype), random_rotation(dtype=dtype)
        with torch.no_grad():
            layer.train()(x)
            moved, expected = layer.eval()(space.transform(x, rotation=rotation)), layer(x)
            expected = getattr(layer, "out_space", space).transform(expected, rotation=rotation)
        assert (moved - expected).norm() < bound * expected.norm()


def fields(case: Case, mesh: pg.Mesh, dtype: torch.dtype = torch.float64) -> tuple[gauge.Features, tuple[pg.Mesh, ...]]:
    """Inputs of a gauge layer on another mesh."""
    count = mesh.coarsen(2.0).vertex_count if case.make is gauge.MeshUnpool else mesh.vertex_count
    made = {
        k: torch.randn(*u.shape[:-1], count, dtype=dtype.to_complex() if k else dtype)
        for k, u in case.inputs[0].items()
    }
    return made, case.inputs[1:] and (mesh,)


def field_error(a: gauge.Features, b: gauge.Features) -> float:
    """Greatest relative difference."""
    assert set(a) == set(b)
    return max(float((a[k] - b[k]).detach().abs().max() / b[k].detach().abs().max()) for k in a)


@pytest.mark.parametrize("mesh", SURFACES.values(), ids=SURFACES)
@pytest.mark.parametrize("case", [c for c in GAUGE if "Pool" not in c.name and "Unpool" not in c.name], ids=str)
def test_gauge_layers_commute_with_changes_of_gauge(case: Case, mesh: pg.Mesh) -> None:
    """Layers between a mesh and a coarser one: tests/gauge/test_pooling.py."""
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        layer, (x, on) = case.build().to(dtype).eval(), fields(case, mesh, dtype)
        angles = 6 * torch.rand(mesh.vertex_count, dtype=torch.float64) - 3
        moved = [mesh.with_gauge(angles) for mesh in on]
        expected = gauge.transform(layer(x, *on), angles)
        assert field_error(layer(gauge.transform(x, angles), *moved), expected) < bound


def test_a_layer_that_is_not_equivariant_is_caught() -> None:
    assert equivariance_error(nn.Conv2d(1, 1, 3), torch.randn(1, 1, 8, 8), pg.SE2(8), angle=90) > 0.05
