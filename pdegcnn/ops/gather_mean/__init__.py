"""Weighted means over geodesic balls in the bundle of directions of a mesh, for diffusion by kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors
from pdegcnn.ops.gather_mean import custom_op as _op
from pdegcnn.ops.gather_mean import reference as _reference

__all__ = ["gather_mean"]

BACKENDS = _backend.declare("gather_mean", "numba", "triton", "torch")


def gather_mean(
    u: Tensor,
    lists: DirectionalNeighbors,
    matrix: Tensor,
    profile: Tensor,
    reach: float | Tensor,
    taps: int,
    backend: str | None = None,
) -> Tensor:
    r"""Return the mean of u over the taps of every point, weighted by a profile of the distance and by vertex areas.

    .. math:: out_p = \sum_q k(d_{pq})\, a_q u_q \Big/ \sum_q k(d_{pq})\, a_q, \qquad d^2 = y^T G y

    The profile is given at equal distances from 0 to ``reach``, interpolated linearly, and zero beyond. Weights are
    never stored, so memory does not grow with the number of taps. Half precision is computed in float32.

    Args:
        u: signal [B,C,Or,V].
        lists: pairs of the mesh, of the precision of ``u`` (float32 for half precision).
        matrix: metric G, [C,3,3], symmetric positive definite.
        profile: samples k >= 0 of the profile, [T], positive at distance zero.
        reach: distance of the last sample; a tensor inside function transforms, which run the torch version.
        taps: odd number of steps of directions; with one more than there are directions, the outer two count half.
        backend: ``"numba"``, ``"triton"`` (second derivatives and ``torch.func`` transforms run the torch version, as
            do gradients in the profile for ``"triton"``) or ``"torch"``; by default the fastest that runs here.

    Returns:
        Tensor of the shape and dtype of ``u``, within its range.

    Raises:
        ValueError: if a shape or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor.
    """
    _checks.signal("u", u, 4, "[B,C,Or,V]")
    if u.shape[3] != lists.start.numel() - 1:
        raise ValueError(f"u: expected {lists.start.numel() - 1} vertices in [B,C,Or,V], got shape {tuple(u.shape)}")
    if tuple(matrix.shape) != (u.shape[1], 3, 3):
        raise ValueError(f"matrix: expected shape [{u.shape[1]},3,3], got {tuple(matrix.shape)}")
    _checks.tensor("profile", profile, 1, "[T]")
    _checks.odd("taps", (taps,))
    dtype = wide_dtype(u.dtype)
    arguments = (u.to(dtype), lists, matrix.to(dtype), profile.to(dtype), reach, taps)
    chosen = _backend.choose("gather_mean", u, backend)
    if chosen == "triton" and torch.is_grad_enabled() and profile.requires_grad:
        chosen = "torch"  # samples of the profile are summed by the other versions only
    if chosen == "torch" or isinstance(reach, Tensor) or _transforms.differentiated(u, matrix, profile):
        return _reference.gather_mean(*arguments).to(u.dtype)
    wide, _, *rest = arguments
    return _op.mean(wide, *lists, *rest, chosen)[0].to(u.dtype)
