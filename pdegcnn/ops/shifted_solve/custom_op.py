"""The shifted solve as a torch operator, without derivatives."""

from __future__ import annotations

from torch import Tensor

from pdegcnn.ops._operator import implementation, operator
from pdegcnn.ops.shifted_solve.reference import conjugate_gradients
from pdegcnn.ops.transport_gather import Stencil


@operator("pdegcnn::shifted_solve")
def solve(
    right: Tensor,
    time: Tensor,
    start: Tensor,
    columns: Tensor,
    values: Tensor,
    back: Tensor,
    sizes: list[int],
    tolerance: float,
    backend: str,
) -> Tensor:
    """Return the solution for right-hand sides ``[B,V,2,C]`` and times ``[C]`` or ``[2,C]``."""
    stencil = Stencil(start, columns, values, back)
    if backend == "torch":
        return conjugate_gradients(right, time, stencil, tolerance, sizes)
    return implementation("shifted_solve", backend).solve(right, time, stencil, tolerance, sizes)


@solve.register_fake
def _(right: Tensor, *_: object) -> Tensor:
    return right.new_empty(right.shape)
