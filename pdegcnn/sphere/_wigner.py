"""Real Wigner matrices for any degree; angles and constants in float64."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.sphere._constants import constant
from pdegcnn.sphere._legendre import Array

_TABLED = 32
"""Up to this degree the matrix of the second Euler angle comes from one product with a table (2 MiB at most)."""


def _real_from_complex(degree: int) -> np.ndarray:
    """Return the matrix A with S_i = sum_m A_im Y_lm: the real harmonics (no Condon-Shortley phase), orders -l..l."""
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


@constant
def quarter_turn(degree: int) -> np.ndarray:
    """Return J [2l+1, 2l+1], float64: the real matrix of the rotation by -pi/2 about x, which maps z to y.

    From the eigenvectors of the tridiagonal angular momentum J_x, so that no recurrence limits the degree.
    """
    return _quarter_turn(degree)


@constant
def _generators(degree: int) -> Array:
    """Return derivatives [3, 2l+1, 2l+1] at the identity of the matrices of rotations about x, y, z."""
    turn, m = _quarter_turn(degree), np.arange(-degree, degree + 1)
    about_z = np.diag(-m.astype(np.float64))[:, ::-1]
    about_y = turn @ about_z @ turn.T
    return np.stack([about_y @ about_z - about_z @ about_y, about_y, about_z])


@constant
def _tilt_table(degree: int) -> Array:
    """Return coefficients [2l+1, l+1, 2l+1, 2] of J Z(b) J^T in cos(kb), k = 0..l, and sin(kb), k = 1..l.

    A rotation about y does not mix cosine and sine harmonics: the two blocks (last axis) at (|i|, |j|), with columns
    j = -l..l and the signs that `euler_matrix` needs.
    """
    turn, size = _quarter_turn(degree), degree + 1
    out = np.zeros((2 * degree + 1, 2, size, 2 * degree + 1))
    columns = abs(np.arange(-degree, size))
    for k in range(size):
        plus, minus = turn[:, degree + k], turn[:, degree - k]
        even = np.outer(plus, plus) + (np.outer(minus, minus) if k else 0.0)
        odd = np.outer(minus, plus) - np.outer(plus, minus)
        for row, whole in ((k, even), *(((degree + k, odd),) if k else ())):
            cosine, sine = whole[degree:, degree:], whole[degree::-1, degree::-1]
            out[row, 0], out[row, 1] = cosine[:, columns], sine[:, columns]
    out[:, 1, 0], out[:, 1, :, degree] = 0.0, 0.0
    out[:, 0, :, :degree] *= -1  # turning about the pole by c takes columns j < 0 of this block with -sin |j|c
    return np.ascontiguousarray(np.moveaxis(out, 1, 3))


@constant
def _phases(degree: int) -> Array:
    """Return factors and shifts [2, 2l+1] of an angle t whose cosines are cos kt, k = 0..l, and sin kt, k = 1..l."""
    k = np.arange(degree + 1)
    shift = np.where(np.arange(2 * degree + 1) > degree, 0.5 * np.pi, 0.0)
    return np.stack([np.concatenate([k, k[1:]]).astype(np.float64), shift])


@constant
def _picked(degree: int) -> np.ndarray:
    """Return which of these the columns j of both blocks take, [2 (2l+1)], for j < 0 sin |j|c and cos jc in turn.

    For j > 0 they take cos jc and sin jc.
    """
    j = np.arange(-degree, degree + 1)
    return np.stack([np.where(j < 0, degree - j, j), np.where(j < 0, -j, degree + j)], -1).reshape(-1)


@constant
def _entries(degree: int) -> np.ndarray:
    """Return where the entries (i, j) of D lie in [l+1, 2l+1, 2], [(2l+1)^2]: at |i|, j, and last for i < 0."""
    i, j = np.arange(-degree, degree + 1)[:, None], np.arange(2 * degree + 1)
    return (2 * (abs(i) * len(j) + j) + (i < 0)).reshape(-1)


def turn_about_pole(c: Tensor, angle: Tensor) -> Tensor:
    """Rotate real coefficients ``c`` [..., 2l+1] about z by ``angle`` [...] (radians)."""
    degree = c.shape[-1] // 2
    m = torch.arange(-degree, degree + 1, dtype=angle.dtype, device=angle.device)
    phase = angle[..., None] * m
    return phase.cos() * c - phase.sin() * c.flip(-1)


def euler_zyz(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return angles (a, b, c), each [...], with rotation [..., 3, 3] = Rz(a) Ry(b) Rz(c).

    They are accurate at the poles b = 0, pi.

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


def euler_matrix(degree: int, a: Tensor, b: Tensor, c: Tensor, dtype: torch.dtype) -> Tensor:
    """Return D^l(Rz(a) Ry(b) Rz(c)) = Z(a) J Z(b) J^T Z(c), [..., 2l+1, 2l+1] in ``dtype``, of float64 angles."""
    if degree > _TABLED:
        rows = torch.eye(2 * degree + 1, dtype=torch.float64, device=b.device)
        return apply_rotation(rows, (a[..., None], b[..., None], c[..., None])).mT.to(dtype)
    (orders, shift), picked = _phases(degree, b.device), _picked(degree, b.device)
    work = torch.float64 if dtype == torch.float64 else torch.float32
    turns = torch.stack([b, c, a], -1)[..., None].mul(orders).sub(shift).cos().to(work)
    around_b, around_c, around_a = turns.unbind(-2)
    tilt = around_b @ _tilt_table(degree, b.device).to(work).flatten(1)
    blocks = tilt.unflatten(-1, (degree + 1, -1)) * around_c.index_select(-1, picked)[..., None, :]
    # Rows i and -i are real and imaginary part of (cosine + i sine block) exp(i |i|a); the sine block has no row 0, so
    # the imaginary factor there does not matter.
    turn = torch.complex(around_a[..., : degree + 1], around_a[..., degree:])[..., None]
    rows = torch.view_as_real(torch.view_as_complex(blocks.unflatten(-1, (-1, 2))) * turn)
    entries = rows.flatten(-3).index_select(-1, _entries(degree, b.device))
    return entries.unflatten(-1, (2 * degree + 1, -1)).to(dtype)


class _Matrix(torch.autograd.Function):
    """D^l of rotations about the polar axis z, differentiated as D(R exp(w)) = D(R) (1 + w . generators).

    So the gradient has no singularity where Euler angles have; it is the one tangent to the rotations.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(rotation: Tensor, degree: int, dtype: torch.dtype) -> Tensor:
        return euler_matrix(degree, *euler_zyz(rotation), dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, torch.dtype], output: Tensor) -> None:
        ctx.degree = inputs[1]
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        _transforms.refuse_batches("wigner_D, rotate_coefficients", *grads)
        rotation, matrix = ctx.saved_tensors
        generators = _generators(ctx.degree, matrix.device).to(matrix.dtype)
        turns = torch.einsum("...ij,kij->...k", matrix.mT @ grads[0], generators).to(rotation.dtype)
        x, y, z = (0.5 * turns).unbind(-1)
        zero = torch.zeros_like(x)
        hat = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
        return rotation @ hat, None, None


