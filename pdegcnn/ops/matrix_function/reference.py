"""``M^alpha`` and ``exp(-t M^alpha)`` of positive semi-definite Hermitian matrices, of equal eigenvalues too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _OfEigenvalues(torch.autograd.Function):
    """``exp(-time M^alpha)``, or ``M^alpha`` if ``time`` is None.

    Eigendecomposition forward, divided differences (Daleckii-Krein) backward.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, alpha: Tensor, time: float | None) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        floor = torch.finfo(values.dtype).eps * values.shape[-1] * values[..., -1:].abs()
        values = torch.where(values > floor, values, torch.zeros_like(values))
        result = values**alpha if time is None else torch.exp(-time * values**alpha)
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
        outer = torch.ones_like(values) if ctx.time is None else -ctx.time * result  # by the power
        # a null vector of M is one for every parameter (constants do not diffuse), so its own slope never counts
        slope = torch.where(positive, outer * alpha * safe ** (alpha - 1), torch.zeros_like(values))
        gap = values[..., :, None] - values[..., None, :]
        near = gap.abs() <= 1e-5 * (values[..., :, None] + values[..., None, :])
        middle = (slope[..., :, None] + slope[..., None, :]) / 2
        ratio = (result[..., :, None] - result[..., None, :]) / torch.where(near, torch.ones_like(gap), gap)
        grad_matrix = vectors @ (inner * torch.where(near, middle, ratio)) @ vectors.mH
        by_alpha = torch.where(positive, outer * safe**alpha * safe.log(), torch.zeros_like(values))
        grad_alpha = (torch.diagonal(inner, dim1=-2, dim2=-1).real * by_alpha).sum()
        return grad_matrix, grad_alpha.reshape(alpha.shape), None


def fractional_exponential(matrix: Tensor, alpha: float | Tensor, time: float = 1.0) -> Tensor:
    """``exp(-time * matrix^alpha)`` for Hermitian positive semi-definite ``[..., n, n]``.

    Differentiable once in ``matrix`` and ``alpha`` (a number or a scalar tensor), also where eigenvalues meet.
    """
    return _of_eigenvalues(matrix, alpha, time)


def fractional_power(matrix: Tensor, alpha: float | Tensor) -> Tensor:
    """``matrix^alpha`` for Hermitian positive semi-definite ``[..., n, n]`` and alpha in (0, 1].

    Differentiable as :func:`fractional_exponential` is, if what is null stays null.
    """
    return _of_eigenvalues(matrix, alpha, None)


def _of_eigenvalues(matrix: Tensor, alpha: float | Tensor, time: float | None) -> Tensor:
    alpha = torch.as_tensor(alpha, dtype=matrix.real.dtype, device=matrix.device)
    result = _OfEigenvalues.apply(matrix, alpha, time)
    assert isinstance(result, Tensor)
    return result
