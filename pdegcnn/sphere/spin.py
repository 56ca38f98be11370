"""Harmonic transforms of complex spin-weighted fields on ring grids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pdegcnn.sphere._fourier import complex_analysis, complex_synthesis
from pdegcnn.sphere._legendre import Array
from pdegcnn.sphere._tables import TableModule, analysis_table, synthesis_table
from pdegcnn.sphere.grid import SphereGrid


class _SpinTransform(TableModule):
    """Tables [m >= 0, l, ring] of d^l_{m,|spin|} per block of orders; reflections give the other signs."""

    inverse = False

    def __init__(
        self,
        grid: SphereGrid,
        spin: int,
        lmax: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(grid, lmax)
        if isinstance(spin, bool) or not isinstance(spin, int):
            raise TypeError(f"spin: expected an int, got {spin!r} of type {type(spin).__name__}")
        if abs(spin) > self.lmax:
            raise ValueError(f"spin: expected |spin| <= lmax = {self.lmax}, got {spin}")
        self.spin = spin
        self._build(torch.empty(0, device=device, dtype=dtype or torch.get_default_dtype()))

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Array]]]:
        table, rings = synthesis_table if self.inverse else analysis_table, len(self.grid.theta)
        size = self.lmax + 1
        found = [
            (
                f"table{block}",
                (len(orders), size - orders.start, rings),
                lambda orders=orders: table(self.grid, self.lmax, orders, abs(self.spin)),
            )
            for block, orders in enumerate(self._orders())
        ]
        return [*found, ("sign", (2, size, size), self._signs)]

    def _signs(self) -> Array:
        """Return the factor [+-m, l, |m|] from the tables (reversed if `_mirrored`) to spin-weighted harmonics."""
        degree, m = np.arange(self.lmax + 1)[:, None], np.arange(self.lmax + 1)
        if self.spin > 0:
            powers = (degree + m + self.spin, m + 0 * degree)
        else:
            powers = (self.spin + 0 * (degree + m), degree + 0 * m)
        return np.stack([(-1.0) ** (p % 2) for p in powers])

    @property
    def _mirrored(self) -> int:
        """Which sign of m (0: m >= 0, 1: m <= 0) meets the table upside down."""
        return 0 if self.spin > 0 else 1

    def extra_repr(self) -> str:
        """Return the grid, spin and band."""
        return f"grid={self.grid.name}{self.grid.shape}, spin={self.spin}, lmax={self.lmax}"


class SpinSHT(_SpinTransform):
    r"""Spherical harmonic transform (analysis) of fields of integer spin s, in the harmonics of Goldberg et al. 1967.

    .. math:: f = \sum_l \sum_{|m| \le l} a_{lm}\, {}_sY_{lm}, \qquad
        {}_sY_{lm}(\theta, \varphi) = (-1)^s \sqrt{\tfrac{2l+1}{4\pi}}\, e^{im\varphi}\, d^l_{m,-s}(\theta)

    These orthonormal harmonics are :math:`\sqrt{(l-s)!/(l+s)!}\; \eth^s Y_{lm}` with
    :math:`\eth f = -(\sin\theta)^s (\partial_\theta + \tfrac{i}{\sin\theta} \partial_\varphi) (\sin\theta)^{-s} f`. A
    tangent vector field is :math:`v_\theta + i v_\varphi`, of spin 1. The fibre order n of a signal on SO(3) has spin
    -n (and the factor :math:`(-1)^n`). Entries with :math:`l < \max(|m|, |s|)` are zero. Exact to rounding on fields
    band-limited to ``lmax``.

    Args:
        grid: a grid with rings.
        spin: the spin of the field, any integer.
        lmax: largest degree; None: the band of the grid.
        device: where the tables live.
        dtype: real dtype of the fields.

    Shape:
        Complex ``[..., *grid.shape]`` -> complex ``[..., lmax+1, 2 lmax+1]`` at (l, lmax + m).

    Raises:
        ValueError: for a wrong shape or band.
        TypeError: for a real input, or a wrong dtype or device.
    """

    def forward(self, f: Tensor) -> Tensor:
        """Transform a field ``f`` ``[..., *grid.shape]`` to coefficients ``[..., lmax+1, 2 lmax+1]``.

        Args:
            f: complex values at the points of the grid.

        Returns:
            Complex coefficients at (l, lmax + m), for orders m of both signs.
        """
        f = self._complex("f", f, self.grid.shape, "of a spin-weighted field")
        size, batch = self.lmax + 1, f.shape[: -len(self.grid.shape)]
        signed = complex_analysis(f.reshape(-1, *self.grid.shape), self.grid, size)
        signed[self._mirrored] = signed[self._mirrored].flip(1)
        columns = torch.view_as_real(torch.stack(signed).permute(3, 2, 0, 1).contiguous()).flatten(2)
        rows, blocks = [], self._orders()
        for block, part in enumerate(columns.split([len(orders) for orders in blocks])):
            out = self.get_buffer(f"table{block}") @ part
            rows.append(torch.nn.functional.pad(out, (0, 0, blocks[block].start, 0)))
        both = torch.view_as_complex(torch.cat(rows).unflatten(2, (2, -1, 2))).permute(2, 3, 1, 0)
        plus, minus = (both * self.get_buffer("sign")[:, None]).unbind()
        return torch.cat([minus[..., 1:].flip(-1), plus], -1).reshape(*batch, size, 2 * size - 1)


class InverseSpinSHT(_SpinTransform):
    r"""Synthesis of a spin field: the inverse of :class:`SpinSHT`, with its conventions and errors.

    Entries with :math:`l < \max(|m|, |s|)` are ignored.

    Args:
        grid: a grid with rings.
        spin: the spin of the field, any integer.
        lmax: largest degree; None: the band of the grid.
        device: where the tables live.
        dtype: real dtype of the fields.

    Shape:
        Complex ``[..., lmax+1, 2 lmax+1]`` at (l, lmax + m) -> complex ``[..., *grid.shape]``.
    """

    inverse = True

    def forward(self, a: Tensor) -> Tensor:
        """Transform coefficients ``a`` ``[..., lmax+1, 2 lmax+1]`` to a field ``[..., *grid.shape]``.

        Args:
            a: complex, at (l, lmax + m).
        """
        size = self.lmax + 1
        a = self._complex("a", a, (size, 2 * size - 1), "indexed (l, m)")
        flat = a.reshape(-1, size, 2 * size - 1)
        signed = torch.stack([flat[..., size - 1 :], flat[..., :size].flip(-1)]) * self.get_buffer("sign")[:, None]
        columns = torch.view_as_real(signed.permute(3, 2, 0, 1).contiguous()).flatten(2)
        rows, blocks = [], self._orders()
        for block, part in enumerate(columns.split([len(orders) for orders in blocks])):
            rows.append(self.get_buffer(f"table{block}").mT @ part[:, blocks[block].start :])
        rings = torch.view_as_complex(torch.cat(rows).unflatten(2, (2, -1, 2))).permute(2, 3, 1, 0)
        halves = list(rings.unbind())
        halves[self._mirrored] = halves[self._mirrored].flip(1)
        return complex_synthesis(halves[0], halves[1], self.grid).reshape(*a.shape[:-2], *self.grid.shape)
