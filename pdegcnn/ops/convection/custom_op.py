"""The fast versions of the convection operator as torch operators: one autograd rule for them all."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._operator import implementation, operator
from pdegcnn.ops.convection import reference
from pdegcnn.ops.padding import BOUNDARIES


@operator("pdegcnn::convection")
def convection(u: Tensor, shift: Tensor, boundary: int, backend: str) -> Tensor:
    """Return the value of u [B,C,Or,H,W] at shift [C,Or,3]; ``boundary`` counts in BOUNDARIES."""
    return implementation("convection", backend).forward(u.contiguous(), shift.contiguous(), boundary)


@convection.register_fake
def _(u: Tensor, shift: Tensor, boundary: int, backend: str) -> Tensor:
    return u.new_empty(u.shape)


@operator("pdegcnn::convection_backward")
def convection_backward(grad: Tensor, u: Tensor, shift: Tensor, boundary: int, backend: str) -> tuple[Tensor, Tensor]:
    """Return gradients in u and shift."""
    return implementation("convection", backend).backward(
        grad.contiguous(), u.contiguous(), shift.contiguous(), boundary
    )


@convection_backward.register_fake
def _(grad: Tensor, u: Tensor, shift: Tensor, boundary: int, backend: str) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), shift.new_empty(shift.shape)


def _setup(ctx, inputs, output) -> None:
    u, shift, ctx.boundary, ctx.backend = inputs
    ctx.save_for_backward(u, shift)


def _backward(ctx, grad):
    return *convection_backward(grad, *ctx.saved_tensors, ctx.boundary, ctx.backend), None, None


convection.register_autograd(_backward, setup_context=_setup)


def _setup_backward(ctx, inputs, output) -> None:
    grad, u, shift, ctx.boundary, _ = inputs
    ctx.save_for_backward(grad, u, shift)


def _double_backward(ctx, along_u, along_shift):
    """Compute second derivatives through the specification: they are rare, so speed does not matter."""
    grad, *given = ctx.saved_tensors
    specification = partial(reference.convection, boundary=BOUNDARIES[ctx.boundary])
    return *_transforms.pull_again(specification, grad, given, (along_u, along_shift)), None, None


convection_backward.register_autograd(_double_backward, setup_context=_setup_backward)
