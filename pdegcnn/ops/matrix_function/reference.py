"""``exp(-t M^alpha)`` of positive semi-definite Hermitian matrices, with a gradient that survives equal eigenvalues."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _FractionalExponential(torch.autograd.Function):
    """Eigendecomposition forward, divided differences (Daleckii-Krein) backward."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, alpha: Tensor, time: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        floor = torch.finfo(values.dtype).eps * values.shape[-1] * values[..., -1:].abs()
        values = torch.where(values > floor, values, torch.zeros_like(values))
        result = torch.exp(-time * values**alpha)
        ctx.save_for_backward(values, vectors, result, alpha)
        ctx.time = time
        return (vectors * result[..., None, :].to(vectors.dtype)) @ vectors.mH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        values, vectors, result, alpha = ctx.saved_tensors
        inner = vectors.mH @ grads[0] @ vectors
        positive = values > 0
        safe = torch.where(positive, values, torch.ones_like(values))
        # a null vector of M is one for every parameter (constants do not diffuse), so its own slope never counts
        slope = torch.where(positive, -ctx.time * alpha * safe ** (alpha - 1) * result, torch.zeros_like(values))
        gap = values[..., :, None] - values[..., None, :]
        near = gap.abs() <= 1e-5 * (values[..., :, None] + values[..., None, :])
        middle = (slope[..., :, None] + slope[..., None, :]) / 2
        ratio = (result[..., :, None] - result[..., None, :]) / torch.where(near, torch.ones_like(gap), gap)
        grad_matrix = vectors @ (inner * torch.where(near, middle, ratio)) @ vectors.mH
        by_alpha = torch.where(positive, -ctx.time * safe**alpha * safe.log() * result, torch.zeros_like(values))
        grad_alpha = (torch.diagonal(inner, dim1=-2, dim2=-1).real * by_alpha).sum()
        return grad_matrix, grad_alpha.reshape(alpha.shape), None


def fractional_exponential(matrix: Tensor, alpha: float | Tensor, time: float = 1.0) -> Tensor:
    """``exp(-time * matrix^alpha)`` for Hermitian positive semi-definite ``[..., n, n]``.

    Differentiable once in ``matrix`` and ``alpha`` (a number or a scalar tensor), also where eigenvalues meet.
    """
    real = matrix.real.dtype
    alpha = torch.as_tensor(alpha, dtype=real, device=matrix.device)
    result = _FractionalExponential.apply(matrix, alpha, time)
    assert isinstance(result, Tensor)
    return result
