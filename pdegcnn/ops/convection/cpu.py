"""Fast CPU version of the convection operator, as torch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pdegcnn.ops import _jit

BOUNDARIES = ("zeros", "replicate", "periodic")


def _loops() -> Any:
    return _jit.specialise(__file__.replace("cpu.py", "loops.py"), None, 0)


@torch.library.custom_op("pdegcnn::convection", mutates_args=())
def convection(u: Tensor, shift: Tensor, boundary: int) -> Tensor:
    """Value of u [B,C,Or,H,W] at shift [C,Or,3]; ``boundary`` counts in BOUNDARIES."""
    planes = _jit.array(u.flatten(0, 1))
    out = torch.empty(planes.shape, dtype=torch.promote_types(u.dtype, torch.float32))
    _jit.parallel(_loops().forward, out.shape[0], planes, _jit.array(shift), out.numpy(), boundary)
    return out.view(u.shape).to(u.dtype)


@convection.register_fake
def _(u: Tensor, shift: Tensor, boundary: int) -> Tensor:
    return u.new_empty(u.shape)


@torch.library.custom_op("pdegcnn::convection_backward", mutates_args=())
def convection_backward(grad: Tensor, u: Tensor, shift: Tensor, boundary: int) -> tuple[Tensor, Tensor]:
    """Gradients in u and shift."""
    planes = _jit.array(u.flatten(0, 1))
    grad_u = torch.empty(planes.shape, dtype=torch.promote_types(u.dtype, torch.float32))
    grad_shift = torch.empty(planes.shape[0], shift.shape[1], 3, dtype=torch.float64)
    flat = _jit.array(grad.flatten(0, 1))
    _jit.parallel(
        _loops().backward,
        *(planes.shape[0], flat, planes, _jit.array(shift), grad_u.numpy(), grad_shift.numpy(), boundary),
    )
    total = grad_shift.view(u.shape[0], *shift.shape).sum(0)
    return grad_u.view(u.shape).to(u.dtype), total.to(shift.dtype)


@convection_backward.register_fake
def _(grad: Tensor, u: Tensor, shift: Tensor, boundary: int) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), shift.new_empty(shift.shape)


def _setup(ctx, inputs, output) -> None:
    u, shift, ctx.boundary = inputs
    ctx.save_for_backward(u, shift)


def _backward(ctx, grad):
    return *convection_backward(grad, *ctx.saved_tensors, ctx.boundary), None


def _no_double_backward(ctx, *grads):
    raise NotImplementedError("convection: the numba backend has no second derivative; use backend='torch'")


convection.register_autograd(_backward, setup_context=_setup)
convection_backward.register_autograd(_no_double_backward)
