"""The fast version of the weighted norm as torch operators."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._operator import implementation, operator
from pdegcnn.ops.weighted_norm import reference


@operator("pdegcnn::weighted_norm")
def weighted_norm(
    u: Tensor, weights: Tensor, scale: Tensor, shift: Tensor, eps: float, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return u ``[B,C,...]`` normalised, mean ``[C]`` and variance ``[C]``."""
    return implementation("weighted_norm", backend).forward(u.contiguous(), weights, scale, shift, eps)


@weighted_norm.register_fake
def _(u: Tensor, weights: Tensor, scale: Tensor, shift: Tensor, eps: float, backend: str):
    return u.new_empty(u.shape), u.new_empty(u.shape[1]), u.new_empty(u.shape[1])


@operator("pdegcnn::weighted_norm_backward")
def weighted_norm_backward(
    grad: Tensor, u: Tensor, weights: Tensor, scale: Tensor, mean: Tensor, variance: Tensor, eps: float, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients in u, scale and shift."""
    given = grad.contiguous(), u.contiguous(), weights, scale, mean, variance
    return implementation("weighted_norm", backend).backward(*given, eps)


@weighted_norm_backward.register_fake
def _(grad: Tensor, u: Tensor, *_: Any):
    return u.new_empty(u.shape), u.new_empty(u.shape[1]), u.new_empty(u.shape[1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    u, weights, scale, _, ctx.eps, ctx.backend = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(u, weights, scale, *output[1:])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    grad_u, grad_scale, grad_shift = weighted_norm_backward(grad, *ctx.saved_tensors, ctx.eps, ctx.backend)
    return grad_u, None, grad_scale, grad_shift, None, None


weighted_norm.register_autograd(_backward, setup_context=_setup)


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, u, weights, scale, _, _, ctx.eps, _ = inputs
    ctx.save_for_backward(grad, u, weights, scale)


def _double_backward(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
    """Compute second derivatives through the specification: they are rare, so speed does not matter."""
    grad, u, weights, scale = ctx.saved_tensors

    def specification(u: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return reference.weighted_norm(u, weights, scale, shift, ctx.eps)[0]

    given = u, scale, scale.new_zeros(scale.shape)
    along_grad, along_u, along_scale, _ = _transforms.pull_again(specification, grad, given, along)
    return along_grad, along_u, None, along_scale, None, None, None, None


weighted_norm_backward.register_autograd(_double_backward, setup_context=_setup_backward)
