"""Harmonic transforms of real signals on SO(3) = sphere grid x fibre."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn.sphere._legendre import Array
from pdegcnn.sphere._tables import TableModule, analysis_table, synthesis_table
from pdegcnn.sphere.grid import SphereGrid

_BLOCK = 16


class _FibreTransform(TableModule):
    """Tables [m, n >= 0, l, ring] per block of orders m; those of -n are the same ones, upside down."""

    inverse = False

    def __init__(
        self,
        grid: SphereGrid,
        fibre: int,
        lmax: int | None = None,
        nmax: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(grid, lmax)
        self.fibre = _checks.positive_int("fibre", fibre)
        highest = min((self.fibre - 1) // 2, self.lmax)
        self.nmax = highest if nmax is None else nmax
        if isinstance(self.nmax, bool) or not isinstance(self.nmax, int):
            raise TypeError(f"nmax: expected an int, got {nmax!r} of type {type(nmax).__name__}")
        if not 0 <= self.nmax <= highest:
            raise ValueError(
                f"nmax: expected 0 <= nmax <= {highest}, the least of (fibre - 1) // 2 = {(self.fibre - 1) // 2} "
                f"and lmax = {self.lmax}, got {nmax}"
            )
        self._build(torch.empty(0, device=device, dtype=dtype or torch.get_default_dtype()))

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Array]]]:
        table, rings = synthesis_table if self.inverse else analysis_table, self.grid.shape[0]
        scale = 1.0 if self.inverse else 1 / self.fibre

        def make(orders: range) -> Array:
            columns = [table(self.grid, self.lmax, orders, n) * scale for n in range(self.nmax + 1)]
            return np.stack(columns, 1)

        return [
            (
                f"table{block}",
                (len(orders), self.nmax + 1, self.lmax + 1 - orders.start, rings),
                lambda orders=orders: make(orders),
            )
            for block, orders in enumerate(self._orders(_BLOCK))
        ]

    def _mirror_sign(self, like: Tensor) -> Tensor:
        """(-1)^(l+m), [lmax+1, lmax+1]: d^l_{m,-n}(theta) is so many times d^l_{mn}(pi - theta)."""
        parity = torch.arange(self.lmax + 1, device=like.device)
        return (1 - 2 * ((parity[:, None] + parity) % 2)).to(like.real.dtype)

    def extra_repr(self) -> str:
        """Return the grid, the fibre and the bands."""
        return f"grid={self.grid.name}{self.grid.shape}, fibre={self.fibre}, lmax={self.lmax}, nmax={self.nmax}"


class SO3FFT(_FibreTransform):
    """Analysis: real signal [..., fibre, nlat, nlon] to complex W [..., lmax+1, lmax+1, 2 nmax+1] at (l, m >= 0, n).

    The sample at (k, i, j) belongs to the rotation R = Rz(phi_j) Ry(theta_i) Rz(gamma_k), gamma_k = 2 pi k / fibre.
    Column ``nmax + n`` holds the fibre order n = -nmax..nmax, and

        f(R) = sum_l sum_{|m| <= l} sum_n W^l_mn sqrt((2l+1)/4pi) conj(D^l_mn(R)),
        D^l_mn(Rz(a) Ry(b) Rz(c)) = e^{-ima} d^l_mn(b) e^{-inc}  (d^1_10(b) = -sin(b)/sqrt 2),

    orthonormal for the area of the sphere times the mean over the fibre, so column n = 0 holds the coefficients
    `RealSHT` gives of the fibre mean, and for a left rotation f(Q^T R) every column turns as a function on the sphere.
    f is real: W^l_{-m,-n} = (-1)^(m+n) conj(W^l_mn) gives the orders m < 0. Parseval: the integral of f^2 is
    sum |W_{l,0,n}|^2 + 2 sum_{m>0} |W_lmn|^2. Entries with l < max(m, |n|) are zero.

    Exact to rounding on signals with l <= ``lmax`` (default ``grid.band``) and |n| <= ``nmax`` (default
    min((fibre-1)//2, lmax)). float16 and bfloat16 signals are transformed in float32 and give complex64.
    Raises ValueError on a wrong shape or band, TypeError on a wrong dtype or device.
    Separation of variables as in Kostelec and Rockmore 2008, with one table for n and -n.
    """

    def forward(self, f: Tensor) -> Tensor:
        """Transform ``f`` [..., fibre, nlat, nlon]."""
        f = self._signal("f", f, (self.fibre, *self.grid.shape))
        size, count, nlat = self.lmax + 1, self.nmax + 1, self.grid.shape[0]
        waves = torch.fft.rfft(f.reshape(-1, *f.shape[-3:]))[..., :size]
        waves = torch.fft.fft(waves, dim=1)
        negative = torch.cat([waves[:, :1], waves.flip(1)[:, : count - 1]], 1)
        pair = torch.stack([waves[:, :count], negative.flip(2)])  # [+-, batch, n, ring, m]
        columns = torch.view_as_real(pair.permute(4, 2, 3, 0, 1).contiguous()).reshape(size * count, nlat, -1)
        rows = []
        for block, orders in enumerate(self._orders(_BLOCK)):
            table = self.get_buffer(f"table{block}").flatten(0, 1)
            out = torch.bmm(table, columns[orders.start * count : orders.stop * count])
            rows.append(torch.nn.functional.pad(out, (0, 0, orders.start, 0)))
        both = torch.view_as_complex(torch.cat(rows).reshape(size, count, size, 2, -1, 2))  # [m, n, l, +-, batch]
        both = both.permute(3, 4, 2, 0, 1)
        below = both[1, ..., 1:].flip(-1) * self._mirror_sign(both)[..., None]
        return torch.cat([below, both[0]], -1).reshape(*f.shape[:-3], size, size, 2 * self.nmax + 1)


class InverseSO3FFT(_FibreTransform):
    """Synthesis: complex W [..., lmax+1, lmax+1, 2 nmax+1] to the real signal [..., fibre, nlat, nlon].

    The inverse of `SO3FFT` (see there for conventions and errors). Entries with l < max(m, |n|) are ignored, and at
    m = 0 the part that breaks W^l_{0,-n} = (-1)^n conj(W^l_{0,n}).
    """

    inverse = True

    def forward(self, W: Tensor) -> Tensor:  # noqa: N803
        """Transform ``W`` [..., lmax+1, lmax+1, 2 nmax+1]."""
        size, count, (nlat, nlon) = self.lmax + 1, self.nmax + 1, self.grid.shape
        W = self._complex("W", W, (size, size, 2 * self.nmax + 1), "indexed (l, m, n)")  # noqa: N806
        flat = W.reshape(-1, *W.shape[-3:])
        mirrored = flat[..., :count].flip(-1) * self._mirror_sign(W)[..., None]
        pair = torch.stack([flat[..., self.nmax :], mirrored])  # [+-, batch, l, m, n]
        columns = torch.view_as_real(pair.permute(3, 4, 2, 0, 1).contiguous()).reshape(size, count, size, -1)
        parts = []
        for block, orders in enumerate(self._orders(_BLOCK)):
            table = self.get_buffer(f"table{block}").flatten(0, 1).mT
            parts.append(torch.bmm(table, columns[orders.start : orders.stop, :, orders.start :].flatten(0, 1)))
        rings = torch.view_as_complex(torch.cat(parts).reshape(size, count, nlat, 2, -1, 2)).permute(3, 4, 1, 2, 0)
        waves = rings.new_zeros(*rings.shape[1:2], self.fibre, nlat, size)
        waves = torch.cat([rings[0], waves[:, 2 * self.nmax + 1 :], rings[1][:, 1:].flip(1, 2)], 1)
        waves = torch.fft.ifft(waves, dim=1, norm="forward")
        return torch.fft.irfft(waves, n=nlon, norm="forward").reshape(*W.shape[:-3], self.fibre, nlat, nlon)
