"""Exact linear solvers on the sphere and on SO(3), in the harmonic domain.

Left rotations act on the order m of the coefficients ``W^l_mn`` of :class:`pdegcnn.sphere.SO3FFT`, the left-invariant
frame on the fibre order n. Every linear term is therefore one small matrix over n per degree and commutes with
rotations exactly. A fibre of few samples holds few orders. Convection is then exact on those: its matrix is a block of
that of all orders. The other terms, and convection by ``method="galerkin"``, restrict the generators to the resolved
orders, which keeps convection unitary, diffusion a contraction and both semigroups.

Source: Gerken et al. (arXiv 2105.13926), section 4; Chirikjian & Kyatkin, *Harmonic Analysis for Engineers*, ch. 9.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pdegcnn import sphere
from pdegcnn._typing import Factory, Floats, linalg
from pdegcnn.ops.matrix_function import fractional_exponential, fractional_power
from pdegcnn.pde.sphere_turns import Turns, angular_momenta
from pdegcnn.spaces import S2, SO3
from pdegcnn.sphere._tables import TableModule


class FrameGenerators(TableModule):
    """The frame's generators ``Z_i = i conj(J_i)`` over the orders up to ``nmax``, and their symmetric products."""

    def __init__(self, grid: sphere.SphereGrid, nmax: int, like: Tensor) -> None:
        super().__init__(grid, None)
        self.nmax = nmax
        self._build(like)

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Floats]]]:
        size = self.lmax + 1, 2 * self.nmax + 1, 2 * self.nmax + 1
        return [("first", (3, *size), self._first_order), ("second", (6, *size), self._second_order)]

    def _first_order(self) -> Floats:
        return np.stack(angular_momenta(self.lmax, self.nmax))

    def _second_order(self) -> Floats:
        x, y, z = angular_momenta(self.lmax, self.nmax + 1)  # products reach one order beyond
        pairs = [x @ x, -y @ y, z @ z, x @ z + z @ x, x @ y + y @ x, y @ z + z @ y]
        return np.stack(pairs)[:, :, 1:-1, 1:-1]

    def velocity(self, vector: Tensor) -> Tensor:
        """Return ``sum_i c_i Z_i`` for vectors ``[C,3]``: anti-Hermitian ``[C,lmax+1,N,N]``."""
        x, y, z = self.get_buffer("first")
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
        self.turns = Turns(space.grid, self.analysis.nmax, like) if exact else None

    def _step(self, u: Tensor, matrix: Tensor) -> Tensor:
        """Apply ``matrix [C,lmax+1,N,N]`` to the fibre orders of u."""
        columns = self.analysis(u)  # [B,C,l,m,n]
        return self.synthesis(torch.einsum("clkn,bclmn->bclmk", matrix.to(columns.dtype), columns))

    def convection(self, u: Tensor, vector: Tensor, time: float) -> Tensor:
        """Return ``u(R exp(-time c))`` for vectors ``[C,3]``."""
        if self.turns is not None:
            return self._step(u, self.turns(-time * vector))
        return self._step(u, linalg.matrix_exp(-time * self.generators.velocity(vector)))

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
