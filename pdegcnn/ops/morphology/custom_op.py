"""The morphological convolution as torch operators: one autograd rule for all backends.

The forward operator remembers the winning tap of every output in the smallest integer type that holds the number of
taps (the value ``taps`` itself says that none won); gradients of any order follow from it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._operator import implementation, index_dtype, operator
from pdegcnn.ops.morphology import torch_impl


@operator("pdegcnn::morphology")
def morphology(u: Tensor, kernel: Tensor, sign: int, keep: bool, backend: str) -> tuple[Tensor, Tensor]:
    """Value [B,C,Or,H,W] and winning taps of the same shape (empty unless ``keep``); u may have more planes than Or."""
    taps = kernel.shape[2] * kernel.shape[3] * kernel.shape[4]
    return implementation("morphology", backend).forward(
        u.contiguous(), kernel.contiguous(), sign, keep, index_dtype(taps + 1)
    )


@morphology.register_fake
def _(u: Tensor, kernel: Tensor, sign: int, keep: bool, backend: str) -> tuple[Tensor, Tensor]:
    dtype = index_dtype(kernel.shape[2] * kernel.shape[3] * kernel.shape[4] + 1)
    out = u.new_empty(*u.shape[:2], kernel.shape[1], *u.shape[3:])
    return out, out.new_empty(out.shape if keep else (0,), dtype=dtype)


@operator("pdegcnn::morphology_backward")
def morphology_backward(
    grad: Tensor, winner: Tensor, sizes: list[int], stride: int, backend: str
) -> tuple[Tensor, Tensor]:
    """Sum of ``grad`` over the outputs each source won, and over those each kernel entry won."""
    return implementation("morphology", backend).backward(grad.contiguous(), winner.contiguous(), sizes, stride)


@morphology_backward.register_fake
def _(grad: Tensor, winner: Tensor, sizes: list[int], stride: int, backend: str) -> tuple[Tensor, Tensor]:
    planes = (*grad.shape[:2], stride * grad.shape[2], *grad.shape[3:])
    return grad.new_empty(planes), grad.new_empty((*grad.shape[1:3], *sizes))


def _setup(ctx, inputs, output) -> None:
    u, kernel, sign, keep, backend = inputs
    ctx.sizes, ctx.sign, ctx.backend = list(kernel.shape[2:]), sign, backend
    ctx.stride = u.shape[2] // kernel.shape[1]
    ctx.keep = keep
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*((output[1],) if keep else (u, kernel)))


def _backward(ctx, grad, _):
    if ctx.keep:
        (winner,) = ctx.saved_tensors
    else:
        u, kernel = ctx.saved_tensors
        winner = morphology(u.detach(), kernel.detach(), ctx.sign, True, ctx.backend)[1]
    grad_u, sums = morphology_backward(grad, winner, ctx.sizes, ctx.stride, ctx.backend)
    return grad_u, -ctx.sign * sums, None, None, None


morphology.register_autograd(_backward, setup_context=_setup)


def _setup_backward(ctx, inputs, output) -> None:
    _, winner, ctx.sizes, ctx.stride, _ = inputs
    ctx.save_for_backward(winner)


def _double_backward(ctx, grad_u, grad_sums):
    (winner,) = ctx.saved_tensors
    return torch_impl.gather(grad_u, grad_sums, winner, ctx.sizes, ctx.stride), None, None, None, None


morphology_backward.register_autograd(_double_backward, setup_context=_setup_backward)


@morphology.register_vmap
def _(info, in_dims, u, kernel, sign, keep, backend):
    size = info.batch_size
    if in_dims[1] is None:  # signals join the batch axis
        u = u.movedim(in_dims[0], 0)
        out, winner = morphology(u.flatten(0, 1), kernel, sign, keep, backend)
        split = (size, u.shape[1])
    else:  # pairs of signal and kernel join the channel axis
        u = u.movedim(in_dims[0], 1) if in_dims[0] is not None else u[:, None].expand(-1, size, *u.shape[1:])
        kernel = kernel.movedim(in_dims[1], 0)
        out, winner = morphology(u.flatten(1, 2), kernel.flatten(0, 1), sign, keep, backend)
        split = (size, kernel.shape[1])
    axis = 0 if in_dims[1] is None else 1
    out = out.unflatten(axis, split).movedim(axis, 0)
    if keep:
        return (out, winner.unflatten(axis, split).movedim(axis, 0)), (0, 0)
    return (out, winner), (0, None)


@operator("pdegcnn::morphology_pair")
def morphology_pair(
    u: Tensor, dilation: Tensor, erosion: Tensor, keep: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Dilation by one kernel, its winning taps, erosion by another of the same size, its winning taps."""
    module, u = implementation("morphology", backend), u.contiguous()
    kernels = [dilation.contiguous(), erosion.contiguous()]
    dtype = index_dtype(dilation.shape[2] * dilation.shape[3] * dilation.shape[4] + 1)
    if hasattr(module, "forward_pair"):
        first, second = module.forward_pair(u, kernels, keep, dtype)
    else:
        first, second = (module.forward(u, kernel, sign, keep, dtype) for kernel, sign in zip(kernels, (1, -1)))
    return *first, *second


@morphology_pair.register_fake
def _(u: Tensor, dilation: Tensor, erosion: Tensor, keep: bool, backend: str):
    dtype = index_dtype(dilation.shape[2] * dilation.shape[3] * dilation.shape[4] + 1)
    shape = u.shape if keep else (0,)
    outs = [u.new_empty(u.shape) for _ in range(2)]
    return outs[0], u.new_empty(shape, dtype=dtype), outs[1], u.new_empty(shape, dtype=dtype)


def _setup_pair(ctx, inputs, output) -> None:
    u, dilation, erosion, ctx.keep, ctx.backend = inputs
    ctx.sizes = list(dilation.shape[2:])
    ctx.mark_non_differentiable(output[1], output[3])
    ctx.save_for_backward(*((output[1], output[3]) if ctx.keep else (u, dilation, erosion)))


def _backward_pair(ctx, grad_dilated, _, grad_eroded, __):
    saved = ctx.saved_tensors
    if not ctx.keep:
        saved = morphology_pair(*(x.detach() for x in saved), True, ctx.backend)[1::2]
    up, up_sums = morphology_backward(grad_dilated, saved[0], ctx.sizes, 1, ctx.backend)
    down, down_sums = morphology_backward(grad_eroded, saved[1], ctx.sizes, 1, ctx.backend)
    return up + down, -up_sums, down_sums, None, None


morphology_pair.register_autograd(_backward_pair, setup_context=_setup_pair)


def by_gathering(u: Tensor, kernel: Tensor, sign: int, backend: str) -> Tensor:
    """Same value, read again at the winning taps by plain torch: what function transforms can differentiate."""
    sizes = list(kernel.shape[2:])
    winner = _transforms.at_values(morphology, u, kernel, sign, True, backend)[1]
    value = torch_impl.gather(u, -sign * kernel, winner, sizes, u.shape[2] // kernel.shape[1])
    return torch.where(winner == sizes[0] * sizes[1] * sizes[2], -sign * torch.inf, value)
