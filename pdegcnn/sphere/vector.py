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
    """Return (-1)^m for m = 0..lmax."""
    return 1 - 2 * (torch.arange(c.shape[-1], device=c.device) % 2).to(c.real.dtype)


def _ladder(c: Tensor) -> Tensor:
    """Return sqrt(l (l+1)), [lmax+1, 1]."""
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
    r"""Vector spherical harmonic transform (analysis) of real tangent fields :math:`(v_\theta, v_\varphi)`.

    The field is :math:`v = \nabla f + p \times \nabla g`. The two rows of the result are :math:`\sqrt{l (l+1)}` times
    the orthonormal coefficients of f and g, as in :class:`RealSHT` (l, m >= 0), so the integral of :math:`|v|^2` is the
    sum of their squares. :func:`rotate_coefficients` rotates them as v rotates, to :math:`R v(R^T p)`. Exact to
    rounding on fields band-limited to ``lmax``. float16 and bfloat16 fields are transformed in float32.

    Args:
        grid: a grid with rings.
        lmax: largest degree, at least 1; None: the band of the grid.
        device: where the tables live.
        dtype: real dtype of the fields.

    Shape:
        Real ``[..., 2, *grid.shape]`` -> complex ``[..., 2, lmax+1, lmax+1]``.

    Raises:
        ValueError: for a wrong shape or band.
        TypeError: for a wrong dtype or device.
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
        """Transform a field ``v`` ``[..., 2, *grid.shape]`` to coefficients ``[..., 2, lmax+1, lmax+1]``.

        Args:
            v: real components southwards and eastwards.

        Returns:
            Complex coefficients at (l, m >= 0): of the gradient of f, then of the rotated gradient of g.
        """
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
    r"""Synthesis of a tangent vector field: the inverse of :class:`VectorSHT`, with its conventions and errors.

    Degree 0 and the imaginary part at m = 0 are ignored.

    Args:
        grid: a grid with rings.
        lmax: largest degree, at least 1; None: the band of the grid.
        device: where the tables live.
        dtype: real dtype of the fields.

    Shape:
        Complex ``[..., 2, lmax+1, lmax+1]`` -> real ``[..., 2, *grid.shape]`` of :math:`(v_\theta, v_\varphi)`.
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
        """Transform coefficients ``a`` ``[..., 2, lmax+1, lmax+1]`` to a field ``[..., 2, *grid.shape]``.

        Args:
            a: complex, at (l, m >= 0): of the gradient of f, then of the rotated gradient of g.
        """
        if _pair("a", a).shape[-1] != self.lmax + 1:
            raise ValueError(f"a: expected last axes (2, {self.lmax + 1}, {self.lmax + 1}), got shape {tuple(a.shape)}")
        a = torch.cat([a[..., :1].real.to(a.dtype), a[..., 1:]], -1)
        mirrored = (_alternating(a) * a.conj())[..., 1:].flip(-1)
        first, second = torch.cat([mirrored, a], -1).unbind(-3)
        field = self.spin1(-(first + 1j * second))
        return torch.stack([field.real, field.imag], -1 - len(self.grid.shape))


def gradient(c: Tensor) -> Tensor:
    """Return the coefficients of the gradient (:class:`VectorSHT`) of a function with coefficients ``c``.

    Args:
        c: orthonormal coefficients ``[..., lmax+1, lmax+1]``.

    Returns:
        ``[..., 2, lmax+1, lmax+1]``.
    """
    check_coefficients("c", c)
    return torch.stack([_ladder(c) * c, torch.zeros_like(c)], -3)


def divergence(a: Tensor) -> Tensor:
    r"""Return the coefficients of the divergence (:class:`RealSHT`) of a vector field (:class:`VectorSHT`).

    The divergence is
    :math:`\tfrac{1}{\sin\theta} (\partial_\theta (\sin\theta\, v_\theta) + \partial_\varphi v_\varphi)`; that of a
    gradient is the Laplacian.

    Args:
        a: ``[..., 2, lmax+1, lmax+1]``.

    Returns:
        ``[..., lmax+1, lmax+1]``.
    """
    return -_ladder(_pair("a", a)) * a[..., 0, :, :]


def curl(a: Tensor) -> Tensor:
    r"""Return the coefficients of the radial curl (:class:`RealSHT`) of a vector field (:class:`VectorSHT`).

    The curl :math:`\tfrac{1}{\sin\theta} (\partial_\theta (\sin\theta\, v_\varphi) - \partial_\varphi v_\theta)` is the
    vorticity, positive for counter-clockwise rotation seen from outside.

    Args:
        a: ``[..., 2, lmax+1, lmax+1]``.

    Returns:
        ``[..., lmax+1, lmax+1]``.
    """
    return -_ladder(_pair("a", a)) * a[..., 1, :, :]
