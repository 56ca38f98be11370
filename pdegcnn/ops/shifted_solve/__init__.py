"""Solution of :math:`(1 + t S) x = b` for many fields on a mesh at once: implicit steps of diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._typing import Function
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.shifted_solve import custom_op as _op
from pdegcnn.ops.transport_gather import Stencil, transport_gather

__all__ = ["Equation", "shifted_solve"]

BACKENDS = _backend.declare("shifted_solve", "numba", "torch")


class Equation(NamedTuple):
    """The constant part of the equation :math:`(1 + t S) x = b`.

    Args:
        stencil: S, Hermitian and positive semidefinite, one field, float64, each row sorted by columns.
        sizes: vertex counts of the meshes that the stencil holds consecutively.
        tolerance: relative residual at which a system counts as solved.
        backend: backend of the solver and of the products with S.
    """

    stencil: Stencil
    sizes: Sequence[int]
    tolerance: float
    backend: str

    def solve(self, right: Tensor, time: Tensor) -> Tensor:
        """Return the solution ``[B,V,2,C]``, without derivatives.

        Args:
            right: real and imaginary parts of b, ``[B,V,2,C]``, float64.
            time: t >= 0 of each complex channel, ``[C]``; or ``[2,C]``, where the parts are real channels of a real S.
        """
        s = self.stencil
        return _op.solve(right, time, s.start, s.columns, s.values, s.back, list(self.sizes), *self[2:])


class _Solve(Function):
    """The solution; its derivatives are further solutions of the same, symmetric equation."""

    @staticmethod
    def forward(right: Tensor, time: Tensor, equation: Equation) -> Tensor:
        return equation.solve(right, time)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Equation], output: Tensor) -> None:
        _, time, ctx.equation = inputs
        ctx.save_for_backward(output, time)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        _transforms.refuse_batches("gauge.Diffusion(method='implicit')", *grads)
        solution, time = ctx.saved_tensors
        equation: Equation = ctx.equation
        if torch.is_grad_enabled():  # the adjoint uses this function, so it is differentiable again
            adjoint: Tensor = _Solve.apply(grads[0], time, equation)
        else:
            adjoint = equation.solve(grads[0], time)
        image = transport_gather(solution.unsqueeze(2), equation.stencil, equation.backend)
        change = (adjoint * image).sum((0, 1))
        return adjoint, -(change if time.ndim == 2 else change.sum(0)), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], right: Tensor, time: Tensor, equation: Equation) -> Any:
        def run(u: Tensor, t: Tensor) -> Tensor:
            return _Solve.apply(u, t, equation)

        return _transforms.loop(run, info.batch_size, in_dims[:2], (right, time))


def shifted_solve(
    right: Tensor,
    time: Tensor,
    stencil: Stencil,
    sizes: Sequence[int],
    tolerance: float = 1e-14,
    backend: str | None = None,
) -> Tensor:
    """Solve :math:`(1 + t S) x = b` for every channel with its own t, separately on every mesh.

    Args:
        right: real and imaginary parts of b, ``[B,V,2,C]``, float64.
        time: t >= 0 of each complex channel, ``[C]``; or ``[2,C]``, where the parts are real channels of a real S.
        stencil: S, Hermitian and positive semidefinite, one field, float64, each row sorted by columns.
        sizes: vertex counts of the meshes that the stencil holds consecutively.
        tolerance: residual, relative to b, at which a system counts as solved.
        backend: ``"numba"`` or ``"torch"``; by default the fastest that runs here.

    Returns:
        Solutions ``[B,V,2,C]``; differentiable any number of times, in reverse mode. NaN if b is not finite.

    Raises:
        ValueError: if shapes or the backend do not fit.
        TypeError: for a dtype other than float64.
    """
    _checks.signal("right", right, 4, "[B,V,2,C]")
    if tuple(right.shape[1:3]) != (sum(sizes), 2):
        raise ValueError(f"right: expected [B,{sum(sizes)},2,C], got shape {tuple(right.shape)}")
    if tuple(time.shape) not in ((right.shape[3],), (2, right.shape[3])):
        raise ValueError(f"time: expected shape [{right.shape[3]}] or [2,{right.shape[3]}], got {tuple(time.shape)}")
    for name, value in (("right", right), ("time", time), ("stencil.values", stencil.values)):
        if value.dtype != torch.float64:
            raise TypeError(f"{name}: expected dtype torch.float64, got {value.dtype}")
    chosen = _backend.choose("shifted_solve", right, backend)
    solved: Tensor = _Solve.apply(right, time, Equation(stencil, tuple(sizes), tolerance, chosen))
    return solved
