"""Transforms whose gradient is one transform the other way, so that nothing is kept for it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from pdegcnn import _checks, _transforms
from pdegcnn.sphere._tables import TableModule


class LinearTransform(TableModule):
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
        return self._analyse(f, False) if _plain() else _apply(f, self, False)

    def _synthesis(self, c: Tensor) -> Tensor:
        """Return signals of coefficients, with gradients of every kind."""
        return self._synthesise(c, False) if _plain() else _apply(c, self, True)


def room(like: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return complex memory that products can write to, or None where a trace or a transform of torch forbids it."""
    if not _checks.has_values(like) or _transforms.is_batched(like) or _plain():
        return None
    return torch.empty(shape, dtype=torch.promote_types(like.dtype, torch.complex64), device=like.device)


def _plain() -> bool:
    """Return whether torch differentiates the steps itself: in forward mode, and where torch.jit.trace records."""
    return _transforms.in_forward_mode() or _transforms.is_tracing()


def _apply(x: Tensor, transform: LinearTransform, synthesis: bool, adjoint: bool = False) -> Tensor:
    return cast("Tensor", _Apply.apply(x, transform, synthesis, adjoint))  # pyright: ignore[reportUnknownMemberType]


class _Apply(Function):
    """The analysis, whose gradient is a synthesis, or the synthesis, whose gradient is an analysis."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, transform: LinearTransform, synthesis: bool, adjoint: bool) -> Tensor:
        return (transform._synthesise if synthesis else transform._analyse)(x, adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, LinearTransform, bool, bool], output: Tensor) -> None:
        _, ctx.transform, ctx.synthesis, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _apply(grads[0], ctx.transform, not ctx.synthesis, not ctx.adjoint), None, None, None
