"""``M^alpha`` and ``exp(-t M^alpha)`` of positive semi-definite Hermitian matrices, of equal eigenvalues too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pdegcnn import _transforms

REFUSAL = (
    "fractional_exponential, fractional_power: expected at most second derivatives in the matrix (that is, in the "
    "metric of spectral diffusion), got a third; take it of method='kernel', or by differences"
)
NEAR, CLOSE = 1e-5, 1e-4
"""Relative gaps of eigenvalues below which a first, or second, divided difference is a derivative half-way between."""


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, exactly zero where they are zero up to rounding, and eigenvectors."""
    if matrix.shape[-1] == 1:
        return matrix[..., 0].real.clamp_min(0), torch.ones_like(matrix)
    values, vectors = torch.linalg.eigh(matrix)
    floor = torch.finfo(values.dtype).eps * values.shape[-1] * values[..., -1:].abs()
    return torch.where(values > floor, values, torch.zeros_like(values)), vectors


def _at_eigenvalues(values: Tensor, alpha: Tensor, time: float | None) -> Tensor:
    return values**alpha if time is None else torch.exp(-time * values**alpha)


def _slope(values: Tensor, result: Tensor, alpha: Tensor, time: float | None) -> Tensor:
    """Return the first derivative of the function at the eigenvalues, zero at zero.

    A null vector of M is one for every parameter (constants do not diffuse), so its own slope never counts.
    """
    positive = values > 0
    safe = torch.where(positive, values, torch.ones_like(values))
    outer = torch.ones_like(values) if time is None else -time * result  # by the power
    return torch.where(positive, outer * alpha * safe ** (alpha - 1), torch.zeros_like(values))


def _first_differences(values: Tensor, result: Tensor, slope: Tensor) -> Tensor:
    """Return the divided differences ``f[i,j]`` of the function at pairs of eigenvalues, ``[..., n, n]``."""
    gap = values[..., :, None] - values[..., None, :]
    near = gap.abs() <= NEAR * (values[..., :, None] + values[..., None, :])
    middle = (slope[..., :, None] + slope[..., None, :]) / 2
    ratio = (result[..., :, None] - result[..., None, :]) / torch.where(near, torch.ones_like(gap), gap)
    return torch.where(near, middle, ratio)


