"""Dilation and erosion over geodesic balls in the bundle of directions of a mesh."""

from __future__ import annotations

from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import wide_dtype
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors
from pdegcnn.ops.gather_morphology import custom_op as _op

__all__ = ["gather_morphology"]

BACKENDS = _backend.declare("gather_morphology", "numba", "triton", "torch")


def gather_morphology(
    u: Tensor,
    lists: DirectionalNeighbors,
    matrix: Tensor,
    law: Tensor,
    taps: int,
    sign: int = +1,
    backend: str | None = None,
) -> Tensor:
    r"""Return ``max(u - k)`` (sign +1) or ``min(u + k)`` (sign -1) over the taps of every point of the bundle.

    The cost of a tap at coordinates y is :math:`\mathrm{factor} \cdot (y^T G y)^{\mathrm{power}}`; for an infinite
    power it is zero where :math:`y^T G y \le \mathrm{factor}` and infinite elsewhere. Costs are computed only where
    they can matter and never stored, so memory does not grow with the number of taps. The gradient goes to the tap that
    attains the maximum; among equal taps to the point itself, else to the first in the order (pair, step). NaN in a tap
    makes the output NaN. Half precision is computed in float32.

    Args:
        u: signal [B,C,Or,V].
        lists: pairs of the mesh, of the precision of ``u`` (float32 for half precision).
        matrix: metric G, [C,3,3], symmetric positive definite.
        law: factor > 0 and power >= 1/2 (or infinity), [2].
        taps: odd number of steps of directions.
        sign: +1 for dilation, -1 for erosion.
        backend: ``"numba"``, ``"triton"`` or ``"torch"``; by default the fastest that runs here.

    Returns:
        Tensor of the shape and dtype of ``u``.

    Raises:
        ValueError: if a shape, the sign or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor.
    """
    _checks.signal("u", u, 4, "[B,C,Or,V]")
    if u.shape[3] != lists.start.numel() - 1:
        raise ValueError(f"u: expected {lists.start.numel() - 1} vertices in [B,C,Or,V], got shape {tuple(u.shape)}")
    if tuple(matrix.shape) != (u.shape[1], 3, 3):
        raise ValueError(f"matrix: expected shape [{u.shape[1]},3,3], got {tuple(matrix.shape)}")
    if tuple(law.shape) != (2,):
        raise ValueError(f"law: expected factor and power, got shape {tuple(law.shape)}")
    _checks.odd("taps", (taps,))
    _checks.choice("sign", sign, (1, -1))
    chosen = _backend.choose("gather_morphology", u, backend)
    dtype = wide_dtype(u.dtype)
    arguments = (u.to(dtype), *lists, matrix.to(dtype), law.to(dtype), taps, sign, chosen)
    if _transforms.differentiated(u, matrix, law):
        return _op.functorch_fallback(*arguments).to(u.dtype)
    return _op.search(*arguments)[0].to(u.dtype)
