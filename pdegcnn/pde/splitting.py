"""Operator splitting: one step of a sum of terms from steps of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Step = Callable[[Tensor, float], Tensor]
"""A solver of one term: signal and length of the step to signal."""


def lie(steps: Sequence[Step], time: float) -> list[tuple[Step, float]]:
    """Apply one term after the other (first order in time)."""
    return list(zip(steps, [time] * len(steps)))


def strang(steps: Sequence[Step], time: float) -> list[tuple[Step, float]]:
    """Apply half steps, a whole step of the last term, and half steps in reverse order (second order in time)."""
    there = [(step, time / 2) for step in steps[:-1]]
    return [*there, *((step, time) for step in steps[-1:]), *reversed(there)]


SPLITTINGS: dict[str, Callable[[Sequence[Step], float], list[tuple[Step, float]]]] = {"lie": lie, "strang": strang}
"""The order of the steps, each with its length."""


def evolve(u: Tensor, steps: Sequence[Step], splitting: str, iterations: int, time: float = 1.0) -> Tensor:
    """Solve an evolution equation by operator splitting.

    Args:
        u: signal at time zero.
        steps: for each term a function ``(u, time) -> u`` that solves it.
        splitting: ``"lie"`` or ``"strang"``, a key of ``SPLITTINGS``.
        iterations: number of equal steps.
        time: the final time.
    """
    order = SPLITTINGS[splitting](steps, time / iterations)
    for _ in range(iterations):
        for step, length in order:
            u = step(u, length)
    return u
