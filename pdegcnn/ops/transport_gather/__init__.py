"""Sums of complex fields over neighbour lists with fixed factors: transport, filters and Laplacians on meshes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.transport_gather import custom_op as _op
from pdegcnn.ops.transport_gather.reference import transport_gather as _reference

__all__ = ["Stencil", "transport_gather"]

BACKENDS = _backend.declare("transport_gather", "numba", "triton", "torch")


class Stencil(NamedTuple):
    """Factors on a list of pairs (v, w), sorted by v, that contains (w, v) for each (v, w).

    Attributes:
        start: index of the first pair of each vertex, then the number of pairs, ``[V+1]``, long.
        columns: w, ``[E]``, long.
        values: real and imaginary part of the factors of K fields, ``[E,K,2]``.
        back: conjugate factors of the reversed pairs, ``[E,K,2]``, for the adjoint.
    """

    start: Tensor
    columns: Tensor
    values: Tensor
    back: Tensor


def transport_gather(fields: Tensor, stencil: Stencil, backend: str | None = None) -> Tensor:
    r"""Return :math:`out_{b,v} = \sum_{(v,w),k} factor_{(v,w),k}\, fields_{b,w,k}` over pairs and fields.

    Args:
        fields: real and imaginary parts of K complex fields of C channels, ``[B,V,K,2,C]``.
        stencil: the pairs and factors, of the dtype and device of ``fields``.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.

    Returns:
        Real and imaginary parts, ``[B,V,2,C]``. Linear; derivatives of any order in ``fields``. Memory does not grow
        with the number of pairs.

    Raises:
        ValueError: if shapes or the backend do not fit.
        TypeError: if a tensor is not floating-point, or dtypes differ.
    """
    _checks.signal("fields", fields, 5, "[B,V,K,2,C]")
    vertices, pairs = stencil.start.numel() - 1, stencil.columns.numel()
    if fields.shape[1] != vertices or fields.shape[3] != 2:
        raise ValueError(f"fields: expected [B,{vertices},K,2,C], got shape {tuple(fields.shape)}")
    for name, value in (("stencil.values", stencil.values), ("stencil.back", stencil.back)):
        if tuple(value.shape) != (pairs, fields.shape[2], 2):
            raise ValueError(f"{name}: expected shape {(pairs, fields.shape[2], 2)}, got {tuple(value.shape)}")
        _checks.same_kind(name, value, "fields", fields)
    chosen = _backend.choose("transport_gather", fields, backend)
    if _transforms.differentiated(fields):
        return _reference(fields, stencil.start, stencil.columns, stencil.values)
    return _op.gather(fields, *stencil, chosen)
