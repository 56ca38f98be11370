"""The depthwise group convolution as three torch operators, bilinear and adjoint to each other.

``<correlate(u, k), g> = <spread(g, k), u> = <products(g, u), k>``: each is the derivative of the others, so the
gradients of any order are these three again.
"""

from __future__ import annotations

from torch import Tensor

from pdegcnn.ops._operator import implementation, operator


@operator("pdegcnn::group_correlate")
def correlate(u: Tensor, kernel: Tensor, padding: list[int], backend: str) -> Tensor:
    """Correlate u [B,C,Or,H,W] with kernel [C,Or,KO,KH,KW], with ``padding`` zeros on each side of the image."""
    return implementation("group_convolution", backend).correlate(u.contiguous(), kernel.contiguous(), padding)


@correlate.register_fake
def _(u: Tensor, kernel: Tensor, padding: list[int], backend: str) -> Tensor:
    size = [n + 2 * p - k + 1 for n, p, k in zip(u.shape[3:], padding, kernel.shape[3:])]
    return u.new_empty(*u.shape[:3], *size)


@operator("pdegcnn::group_spread")
def spread(grad: Tensor, kernel: Tensor, padding: list[int], backend: str) -> Tensor:
    """Transpose of :func:`correlate` in the signal."""
    return implementation("group_convolution", backend).spread(grad.contiguous(), kernel.contiguous(), padding)


@spread.register_fake
def _(grad: Tensor, kernel: Tensor, padding: list[int], backend: str) -> Tensor:
    size = [n - 2 * p + k - 1 for n, p, k in zip(grad.shape[3:], padding, kernel.shape[3:])]
    return grad.new_empty(*grad.shape[:3], *size)


@operator("pdegcnn::group_products")
def products(grad: Tensor, u: Tensor, padding: list[int], taps: int, backend: str) -> Tensor:
    """Transpose of :func:`correlate` in the kernel, which has ``taps`` orientation taps."""
    return implementation("group_convolution", backend).products(grad.contiguous(), u.contiguous(), padding, taps)


@products.register_fake
def _(grad: Tensor, u: Tensor, padding: list[int], taps: int, backend: str) -> Tensor:
    size = [n + 2 * p - m + 1 for n, p, m in zip(u.shape[3:], padding, grad.shape[3:])]
    return grad.new_empty(*grad.shape[1:3], taps, *size)


def _remember(ctx, inputs, output) -> None:
    first, second, ctx.padding, *_, ctx.backend = inputs
    ctx.save_for_backward(first, second)


def _correlate_backward(ctx, g):
    u, kernel = ctx.saved_tensors
    grad_kernel = products(g, u, ctx.padding, kernel.shape[2], ctx.backend)
    return spread(g, kernel, ctx.padding, ctx.backend), grad_kernel, None, None


def _spread_backward(ctx, v):
    grad, kernel = ctx.saved_tensors
    grad_kernel = products(grad, v, ctx.padding, kernel.shape[2], ctx.backend)
    return correlate(v, kernel, ctx.padding, ctx.backend), grad_kernel, None, None


def _products_backward(ctx, m):
    grad, u = ctx.saved_tensors
    return (
        correlate(u, m, ctx.padding, ctx.backend),
        spread(grad, m, ctx.padding, ctx.backend),
        *(None, None, None),
    )


correlate.register_autograd(_correlate_backward, setup_context=_remember)
spread.register_autograd(_spread_backward, setup_context=_remember)
products.register_autograd(_products_backward, setup_context=_remember)
