"""Fields on the Earth from a folder: surface temperature, land fraction, wind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdegcnn.sphere.latlon import check_field, interpolate
from pdegcnn_examples.datasets._files import ENVIRONMENT, find_folder, read_arrays

EARTH_HELP = (
    "expected a folder with glosea4_surface_temp.npz (t (M,T,145,192) in K, rings from south to north pole, "
    "longitudes from 0), landfrac_0p5deg.npz (land_fraction, lat, lon), wind_monthly_2p5deg.npz (u, v (12,73,144) in "
    f"m/s, lat, lon), or one with a folder 'sphere_earth' of these; name it by an argument or by {ENVIRONMENT}"
)


class LatLonField(NamedTuple):
    """``values [..., nlat, nlon]`` at ``latitudes [nlat]`` (monotonic) and ``longitudes [nlon]``, in degrees.

    At least two of each. Longitudes are evenly spaced and go once around eastwards, the first not repeated. Values are
    real; those that are not floats are interpolated as floats that hold them (float64 for 32 bits and more).
    """

    values: Tensor
    latitudes: Tensor
    longitudes: Tensor

    def at(self, points: Tensor) -> Tensor:
        """Values ``[..., *points.shape[:-1]]`` at unit vectors ``points [..., 3]``, bilinear in the two angles.

        Beyond the last ring its values hold.

        Raises:
            TypeError: if ``points`` or a part of the field is not a real tensor.
            ValueError: if ``points`` are not unit vectors of R3, or the field is not as described above.
        """
        values = check_field(*self)
        return interpolate(values, self.latitudes, self.longitudes, _check_points(points))


def _check_points(points: Any) -> Tensor:
    """Unit vectors ``[..., 3]`` in float64; raises for others."""
    if not isinstance(points, Tensor) or points.is_complex():
        raise TypeError(f"points: expected a real torch.Tensor, got {getattr(points, 'dtype', type(points).__name__)}")
    if points.ndim < 1 or points.shape[-1] != 3:
        raise ValueError(f"points: expected unit vectors [..., 3], got shape {tuple(points.shape)}")
    wide = points.double()
    length = wide.detach().norm(dim=-1)
    if not bool(((length - 1).abs() <= 0.01).all()):
        raise ValueError(f"points: expected vectors of length 1, got lengths {length.flatten()[:4].tolist()}")
    return wide


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
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite numbers in {name}, got dtype {values.dtype} or NaN or infinity")
    for part, angles in (("lat", lat), ("lon", lon)):
        if angles.dtype.kind not in "fiu":
            raise ValueError(f"{path}: expected numbers in {part}, got dtype {angles.dtype}")
    kinds = (np.float32, np.float64, np.float64)
    field = LatLonField(*(torch.from_numpy(np.array(a, dtype=k)) for a, k in zip((values, lat, lon), kinds)))
    check_field(*field, names=(f"{path}: {name}", f"{path}: lat", f"{path}: lon"))
    return field
