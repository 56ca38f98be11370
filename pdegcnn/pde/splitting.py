"""Operator splitting: one step of a sum of terms from steps of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Step = Callable[[Tensor, float], Tensor]
"""A solver of one term: signal and length of the step to signal."""


def lie(u: Tensor, steps: Sequence[Step], time: float) -> Tensor:
    """One term after the other (first order in time)."""
    for step in steps:
        u = step(u, time)
    return u


def strang(u: Tensor, steps: Sequence[Step], time: float) -> Tensor:
    """Half steps there, a whole step of the last term, half steps back (second order in time)."""
    for step in steps[:-1]:
        u = step(u, time / 2)
    for step in steps[-1:]:
        u = step(u, time)
    for step in reversed(steps[:-1]):
        u = step(u, time / 2)
    return u


SPLITTINGS: dict[str, Callable[[Tensor, Sequence[Step], float], Tensor]] = {"lie": lie, "strang": strang}


def evolve(u: Tensor, steps: Sequence[Step], splitting: str, iterations: int, time: float = 1.0) -> Tensor:
    """Solve up to ``time`` in ``iterations`` equal steps of the chosen splitting."""
    for _ in range(iterations):
        u = SPLITTINGS[splitting](u, steps, time / iterations)
    return u