def _around(degree: int, rotation: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the same by plain torch, about the rotation itself: D(R exp(w)) = D(R) exp(w . generators), here at w = 0.

    Derivatives up to the eighth are right, those that leave the rotations zero.
    """
    here = rotation.detach()
    turn = here.mT @ rotation
    odd = (turn - turn.mT) / 2
    sine = torch.stack([odd[..., 2, 1], odd[..., 0, 2], odd[..., 1, 0]], -1)
    square = (sine * sine).sum(-1, keepdim=True)
    vector = sine * (1 + square / 6 + 3 * square**2 / 40 + 5 * square**3 / 112)  # times arcsin(s)/s
    generator = torch.tensordot(vector, _generators(degree, rotation.device), 1)
    return (euler_matrix(degree, *euler_zyz(here), torch.float64) @ torch.linalg.matrix_exp(generator)).to(dtype)


def matrix(degree: int, rotation: Tensor, dtype: torch.dtype) -> Tensor:
    """Return D^l [..., 2l+1, 2l+1] in ``dtype`` of float64 rotations [..., 3, 3]; real harmonics, polar axis z."""
    if _transforms.differentiated(rotation):
        return _around(degree, rotation, dtype)
    if not rotation.requires_grad:
        return euler_matrix(degree, *euler_zyz(rotation), dtype)
    return _Matrix.apply(rotation, degree, dtype)  # type: ignore[return-value]
