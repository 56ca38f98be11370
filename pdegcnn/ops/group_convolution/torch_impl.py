"""Group convolution as one planar convolution whose channels are (channel, orientation) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._typing import Function
from pdegcnn.ops import _jit
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.padding import pad

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def expand(kernel: Tensor) -> Tensor:
    """Turn [...,Or,KO,KH,KW] into [...,Or,Or,KH,KW]: from output orientation to source orientation."""
    orientations, ko = kernel.shape[-4:-2]
    folds = -(-ko // orientations)
    kernel = F.pad(kernel, (0, 0, 0, 0, 0, folds * orientations - ko))
    kernel = kernel.unflatten(-3, (folds, orientations)).sum(-4)  # offsets that agree modulo Or
    o = torch.arange(orientations, device=kernel.device)
    return kernel[..., o[:, None], (o[None, :] - o[:, None] + ko // 2) % orientations, :, :]


def group_convolution(u: Tensor, kernel: Tensor, boundary: str) -> Tensor:
    """Compute the reference by one call of conv2d: grouped for a depthwise kernel, full for a mixing one."""
    batch, channels, orientations, height, width = u.shape
    kh, kw = kernel.shape[-2:]
    weight = expand(kernel)
    padding = (kh // 2, kw // 2)
    if boundary != "zeros":
        u, padding = pad(u, *padding, boundary), (0, 0)
    if kernel.ndim == 5:
        out = F.conv2d(u.flatten(1, 2), weight.flatten(0, 1), padding=padding, groups=channels)
    else:
        out = F.conv2d(u.flatten(1, 2), weight.transpose(1, 2).flatten(2, 3).flatten(0, 1), padding=padding)
    return out.unflatten(1, (-1, orientations))


def of_volumes(u: Tensor, kernel: Tensor, boundary: str) -> Tensor:
    """Convolve volumes [B,C,D,H,W] depthwise with one kernel [C,1,KD,KH,KW] for all slices."""
    slices, rows, columns = padding = [n // 2 for n in kernel.shape[2:]]
    if boundary != "zeros":
        u, padding = pad(u, rows, columns, boundary, slices), [0, 0, 0]
    if _records(u, kernel):
        return _Volumes.apply(u, kernel, padding)
    return F.conv3d(u, kernel, padding=padding, groups=u.shape[1])


def _records(u: Tensor, kernel: Tensor) -> bool:
    """Return whether a backward pass by compiled loops may follow: of signals whose values may be read."""
    if not torch.is_grad_enabled() or not (u.requires_grad or kernel.requires_grad):
        return False
    plain = u.dtype in (torch.float32, torch.float64) and _has_loops(u)
    return plain and _checks.has_values(u) and _checks.has_values(kernel) and not _checks.autocasts(u.device)


class _Volumes(Function):
    """Depthwise conv3d with a faster backward pass."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        u, kernel, ctx.padding = arguments
        ctx.save_for_backward(u, kernel)
        return F.conv3d(u, kernel, padding=ctx.padding, groups=u.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (u, kernel), needs = grads, ctx.saved_tensors, ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or _transforms.is_batched(grad):  # further derivatives need a formula
            formula = partial(F.conv3d, padding=ctx.padding, groups=u.shape[1])
            return *_transforms.pull(formula, grad, (u, kernel), needs), None
        return *_pull_of_volumes(grad, u, kernel, ctx.padding, needs), None


def pull(grad: Tensor, u: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients in the signal and a depthwise kernel, with zeros outside."""
    with torch.enable_grad():
        kernel = kernel.detach().requires_grad_()
        weight = expand(kernel).flatten(0, 1)
    padding = [kernel.shape[3] // 2, kernel.shape[4] // 2]
    planes = u.shape[2] == 1 and _has_loops(grad)
    to_u, to_weight, _ = torch.ops.aten.convolution_backward(
        grad.flatten(1, 2), u.flatten(1, 2), weight.detach(), None, [1, 1], padding, [1, 1], False, [0, 0],
        u.shape[1], [True, not planes, False],
    )  # fmt: skip
    if planes:
        to_weight = _products(grad, u, weight[:, None], [0, *padding])[:, 0]
    return to_u.view(u.shape), torch.autograd.grad(weight, kernel, to_weight)[0]


def pull_of_volumes(grad: Tensor, u: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients of :func:`of_volumes` in the signal and the kernel, with zeros outside."""
    padding = [n // 2 for n in kernel.shape[2:]]
    if _has_loops(grad):
        to_u, to_kernel = _pull_of_volumes(grad, u, kernel, padding, (True, True))
        assert to_u is not None and to_kernel is not None
        return to_u, to_kernel
    to_u, to_kernel, _ = torch.ops.aten.convolution_backward(
        grad, u, kernel, None, [1, 1, 1], padding, [1, 1, 1], False, [0, 0, 0], u.shape[1], [True, True, False],
    )  # fmt: skip
    return to_u, to_kernel


def _pull_of_volumes(
    grad: Tensor, u: Tensor, kernel: Tensor, padding: Sequence[int], needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the wanted gradients, several times as fast as the backward pass of conv3d."""
    back = [n - 1 - p for n, p in zip(kernel.shape[2:], padding)]
    to_u = F.conv3d(grad, kernel.flip(2, 3, 4), padding=back, groups=u.shape[1]) if needs[0] else None
    return to_u, _products(grad, u, kernel, padding) if needs[1] else None


def _has_loops(grad: Tensor) -> bool:
    """Return whether the compiled loops for gradients in kernels run here."""
    return grad.device.type == "cpu" and not _backend.refusal("convection", "numba", "cpu")


def _products(grad: Tensor, u: Tensor, kernel: Tensor, padding: Sequence[int]) -> Tensor:
    """Return the gradient in the kernel [C,1,KD,KH,KW] of a convolution of volumes, or of single planes."""
    out = torch.empty(kernel.shape[0], *kernel.shape[2:], dtype=torch.float64)
    slices, rows, columns = padding
    around, lines = pad(u, rows, columns, "zeros", slices), F.pad(grad, (0, kernel.shape[4] - 1))
    products = _jit.specialise(LOOPS, None, 0).products
    _jit.parallel(products, len(out), _jit.array(lines), _jit.array(around), out.numpy())
    return out[:, None].to(kernel.dtype)
