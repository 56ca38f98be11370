"""Specification of the transport gather: short, readable, differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor


def transport_gather(fields: Tensor, start: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Return ``out[b,v] = sum over pairs (v,w) and k of factor[(v,w),k] * fields[b,w,k]`` for pairs of reals."""
    rows = torch.repeat_interleave(torch.arange(start.numel() - 1, device=start.device), start.diff())
    at_pairs = torch.complex(*fields[:, columns].unbind(3))  # [B,E,K,C]
    terms = (at_pairs * torch.view_as_complex(values)[..., None]).sum(2)
    out = torch.zeros(fields.shape[0], fields.shape[1], fields.shape[4], dtype=terms.dtype, device=fields.device)
    out = out.index_add(1, rows, terms)
    return torch.stack((out.real, out.imag), dim=2)
