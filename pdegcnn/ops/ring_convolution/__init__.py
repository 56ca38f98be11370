"""Linear convolution of signals on rings (or single points) and a fibre: the sums of log-plus on S2 and SO(3)."""

from __future__ import annotations

from torch import Tensor

from pdegcnn import _transforms
from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.ring_convolution import custom_op as _op
from pdegcnn.ops.ring_convolution import reference as _reference
from pdegcnn.ops.ring_morphology import check_arguments

__all__ = ["pull", "ring_convolution"]

BACKENDS = _backend.declare("ring_convolution", "numba", "triton", "torch")


def ring_convolution(
    u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, backend: str | None = None
) -> Tensor:
    """Sum u times the kernel over the taps of each ring.

    ``out[b,c,f,g,j] = sum over s in start[g]..start[g+1] of u[b,c,(f+df) mod F,ring,(j+dj) mod n] * kernel[c,f,s]``
    with ``(ring, df, dj) = taps[s]``: the linear counterpart of :func:`pdegcnn.ops.ring_morphology.ring_morphology`,
    with the same lists. Half precision is computed in float32.

    Args:
        u: signal [B,C,F,G,n]: fibre, rings, points of a ring.
        kernel: weights [C,F,S], or [C,1,S] where the fibre does not matter, of the dtype and device of ``u``.
        taps: int64 [S,3] (ring, shift along the fibre in [0,F), shift along the ring in [0,n)) on the same device.
        start: int64 [G+1], where the list of each ring begins.
        longest: length of the longest list.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.

    Returns:
        Tensor of the shape and dtype of ``u``.

    Raises:
        ValueError: if a shape or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
    """
    check_arguments(u, kernel, taps, start)
    chosen = _backend.choose("ring_convolution", u, backend)
    dtype = wide_dtype(u.dtype)
    if _transforms.differentiated(u, kernel):
        return _reference.correlate(u.to(dtype), kernel.to(dtype), taps, start, longest).to(u.dtype)
    return _op.correlate(u.to(dtype), kernel.to(dtype), taps, start, longest, chosen).to(u.dtype)


def pull(
    grad: Tensor, u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor, longest: int, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of :func:`ring_convolution` in signal and kernel, for backward passes in closed form.

    They are not recorded for further derivatives. Arguments are not checked.

    Args:
        grad: gradient of the result, ``[B,C,F,G,n]``.
        u: the signal ``[B,C,F,G,n]``, float32 or float64.
        kernel: weights ``[C,F,S]`` or ``[C,1,S]`` of the dtype and device of ``u``.
        taps: int64 ``[S,3]``: ring, shift along the fibre in [0,F), shift along the ring in [0,n).
        start: int64 ``[G+1]``, where the list of each ring begins.
        longest: length of the longest list.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.

    Returns:
        Gradients of the shapes of ``u`` and ``kernel``.
    """
    chosen = _backend.choose("ring_convolution", u, backend)
    to_kernel = _op.products(grad, u, taps, start, longest, kernel.shape[1], chosen)
    return _op.spread(grad, kernel, taps, start, longest, chosen), to_kernel
