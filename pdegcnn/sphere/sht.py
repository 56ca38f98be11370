"""Spherical harmonic transforms of real signals on ring grids."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn.sphere._legendre import legendre_block
from pdegcnn.sphere.grid import SphereGrid

NORMS = ("orthonormal", "4pi", "schmidt", "e3nn")
_BLOCK = 32


def _coefficient_scale(norm: str, lmax: int) -> np.ndarray:
    """Factor [l, m] from orthonormal coefficients with the Condon-Shortley phase to those of ``norm``."""
    degree, order = np.arange(lmax + 1.0)[:, None], np.arange(lmax + 1)[None]
    one = np.ones((lmax + 1, lmax + 1))
    if norm == "4pi":
        return one / math.sqrt(4 * math.pi)
    if norm == "schmidt":
        return one * np.sqrt((2 * degree + 1) / (4 * math.pi))
    return one * (1 - 2 * (order % 2)) if norm == "e3nn" else one


def _meridian_interpolation(theta: np.ndarray, to: np.ndarray, odd: bool) -> np.ndarray:
    """Matrix taking values at the midpoints ``theta`` to ``to``, exact on cosine (or, if odd, sine) series."""
    k = np.arange(1, len(theta) + 1) if odd else np.arange(len(theta))
    wave = np.sin if odd else np.cos
    norm = np.where(k == (len(theta) if odd else 0), 1.0, 2.0) / len(theta)
    return (wave(to[:, None] * k) * norm) @ wave(k[:, None] * theta)


class _Transform(nn.Module):
    """Tables shared by both directions: per block of orders one even and one odd matrix [m, l, ring]."""

    inverse = False

    def __init__(
        self,
        grid: SphereGrid,
        lmax: int | None = None,
        norm: str = "orthonormal",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(grid, SphereGrid):
            raise TypeError(f"grid: expected a SphereGrid, got {type(grid).__name__}")
        self.grid = grid
        self.lmax = grid.band if lmax is None else lmax
        if isinstance(self.lmax, bool) or not isinstance(self.lmax, int):
            raise TypeError(f"lmax: expected an int, got {lmax!r}")
        if not 0 <= self.lmax <= grid.band:
            raise ValueError(
                f"lmax: expected 0 <= lmax <= {grid.band}, the band of {grid.name} {grid.shape}, got {lmax}"
            )
        self.norm = _checks.choice("norm", norm, NORMS)
        self._build(torch.empty(0, device=device, dtype=dtype or torch.get_default_dtype()))

    def _orders(self) -> list[range]:
        return [range(m, min(m + _BLOCK, self.lmax + 1)) for m in range(0, self.lmax + 1, _BLOCK)]

    def _table(self, orders: range) -> np.ndarray:
        theta = np.asarray(self.grid.theta)
        half = (len(theta) + 1) // 2
        scale = _coefficient_scale(self.norm, self.lmax)[orders.start :, orders.start : orders.stop].T[:, :, None]
        if self.inverse:
            return legendre_block(self.lmax, orders, np.cos(theta[:half])) / scale
        if self.grid.degree >= 2 * self.lmax:
            table = legendre_block(self.lmax, orders, np.cos(theta[:half])) * np.asarray(self.grid.ring_weights)[:half]
        else:
            x, w = np.polynomial.legendre.leggauss(self.lmax + 1)
            fine = legendre_block(self.lmax, orders, x) * w * (2 * math.pi / self.grid.nlon)
            table = np.empty((*fine.shape[:2], half))
            for parity in (0, 1):
                odd = (orders.start + parity) % 2 == 1
                table[parity::2] = fine[parity::2] @ _meridian_interpolation(theta, np.arccos(x), odd)[:, :half]
        if len(theta) % 2:
            table[..., -1] *= 0.5
        return table * scale

    def _build(self, like: Tensor) -> None:
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        for block, orders in enumerate(self._orders()):
            table = None if like.is_meta else self._table(orders)
            for parity, name in enumerate(("even", "odd")):
                # For m of the other parity than the block's first order, l - m is even on the other rows.
                rows = _parity_rows(self.lmax, orders, parity)
                if table is None:
                    value = torch.empty(*rows.shape, (self.grid.shape[0] + 1) // 2, dtype=dtype, device="meta")
                else:
                    picked = np.take_along_axis(table, np.minimum(rows, table.shape[1] - 1)[:, :, None], 1)
                    picked = picked * (rows < table.shape[1])[:, :, None]
                    value = torch.as_tensor(picked, dtype=torch.float64).to(device=like.device, dtype=dtype)
                self.register_buffer(f"{name}{block}", value, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> _Transform:
        old = self.get_buffer("even0")
        new = fn(torch.empty(0, dtype=old.dtype, device=old.device))
        if new.dtype != old.dtype or (old.is_meta and not new.is_meta):
            self._build(new)
            return self
        return super()._apply(fn, *args, **kwargs)

    def extra_repr(self) -> str:
        """Return the grid, band and normalisation."""
        return f"grid={self.grid.name}{self.grid.shape}, lmax={self.lmax}, norm={self.norm!r}"


def _parity_rows(lmax: int, orders: range, parity: int) -> np.ndarray:
    """Row numbers l - orders.start with (l - m) % 2 == parity, [m, rows]; those beyond lmax mark padding."""
    m = np.asarray(orders)[:, None] - orders.start
    count = (lmax + 1 - orders.start) // 2 + 1
    return (m + parity) % 2 + 2 * np.arange(count)[None]


def _working(name: str, value: Tensor, table: Tensor) -> None:
    real = value.real.dtype if value.is_complex() else value.dtype
    want = torch.float64 if real == torch.float64 else torch.float32
    if table.dtype != want or table.device != value.device:
        raise TypeError(
            f"{name}: expected {table.dtype} on {table.device} as the transform, got {value.dtype} on {value.device}"
        )


class RealSHT(_Transform):
    """Analysis: real signal [..., nlat, nlon] to complex coefficients [..., lmax+1, lmax+1] at (l, m >= 0).

    Exact (to rounding) on signals band-limited to lmax. f = sum_l c_l0 Y_l0 + 2 Re sum_{m>0} c_lm Y_lm with Y_lm as in
    `scipy.special.sph_harm_y` for ``norm="orthonormal"``; entries with m > l are zero. float16 and bfloat16 signals are
    transformed in float32 and give complex64. Raises ValueError on a wrong shape, TypeError on a wrong dtype or device.
    Folding of the hemispheres as in Schaeffer 2013 (arXiv 1202.6522), section 3.
    """

    def forward(self, f: Tensor) -> Tensor:
        """Transform ``f`` [..., nlat, nlon]."""
        _checks.tensor("f", f)
        if tuple(f.shape[-2:]) != self.grid.shape:
            raise ValueError(f"f: expected last axes {self.grid.shape} of {self.grid.name}, got shape {tuple(f.shape)}")
        f = f.float() if f.dtype in (torch.float16, torch.bfloat16) else f
        _working("f", f, self.get_buffer("even0"))
        half, size = (f.shape[-2] + 1) // 2, self.lmax + 1
        spectrum = torch.fft.rfft(f.reshape(-1, *self.grid.shape))[..., :size]
        north, south = spectrum[:, :half], spectrum.flip(1)[:, :half]
        folded = torch.view_as_real(torch.stack([north + south, north - south])).permute(0, 3, 2, 1, 4)
        folded = folded.reshape(2, size, half, -1)  # [parity, m, ring, batch and re/im]
        columns = []
        for block, orders in enumerate(self._orders()):
            parts = [
                torch.bmm(self.get_buffer(f"{name}{block}"), folded[p, orders.start : orders.stop])
                for p, name in enumerate(("even", "odd"))
            ]
            columns.append(self._unpack(parts, orders))
        out = torch.cat(columns, 0).reshape(size, size, -1, 2).permute(2, 1, 0, 3).contiguous()
        return torch.view_as_complex(out).reshape(*f.shape[:-2], size, size)

    def _unpack(self, parts: list[Tensor], orders: range) -> Tensor:
        """Interleave even and odd rows, [m, lmax+1, batch], with zeros for l < orders.start."""
        pair = torch.stack(parts, 2)  # [m, row, parity, batch]
        swapped = pair.flip(2)
        turn = (torch.arange(len(orders), device=pair.device) % 2 == 1)[:, None, None, None]
        rows = torch.where(turn, swapped, pair).flatten(1, 2)[:, : self.lmax + 1 - orders.start]
        return nn.functional.pad(rows, (0, 0, orders.start, 0))


class InverseRealSHT(_Transform):
    """Synthesis: complex coefficients [..., lmax+1, lmax+1] at (l, m >= 0) to the real signal [..., nlat, nlon].

    The inverse of `RealSHT` (see there for conventions and errors); the imaginary part at m = 0 and entries with
    m > l are ignored.
    """

    inverse = True

    def forward(self, c: Tensor) -> Tensor:
        """Transform ``c`` [..., lmax+1, lmax+1]."""
        if not isinstance(c, Tensor) or not c.is_complex():
            raise TypeError(f"c: expected a complex torch.Tensor, got {getattr(c, 'dtype', type(c).__name__)}")
        size, (nlat, nlon) = self.lmax + 1, self.grid.shape
        if tuple(c.shape[-2:]) != (size, size):
            raise ValueError(f"c: expected last axes ({size}, {size}) indexed (l, m), got shape {tuple(c.shape)}")
        _working("c", c, self.get_buffer("even0"))
        packed = torch.view_as_real(c.reshape(-1, size, size)).permute(2, 1, 0, 3).reshape(size, size, -1)
        signs = []
        for block, orders in enumerate(self._orders()):
            rows = packed[orders.start : orders.stop, orders.start :]
            count = self.get_buffer(f"even{block}").shape[1]
            pair = nn.functional.pad(rows, (0, 0, 0, 2 * count - rows.shape[1])).unflatten(1, (count, 2))
            turn = (torch.arange(len(orders), device=c.device) % 2 == 1)[:, None, None, None]
            pair = torch.where(turn, pair.flip(2), pair)
            signs.append([self.get_buffer(f"{n}{block}").mT @ pair[:, :, p] for p, n in enumerate(("even", "odd"))])
        even, odd = (torch.cat([s[p] for s in signs], 0) for p in (0, 1))
        south = (even - odd)[:, : nlat // 2].flip(1)
        rings = torch.cat([even + odd, south], 1).reshape(size, nlat, -1, 2).permute(2, 1, 0, 3).contiguous()
        out = torch.fft.irfft(torch.view_as_complex(rings), n=nlon, norm="forward")
        return out.reshape(*c.shape[:-2], nlat, nlon)
