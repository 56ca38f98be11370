"""Exact linear solvers on the sphere and on SO(3), in the harmonic domain.

Left rotations act on the order m of the coefficients ``W^l_mn`` of :class:`pdegcnn.sphere.SO3FFT`, the left-invariant
frame on the fibre order n. Every linear term is therefore one small matrix over n per degree and commutes with
rotations exactly. A fibre of few samples holds few orders. Convection is then exact on those: its matrix is a block of
that of all orders. The other terms, and convection by ``method="galerkin"``, restrict the generators to the resolved
orders, which keeps convection unitary, diffusion a contraction and both semigroups.

Source: Gerken et al. (arXiv 2105.13926), section 4; Chirikjian & Kyatkin, *Harmonic Analysis for Engineers*, ch. 9.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pdegcnn import _checks, sphere
from pdegcnn._typing import Factory, Floats, linalg
from pdegcnn.ops.matrix_function import fractional_exponential, fractional_power
from pdegcnn.spaces import S2, SO3
from pdegcnn.sphere._tables import TableModule

DEGREES = 4
"""Number of parts into which degrees are split, because their matrices differ in size."""


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


class FrameGenerators(TableModule):
    """The frame's generators ``Z_i = i conj(J_i)`` over the orders up to ``nmax``, and their symmetric products."""

    def __init__(self, grid: sphere.SphereGrid, nmax: int, like: Tensor, products: bool = True) -> None:
        super().__init__(grid, None)
        self.nmax, self.products = nmax, products
        self._build(like)

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Floats]]]:
        size = self.lmax + 1, 2 * self.nmax + 1, 2 * self.nmax + 1
        first = ("first", (3, *size), self._first_order)
        return [first, ("second", (6, *size), self._second_order)] if self.products else [first]

    def _first_order(self) -> Floats:
        return np.stack(angular_momenta(self.lmax, self.nmax))

    def _second_order(self) -> Floats:
        x, y, z = angular_momenta(self.lmax, self.nmax + 1)  # products reach one order beyond
        pairs = [x @ x, -y @ y, z @ z, x @ z + z @ x, x @ y + y @ x, y @ z + z @ y]
        return np.stack(pairs)[:, :, 1:-1, 1:-1]

    def velocity(self, vector: Tensor, nmax: int | None = None, degrees: slice = slice(None)) -> Tensor:
        """Return ``sum_i c_i Z_i`` for vectors ``[C,3]``: anti-Hermitian ``[C,lmax+1,N,N]``.

        Of the orders up to ``nmax`` and of some ``degrees``, if given.
        """
        beyond = 0 if nmax is None else self.nmax - nmax
        x, y, z = _without(self.get_buffer("first")[:, degrees], beyond)
        c = vector[:, :, None, None, None]
        return torch.complex(-c[:, 1] * y, c[:, 0] * x + c[:, 2] * z)

    def laplacian(self, diffusivity: Tensor) -> Tensor:
        """Return ``-sum_ij D_ij Z_i Z_j`` for diffusivities ``[C,3,3]``: Hermitian, positive, ``[C,lmax+1,N,N]``."""
        xx, yy, zz, xz, xy, yz = self.get_buffer("second")
        d = diffusivity[:, :, :, None, None, None]
        real = d[:, 0, 0] * xx + d[:, 1, 1] * yy + d[:, 2, 2] * zz + d[:, 0, 2] * xz
        return torch.complex(real, d[:, 0, 1] * xy + d[:, 1, 2] * yz)

    def frame(self) -> tuple[Tensor, Tensor]:
        """Return matrices of the derivatives ``X_i = Z_i`` along the frame, ``[3,lmax+1,N,N]``, and of their products.

        The products ``(X_i X_j + X_j X_i)/2`` come in the order (00, 11, 22, 01, 02, 12), ``[6,lmax+1,N,N]``.
        """
        x, y, z = self.get_buffer("first")
        zero = torch.zeros_like(x)
        xx, yy, zz, xz, xy, yz = self.get_buffer("second")
        first = [torch.complex(zero, x), torch.complex(-y, zero), torch.complex(zero, z)]
        second = [torch.complex(-xx, zero), torch.complex(-yy, zero), torch.complex(-zz, zero)]
        second += [torch.complex(zero, -xy / 2), torch.complex(-xz / 2, zero), torch.complex(zero, -yz / 2)]
        return torch.stack(first), torch.stack(second)


