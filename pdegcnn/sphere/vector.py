"""Tangent vector fields: their harmonic transforms, and gradient, divergence and curl on coefficients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._dtypes import widen
from pdegcnn.sphere.grid import SphereGrid
from pdegcnn.sphere.rotation import check_coefficients
from pdegcnn.sphere.spin import InverseSpinSHT, SpinSHT


def _alternating(c: Tensor) -> Tensor:
    """(-1)^m for m = 0..lmax."""
    return 1 - 2 * (torch.arange(c.shape[-1], device=c.device) % 2).to(c.real.dtype)


def _ladder(c: Tensor) -> Tensor:
    """sqrt(l (l+1)), [lmax+1, 1]."""
    degree = torch.arange(c.shape[-2], dtype=torch.float64, device=c.device)[:, None]
    return (degree * (degree + 1)).sqrt().to(c.real.dtype)


def _pair(name: str, a: Tensor) -> Tensor:
    check_coefficients(name, a)
    if a.ndim < 3 or a.shape[-3] != 2:
        raise ValueError(f"{name}: expected shape [..., 2, lmax+1, lmax+1] of a vector field, got {tuple(a.shape)}")
    return a


class _VectorTransform(nn.Module):
    """The spin-1 transform of v_theta + i v_phi, and the shape of fields."""

    def __init__(self, transform: SpinSHT | InverseSpinSHT) -> None:
        super().__init__()
        self.spin1 = transform

    @property
    def grid(self) -> SphereGrid:
        """The grid of the fields."""
        return self.spin1.grid

    @property
    def lmax(self) -> int:
        """The largest degree."""
        return self.spin1.lmax


class VectorSHT(_VectorTransform):
    """Analysis: real field [..., 2, *grid.shape] of (v_theta, v_phi) to complex [..., 2, lmax+1, lmax+1].

    v = grad f + p x grad g, with f and g as `RealSHT` has them (l, m >= 0); the two rows hold sqrt(l (l+1)) times the
    orthonormal coefficients of f and of g, so that the integral of |v|^2 is the sum of their squares. They turn with
    `rotate_coefficients` as v does, R v(R^T p). Exact to rounding on fields band-limited to ``lmax`` >= 1.

    float16 and bfloat16 fields are transformed in float32. Raises ValueError on a wrong shape or band, TypeError on a
    wrong dtype or device.

    Args:
        grid: a grid with rings.
        lmax: largest degree, at least 1; the band of the grid by default.
    """

    def __init__(
        self,
        grid: SphereGrid,
        lmax: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(SpinSHT(grid, 1, lmax, device=device, dtype=dtype))

    def forward(self, v: Tensor) -> Tensor:
        """Transform ``v`` [..., 2, *grid.shape]."""
        _checks.tensor("v", v)
        shape = (2, *self.grid.shape)
        if tuple(v.shape[-len(shape) :]) != shape:
            raise ValueError(f"v: expected last axes {shape} of (v_theta, v_phi), got shape {tuple(v.shape)}")
        v = widen(v)
        self.spin1.check_kind("v", v)
        theta, phi = v.unbind(-len(shape))
        a = self.spin1(torch.complex(theta, phi))
        plus = a[..., self.lmax :]
        minus = _alternating(plus) * a[..., : self.lmax + 1].flip(-1).conj()
        # v_theta + i v_phi = -eth (f + i g), so a = -(first + i second) with all orders.
        return torch.stack([-0.5 * (plus + minus), 0.5j * (plus - minus)], -3)


class InverseVectorSHT(_VectorTransform):
    """Synthesis: complex [..., 2, lmax+1, lmax+1] to the real field [..., 2, *grid.shape] of (v_theta, v_phi).

    The inverse of `VectorSHT` (see there for conventions and errors); degree 0 is ignored, as is the imaginary part at
    m = 0.

    Args:
        grid: a grid with rings.
        lmax: largest degree, at least 1; the band of the grid by default.
    """

    def __init__(
        self,
        grid: SphereGrid,
        lmax: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(InverseSpinSHT(grid, 1, lmax, device=device, dtype=dtype))

    def forward(self, a: Tensor) -> Tensor:
        """Transform ``a`` [..., 2, lmax+1, lmax+1]."""
        if _pair("a", a).shape[-1] != self.lmax + 1:
            raise ValueError(f"a: expected last axes (2, {self.lmax + 1}, {self.lmax + 1}), got shape {tuple(a.shape)}")
        a = torch.cat([a[..., :1].real.to(a.dtype), a[..., 1:]], -1)
        mirrored = (_alternating(a) * a.conj())[..., 1:].flip(-1)
        first, second = torch.cat([mirrored, a], -1).unbind(-3)
        field = self.spin1(-(first + 1j * second))
        return torch.stack([field.real, field.imag], -1 - len(self.grid.shape))


def gradient(c: Tensor) -> Tensor:
    """Orthonormal coefficients [..., lmax+1, lmax+1] of f to those of its gradient (`VectorSHT`)."""
    check_coefficients("c", c)
    return torch.stack([_ladder(c) * c, torch.zeros_like(c)], -3)


def divergence(a: Tensor) -> Tensor:
    """Coefficients [..., 2, lmax+1, lmax+1] of a field (`VectorSHT`) to those of its divergence (`RealSHT`).

    (1/sin theta) (d_theta (sin theta v_theta) + d_phi v_phi); of a gradient: the Laplacian.
    """
    return -_ladder(_pair("a", a)) * a[..., 0, :, :]


def curl(a: Tensor) -> Tensor:
    """Coefficients [..., 2, lmax+1, lmax+1] of a field (`VectorSHT`) to those of its radial curl (`RealSHT`).

    (1/sin theta) (d_theta (sin theta v_phi) - d_phi v_theta): the vorticity, positive when turning counter-clockwise
    seen from outside.
    """
    return -_ladder(_pair("a", a)) * a[..., 1, :, :]
