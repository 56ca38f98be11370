"""Interpolation between samples as torch operators: a linear map and its adjoint, each the derivative of the other."""

from __future__ import annotations

from torch import Tensor

from pdegcnn.ops._operator import implementation, operator


@operator("pdegcnn::between_samples")
def between_samples(u: Tensor, matrix: Tensor, outside: Tensor, shifts: list[float], backend: str) -> Tensor:
    """Return readings [B,C,n*Or,H,W] of u [B,C,Or,H,W]; ``shifts`` are n pairs of rows and columns."""
    return implementation("between_samples", backend).forward(u.contiguous(), matrix, outside, shifts)


@between_samples.register_fake
def _(u: Tensor, matrix: Tensor, outside: Tensor, shifts: list[float], backend: str) -> Tensor:
    return u.new_empty(*u.shape[:2], u.shape[2] * (len(shifts) // 2), *u.shape[3:])


@operator("pdegcnn::between_samples_backward")
def adjoint(grad: Tensor, matrix: Tensor, shifts: list[float], backend: str) -> Tensor:
    """Return the gradient [B,C,Or,H,W] in the signal."""
    return implementation("between_samples", backend).adjoint(grad.contiguous(), matrix, shifts)


@adjoint.register_fake
def _(grad: Tensor, matrix: Tensor, shifts: list[float], backend: str) -> Tensor:
    return grad.new_empty(*grad.shape[:2], grad.shape[2] // (len(shifts) // 2), *grad.shape[3:])


def _setup(ctx, inputs, output) -> None:
    _, matrix, _, ctx.shifts, ctx.backend = inputs
    ctx.save_for_backward(matrix)


def _backward(ctx, grad):
    return adjoint(grad, *ctx.saved_tensors, ctx.shifts, ctx.backend), None, None, None, None


between_samples.register_autograd(_backward, setup_context=_setup)


def _setup_adjoint(ctx, inputs, output) -> None:
    _, matrix, ctx.shifts, ctx.backend = inputs
    ctx.save_for_backward(matrix)


def _backward_adjoint(ctx, along):
    outside = along.new_zeros(along.shape[:2])
    return between_samples(along, *ctx.saved_tensors, outside, ctx.shifts, ctx.backend), None, None, None


adjoint.register_autograd(_backward_adjoint, setup_context=_setup_adjoint)
