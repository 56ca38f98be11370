"""Fields on the Earth from a folder: surface temperature, land fraction, wind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdegcnn_examples.datasets._files import ENVIRONMENT, find_folder, read_arrays

EARTH_HELP = (
    "expected a folder with glosea4_surface_temp.npz (t (M,T,145,192) in K, rings from south to north pole, "
    "longitudes from 0), landfrac_0p5deg.npz (land_fraction, lat, lon), wind_monthly_2p5deg.npz (u, v (12,73,144) in "
    f"m/s, lat, lon), or one with a folder 'sphere_earth' of these; name it by an argument or by {ENVIRONMENT}"
)


class LatLonField(NamedTuple):
    """``values [..., nlat, nlon]`` float32 at ``latitudes [nlat]`` (monotonic) and ``longitudes [nlon]``, in degrees.

    Longitudes are evenly spaced and go once around, the first not repeated.
    """

    values: Tensor
    latitudes: Tensor
    longitudes: Tensor

    def at(self, points: Tensor) -> Tensor:
        """Values ``[..., *points.shape[:-1]]`` at unit vectors ``points [..., 3]``, bilinear in the two angles.

        Beyond the last ring its values hold. Raises ``ValueError`` if ``points`` are no vectors of R3.
        """
        if points.ndim < 1 or points.shape[-1] != 3:
            raise ValueError(f"points: expected unit vectors [..., 3], got shape {tuple(points.shape)}")
        x, y, z = points.double().reshape(-1, 3).unbind(-1)
        latitude, longitude = torch.rad2deg(z.clamp(-1, 1).asin()), torch.rad2deg(torch.atan2(y, x))
        rings, count = self.latitudes.double(), len(self.longitudes)
        sign = 1.0 if rings[-1] > rings[0] else -1.0
        above = torch.searchsorted(rings * sign, (latitude * sign).contiguous()).clamp(1, len(rings) - 1)
        row = ((latitude - rings[above - 1]) / (rings[above] - rings[above - 1])).clamp(0, 1).to(self.values.dtype)
        step = (longitude - float(self.longitudes[0])) % 360 * count / 360
        left = step.floor().long() % count
        column = (step - step.floor()).to(self.values.dtype)
        right, below = (left + 1) % count, above - 1
        v = self.values
        lower = v[..., below, left] * (1 - column) + v[..., below, right] * column
        upper = v[..., above, left] * (1 - column) + v[..., above, right] * column
        return (lower * (1 - row) + upper * row).reshape(*v.shape[:-2], *points.shape[:-1])


def earth_temperature(folder: str | os.PathLike[str] | None = None) -> LatLonField:
    """Monthly mean surface temperature in K of an ensemble of forecasts, values ``[member, month, nlat, nlon]``.

    Args:
        folder: holds ``glosea4_surface_temp.npz``, or a folder ``sphere_earth`` with it; what the environment variable
            ``PDEGCNN_DATA`` names if None.

    Raises:
        FileNotFoundError: no folder was named, or the file is missing.
        ValueError: the file is damaged or laid out otherwise; the message names file and array.
    """
    path = _find(folder, "glosea4_surface_temp.npz")
    (t,) = read_arrays(path, ("t",))
    if t.ndim != 4:
        raise ValueError(f"{path}: expected t of shape (members, months, rings, longitudes), got {t.shape}")
    return _field(path, "t", t, np.linspace(-90, 90, t.shape[-2]), np.arange(t.shape[-1]) * (360 / t.shape[-1]))


def earth_land(folder: str | os.PathLike[str] | None = None) -> LatLonField:
    """Fraction of land, values ``[nlat, nlon]``, from ``landfrac_0p5deg.npz``; see :func:`earth_temperature`."""
    path = _find(folder, "landfrac_0p5deg.npz")
    fraction, latitudes, longitudes = read_arrays(path, ("land_fraction", "lat", "lon"))
    return _field(path, "land_fraction", fraction, latitudes, longitudes)


def earth_wind(folder: str | os.PathLike[str] | None = None) -> LatLonField:
    """Monthly mean wind in m/s, values ``[month, 2, nlat, nlon]``: eastward u, northward v.

    From ``wind_monthly_2p5deg.npz``; arguments and errors as in :func:`earth_temperature`.
    """
    path = _find(folder, "wind_monthly_2p5deg.npz")
    u, v, latitudes, longitudes = read_arrays(path, ("u", "v", "lat", "lon"))
    if u.ndim != 3 or u.shape != v.shape:
        raise ValueError(f"{path}: expected u and v of one shape (months, rings, longitudes), got {u.shape}, {v.shape}")
    return _field(path, "u, v", np.stack((u, v), 1), latitudes, longitudes)


def _find(folder: str | os.PathLike[str] | None, name: str) -> Path:
    """The path of a file in the folder."""
    return find_folder(folder, "sphere_earth", (name,), EARTH_HELP) / name


def _field(path: Path, name: str, values: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> LatLonField:
    """A checked field."""
    if values.ndim < 2 or values.shape[-2:] != (*lat.shape, *lon.shape) or min(values.shape[-2:]) < 2:
        raise ValueError(
            f"{path}: expected {name} of shape (..., rings, longitudes) = (..., {lat.size}, {lon.size}) as lat and lon "
            f"say, got {values.shape}"
        )
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite numbers in {name}, got dtype {values.dtype} or NaN or infinity")
    steps, turns = np.diff(lat.astype(float)), np.diff(lon.astype(float))
    if not ((steps > 0).all() or (steps < 0).all()) or np.abs(lat).max() > 90.001:
        raise ValueError(f"{path}: expected monotonic lat in [-90, 90] degrees, got {lat[:3]} ... {lat[-1]}")
    if not np.allclose(turns, 360 / lon.size, rtol=1e-3):
        raise ValueError(f"{path}: expected evenly spaced lon once around 360 degrees, got {lon[:3]} ... {lon[-1]}")
    kinds = (np.float32, np.float64, np.float64)
    return LatLonField(*(torch.from_numpy(np.array(a, dtype=k)) for a, k in zip((values, lat, lon), kinds)))
