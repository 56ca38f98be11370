"""The morphological convolution as torch operators.

The forward operator remembers which row of taps holds the winning one, in the smallest integer type that holds the
number of rows (that number itself stands for no tap). The backward operator finds the column of the winner again.
On a processor that notes the tap itself as fast, the Numba version remembers taps; no other version reads them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._argmax_autograd import Part, Reading, register_argmax, register_pull
from pdegcnn.ops._operator import implementation, index_dtype, operator
from pdegcnn.ops.morphology import torch_impl


@operator("pdegcnn::morphology")
def morphology(
    u: Tensor, kernel: Tensor, sign: int, keep: bool, backend: str, periodic: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the value [B,C,Or,H,W] and rows of the winning taps of the same shape (empty unless ``keep``).

    u may have more planes, a whole number for each orientation of the kernel.
    """
    forward = implementation("morphology", backend).forward
    rows = index_dtype(kernel.shape[2] * kernel.shape[3] + 1)
    return forward(u.contiguous(), kernel.contiguous(), sign, keep, rows, periodic)


@morphology.register_fake
def _(u: Tensor, kernel: Tensor, sign: int, keep: bool, backend: str, periodic: bool = True) -> tuple[Tensor, Tensor]:
    out = u.new_empty(_out_shape(u, kernel))
    return out, out.new_empty(out.shape if keep else (0,), dtype=index_dtype(kernel.shape[2] * kernel.shape[3] + 1))


def _out_shape(u: Tensor, kernel: Tensor) -> tuple[int, ...]:
    return (*u.shape[:2], kernel.shape[1], *u.shape[3:])


@operator("pdegcnn::morphology_backward")
def morphology_backward(
    grad: Tensor, rows: Tensor, u: Tensor, kernel: Tensor, sign: int, backend: str
) -> tuple[Tensor, Tensor]:
    """Return gradients in u and kernel, from the rows of the winning taps."""
    signal = u if backend == "numba" else u.contiguous()  # which copies a signal of one number to its whole size
    return implementation("morphology", backend).backward(
        grad.contiguous(), rows.contiguous(), signal, kernel.contiguous(), sign
    )


@morphology_backward.register_fake
def _(grad: Tensor, rows: Tensor, u: Tensor, kernel: Tensor, sign: int, backend: str) -> tuple[Tensor, Tensor]:
    return grad.new_empty(u.shape), grad.new_empty(kernel.shape)


def _parts(
    needs: Any, u: Tensor, kernel: Tensor, sign: int, keep: bool, backend: str, periodic: bool = True
) -> list[Part]:
    return [Part((0, 1), (_to_search(u, kernel, backend), kernel, sign, backend))]


def _to_search(u: Tensor, kernel: Tensor, backend: str) -> Tensor:
    """Return the signal that the backward pass searches for winning taps, or one number in its shape if it need not."""
    if backend != "numba" or not implementation("morphology", backend).keeps_taps(kernel):
        return u
    return u.detach().new_zeros(()).expand(u.shape)


def _reading(grad: Tensor, rows: Tensor, u: Tensor, kernel: Tensor, sign: int, backend: str) -> Reading:
    taps = _winning_taps(rows, u, kernel, sign, backend)
    return Reading(lambda u, kernel: torch_impl.read(taps, u, kernel, sign), (u, kernel), (None, None))


def _winning_taps(rows: Tensor, u: Tensor, kernel: Tensor, sign: int, backend: str) -> Tensor:
    """Return numbers of the winning taps, int64, of the winners that the version for ``backend`` kept."""
    module = implementation("morphology", "numba") if backend == "numba" else torch_impl
    return module.winning_taps(rows, u, kernel, sign)


register_argmax(morphology, morphology_backward, _parts, keep=3)
register_pull(morphology_backward, _reading)


@morphology.register_vmap
def _(info, in_dims, u, kernel, sign, keep, backend, periodic=True):
    size = info.batch_size
    if in_dims[1] is None:  # signals join the batch axis
        u = u.movedim(in_dims[0], 0)
        out, winner = morphology(u.flatten(0, 1), kernel, sign, keep, backend, periodic)
        split = (size, u.shape[1])
    else:  # pairs of signal and kernel join the channel axis
        u = u.movedim(in_dims[0], 1) if in_dims[0] is not None else u[:, None].expand(-1, size, *u.shape[1:])
        kernel = kernel.movedim(in_dims[1], 0)
        out, winner = morphology(u.flatten(1, 2), kernel.flatten(0, 1), sign, keep, backend, periodic)
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
    """Return dilation and erosion by kernels of one size, each with the rows of its winning taps."""
    module, u = implementation("morphology", backend), u.contiguous()
    kernels = [dilation.contiguous(), erosion.contiguous()]
    dtype = index_dtype(dilation.shape[2] * dilation.shape[3] + 1)
    if hasattr(module, "forward_pair"):
        first, second = module.forward_pair(u, kernels, keep, dtype)
    else:
        first, second = (module.forward(u, kernel, sign, keep, dtype, True) for kernel, sign in zip(kernels, (1, -1)))
    return *first, *second


@morphology_pair.register_fake
def _(u: Tensor, dilation: Tensor, erosion: Tensor, keep: bool, backend: str):
    dtype = index_dtype(dilation.shape[2] * dilation.shape[3] + 1)
    shape = u.shape if keep else (0,)
    outs = [u.new_empty(u.shape) for _ in range(2)]
    return outs[0], u.new_empty(shape, dtype=dtype), outs[1], u.new_empty(shape, dtype=dtype)


def _pair_parts(needs: Any, u: Tensor, dilation: Tensor, erosion: Tensor, keep: bool, backend: str) -> list[Part]:
    signal = _to_search(u, dilation, backend)
    return [Part((0, 1), (signal, dilation, 1, backend)), Part((0, 2), (signal, erosion, -1, backend))]


register_argmax(morphology_pair, morphology_backward, _pair_parts, keep=3)


def functorch_fallback(u: Tensor, kernel: Tensor, sign: int, backend: str, periodic: bool) -> Tensor:
    """Read the same values at the winning taps by plain torch, which function transforms can differentiate."""
    rows = _transforms.at_values(morphology, u, kernel, sign, True, backend, periodic)[1]
    taps = _transforms.at_values(_winning_taps, rows, u, kernel, sign, backend)
    return torch_impl.read(taps, u, kernel, sign)
