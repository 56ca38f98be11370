"""Harmonic transforms of real signals on SO(3) = sphere grid x fibre."""

from __future__ import annotations

from collections.abc import Callable

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

_BLOCK = 16


class _FibreTransform(LinearTransform):
    """Tables [m, n, l, ring] of d^l_mn per block of orders m >= 0, for all n = -nmax..nmax."""

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
        table, rings = synthesis_table if self.inverse else analysis_table, len(self.grid.theta)
        scale = 1.0 if self.inverse else 1 / self.fibre

        def make(orders: range) -> Array:
            out = np.empty((len(orders), 2 * self.nmax + 1, self.lmax + 1 - orders.start, rings))
            for n in range(self.nmax + 1):
                out[:, self.nmax + n] = table(self.grid, self.lmax, orders, n) * scale
                # d^l_{m,-n}(theta) = (-1)^(l+m) d^l_{mn}(pi - theta), and the rings lie evenly about the equator.
                sign = (-1.0) ** np.add.outer(range(out.shape[0]), range(out.shape[2]))[:, :, None]
                out[:, self.nmax - n] = sign * out[:, self.nmax + n, :, ::-1]
            return out

        angle = np.outer(np.arange(-self.nmax, self.nmax + 1), 2 * np.pi * np.arange(self.fibre) / self.fibre)
        return [
            ("turns", (2, *angle.shape), lambda: np.stack((np.cos(angle), np.sin(angle)))),
        ] + [
            (
                f"table{block}",
                (len(orders), 2 * self.nmax + 1, self.lmax + 1 - orders.start, rings),
                lambda orders=orders: make(orders),
            )
            for block, orders in enumerate(self._orders(_BLOCK))
        ]

    def _turns(self, sign: int, orders: range, weight: float) -> Tensor:
        """Return ``exp(sign i n gamma_k)``, complex [m, n, k], times ``weight`` for orders m > 0.

        For short fibres a product with it is faster than an FFT. As a batched product it can be traced with any batch.
        """
        cosine, sine = self.get_buffer("turns")
        turns = torch.complex(cosine, sign * sine)
        if weight == 1:
            return turns.expand(len(orders), -1, -1)
        weights = [weight if m else 1.0 for m in orders]
        return turns * torch.tensor(weights, dtype=cosine.dtype, device=cosine.device)[:, None, None]

    def _analyse(self, f: Tensor, adjoint: bool) -> Tensor:
        """Return coefficients [m, n, l, batch] of signals [batch, fibre, *grid.shape]; see :class:`LinearTransform`.

        Block by block of orders, so that what is computed in between stays in the processor's cache.
        """
        waves, nlat, count = real_analysis(f, self.grid, self.lmax + 1), len(self.grid.theta), 2 * self.nmax + 1
        columns: list[Tensor] = []
        several = self.lmax >= _BLOCK
        out = room(f, (self.lmax + 1, count, self.lmax + 1, f.shape[0])) if several else None
        into = None if out is None else torch.view_as_real(out).flatten(3)
        for block, orders in enumerate(self._orders(_BLOCK)):
            part = waves.narrow(3, orders.start, len(orders)).permute(3, 1, 2, 0)
            turns = self._turns(-1, orders, 2.0 if adjoint else 1.0)
            turned = torch.bmm(turns, part.reshape(len(orders), self.fibre, -1))
            rings = torch.view_as_real(turned).reshape(len(orders), count, nlat, -1)
            table, first = self.get_buffer(f"table{block}"), orders.start
            if into is not None:
                here = into[first : orders.stop]
                here[:, :, :first] = 0
                torch.bmm(table.flatten(0, 1), rings.flatten(0, 1), out=here[:, :, first:].flatten(0, 1))
                continue
            rows = table @ rings
            rows = pad(rows, (0, 0, first, 0)) if first else rows
            columns.append(torch.view_as_complex(rows.reshape(*rows.shape[:3], -1, 2)))
        if out is not None:
            return out
        return torch.cat(columns) if len(columns) > 1 else columns[0]

    def _synthesise(self, c: Tensor, adjoint: bool) -> Tensor:
        """Return signals [batch, fibre, *grid.shape] of coefficients [m, n, l, batch]; see :class:`LinearTransform`."""
        packed = torch.view_as_real(c.resolve_conj().contiguous())
        packed, nlat, lines = packed.reshape(*c.shape[:3], -1), len(self.grid.theta), []
        out = self._room_of_waves(c)
        for block, orders in enumerate(self._orders(_BLOCK)):
            part = packed.narrow(0, orders.start, len(orders)).narrow(2, orders.start, self.lmax + 1 - orders.start)
            rings = self.get_buffer(f"table{block}").mT @ part  # [m, n, ring, batch and re/im]
            waves = torch.view_as_complex(rings.reshape(len(orders), 2 * self.nmax + 1, -1, 2))
            turned = torch.bmm(self._turns(+1, orders, 0.5 if adjoint else 1.0).mT, waves)
            line = turned.reshape(len(orders), self.fibre, nlat, -1).permute(3, 1, 2, 0)
            if out is None:
                lines.append(line)
            else:
                out[..., orders.start : orders.stop] = line
        if out is not None:
            out[..., self.lmax + 1 :] = 0
            return real_synthesis(out, self.grid).contiguous()
        if len(self.grid.shape) == 2:  # the layout that the ring transform expects
            lines.append(lines[0].new_zeros(*lines[0].shape[:3], self.grid.nlon // 2 - self.lmax))
        return real_synthesis(torch.cat(lines, 3), self.grid).contiguous()

    def _room_of_waves(self, c: Tensor) -> Tensor | None:
        """Return memory for the waves of all rings ``[batch, fibre, nlat, orders]``, if these are of one length."""
        if len(self.grid.shape) != 2 or not c.numel():
            return None
        return room(c, (c.shape[3], self.fibre, len(self.grid.theta), self.grid.nlon // 2 + 1))

    def extra_repr(self) -> str:
        """Return the grid, the fibre and the bands."""
        return f"grid={self.grid.name}{self.grid.shape}, fibre={self.fibre}, lmax={self.lmax}, nmax={self.nmax}"


class SO3FFT(_FibreTransform):
    r"""Fourier transform (analysis) of real signals on SO(3), by separation of variables (Kostelec and Rockmore 2008).

    The sample at fibre index k, ring i and longitude j belongs to
    :math:`R = R_z(\varphi_j) R_y(\theta_i) R_z(\gamma_k)` with :math:`\gamma_k = 2 \pi k / \mathrm{fibre}`. The
    coefficients W satisfy

    .. math:: f(R) = \sum_l \sum_{|m| \le l} \sum_n W^l_{mn} \sqrt{\tfrac{2l+1}{4\pi}}\, \overline{D^l_{mn}(R)}, \qquad
        D^l_{mn}(R_z(a) R_y(b) R_z(c)) = e^{-ima}\, d^l_{mn}(b)\, e^{-inc},

    where :math:`d^1_{10}(b) = -\sin(b)/\sqrt 2`. Column ``nmax + n`` holds the fibre order n = -nmax..nmax. The
    functions are orthonormal for the area of the sphere times the mean over the fibre. Column n = 0 therefore holds the
    coefficients of :class:`RealSHT` of the fibre mean, and a left rotation :math:`f(Q^T R)` turns every column like a
    function on the sphere. Since f is real, :math:`W^l_{-m,-n} = (-1)^{m+n}\, \overline{W^l_{mn}}` gives the orders m <
    0. Parseval: the integral of :math:`f^2` is :math:`\sum |W^l_{0n}|^2 + 2 \sum_{m>0} |W^l_{mn}|^2`. Entries with
    :math:`l < \max(m, |n|)` are zero.

    The transform is exact to rounding on signals with :math:`l \le` ``lmax`` and :math:`|n| \le` ``nmax``. float16 and
    bfloat16 signals are transformed in float32 and give complex64. The result is a view of memory ordered
    (m, n, l, batch), which :class:`InverseSO3FFT` reads without a copy.

    Args:
        grid: a grid with rings.
        fibre: number of samples of the fibre.
        lmax: largest degree; None: the band of the grid.
        nmax: largest order along the fibre; None: ``min((fibre - 1) // 2, lmax)``.
        device: where the tables live.
        dtype: real dtype of the signals.

    Shape:
        Real ``[..., fibre, *grid.shape]`` -> complex ``[..., lmax+1, lmax+1, 2 nmax+1]`` at (l, m >= 0, n).

    Raises:
        ValueError: for a wrong shape or band.
        TypeError: for a wrong dtype or device.
    """

    def forward(self, f: Tensor) -> Tensor:
        """Transform a signal ``[..., fibre, *grid.shape]`` to coefficients ``[..., lmax+1, lmax+1, 2 nmax+1]``.

        Args:
            f: real; the fibre, then rings from north to south, then longitudes.
        """
        f = self._signal("f", f, (self.fibre, *self.grid.shape))
        size, batch = self.lmax + 1, f.shape[: -1 - len(self.grid.shape)]
        W = self._analysis(f.reshape(-1, self.fibre, *self.grid.shape))  # noqa: N806
        return W.permute(3, 2, 0, 1).reshape(*batch, size, size, 2 * self.nmax + 1)


class InverseSO3FFT(_FibreTransform):
    r"""Synthesis of a real signal on SO(3): the inverse of :class:`SO3FFT`, with its conventions and errors.

    Entries with :math:`l < \max(m, |n|)` are ignored, and so is the part at m = 0 that violates
    :math:`W^l_{0,-n} = (-1)^n\, \overline{W^l_{0n}}`.

    Args:
        grid: a grid with rings.
        fibre: number of samples of the fibre.
        lmax: largest degree; None: the band of the grid.
        nmax: largest order along the fibre; None: as in :class:`SO3FFT`.
        device: where the tables live.
        dtype: real dtype of the signals.

    Shape:
        Complex ``[..., lmax+1, lmax+1, 2 nmax+1]`` -> real ``[..., fibre, *grid.shape]``.
    """

    inverse = True

    def forward(self, W: Tensor) -> Tensor:  # noqa: N803
        """Transform coefficients ``[..., lmax+1, lmax+1, 2 nmax+1]`` to a signal ``[..., fibre, *grid.shape]``.

        Args:
            W: complex, at (l, m >= 0, n); ``nmax + n`` is the place of order n.
        """
        size, count = self.lmax + 1, 2 * self.nmax + 1
        W = self._complex("W", W, (size, size, count), "indexed (l, m, n)")  # noqa: N806
        f = self._synthesis(W.reshape(-1, size, size, count).permute(2, 3, 1, 0))
        return f.reshape(*W.shape[:-3], self.fibre, *self.grid.shape)
