"""What deep networks are made of: coarser and finer grids, paths around layers, dropout, strides, U-Nets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.testing import equivariance_error

from ..helpers import SPACE_CASES, bumpy_sphere, random_rotation, sheet, signal, spherical

SE2 = pg.SE2(8)
SPHERE = pg.S2(pg.sphere.SphereGrid.clenshaw_curtis(13, 24))
BALL = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(8), orientations=4)
MESH = bumpy_sphere(2, orientations=6)


def wave(size: int, period: float) -> Tensor:
    """A cosine along the columns, ``[1,1,1,size,size]``."""
    return torch.cos(2 * math.pi * torch.arange(size, dtype=torch.float64) / period).expand(1, 1, 1, size, size)


@pytest.mark.parametrize("filter", ["linear", "lanczos"])
def test_waves_beyond_the_band_of_the_coarse_image_do_not_fold_back(filter: str) -> None:
    """A wave of three pixels is one of 1.5 coarse pixels, which would look like one of three."""
    layer = pg.nn.Downsample(pg.SE2(1), 2, filter=filter)
    middle = slice(6, -6)
    assert layer(wave(48, 3.0))[..., middle, middle].abs().max() < {"linear": 0.13, "lanczos": 0.05}[filter]
    kept = layer(wave(48, 12.0))[..., middle, middle]
    assert kept.abs().max() > {"linear": 0.85, "lanczos": 0.97}[filter]


@pytest.mark.parametrize("factor", [2, 3, 1.5])
@pytest.mark.parametrize("make", [pg.nn.Downsample, pg.nn.Upsample])
def test_images_of_any_size_are_centred(make: type[nn.Module], factor: float) -> None:
    """Quarter turns and reflections commute exactly, whatever the size; constants stay."""
    layer = make(SE2, factor)
    for size in ((9, 9), (8, 8), (1, 1), (7, 12)):
        u = signal(SE2, size)
        for flip in ((-1,), (-2,), (-1, -2)):
            torch.testing.assert_close(layer(u.flip(flip)), layer(u).flip(flip), rtol=0, atol=1e-13)
        torch.testing.assert_close(layer(torch.ones_like(u)), torch.ones_like(layer(u)), rtol=0, atol=1e-13)
        if size[0] == size[1]:
            assert equivariance_error(layer, u, SE2, angle=90) < 1e-13


def test_shifts_by_whole_coarse_pixels_commute() -> None:
    u = torch.zeros(1, 1, 8, 48, 48, dtype=torch.float64)
    u[..., 20:26, 18:24] = torch.rand(6, 6, dtype=torch.float64)
    layer = pg.nn.Downsample(SE2)
    torch.testing.assert_close(layer(u.roll((4, -6), (-2, -1))), layer(u).roll((2, -3), (-2, -1)), rtol=0, atol=1e-14)


def test_sizes_of_results() -> None:
    u = torch.randn(1, 2, 8, 33, 20)
    assert pg.nn.Downsample(SE2)(u).shape[-2:] == (17, 10)
    assert pg.nn.Downsample(SE2, 3)(u).shape[-2:] == (11, 7)
    assert pg.nn.Downsample(SE2, size=(5, 4))(u).shape[-2:] == (5, 4)
    assert pg.nn.Downsample(SE2, 100)(u).shape[-2:] == (1, 1)
    assert pg.nn.Upsample(SE2, 1.5)(u).shape[-2:] == (49, 30)
    assert pg.nn.Upsample(SE2)(u, size=(65, 39)).shape[-2:] == (65, 39)
    assert pg.nn.Upsample(SE2, size=40)(u).shape[-2:] == (40, 40)
    assert pg.nn.Resample(scale_factor=0.5)(u).shape[-2:] == (16, 10)
    assert pg.nn.Resample(scale_factor=(2, 0.25), filter="lanczos")(u).shape[-2:] == (66, 5)
    assert pg.nn.Downsample(SPHERE, size=5).out_space == pg.S2(pg.sphere.SphereGrid.gauss_legendre(5))
    assert pg.nn.Downsample(BALL, 1.5).out_space.grid.shape == (5, 10)
    assert pg.nn.Downsample(MESH, size=40).out_space.vertex_count in range(38, 43)


def test_voxels_become_larger_and_lengths_keep_their_units() -> None:
    space = pg.R3(spacing=(2.0, 0.5, 0.5))
    down, up = pg.nn.Downsample(space, 2), pg.nn.Upsample(space, 2)
    assert down.out_space == up.in_space == pg.R3(spacing=(4.0, 1.0, 1.0))
    assert up(down(torch.ones(1, 1, 4, 6, 8))).shape == (1, 1, 4, 6, 8)
    assert pg.nn.Lift(space, 1, 2, stride=3).out_space == pg.R3(spacing=(6.0, 1.5, 1.5))


@pytest.mark.parametrize("space", [SPHERE, BALL, MESH], ids=str)
def test_both_ways_know_both_spaces(space: pg.spaces.Space) -> None:
    down, up = pg.nn.Downsample(space), pg.nn.Upsample(space)
    assert down.in_space is up.out_space is space
    for layer in (down, up):
        with pytest.raises(ValueError, match="u: expected"):
            layer(torch.zeros(1, 1, *[3] * (space.signal_ndim - 2)))
    u = torch.randn(1, 2, space.orientations, MESH.vertex_count) if space is MESH else spherical(space).float()
    assert down(u).shape[2:] == torch.Size((*u.shape[2 : u.ndim - space.base_ndim], *base(down.out_space)))
    assert up(down(u)).shape == u.shape


def base(space: pg.spaces.Space) -> tuple[int, ...]:
    return (space.vertex_count,) if isinstance(space, pg.Mesh) else space.grid.shape


@pytest.mark.parametrize("space", [SPHERE, BALL], ids=str)
def test_functions_of_the_coarse_band_come_back(space: pg.spaces.RotationSpace) -> None:
    up, down = pg.nn.Upsample(space, dtype=torch.float64), pg.nn.Downsample(space, dtype=torch.float64)
    u = spherical(up.in_space)
    torch.testing.assert_close(down(up(u)), u, rtol=0, atol=1e-12)


def test_meshes_are_pooled_as_the_gauge_layers_do() -> None:
    u = torch.randn(2, 3, 6, MESH.vertex_count, dtype=torch.float64)
    down, up = pg.nn.Downsample(MESH), pg.nn.Upsample(MESH)
    coarse = down(u)
    assert torch.equal(coarse, pg.gauge.MeshPool(4.0)(u, MESH))
    assert torch.equal(up(coarse), pg.gauge.MeshUnpool(4.0)(coarse, MESH))
    other = sheet(7, 9, orientations=6)
    v = torch.randn(1, 1, 6, other.vertex_count)
    assert torch.equal(down(v, other), pg.gauge.MeshPool(4.0)(v, other))
    assert up(down(v, other), other).shape == v.shape


@pytest.mark.parametrize("space", [pg.R2(), SE2, SPHERE, BALL, MESH], ids=str)
def test_a_strided_lift_is_a_lift_and_a_coarser_grid(space: pg.spaces.Space) -> None:
    """On spheres the coefficients that would be cut off are never computed."""
    options = {"dtype": torch.float64}
    torch.manual_seed(0)
    strided = pg.nn.Lift(space, 2, 3, stride=2, **options)
    torch.manual_seed(0)
    plain = pg.nn.Lift(space, 2, 3, **options)
    shape = (13, 16) if isinstance(space, pg.spaces.GridSpace) else base(space)
    x = torch.randn(1, 2, *shape, dtype=torch.float64)
    came, wanted = strided(x), pg.nn.Downsample(space, 2, dtype=torch.float64)(plain(x))
    torch.testing.assert_close(came, wanted, rtol=0, atol=1e-12)
    assert came.shape[-1] < x.shape[-1] and str(strided.out_space) == str(pg.nn.Downsample(space, 2).out_space)
    assert "stride=2" in repr(strided) and "stride" not in repr(plain)


@pytest.mark.parametrize("space", SPACE_CASES, ids=str)
def test_fibres_are_dropped_whole(space: pg.spaces.Space) -> None:
    layer = pg.nn.FieldDropout(space, 0.4)
    if isinstance(space, pg.spaces.GridSpace):
        u = torch.ones_like(signal(space, (40, 40)))
    else:
        fibre = (space.orientations,) if space.has_orientations else ()
        u = torch.ones(8, 8, *fibre, *base(space), dtype=torch.float64)
    torch.manual_seed(0)
    came = layer(u)
    assert set(came.unique().tolist()) == {0.0, 1 / 0.6}
    share = float((came == 0).double().mean())
    one = came[:, :, 0] if space.has_orientations else came
    assert abs(share - 0.4) < 4 * math.sqrt(0.24 / one.numel())
    if space.has_orientations:
        assert torch.equal(came, came[:, :, :1].expand_as(came))
    assert layer.eval()(u) is u


def test_a_path_around_a_layer() -> None:
    u = torch.randn(2, 2, 8, 5, 5)
    layer = pg.nn.PDELayer(SE2, 2, 2, ("dilation",), kernel_size=3).eval()
    block = pg.nn.Residual(layer)
    torch.testing.assert_close(block(u), u + layer(u))
    assert not list(block.skip.parameters())
    wider = pg.nn.Residual(nn.Sequential(pg.nn.ChannelLinear(2, 5)), 2, 5)
    torch.testing.assert_close(wider(u), wider.layer(u) + wider.skip(u))


@pytest.mark.parametrize("channels", [(2,), (2, 3, 4)], ids=str)
def test_unets_of_other_depths_commute_with_quarter_turns(channels: tuple[int, ...]) -> None:
    model = pg.models.unet(
        pg.SE2(4), 1, 2, channels=channels, blocks=2, kernel_size=3, dropout=0.1, dtype=torch.float64
    )
    x = torch.randn(1, 1, 11, 11, dtype=torch.float64)
    assert equivariance_error(model.eval(), x, pg.SE2(4), angle=90) < 1e-12


def test_unets_of_linear_terms_commute_with_rotations_of_the_sphere() -> None:
    space = pg.S2(pg.sphere.SphereGrid.clenshaw_curtis(13, 24))
    model = pg.models.unet(space, 2, 1, channels=(2, 3), terms=("diffusion",), dtype=torch.float64).eval()
    x, rotation = spherical(space), random_rotation()
    moved, expected = model(space.transform(x, rotation=rotation)), space.transform(model(x), rotation=rotation)
    assert (moved - expected).norm() < 1e-12 * expected.norm()


def test_a_unet_on_meshes_takes_other_meshes_and_unions() -> None:
    first, second = bumpy_sphere(1, orientations=4), sheet(6, 7, orientations=4)
    model = (
        pg.models.unet(first, 2, 1, channels=(2, 3), kernel_size=3, terms=("convection", "dilation")).eval().double()
    )
    x, y = (torch.randn(1, 2, m.vertex_count, dtype=torch.float64) for m in (first, second))
    alone = torch.cat((model(x), model(y, second)), -1)
    together = model(torch.cat((x, y), -1), pg.Mesh.union([first, second]))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="mesh: expected 4 orientations, got 3"):
        model(y, second.with_orientations(3))


def test_coarser_and_finer_images_are_exported_with_open_sizes() -> None:
    lift = pg.nn.Lift(pg.R2(), 1, 2, stride=2)
    model, x = nn.Sequential(lift, pg.nn.Downsample(pg.R2()), pg.nn.Upsample(pg.R2())).eval(), torch.rand(2, 1, 9, 8)
    open_size = torch.export.Dim.DYNAMIC  # named ones need a proof of guards that torch cannot give
    program = torch.export.export(model, (x,), dynamic_shapes=({2: open_size, 3: open_size},), strict=False)
    y = torch.rand(2, 1, 13, 18)
    torch.testing.assert_close(program.module()(y), model(y))


SAFE: list[nn.Module] = [
    nn.GELU(), nn.PReLU(4), nn.BatchNorm3d(4), nn.InstanceNorm3d(4), nn.GroupNorm(2, 4), nn.Conv3d(4, 6, 1),
    nn.Softmax(1), nn.Softmax(2), nn.GLU(1), nn.MaxPool3d((1, 2, 2)),
]  # fmt: skip
UNSAFE = [nn.Conv3d(4, 6, 3, padding=1), nn.LayerNorm([12, 12]), nn.MaxPool3d((1, 3, 3), (1, 2, 2))]


@pytest.mark.parametrize("module", [*SAFE, *UNSAFE], ids=str)
def test_modules_of_torch_that_the_guide_calls_safe(module: nn.Module) -> None:
    u = torch.randn(1, 4, 8, 12, 12, dtype=torch.float64)
    if isinstance(module, nn.LayerNorm):
        nn.init.normal_(module.weight)
    assert (equivariance_error(module.double(), u, SE2, angle=90) < 1e-12) == (module in SAFE)
