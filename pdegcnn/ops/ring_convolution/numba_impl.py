"""Fast CPU version of the linear convolution on rings."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops.ring_morphology.numba_impl import WIDE

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def correlate(u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int) -> Tensor:
    """Sum over the taps."""
    if _turns(u, kernel.shape[1]):
        return correlate(*_turned(u, kernel, taps), start, longest).transpose(2, 4).contiguous()
    return _summed(u, kernel, taps, start, start[:0])


def spread(grad: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int) -> Tensor:
    """Return the gradient of :func:`correlate` in the signal."""
    if _turns(grad, kernel.shape[1]):
        return spread(*_turned(grad, kernel, taps), start, longest).transpose(2, 4).contiguous()
    back, first, order = torch.empty_like(taps), torch.zeros_like(start), torch.empty_like(taps[:, 0])
    given = [_jit.array(x) for x in (taps, start, torch.zeros_like(start))]
    reverse = _jit.specialise(LOOPS, None, 0).reverse
    reverse(*given, grad.shape[2], grad.shape[4], *(x.numpy() for x in (back, first, order)))
    return _summed(grad, kernel, back, first, order)


def products(grad: Tensor, u: Tensor, taps: Tensor, start: Tensor, longest: int, kernels: int) -> Tensor:
    """Return the gradient of :func:`correlate` in the kernel ``[C,kernels,S]``."""
    if _turns(u, kernels):
        around = u.transpose(2, 4).contiguous()
        return products(*_turned(grad, around, taps), start, longest, kernels)
    out = torch.empty(grad.shape[1], kernels, len(taps), dtype=torch.float64)
    given = [_jit.array(x) for x in (grad, u, taps, start, out)]
    loop = _jit.with_room(_jit.specialise(LOOPS, None, 0).products, *_rooms(u, taps))
    _jit.parallel(loop, grad.shape[1], *given, _together(u))
    return out.to(grad.dtype)


def _summed(u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, order: Tensor) -> Tensor:
    """Convolve blocks of signals, with the weights of the taps ``order`` if there are any."""
    out, size = torch.empty_like(u), _together(u)
    given = [_jit.array(x) for x in (u, kernel, taps, start, order, out)]
    turned = len(order), kernel.dtype, 0
    loop = _jit.with_room(_jit.specialise(LOOPS, None, 0).convolve, *_rooms(u, taps), turned)
    _jit.parallel(loop, u.shape[1] * -(-len(u) // size), *given, size)
    return out


def _rooms(u: Tensor, taps: Tensor) -> tuple[tuple[int, torch.dtype, float], ...]:
    """Return what loops need room for: signals with every ring twice, one ring, and the places of taps."""
    wide = u.shape[4] * _together(u)
    return (2 * u.shape[2] * u.shape[3] * wide, u.dtype, 0), (wide, u.dtype, 0), (len(taps), torch.uint64, 0)


def _turns(u: Tensor, kernels: int) -> bool:
    """Return whether rings are points and the kernel serves all of the fibre, which then becomes the inner axis."""
    return u.shape[4] == 1 and u.shape[2] > 1 and kernels == 1


def _turned(u: Tensor, other: Tensor, taps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the signal with the fibre as ring, ``other``, and the taps for it."""
    return u.transpose(2, 4).contiguous(), other, taps[:, [0, 2, 1]].contiguous()


def _together(u: Tensor) -> int:
    """Return the number of signals of a channel in one inner loop."""
    return max(1, min(len(u), WIDE // u.shape[-1]))
