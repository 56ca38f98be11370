"""Interpolation of signals ``[B,C,Or,H,W]`` at shifts that depend on channel and orientation."""

from __future__ import annotations

from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.convection import custom_op as _op
from pdegcnn.ops.convection.reference import convection as _reference
from pdegcnn.ops.padding import BOUNDARIES

__all__ = ["convection"]

BACKENDS = _backend.declare("convection", "numba", "triton", "torch")


def convection(u: Tensor, shift: Tensor, boundary: str = "replicate", backend: str | None = None) -> Tensor:
    """Interpolate u ``[B,C,Or,H,W]`` trilinearly at ``(o + s0, h + s1, w + s2)``; orientations are periodic.

    Args:
        u: signal [B,C,Or,H,W].
        shift: [C,Or,3], the step in orientation indices, rows and columns per channel and output orientation, of the
            dtype and device of ``u``. Its gradient at whole shifts is that of the cell to the right.
        boundary: outside the image ``"zeros"``, ``"replicate"`` (nearest pixel) or ``"periodic"``.
        backend: ``"numba"``, ``"triton"`` (in both, second derivatives and ``torch.func`` transforms run the torch
            version) or ``"torch"``; by default the fastest that runs here.

    Returns:
        Tensor of the shape and dtype of ``u``.

    Raises:
        ValueError: if a shape, the boundary or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
    """
    _checks.signal("u", u, 5, "[B,C,Or,H,W]")
    if not isinstance(shift, Tensor) or shift.dtype != u.dtype or shift.device != u.device or shift.ndim != 3:
        _checks.same_kind("shift", _checks.tensor("shift", shift, 3, "[C,Or,3]"), "u", u)
    if shift.shape != (*u.shape[1:3], 3):
        raise ValueError(f"shift: expected shape {(*u.shape[1:3], 3)} for u {tuple(u.shape)}, got {tuple(shift.shape)}")
    if boundary not in BOUNDARIES:
        _checks.choice("boundary", boundary, BOUNDARIES)
    chosen = _backend.choose("convection", u, backend)
    if chosen != "torch" and not _transforms.differentiated(u, shift):
        return _op.convection(u, shift, BOUNDARIES.index(boundary), chosen)
    return _reference(u, shift, boundary)
