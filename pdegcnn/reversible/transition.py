"""Invertible maps between the levels of a reversible network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Transition(nn.Module):
    """An invertible map that a `ReversibleStack` applies to both of its states, y and v.

    Subclasses give ``forward`` and ``inverse``; both must be linear in their argument and differentiable.
    ``bit_exact`` says that ``inverse_on_grid(on_grid(x))`` equals ``x`` bit for bit, which ``exact=True`` needs;
    ``headroom`` is the factor by which numbers on the way of ``on_grid`` may exceed the largest entry of ``x``.
    Source: Lensink, Peters, Haber, *Fully Hyperbolic Convolutional Neural Networks*, arXiv 1905.10484, section 3.
    """

    bit_exact: bool = False
    headroom: float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Map a state to the next level."""
        raise NotImplementedError

    def inverse(self, x: Tensor) -> Tensor:
        """Map a state of the next level back."""
        raise NotImplementedError

    def on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Map a state whose entries are multiples of ``grid`` to such a state, invertibly bit for bit."""
        return self.forward(x)

    def inverse_on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Undo `on_grid` bit for bit."""
        return self.inverse(x)


class Inverse(Transition):
    """The inverse of a transition: refinement is ``Inverse(coarsening)``, with the same parameters.

    Args:
        transition: the `Transition` to run backwards. It is a submodule: parameters are shared, not copied.
    """

    def __init__(self, transition: Transition) -> None:
        super().__init__()
        if not isinstance(transition, Transition):
            raise TypeError(f"transition: expected a Transition, got {type(transition).__name__}")
        self.transition = transition
        self.bit_exact, self.headroom = transition.bit_exact, transition.headroom

    def forward(self, x: Tensor) -> Tensor:
        """Map a coarse state to the fine level."""
        return self.transition.inverse(x)

    def inverse(self, x: Tensor) -> Tensor:
        """Map a fine state back to the coarse level."""
        return self.transition.forward(x)  # not a call: hooks belong to the way that goes forward

    def on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Refine bit-exactly on the grid."""
        return self.transition.inverse_on_grid(x, grid)

    def inverse_on_grid(self, x: Tensor, grid: float) -> Tensor:
        """Undo `on_grid` bit for bit."""
        return self.transition.on_grid(x, grid)


def round_to(x: Tensor, grid: float) -> Tensor:
    """Round to the nearest multiple of ``grid``; the derivative is taken to be one (straight-through)."""
    return _Round.apply(x, grid)  # pyright: ignore


class _Round(torch.autograd.Function):
    """Rounding to a grid with derivative one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, grid: float) -> Tensor:  # pyright: ignore
        return x.div(grid).round_().mul_(grid)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        return grad, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, _grid: None) -> Tensor:  # pyright: ignore
        return tangent.clone()
