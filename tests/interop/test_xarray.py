"""Fields of xarray: whatever the order of the data, the same signal comes out, and the same array comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.interop.xarray import from_xarray, to_xarray

F64 = torch.float64


def array(rings: int = 13, count: int = 24, seed: int = 0, dtype: str = "float32") -> xr.DataArray:
    """Two times of a field with both poles, from north to south, from longitude 0."""
    values = (100 * np.random.default_rng(seed).normal(size=(2, rings, count))).astype(dtype)
    coordinates = {
        "time": np.array(["2000-01-01", "2000-02-01"], dtype="datetime64[ns]"),
        "lat": ("lat", np.linspace(90, -90, rings), {"units": "degrees_north"}),
        "lon": ("lon", np.arange(count) * (360 / count), {"units": "degrees_east"}),
    }
    return xr.DataArray(values, coordinates, ("time", "lat", "lon"), name="t2m", attrs={"units": "K", "level": 2})


@pytest.mark.parametrize("units", ["radians", "radian", "rad"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("repeat", [False, True])
def test_coordinates_in_radians_are_those_in_degrees(repeat: bool, dtype: str, units: str) -> None:
    field = rearranged(array(), flip=True, start=5, repeat=repeat, dims=("lon", "time", "lat"))
    there = {d: (d, np.deg2rad(field[d].values).astype(dtype), {"units": units}) for d in ("lat", "lon")}
    turned = field.assign_coords(there)
    for grid in (None, pg.sphere.SphereGrid.gauss_legendre(12)):
        one, other = from_xarray(field, grid, dtype=F64), from_xarray(turned, grid, dtype=F64)
        assert one.grid == other.grid and torch.equal(one.mask, other.mask)
        torch.testing.assert_close(other.values, one.values, rtol=0, atol=1e-6 if dtype == "float64" else 0.02)
    own = from_xarray(turned)
    xr.testing.assert_identical(to_xarray(own.values, own.grid, turned), turned)


def rearranged(field: xr.DataArray, flip: bool, start: int, repeat: bool, dims: tuple[str, ...]) -> xr.DataArray:
    count = field.sizes["lon"]
    if start:
        lon = (field.lon.values + 180) % 360 - 180
        field = field.assign_coords(lon=("lon", lon, field.lon.attrs)).roll(lon=-start, roll_coords=True)
    if repeat:
        first = field.isel(lon=[0])
        field = xr.concat([field, first.assign_coords(lon=first.lon + 360)], "lon")
        assert field.sizes["lon"] == count + 1
    if flip:
        field = field.isel(lat=slice(None, None, -1))
    return field.transpose(*dims)


orders = st.permutations(["time", "lat", "lon"]).map(tuple)


@given(flip=st.booleans(), start=st.integers(0, 23), repeat=st.booleans(), dims=orders)
@settings(max_examples=25, deadline=None)
def test_there_and_back_in_any_order(flip: bool, start: int, repeat: bool, dims: tuple[str, ...]) -> None:
    plain = array()
    given_ = rearranged(plain, flip, start, repeat, dims)
    field = from_xarray(given_, dtype=F64)
    assert field.grid == pg.sphere.SphereGrid.clenshaw_curtis(13, 24)
    np.testing.assert_array_equal(field.values.numpy(), plain.values)
    assert field.mask.all() and field.mask.shape == field.values.shape
    xr.testing.assert_identical(to_xarray(field.values, field.grid, given_), given_)
    coarse = pg.sphere.SphereGrid.gauss_legendre(6)
    expected = from_xarray(plain, coarse, dtype=F64)
    other = from_xarray(given_, coarse, dtype=F64)
    torch.testing.assert_close(other.values, expected.values, rtol=0, atol=1e-9)
    back = to_xarray(other.values, coarse, given_)
    assert back.dims == given_.dims and back.attrs == given_.attrs and back.dtype == given_.dtype
    wanted = to_xarray(expected.values, coarse, plain)
    np.testing.assert_allclose(rearranged(wanted, flip, start, repeat, dims).values, back.values, rtol=1e-5, atol=1e-4)


def test_missing_values_become_a_mask_and_spread_nowhere() -> None:
    plain = array()
    holes = plain.where(np.random.default_rng(1).random((2, 13, 24)) > 0.3)
    field = from_xarray(holes)
    assert np.array_equal(field.mask.numpy(), np.isfinite(holes.values)) and field.values.isfinite().all()
    back = to_xarray(field.values, field.grid, holes, mask=field.mask)
    xr.testing.assert_identical(back, holes)
    one = plain.copy()
    one[:, 6, 11] = np.nan
    grid = pg.sphere.SphereGrid.gauss_legendre(24)
    fine = from_xarray(one * 0 + 3, grid)
    assert fine.mask.float().mean() > 0.95 and fine.values[fine.mask].sub(3).abs().max() < 1e-5
    there = to_xarray(fine.values, grid, one, mask=fine.mask)
    np.testing.assert_allclose(there.values[np.isfinite(there.values)], 3, rtol=1e-6)


def test_integers_stay_integers() -> None:
    plain = array(dtype="int16")
    field = from_xarray(plain)
    xr.testing.assert_identical(to_xarray(field.values, field.grid, plain), plain)
    mask = torch.ones(2, 13, 24, dtype=torch.bool)
    mask[0, 3, 3] = False
    assert to_xarray(field.values, field.grid, plain, mask=mask).dtype == np.float64


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool"])
def test_numbers_that_integers_do_not_hold_stay_what_they_are(dtype: str) -> None:
    """As a network gives them: they do not come back from the other end of the range."""
    like = xr.zeros_like(array()).astype(dtype)
    field = from_xarray(like, dtype=F64)
    values = torch.linspace(-4e4, 4e4, field.values.numel(), dtype=F64).reshape(field.values.shape)
    assert to_xarray(values, field.grid, like).values.dtype == np.float64
    np.testing.assert_array_equal(to_xarray(values, field.grid, like).values, values.numpy())
    assert to_xarray(values.sign().clamp(0), field.grid, like).dtype == dtype


@pytest.mark.parametrize("north", ["degrees_north", "degree_north", "degree_N", "degreesN", "degreeN", "degrees_N"])
def test_every_unit_of_the_conventions_is_known(north: str) -> None:
    """Those of the CF conventions, version 1.11, section 4.1."""
    field = array().rename(lat="y", lon="x")
    field.y.attrs["units"], field.x.attrs["units"] = north, north.replace("north", "east").replace("N", "E")
    assert from_xarray(field).grid.name == "clenshaw_curtis"


def test_names_and_units_say_what_is_latitude() -> None:
    plain = array().rename(lat="j", lon="i")
    assert from_xarray(plain).values.shape == (2, 13, 24)
    bare = plain.assign_coords(j=plain.j.values, i=plain.i.values)
    with pytest.raises(ValueError, match=r"latitude: expected the name of one of the dimensions \('time', 'j', 'i'\)"):
        from_xarray(bare)
    assert torch.equal(from_xarray(bare, latitude="j", longitude="i").values, from_xarray(plain).values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("grid", [None, pg.sphere.SphereGrid.gauss_legendre(6)])
def test_values_are_finite_in_every_dtype(dtype: torch.dtype, grid: pg.sphere.SphereGrid | None) -> None:
    """What a dtype cannot hold is missing."""
    wide = array(dtype="float64") * 10.0 ** np.arange(0, 48, 2)
    wide[0, 0, 0] = np.inf
    field = from_xarray(wide, grid, dtype=dtype)
    exact = from_xarray(wide, grid, dtype=F64)
    assert field.values.dtype == dtype and field.values.isfinite().all()
    assert torch.equal(field.mask, exact.mask & (exact.values.abs() < torch.finfo(dtype).max))
    assert (
        torch.equal(field.values[field.mask], exact.values[field.mask].to(dtype))
        and not field.values[~field.mask].any()
    )


@pytest.mark.parametrize("dtype", ["datetime64[ns]", "timedelta64[ns]", "complex64", "object", "U3"])
def test_arrays_of_no_real_numbers_are_refused(dtype: str) -> None:
    field, odd = from_xarray(array()), array(dtype="int64").astype(dtype)
    with pytest.raises(TypeError, match="^like: expected real numbers, got dtype"):
        to_xarray(field.values, field.grid, odd)
    with pytest.raises(TypeError, match="^array: expected real numbers, got dtype"):
        from_xarray(odd)


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32"), float, torch.int32, torch.complex64, 0])
def test_dtypes_are_floating_ones_of_torch(dtype: Any) -> None:
    with pytest.raises(TypeError, match="^dtype: expected a floating-point dtype of torch, got"):
        from_xarray(array(), dtype=dtype)


def test_errors() -> None:
    plain = array()
    with pytest.raises(TypeError, match=r"array: expected an xarray.DataArray, got ndarray"):
        from_xarray(plain.values)
    with pytest.raises(ValueError, match="latitudes: expected the rings of a grid"):
        from_xarray(plain.assign_coords(lat=np.linspace(80, -80, 13)), latitude="lat", longitude="lon")
    with pytest.raises(ValueError, match=r"signal: expected shape \(2, 13, 24\)"):
        to_xarray(torch.zeros(13, 24), pg.sphere.SphereGrid.clenshaw_curtis(13, 24), plain)
    with pytest.raises(ValueError, match="array: expected coordinates of the dimension 'lat'"):
        from_xarray(plain.drop_vars("lat"))
    with pytest.raises(TypeError, match=r"array: expected an xarray.DataArray, got Dataset"):
        from_xarray(plain.to_dataset())
    with pytest.raises(ValueError, match="longitude: expected another dimension than that of latitudes, got 'lat'"):
        from_xarray(plain, latitude="lat", longitude="lat")
    with pytest.raises(TypeError, match="array: expected coordinates of the dimension 'lat' in degrees, got <U"):
        from_xarray(plain.assign_coords(lat=[f"{i} N" for i in range(13)]), latitude="lat")
    field = from_xarray(plain)
    with pytest.raises(TypeError, match="mask: expected a bool tensor"):
        to_xarray(field.values, field.grid, plain, mask=field.mask.float())
    with pytest.raises(ValueError, match="method: expected one of"):
        to_xarray(field.values, field.grid, plain, method="nearest")
    with pytest.raises(TypeError, match="like: expected an xarray.DataArray"):
        to_xarray(field.values, field.grid, plain.to_dataset())


def test_a_network_between_two_files(tmp_path: Path) -> None:
    """From a netCDF file to a network on SO(3) and back to netCDF, through xarray and scipy."""
    holes = array(13, 24).where(array(13, 24, seed=1) > -80)
    options: dict[str, Any] = {"engine": "scipy"}
    holes.to_netcdf(tmp_path / "in.nc", **options)
    with xr.open_dataarray(tmp_path / "in.nc", **options) as read:
        field = from_xarray(read)
        inputs = torch.stack((field.values, field.mask.float()), dim=1)  # two samples of two channels
        model = pg.models.unet(
            pg.SO3(field.grid, 4), 2, 1, channels=(2, 3), terms=("convection", "dilation"), kernel_size=3
        )
        with torch.no_grad():
            out = model.eval()(inputs)[:, 0]
        to_xarray(out, field.grid, read, mask=field.mask).to_netcdf(tmp_path / "out.nc", **options)
    with xr.open_dataarray(tmp_path / "out.nc", **options) as written:
        assert written.name == "t2m" and written.attrs == holes.attrs and written.dims == holes.dims
        np.testing.assert_array_equal(np.isnan(written.values), np.isnan(holes.values))
        np.testing.assert_allclose(written.values[~np.isnan(holes.values)], out.numpy()[~np.isnan(holes.values)])
