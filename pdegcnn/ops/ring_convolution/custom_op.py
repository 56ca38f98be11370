"""The linear convolution on rings as three torch operators, bilinear and adjoint to each other.

``<correlate(u, k), g> = <spread(g, k), u> = <products(g, u), k>``: each is the derivative of the others, so the
gradients of any order are these three again.
"""

from __future__ import annotations

from torch import Tensor

from pdegcnn.ops._operator import implementation, operator


@operator("pdegcnn::ring_correlate")
def correlate(u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, backend: str) -> Tensor:
    """Convolve u [B,C,F,G,n] with kernel [C,1 or F,S]."""
    found = implementation("ring_convolution", backend)
    return found.correlate(u.contiguous(), kernel.contiguous(), taps, start, longest)


@operator("pdegcnn::ring_spread")
def spread(grad: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, backend: str) -> Tensor:
    """Apply the transpose of :func:`correlate` in the signal."""
    found = implementation("ring_convolution", backend)
    return found.spread(grad.contiguous(), kernel.contiguous(), taps, start, longest)


@operator("pdegcnn::ring_products")
def products(grad: Tensor, u: Tensor, taps: Tensor, start: Tensor, longest: int, kernels: int, backend: str) -> Tensor:
    """Apply the transpose of :func:`correlate` in the kernel [C,kernels,S]."""
    found = implementation("ring_convolution", backend)
    return found.products(grad.contiguous(), u.contiguous(), taps, start, longest, kernels)


@correlate.register_fake
@spread.register_fake
def _(u, kernel, taps, start, longest, backend):
    return u.new_empty(u.shape)


@products.register_fake
def _(grad, u, taps, start, longest, kernels, backend):
    return grad.new_empty(grad.shape[1], kernels, taps.shape[0])


def _remember(ctx, inputs, output) -> None:
    first, second, taps, start, ctx.longest, *_, ctx.backend = inputs
    ctx.save_for_backward(first, second, taps, start)


def _correlate_backward(ctx, g):
    u, kernel, *lists = ctx.saved_tensors
    rest = *lists, ctx.longest
    to_kernel = products(g, u, *rest, kernel.shape[1], ctx.backend) if ctx.needs_input_grad[1] else None
    to_u = spread(g, kernel, *rest, ctx.backend) if ctx.needs_input_grad[0] else None
    return to_u, to_kernel, None, None, None, None


def _spread_backward(ctx, v):
    grad, kernel, *lists = ctx.saved_tensors
    rest = *lists, ctx.longest
    to_kernel = products(grad, v, *rest, kernel.shape[1], ctx.backend)
    return correlate(v, kernel, *rest, ctx.backend), to_kernel, None, None, None, None


def _products_backward(ctx, m):
    grad, u, *lists = ctx.saved_tensors
    rest = *lists, ctx.longest, ctx.backend
    return correlate(u, m, *rest), spread(grad, m, *rest), None, None, None, None, None


correlate.register_autograd(_correlate_backward, setup_context=_remember)
spread.register_autograd(_spread_backward, setup_context=_remember)
products.register_autograd(_products_backward, setup_context=_remember)
