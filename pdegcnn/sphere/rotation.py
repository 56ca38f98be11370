"""Rotations of harmonic coefficients, Wigner matrices and the exchange with e3nn."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import widen
from pdegcnn.sphere import _wigner as wigner
from pdegcnn.sphere._constants import constant


def check_rotation(name: str, value: Tensor) -> Tensor:
    """Return rotation matrices ``[..., 3, 3]``, or raise ``ValueError`` or ``TypeError``."""
    _checks.tensor(name, value)
    if value.ndim < 2 or tuple(value.shape[-2:]) != (3, 3):
        raise ValueError(f"{name}: expected a rotation of shape [..., 3, 3], got shape {tuple(value.shape)}")
    if _checks.has_values(value) and value.numel():
        tolerance = 1e-6 if value.dtype == torch.float64 else 1e-4
        detached = value.detach().double().resolve_neg()
        x, y, z = detached.unbind(-2)
        ones = x.new_ones(3)
        products = torch.stack([x * x, y * y, x * y]) @ ones  # faster than a sum over an axis of three
        wrong = products.reshape(3, -1) - x.new_tensor([[1.0], [1.0], [0.0]])
        error = torch.maximum(wrong.abs().amax(), (torch.linalg.cross(x, y) - z).abs().amax())
        if not error <= tolerance:
            raise ValueError(f"{name}: expected orthogonal matrices of determinant 1, got {detached.flatten()[:9]}")
    return value


MOST = 2**14
"""Highest degree of a Wigner matrix: one of 8 GB."""


def _degree(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"l: expected an int >= 0, got {value!r} of type {type(value).__name__}")
    if not 0 <= value <= MOST:
        raise ValueError(f"l: expected an int from 0 to {MOST}, got {value}")
    return value


def wigner_D(l: int, R: Tensor) -> Tensor:  # noqa: E741, N802, N803
    """Return real Wigner matrices ``[..., 2l+1, 2l+1]`` of rotations, in e3nn's basis (whose polar axis is y).

    They equal ``e3nn.o3.Irrep(l, 1).D_from_matrix(R)``; for l = 1 this is ``R``. They are computed as
    :math:`Z(a) J Z(b) J^T Z(c)` in float64 whatever the default dtype and returned in the dtype of ``R``. A float32
    ``R`` is orthogonal to 1e-7 only: D belongs to the angles read from it. The gradient is tangent to the rotations and
    finite everywhere.

    Args:
        l: degree.
        R: rotation matrices ``[..., 3, 3]``.

    Raises:
        ValueError: if ``R`` is not a rotation.

    Example:
        >>> import torch, pdegcnn as pg
        >>> torch.allclose(pg.sphere.wigner_D(1, torch.eye(3)), torch.eye(3), atol=1e-6)
        True
    """
    degree, rotation = _degree(l), check_rotation("R", R).double()
    # e3nn's coordinates (y, z, x) of a vector (x, y, z) of ours.
    ours = torch.cat([rotation[..., 2:, :], rotation[..., :2, :]], -2)
    ours = torch.cat([ours[..., 2:], ours[..., :2]], -1)
    return wigner.matrix(degree, ours, R.dtype)


def wigner_d(l: int, beta: Tensor) -> Tensor:  # noqa: E741
    r"""Return real Wigner matrices ``[..., 2l+1, 2l+1]`` of rotations about the second Euler axis.

    In e3nn's basis this is its x axis: D of :math:`R = Y(a) X(b) Y(c)` is :math:`D(Y(a))\, d(b)\, D(Y(c))`. Computed in
    float64 and returned in the dtype of ``beta``.

    Args:
        l: degree.
        beta: angles ``[...]`` in radians.
    """
    degree = _degree(l)
    angle = _checks.tensor("beta", beta).double()
    if _checks.has_values(angle) and not bool(angle.isfinite().all()):
        raise ValueError(f"beta: expected finite angles, got {angle.detach().flatten()[:8].tolist()}")
    return wigner.euler_matrix(degree, torch.zeros_like(angle), angle, torch.zeros_like(angle), beta.dtype)


def check_coefficients(name: str, c: Tensor) -> Tensor:
    """Raise unless ``c`` is complex [..., lmax+1, lmax+1]."""
    if not isinstance(c, Tensor) or not c.is_complex():
        raise TypeError(f"{name}: expected a complex torch.Tensor, got {getattr(c, 'dtype', type(c).__name__)}")
    if c.ndim < 2 or c.shape[-1] != c.shape[-2] or c.shape[-1] == 0:
        raise ValueError(f"{name}: expected shape [..., lmax+1, lmax+1] indexed (l, m), got {tuple(c.shape)}")
    return c


def _orders(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order m >= 0, whether it is a negative one, and place in (l, m, re/im) of each of the size^2 irreps' entries."""
    degree = np.repeat(np.arange(size), 2 * np.arange(size) + 1)
    order = np.arange(size * size) - degree * (degree + 1)
    return abs(order), order < 0, 2 * (size * degree + abs(order)) + (order < 0)


