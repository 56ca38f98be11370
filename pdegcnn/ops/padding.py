"""Continuation of images beyond their border."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BOUNDARIES = ("zeros", "replicate", "periodic")


def pad(u: Tensor, rows: int, columns: int, boundary: str, slices: int = 0) -> Tensor:
    """Extend the image axes of [B,C,Or,H,W] by ``rows`` and ``columns``, of any number, on each side.

    Volumes [B,C,D,H,W] also by ``slices``.
    """
    if boundary == "zeros":
        return F.pad(u, (columns, columns, rows, rows, slices, slices))
    for dim, extra in ((2, slices), (3, rows), (4, columns)):
        if not extra:
            continue
        size = u.shape[dim]
        index = torch.arange(-extra, size + extra, device=u.device)
        u = u.index_select(dim, index % size if boundary == "periodic" else index.clamp(0, size - 1))
    return u
