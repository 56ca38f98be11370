"""The linear convolution on rings in plain torch on any device: gathers and sums, in the same order in every run."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn.ops.ring_convolution.reference import correlate, slots

__all__ = ["correlate", "products", "spread"]


def reversed_lists(
    kernel: Tensor, taps: Tensor, start: Tensor, fibre: int, length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return kernel, taps and start of the reversed lists, with which the transpose is a convolution."""
    rings = start.numel() - 1
    owner = torch.repeat_interleave(torch.arange(rings, device=start.device), start.diff(), output_size=len(taps))
    order = taps[:, 0].argsort(stable=True)
    first = torch.nn.functional.pad(torch.bincount(taps[:, 0], minlength=rings).cumsum(0), (1, 0))
    back = torch.stack((owner, -taps[:, 1] % fibre, -taps[:, 2] % length), dim=1)[order]
    if kernel.shape[1] > 1:
        row = torch.arange(fibre, device=kernel.device)[:, None] - taps[:, 1]
        kernel = kernel.gather(1, (row % fibre).expand(kernel.shape[0], -1, -1))
    return kernel[:, :, order], back, first


def spread(grad: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int) -> Tensor:
    """Return the gradient of :func:`correlate` in the signal, ``[B,C,F,G,n]``.

    Args:
        grad: gradient of the result, ``[B,C,F,G,n]``.
        kernel: weights ``[C,F,S]`` or ``[C,1,S]``.
        taps: int64 ``[S,3]``: ring, shift along the fibre in [0,F), shift along the ring in [0,n).
        start: int64 ``[G+1]``, where the list of each ring begins.
        longest: length of the longest list; not used, because the lists of the transpose have other lengths.
    """
    turned, back, first = reversed_lists(kernel, taps, start, grad.shape[2], grad.shape[4])
    return correlate(grad, turned, back, first, int(first.diff().max()))


def products(grad: Tensor, u: Tensor, taps: Tensor, start: Tensor, longest: int, kernels: int) -> Tensor:
    """Return the gradient of :func:`correlate` in the kernel, ``[C,kernels,S]``, summed in float64.

    Args:
        grad: gradient of the result, ``[B,C,F,G,n]``.
        u: the signal ``[B,C,F,G,n]``.
        taps: int64 ``[S,3]``: ring, shift along the fibre in [0,F), shift along the ring in [0,n).
        start: int64 ``[G+1]``, where the list of each ring begins.
        longest: length of the longest list.
        kernels: F, or 1 for a kernel that is the same along the fibre.
    """
    out = torch.zeros(grad.shape[1], grad.shape[2], len(taps), dtype=torch.float64, device=grad.device)
    for value, number, exists in slots(u, taps, start, longest):
        sums = (grad * value).double().sum((0, 4))
        out[:, :, number[exists]] = sums[:, :, exists]
    return (out if kernels > 1 else out.sum(1, keepdim=True)).to(grad.dtype)
