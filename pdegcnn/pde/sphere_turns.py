"""Wigner matrices of rotations on the orders that a fibre holds, from series in the tilt.

A rotation acts on the orders n of one degree by the Wigner matrix ``exp(i n a) d^l_nk(b) exp(i k c)`` of its Euler
angles. ``d^l_nk(b)`` is a series in ``cos(j b)`` or ``sin(j b)``, ``j = 0..l``, whose coefficients are products of its
values at a quarter turn. The rows and columns of the held orders are therefore one product with a table, without the
orders beyond.

Source: Risbo, *J. Geodesy* 70 (1996); McEwen & Wiaux (arXiv 1110.6298), eq. 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _transforms, sphere
from pdegcnn._derived import lasting
from pdegcnn._typing import Floats, from_numpy, linalg
from pdegcnn.sphere._legendre import legendre_block
from pdegcnn.sphere._tables import TableModule
from pdegcnn.sphere._wigner import euler_zyz


def angular_momenta(lmax: int, nmax: int) -> tuple[Floats, Floats, Floats]:
    """Return real matrices ``(J_x, i J_y, J_z)`` over orders n = -nmax..nmax for each degree, ``[lmax+1, N, N]``.

    Entries beyond the degree are zero.
    """
    n = np.arange(-nmax, nmax + 1)
    degree = np.arange(lmax + 1)[:, None]
    up = np.sqrt(np.maximum(degree * (degree + 1.0) - n[:-1] * n[1:], 0)) * (np.abs(n[:-1]) <= degree)
    up *= np.abs(n[1:]) <= degree
    raising = np.zeros((lmax + 1, len(n), len(n)))
    raising[:, np.arange(1, len(n)), np.arange(len(n) - 1)] = up
    lowering = np.transpose(raising, (0, 2, 1))
    spin = np.zeros_like(raising)
    spin[:, np.arange(len(n)), np.arange(len(n))] = n * (np.abs(n) <= degree)
    return (raising + lowering) / 2, (raising - lowering) / 2, spin


def tilt_series(lmax: int, rows: int, columns: int) -> Floats:
    """Return coefficients of ``d^l_nk(b)`` in ``cos(j b)`` (n - k even) or ``sin(j b)`` (odd).

    The axes of ``[lmax+1, lmax+1, N, K]`` are j, l, n = -rows..rows and k = -columns..columns.
    """
    size, j = lmax + 1, np.arange(lmax + 1)[:, None]
    quarter = np.zeros((size, size, 2 * columns + 1))  # of j, l and k
    sign = np.where((j + np.arange(size)) % 2 == 1, -1.0, 1.0)
    norm = np.sqrt((2 * np.arange(size) + 1) / (4 * np.pi))
    for k in range(min(columns, lmax) + 1):
        quarter[..., columns + k] = legendre_block(lmax, range(size), np.zeros(1), k)[..., 0] / norm
        quarter[..., columns - k] = sign * quarter[..., columns + k]
    apart = np.arange(-columns, columns + 1) - np.arange(-rows, rows + 1)[:, None]
    turned = np.where((apart + apart % 2) % 4 == 0, 1.0, -1.0)
    left = quarter[..., columns - rows : columns + rows + 1, None]
    return np.where(j > 0, 2.0, 1.0)[..., None, None] * turned * left * quarter[..., None, :]


class Turns(TableModule):
    """Wigner matrices of rotations over the orders up to ``nmax``.

    Args:
        grid: a grid with rings, for its band.
        nmax: highest order held.
        like: a tensor of the wanted dtype and device.
    """

    def __init__(self, grid: sphere.SphereGrid, nmax: int, like: Tensor) -> None:
        super().__init__(grid, None)
        self.nmax = nmax
        self._build(like)

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Floats]]]:
        size, rows, columns = self.lmax + 1, 2 * self.nmax + 1, 2 * self.nmax + 3
        return [
            ("series", (size, size, rows, columns), lambda: tilt_series(self.lmax, self.nmax, self.nmax + 1)),
            ("momenta", (3, size, columns, columns), lambda: self._momenta(1)),
        ]

    def _momenta(self, beyond: int) -> Floats:
        return np.stack(angular_momenta(self.lmax, self.nmax + beyond))

    def tables(self, beyond: int) -> tuple[Tensor, Tensor]:
        """Return series and angular momenta; their columns have ``beyond`` more orders than held."""
        series, momenta = self.get_buffer("series"), self.get_buffer("momenta")
        if beyond == 1:
            return series, momenta
        if not beyond:
            return series[..., 1:-1], momenta[..., 1:-1, 1:-1]
        with _transforms.constants():
            wider = tilt_series(self.lmax, self.nmax, self.nmax + beyond), self._momenta(beyond)
            return lasting(_tensors, wider, series)

    def matrix(self, rotation: Tensor, beyond: int = 0) -> Tensor:
        """Return complex matrices ``[C,lmax+1,N,N]`` of rotations ``[C,3,3]``, float64; more columns if ``beyond``."""
        if not rotation.requires_grad and not _transforms.has_tangent(rotation):
            return self.values(rotation, beyond)
        chosen = _InEveryMode if _transforms.levels() or _transforms.in_forward_mode() else _Turn
        return cast("Tensor", chosen.apply(rotation, self, beyond))  # pyright: ignore[reportUnknownMemberType]

    def forward(self, vector: Tensor) -> Tensor:
        """Return the complex matrices ``[C,lmax+1,N,N]`` of the rotations ``exp(c)`` by vectors ``[C,3]``."""
        return self.matrix(linalg.matrix_exp(_hat(vector.double())))

    def values(self, rotation: Tensor, beyond: int) -> Tensor:
        """Compute the matrices from Euler angles; without derivatives, which are singular there."""
        series, _ = self.tables(beyond)
        size, rows, columns = series.shape[1:]
        first, tilt, last = euler_zyz(rotation)
        j = torch.arange(size, dtype=rotation.dtype, device=rotation.device)
        waves = torch.stack((torch.cos(tilt[..., None] * j), torch.sin(tilt[..., None] * j)))
        tilts = waves.to(series.dtype) @ series.flatten(1)
        even, odd = tilts.view(*waves.shape[:-1], size, rows, columns).unbind()
        n = torch.arange(-self.nmax, self.nmax + 1, device=rotation.device)[:, None]
        k = torch.arange(-self.nmax - beyond, self.nmax + beyond + 1, device=rotation.device)
        angle = first[..., None, None] * n + last[..., None, None] * k
        phase = torch.complex(torch.cos(angle).to(series.dtype), torch.sin(angle).to(series.dtype))
        return torch.where((n - k) % 2 == 0, even, odd) * phase[..., None, :, :]


class _Turn(torch.autograd.Function):
    """The matrices, differentiated as ``M(R exp(w)) = M(R) (1 + w . Z)``.

    This gradient, tangent to the rotations, has no singularity where Euler angles do. Derivatives of any order exist,
    because the rules use the same matrices with one more order.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(rotation: Tensor, turns: Turns, beyond: int) -> Tensor:
        return turns.values(rotation, beyond)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Turns, int], output: Tensor) -> None:
        rotation, ctx.turns, ctx.beyond = inputs
        ctx.save_for_backward(rotation)
        ctx.save_for_forward(rotation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (rotation,) = ctx.saved_tensors
        wide = ctx.turns.matrix(rotation, ctx.beyond + 1)
        x, y, z = ctx.turns.tables(ctx.beyond + 1)[1][..., 1:-1]
        inner = wide.mT @ grads[0].conj()
        real, imaginary = inner.real, inner.imag
        turns = torch.stack([-(a * b).sum((-3, -2, -1)) for a, b in ((imaginary, x), (real, y), (imaginary, z))], -1)
        return rotation @ _hat(0.5 * turns.to(rotation.dtype)), None, None


class _InEveryMode(_Turn):
    """The same with derivatives in forward mode, which a compiler does not support."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        with _transforms.every_level():
            rotation = _transforms.primal(ctx.saved_tensors[0])
            moved = rotation.mT @ tangents[0]
            w = torch.stack([(moved[..., i, j] - moved[..., j, i]) / 2 for i, j in ((2, 1), (0, 2), (1, 0))], -1)
            x, y, z = ctx.turns.tables(ctx.beyond + 1)[1][..., 1:-1]
            a, b, c = w.to(x.dtype)[..., None, None, None].unbind(-4)
            return ctx.turns.matrix(rotation, ctx.beyond + 1) @ torch.complex(-b * y, a * x + c * z)


def _tensors(arrays: tuple[Floats, ...], like: Tensor) -> tuple[Tensor, ...]:
    return tuple(from_numpy(x).to(like) for x in arrays)


def _hat(vector: Tensor) -> Tensor:
    """Return antisymmetric matrices ``[...,3,3]`` of vectors ``[...,3]``."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*vector.shape, 3)
