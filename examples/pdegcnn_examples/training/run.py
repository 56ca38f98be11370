"""One training run by Lightning's Trainer: resumable to the bit, in one process or several."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn

from pdegcnn_examples.memory import keep_freed_memory
from pdegcnn_examples.training.callbacks import Averages, Best, Clock, History, Resumable, WholeFiles
from pdegcnn_examples.training.files import read_checkpoint, write_weights
from pdegcnn_examples.training.module import Batches, TaskModule, network_state
from pdegcnn_examples.training.processes import rank, world_size
from pdegcnn_examples.training.settings import PRECISIONS, Settings
from pdegcnn_examples.training.task import Task, TrainingResult


def fit(
    model: nn.Module,
    task: Task,
    settings: Settings,
    folder: str | os.PathLike[str],
    about: Mapping[str, str] | None = None,
) -> TrainingResult:
    """Train ``model`` on ``task``, going on from the checkpoint in ``folder`` if there is one.

    Order of samples, augmentation and dropout are functions of seed, step and process: a run that was stopped or killed
    and started again gives the same weights to the bit (on one machine, with one thread count, without a time budget).
    The global random state of torch is set at every step. Under ``torchrun`` every process takes its share of each
    batch.

    Args:
        model: on the device where it is to be trained; changed in place.
        task: samples, loss and scores.
        settings: how to train.
        folder: takes ``last.ckpt``, ``history.csv`` and ``weights.safetensors`` (the result).
        about: what else the run is of, by name: the checkpoint of a run that says otherwise is refused.

    Raises:
        UnfitCheckpoint: if a checkpoint is damaged, or is of a run with other settings or samples.
        FloatingPointError: if loss or gradient is no longer finite; the last checkpoint stays as it was.
        SystemExit: if Ctrl-C or SIGTERM asked to stop; the message on the standard error says how to go on.
    """
    keep_freed_memory()
    folder, device = Path(folder), next(model.parameters()).device
    sharded = settings.sharded and world_size() > 1
    whole = deepcopy(model) if sharded else model
    clock = Clock(1, settings.seconds)
    module = TaskModule(model.train(), task, settings, clock, about or {})
    batches = Batches(module)
    clock.steps = settings.epochs * len(batches)
    history = History(folder, clock, len(batches))
    module.averages = Averages(settings.average) if settings.average else None
    best = Best(settings.score) if settings.patience is not None else None
    last = Resumable(folder, settings.save_seconds, history)
    callbacks = [clock, module.averages, best, _early_stopping(settings), history, last]
    with _quiet():
        trainer = _trainer(settings, folder, device, [one for one in callbacks if one is not None])
        start = last.path if last.path.exists() else None
        if start is not None:
            read_checkpoint(start)  # names a damaged file, whichever way the strategy reads it
        trainer.fit(module, batches, [0], ckpt_path=start, weights_only=True)
    result = model if module.averages is None else module.averages.network
    if sharded:  # the last checkpoint has gathered what every process needs
        result, found = whole, read_checkpoint(last.path)
        state = found["state_dict"] if best is None else found["callbacks"][best.state_key]["weights"]
        result.load_state_dict(network_state(state))
    elif best is not None:
        result.load_state_dict(network_state(best.weights))
    if rank() == 0:
        write_weights(folder / "weights.safetensors", result.state_dict())
    epochs = history.step / len(batches)
    return TrainingResult(result.to(device).eval(), history.rows, clock.seconds, history.step, epochs, module.commits)


class _EarlyStopping(EarlyStopping):
    """Lightning's early stopping, which looks at the epochs that were scored only."""

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Look at the score, if there is one."""
        if pl_module.scores:
            super().on_validation_end(trainer, pl_module)


def _early_stopping(settings: Settings) -> EarlyStopping | None:
    """Return what stops early; it looks before the epoch is closed, whose row knows whether it is the last."""
    if settings.patience is None:
        return None
    return _EarlyStopping(settings.score, patience=settings.patience, mode="max", check_on_train_epoch_end=False)


def _trainer(settings: Settings, folder: Path, device: torch.device, callbacks: list[Callback]) -> Trainer:
    """The Trainer of a run."""
    strategy: Any = "auto"
    if settings.sharded and world_size() > 1:
        strategy = ModelParallelStrategy(world_size(), 1, save_distributed_checkpoint=False)
    elif world_size() > 1:
        strategy = DDPStrategy()
    here = [device.index or 0] if device.type == "cuda" else 1
    shown = rank() == 0 and sys.stderr.isatty()
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if world_size() > 1 else here,
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", 1)) if world_size() > 1 else 1,
        strategy=strategy,
        precision=PRECISIONS[settings.precision],  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        check_val_every_n_epoch=1,  # the module knows which epochs are scored
        gradient_clip_val=settings.clip,
        callbacks=[*callbacks, *([TQDMProgressBar()] if shown else [])],
        plugins=[WholeFiles()],
        logger=[_board(folder)] if settings.tensorboard else False,
        enable_progress_bar=shown,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _board(folder: Path) -> Any:
    """Where the figures for TensorBoard go."""
    try:
        importlib.import_module("tensorboard")
        from lightning.pytorch.loggers import TensorBoardLogger
    except ImportError as error:
        text = f"tensorboard: expected the package to be installed: pip install tensorboard ({error})"
        raise ImportError(text) from error
    return TensorBoardLogger(folder, name="tensorboard", version="")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave the log to the rows of figures."""
    logs = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning|torch.distributed.fsdp")
            yield
    finally:
        for log, level in zip(logs, levels):
            log.setLevel(level)
