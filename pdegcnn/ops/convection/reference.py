"""Specification of the convection operator: trilinear sampling at per-channel, per-orientation shifts."""

from __future__ import annotations

import torch
from torch import Tensor


def _shift_axis(u: Tensor, shift: Tensor, dim: int, boundary: str) -> Tensor:
    """Interpolate u [B,C,Or,H,W] linearly at index + shift along ``dim``; ``shift`` is [C,Or]."""
    size = u.shape[dim]
    whole = shift.detach().floor()
    fraction = (shift - whole)[None, :, :, None, None]
    line = [1] * 5
    line[dim] = size
    first = torch.arange(size, device=u.device).view(line) + whole.long()[None, :, :, None, None]
    values: list[Tensor] = []
    for index in (first, first + 1):
        inside = (index >= 0) & (index < size)
        place = index % size if boundary == "periodic" else index.clamp(0, size - 1)
        value = torch.gather(u, dim, place.expand(u.shape))
        values.append(value * inside if boundary == "zeros" else value)
    return (1 - fraction) * values[0] + fraction * values[1]


def convection(u: Tensor, shift: Tensor, boundary: str = "replicate") -> Tensor:
    """Return the value of u [B,C,Or,H,W] at ``(o + s0, h + s1, w + s2)``, trilinear.

    ``shift`` [C,Or,3] holds, per channel and output orientation, the step in orientation indices (periodic), rows
    and columns. ``boundary`` says what lies outside the image: ``"zeros"``, ``"replicate"`` or ``"periodic"``.
    The gradient in ``shift`` is that of the interpolation (one-sided at whole shifts: the cell to the right).
    """
    turned = _shift_axis(u, shift[..., 0], 2, "periodic")
    return _shift_axis(_shift_axis(turned, shift[..., 1], 3, boundary), shift[..., 2], 4, boundary)
