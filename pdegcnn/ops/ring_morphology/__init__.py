"""Max-plus and min-plus convolution of signals on rings (or single points) of the sphere and a fibre."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.ring_morphology import custom_op as _op
from pdegcnn.ops.ring_morphology.torch_impl import sources

__all__ = ["check_arguments", "ring_morphology", "winning_taps"]

BACKENDS = _backend.declare("ring_morphology", "numba", "triton", "torch")

_LAYOUT = "[B,C,F,G,n]"


def ring_morphology(
    u: Tensor,
    kernel: Tensor,
    taps: Tensor,
    start: Tensor,
    longest: int,
    sign: int = +1,
    backend: str | None = None,
) -> Tensor:
    r"""Return ``max(u - k)`` (sign +1) or ``min(u + k)`` (sign -1) over the taps of each ring.

    .. math:: out_{b,c,f,g,j} = \max_{start_g \le s < start_{g+1}}
        u_{b,c,(f+df) \bmod F,\, ring,\, (j+dj) \bmod n} - kernel_{c,f,s}

    Here ``(ring, df, dj) = taps[s]``: a max-plus convolution that commutes with shifts along ring and fibre. Point
    grids are rings of one point, n = 1. In every backend the gradient goes to the tap that attains the maximum, the
    first of its list among equal ones. +inf in the kernel marks an absent tap. Half precision is computed in float32.

    Args:
        u: signal [B,C,F,G,n]: fibre, rings, points of a ring.
        kernel: costs [C,F,S], or [C,1,S] if they are the same along the fibre, of the dtype and device of ``u``.
        taps: int64 [S,3] (ring, shift along the fibre in [0,F), shift along the ring in [0,n)) on the same device; the
            first tap of each list should be the centre: its cost is used to skip others.
        start: int64 [G+1], index of the first tap of each ring.
        longest: length of the longest list.
        sign: +1 for dilation, -1 for erosion.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.

    Returns:
        Tensor of the shape and dtype of ``u``.

    Raises:
        ValueError: if a shape, the sign or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
    """
    check_arguments(u, kernel, taps, start)
    _checks.choice("sign", sign, (1, -1))
    chosen = _backend.choose("ring_morphology", u, backend)
    keep = torch.is_grad_enabled() and (u.requires_grad or kernel.requires_grad)
    if _transforms.differentiated(u, kernel):
        return _op.functorch_fallback(u, kernel, taps, start, longest, sign, chosen)
    return _op.ring_morphology(u, kernel, taps, start, longest, sign, keep, chosen)[0]


def check_arguments(u: Tensor, kernel: Tensor, taps: Tensor, start: Tensor) -> None:
    """Raise unless signal, kernel and lists of taps fit each other.

    Args:
        u: signal ``[B,C,F,G,n]``: fibre, rings, points of a ring.
        kernel: ``[C,F,S]`` or ``[C,1,S]``, of the dtype and device of ``u``.
        taps: int64 ``[S,3]``.
        start: int64 ``[G+1]``, index of the first tap of each ring.

    Raises:
        ValueError: if a shape, a device or the dtype of a list does not fit.
        TypeError: if ``u`` or ``kernel`` is not a floating-point tensor, or their dtypes differ.
    """
    _checks.signal("u", u, 5, _LAYOUT)
    _checks.tensor("kernel", kernel, 3, "[C,F,S]")
    _checks.same_kind("kernel", kernel, "u", u)
    channels, fibre, rings = u.shape[1:4]
    if kernel.shape[0] != channels or kernel.shape[1] not in (1, fibre) or kernel.shape[2] != taps.shape[0]:
        wanted = f"[{channels}, 1 or {fibre}, {taps.shape[0]}]"
        raise ValueError(f"kernel: expected shape {wanted} to fit u and taps, got {tuple(kernel.shape)}")
    for name, value, shape in (("taps", taps, (taps.shape[0], 3)), ("start", start, (rings + 1,))):
        if value.dtype != torch.int64 or tuple(value.shape) != shape:
            raise ValueError(f"{name}: expected int64 of shape {shape}, got {value.dtype} {tuple(value.shape)}")


def winning_taps(
    u: Tensor,
    kernel: Tensor,
    taps: Tensor,
    start: Tensor,
    longest: int,
    sign: int = +1,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the sample and the tap that attain the maximum (or minimum) in :func:`ring_morphology`.

    Args:
        u: signal ``[B,C,F,G,n]``: fibre, rings, points of a ring.
        kernel: costs ``[C,F,S]``, or ``[C,1,S]`` if they are the same along the fibre; +inf marks an absent tap.
        taps: int64 ``[S,3]``: ring, shift along the fibre in [0,F), shift along the ring in [0,n).
        start: int64 ``[G+1]``, index of the first tap of each ring.
        longest: length of the longest list.
        sign: +1 for dilation, -1 for erosion.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.

    Returns:
        Flat positions in ``[F*G*n]`` and tap numbers in ``[S]``, int64 ``[B,C,F,G,n]``; an output without taps gets the
        first tap of its list.

    Raises:
        ValueError: if a shape or the backend does not fit.
        TypeError: if ``u`` or ``kernel`` is not a floating-point tensor, or their dtypes differ.
    """
    check_arguments(u, kernel, taps, start)
    chosen = _backend.choose("ring_morphology", u, backend)
    winner = _transforms.at_values(_op.ring_morphology, u, kernel, taps, start, longest, sign, True, chosen)[1]
    position, entry, _ = sources(winner, taps, start, 1)
    return position, entry