@constant
def _places(size: int) -> np.ndarray:
    """Place in (l, m, re/im) of each irreps' entry, [size^2]."""
    return _orders(size)[2]


@constant
def _factors(size: int) -> np.ndarray:
    """Return the factor to the irreps' entries, [size^2]."""
    m, negative, _ = _orders(size)
    return np.where(m == 0, 1.0, (1.0 - 2 * (m % 2)) * (1 - 2 * negative) * math.sqrt(2))


@constant
def _back_places(size: int) -> np.ndarray:
    """Return the entry of the irreps for each of (l, m, re/im), [2 size^2]; 0 where there is none."""
    back = np.zeros(2 * size * size, dtype=np.int64)
    back[_orders(size)[2]] = np.arange(size * size)
    return back


@constant
def _back_factors(size: int) -> np.ndarray:
    """Return the factor to (l, m, re/im), [2 size^2]; 0 where there is no entry."""
    m, negative, places = _orders(size)
    back = np.zeros(2 * size * size)
    back[places] = np.where(m == 0, 1.0, (1.0 - 2 * (m % 2)) * (1 - 2 * negative) * math.sqrt(0.5))
    return back


def to_e3nn(c: Tensor) -> Tensor:
    """Convert orthonormal coefficients to e3nn irreps 0e + 1o + 2e + ....

    The result multiplies e3nn's spherical harmonics with ``normalization="integral"`` at the vector (y, z, x), because
    e3nn's polar axis is its second one. Imaginary parts at m = 0 are dropped.

    Args:
        c: orthonormal coefficients ``[..., lmax+1, lmax+1]``.

    Returns:
        ``[..., (lmax+1)^2]``.
    """
    check_coefficients("c", c)
    size, dtype = c.shape[-1], c.real.dtype
    parts = torch.view_as_real(c.resolve_conj()).flatten(-3)[..., _places(size, c.device)]
    return parts * _factors(size, c.device).to(dtype)


def from_e3nn(x: Tensor) -> Tensor:
    """Convert e3nn irreps ``[..., (lmax+1)^2]`` to complex coefficients: the inverse of :func:`to_e3nn`.

    Args:
        x: irreps 0e + 1o + 2e + ..., ``[..., (lmax+1)^2]``.

    Returns:
        Orthonormal coefficients ``[..., lmax+1, lmax+1]``.
    """
    _checks.tensor("x", x)
    size = round(x.shape[-1] ** 0.5) if x.ndim else 0
    if size == 0 or size * size != x.shape[-1]:
        raise ValueError(f"x: expected a last axis of length (lmax+1)^2, got shape {tuple(x.shape)}")
    x = widen(x)
    parts = x[..., _back_places(size, x.device)] * _back_factors(size, x.device).to(x.dtype)
    return torch.view_as_complex(parts.unflatten(-1, (size, size, 2)))


def rotate_coefficients(c: Tensor, R: Tensor) -> Tensor:  # noqa: N803
    """Rotate a signal by its coefficients: the inverse transform of the result is :math:`f(R^T p)`.

    Exact to rounding, in :math:`O(l_{max}^3)`; computed in float64 and returned in the dtype of ``c``.

    Args:
        c: coefficients ``[..., lmax+1, lmax+1]`` with norm orthonormal, 4pi or schmidt.
        R: one rotation matrix ``[3,3]`` that acts on (x, y, z).

    Raises:
        ValueError: if R is not a rotation.
    """
    check_coefficients("c", c)
    if not isinstance(R, Tensor) or tuple(R.shape) != (3, 3):
        raise ValueError(f"R: expected a tensor of shape (3, 3), got {getattr(R, 'shape', type(R).__name__)}")
    if R.is_meta or c.is_meta:
        raise ValueError(f"{'R' if R.is_meta else 'c'}: expected a device with values, got meta")
    rotation = check_rotation("R", R).double().to(c.device)
    rows = to_e3nn(c.to(torch.complex128)).split([2 * degree + 1 for degree in range(c.shape[-1])], -1)
    if rotation.requires_grad or _transforms.differentiated(rotation):
        turned = [row @ wigner.matrix(degree, rotation, torch.float64).mT for degree, row in enumerate(rows)]
    else:
        angles = wigner.euler_zyz(rotation)
        turned = [wigner.apply_rotation(row, angles) for row in rows]
    return from_e3nn(torch.cat(turned, -1)).to(c.dtype)
