"""The max-plus convolution on rings as torch operators: one autograd rule for all backends."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._operator import implementation, index_dtype, operator
from pdegcnn.ops.ring_morphology import torch_impl


@operator("pdegcnn::ring_morphology")
def ring_morphology(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, sign: int, keep: bool, backend: str
) -> tuple[Tensor, Tensor]:
    """Value [B,C,F,G,n] and winning taps of the same shape (empty unless ``keep``)."""
    dtype = index_dtype(longest + 1)
    return implementation("ring_morphology", backend).forward(
        u.contiguous(), kernel.contiguous(), taps, start, sign, keep, dtype
    )


@ring_morphology.register_fake
def _(u, kernel, taps, start, longest, sign, keep, backend):
    out = u.new_empty(u.shape)
    return out, out.new_empty(u.shape if keep else (0,), dtype=index_dtype(longest + 1))


@operator("pdegcnn::ring_morphology_backward")
def ring_morphology_backward(
    grad: Tensor, winner: Tensor, taps: Tensor, start: Tensor, kernels: int, backend: str
) -> tuple[Tensor, Tensor]:
    """Sum of ``grad`` over the outputs each source won, and over those each kernel entry won."""
    return implementation("ring_morphology", backend).backward(grad.contiguous(), winner, taps, start, kernels)


@ring_morphology_backward.register_fake
def _(grad, winner, taps, start, kernels, backend):
    return grad.new_empty(grad.shape), grad.new_empty((grad.shape[1], kernels, taps.shape[0]))


def _setup(ctx, inputs, output) -> None:
    u, kernel, taps, start, ctx.longest, ctx.sign, ctx.keep, ctx.backend = inputs
    ctx.kernels = kernel.shape[1]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(taps, start, *((output[1],) if ctx.keep else (u, kernel)))


def _backward(ctx, grad, _):
    taps, start, *rest = ctx.saved_tensors
    if ctx.keep:
        (winner,) = rest
    else:
        u, kernel = (x.detach() for x in rest)
        winner = ring_morphology(u, kernel, taps, start, ctx.longest, ctx.sign, True, ctx.backend)[1]
    grad_u, sums = ring_morphology_backward(grad, winner, taps, start, ctx.kernels, ctx.backend)
    return grad_u, -ctx.sign * sums, None, None, None, None, None, None


ring_morphology.register_autograd(_backward, setup_context=_setup)


def _setup_backward(ctx, inputs, output) -> None:
    _, winner, taps, start, _, _ = inputs
    ctx.save_for_backward(winner, taps, start)


def _double_backward(ctx, grad_u, grad_sums):
    winner, taps, start = ctx.saved_tensors
    return torch_impl.gather(grad_u, grad_sums, winner, taps, start), None, None, None, None, None


ring_morphology_backward.register_autograd(_double_backward, setup_context=_setup_backward)


def by_gathering(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, sign: int, backend: str
) -> Tensor:
    """Same value, read again at the winning taps by plain torch: what function transforms can differentiate."""
    winner = _transforms.at_values(ring_morphology, u, kernel, taps, start, longest, sign, True, backend)[1]
    value = torch_impl.gather(u, -sign * kernel, winner, taps, start)
    return torch.where(winner == torch.iinfo(winner.dtype).max, -sign * torch.inf, value)
