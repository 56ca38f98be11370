"""Max-plus and min-plus convolution of signals [B,C,Or,H,W] with turned kernels [C,Or,KO,KH,KW]."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.morphology import custom_op as _op

__all__ = ["dilation_and_erosion", "morphological_convolution"]

BACKENDS = _backend.declare("morphological_convolution", "numba", "triton", "torch")


def morphological_convolution(
    u: Tensor, kernel: Tensor, sign: int = +1, backend: str | None = None, *, stride: int = 1
) -> Tensor:
    """``max(u - k)`` (sign +1) or ``min(u + k)`` (sign -1) over the taps of a turned kernel.

    ``out[b,c,o,h,w] = max over (do,dh,dw) of u[b,c,(stride*o+do) mod planes,h+dh,w+dw] - kernel[c,o,do,dh,dw]``. Planes
    are periodic; taps outside the image never win; a kernel entry of +inf means that the tap is absent, and an
    output that no tap reaches is ``-sign * inf`` without gradient. The gradient goes to the winning tap, the first
    in the order (do, dh, dw) at ties, in every backend. NaN in a tap that is present makes the output NaN. Half
    precision is computed in float32.

    Args:
        u: signal [B,C,planes,H,W], where ``planes = stride * Or``.
        kernel: turned kernel [C,Or,KO,KH,KW] with odd sizes, of the dtype and device of ``u``.
        sign: +1 for dilation, -1 for erosion.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.
        stride: planes of u for each orientation of the kernel and of the output; the others lie between.

    Returns:
        Tensor [B,C,Or,H,W] of the dtype of ``u``.

    Raises:
        ValueError: if a shape, the sign, the stride or the backend does not fit.
        TypeError: if an argument is no floating-point tensor or the dtypes differ.
    """
    _checks.signal("u", u, 5, "[B,C,Or,H,W]")
    _checks.kernel(u, kernel, stride=stride)
    if type(sign) is not int or sign not in (1, -1):
        _checks.choice("sign", sign, (1, -1))
    chosen = _backend.choose("morphological_convolution", u, backend)
    keep = torch.is_grad_enabled() and (u.requires_grad or kernel.requires_grad)
    if _transforms.differentiated(u, kernel):
        return _op.functorch_fallback(u, kernel, sign, chosen)
    return _op.morphology(u, kernel, sign, keep, chosen)[0]


def dilation_and_erosion(
    u: Tensor, dilation: Tensor, erosion: Tensor, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """``max(u - dilation)`` and ``min(u + erosion)`` of one signal, as the morphological gradient needs.

    The same as two calls of :func:`morphological_convolution`; the Triton version reads the signal once for both. (The
    dilation and erosion of a :class:`~pdegcnn.nn.PDELayer` follow one another, so they cannot share their input.)

    Args:
        u: signal [B,C,Or,H,W].
        dilation: turned kernel [C,Or,KO,KH,KW] of the dilation, odd sizes, of the dtype and device of ``u``.
        erosion: the same for the erosion, of the same shape.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.

    Returns:
        Dilated and eroded signal, of the shape and dtype of ``u``.

    Raises:
        ValueError: if a shape or the backend does not fit.
        TypeError: if an argument is no floating-point tensor or the dtypes differ.
    """
    _checks.signal("u", u, 5, "[B,C,Or,H,W]")
    _checks.kernel(u, dilation, "dilation")
    _checks.kernel(u, erosion, "erosion")
    if erosion.shape != dilation.shape:
        raise ValueError(f"erosion: expected shape {tuple(dilation.shape)} as dilation, got {tuple(erosion.shape)}")
    chosen = _backend.choose("morphological_convolution", u, backend)
    keep = torch.is_grad_enabled() and (u.requires_grad or dilation.requires_grad or erosion.requires_grad)
    if _transforms.differentiated(u, dilation, erosion):
        return (
            morphological_convolution(u, dilation, 1, backend),
            morphological_convolution(u, erosion, -1, backend),
        )
    dilated, _, eroded, _ = _op.morphology_pair(u, dilation, erosion, keep, chosen)
    return dilated, eroded
