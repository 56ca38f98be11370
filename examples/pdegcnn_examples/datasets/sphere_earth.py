"""Fields on the Earth from a folder: surface temperature, land fraction, wind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    """``values [..., nlat, nlon]`` at ``latitudes [nlat]`` (monotonic) and ``longitudes [nlon]``, in degrees.

    At least two of each. Longitudes are evenly spaced and go once around eastwards, the first not repeated. Values are
    real; those that are no floats are interpolated as floats that hold them (float64 for 32 bits and more).
    """

    values: Tensor
    latitudes: Tensor
    longitudes: Tensor

    def at(self, points: Tensor) -> Tensor:
        """Values ``[..., *points.shape[:-1]]`` at unit vectors ``points [..., 3]``, bilinear in the two angles.

        Beyond the last ring its values hold.

        Raises:
            TypeError: if ``points`` or a part of the field is no real tensor.
            ValueError: if ``points`` are no unit vectors of R3, or the field is not as described above.
        """
        v = _check_field(*self)
        x, y, z = _check_points(points).reshape(-1, 3).unbind(-1)
        latitude, longitude = torch.rad2deg(z.clamp(-1, 1).asin()), torch.rad2deg(torch.atan2(y, x))
        rings, count = self.latitudes.double(), len(self.longitudes)
        sign = 1.0 if rings[-1] > rings[0] else -1.0
        above = torch.searchsorted(rings * sign, (latitude * sign).contiguous()).clamp(1, len(rings) - 1)
        row = ((latitude - rings[above - 1]) / (rings[above] - rings[above - 1])).clamp(0, 1).to(v.dtype)
        step = (longitude - float(self.longitudes[0])) % 360 * count / 360
        left = step.floor().long() % count
        column = (step - step.floor()).to(v.dtype)
        right, below = (left + 1) % count, above - 1
        lower = v[..., below, left] * (1 - column) + v[..., below, right] * column
        upper = v[..., above, left] * (1 - column) + v[..., above, right] * column
        return (lower * (1 - row) + upper * row).reshape(*v.shape[:-2], *points.shape[:-1])


def _real(name: str, value: Any) -> Tensor:
    """Return ``value`` if it is a real tensor, else raise ``TypeError``."""
    if not isinstance(value, Tensor) or value.is_complex():
        raise TypeError(f"{name}: expected a real torch.Tensor, got {getattr(value, 'dtype', type(value).__name__)}")
    return value


def _check_points(points: Any) -> Tensor:
    """Unit vectors ``[..., 3]`` in float64; raises for others."""
    if _real("points", points).ndim < 1 or points.shape[-1] != 3:
        raise ValueError(f"points: expected unit vectors [..., 3], got shape {tuple(points.shape)}")
    wide = points.double()
    length = wide.detach().norm(dim=-1)
    if not bool(((length - 1).abs() <= 0.01).all()):
        raise ValueError(f"points: expected vectors of length 1, got lengths {length.flatten()[:4].tolist()}")
    return wide


def _check_field(values: Any, latitudes: Any, longitudes: Any, names: Sequence[str] = LatLonField._fields) -> Tensor:
    """The values as floats; raises, naming the part, unless they and the angles are as :class:`LatLonField` says."""
    rings, around = (_real(name, value).double() for name, value in zip(names[1:], (latitudes, longitudes)))
    count, shape = around.numel(), (*rings.shape, *around.shape)
    if len(shape) != 2 or _real(names[0], values).shape[-2:] != shape or min(shape) < 2:
        raise ValueError(
            f"{names[0]}: expected shape (..., rings, longitudes) = (..., {rings.numel()}, {count}), at least two of "
            f"each, as {names[1]} and {names[2]} say, got {tuple(values.shape)}"
        )
    steps = rings.diff()
    if not bool((steps > 0).all() or (steps < 0).all()) or not bool(rings.abs().max() <= 90.001):
        got = f"{rings[:3].tolist()} ... {float(rings[-1])}"
        raise ValueError(f"{names[1]}: expected monotonic latitudes in [-90, 90] degrees, got {got}")
    even = torch.arange(count, dtype=torch.float64, device=around.device) * (360 / count)
    away = (around - around[0] - even + 180) % 360 - 180
    if not bool((away.abs() <= 36 / count).all()):
        got = f"{around[:3].tolist()} ... {float(around[-1])}"
        raise ValueError(
            f"{names[2]}: expected evenly spaced longitudes once around 360 degrees, the first not repeated, got {got}"
        )
    if values.is_floating_point():
        return values
    return values.to(torch.float64 if values.dtype.itemsize > 2 else torch.float32)


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
    _check_field(*field, names=(f"{path}: {name}", f"{path}: lat", f"{path}: lon"))
    return field
