"""Derivatives on the sphere and on SO(3), exact for band-limited signals, in the harmonic domain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pdegcnn import _checks, sphere
from pdegcnn._derived import Table
from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn._typing import Factory
from pdegcnn.pde.derivatives import PAIRS, Derivatives, along_gradient, unit_scale
from pdegcnn.pde.sphere_spectral import FrameGenerators
from pdegcnn.spaces import S2, SO3

ACROSS = (0, 0)
"""A tilt about the direction moves sideways."""


class SphereDerivatives(Derivatives):
    """Derivatives of a signal smoothed by the heat equation, along the frame of SO(3) or along (theta, phi) on S2.

    On SO(3) they are cut to the orders that the fibre holds.
    """

    LARGEST = torch.pi
    space: S2 | SO3

    def _set_up(self, boundary: str | None, like: Tensor) -> None:
        _checks.choice("boundary", boundary, (None,))
        space, kind = self.space, Factory(device=like.device, dtype=wide_dtype(like.dtype))
        self.parts = GroupDerivatives(space, kind) if isinstance(space, SO3) else SurfaceDerivatives(space, kind)
        self._build(like)

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return wide_dtype(dtype)

    def _tables(self) -> list[Table]:
        return [("smoothing", None, lambda: self.parts.smoothing(self.turn, self.length))]

    def first(self, u: Tensor) -> Tensor:
        """Return the derivatives along the frame vectors, ``[dim, *u.shape]``."""
        return self.parts.first(self._coefficients(u))

    def second(self, u: Tensor) -> Tensor:
        """Return symmetric products of derivatives in the order of ``PAIRS``."""
        return self.parts.second(self._coefficients(u))

    def lateral(self, u: Tensor) -> Tensor:
        """Return the second derivative across lines."""
        return self.gates(u)[1]

    def gates(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return :meth:`first` and :meth:`lateral`."""
        return self.parts.gates(self._coefficients(u), self.get_buffer("smoothing"))

    def _coefficients(self, u: Tensor) -> Tensor:
        found = self.parts.analysis(widen(u))
        factors = self.get_buffer("smoothing")
        return found * (factors[:, None] if self.space.has_orientations else factors[0, :, None])


class GroupDerivatives(nn.Module):
    """Derivatives of coefficients ``[B,C,l,m,n]`` along the frame of SO(3)."""

    def __init__(self, space: SO3, kind: Factory) -> None:
        super().__init__()
        self.analysis = sphere.SO3FFT(space.grid, space.orientations, **kind)
        self.synthesis = sphere.InverseSO3FFT(space.grid, space.orientations, **kind)
        self.generators = FrameGenerators(space.grid, self.analysis.nmax, torch.empty(0, **kind))

    def smoothing(self, turn: float, length: float) -> Tensor:
        """Return factors ``[l,n]`` of a Gaussian with these standard deviations over orientations and positions."""
        degree = torch.arange(self.analysis.lmax + 1, dtype=torch.float64)[:, None]
        order = torch.arange(-self.analysis.nmax, self.analysis.nmax + 1, dtype=torch.float64)
        moved = (degree * (degree + 1) - order**2).clamp_min(0)
        return torch.exp(-(length**2 * moved + turn**2 * order**2) / 2)

    def first(self, columns: Tensor) -> Tensor:
        """Return ``A_i u``, ``[3,B,C,...]``."""
        return self._along(columns, self.generators.frame()[0])

    def second(self, columns: Tensor) -> Tensor:
        """Return products in the order of ``PAIRS``, ``[6,B,C,...]``."""
        return self._along(columns, self.generators.frame()[1])

    def gates(self, columns: Tensor, smoothing: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first derivatives and the second one across the direction."""
        first, second = self.generators.frame()
        across = PAIRS[3].index(ACROSS)
        found = self._along(columns, torch.cat((first, second[across : across + 1])))
        return found[:3], found[3]

    def _along(self, columns: Tensor, matrices: Tensor) -> Tensor:
        moved = torch.einsum("ilkn,bclmn->ibclmk", matrices.to(columns.dtype), columns)
        return self.synthesis(moved)


class SurfaceDerivatives(nn.Module):
    """Derivatives of coefficients ``[B,C,l,m]`` along theta and phi on the sphere, by spin-weighted harmonics."""

    def __init__(self, space: S2, kind: Factory) -> None:
        super().__init__()
        self.analysis = sphere.RealSHT(space.grid, **kind)
        self.synthesis = sphere.InverseRealSHT(space.grid, **kind)
        spins = [spin for spin in (1, 2) if spin <= self.analysis.lmax]
        self.fields = nn.ModuleDict({str(k): sphere.InverseSpinSHT(space.grid, k, **kind) for k in spins})
        self.twofold = sphere.SpinSHT(space.grid, 2, **kind) if 2 in spins else None

    def smoothing(self, turn: float, length: float) -> Tensor:
        """Return factors ``[2,l]`` of a Gaussian with this standard deviation for spins 0 and 2."""
        degree = torch.arange(self.analysis.lmax + 1, dtype=torch.float64)
        rates = [degree * (degree + 1) - spin**2 for spin in (0, 2)]
        return torch.stack([torch.exp(-(length**2) / 2 * rate.clamp_min(0)) for rate in rates])

    def first(self, c: Tensor) -> Tensor:
        """Return the derivatives along theta and phi, ``[2,B,C,...]``."""
        gradient = -self._raised(c, 1)
        return torch.stack((gradient.real, gradient.imag))

    def second(self, c: Tensor) -> Tensor:
        """Return the Hessian along theta, along phi and along both, ``[3,B,C,...]``."""
        degree = _degree(c)
        trace, twofold = self.synthesis(-degree * (degree + 1) * c), self._raised(c, 2)
        return torch.stack(((trace + twofold.real) / 2, (trace - twofold.real) / 2, twofold.imag / 2))

    def gates(self, c: Tensor, smoothing: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first derivatives and the second one along the gradient."""
        first = self.first(c)
        theta, phi = unit_scale(first)
        square = self.synthesis(self.analysis(theta**2 + phi**2) * smoothing[0, :, None])
        turned = torch.complex(theta**2 - phi**2, 2 * theta * phi)
        if self.twofold is not None:
            turned = self.fields["2"](self.twofold(turned) * smoothing[1, :, None])
        return first, along_gradient(self.second(c), square, (turned.real, turned.imag))

    def _raised(self, c: Tensor, spin: int) -> Tensor:
        """Return ``eth^spin u``, a complex field of that spin."""
        if str(spin) not in self.fields:  # a band without such harmonics
            return torch.complex(*[torch.zeros_like(self.synthesis(c))] * 2)
        degree = _degree(c)
        factor = torch.ones_like(degree)
        for k in range(spin):
            factor = factor * ((degree - k) * (degree + k + 1)).clamp_min(0)
        c = torch.cat((c[..., :1].real.to(c.dtype), c[..., 1:]), -1) * factor.sqrt()
        sign = 1 - 2 * (torch.arange(c.shape[-1], device=c.device) % 2)
        negative = (sign * c.conj())[..., 1:].flip(-1)
        return self.fields[str(spin)](torch.cat((negative, c), -1))


def _degree(c: Tensor) -> Tensor:
    return torch.arange(c.shape[-2], dtype=c.real.dtype, device=c.device)[:, None]
