"""Exact solvers in the Fourier domain, for spaces on a regular grid, periodic in the image or the volume.

Diffusion: for each spatial frequency the generator is a small Hermitian matrix over orientations, whose fractional
exponential is exact for band-limited signals (without orientations a number). Convection: phase shifts only. On axes of
even length the Nyquist mode has no sign; products that need one are averaged over both, which keeps real signals real
and rotations by 90 degrees exact.
Source: Duits & Bekkers, Fourier analysis on SE(2), as in Smets et al. (arXiv 2001.09046), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pdegcnn import _fft, _transforms
from pdegcnn._typing import broadcast_tensors, fft
from pdegcnn.ops.matrix_function import fractional_exponential
from pdegcnn.pde.grid_interpolation import turned
from pdegcnn.spaces import GridSpace, PlanarSpace


@_transforms.constants()
def _frequencies(u: Tensor, steps: Sequence[float]) -> tuple[list[Tensor], list[Tensor]]:
    """Return angular frequencies along x, y (and z) on the half space of rfftn, also with Nyquist modes zeroed.

    ``steps`` are lengths of a step along the last axes of u; the frequencies broadcast against these axes.
    """
    count = len(steps)
    all_modes: list[Tensor] = []
    signed: list[Tensor] = []
    for i, (size, step) in enumerate(zip(reversed(u.shape[-count:]), reversed(steps))):
        make = fft.fftfreq if i else fft.rfftfreq
        k = (2 * math.pi / step) * make(size, dtype=u.dtype, device=u.device)
        odd = k.clone()
        if size % 2 == 0:
            odd[size // 2] = 0
        shape = [-1] + [1] * i
        all_modes.append(k.view(shape))
        signed.append(odd.view(shape))
    return all_modes, signed


def _steps(space: GridSpace) -> tuple[float, ...]:
    """Return lengths of steps along the axes that are transformed."""
    return space.grid_steps[1:] if space.is_periodic else space.grid_steps


@_transforms.constants()
def fibre_derivative(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return matrices [Or,Or] of d/dtheta and of -d^2/dtheta^2 for trigonometric interpolation over orientations."""
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
    """Return ``-sum_ij D_ij A_i A_j`` at each frequency: ``[C,...,H,W//2+1,Or,Or]``, Hermitian, positive semi-definite.

    Args:
        u: signal [B,C,P,H,W], for sizes, dtype and device.
        space: the space.
        diffusivity: D [C,dim,dim], the inverse metric.
    """
    modes, odd = _frequencies(u, _steps(space))
    if not isinstance(space, PlanarSpace) or not space.has_orientations:
        d = diffusivity.to(u.dtype).view(-1, *diffusivity.shape[1:], *(1,) * len(modes))
        pairs = [(i, j) for i in range(len(modes)) for j in range(i + 1)]
        parts = [d[:, i, i] * modes[i] ** 2 if i == j else 2 * d[:, i, j] * (odd[i] * odd[j]) for i, j in pairs]
        return torch.stack(broadcast_tensors(*parts)).sum(0)[..., None, None]
    (x, y), (odd_x, odd_y) = modes, odd
    xx, yy, xy = x**2 + 0 * y, y**2 + 0 * x, odd_x * odd_y
    angles = space.angles.to(u)[:, None, None]
    c, s = torch.cos(angles), torch.sin(angles)
    d = diffusivity.to(u.dtype)[:, :, :, None, None, None]
    forward = c**2 * xx + s**2 * yy + 2 * c * s * xy
    lateral = s**2 * xx + c**2 * yy - 2 * c * s * xy
    mixed = c * s * (yy - xx) + (c**2 - s**2) * xy
    along = d[:, 0, 0] * forward + d[:, 1, 1] * lateral + 2 * d[:, 0, 1] * mixed  # [C,Or,H,Wf]
    generator = torch.diag_embed(along.movedim(1, -1))
    first, second = fibre_derivative(space.orientations, u)
    generator = generator + diffusivity[:, 2, 2].to(u.dtype)[:, None, None, None, None] * second
    ahead, aside = c * odd_x + s * odd_y, -s * odd_x + c * odd_y  # [Or,H,Wf]
    tilt = (d[:, 0, 2] * ahead + d[:, 1, 2] * aside).movedim(1, -1)  # [C,H,Wf,Or]
    cross = tilt[..., :, None] * first + first * tilt[..., None, :]
    return torch.complex(generator, -cross)


def diffusion(u: Tensor, space: GridSpace, diffusivity: Tensor, alpha: float | Tensor, time: float) -> Tensor:
    """Return ``exp(-time (-Delta)^alpha) u`` for u [B,C,P,H,W], exact for band-limited periodic signals.

    Over orientations slow modes stand beside fast ones, whose rounding in float32 would be larger than their rates. So
    generators and their exponentials are in float64.
    """
    wide = torch.float64 if space.has_orientations else u.dtype
    like = torch.empty((), dtype=wide, device=u.device).expand(u.shape)
    step = fractional_exponential(diffusion_generator(like, space, diffusivity), alpha, time)
    axes = tuple(range(-len(_steps(space)), 0))
    spectrum = _fft.apply(fft.rfftn, u, dim=axes)
    if space.has_orientations:
        waves = spectrum.movedim(2, -1)[..., None]  # [B,C,H,Wf,Or,1]
        spectrum = (step.to(spectrum.dtype) @ waves)[..., 0].movedim(-1, 2)
    else:
        spectrum = spectrum * step.reshape(len(step), *spectrum.shape[2:])
    return _fft.apply(fft.irfftn, spectrum, s=u.shape[axes[0] :], dim=axes)


def _phase(frequency: Tensor, odd: Tensor, shift: Tensor) -> Tensor:
    """Return ``exp(i frequency shift)``, its real part at the Nyquist mode, where ``odd`` alone is zero."""
    angle = frequency * shift
    return torch.complex(torch.cos(angle), torch.sin(angle) * (odd == frequency))


def convection(u: Tensor, space: GridSpace, vector: Tensor, time: float) -> Tensor:
    """Return ``u(g exp(-time c))`` for u [B,C,P,H,W] and c ``[C,dim]``, exact for what the samples resolve.

    The whole turn, then a shift by the chord: turning first meets only the orders that u has, while a shift makes new
    ones. The step along -c therefore undoes the step only up to these orders; the exact inverse is the adjoint.
    """
    first, rows, columns = space.chord(-time * vector)
    if space.has_orientations:
        u = turned(u, first)
    steps = (1.0,) * len(_steps(space))  # chords are in grid steps
    modes, odd = _frequencies(u, steps)
    shifts = (columns, rows, first[:, None])[: len(steps)]
    shape = (len(vector), -1, *(1,) * 2) if space.is_periodic else (len(vector), *(1,) * 3)
    phases = [_phase(k, o, x.reshape(shape)) for k, o, x in zip(modes, odd, shifts)]
    axes, phase = tuple(range(-len(steps), 0)), phases[0]
    for other in phases[1:]:
        phase = phase * other
    return _fft.apply(fft.irfftn, _fft.apply(fft.rfftn, u, dim=axes) * phase, s=u.shape[axes[0] :], dim=axes)
