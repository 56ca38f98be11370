"""Interpolated values of signals ``[B,C,Or,H,W]`` between their samples, in additional planes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.between_samples import custom_op as _op
from pdegcnn.ops.between_samples.reference import between_samples as _reference

__all__ = ["between_samples"]

BACKENDS = _backend.declare("between_samples", "numba", "torch")


def between_samples(
    u: Tensor,
    matrix: Tensor,
    outside: Tensor,
    shifts: Sequence[tuple[float, float, float]],
    backend: str | None = None,
) -> Tensor:
    """Return n interpolations of u at shifted positions as planes ``[B,C,n*Or,H,W]``, n in a row per orientation.

    Interpolation p multiplies the orientations by the p-th matrix (the first one keeps them) and then shifts by cubic
    convolution, with the nearest sample outside. Points outside the grid get ``outside``. Source: Keys,
    *Cubic convolution interpolation for digital image processing*, IEEE Trans. ASSP 29 (1981).

    Args:
        u: signal ``[B,C,Or,H,W]``.
        matrix: ``[(n-1)*Or,Or]``, the matrices of all interpolations but the first, without gradient.
        outside: ``[B,C]``, without gradient.
        shifts: for each interpolation, (first axis, rows, columns) in steps, from 0 to below 1.
        backend: ``"numba"`` (shifts along rows and columns only) or ``"torch"``; by default the fastest that runs here.

    Returns:
        Tensor of the dtype of ``u``. Linear in u; derivatives of any order.

    Raises:
        ValueError: if a shape, a shift or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
    """
    _checks.signal("u", u, 5, "[B,C,Or,H,W]")
    mixing = ((len(shifts) - 1) * u.shape[2], u.shape[2]) if len(shifts) > 1 else matrix.shape
    for name, value, shape in (("matrix", matrix, mixing), ("outside", outside, u.shape[:2])):
        if value.dtype != u.dtype or value.device != u.device:
            _checks.same_kind(name, value, "u", u)
        if value.shape != shape:
            raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(value.shape)}")
    along_slices = False
    for shift in shifts:
        along_slices = along_slices or shift[0] != 0
        if not 0 <= min(shift) <= max(shift) < 1:
            raise ValueError(f"shifts: expected numbers in [0, 1), got {shift}")
    chosen = _backend.choose("between_samples", u, backend)
    if backend == "numba" and along_slices:
        raise ValueError(f"backend: expected 'torch' for shifts along the first axis, got {backend!r}")
    if chosen == "torch" or along_slices or _transforms.differentiated(u):
        return _reference(u, matrix, outside, shifts)
    return _op.between_samples(u, matrix, outside, [x for shift in shifts for x in shift[1:]], chosen)
