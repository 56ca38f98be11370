"""Real Wigner matrices for any degree, in float64."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor


def _real_from_complex(degree: int) -> np.ndarray:
    """Matrix A with S_i = sum_m A_im Y_lm: the real harmonics (no Condon-Shortley phase), orders -l..l."""
    a = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    a[degree, degree] = 1
    for m in range(1, degree + 1):
        sign, root = (-1.0) ** m, np.sqrt(0.5)
        a[degree + m, degree + m], a[degree + m, degree - m] = sign * root, root
        a[degree - m, degree + m], a[degree - m, degree - m] = -1j * sign * root, 1j * root
    return a


@functools.lru_cache(maxsize=1024)
def _quarter_turn(degree: int) -> np.ndarray:
    m = np.arange(-degree, degree)
    ladder = 0.5 * np.sqrt(degree * (degree + 1.0) - m * (m + 1.0))
    values, vectors = np.linalg.eigh(np.diag(ladder, 1) + np.diag(ladder, -1))
    turn = (vectors * np.exp(0.5j * np.pi * np.round(values))) @ vectors.T
    a = _real_from_complex(degree)
    return np.ascontiguousarray((a.conj() @ turn @ a.T).real)


def quarter_turn(degree: int, device: torch.device | None = None) -> Tensor:
    """J [2l+1, 2l+1], float64: the real matrix of the rotation by -pi/2 about x, which takes the z axis to the y axis.

    From the eigenvectors of the tridiagonal angular momentum J_x, so that no recurrence limits the degree.
    """
    return torch.tensor(_quarter_turn(degree), device=device)


def turn_about_pole(c: Tensor, angle: Tensor) -> Tensor:
    """Rotate real coefficients ``c`` [..., 2l+1] about z by ``angle`` [...] (radians)."""
    degree = c.shape[-1] // 2
    m = torch.arange(-degree, degree + 1, dtype=angle.dtype, device=angle.device)
    phase = angle[..., None] * m
    return phase.cos() * c - phase.sin() * c.flip(-1)


def euler_zyz(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Angles (a, b, c), each [...], with rotation [..., 3, 3] = Rz(a) Ry(b) Rz(c); accurate at the poles b = 0, pi.

    The third angle is read after undoing the first, so their sum keeps full accuracy where each alone is undefined.
    """
    a = torch.atan2(rotation[..., 1, 2], rotation[..., 0, 2])
    cos, sin = a.cos(), a.sin()
    b = torch.atan2(cos * rotation[..., 0, 2] + sin * rotation[..., 1, 2], rotation[..., 2, 2])
    row = cos[..., None] * rotation[..., 1, :] - sin[..., None] * rotation[..., 0, :]
    return a, b, torch.atan2(row[..., 0], row[..., 1])


def apply_rotation(c: Tensor, angles: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Apply D^l(Rz(a) Ry(b) Rz(c)) to real coefficients ``c`` [..., 2l+1], float64, without forming D."""
    turn = quarter_turn(c.shape[-1] // 2, c.device)
    c = turn_about_pole(c, angles[2]) @ turn
    return turn_about_pole(turn_about_pole(c, angles[1]) @ turn.mT, angles[0])