class GroupHarmonics(nn.Module):
    """Transforms and generators of SO(3) signals ``[B,C,Or,*grid.shape]``; all tables are derived, none is saved.


    Args:
        space: the space.
        like: a tensor of the wanted dtype and device.
        exact: whether convection is exact on the orders that the fibre holds, or restricted to them.
    """

    def __init__(self, space: SO3, like: Tensor, exact: bool = False) -> None:
        super().__init__()
        kind: Factory = {"device": like.device, "dtype": like.dtype}
        self.analysis = sphere.SO3FFT(space.grid, space.orientations, **kind)
        self.synthesis = sphere.InverseSO3FFT(space.grid, space.orientations, **kind)
        self.generators = FrameGenerators(space.grid, self.analysis.nmax, like)
        few = exact and self.analysis.nmax < self.analysis.lmax
        self.every_order = FrameGenerators(space.grid, self.analysis.lmax, like, products=False) if few else None

    def _step(self, u: Tensor, matrix: Tensor) -> Tensor:
        """Apply ``matrix [C,lmax+1,N,N]`` to the fibre orders of u."""
        columns = self.analysis(u)  # [B,C,l,m,n]
        return self.synthesis(torch.einsum("clkn,bclmn->bclmk", matrix.to(columns.dtype), columns))

    def convection(self, u: Tensor, vector: Tensor, time: float) -> Tensor:
        """Return ``u(R exp(-time c))`` for vectors ``[C,3]``."""
        if self.every_order is None:
            return self._step(u, linalg.matrix_exp(-time * self.generators.velocity(vector)))
        held, size = self.generators.nmax, self.every_order.lmax + 1
        parts: list[Tensor] = []
        for first in range(0, size, -(-size // DEGREES)):  # low degrees have few orders: small matrices
            degrees = slice(first, min(first - (-size // DEGREES), size))
            orders = _orders_on_the_way(vector, time, held, degrees.stop - 1)
            turned = linalg.matrix_exp(-time * self.every_order.velocity(vector, orders, degrees))
            parts.append(_without(turned, orders - held))
        return self._step(u, torch.cat(parts, 1))

    def diffusion(self, u: Tensor, diffusivity: Tensor, alpha: float | Tensor, time: float) -> Tensor:
        """Return ``exp(-time (-Delta)^alpha) u`` for diffusivities ``[C,3,3]``."""
        return self._step(u, fractional_exponential(self.generators.laplacian(diffusivity), alpha, time))

    def convection_diffusion(
        self, u: Tensor, vector: Tensor, diffusivity: Tensor, alpha: float | Tensor, time: float
    ) -> Tensor:
        """Return ``exp(-time (c + (-Delta)^alpha)) u`` for vectors ``[C,3]`` and diffusivities ``[C,3,3]``.

        The exponential, of a matrix that is not normal and may be large, is taken in float64.
        """
        power = fractional_power(self.generators.laplacian(diffusivity), alpha)
        rate = (self.generators.velocity(vector) + power).to(torch.complex128)
        return self._step(u, linalg.matrix_exp(-time * rate))


def _without(matrices: Tensor, beyond: int) -> Tensor:
    """Return matrices ``[...,N,N]`` without the ``beyond`` highest orders of either sign."""
    return matrices[..., beyond : matrices.shape[-1] - beyond, beyond : matrices.shape[-1] - beyond]


def _orders_on_the_way(vector: Tensor, time: float, held: int, lmax: int) -> int:
    """Return the number of orders with which a shift by ``time * vector [C,3]`` is exact on those ``held``.

    All where nobody may look at the vector. Else what leaves the held orders and comes back passes, to rounding, no
    order beyond the answer: the entries of the matrix between orders k apart are below the Bessel function ``I_k`` of
    the shift's angle times the degree, so below ``(r/2)^k / k! exp(r^2 / (4 k))``.
    """
    if lmax <= held:
        return held
    if not _checks.has_values(vector) or vector.device.type != "cpu" or not vector.numel():
        return lmax
    tilt = float(linalg.vector_norm(vector.detach()[:, :2].double(), dim=1).amax())
    reach = time * tilt * (lmax + 0.5)
    if not 0 < reach < math.inf:
        return lmax if reach else held
    goal = math.log(torch.finfo(vector.dtype).eps)
    for orders in range(held, lmax):
        k = 2 * (orders - held) + 2
        if k * math.log(reach / 2) - math.lgamma(k + 1) + reach**2 / (4 * k) < goal:
            return orders
    return lmax


class SphereHarmonics(nn.Module):
    """Transforms of S2 signals ``[B,C,*grid.shape]``; all tables are derived, none is saved."""

    def __init__(self, space: S2, like: Tensor) -> None:
        super().__init__()
        kind: Factory = {"device": like.device, "dtype": like.dtype}
        self.analysis = sphere.RealSHT(space.grid, **kind)
        self.synthesis = sphere.InverseRealSHT(space.grid, **kind)

    def diffusion(self, u: Tensor, diffusivity: Tensor, alpha: float | Tensor, time: float) -> Tensor:
        """Return ``exp(-time (-Delta)^alpha) u`` for diffusivities ``[C,1,1]``.

        The factors are ``exp(-time (D l(l+1))^alpha)``.
        """
        degree = torch.arange(self.analysis.lmax + 1, dtype=u.dtype, device=u.device)
        values = diffusivity[:, 0] * (degree * (degree + 1))  # [C,l]
        safe = torch.where(values > 0, values, torch.ones_like(values))
        rate = torch.where(values > 0, safe**alpha, torch.zeros_like(values))
        return self.synthesis(self.analysis(u) * torch.exp(-time * rate)[:, :, None])