class _OfEigenvalues(torch.autograd.Function):
    """``exp(-time M^alpha)``, or ``M^alpha`` if ``time`` is None.

    Eigendecomposition forward, divided differences (Daleckii-Krein) backward.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, alpha: Tensor, time: float | None) -> Tensor:
        values, vectors = _eigen(matrix)
        result = _at_eigenvalues(values, alpha, time)
        ctx.save_for_backward(matrix, values, vectors, result, alpha)
        ctx.time = time
        return (vectors * result[..., None, :].to(vectors.dtype)) @ vectors.mH

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        matrix, values, vectors, result, alpha = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives need these dependencies
            given = [x.view_as(x) for x in (matrix, alpha)]
            wanted = [x for x, needed in zip(given, ctx.needs_input_grad) if needed]
            found = iter(
                torch.autograd.grad(expansion(given[0], given[1], ctx.time), wanted, grads[0], create_graph=True)
            )
            first, second = (next(found) if needed else None for needed in ctx.needs_input_grad[:2])
            return first, second, None
        inner = vectors.mH @ grads[0] @ vectors
        slope = _slope(values, result, alpha, ctx.time)
        grad_matrix = vectors @ (inner * _first_differences(values, result, slope)) @ vectors.mH
        positive = values > 0
        safe = torch.where(positive, values, torch.ones_like(values))
        outer = torch.ones_like(values) if ctx.time is None else -ctx.time * result  # by the power
        by_alpha = torch.where(positive, outer * safe**alpha * safe.log(), torch.zeros_like(values))
        grad_alpha = (torch.diagonal(inner, dim1=-2, dim2=-1).real * by_alpha).sum()
        return grad_matrix, grad_alpha.reshape(alpha.shape), None


def expansion(matrix: Tensor, alpha: Tensor, time: float | None) -> Tensor:
    """Return the same function as its Taylor polynomial of degree two about the matrix itself: plain torch, in float64.

    Its value and its first and second derivatives are those of the function, by divided differences, also where
    eigenvalues meet; in ``alpha`` derivatives of any order. A third derivative in the matrix raises. Source: Higham,
    *Functions of Matrices*, sections 3.1-3.3 and B.16.
    """
    dtype = torch.complex128 if matrix.is_complex() else torch.float64
    exact, alpha = matrix.to(dtype), alpha.double()
    values, vectors = _eigen(exact.detach())
    positive = values > 0
    safe, zero = torch.where(positive, values, torch.ones_like(values)), torch.zeros_like(values)
    power = torch.where(positive, safe**alpha, zero)
    result = power if time is None else torch.exp(-time * power)
    first = _first_differences(values, result, _slope(values, result, alpha, time))
    moved = vectors.mH @ (exact - exact.detach()) @ vectors  # zero, but not for derivatives
    bent = torch.einsum(
        "...ijk,...ij,...jk->...ik", _second_differences(values, first, alpha, time).to(dtype), moved, moved
    )
    inner = torch.diag_embed(result) + first * moved + bent + _transforms.vanishing(moved, 2, REFUSAL)
    return (vectors @ inner @ vectors.mH).to(matrix.dtype)


def _second_differences(values: Tensor, first: Tensor, alpha: Tensor, time: float | None) -> Tensor:
    """Return the divided differences ``f[i,j,k]`` at three eigenvalues (ascending), ``[..., n, n, n]``.

    They are zero at three zeros.
    """
    index = torch.arange(values.shape[-1], device=values.device)
    low, middle, high = torch.stack(torch.meshgrid(index, index, index, indexing="ij")).sort(0).values
    a, b, c = (values[..., x] for x in (low, middle, high))
    gap, mean = c - a, (a + b + c) / 3
    near = gap <= CLOSE * (a + c)
    ratio = (first[..., middle, high] - first[..., low, middle]) / torch.where(near, torch.ones_like(gap), gap)
    safe = torch.where(mean > 0, mean, torch.ones_like(mean))
    slope, bend = alpha * safe ** (alpha - 1), alpha * (alpha - 1) * safe ** (alpha - 2)
    if time is not None:
        bend = ((time * slope) ** 2 - time * bend) * torch.exp(-time * safe**alpha)
    return torch.where(near, torch.where(mean > 0, bend / 2, torch.zeros_like(bend)), ratio)


def fractional_exponential(matrix: Tensor, alpha: float | Tensor, time: float = 1.0) -> Tensor:
    r"""Return :math:`\exp(-t M^\alpha)` of Hermitian positive semidefinite matrices M.

    Twice differentiable in ``matrix`` and ``alpha``, also at multiple eigenvalues.

    Args:
        matrix: M ``[..., n, n]``.
        alpha: power in (0, 1], a number or a scalar tensor.
        time: t.
    """
    return _of_eigenvalues(matrix, alpha, time)


def fractional_power(matrix: Tensor, alpha: float | Tensor) -> Tensor:
    r"""Return :math:`M^\alpha` of Hermitian positive semidefinite matrices M.

    Differentiable like :func:`fractional_exponential`, for changes of M that keep its null space.

    Args:
        matrix: M ``[..., n, n]``.
        alpha: power in (0, 1], a number or a scalar tensor.
    """
    return _of_eigenvalues(matrix, alpha, None)


def _of_eigenvalues(matrix: Tensor, alpha: float | Tensor, time: float | None) -> Tensor:
    alpha = torch.as_tensor(alpha, dtype=matrix.real.dtype, device=matrix.device)
    if _transforms.levels() or _transforms.has_tangent(matrix, alpha):
        return expansion(matrix, alpha, time)
    result = _OfEigenvalues.apply(matrix, alpha, time)
    assert isinstance(result, Tensor)
    return result
