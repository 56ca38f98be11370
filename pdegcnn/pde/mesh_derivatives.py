"""Derivatives on the bundle of directions of a mesh, by polynomials fitted to the neighbours of each vertex."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pdegcnn import _checks, _fft
from pdegcnn._dtypes import widen
from pdegcnn._typing import fft, linalg
from pdegcnn.ops.transport_gather import Stencil, transport_gather
from pdegcnn.ops.transport_gather.mixing import from_rows, to_rows
from pdegcnn.pde.derivatives import Derivatives, along_gradient, unit_scale
from pdegcnn.spaces import Mesh

LEAST = 0.5
"""Units that a smaller standard deviation acts as: a ball must hold neighbours."""
REACH = 2.5
"""Standard deviations to each side."""
RANK = 1e-6
"""What the neighbours do not determine, eigenvalues below this part of the greatest, is left out of the fit."""


class DerivativeStencils(NamedTuple):
    """Stencils of complex combinations of derivatives, for one order of the Fourier series over directions."""

    mean: Stencil
    gradient: tuple[Stencil, ...]
    """``d_x + i d_y``, and ``d_x - i d_y`` where the order is not zero."""
    trace: Stencil
    twofold: tuple[Stencil, ...]
    """``d_xx - d_yy + 2 i d_xy``, and its conjugate where the order is not zero."""


class MeshDerivatives(Derivatives):
    """Derivatives of quadratic polynomials fitted with Gaussian weights, after transport along geodesics.

    Directions are turned exactly, by the Fourier series over them. On a flat mesh the derivatives of quadratic
    polynomials are exact, also at the boundary.
    """

    LARGEST = 8.0
    space: Mesh

    def _set_up(self, boundary: str | None, like: Tensor) -> None:
        _checks.choice("boundary", boundary, (None, "replicate"))

    def first(self, u: Tensor) -> Tensor:
        """Return the derivatives along the frame vectors, ``[3, *u.shape]``."""
        return self._frame(self._parts(widen(u), hessian=False))

    def second(self, u: Tensor) -> Tensor:
        """Return symmetric products of derivatives in the order of ``PAIRS``."""
        u = widen(u)
        mean, x, y, trace, even, odd = self._parts(u, hessian=True)
        c, s = self._angles(u)
        waves = _orders(u)
        turned_x, turned_y = self._turned(x, waves, 1), self._turned(y, waves, 1)
        ahead, aside = c * x + s * y, c * y - s * x
        along = (c**2 - s**2) * even + 2 * c * s * odd
        mixed = ((c**2 - s**2) * odd - 2 * c * s * even) / 2
        return torch.stack(
            (
                (trace + along) / 2,
                (trace - along) / 2,
                self._turned(mean, waves, 2),
                mixed,
                c * turned_x + s * turned_y + aside / 2,  # A3 A1 = A1 A3 + A2
                c * turned_y - s * turned_x - ahead / 2,  # A3 A2 = A2 A3 - A1
            )
        )

    def lateral(self, u: Tensor) -> Tensor:
        """Return the second derivative across lines."""
        return self.gates(u)[1]

    def gates(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return :meth:`first` and :meth:`lateral`."""
        u = widen(u)
        parts = self._parts(u, hessian=True)
        first = self._frame(parts)
        _, x, y, trace, even, odd = parts
        if self.space.orientations == 1:  # functions of position have no direction: across is along the gradient
            p, q = unit_scale(torch.stack((x, y)))
            square = self._gathered((p**2 + q**2)[:, :, 0], 0, "mean")
            turned = self._gathered(
                torch.complex(p**2 - q**2, -2 * p * q)[:, :, 0], 2, "mean"
            )  # modes are multiplied by this
            twofold = turned.real[:, :, None], -turned.imag[:, :, None]
            second = torch.stack(((trace + even) / 2, (trace - even) / 2, odd / 2))
            return first, along_gradient(second, square[:, :, None], twofold)
        c, s = self._angles(u)
        return first, (trace - (c**2 - s**2) * even - 2 * c * s * odd) / 2

    def _frame(self, parts: list[Tensor]) -> Tensor:
        mean, x, y = parts[:3]
        c, s = self._angles(mean)
        return torch.stack((c * x + s * y, c * y - s * x, self._turned(mean, _orders(mean), 1)))

    def _angles(self, u: Tensor) -> tuple[Tensor, Tensor]:
        angles = self.space.angles.to(u.device)[:, None]
        return angles.cos().to(u), angles.sin().to(u)

    def _parts(self, u: Tensor, hessian: bool) -> list[Tensor]:
        """Return the mean, the derivatives along x and y of the gauge and, if asked for, xx + yy, xx - yy and 2 xy."""
        waves = _orders(u)
        smooth = torch.exp(-(self.turn**2) / 2 * waves**2)
        spectrum = _fft.apply(fft.rfft, u, dim=2) * smooth[:, None]
        found: list[list[Tensor]] = []
        for order in range(len(waves)):
            field = spectrum[:, :, order].real if order == 0 else spectrum[:, :, order]
            found.append([self._gathered(field, order, "mean"), *self._pair(field, order, "gradient")])
            if hessian:
                found[-1] += [self._gathered(field, order, "trace"), *self._pair(field, order, "twofold")]
        count = u.shape[2]
        return [_fft.apply(fft.irfft, torch.stack(part, 2), n=count, dim=2) for part in zip(*map(_complex, found))]

    def _pair(self, field: Tensor, order: int, kind: str) -> tuple[Tensor, Tensor]:
        """Return two real derivatives of a field from their complex combinations."""
        plus = self._gathered(field, order, kind, 0)
        if order == 0:
            return plus.real, plus.imag
        minus = self._gathered(field, order, kind, 1)
        return (plus + minus) / 2, (plus - minus) * -0.5j

    def _gathered(self, field: Tensor, order: int, kind: str, which: int = 0) -> Tensor:
        stencils = self.space.cached(_stencils, field.real, order, self.length)
        found = getattr(stencils, kind)
        stencil = found if isinstance(found, Stencil) else found[which]
        rows, spin = to_rows(field), int(order > 0 or kind in ("gradient", "twofold"))
        if not field.is_complex():
            rows = torch.stack((rows, torch.zeros_like(rows)), 2)
        return from_rows(transport_gather(rows.unsqueeze(2), stencil), spin)

    def _turned(self, u: Tensor, waves: Tensor, order: int) -> Tensor:
        """Return u differentiated once or twice by the angle of its directions."""
        count = u.shape[2]
        factor = 1j * waves if order == 1 else -(waves**2) + 0j
        if order == 1 and count % 2 == 0:  # the highest mode of an even number has no sign
            factor = torch.where(waves == count // 2, 0.0, factor)
        return _fft.apply(fft.irfft, _fft.apply(fft.rfft, u, dim=2) * factor[:, None], n=count, dim=2)


def _complex(parts: list[Tensor]) -> list[Tensor]:
    return [part.to(part.dtype.to_complex()) for part in parts]


def _orders(u: Tensor) -> Tensor:
    return torch.arange(u.shape[2] // 2 + 1, dtype=u.dtype, device=u.device)


def _stencils(mesh: Mesh, like: Tensor, order: int, deviation: float) -> DerivativeStencils:
    """Build the stencils for one order over directions."""
    deviation = max(deviation, LEAST)
    radius = max(math.ceil(REACH * deviation - 0.5), 1) + 0.5
    pairs = mesh.neighbours(radius, like.double())
    mean, x, y, xx, yy, xy = mesh.cached(_fit, like.double(), deviation, radius)
    turn = pairs.transport.conj() ** order  # u(theta - phi): a mode of order n turns by exp(-i n phi)

    def stencil(factors: Tensor) -> Stencil:
        values = factors * turn
        real = [
            torch.view_as_real(v.resolve_conj()).to(like)[:, None] for v in (values, values[pairs.reverse_index].conj())
        ]
        return Stencil(pairs.start, pairs.source, *real)

    def both(factors: Tensor) -> tuple[Stencil, ...]:
        return (stencil(factors), *((stencil(factors.conj()),) if order else ()))

    gradient, twofold = torch.complex(x, y), torch.complex(xx - yy, 2 * xy)
    return DerivativeStencils(stencil(mean + 0j), both(gradient), stencil(xx + yy + 0j), both(twofold))


def _fit(mesh: Mesh, like: Tensor, deviation: float, radius: float) -> Tensor:
    """Return weights ``[6,E]`` of the neighbours: of their mean, and in the derivatives x, y, xx, yy, xy of the fit."""
    pairs = mesh.neighbours(radius, like)
    across, down = (part / deviation for part in (pairs.offset.real, pairs.offset.imag))
    weight = mesh.areas.to(like)[pairs.source] * torch.exp(-(across**2 + down**2) / 2)
    weight = weight / _sums(weight, pairs.centre, mesh)[pairs.centre]
    basis = torch.stack((torch.ones_like(across), across, down, across**2 / 2, down**2 / 2, across * down), -1)
    normal = _sums(weight[:, None, None] * basis[:, :, None] * basis[:, None], pairs.centre, mesh)
    inverse = linalg.pinv(normal, rtol=RANK, hermitian=True)
    rows = torch.einsum("ejk,ek->je", inverse[pairs.centre, 1:], basis) * weight
    scale = torch.tensor([1, 1, 2, 2, 2], dtype=like.dtype, device=like.device)
    return torch.cat((weight[None], rows / deviation ** scale[:, None]))


def _sums(values: Tensor, centre: Tensor, mesh: Mesh) -> Tensor:
    return values.new_zeros(mesh.vertex_count, *values.shape[1:]).index_add_(0, centre, values)
