"""One training loop for every recipe: resumable to the bit, in one process or several."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from pdegcnn import _checks
from pdegcnn.recipes import checkpoint

LOG = logging.getLogger("pdegcnn.recipes")


def _one_cycle(fraction: float) -> float:
    """From a tenth to 1 in the first fifth, then down to 0 by a cosine."""
    return 0.1 + 4.5 * fraction if fraction < 0.2 else (1 + math.cos(math.pi * (fraction - 0.2) / 0.8)) / 2


SCHEDULES: dict[str, Callable[[float], float]] = {
    "one_cycle": _one_cycle,
    "cosine": lambda fraction: (1 + math.cos(math.pi * fraction)) / 2,
    "constant": lambda fraction: 1.0,
}
"""The learning rate over ``Settings.rate``, by the fraction of the training that is done."""
PRECISIONS = ("float32", "bfloat16", "float16")


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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "evaluate_every"):
            _checks.positive_int(name, getattr(self, name))
        for name in ("rate", "seconds", "clip", "save_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        if self.patience is not None:
            _checks.positive_int("patience", self.patience)
        if not 0 <= self.average < 1:
            raise ValueError(f"average: expected a decay in [0, 1), got {self.average}")
        _checks.choice("schedule", self.schedule, tuple(SCHEDULES))
        _checks.choice("precision", self.precision, PRECISIONS)


class Outcome(NamedTuple):
    """The trained model in eval mode, its rows of figures (one an epoch), seconds of training, steps done."""

    model: nn.Module
    history: list[dict[str, float]]
    seconds: float
    steps: int


@dataclass
class _State:
    """What a checkpoint holds beside tensors. Random numbers are functions of seed, step and rank: none are stored."""

    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    waited: int = 0
    done: bool = False


@contextlib.contextmanager
def processes() -> Iterator[int]:
    """Join the other processes that ``torchrun`` started, if any; gives this one's rank, and parts from them."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield rank()
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield rank()
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, 0 when there is one only."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_device() -> torch.device:
    """Where this process computes: its GPU if there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def fit(model: nn.Module, task: Task, settings: Settings, folder: str | os.PathLike[str]) -> Outcome:
    """Train ``model`` on ``task``, going on from the newest checkpoint in ``folder``.

    Order of samples, augmentation and dropout are functions of seed, step and process: a run that was killed and
    started again gives the same weights to the bit (on one machine, with one thread count, without a time budget). The
    global random state of torch is set at every step. Under ``torchrun`` every process takes its share of each batch.

    Args:
        model: on the device where it is to be trained; changed in place.
        task: samples, loss and scores.
        settings: how to train.
        folder: takes checkpoints, ``history.csv`` and ``weights.safetensors`` (the result).

    Raises:
        ValueError: a checkpoint is damaged, or is of a run with other settings.
        FloatingPointError: the loss is no longer finite.
    """
    run = _Run(model, task, settings, Path(folder))
    run.resume()
    return run.train()


class _Run:
    """One training run."""

    def __init__(self, model: nn.Module, task: Task, settings: Settings, folder: Path) -> None:
        self.model, self.task, self.settings, self.folder = model, task, settings, folder
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(_groups(model, settings.weight_decay), lr=settings.rate)
        self.averaged = deepcopy(model).requires_grad_(False) if settings.average else model
        self.state = _State()
        self.best: dict[str, Tensor] | None = None
        self.per_epoch = _batches(task.count, settings.batch)
        self.trained: nn.Module = model
        if world() > 1:
            ids = [self.device.index or 0] if self.device.type == "cuda" else None
            self.trained = DistributedDataParallel(model, device_ids=ids)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "float16")
        self.board = _board(self.folder) if settings.tensorboard and not rank() else None
        self.saved = time.perf_counter()

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one."""
        path = checkpoint.latest(self.folder)
        if path is None:
            return
        weights, optimizer, state = checkpoint.load(path, self.device)
        mine = _identity(self.settings, self.task.count, world())
        if (found := state.pop("identity")) != mine:
            other = {k: found.get(k) for k in mine if found.get(k) != mine[k]}
            raise ValueError(
                f"folder: {path} is of a run with other settings ({other}); name another folder or delete it"
            )
        scaler = state.pop("scaler")
        self.model.load_state_dict(weights["model"])
        self.optimizer.load_state_dict(optimizer)
        self.state, self.best = _State(**state), weights.get("best")
        self.scaler.load_state_dict(scaler)
        if self.settings.average:
            self.averaged.load_state_dict(weights["averaged"])
        LOG.info("resumed at step %d from %s", self.state.step, path)

    def save(self) -> None:
        """Write a checkpoint and the table of the epochs so far."""
        self.saved = time.perf_counter()
        if rank():
            return
        weights: dict[str, Mapping[str, Tensor]] = {"model": self.model.state_dict()}
        if self.settings.average:
            weights["averaged"] = self.averaged.state_dict()
        if self.best is not None:
            weights["best"] = self.best
        identity = _identity(self.settings, self.task.count, world())
        state = asdict(self.state) | {"identity": identity, "scaler": self.scaler.state_dict()}
        checkpoint.save(self.folder, self.state.step, weights, self.optimizer.state_dict(), state)
        write_history(self.folder / "history.csv", self.state.history)

    def train(self) -> Outcome:
        """All epochs that are left."""
        state = self.state
        while not state.done:
            self._epoch(state.step // self.per_epoch)
            self._close_epoch()
            self.save()
        if self.board is not None:
            self.board.close()
        if self.best is not None:
            self.averaged.load_state_dict(self.best)
        if not rank():
            checkpoint.write_weights(self.folder / "weights.safetensors", self.averaged.state_dict())
        return Outcome(self.averaged.eval(), state.history, state.seconds, state.step)

    def _epoch(self, epoch: int) -> None:
        """The steps that are left of an epoch."""
        state, settings = self.state, self.settings
        order = torch.randperm(self.task.count, generator=torch.Generator().manual_seed(_seed(settings.seed, epoch)))
        first = state.step % self.per_epoch
        name = f"epoch {epoch + 1}/{settings.epochs}"
        bar = tqdm(total=self.per_epoch, initial=first, desc=name, leave=False, disable=True if rank() else None)
        self.trained.train()
        before = time.perf_counter()
        for chosen in order.split(settings.batch)[first : self.per_epoch]:
            value = self._step(chosen)
            now = time.perf_counter()
            state.seconds, before = state.seconds + now - before, now
            bar.update()
            bar.set_postfix_str(f"loss {value:.3f}")
            if self._fraction() >= 1:
                break
            # with several processes clocks differ, and only the first one writes
            if now - self.saved > settings.save_seconds and world() == 1:
                self.save()
                before = time.perf_counter()
        bar.close()

    def _step(self, chosen: Tensor) -> float:
        """One step of the optimiser on a batch; returns the loss."""
        state, settings = self.state, self.settings
        mine = chosen[: len(chosen) // world() * world()][rank() :: world()]
        seed = _seed(settings.seed, state.step, 1 + rank())
        torch.manual_seed(seed)
        rate = settings.rate * SCHEDULES[settings.schedule](min(1.0, self._fraction()))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        dtype = getattr(torch, settings.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not torch.float32):
            loss = self.task.loss(self.trained, mine, np.random.default_rng(seed))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if settings.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        value = _mean_of_processes(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"loss: expected a finite number at step {state.step}, got {value}")
        state.step += 1
        if settings.average:
            _follow(self.averaged, self.model, min(settings.average, (1 + state.step) / (10 + state.step)))
        state.loss_sum, state.loss_count = state.loss_sum + value, state.loss_count + 1
        return value

    def _fraction(self) -> float:
        """The part of the training that is done; all processes go by the first one's clock."""
        done = self.state.step / (self.settings.epochs * self.per_epoch)
        if self.settings.seconds is None:
            return done
        clock = torch.tensor(self.state.seconds, dtype=torch.float64, device=self.device)
        if world() > 1:
            dist.broadcast(clock, 0)
        return max(done, float(clock) / self.settings.seconds)

    def _close_epoch(self) -> None:
        """Score, log, and decide whether to go on."""
        state, settings = self.state, self.settings
        epoch = math.ceil(state.step / self.per_epoch)
        over = self._fraction() >= 1
        row: dict[str, float] = {"epoch": epoch, "step": state.step, "seconds": round(state.seconds, 3)}
        row["rate"] = self.optimizer.param_groups[0]["lr"]
        row["loss"] = state.loss_sum / max(1, state.loss_count)
        state.loss_sum, state.loss_count = 0.0, 0
        if over or epoch % settings.evaluate_every == 0:
            with torch.no_grad():
                row |= self.task.evaluate(self.averaged.eval())
            self.averaged.train()  # some layers keep more state in eval mode
            over = self._compare(row) or over
        state.history.append(row)
        state.done = over
        self._log(row)

    def _compare(self, row: dict[str, float]) -> bool:
        """Whether scores have not risen for so long that training should stop."""
        state, settings = self.state, self.settings
        if settings.patience is None:
            return False
        if settings.score not in row:
            raise ValueError(f"score: expected one of {', '.join(row)}, got {settings.score!r}")
        if state.best is None or row[settings.score] > state.best:
            state.best, state.waited = row[settings.score], 0
            self.best = {name: value.detach().clone() for name, value in self.averaged.state_dict().items()}
        else:
            state.waited += 1
        return state.waited >= settings.patience

    def _log(self, row: dict[str, float]) -> None:
        if rank():
            return
        LOG.info("%s", ", ".join(f"{name} {value:.5g}" for name, value in row.items()))
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(name, value, int(row["step"]))


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Rows as CSV, atomically; a column for every name that any row has."""
    names = list(dict.fromkeys(name for row in history for name in row))

    def fill(fresh: Path) -> None:
        with fresh.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(history)

    checkpoint.write_file(path, fill)


def _board(folder: Path) -> Any:
    """Where TensorBoard's figures go."""
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter(folder / "tensorboard")
    except ImportError as error:
        raise ImportError(
            f"tensorboard: expected the package to be installed: pip install tensorboard ({error})"
        ) from error


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights that decay, and others: vectors (norms, biases, powers) and what PDE terms learn about geometry."""
    chosen = [p for p in model.parameters() if p.requires_grad]
    geometry = {id(p) for n, p in model.named_parameters() if ".terms." in f".{n}"}
    free = [p for p in chosen if p.ndim < 2 or id(p) in geometry]
    rest = [p for p in chosen if p.ndim >= 2 and id(p) not in geometry]
    groups = ({"params": rest, "weight_decay": decay}, {"params": free, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def _batches(count: int, batch: int) -> int:
    """Steps of an epoch; a last batch that leaves a process fewer than two samples is left out."""
    full, rest = divmod(count, batch)
    steps = full + (rest >= 2 * world())
    if not steps or batch < world():
        raise ValueError(f"batch: expected at least a sample for each of {world()} processes, got {batch} of {count}")
    return steps


def _seed(*numbers: int) -> int:
    """A seed that differs with every number."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _identity(settings: Settings, count: int, processes: int) -> dict[str, Any]:
    """What must be the same for a checkpoint to be taken up: all but how often to save and log."""
    free = ("save_seconds", "tensorboard")
    chosen = {name: value for name, value in asdict(settings).items() if name not in free}
    return json.loads(json.dumps(chosen | {"samples": count, "processes": processes}))


def _mean_of_processes(value: Tensor) -> float:
    if world() > 1:
        value = value.clone()
        dist.all_reduce(value)
        value /= world()
    return float(value)


@torch.no_grad()
def _follow(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the running mean towards the model; counters are copied."""
    means = averaged.state_dict()
    for name, now in model.state_dict().items():
        mean = means[name]
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)
