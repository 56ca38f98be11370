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
from pdegcnn.sphere._linear_transform import LinearTransform, room
from pdegcnn.sphere._tables import analysis_table, synthesis_table
from pdegcnn.sphere.grid import SphereGrid

NORMS = ("orthonormal", "4pi", "schmidt", "e3nn")
NEGLIGIBLE = 1e-20
"""Orthonormal harmonics below this size on a ring are left out: float64 loses them beside others."""


def _coefficient_scale(norm: str, lmax: int) -> Array:
    """Return the factor [l, m] from orthonormal coefficients with the Condon-Shortley phase to those of ``norm``."""
    degree, order = np.arange(lmax + 1.0)[:, None], np.arange(lmax + 1)[None]
    one = np.ones((lmax + 1, lmax + 1), dtype=np.float64)
    if norm == "4pi":
        return one / math.sqrt(4 * math.pi)
    if norm == "schmidt":
        return one * np.sqrt((2 * degree + 1) / (4 * math.pi))
    return one * (1 - 2 * (order % 2)) if norm == "e3nn" else one


class _Transform(LinearTransform):
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
        self._skipped = [self._polar(orders) for orders in self._orders()]
        self._build(torch.empty(0, device=device, dtype=dtype or torch.get_default_dtype()))

    def _polar(self, orders: range) -> int:
        """Return how many rings next to each pole hold negligible harmonics of these orders only."""
        if not self.inverse and self.grid.degree < self.lmax + self.grid.band:
            return 0  # interpolation along meridians spreads the weights
        half = (len(self.grid.theta) + 1) // 2
        largest = abs(synthesis_table(self.grid, self.lmax, orders[:1], rings=half)).max((0, 1))
        return int((np.maximum.accumulate(largest) < NEGLIGIBLE).sum())

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
            skip = self._skipped[block]
            for parity, name in enumerate(("even", "odd")):
                count = (self.lmax + 2 - orders.start - parity) // 2
                make = lambda orders=orders, parity=parity, skip=skip: whole(orders)[:, parity::2, skip:]  # noqa: E731
                found.append((f"{name}{block}", (len(orders), count, half - skip), make))
        return [*found, ("sign", (self.lmax + 1, 1, 1), lambda: (-1.0) ** np.arange(self.lmax + 1)[:, None, None])]

    def _analyse(self, f: Tensor, adjoint: bool) -> Tensor:
        """Return coefficients [m, l, batch] of signals [batch, *grid.shape]; see :class:`LinearTransform`.

        Block by block of orders, so that what is computed in between stays in the processor's cache.
        """
        size, nlat, columns = self.lmax + 1, len(self.grid.theta), []
        half, waves = (nlat + 1) // 2, real_analysis(f, self.grid, size)
        out = room(f, (size, size, f.shape[0]))
        into = None if out is None else torch.view_as_real(out).flatten(2)
        for block, orders in enumerate(self._orders()):
            skip = self._skipped[block]
            part = waves.narrow(1, skip, nlat - 2 * skip).narrow(2, orders.start, len(orders))
            part = part.permute(2, 1, 0).contiguous()
            rings = torch.view_as_real(part).reshape(*part.shape[:2], -1)  # [m, ring, batch and re/im]
            north, south = rings.narrow(1, 0, half - skip), rings.narrow(1, nlat // 2 - skip, half - skip).flip(1)
            sign = self.get_buffer("sign")[orders.start : orders.stop]
            if adjoint:
                weight = self._weights(orders, skip, 2.0)
                north, sign = north * weight, sign * weight
            # (l, m) has parity (-1)^(l+m) under reflection in the equator: even degrees see north + (-1)^m south.
            tables = self.get_buffer(f"even{block}"), self.get_buffer(f"odd{block}")
            if into is not None:
                here = into[orders.start : orders.stop]
                here[:, : orders.start] = 0
                for parity, table in enumerate(tables):
                    folded = torch.addcmul(north, south, -sign if parity else sign)
                    torch.bmm(table, folded, out=here[:, orders.start + parity :: 2])
                continue
            even = tables[0] @ torch.addcmul(north, south, sign)
            odd = tables[1] @ torch.addcmul(north, south, -sign)
            missing = even.shape[1] - odd.shape[1]
            pair = torch.stack([even, pad(odd, (0, 0, 0, 1)) if missing else odd], 2)
            pair = pair.reshape(len(orders), 2 * even.shape[1], rings.shape[2])
            if orders.start or missing:
                pair = pad(pair, (0, 0, orders.start, -missing))
            columns.append(torch.view_as_complex(pair.reshape(len(orders), size, -1, 2)))
        # Joined as complex numbers: a view of real memory could not enter a compiled graph.
        return torch.cat(columns) if out is None else out

    def _synthesise(self, c: Tensor, adjoint: bool) -> Tensor:
        """Return signals [batch, *grid.shape] of coefficients [m, l, batch]; see :class:`LinearTransform`."""
        size, nlat, lines = self.lmax + 1, len(self.grid.theta), []
        packed = torch.view_as_real(c.resolve_conj().contiguous()).reshape(size, size, -1)
        for block, orders in enumerate(self._orders()):
            rows = packed.narrow(0, orders.start, len(orders)).narrow(1, orders.start, size - orders.start)
            north = self.get_buffer(f"even{block}").mT @ rows[:, ::2]
            mirror = self.get_buffer(f"odd{block}").mT @ rows[:, 1::2]
            sign = self.get_buffer("sign")[orders.start : orders.stop]
            north, south, skip = north + mirror, north - mirror, self._skipped[block]
            south = south.narrow(1, 0, nlat // 2 - skip)
            if adjoint:
                weight = self._weights(orders, skip, 0.5)
                north, sign = north * weight, sign * weight[:, : south.shape[1]]
            pole = north.new_zeros(north.shape[0], skip, north.shape[2])
            rings = torch.cat([pole, north, (south * sign).flip(1), pole], 1).reshape(len(orders), nlat, -1, 2)
            lines.append(torch.view_as_complex(rings).permute(2, 1, 0))
        if len(self.grid.shape) == 2:  # the layout that the ring transform expects
            lines.append(lines[0].new_zeros(*lines[0].shape[:2], self.grid.nlon // 2 + 1 - size))
        return real_synthesis(torch.cat(lines, 2), self.grid).contiguous()

    def _weights(self, orders: range, skip: int, value: float) -> Tensor:
        """Return what a transpose is multiplied by, [m, ring, 1]: ``value`` for orders m > 0, which stand for two.

        Its inverse for a northern ring on the equator, which folds onto itself.
        """
        nlat = len(self.grid.theta)
        rings = (nlat + 1) // 2 - skip if nlat % 2 else 1
        weights = self.get_buffer("sign").new_full((len(orders), rings, 1), value)
        if not orders.start:
            weights[0] = 1
        if nlat % 2:
            weights[:, -1] /= value
        return weights

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
        size, batch = self.lmax + 1, f.shape[: -len(self.grid.shape)]
        c = self._analysis(f.reshape(-1, *self.grid.shape))
        return c.permute(2, 1, 0).reshape(*batch, size, size)


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
        size = self.lmax + 1
        c = self._complex("c", c, (size, size), "indexed (l, m)")
        f = self._synthesis(c.reshape(-1, size, size).permute(2, 1, 0))
        return f.reshape(*c.shape[:-2], *self.grid.shape)
