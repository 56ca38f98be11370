"""How a network is trained, as a recipe or its command line says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pdegcnn import _checks


def one_cycle(fraction: float) -> float:
    """Rise from a tenth to 1 in the first fifth, then fall to 0 by a cosine."""
    return 0.1 + 4.5 * fraction if fraction < 0.2 else (1 + math.cos(math.pi * (fraction - 0.2) / 0.8)) / 2


SCHEDULES: dict[str, Callable[[float], float]] = {
    "one_cycle": one_cycle,
    "cosine": lambda fraction: (1 + math.cos(math.pi * fraction)) / 2,
    "constant": lambda fraction: 1.0,
}
"""The learning rate over ``Settings.rate``, by the fraction of the training that is done."""
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
"""What Lightning calls each precision."""


def steps_of_epoch(count: int, batch: int, processes: int = 1) -> int:
    """Return the steps of one pass over ``count`` samples.

    A last batch that leaves a process fewer than two samples is left out: they have no variance.

    Raises:
        ValueError: if a process would get no sample.
    """
    full, rest = divmod(count, batch)
    steps = full + (rest >= 2 * processes)
    if not steps or batch < processes:
        raise ValueError(f"batch: expected at least a sample for each of {processes} processes, got {batch} of {count}")
    return steps


def epochs_of(steps: int) -> int:
    """Return into how many equal epochs ``steps`` are divided, at least ten if there are as many steps.

    A row of figures is the mean of an epoch, so its last one tells the loss at the end.
    """
    return next(count for count in range(min(10, steps), steps + 1) if steps % count == 0)


@dataclass(frozen=True)
class Settings:
    """How to train.

    Args:
        epochs: passes over the samples that the schedule spans.
        batch: samples of a step, over all processes.
        rate: highest learning rate of AdamW.
        weight_decay: of all parameters with two or more axes.
        schedule: ``"one_cycle"``, ``"cosine"`` or ``"constant"``.
        seconds: budget of training time, over all resumed runs; the schedule then follows whichever of epochs and time
            is nearer its end.
        seed: of the order of samples, augmentation and dropout.
        average: decay of the running mean of weights that is scored and kept; 0 keeps the weights themselves.
        clip: largest norm of the gradient; None for any.
        precision: ``"float32"``, or autocast to ``"bfloat16"`` or (on a GPU) ``"float16"``.
        evaluate_every: epochs between scores.
        score: the score that early stopping watches; larger is better.
        patience: stop after this many scores without a better one and keep the best; None trains to the end and keeps
            the last.
        save_seconds: time between checkpoints within an epoch.
        tensorboard: also write TensorBoard files.
        sharded: spread weights and the optimiser's state over the processes (FSDP2); needs ``average`` 0.
    """

    epochs: int
    batch: int = 64
    rate: float = 0.01
    weight_decay: float = 0.01
    schedule: str = "one_cycle"
    seconds: float | None = None
    seed: int = 0
    average: float = 0.0
    clip: float | None = None
    precision: str = "float32"
    evaluate_every: int = 1
    score: str = "accuracy"
    patience: int | None = None
    save_seconds: float = 60.0
    tensorboard: bool = False
    sharded: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "evaluate_every"):
            _checks.positive_int(name, getattr(self, name))
        for name in ("rate", "seconds", "clip", "save_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay: expected a number >= 0, got {self.weight_decay}")
        if self.patience is not None:
            _checks.positive_int("patience", self.patience)
        if not 0 <= self.average < 1:
            raise ValueError(f"average: expected a decay in [0, 1), got {self.average}")
        if self.sharded and self.average:
            raise ValueError(f"average: expected 0 with sharded weights, got {self.average}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed: expected a number >= 0, got {self.seed}")
        _checks.choice("schedule", self.schedule, tuple(SCHEDULES))
        _checks.choice("precision", self.precision, tuple(PRECISIONS))
