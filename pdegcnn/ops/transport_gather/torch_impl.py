"""The transport gather by torch's sparse matrix product, on any device."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pdegcnn._dtypes import widen


def _multiply(start: Tensor, columns: Tensor, values: Tensor, field: Tensor) -> Tensor:
    """Multiply one sparse matrix and a field [B,V,2,C]."""
    count = start.numel() - 1
    with warnings.catch_warnings():  # torch calls its sparse rows a beta feature
        warnings.simplefilter("ignore", UserWarning)
        matrix = torch.sparse_csr_tensor(start, columns, torch.view_as_complex(values.contiguous()), (count, count))
    dense = torch.complex(field[:, :, 0], field[:, :, 1]).transpose(0, 1)  # [V,B,C]
    product = (matrix @ dense.flatten(1)).view(dense.shape).transpose(0, 1)
    return torch.stack((product.real, product.imag), dim=2)


def gather(fields: Tensor, start: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Sum over pairs and fields, ``[B,V,K,2,C] -> [B,V,2,C]``."""
    precise, factors = _real(fields), _real(values)
    parts = [_multiply(start, columns, factors[:, k], precise[:, :, k]) for k in range(fields.shape[2])]
    return torch.stack(parts).sum(0).to(fields.dtype)


def spread(grad: Tensor, start: Tensor, columns: Tensor, back: Tensor) -> Tensor:
    """Return the adjoint of :func:`gather`, ``[B,V,2,C] -> [B,V,K,2,C]``."""
    precise, factors = _real(grad), _real(back)
    parts = [_multiply(start, columns, factors[:, k], precise) for k in range(back.shape[1])]
    return torch.stack(parts, dim=2).to(grad.dtype)


def _real(x: Tensor) -> Tensor:
    """Return ``u`` in float32 if it has half precision."""
    return widen(x)
