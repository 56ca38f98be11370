"""Layout of spin fields for the gather, and mixing of their channels before it."""

from __future__ import annotations

import torch
from torch import Tensor


def to_rows(field: Tensor) -> Tensor:
    """Rearrange ``[B,C,V]`` to rows of reals: ``[B,V,C]``, or ``[B,V,2,C]`` for complex fields."""
    if field.is_complex():
        if not field.shape[0]:  # the gradient of view_as_real wants strides that an empty batch does not have
            return torch.stack((field.real, field.imag)).permute(1, 3, 0, 2)
        return torch.view_as_real(field.resolve_conj()).permute(0, 2, 3, 1).contiguous()
    return field.transpose(1, 2).contiguous()


def from_rows(rows: Tensor, spin: int) -> Tensor:
    """Rearrange ``[B,V,2,C]`` to ``[B,C,V]``: complex, or the real part for spin 0."""
    if spin == 0:
        return rows[:, :, 0].transpose(1, 2).contiguous()
    packed = rows.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)  # also where the batch is empty
    return torch.view_as_complex(packed)


def mix(rows: Tensor, weight: Tensor, conjugate: bool) -> Tensor:
    """Apply complex weights ``[K,C',C,2]`` (or ``[K,C',C,1]``, real) to rows ``[B,V,(2),C]``: ``[B,V,K,2,C']``.

    With ``conjugate`` the second half of the weights acts on the conjugate field. One real matrix product.
    """
    kinds, wide, channels = weight.shape[:3]
    real = weight[..., 0]
    imag = weight[..., 1] if weight.shape[3] == 2 else torch.zeros_like(real)
    if rows.ndim == 3:
        matrix = torch.stack((real, imag), dim=1)  # [K,2,C',C]
        mixed = rows @ matrix.reshape(-1, channels).mT
    else:
        kind = torch.arange(kinds, device=rows.device)[:, None, None]
        sign = torch.where(kind < kinds // 2 if conjugate else kind < kinds, 1.0, -1.0).to(rows.dtype)
        from_real = torch.stack((real, imag), dim=1)
        from_imag = torch.stack((-imag * sign, real * sign), dim=1)
        matrix = torch.stack((from_real, from_imag), dim=3)  # [K,2,C',2,C]
        mixed = rows.flatten(2) @ matrix.reshape(-1, 2 * channels).mT
    return mixed.view(*rows.shape[:2], kinds, 2, wide)
