"""What is learned, and what a training gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor, nn


class Task(Protocol):
    """What is learned: a number of samples, a loss of some of them, and scores."""

    count: int
    """Number of training samples."""

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Mean loss of the samples ``chosen`` (int64 indices on the CPU); ``random`` draws their augmentation."""
        ...

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Scores of a model in eval mode by name; called by all processes, so that metrics can join their shares."""
        ...


class LossAlone:
    """A task without scores: ``loss`` maps indices of samples to their loss."""

    def __init__(self, count: int, loss: Callable[[Tensor], Tensor]) -> None:
        self.count, self._loss = count, loss

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Loss of the samples ``chosen``."""
        return self._loss(chosen)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """No scores."""
        return {}


class TrainingResult(NamedTuple):
    """The trained model in eval mode, its rows of figures (one an epoch), seconds of training, steps done.

    ``epochs`` are passes over the samples, the last one in part if a budget ended it; ``commits`` are those of the code
    that ran, more than one if the run went on with other code.
    """

    model: nn.Module
    history: list[dict[str, float]]
    seconds: float
    steps: int
    epochs: float
    commits: list[str]
