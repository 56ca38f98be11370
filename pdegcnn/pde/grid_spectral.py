"""Exact solvers in the Fourier domain, for spaces on a regular grid, periodic in the image.

Diffusion: for each spatial frequency the generator is a small Hermitian matrix over orientations, whose fractional
exponential is exact for band-limited signals. Convection: phase shifts only. On axes of even length the Nyquist mode
has no sign; products that need one are averaged over both, which keeps real signals real and rotations by 90 degrees
exact.
Source: Duits & Bekkers, Fourier analysis on SE(2), as in Smets et al. (arXiv 2001.09046), section 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pdegcnn import _fft, _transforms
from pdegcnn._typing import fft
from pdegcnn.ops.matrix_function import fractional_exponential
from pdegcnn.pde.grid_interpolation import turned
from pdegcnn.spaces import GridSpace


@_transforms.constants()
def _frequencies(u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Angular frequencies (x, y) on the half plane of rfft2, and the same with the signless Nyquist modes zeroed."""
    height, width = u.shape[-2:]
    x = 2 * math.pi * fft.rfftfreq(width, dtype=u.dtype, device=u.device)
    y = 2 * math.pi * fft.fftfreq(height, dtype=u.dtype, device=u.device)
    odd_x, odd_y = x.clone(), y.clone()
    if width % 2 == 0:
        odd_x[-1] = 0
    if height % 2 == 0:
        odd_y[height // 2] = 0
    return x[None, :], y[:, None], odd_x[None, :], odd_y[:, None]


@_transforms.constants()
def fibre_derivative(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices [Or,Or] of d/dtheta and of -d^2/dtheta^2 for trigonometric interpolation over orientations."""
    n = fft.fftfreq(count, d=1 / count, dtype=like.dtype, device=like.device)
    odd = n.clone()
    if count % 2 == 0:
        odd[count // 2] = 0
    eye = torch.eye(count, dtype=like.dtype, device=like.device)
    modes = fft.fft(eye, dim=0)
    first = fft.ifft(1j * odd[:, None] * modes, dim=0).real
    second = fft.ifft((n**2)[:, None] * modes, dim=0).real
    return first, second


def diffusion_generator(u: Tensor, space: GridSpace, diffusivity: Tensor) -> Tensor:
    """``-sum_ij D_ij A_i A_j`` for each spatial frequency: ``[C,H,W//2+1,Or,Or]``, Hermitian, positive semi-definite.

    Args:
        u: signal [B,C,Or,H,W], for sizes, dtype and device.
        space: the space.
        diffusivity: D [C,dim,dim], the inverse metric.
    """
    x, y, odd_x, odd_y = _frequencies(u)
    xx, yy, xy = x**2 + 0 * y, y**2 + 0 * x, odd_x * odd_y
    angles = space.angles.to(u)[:, None, None]
    c, s = torch.cos(angles), torch.sin(angles)
    d = diffusivity.to(u.dtype)[:, :, :, None, None, None]
    forward = c**2 * xx + s**2 * yy + 2 * c * s * xy
    lateral = s**2 * xx + c**2 * yy - 2 * c * s * xy
    mixed = c * s * (yy - xx) + (c**2 - s**2) * xy
    along = d[:, 0, 0] * forward + d[:, 1, 1] * lateral + 2 * d[:, 0, 1] * mixed  # [C,Or,H,Wf]
    generator = torch.diag_embed(along.movedim(1, -1))
    if space.dim == 2:
        return generator
    first, second = fibre_derivative(space.orientations, u)
    generator = generator + diffusivity[:, 2, 2].to(u.dtype)[:, None, None, None, None] * second
    ahead, aside = c * odd_x + s * odd_y, -s * odd_x + c * odd_y  # [Or,H,Wf]
    tilt = (d[:, 0, 2] * ahead + d[:, 1, 2] * aside).movedim(1, -1)  # [C,H,Wf,Or]
    cross = tilt[..., :, None] * first + first * tilt[..., None, :]
    return torch.complex(generator, -cross)


def diffusion(u: Tensor, space: GridSpace, diffusivity: Tensor, alpha: float | Tensor, time: float) -> Tensor:
    """``exp(-time (-Delta)^alpha) u`` for u [B,C,Or,H,W], exact for band-limited periodic signals."""
    step = fractional_exponential(diffusion_generator(u, space, diffusivity), alpha, time)
    spectrum = _fft.apply(fft.rfft2, u).movedim(2, -1)[..., None]  # [B,C,H,Wf,Or,1]
    spectrum = (step.to(spectrum.dtype) @ spectrum)[..., 0].movedim(-1, 2)
    return _fft.apply(fft.irfft2, spectrum, s=u.shape[-2:])


def _phase(frequency: Tensor, shift: Tensor, nyquist: bool, dim: int) -> Tensor:
    """``exp(i frequency shift)``, its real part at the Nyquist mode of axis ``dim``."""
    angle = frequency * shift
    imaginary = torch.sin(angle)
    if nyquist:
        keep = torch.ones(angle.shape[dim], dtype=angle.dtype, device=angle.device)
        keep[angle.shape[dim] // 2 if dim == -2 else -1] = 0
        imaginary = imaginary * (keep[:, None] if dim == -2 else keep)
    return torch.complex(torch.cos(angle), imaginary)


def convection(u: Tensor, space: GridSpace, vector: Tensor, time: float) -> Tensor:
    """``u(g exp(-time c))`` for u [B,C,Or,H,W] and c ``[C,dim]``, exact for what the samples resolve.

    The whole turn, then a shift by the chord: turning first meets only the orders that u has, while a shift makes new
    ones. So the step along -c undoes the step only up to what the shift made; the exact inverse is the adjoint.
    """
    step = -time * vector
    if space.dim == 3:
        u = turned(u, step[:, 2] * (space.orientations / (2 * math.pi)))
    rows, columns = space.chord(step)
    x, y, _, _ = _frequencies(u)
    dx, dy = columns[..., None, None], rows[..., None, None]
    phase = _phase(x, dx, u.shape[-1] % 2 == 0, -1) * _phase(y, dy, u.shape[-2] % 2 == 0, -2)
    return _fft.apply(fft.irfft2, _fft.apply(fft.rfft2, u) * phase, s=u.shape[-2:])
