"""The transport gather as torch operators; gather and spread are each other's derivative."""

from __future__ import annotations

from torch import Tensor

from pdegcnn.ops._operator import implementation, operator


@operator("pdegcnn::transport_gather")
def gather(fields: Tensor, start: Tensor, columns: Tensor, values: Tensor, back: Tensor, backend: str) -> Tensor:
    """Sum over pairs and fields, ``[B,V,K,2,C] -> [B,V,2,C]``."""
    return implementation("transport_gather", backend).gather(fields.contiguous(), start, columns, values)


@gather.register_fake
def _(fields: Tensor, start: Tensor, columns: Tensor, values: Tensor, back: Tensor, backend: str) -> Tensor:
    return fields.new_empty(*fields.shape[:2], *fields.shape[3:])


@operator("pdegcnn::transport_spread")
def spread(grad: Tensor, start: Tensor, columns: Tensor, values: Tensor, back: Tensor, backend: str) -> Tensor:
    """Compute the adjoint, ``[B,V,2,C] -> [B,V,K,2,C]``."""
    return implementation("transport_gather", backend).spread(grad.contiguous(), start, columns, back)


@spread.register_fake
def _(grad: Tensor, start: Tensor, columns: Tensor, values: Tensor, back: Tensor, backend: str) -> Tensor:
    return grad.new_empty(*grad.shape[:2], back.shape[1], *grad.shape[2:])


def _setup(ctx, inputs, output) -> None:
    _, *lists, ctx.backend = inputs
    ctx.save_for_backward(*lists)


def _backward(ctx, grad):
    return spread(grad, *ctx.saved_tensors, ctx.backend), None, None, None, None, None


def _double_backward(ctx, grad):
    return gather(grad, *ctx.saved_tensors, ctx.backend), None, None, None, None, None


gather.register_autograd(_backward, setup_context=_setup)
spread.register_autograd(_double_backward, setup_context=_setup)
