"""What the Trainer lacks: a clock of the training, rows of figures, checkpoints at any moment."""

from __future__ import annotations

import csv
import logging
import math
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from pdegcnn_examples.training.files import read_checkpoint, write_file
from pdegcnn_examples.training.processes import any_process, of_first_process, rank, world_size

LOG = logging.getLogger("pdegcnn_examples.training")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
Row = dict[str, float]


class Clock(Callback):
    """Seconds of training over all resumed runs, and the part of it that is done; scoring and saving do not count."""

    def __init__(self, steps: int, budget: float | None) -> None:
        self.steps, self.budget, self.seconds, self.fraction, self._start = steps, budget, 0.0, 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        """Look at the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Add the seconds of a step, and end the training when the budget is used up."""
        self.seconds += time.perf_counter() - self._start
        self.fraction = trainer.global_step / self.steps
        if self.budget is not None:
            self.fraction = max(self.fraction, of_first_process(self.seconds) / self.budget)
        trainer.should_stop = trainer.should_stop or self.fraction >= 1

    def state_dict(self) -> dict[str, float]:
        """Seconds and fraction."""
        return {"seconds": self.seconds, "fraction": self.fraction}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from them."""
        self.seconds, self.fraction = state_dict["seconds"], state_dict["fraction"]


class History(Callback):
    """A row of figures for each epoch: logged, written to ``history.csv``, and kept in checkpoints."""

    def __init__(self, folder: Path, clock: Clock, steps: int) -> None:
        self.path, self.clock, self.steps = folder / "history.csv", clock, steps
        self.rows: list[Row] = []
        self.total, self.count, self.step, self.done = 0.0, 0, 0, False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Leave a training that has ended as it is."""
        trainer.should_stop = self.done

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Add the loss of a step."""
        self.total, self.count, self.rate = self.total + outputs["mean"], self.count + 1, outputs["rate"]

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Close the row."""
        self.step = trainer.global_step
        row: Row = {"epoch": math.ceil(self.step / self.steps), "step": self.step}
        row |= {"seconds": round(self.clock.seconds, 3), "rate": self.rate, "loss": self.total / max(1, self.count)}
        row |= module.scores
        module.scores = {}
        self.total, self.count = 0.0, 0
        self.rows.append(row)
        self.done = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        for logger in trainer.loggers:
            logger.log_metrics(row, self.step)
        if rank() == 0:
            write_table(self.path, self.rows)
            LOG.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in row.items()))

    def state_dict(self) -> dict[str, Any]:
        """Rows, and what the row in progress needs."""
        names = ("rows", "total", "count", "step", "done")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from them."""
        self.__dict__ |= state_dict


class Averages(WeightAveraging):
    """Lightning's averages of the weights, with a decay that rises from 2/11 to ``decay`` over the first steps.

    Scores are those of ``network``, the average itself: weights are never swapped, so any moment is fit for a
    checkpoint. Integers, and constants of any kind, are copied.
    """

    def __init__(self, decay: float) -> None:
        def follow(mean: Tensor, now: Tensor, count: Tensor) -> Tensor:
            if not (now.is_floating_point() or now.is_complex()):
                return now
            share = 1 - min(decay, (2 + int(count)) / (11 + int(count)))
            return torch.where(mean == now, now, mean.lerp(now, share))

        super().__init__(avg_fn=follow)

    @property
    def network(self) -> nn.Module:
        """The average."""
        assert self._average_model is not None
        return self._average_model.module.network  # type: ignore[return-value]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not swap."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not swap."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the weights as they are: the average is what the training gives."""


class Best(Callback):
    """The weights of the best score so far, kept in the checkpoints: no other file must fit to them."""

    def __init__(self, name: str) -> None:
        self.name, self.weights = name, {}
        self.score: float | None = None

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        """Copy the weights, or their average, if they are better; every process takes part where they are sharded."""
        if self.name not in module.scores:
            return  # not scored in this epoch
        score = module.scores[self.name]
        if self.score is None or score > self.score:  # alike in all processes, though only the first gets whole weights
            self.score = score
            averages = module.averages
            state = (
                trainer.strategy.lightning_module_state_dict() if averages is None else averages.network.state_dict()
            )
            self.weights = {name: value.detach().clone() for name, value in state.items()}

    def state_dict(self) -> dict[str, Any]:
        """Score and weights."""
        return {"score": self.score, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from them."""
        self.score, self.weights = state_dict["score"], state_dict["weights"]


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are written whole or not at all, and hold tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a file beside ``path`` and put it in its place."""
        write_file(Path(path), lambda fresh: torch.save(checkpoint, fresh))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read a file; a damaged one is named."""
        return read_checkpoint(Path(path))


class Resumable(Checkpoint):
    """Writes ``last.ckpt`` at most every ``seconds``, at the end, on errors, and when a signal asks to stop.

    Ctrl-C and SIGTERM end the training after the step in progress; a second Ctrl-C does so at once. Within a step, and
    while scores are computed, files saved before are kept as they are.
    """

    def __init__(self, folder: Path, seconds: float, history: History) -> None:
        self.path, self.seconds, self.history = folder / "last.ckpt", seconds, history
        self._saved, self._asked, self._between = 0.0, 0, False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Listen to signals, and begin to count seconds."""
        self._saved, self._between = time.monotonic(), True
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:  # the Trainer gives them back
                signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = number

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        """From here on the weights change."""
        self._between = False

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Save if it is time. The last step of an epoch is saved with its scores."""
        ends = trainer.is_last_batch or trainer.should_stop
        self._between = not ends
        if not ends:
            self._save_or_stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save if it is time, or the last."""
        self._between = True
        self._save_or_stop(trainer, last=self.history.done)

    def _save_or_stop(self, trainer: Trainer, last: bool = False) -> None:
        due = rank() == 0 and time.monotonic() - self._saved > self.seconds
        due, stop = any_process(due, bool(self._asked))
        if due or stop or last:
            self._save(trainer)
        if stop and not last:
            self._say(trainer)
            raise SystemExit(128 + (self._asked or signal.SIGTERM))

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()

    def _say(self, trainer: Trainer) -> None:
        """Say how to go on."""
        if rank() == 0:
            launcher = f"torchrun --nproc-per-node {world_size()}" if world_size() > 1 else "python"
            line = f"{launcher} {shlex.join([os.path.relpath(sys.argv[0]), *sys.argv[1:]])}"
            where = f"stopped at step {trainer.global_step}; saved in {self.path.parent}"
            sys.stderr.write(f"\n{where}. The same command continues from there:\n    {line}\n")

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Save what is there, unless the error came in the middle of a step. Other processes may be dead: ask none.

        Where numbers are no longer finite the last checkpoint stays: to go on from here would fail again.
        """
        keep = not isinstance(exception, SystemExit | FloatingPointError)
        if self._between and keep and world_size() == 1 and trainer.global_step:
            self._save(trainer)
            self._say(trainer)


def write_table(path: Path, rows: list[Row]) -> None:
    """Write rows as CSV, whole or not at all; a column for every name that any row has."""
    names = list(dict.fromkeys(name for row in rows for name in row))

    def fill(fresh: Path) -> None:
        with fresh.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)

    write_file(path, fill)
