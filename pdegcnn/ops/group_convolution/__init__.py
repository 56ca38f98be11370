"""Linear group convolution of signals ``[B,C,Or,H,W]`` with kernels turned to each orientation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.group_convolution import custom_op as _op
from pdegcnn.ops.group_convolution.torch_impl import group_convolution as _expanded
from pdegcnn.ops.group_convolution.torch_impl import of_volumes as _of_volumes
from pdegcnn.ops.group_convolution.torch_impl import pull as _expanded_pull
from pdegcnn.ops.group_convolution.torch_impl import pull_of_volumes as _pull_of_volumes
from pdegcnn.ops.padding import BOUNDARIES, pad

__all__ = ["group_convolution", "pull"]

BACKENDS = _backend.declare("group_convolution", "torch", "triton")


def group_convolution(
    u: Tensor, kernel: Tensor, boundary: str = "zeros", backend: str | None = None, *, periodic: bool = True
) -> Tensor:
    r"""Correlate a signal with a kernel over orientations and image.

    .. math:: out_{b,c,o,h,w} = \sum_{do,dh,dw} u_{b,c,(o+do) \bmod Or,\, h+dh,\, w+dw}\; kernel_{c,o,do,dh,dw}

    Args:
        u: signal [B,C,Or,H,W].
        kernel: depthwise [C,Or,KO,KH,KW] or channel-mixing [Cout,C,Or,KO,KH,KW], odd sizes, dtype and device of u.
        boundary: outside the image ``"zeros"``, ``"replicate"`` (nearest pixel) or ``"periodic"``.
        backend: ``"torch"`` (one call of conv2d), ``"triton"``, or None for the default here. Channel-mixing kernels
            and ``torch.func`` transforms always go through conv2d.
        periodic: whether the first axis is periodic; otherwise it holds the slices of a volume, which share the kernel
            ``[C,1,KO,KH,KW]`` and continue beyond the ends like the image. This is one call of conv3d, or with
            ``backend="triton"`` a kernel with zeros outside.

    Returns:
        Tensor [B,C,Or,H,W], or [B,Cout,Or,H,W] for a channel-mixing kernel.

    Raises:
        ValueError: if a shape, the boundary or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
    """
    _checks.signal("u", u, 5, "[B,C,Or,H,W]")
    if not isinstance(kernel, Tensor) or kernel.ndim != 5:
        _checks.tensor("kernel", kernel, (5, 6), "[C,Or,KO,KH,KW] or [Cout,C,Or,KO,KH,KW]")
    if boundary not in BOUNDARIES:
        _checks.choice("boundary", boundary, BOUNDARIES)
    if periodic is not True and not _checks.flag("periodic", periodic):
        _checks.kernel(u[:, :, :1], kernel)
        if backend == "triton" and boundary == "zeros" and not _transforms.differentiated(u, kernel):
            around = _with_empty_slices(u, kernel)
            planes = kernel.expand(-1, around.shape[2], -1, -1, -1)
            return group_convolution(around, planes, boundary, backend)[:, :, : u.shape[2]]
        return _of_volumes(u, kernel, boundary)
    _checks.kernel(u, kernel if kernel.ndim == 5 else kernel.flatten(0, 1)[: kernel.shape[1]])
    chosen = _backend.choose("group_convolution", u, backend)
    if chosen == "torch" or kernel.ndim == 6 or _transforms.differentiated(u, kernel):
        return _expanded(u, kernel, boundary)
    padding = [kernel.shape[3] // 2, kernel.shape[4] // 2]
    if boundary != "zeros":
        u, padding = pad(u, padding[0], padding[1], boundary), [0, 0]
    return _op.correlate(u, kernel, padding, chosen)


def pull(
    grad: Tensor, u: Tensor, kernel: Tensor, backend: str | None = None, *, periodic: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the gradients in signal and depthwise kernel of :func:`group_convolution` with zeros outside.

    They are not recorded by autograd; backward passes in closed form use them.

    Args:
        grad: gradient of the result.
        u: the signal.
        kernel: the depthwise kernel.
        backend: as in :func:`group_convolution`.
        periodic: as in :func:`group_convolution`.
    """
    chosen = _backend.choose("group_convolution", u, backend)
    if chosen == "torch":
        return (_expanded_pull if periodic else _pull_of_volumes)(grad, u, kernel)
    if not periodic:
        grad, around = _with_empty_slices(grad, kernel), _with_empty_slices(u, kernel)
        planes = kernel.expand(-1, around.shape[2], -1, -1, -1)
        to_u, to_kernel = pull(grad, around, planes, backend)
        return to_u[:, :, : u.shape[2]], to_kernel.sum(1, keepdim=True)
    padding = [kernel.shape[3] // 2, kernel.shape[4] // 2]
    return (
        _op.spread(grad, kernel, padding, chosen),
        _op.products(grad, u, padding, kernel.shape[2], chosen),
    )


def _with_empty_slices(u: Tensor, kernel: Tensor) -> Tensor:
    """Append zero slices to volumes until their first axis can be treated as periodic."""
    return F.pad(u, (0, 0, 0, 0, 0, kernel.shape[2] // 2))
