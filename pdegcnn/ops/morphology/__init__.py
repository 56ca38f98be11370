"""Max-plus, min-plus and log-plus convolution of signals ``[B,C,Or,H,W]`` with turned kernels ``[C,Or,KO,KH,KW]``."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn.ops import backend as _backend
from pdegcnn.ops._log_plus import soft_extremum as _soft_extremum
from pdegcnn.ops.morphology import custom_op as _op
from pdegcnn.ops.morphology.log_plus import GridTaps as _GridTaps

__all__ = ["dilation_and_erosion", "log_plus_mean", "morphological_convolution"]

BACKENDS = _backend.declare("morphological_convolution", "numba", "triton", "torch")


def morphological_convolution(
    u: Tensor,
    kernel: Tensor,
    sign: int = +1,
    backend: str | None = None,
    *,
    stride: int = 1,
    periodic: bool = True,
    semifield: str = "max_plus",
    temperature: Tensor | float | None = None,
) -> Tensor:
    r"""Return ``max(u - k)`` (sign +1) or ``min(u + k)`` (sign -1) over the taps of a turned kernel.

    .. math:: out_{b,c,o,h,w} = \max_{do,dh,dw}\;
        u_{b,c,(stride \cdot o+do) \bmod planes,\, h+dh,\, w+dw} - kernel_{c,o,do,dh,dw}

    Planes are periodic unless they are slices of a volume. Taps outside the image never count. A kernel entry of +inf
    marks an absent tap, and an output without taps is ``-sign * inf``, without gradient. In every backend the gradient
    goes to the tap that attains the maximum, the first in the order (do, dh, dw) among equal ones. NaN in a tap makes
    the output NaN. Half precision is computed in float32.

    With ``semifield="log_plus"`` the maximum is soft: :math:`t \log \sum e^{(u - k)/t}`, or
    :math:`-t \log \sum e^{-(u + k)/t}` for sign -1. It exceeds the maximum by at most :math:`t \log N` for N taps, and
    its gradient reaches all taps. It is exact to rounding if the range of a plane of u is below 680 t; for wider ranges
    the maximum may replace sums that underflow. Source: Bellaard et al. (arXiv 2403.15182).

    Args:
        u: signal [B,C,planes,H,W], where ``planes = stride * Or``.
        kernel: turned kernel [C,Or,KO,KH,KW] with odd sizes, of the dtype and device of ``u``.
        sign: +1 for dilation, -1 for erosion.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.
        stride: planes of u for each orientation of the kernel and of the output; the others lie between. Max-plus only.
        periodic: whether the first plane follows the last; if not, taps beyond them are left out, and log-plus
            takes one kernel for all planes, [C,1,KO,KH,KW].
        semifield: ``"max_plus"`` or ``"log_plus"``.
        temperature: t > 0 of log-plus, a number or a tensor [] or [C] of the dtype of ``u``; in units of u.

    Returns:
        Tensor [B,C,Or,H,W] of the dtype of ``u``.

    Raises:
        ValueError: if a shape, the sign, the stride, the backend or the temperature does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
    """
    _checks.signal("u", u, 5, "[B,C,Or,H,W]")
    soft = semifield != "max_plus" or temperature is not None
    if type(periodic) is not bool:
        _checks.flag("periodic", periodic)
    _checks.kernel(u if periodic or not soft else u[:, :, :1], kernel, stride=stride)
    if type(sign) is not int or sign not in (1, -1):
        _checks.choice("sign", sign, (1, -1))
    if soft:
        t = _checks.temperature(temperature, semifield, u)
        if stride != 1:
            raise ValueError(f"stride: expected 1 for semifield='log_plus', got {stride}")
        return _soft(u, kernel, t, sign, backend, periodic=periodic, mean=False)
    chosen = _backend.choose("morphological_convolution", u, backend)
    keep = torch.is_grad_enabled() and (u.requires_grad or kernel.requires_grad)
    if _transforms.differentiated(u, kernel):
        return _op.functorch_fallback(u, kernel, sign, chosen, periodic)
    return _op.morphology(u, kernel, sign, keep, chosen, periodic)[0]


def log_plus_mean(
    u: Tensor,
    kernel: Tensor,
    temperature: Tensor | float,
    sign: int = +1,
    backend: str | None = None,
    *,
    periodic: bool = True,
) -> Tensor:
    r"""Return :math:`t \log(\sum e^{(u - k)/t} / \sum e^{-k/t})` over the taps inside the image, which keeps constants.

    It is the log-plus convolution of :func:`morphological_convolution` minus that of zero (sign -1: of -u, negated). It
    lies between the least and greatest value of the taps. For low temperatures it tends to the maximum of ``u - k``
    (within :math:`t \log N` for N taps, if the centre costs nothing), for high ones to the mean of u over the taps.

    Args:
        u: signal [B,C,Or,H,W].
        kernel: turned kernel [C,Or,KO,KH,KW] with odd sizes, whose centre is present, of the dtype and device of ``u``.
        temperature: t > 0, a number or a tensor [] or [C] of the dtype of ``u``.
        sign: +1 for dilation, -1 for erosion.
        backend: ``"triton"`` or ``"torch"``; by default the fastest that runs here.
        periodic: as in :func:`morphological_convolution`; if not, the kernel is [C,1,KO,KH,KW].

    Returns:
        Tensor of the shape and dtype of ``u``.

    Raises:
        ValueError: if a shape, the sign, the backend or the temperature does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
    """
    _checks.signal("u", u, 5, "[B,C,Or,H,W]")
    _checks.kernel(u if _checks.flag("periodic", periodic) else u[:, :, :1], kernel)
    _checks.choice("sign", sign, (1, -1))
    t = _checks.temperature(temperature, "log_plus", u)
    return _soft(u, kernel, t, sign, backend, periodic=periodic, mean=True)


def _soft(
    u: Tensor,
    kernel: Tensor,
    temperature: Tensor | float,
    sign: int,
    backend: str | None,
    *,
    periodic: bool,
    mean: bool,
) -> Tensor:
    taps = _GridTaps(backend, partial(morphological_convolution, periodic=periodic), periodic)
    return _soft_extremum(u, kernel, temperature, sign, taps, mean=mean)


def dilation_and_erosion(
    u: Tensor, dilation: Tensor, erosion: Tensor, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``max(u - dilation)`` and ``min(u + erosion)`` of one signal, for example for a morphological gradient.

    The results equal those of two calls of :func:`morphological_convolution`; the Triton version reads the signal once
    for both. (The dilation and erosion of a :class:`~pdegcnn.nn.PDELayer` follow one another, so they cannot share
    their input.)

    Args:
        u: signal [B,C,Or,H,W].
        dilation: turned kernel [C,Or,KO,KH,KW] of the dilation, odd sizes, of the dtype and device of ``u``.
        erosion: the same for the erosion, of the same shape.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.

    Returns:
        Dilated and eroded signal, of the shape and dtype of ``u``.

    Raises:
        ValueError: if a shape or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
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
