"""The max-plus convolution on rings as torch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._argmax_autograd import Part, Reading, register_argmax, register_pull
from pdegcnn.ops._operator import implementation, index_dtype, operator
from pdegcnn.ops.ring_morphology import torch_impl


@operator("pdegcnn::ring_morphology")
def ring_morphology(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, sign: int, keep: bool, backend: str
) -> tuple[Tensor, Tensor]:
    """Return the value [B,C,F,G,n] and winning taps of the same shape (empty unless ``keep``)."""
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
    grad: Tensor, winner: Tensor, taps: Tensor, start: Tensor, kernels: int, sign: int, backend: str
) -> tuple[Tensor, Tensor]:
    """Return gradients in u and kernel [C,kernels,S], from the winning taps."""
    grad_u, sums = implementation("ring_morphology", backend).backward(grad.contiguous(), winner, taps, start, kernels)
    return grad_u, -sign * sums


@ring_morphology_backward.register_fake
def _(grad, winner, taps, start, kernels, sign, backend):
    return grad.new_empty(grad.shape), grad.new_empty((grad.shape[1], kernels, taps.shape[0]))


def _parts(
    needs: Any,
    u: Tensor,
    kernel: Tensor,
    taps: Tensor,
    start: Tensor,
    longest: int,
    sign: int,
    keep: bool,
    backend: str,
) -> list[Part]:
    return [Part((0, 1), (taps, start, kernel.shape[1], sign, backend))]


def _reading(
    grad: Tensor, winner: Tensor, taps: Tensor, start: Tensor, kernels: int, sign: int, backend: str
) -> Reading:
    given = (torch.zeros_like(grad), grad.new_zeros(grad.shape[1], kernels, taps.shape[0]))
    return Reading(lambda u, k: torch_impl.read(winner, u, k, taps, start, sign), given, (None, None))


register_argmax(ring_morphology, ring_morphology_backward, _parts, keep=6)
register_pull(ring_morphology_backward, _reading)


def functorch_fallback(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, sign: int, backend: str
) -> Tensor:
    """Read the same values at the winning taps by plain torch, which function transforms can differentiate."""
    winner = _transforms.at_values(ring_morphology, u, kernel, taps, start, longest, sign, True, backend)[1]
    return torch_impl.read(winner, u, kernel, taps, start, sign)
