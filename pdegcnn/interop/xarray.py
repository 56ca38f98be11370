"""Conversion between fields of xarray on latitudes and longitudes and signals on a grid of the sphere.

Dimensions, latitudes and longitudes may have any order; missing values become a mask.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import Device, DType, Floats, Ints, from_numpy
from pdegcnn.sphere import SphereGrid, grid_of, regrid, to_latlon

__all__ = ["Field", "from_xarray", "to_xarray"]

WORDS = {
    name: (name[:3], name, *(f"degree{s}{side}" for s in ("", "s") for side in (f"_{word}", f"_{word[0]}", word[0])))
    for name, word in (("latitude", "north"), ("longitude", "east"))
}
"""Names, standard names and units of coordinates (CF conventions)."""

RADIANS = ("radian", "radians", "rad")
"""Units of coordinates that are not in degrees."""


class Field(NamedTuple):
    """A field on a grid with its mask.

    Attributes:
        values: ``[..., *grid.shape]``, zero where the field is missing.
        mask: bool, the same shape: False where the field is missing, or too large for the dtype.
        grid: the grid of the values.
    """

    values: Tensor
    mask: Tensor
    grid: SphereGrid


def from_xarray(
    array: Any,
    grid: SphereGrid | None = None,
    *,
    latitude: str | None = None,
    longitude: str | None = None,
    device: Device = None,
    dtype: DType = None,
) -> Field:
    """Convert an ``xarray.DataArray`` to values on a grid and a mask.

    Args:
        array: a field with one-dimensional coordinates of latitudes and longitudes in degrees (or in radians, if their
            units say so), in any order and from any origin; a repeated meridian is left out. All other dimensions come
            first, in their order.
        grid: grid to interpolate to, as :func:`pdegcnn.sphere.regrid` does; None: the field's own grid
            (:func:`pdegcnn.sphere.grid_of`), on which values are only reordered.
        latitude: name of the dimension of latitudes; None: ``"latitude"`` or a dimension with units degrees_north.
        longitude: name of the dimension of longitudes; None: likewise with degrees_east.
        device: of the result.
        dtype: floating-point dtype of the values; None: torch's default.

    Raises:
        TypeError: if ``array`` is not a DataArray of real numbers, or ``dtype`` not a floating-point one of torch.
        ValueError: for unknown or equal dimensions, or angles that do not cover the sphere.

    Example:
        >>> import numpy as np, xarray as xr, pdegcnn as pg
        >>> lat, lon = np.linspace(-90, 90, 73), np.arange(144) * 2.5 - 180
        >>> array = xr.DataArray(np.ones((144, 2, 73)), {"lon": lon, "lat": lat}, ("lon", "time", "lat"))
        >>> field = pg.interop.xarray.from_xarray(array)
        >>> field.grid.name, tuple(field.values.shape), bool(field.mask.all())
        ('clenshaw_curtis', (2, 73, 144), True)
    """
    north, east = _dimensions("array", array, latitude, longitude)
    lat, lon = _degrees("array", array, north), _degrees("array", array, east)
    kind = torch.get_default_dtype() if dtype is None else dtype
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise TypeError(f"dtype: expected a floating-point dtype of torch, got {kind!r}")
    data = np.asarray(array.transpose(..., north, east).values)
    values = from_numpy(np.array(data, dtype=np.float64))
    if grid is None:
        rows, columns = np.argsort(-lat, kind="stable"), _once_around(lon)
        grid = grid_of(from_numpy(lat[rows]), from_numpy(lon[columns] % 360))
        values = values[..., from_numpy(rows)[:, None], from_numpy(columns)]
    else:
        columns = _once_around(lon)
        values = regrid(values[..., from_numpy(columns)], from_numpy(lat), from_numpy(lon[columns] % 360), grid)
    values = values.to(kind)
    mask = values.isfinite()
    return Field(torch.where(mask, values, 0.0).to(device), mask.to(device), grid)


def to_xarray(
    signal: Tensor,
    grid: SphereGrid,
    like: Any,
    *,
    mask: Tensor | None = None,
    latitude: str | None = None,
    longitude: str | None = None,
    method: str = "bilinear",
) -> Any:
    """Convert values on a grid to a DataArray like the one they came from: the inverse of :func:`from_xarray`.

    Args:
        signal: ``[..., *grid.shape]``; the axes in front are the other dimensions of ``like``, in their order.
        grid: a grid of rings of equal length.
        like: the DataArray that provides coordinates, order of dimensions, name, attributes and dtype of the result
            (integers are rounded; missing or too large values turn them into floats).
        mask: bool, broadcastable to ``signal``; False marks a value as missing.
        latitude: as in :func:`from_xarray`.
        longitude: as in :func:`from_xarray`.
        method: as in :func:`pdegcnn.sphere.to_latlon`, if ``like`` is not on ``grid``; otherwise values are only
            reordered.

    Raises:
        TypeError: if ``like`` is not a DataArray of real numbers, or ``signal`` is not a real tensor.
        ValueError: for shapes that do not fit.
    """
    north, east = _dimensions("like", like, latitude, longitude)
    lat, lon = _degrees("like", like, north), _degrees("like", like, east)
    _checks.choice("method", method, ("bilinear", "spectral"))
    _checks.kind("grid", grid, SphereGrid, "a SphereGrid").require_rings()
    signal = _checks.tensor("signal", signal).detach().cpu()
    others = [d for d in like.dims if d not in (north, east)]
    wanted = (*(like.sizes[d] for d in others), *grid.shape)
    if tuple(signal.shape) != wanted:
        raise ValueError(f"signal: expected shape {wanted}, {others} and the grid, got {tuple(signal.shape)}")
    known = None if mask is None else _checks.mask(mask, signal.shape).cpu()
    place = _places(grid, lat, lon)
    if place is None:
        found = to_latlon(signal.double(), grid, from_numpy(lat), from_numpy(lon), method=method, mask=known)
    else:
        whole = signal.double() if known is None else torch.where(known, signal.double(), torch.nan)
        found = whole[..., from_numpy(place[0])[:, None], from_numpy(place[1])]
    values = found.numpy()
    values = values.astype(like.dtype) if like.dtype.kind == "f" else _whole(values, like.dtype)
    return like.transpose(*others, north, east).copy(data=values).transpose(*like.dims)


def _whole(values: Floats, kind: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return the nearest whole numbers of a dtype; the values as they are if it cannot hold them all."""
    low, high = (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)
    nearest = np.rint(values)
    held = (nearest >= low) & (nearest <= high)  # NaN is not
    return nearest.astype(kind) if held.all() else values


