"""Fields on latitudes and longitudes: there and back, in any order of the data, with missing values."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pdegcnn.sphere import InverseRealSHT, SphereGrid, area_mean, grid_of, regrid, to_latlon

F64 = torch.float64
GRID = SphereGrid.gauss_legendre(6)


def angles(rings: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latitudes from north to south with both poles, longitudes from 0."""
    return torch.linspace(90, -90, rings, dtype=F64), torch.arange(count, dtype=F64) * (360 / count)


def field(rings: int = 13, count: int = 24, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, rings, count, dtype=F64, generator=generator), *angles(rings, count)


@given(flip=st.booleans(), start=st.integers(0, 23), repeat=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_data_does_not_matter(flip: bool, start: int, repeat: bool, seed: int) -> None:
    values, lat, lon = field(seed=seed)
    expected = regrid(values, lat, lon, GRID)
    values, lon = values.roll(-start, -1), torch.cat((lon[start:], lon[:start] + 360))
    if repeat:
        values, lon = torch.cat((values, values[..., :1]), -1), torch.cat((lon, lon[:1] + 360))
    if flip:
        values, lat = values.flip(-2), lat.flip(0)
    torch.testing.assert_close(regrid(values, lat, lon, GRID), expected, rtol=0, atol=1e-12)


def test_samples_that_are_the_grid_stay() -> None:
    values, lat, lon = field(9, 16)
    grid = SphereGrid.clenshaw_curtis(9, 16)
    inner = slice(1, -1)  # a pole has one point, and the field many values there
    torch.testing.assert_close(regrid(values, lat, lon, grid)[:, inner], values[:, inner], rtol=0, atol=1e-10)
    torch.testing.assert_close(to_latlon(values, grid, lat, lon)[:, inner], values[:, inner], rtol=0, atol=1e-10)


def test_a_missing_value_spreads_nowhere() -> None:
    """Constants stay constants, and a point without data is missing alone."""
    values, lat, lon = field()
    constant = torch.full_like(values, 3.0)
    mask = torch.rand(values.shape[-2:], generator=torch.Generator().manual_seed(1)) > 0.4
    holes = torch.where(mask, constant, math.nan)
    for out in (regrid(holes, lat, lon, GRID), regrid(constant, lat, lon, GRID, mask=mask)):
        known = out.isfinite()
        assert known.any()
        torch.testing.assert_close(out[known], torch.full_like(out[known], 3.0), rtol=0, atol=1e-12)
    one = values.clone()
    one[:, 6, 10] = math.nan
    out, whole = regrid(one, lat, lon, GRID), regrid(values, lat, lon, GRID)
    assert out.isfinite().all()  # no point of this grid lies on that sample
    assert int((out - whole).abs().gt(1e-12).sum()) <= 2 * 4 * 2
    assert regrid(torch.full_like(values, math.nan), lat, lon, GRID).isnan().all()


def test_gradients_pass_missing_values_by() -> None:
    values, lat, lon = field()
    values[:, 3:6] = math.nan
    values.requires_grad_()
    regrid(values, lat, lon, GRID).nansum().backward()
    assert values.grad is not None and values.grad.isfinite().all()
    assert (values.grad[:, 4] == 0).all()


@pytest.mark.parametrize(
    "make", [SphereGrid.gauss_legendre, SphereGrid.equiangular, lambda n: SphereGrid.clenshaw_curtis(n + 2)]
)
def test_the_spectral_way_back_is_exact(make) -> None:
    grid = make(8)
    size = grid.band + 1
    c = torch.randn(size, size, dtype=torch.complex128, generator=torch.Generator().manual_seed(0)).tril()
    c[:, 0] = c[:, 0].real + 0j
    other = SphereGrid.gauss_legendre(11, 25)
    lat = 90 - torch.rad2deg(torch.tensor(other.theta, dtype=F64))
    lon = torch.arange(25, dtype=F64) * (360 / 25)
    expected = InverseRealSHT(other, grid.band, dtype=F64)(c)
    signal = InverseRealSHT(grid, grid.band, dtype=F64)(c)
    torch.testing.assert_close(to_latlon(signal, grid, lat, lon, method="spectral"), expected, rtol=0, atol=1e-11)


def test_there_and_back_converges_with_the_square_of_the_spacing() -> None:
    """A smooth field, Gauss-Legendre grids of twice as many rings: a quarter of the error."""
    lat, lon = angles(181, 360)
    a, b = lat.deg2rad()[:, None], lon.deg2rad()
    smooth = a.sin() ** 3 + a.cos() ** 2 * (2 * b).cos()
    errors = []
    for rings in (16, 32, 64):
        grid = SphereGrid.gauss_legendre(rings)
        back = to_latlon(regrid(smooth, lat, lon, grid), grid, lat[20:-20], lon)
        errors.append(float((back - smooth[20:-20]).abs().max()))
    assert errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3


@pytest.mark.parametrize(
    "grid",
    [
        SphereGrid.gauss_legendre(9, 20),
        SphereGrid.clenshaw_curtis(73, 144),
        SphereGrid.equiangular(8),
        SphereGrid.equiangular(8, "full_band"),
    ],
    ids=lambda grid: grid.name,
)
def test_the_grid_of_its_own_angles(grid: SphereGrid) -> None:
    lat = 90 - torch.rad2deg(torch.tensor(grid.theta, dtype=F64))
    assert grid_of(lat.float(), torch.arange(grid.nlon) * (360 / grid.nlon)) == grid


def test_the_mean_by_area() -> None:
    grid = SphereGrid.clenshaw_curtis(9, 16)
    z = grid.xyz[..., 2]
    torch.testing.assert_close(area_mean(z**2, grid), torch.tensor(1 / 3, dtype=F64), rtol=0, atol=1e-14)
    mask = z > 0
    torch.testing.assert_close(area_mean(torch.where(mask, 2.0, math.nan), grid, mask=mask), torch.tensor(2.0))
    assert area_mean(z, grid, mask=torch.zeros_like(mask)).isnan()
    large = torch.full((9, 16), 6e4)  # its sum exceeds what halves hold
    assert area_mean(large.half(), grid) == area_mean(large.half(), grid, mask=mask) == large.half()[0, 0]


def test_latitudes_in_radians_cause_a_warning() -> None:
    values, lat, lon = field()
    with pytest.warns(UserWarning, match="latitudes: expected degrees, got 1.571 ... -1.571, which may be radians"):
        regrid(values, lat.deg2rad(), lon, GRID)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regrid(values, lat, lon, GRID)
        regrid(values, lat / 100, lon, GRID)  # a strip around the equator
        regrid(values, lat / 20, lon, GRID)
