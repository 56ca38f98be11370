"""Tables of Legendre and Wigner functions on ring grids, and the module that keeps them as buffers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._derived import Derived
from pdegcnn._dtypes import widen
from pdegcnn.sphere._legendre import Array, legendre_block
from pdegcnn.sphere.grid import SphereGrid


def _meridian_interpolation(theta: Array, to: Array, odd: bool) -> Array:
    """Return the matrix taking values at evenly spaced ``theta`` to ``to``, exact on cosine (or, if odd, sine) series.

    ``theta`` are midpoints, or begin and end at the poles.
    """
    if theta[0] == 0:
        steps = len(theta) - 1
        k = np.arange(1, steps) if odd else np.arange(steps + 1)
        ends, wave = (np.arange(steps + 1) % steps == 0), np.sin if odd else np.cos
        norm = np.where(k % steps == 0, 1.0, 2.0) / steps
        return (wave(to[:, None] * k) * norm) @ (wave(k[:, None] * theta) * np.where(ends, 0.5, 1.0))
    k = np.arange(1, len(theta) + 1) if odd else np.arange(len(theta))
    wave = np.sin if odd else np.cos
    norm = np.where(k == (len(theta) if odd else 0), 1.0, 2.0) / len(theta)
    return (wave(to[:, None] * k) * norm) @ wave(k[:, None] * theta)


def synthesis_table(grid: SphereGrid, lmax: int, orders: range, spin: int = 0, rings: int | None = None) -> Array:
    """Return functions sqrt((2l+1)/4pi) d^l_{m,spin}, [m, l - orders.start, ring], at the first ``rings`` rings."""
    return legendre_block(lmax, orders, np.cos(np.asarray(grid.theta)[:rings]), spin)


def analysis_table(grid: SphereGrid, lmax: int, orders: range, spin: int = 0, rings: int | None = None) -> Array:
    """Return `synthesis_table` times the weights that make sums over points exact integrals up to ``lmax``, for every
    signal of the grid's band.

    Where the rings carry too little for quadrature (``grid.degree < lmax + grid.band``), the signal is first
    interpolated along meridians: at fixed order it is a cosine series in theta if m + spin is even, else a sine series.
    """
    if grid.degree >= lmax + grid.band:
        return synthesis_table(grid, lmax, orders, spin, rings) * np.asarray(grid.ring_weights)[:rings]
    theta = np.asarray(grid.theta)
    x, w = np.polynomial.legendre.leggauss((lmax + grid.band) // 2 + 1)
    fine = legendre_block(lmax, orders, x, spin) * w * (2 * math.pi / grid.nlon)
    table = np.empty((*fine.shape[:2], len(theta[:rings])))
    for parity in (0, 1):
        odd = (orders.start + parity + spin) % 2 == 1
        table[parity::2] = fine[parity::2] @ _meridian_interpolation(theta, np.arccos(x), odd)[:, :rings]
    return table


class Tables(Derived):
    """A module of tables in float32, or float64 in a module of that dtype, so that ``.double()`` gains accuracy."""

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float64 if dtype == torch.float64 else torch.float32


class TableModule(Tables):
    """A transform up to degree ``lmax`` on a grid of rings."""

    grid: SphereGrid
    lmax: int

    def __init__(self, grid: SphereGrid, lmax: int | None) -> None:
        super().__init__()
        if not isinstance(grid, SphereGrid):
            raise TypeError(f"grid: expected a SphereGrid, got {type(grid).__name__}")
        grid.require_rings()
        self.grid = grid
        self.lmax = grid.band if lmax is None else lmax
        if isinstance(self.lmax, bool) or not isinstance(self.lmax, int):
            raise TypeError(f"lmax: expected an int, got {lmax!r} of type {type(lmax).__name__}")
        if not 0 <= self.lmax <= grid.band:
            raise ValueError(
                f"lmax: expected 0 <= lmax <= {grid.band}, the band of {grid.name} {grid.shape}, got {lmax}"
            )

    def _orders(self, block: int = 32) -> list[range]:
        return [range(m, min(m + block, self.lmax + 1)) for m in range(0, self.lmax + 1, block)]

    def check_kind(self, name: str, value: Tensor) -> None:
        """Raise unless ``value`` has the tables' precision and device."""
        table = self._first()
        assert table is not None
        real = value.real.dtype if value.is_complex() else value.dtype
        if table.dtype != real or table.device != value.device:
            raise TypeError(
                f"{name}: expected {table.dtype} on {table.device} as the transform, "
                f"got {value.dtype} on {value.device}"
            )

    def _signal(self, name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
        """Check a real signal with last axes ``shape``; half precision is widened to float32."""
        _checks.tensor(name, value)
        if tuple(value.shape[-len(shape) :]) != shape:
            raise ValueError(f"{name}: expected last axes {shape} of {self.grid.name}, got shape {tuple(value.shape)}")
        value = widen(value)
        self.check_kind(name, value)
        return value

    def _complex(self, name: str, value: Any, shape: tuple[int, ...], layout: str) -> Tensor:
        """Check a complex tensor with last axes ``shape``."""
        if not isinstance(value, Tensor) or not value.is_complex():
            raise TypeError(f"{name}: expected a complex torch.Tensor {layout}, got {_checks.described(value)}")
        if value.layout is not torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got layout {value.layout}")
        if tuple(value.shape[-len(shape) :]) != shape:
            raise ValueError(f"{name}: expected last axes {shape} {layout}, got shape {tuple(value.shape)}")
        self.check_kind(name, value)
        return value