def _dimensions(name: str, array: Any, latitude: str | None, longitude: str | None) -> tuple[str, str]:
    """Return the names of the dimensions of latitudes and of longitudes of an array of real numbers."""
    if not all(hasattr(array, part) for part in ("dims", "coords", "transpose", "dtype")):
        raise TypeError(f"{name}: expected an xarray.DataArray, got {type(array).__name__}")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    found: list[str] = []
    for what, given in (("latitude", latitude), ("longitude", longitude)):
        names = [d for d in array.dims if given is not None and d == given or given is None and _is(array, d, what)]
        if len(names) != 1:
            dims = tuple(array.dims)
            raise ValueError(f"{what}: expected the name of one of the dimensions {dims}, got {given!r}")
        found.append(names[0])
    if found[0] == found[1]:
        raise ValueError(f"longitude: expected another dimension than that of latitudes, got {found[1]!r}")
    return found[0], found[1]


def _is(array: Any, dimension: Any, what: str) -> bool:
    """Return whether a dimension is that of latitudes or of longitudes, by its name or attributes."""
    attributes = array.coords[dimension].attrs if dimension in array.coords else {}
    said = (dimension, attributes.get("standard_name"), attributes.get("units"))
    return any(str(word).lower() in WORDS[what] for word in said)


def _degrees(name: str, array: Any, dimension: str) -> Floats:
    """Return the coordinates of a dimension, in degrees also where they are radians."""
    if dimension not in array.coords:
        raise ValueError(f"{name}: expected coordinates of the dimension {dimension!r} in degrees, got none")
    found = np.asarray(array.coords[dimension].values)
    if found.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected coordinates of the dimension {dimension!r} in degrees, got {found.dtype}")
    units = str(array.coords[dimension].attrs.get("units", "")).lower()
    if units not in RADIANS:
        return found.astype(np.float64)
    degrees: Floats = np.rad2deg(found.astype(np.float64))
    return degrees.round(9 if found.dtype.itemsize > 4 else 4)


def _once_around(longitudes: Floats) -> Ints:
    """Return indices of the longitudes once around, eastwards from the first one at or after zero."""
    turned = np.round(longitudes % 360, 6) % 360
    return np.unique(turned, return_index=True)[1].astype(np.int64)


def _places(grid: SphereGrid, latitudes: Floats, longitudes: Floats) -> tuple[Ints, Ints] | None:
    """Return the row and column of the grid at each latitude and longitude; None where one lies between them."""
    if len(grid.shape) != 2:
        return None
    rings, step = 90 - np.rad2deg(np.asarray(grid.theta)), 360 / grid.nlon
    rows = np.abs(rings[:, None] - latitudes).argmin(0)
    columns = np.rint(longitudes / step).astype(np.int64)
    away = max(float(np.abs(rings[rows] - latitudes).max()), float(np.abs(columns * step - longitudes).max()))
    if away > 0.18 / len(rings):
        return None
    return rows.astype(np.int64), columns % grid.nlon
