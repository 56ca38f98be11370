"""Transforms whose gradient is one transform the other way, so that nothing is kept for it."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torch.autograd import Function

from pdegcnn import _transforms
from pdegcnn.sphere._tables import TableModule


class Transform(TableModule):
    """A linear transform with its tables: analysis and synthesis by them, of which a subclass offers one.

    The transpose of the analysis is the synthesis by the same tables with ``adjoint``, and the other way round. Both
    work on signals ``[batch, ...]`` and coefficients ``[..., batch]`` of one batch axis.
    """

    def _analyse(self, f: Tensor, adjoint: bool) -> Tensor:
        """Return coefficients ``[m, ..., batch]`` of signals, or with ``adjoint`` the transpose of the synthesis."""
        raise NotImplementedError

    def _synthesise(self, c: Tensor, adjoint: bool) -> Tensor:
        """Return signals of coefficients, or with ``adjoint`` the transpose of the analysis."""
        raise NotImplementedError

    def _analysis(self, f: Tensor) -> Tensor:
        """Return coefficients ``[m, ..., batch]`` of signals, with gradients of every kind."""
        if _plain():
            return self._analyse(f, False)
        return cast("Tensor", _Analysis.apply(f, self, False))  # pyright: ignore[reportUnknownMemberType]

    def _synthesis(self, c: Tensor) -> Tensor:
        """Return signals of coefficients, with gradients of every kind."""
        if _plain():
            return self._synthesise(c, False)
        return cast("Tensor", _Synthesis.apply(c, self, False))  # pyright: ignore[reportUnknownMemberType]


def _plain() -> bool:
    """Return whether torch differentiates the steps itself: in forward mode, and where torch.jit.trace records."""
    return _transforms.in_forward_mode() or _transforms.is_tracing()


class _Analysis(Function):
    """The analysis, whose gradient is a synthesis."""

    generate_vmap_rule = True

    @staticmethod
    def forward(f: Tensor, transform: Transform, adjoint: bool) -> Tensor:
        return transform._analyse(f, adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Transform, bool], output: Tensor) -> None:
        _, ctx.transform, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, None, None]:
        return _Synthesis.apply(grads[0], ctx.transform, not ctx.adjoint), None, None


class _Synthesis(Function):
    """The synthesis, whose gradient is an analysis."""

    generate_vmap_rule = True

    @staticmethod
    def forward(c: Tensor, transform: Transform, adjoint: bool) -> Tensor:
        return transform._synthesise(c, adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Transform, bool], output: Tensor) -> None:
        _, ctx.transform, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, None, None]:
        return _Analysis.apply(grads[0], ctx.transform, not ctx.adjoint), None, None
