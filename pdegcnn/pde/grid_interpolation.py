"""Values of grid signals between samples: trigonometric between orientations, cubic between pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn.ops.convection import convection as linear_shift
from pdegcnn.ops.padding import pad

MARGIN = 2
"""Pixels around the image within which sharpening changes what lies outside."""


def turning_matrix(count: int, steps: Tensor) -> Tensor:
    """Return matrices ``[..., Or, Or]`` that read a signal ``steps [...]`` orientations further.

    By trigonometric interpolation. The Nyquist mode of an even number has no sign; it is multiplied by the cosine of
    its phase.
    """
    index = torch.arange(count, dtype=steps.dtype, device=steps.device)
    apart = index[:, None] - index + steps[..., None, None]
    order = torch.arange(1, (count - 1) // 2 + 1, dtype=steps.dtype, device=steps.device)
    waves = 1 + 2 * torch.cos(apart[..., None] * order * (2 * math.pi / count)).sum(-1)
    if count % 2 == 0:
        waves = waves + torch.cos(math.pi * (index[:, None] - index)) * torch.cos(math.pi * steps)[..., None, None]
    return waves / count


def finer_matrix(count: int, finer: int) -> Tensor:
    """Return the float64 matrix ``[finer, count]`` that reads ``count`` orientations at ``finer`` of them."""
    return turning_matrix(count, torch.arange(finer, dtype=torch.float64, device="cpu") * (count / finer))[:, 0]


def coarser_matrix(count: int, finer: int) -> Tensor:
    """Return the float64 matrix ``[count, finer]`` that reads ``finer`` orientations at ``count`` of them.

    It leaves out the orders above ``(count - 1) // 2``, which alias to lower ones on ``count`` orientations.
    """
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64, device="cpu") / count
    apart = angle[:, None] - 2 * math.pi * torch.arange(finer, dtype=torch.float64, device="cpu") / finer
    order = torch.arange(1, (count - 1) // 2 + 1, dtype=torch.float64, device="cpu")
    return (1 + 2 * torch.cos(apart[..., None] * order).sum(-1)) / finer


def turned(u: Tensor, steps: Tensor) -> Tensor:
    """Return u [B,C,Or,H,W] at ``steps [C]`` (or one number for all) orientations further."""
    matrix = turning_matrix(u.shape[2], steps)
    return (matrix @ u.flatten(3)).view(u.shape)


def shifted(u: Tensor, rows: Tensor, columns: Tensor, padding_mode: str) -> Tensor:
    """Return u [B,C,Or,H,W] at ``(h + rows, w + columns)``, shifts ``[C,Or]`` in pixels, by cubic convolution.

    Cubic convolution is linear interpolation of a sharpened signal, ``u - f (1 - f) / 2 * u''`` with the second
    difference ``u''`` and the fraction f of the shift, along each axis. It is exact for polynomials of degree two, and
    its derivative in the shift is continuous. Source: Keys, *Cubic convolution interpolation for digital image
    processing*, IEEE Trans. ASSP 29 (1981).
    """
    margin = 0 if padding_mode == "periodic" else MARGIN
    shift = torch.stack((torch.zeros_like(rows), rows, columns), dim=-1)
    down, right = _sharpening(shift[..., 1:] - shift[..., 1:].detach().floor()).unbind(-2)
    kernel = (down[..., :, None] * right[..., None, :]).flatten(0, 1)[:, None]  # [C*Or,1,3,3]
    wide = pad(u, margin + 1, margin + 1, padding_mode).flatten(1, 2)
    sharp = torch.unflatten(F.conv2d(wide, kernel, groups=len(kernel)), 1, u.shape[1:3])
    moved = linear_shift(sharp, shift, padding_mode)
    return moved[..., margin : margin + u.shape[-2], margin : margin + u.shape[-1]]


def shifted_slices(u: Tensor, slices: Tensor, padding_mode: str, method: str = "cubic") -> Tensor:
    """Return volumes u [B,C,D,H,W] at ``d + slices [C]``, by cubic convolution or by linear interpolation."""
    lines, along = u.flatten(3).unsqueeze(2), slices[:, None]
    still = torch.zeros_like(along)
    if method == "linear":
        moved = linear_shift(lines, torch.stack((still, along, still), dim=-1), padding_mode)
    else:
        moved = shifted(lines, along, still, padding_mode)
    return moved.reshape(u.shape)


def _sharpening(f: Tensor) -> Tensor:
    """Return weights ``[...,3]`` that undo what linear interpolation at fractions f damps."""
    bend = f * (1 - f) / 2
    return torch.stack((-bend, 1 + 2 * bend, -bend), dim=-1)
