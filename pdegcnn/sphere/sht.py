"""Spherical harmonic transforms of real signals on ring grids."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from pdegcnn import _checks
from pdegcnn.sphere._fourier import real_analysis, real_synthesis
from pdegcnn.sphere._legendre import Array
from pdegcnn.sphere._tables import TableModule, analysis_table, synthesis_table
from pdegcnn.sphere.grid import SphereGrid

NORMS = ("orthonormal", "4pi", "schmidt", "e3nn")


def _coefficient_scale(norm: str, lmax: int) -> Array:
    """Return the factor [l, m] from orthonormal coefficients with the Condon-Shortley phase to those of ``norm``."""
    degree, order = np.arange(lmax + 1.0)[:, None], np.arange(lmax + 1)[None]
    one = np.ones((lmax + 1, lmax + 1), dtype=np.float64)
    if norm == "4pi":
        return one / math.sqrt(4 * math.pi)
    if norm == "schmidt":
        return one * np.sqrt((2 * degree + 1) / (4 * math.pi))
    return one * (1 - 2 * (order % 2)) if norm == "e3nn" else one


class _Transform(TableModule):
    """Per block of orders two matrices [m, row, ring] over the northern rings: degrees first + 2 row (+ 1)."""

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
        super().__init__(grid, lmax)
        self.norm = _checks.choice("norm", norm, NORMS)
        self._build(torch.empty(0, device=device, dtype=dtype or torch.get_default_dtype()))

    def _block(self, orders: range) -> Array:
        nlat = len(self.grid.theta)
        half = (nlat + 1) // 2
        scale = _coefficient_scale(self.norm, self.lmax)[orders.start :, orders.start : orders.stop].T[:, :, None]
        if self.inverse:
            return synthesis_table(self.grid, self.lmax, orders, rings=half) / scale
        table = analysis_table(self.grid, self.lmax, orders, rings=half) * scale
        if nlat % 2:
            table[..., -1] *= 0.5  # the equator folds onto itself
        return table

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Array]]]:
        half, found = (len(self.grid.theta) + 1) // 2, []
        whole = lru_cache(maxsize=1)(self._block)
        for block, orders in enumerate(self._orders()):
            for parity, name in enumerate(("even", "odd")):
                count = (self.lmax + 2 - orders.start - parity) // 2
                make = lambda orders=orders, parity=parity: whole(orders)[:, parity::2]  # noqa: E731
                found.append((f"{name}{block}", (len(orders), count, half), make))
        return [*found, ("sign", (self.lmax + 1, 1, 1), lambda: (-1.0) ** np.arange(self.lmax + 1)[:, None, None])]

    def extra_repr(self) -> str:
        """Return the grid, band and normalisation."""
        return f"grid={self.grid.name}{self.grid.shape}, lmax={self.lmax}, norm={self.norm!r}"


class RealSHT(_Transform):
    r"""Spherical harmonic transform (analysis) of real signals, exact up to the grid's band.

    .. math:: f = \sum_l c_{l0} Y_{l0} + 2 \operatorname{Re} \sum_l \sum_{m > 0} c_{lm} Y_{lm}

    The harmonics are those of ``scipy.special.sph_harm_y`` for ``norm="orthonormal"``. The coefficients are exact to
    rounding for signals band-limited to the grid's band, also if ``lmax`` is smaller. Entries with m > l are zero.
    float16 and bfloat16 signals are transformed in float32 and give complex64. The result is a view of memory ordered
    (m, l, batch), which :class:`InverseRealSHT` reads without a copy. Hemispheres are folded as in Schaeffer 2013
    (arXiv 1202.6522), section 3.

    Args:
        grid: a grid with rings.
        lmax: largest degree; None: the band of the grid.
        norm: ``"orthonormal"``, ``"4pi"``, ``"schmidt"`` or ``"e3nn"``.
        device: where the tables live.
        dtype: real dtype of the signals.

    Shape:
        Real ``[..., *grid.shape]`` -> complex ``[..., lmax+1, lmax+1]`` at (l, m >= 0).

    Raises:
        ValueError: for a wrong shape or band.
        TypeError: for a wrong dtype or device.

    Example:
        >>> import torch, pdegcnn as pg
        >>> grid = pg.sphere.SphereGrid.gauss_legendre(8)
        >>> c = pg.sphere.RealSHT(grid)(torch.ones(grid.shape))
        >>> c.shape, round(float(c[0, 0].real), 4)  # the constant 1 is sqrt(4 pi) Y_00
        (torch.Size([8, 8]), 3.5449)
    """

    def forward(self, f: Tensor) -> Tensor:
        """Transform a signal ``f`` ``[..., *grid.shape]`` to coefficients ``[..., lmax+1, lmax+1]``.

        Args:
            f: real values at the points of the grid.

        Returns:
            Complex coefficients at (l, m >= 0); those of negative orders follow because the signal is real.
        """
        f = self._signal("f", f, self.grid.shape)
        half, size, batch = (len(self.grid.theta) + 1) // 2, self.lmax + 1, f.shape[: -len(self.grid.shape)]
        waves = real_analysis(f.reshape(-1, *self.grid.shape), self.grid, size).permute(2, 1, 0).contiguous()
        rings = torch.view_as_real(waves).flatten(2)  # [m, ring, batch and re/im]
        north, south, sign = rings[:, :half], rings[:, -half:].flip(1), self.get_buffer("sign")
        # (l, m) has parity (-1)^(l+m) under reflection in the equator: even degrees see north + (-1)^m south.
        even, odd = torch.addcmul(north, south, sign), torch.addcmul(north, south, -sign)
        columns, sizes = [], [len(orders) for orders in self._orders()]
        for block, parts in enumerate(zip(even.split(sizes), odd.split(sizes))):
            rows = [self.get_buffer(f"{name}{block}") @ part for name, part in zip(("even", "odd"), parts)]
            missing = rows[0].shape[1] - rows[1].shape[1]
            rows[1] = pad(rows[1], (0, 0, 0, 1)) if missing else rows[1]
            pair = torch.stack(rows, 2).flatten(1, 2)
            pair = pad(pair, (0, 0, size + missing - pair.shape[1], -missing))
            columns.append(torch.view_as_complex(pair.unflatten(2, (-1, 2))))
        # Joined as complex numbers: a view of real memory could not enter a compiled graph.
        return torch.cat(columns).permute(2, 1, 0).reshape(*batch, size, size)


class InverseRealSHT(_Transform):
    """Synthesis of a real signal from its coefficients: the inverse of :class:`RealSHT`.

    Conventions and errors are the same. The imaginary part at m = 0 and entries with m > l are ignored.

    Args:
        grid: a grid with rings.
        lmax: largest degree; None: the band of the grid.
        norm: as in :class:`RealSHT`.
        device: where the tables live.
        dtype: real dtype of the signals.

    Shape:
        Complex coefficients ``[..., lmax+1, lmax+1]`` at (l, m >= 0) -> real ``[..., *grid.shape]``.
    """

    inverse = True

    def forward(self, c: Tensor) -> Tensor:
        """Transform coefficients ``c`` ``[..., lmax+1, lmax+1]`` to a signal ``[..., *grid.shape]``.

        Args:
            c: complex, at (l, m >= 0); entries with m > l are ignored.
        """
        size, nlat = self.lmax + 1, len(self.grid.theta)
        c = self._complex("c", c, (size, size), "indexed (l, m)")
        packed = torch.view_as_real(c.reshape(-1, size, size).permute(2, 1, 0).contiguous()).flatten(2)
        even, odd, blocks = [], [], self._orders()
        for block, rows in enumerate(packed.split([len(orders) for orders in blocks])):
            pair = pad(rows, (0, 0, -blocks[block].start, (size - blocks[block].start) % 2)).unflatten(1, (-1, 2))
            upper, lower = pair.unbind(2)
            table, other = self.get_buffer(f"even{block}"), self.get_buffer(f"odd{block}")
            even.append(table.mT @ upper)
            odd.append(other.mT @ lower[:, : other.shape[1]])
        orders = (
            self.grid.nlon // 2 + 1 if len(self.grid.shape) == 2 else size
        )  # the layout that the ring transform expects
        beyond = packed.new_zeros(orders - size, *even[0].shape[1:])
        north, sign = torch.cat([*even, beyond]), pad(self.get_buffer("sign"), (0, 0, 0, 0, 0, len(beyond)))
        mirror = torch.cat([*odd, beyond])
        south = ((north - mirror) * sign)[:, : nlat // 2].flip(1)
        rings = torch.view_as_complex(torch.cat([north + mirror, south], 1).unflatten(2, (-1, 2)))
        return real_synthesis(rings.permute(2, 1, 0), self.grid).reshape(*c.shape[:-2], *self.grid.shape)
