"""Fields on the Earth: interpolation, and clear words about files that are missing or wrong."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from pdegcnn_examples.datasets import LatLonField, earth_land, earth_temperature, earth_wind

LAT, LON = np.linspace(90, -90, 19), np.arange(0, 360, 10.0)


def unit(latitude, longitude):
    a, b = np.deg2rad(latitude), np.deg2rad(longitude)
    return torch.from_numpy(np.stack((np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)), -1))


@pytest.mark.parametrize("flip", [False, True])
def test_interpolation_is_exact_on_samples_and_between(flip):
    lat = LAT[::-1].copy() if flip else LAT
    values = np.random.default_rng(0).normal(size=(2, 19, 36))
    field = LatLonField(*map(torch.from_numpy, (values.astype(np.float32), lat, LON - 175)))
    there = field.at(unit(*np.meshgrid(lat[1:-1], LON - 175, indexing="ij")))
    torch.testing.assert_close(there, field.values[:, 1:-1], atol=1e-4, rtol=0)
    # Half-way between four samples, also across the seam of longitudes.
    for column in (3, 35):
        middle = field.at(unit((lat[4] + lat[5]) / 2, LON[column] - 170))
        four = field.values[:, 4:6][..., [column, (column + 1) % 36]]
        torch.testing.assert_close(middle, four.mean((-1, -2)), atol=1e-5, rtol=0)


def test_beyond_the_last_ring_its_values_hold():
    field = LatLonField(
        torch.arange(4.0)[:, None].expand(4, 8), torch.tensor([-60.0, -20, 20, 60]), torch.arange(8) * 45
    )
    torch.testing.assert_close(field.at(unit(np.array([-89.0, 89]), np.array([10.0, 200]))), torch.tensor([0.0, 3]))


def test_points_that_are_no_vectors():
    field = LatLonField(torch.zeros(2, 4), torch.tensor([-45.0, 45]), torch.arange(4) * 90)
    with pytest.raises(ValueError, match=r"points: expected unit vectors \[..., 3\], got shape \(5, 2\)"):
        field.at(torch.zeros(5, 2))


@given(
    kind=st.sampled_from([torch.int8, torch.int16, torch.int32, torch.int64, torch.bool, torch.float16]),
    longitude=st.floats(0, 359),
    latitude=st.floats(-90, 90),
)
@example(kind=torch.int16, longitude=45.0, latitude=0.0)
def test_whole_numbers_are_interpolated_as_floats(kind, longitude, latitude):
    """Heights, basin numbers and masks give what the same numbers in floating point give."""
    values = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0]]) * (1 if kind == torch.bool else 100)
    lat, lon = torch.tensor([-45, 0, 45]), torch.arange(4) * 90
    there = unit(np.array([latitude]), np.array([longitude]))
    wanted = LatLonField(values.double(), lat, lon).at(there)
    got = LatLonField(values.to(kind), lat, lon).at(there)
    torch.testing.assert_close(got.double(), wanted, atol=0.2 if kind == torch.float16 else 1e-4, rtol=0)


EAST = np.arange(4) * 90.0


@pytest.mark.parametrize(
    ("name", "lat", "lon"),
    [
        ("longitudes", [-45, 0, 45], [*EAST, 360]),  # the first meridian again
        ("longitudes", [-45, 0, 45], np.linspace(0, 360, 1441)),
        ("longitudes", [-45, 0, 45], EAST[::-1]),
        ("longitudes", [-45, 0, 45], EAST / 2),
        ("longitudes", [-45, 0, 45], [0, 90, np.nan, 270]),
        ("latitudes", [0, -45, 45], EAST),
        ("latitudes", [-45, 0, 0], EAST),
        ("latitudes", [-95, 0, 45], EAST),
        ("latitudes", [-45, 0, np.nan], EAST),
        ("values", [45], EAST),
        ("values", [-45, 0, 45], [0]),
        ("values", [], EAST),
    ],
)
def test_fields_that_are_laid_out_otherwise_are_refused_by_name(name, lat, lon):
    field = LatLonField(torch.zeros(len(lat), len(lon)), *(torch.tensor(np.array(x, float)) for x in (lat, lon)))
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        field.at(unit(np.zeros(1), np.zeros(1)))


def test_parts_and_points_of_other_kinds_are_refused_by_name():
    field = LatLonField(torch.zeros(2, 4), torch.tensor([-45, 45]), torch.from_numpy(EAST))
    there = unit(np.zeros(1), np.zeros(1))
    for name in field._fields:
        for wrong in (getattr(field, name) + 0j, getattr(field, name).numpy()):
            with pytest.raises(TypeError, match=f"^{name}: expected a real torch.Tensor"):
                field._replace(**{name: wrong}).at(there)
    for wrong in (there + 0j, there.numpy()):
        with pytest.raises(TypeError, match="^points: expected a real"):
            field.at(wrong)
    for wrong in (0 * there, 3 * there, there * torch.nan):
        with pytest.raises(ValueError, match="^points: expected vectors of length 1"):
            field.at(wrong)


def test_files_are_read(tmp_path):
    folder = tmp_path / "sphere_earth"
    folder.mkdir()
    np.savez(folder / "glosea4_surface_temp.npz", t=np.full((2, 3, 145, 192), 280.0))
    np.savez(folder / "landfrac_0p5deg.npz", land_fraction=np.ones((19, 36)), lat=LAT, lon=LON)
    np.savez(folder / "wind_monthly_2p5deg.npz", u=np.ones((12, 19, 36)), v=-np.ones((12, 19, 36)), lat=LAT, lon=LON)
    point = unit(np.array([10.0]), np.array([20.0]))
    assert earth_temperature(tmp_path).at(point).shape == (2, 3, 1)
    assert earth_land(folder).at(point).tolist() == [1]
    assert earth_wind(tmp_path).at(point)[0, :, 0].tolist() == [1, -1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"lat": LAT, "lon": LON}, "expected the arrays land_fraction, lat and lon"),
        ({"land_fraction": np.ones((5, 36)), "lat": LAT, "lon": LON}, r"got \(5, 36\)"),
        ({"land_fraction": np.full((19, 36), np.nan), "lat": LAT, "lon": LON}, "finite"),
        ({"land_fraction": np.ones((19, 36)), "lat": np.abs(LAT), "lon": LON}, "monotonic lat"),
        ({"land_fraction": np.ones((19, 36)), "lat": LAT, "lon": LON / 2}, "evenly spaced lon"),
    ],
)
def test_wrong_files(arrays, message, tmp_path):
    np.savez(tmp_path / "landfrac_0p5deg.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        earth_land(tmp_path)


def test_missing_and_damaged_files(tmp_path, monkeypatch):
    monkeypatch.delenv("PDEGCNN_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="got none"):
        earth_wind()
    with pytest.raises(FileNotFoundError, match=r"has no wind_monthly_2p5deg\.npz"):
        earth_wind(tmp_path)
    (tmp_path / "wind_monthly_2p5deg.npz").write_bytes(b"PK\x03\x04nonsense")
    with pytest.raises(ValueError, match="damaged"):
        earth_wind(tmp_path)
    np.savez(tmp_path / "glosea4_surface_temp.npz", t=np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"t of shape \(members, months, rings, longitudes\), got \(3, 4\)"):
        earth_temperature(tmp_path)
