"""Transport of signals on the bundle of directions of a mesh along straightest geodesics."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.geodesic_flow import custom_op as _op
from pdegcnn.ops.geodesic_flow import geodesic_tracing as _tracing
from pdegcnn.ops.geodesic_flow.geodesic_tracing import HalfEdges

__all__ = ["HalfEdges", "geodesic_flow"]

BACKENDS = _backend.declare("geodesic_flow", "numba", "triton", "torch")


def geodesic_flow(u: Tensor, half_edges: HalfEdges, shift: Tensor, backend: str | None = None) -> Tensor:
    """Return u at the end of the geodesic from each point with a given displacement, in the frame of the start.

    The displacement of (v, i) is ``shift`` = (forward, sideways) in units, turned to direction i, then a turn in
    radians. The geodesic is straight in the unfolded triangles that it crosses. The signal is interpolated linearly
    between the three vertices and the directions of the triangle where it ends, with transport along edges. A path that
    meets the boundary ends there. Paths are traced again in the backward pass instead of being stored. Source:
    straightest geodesics (Polthier & Schmies 1998).

    Args:
        u: signal [B,C,Or,V].
        half_edges: tables of the mesh with V vertices.
        shift: [C,3], of the dtype of ``u`` (float32 for half precision).
        backend: ``"numba"``, ``"triton"`` or ``"torch"`` for the tracing; by default the fastest that runs here.

    Returns:
        Tensor like ``u``; differentiable in ``u`` and, between the vertices, in ``shift``.

    Raises:
        ValueError: if shapes do not fit.
    """
    _checks.signal("u", u, 4, "[B,C,Or,V]")
    if u.shape[3] != half_edges.scale.numel():
        raise ValueError(f"u: expected {half_edges.scale.numel()} vertices in [B,C,Or,V], got shape {tuple(u.shape)}")
    _checks.tensor("shift", shift)
    if tuple(shift.shape) != (u.shape[1], 3):
        raise ValueError(f"shift: expected shape [{u.shape[1]},3], got {tuple(shift.shape)}")
    dtype = wide_dtype(u.dtype)
    wide, shift = u.to(dtype), shift.to(dtype)
    chosen = _backend.choose("geodesic_flow", u, backend)
    path = _tracing.polar_shift(shift)
    apart = _transforms.differentiated(u, shift)  # torch.func supports neither checkpoints nor the operator
    if chosen == "numba" and not apart and not _transforms.in_trace():  # a graph may fold the paths into constants
        return _op.read(wide, path, list(half_edges)).to(u.dtype)
    recorded = torch.is_grad_enabled() and (u.requires_grad or shift.requires_grad)
    if recorded and not apart:
        result = checkpoint(_tracing.flow, wide, half_edges, path, chosen, use_reentrant=False)
        assert isinstance(result, Tensor)
        return result.to(u.dtype)
    return _tracing.flow(wide, half_edges, path, chosen).to(u.dtype)
