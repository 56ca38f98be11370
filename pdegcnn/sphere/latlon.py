"""Interpolation of fields on latitudes and longitudes to a grid and back, with missing values."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import widen
from pdegcnn.sphere._legendre import Array, legendre_block
from pdegcnn.sphere.grid import SphereGrid
from pdegcnn.sphere.sht import RealSHT

NAMES = ("values", "latitudes", "longitudes")


def regrid(
    values: Tensor, latitudes: Tensor, longitudes: Tensor, grid: SphereGrid, *, mask: Tensor | None = None
) -> Tensor:
    """Interpolate a field on latitudes and longitudes to the points of a grid, bilinearly in the two angles.

    Missing values are left out: the other values around a point share their weight, and a point without any is NaN. Use
    ``torch.isnan`` for a mask of the result and ``torch.nan_to_num`` before a network. Differentiable in ``values``,
    not in the angles.

    Args:
        values: ``[..., nlat, nlon]``, real; integers are interpolated as floats. NaN marks a missing value.
        latitudes: ``[nlat]`` degrees, ascending or descending, in [-90, 90]. Beyond the last latitude its values are
            repeated. Latitudes that look like radians cause a warning.
        longitudes: ``[nlon]`` degrees, evenly spaced eastwards once around, from any origin. A last meridian that
            repeats the first is left out.
        grid: any grid, for example ``SphereGrid.gauss_legendre(64)``.
        mask: bool, broadcastable to ``values``; False marks a missing value.

    Returns:
        ``[..., *grid.shape]``.

    Raises:
        TypeError: if an argument is not a real tensor.
        ValueError: if shapes do not fit, or the angles are not as described.

    Example:
        >>> import torch, pdegcnn as pg
        >>> lat, lon = torch.linspace(90, -90, 73), torch.arange(144) * 2.5
        >>> field = lat[:, None].deg2rad().sin() + 0 * lon
        >>> signal = pg.sphere.regrid(field, lat, lon, pg.sphere.SphereGrid.gauss_legendre(16))
        >>> signal.shape
        torch.Size([16, 32])
    """
    around, known = _angles("longitudes", longitudes), None if mask is None else _checks.mask(mask)
    if around.ndim == 1 and len(around) > 2 and abs(around[-1] - around[0] - 360) < 1e-3:
        repeated, around = len(around), around[:-1]
        values = values[..., :-1] if isinstance(values, Tensor) and values.shape[-1:] == (repeated,) else values
        known = known[..., :-1] if known is not None and known.shape[-1:] == (repeated,) else known
    rings = _angles("latitudes", latitudes)
    v = _check_field(values, rings, around, NAMES)
    missing = v.isnan() if known is None else v.isnan() | ~_checks.mask(known, v.shape)
    with _transforms.constants():
        points = _checks.kind("grid", grid, SphereGrid, "a SphereGrid").xyz.numpy()
    if _checks.has_values(v) and not bool(missing.any()):
        return _interpolate(v, rings, around, points)
    return _interpolate_known(v, ~missing, rings, around, points)


def to_latlon(
    signal: Tensor,
    grid: SphereGrid,
    latitudes: Tensor,
    longitudes: Tensor,
    *,
    method: str = "bilinear",
    mask: Tensor | None = None,
) -> Tensor:
    """Sample a signal at latitudes and longitudes: the inverse direction of :func:`regrid`.

    Args:
        signal: ``[..., nlat, nlon]`` on ``grid``.
        grid: a grid of rings of equal length.
        latitudes: ``[n]`` degrees in [-90, 90], in any order.
        longitudes: ``[m]`` degrees, any.
        method: ``"bilinear"`` in the two angles, or ``"spectral"``: evaluate the band-limited function of the samples,
            which is exact, but spreads a missing value everywhere.
        mask: bool, broadcastable to ``signal``; False leaves a value out, as in :func:`regrid` (bilinear only).

    Returns:
        ``[..., n, m]``; NaN where the mask leaves no value.

    Raises:
        ValueError: if shapes do not fit, or a latitude lies outside [-90, 90].
        TypeError: if an argument is not a real tensor.
    """
    _checks.kind("grid", grid, SphereGrid, "a SphereGrid").require_rings()
    _checks.choice("method", method, ("bilinear", "spectral"))
    if len(grid.shape) != 2:
        raise ValueError(f"grid: expected rings of equal length, got {grid.name}")
    if tuple(_checks.tensor("signal", _real("signal", signal)).shape[-2:]) != grid.shape:
        raise ValueError(f"signal: expected last axes {grid.shape} of the grid, got shape {tuple(signal.shape)}")
    lat, lon = _angles("latitudes", latitudes), _angles("longitudes", longitudes)
    if lat.ndim != 1 or lon.ndim != 1:
        raise ValueError(f"latitudes: expected angles [n] and [m], got shapes {lat.shape} and {lon.shape}")
    if not (np.abs(lat) <= 90.001).all():
        raise ValueError(f"latitudes: expected degrees in [-90, 90], got {lat[:4].tolist()} ...")
    known = None if mask is None else _checks.mask(mask, signal.shape)
    if known is not None and method == "spectral":
        raise ValueError("mask: expected None for method='spectral', which needs every value, got a mask")
    if method == "spectral":
        return _synthesis_at(signal, grid, lat, lon)
    rings, around = 90 - np.rad2deg(np.asarray(grid.theta)), np.arange(grid.nlon) * (360 / grid.nlon)
    a, b = np.deg2rad(lat)[:, None], np.deg2rad(lon)
    points = np.stack(
        (np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.broadcast_to(np.sin(a), (len(lat), len(lon)))), -1
    )
    if known is None:
        return _interpolate(signal, rings, around, points)
    return _interpolate_known(signal, known, rings, around, points)


def grid_of(latitudes: Tensor, longitudes: Tensor) -> SphereGrid:
    """Return the grid with these latitudes and longitudes, on which the field is a signal without interpolation.

    Args:
        latitudes: ``[nlat]`` degrees from north to south.
        longitudes: ``[nlon]`` degrees: ``360 j / nlon``.

    Raises:
        ValueError: if no grid has these rings; the message says why. :func:`regrid` accepts any.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.sphere.grid_of(torch.linspace(90, -90, 73), torch.arange(144) * 2.5).name
        'clenshaw_curtis'
    """
    lat, lon = _angles("latitudes", latitudes), _angles("longitudes", longitudes)
    if lat.ndim != 1 or lon.ndim != 1 or min(len(lat), len(lon)) < 2:
        raise ValueError(f"latitudes: expected angles [nlat] and [nlon], got shapes {lat.shape} and {lon.shape}")
    nlat, nlon = len(lat), len(lon)
    if not (np.diff(lat) < 0).all():
        raise ValueError(f"latitudes: expected degrees from north to south, got {lat[:3].tolist()} ...; flip the field")
    if not (np.abs(lon - np.arange(nlon) * (360 / nlon)) <= 36 / nlon).all():
        raise ValueError(f"longitudes: expected 360 j / {nlon} degrees, got {lon[:3].tolist()} ...; use regrid")
    grids = [SphereGrid.gauss_legendre(nlat, nlon)]
    if nlat > 2:
        grids.append(SphereGrid.clenshaw_curtis(nlat, nlon))
    if nlon == 2 * nlat:
        grids.append(SphereGrid.equiangular(nlat, "full_band"))
    if nlon == nlat and nlat % 2 == 0:
        grids.append(SphereGrid.equiangular(nlat // 2))
    away = {grid.name: float(np.abs(90 - np.rad2deg(np.asarray(grid.theta)) - lat).max()) for grid in grids}
    for grid in grids:
        if away[grid.name] <= 0.18 / nlat:
            return grid
    nearest = min(away, key=lambda name: away[name])
    raise ValueError(
        f"latitudes: expected the rings of a grid, got some that lie {away[nearest]:.3g} degrees from those of the "
        f"nearest one, {nearest}; use regrid"
    )


def area_mean(values: Tensor, grid: SphereGrid, *, mask: Tensor | None = None) -> Tensor:
    """Return the mean over the sphere, each point weighted by its area, for example of a pointwise loss.

    Args:
        values: ``[..., *grid.shape]``.
        grid: where they are sampled.
        mask: bool, broadcastable to ``values``; False leaves a point out.

    Returns:
        ``[...]``; NaN where the mask is False everywhere.

    Raises:
        ValueError: if the last axes are not those of the grid.
        TypeError: if ``values`` is not a floating tensor, or ``mask`` is not a bool tensor.
    """
    base = len(_checks.kind("grid", grid, SphereGrid, "a SphereGrid").shape)
    if tuple(_checks.tensor("values", values).shape[-base:]) != grid.shape:
        raise ValueError(f"values: expected last axes {grid.shape} of the grid, got shape {tuple(values.shape)}")
    wide = widen(values)  # sums of halves may exceed what halves hold
    weights = grid.weights.to(wide).expand(values.shape)
    if mask is not None:
        known = _checks.mask(mask, values.shape)
        weights, wide = weights * known, torch.where(known, wide, 0.0)
    axes = tuple(range(-base, 0))
    return ((wide * weights).sum(axes) / weights.sum(axes)).to(values.dtype)


def interpolate(values: Tensor, latitudes: Tensor, longitudes: Tensor, points: Tensor) -> Tensor:
    """Return a field at unit vectors ``points [..., 3]``, bilinear in the angles: ``[..., *points.shape[:-1]]``.

    Arguments and errors as in :func:`regrid`, but every value must be there and no meridian may be repeated.
    """
    rings, around = _angles("latitudes", latitudes), _angles("longitudes", longitudes)
    v = _check_field(values, rings, around, NAMES)
    return _interpolate(v, rings, around, _angles("points", points))


def check_field(values: Tensor, latitudes: Tensor, longitudes: Tensor, names: Sequence[str] = NAMES) -> Tensor:
    """Return the values as floats; raise, naming the part, unless the field is as :func:`regrid` says."""
    return _check_field(values, _angles(names[1], latitudes), _angles(names[2], longitudes), names)


def _interpolate(values: Tensor, rings: Array, around: Array, points: Array) -> Tensor:
    """Return values ``[..., *points.shape[:-1]]`` at unit vectors, from the four samples around each."""
    x, y, z = np.moveaxis(points.reshape(-1, 3), -1, 0)
    latitude, longitude = np.rad2deg(np.arcsin(z.clip(-1, 1))), np.rad2deg(np.arctan2(y, x))
    count, sign = len(around), 1.0 if rings[-1] > rings[0] else -1.0
    above = np.searchsorted(rings * sign, latitude * sign).clip(1, len(rings) - 1)
    row = ((latitude - rings[above - 1]) / (rings[above] - rings[above - 1])).clip(0, 1)
    step = (longitude - around[0]) % 360 * count / 360
    left = np.floor(step).astype(np.int64) % count
    r, c = (torch.from_numpy(share).to(values.device, values.dtype) for share in (row, step - np.floor(step)))
    up, west, east = (torch.from_numpy(place).to(values.device) for place in (above, left, (left + 1) % count))
    lower = values[..., up - 1, west] * (1 - c) + values[..., up - 1, east] * c
    upper = values[..., up, west] * (1 - c) + values[..., up, east] * c
    return (lower * (1 - r) + upper * r).reshape(*values.shape[:-2], *points.shape[:-1])


def _interpolate_known(values: Tensor, known: Tensor, rings: Array, around: Array, points: Array) -> Tensor:
    """Interpolate known values only: they share the weight of the missing ones; NaN where all are missing."""
    whole = _interpolate(torch.where(known, values, 0.0), rings, around, points)
    share = _interpolate(known.to(values.dtype), rings, around, points)
    there = share > 1e-6
    return torch.where(there, whole / torch.where(there, share, 1.0), math.nan)


def _check_field(values: Any, rings: Array, around: Array, names: Sequence[str]) -> Tensor:
    count, shape = around.size, (*rings.shape, *around.shape)
    values = _real(names[0], values)
    if len(shape) != 2 or tuple(values.shape[-2:]) != shape or min(shape) < 2:
        raise ValueError(
            f"{names[0]}: expected shape (..., rings, longitudes) = (..., {rings.size}, {count}), at least two of "
            f"each, as {names[1]} and {names[2]} say, got {tuple(values.shape)}"
        )
    steps = np.diff(rings)
    if not ((steps > 0).all() or (steps < 0).all()) or not np.abs(rings).max() <= 90.001:
        got = f"{rings[:3].tolist()} ... {float(rings[-1])}"
        raise ValueError(f"{names[1]}: expected monotonic latitudes in [-90, 90] degrees, got {got}")
    if min(rings.max(), -rings.min()) > 1 and max(rings.max(), -rings.min()) < 1.571:
        warnings.warn(
            f"{names[1]}: expected degrees, got {float(rings[0]):.4g} ... {float(rings[-1]):.4g}, which may be "
            "radians; torch.rad2deg converts them",
            stacklevel=3,
        )
    away = (around - around[0] - np.arange(count) * (360 / count) + 180) % 360 - 180
    if not (np.abs(away) <= 36 / count).all():
        got = f"{around[:3].tolist()} ... {float(around[-1])}"
        raise ValueError(
            f"{names[2]}: expected evenly spaced longitudes once around 360 degrees, the first not repeated, got {got}"
        )
    if values.is_floating_point():
        return values
    return values.to(torch.float64 if values.dtype.itemsize > 2 else torch.float32)


def _real(name: str, value: Any) -> Tensor:
    """Return ``value`` if it is a real, dense tensor, else raise ``TypeError``."""
    if not isinstance(value, Tensor) or value.is_complex():
        raise TypeError(f"{name}: expected a real torch.Tensor, got {_checks.described(value)}")
    return _checks.tensor(name, value) if value.is_floating_point() or value.layout is not torch.strided else value


def _angles(name: str, value: Any) -> Array:
    """Return angles in float64, without derivatives."""
    if not _checks.has_values(_real(name, value)):
        raise TypeError(f"{name}: expected a tensor with values, got one on {value.device} or inside a transform")
    with _transforms.constants():
        return value.detach().double().cpu().resolve_neg().numpy()


def _synthesis_at(signal: Tensor, grid: SphereGrid, lat: Array, lon: Array) -> Tensor:
    """Return the band-limited function of the samples at latitudes and longitudes in degrees."""
    coefficients = RealSHT(grid, device=signal.device, dtype=torch.float64)(signal.double())  # [..., l, m]
    size = coefficients.shape[-1]
    table = legendre_block(size - 1, range(size), np.sin(np.deg2rad(lat).clip(-math.pi / 2, math.pi / 2)))  # [m, l, n]
    orders = np.arange(size)[:, None]
    waves = np.where(orders > 0, 2.0, 1.0) * np.exp(1j * orders * np.deg2rad(lon))
    legendre, phases = (torch.from_numpy(x.astype(complex)).to(signal.device) for x in (table, waves))
    rings = torch.einsum("...lm,mln->...mn", coefficients, legendre)
    return torch.einsum("...mn,mk->...nk", rings, phases).real.to(signal.dtype)
