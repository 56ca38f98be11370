"""What the training recipes share: their command line, and one run from start to result file."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn_examples.output import training_folder
from pdegcnn_examples.training.files import UnfitCheckpoint
from pdegcnn_examples.training.processes import rank, world_size
from pdegcnn_examples.training.result_file import parameters, write_result
from pdegcnn_examples.training.settings import PRECISIONS, Settings, steps_of_epoch
from pdegcnn_examples.training.task import LossAlone, Task, TrainingResult

SMOKE = {"epochs": 2, "seconds": None, "batch": 8}


def parser(doc: str | None, *, out: str, data: str, add_help: bool = True) -> argparse.ArgumentParser:
    """The command line that all recipes have; what is not given is the recipe's own."""
    about, _, rest = (doc or "").partition("\n")
    made = argparse.ArgumentParser(
        description=about, epilog=rest, add_help=add_help, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--data", type=Path, help=data)
    made.add_argument("--out", type=Path, default=Path(out), help="folder of checkpoints and results (%(default)s)")
    made.add_argument("--result", type=Path, help="file of the result (OUT/result.json)")
    made.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (%(default)s)")
    made.add_argument("--epochs", type=int, help="passes over the training data")
    made.add_argument("--seconds", type=float, help="budget of training time, kept by the learning rate too")
    made.add_argument("--batch", type=int, help="samples of a step, over all processes")
    made.add_argument("--rate", type=float, help="highest learning rate")
    made.add_argument("--patience", type=int, help="stop after this many scores without improvement")
    made.add_argument("--precision", choices=tuple(PRECISIONS), help="of autocast")
    made.add_argument("--tensorboard", action="store_true", default=None, help="also write TensorBoard files")
    made.add_argument("--sharded", action="store_true", default=None, help="spread weights over processes (FSDP2)")
    made.add_argument("--smoke", action="store_true", help="little data and two epochs, to see that everything runs")
    return made


def settings(chosen: argparse.Namespace, **own: Any) -> Settings:
    """The recipe's ``own`` settings, changed by what the command line says; ends the program when one is wrong."""
    given = {f.name: getattr(chosen, f.name, None) for f in fields(Settings)}
    changed = own | {name: value for name, value in given.items() if value is not None}
    if chosen.smoke:
        changed |= {name: value for name, value in SMOKE.items() if given.get(name) is None}
    if chosen.sharded:
        changed["average"] = 0.0  # the average of the weights would be whole in every process
    try:
        return Settings(**changed)
    except (ValueError, TypeError) as error:
        raise SystemExit(f"--{error}") from error


def start() -> None:
    """Log the progress of the first process to the standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("pdegcnn_examples.training").setLevel(logging.INFO if rank() == 0 else logging.WARNING)


UNIMPORTANT = {"data", "images", "net", "one", "out", "result", "results", "train", "weights"}
"""Options that say where files are, or that a name says too."""


def about(chosen: argparse.Namespace) -> dict[str, str]:
    """Return the options that a run cannot change when it goes on, beside its settings."""
    known = UNIMPORTANT | {f.name for f in fields(Settings)}
    return {name: str(value) for name, value in sorted(vars(chosen).items()) if name not in known}


def train(
    name: str, model: nn.Module, task: Task, how: Settings, chosen: argparse.Namespace, folder: Path | None = None
) -> TrainingResult:
    """Train the network called ``name`` on its device; a folder of another run ends the program."""
    from pdegcnn_examples.training.run import fit  # Lightning takes seconds to import: not for ``--help``

    try:
        steps_of_epoch(task.count, how.batch, world_size())
    except ValueError as error:
        raise SystemExit(f"--{error}") from error
    try:
        return fit(model, task, how, folder or chosen.out, {"name": name, **about(chosen)})
    except UnfitCheckpoint as error:
        if rank() == 0:
            raise SystemExit(f"--out: {error}") from error
        raise SystemExit(2) from error


def train_alone(
    name: str, model: nn.Module, loss: Callable[[Tensor], Tensor], count: int, how: Settings, chosen: argparse.Namespace
) -> TrainingResult:
    """Train the network called ``name`` in place, before an example writes its folder as a whole.

    ``loss`` maps indices of samples to their loss. What is compiled on first use is compiled before the clock starts.
    """
    before = deepcopy(model.state_dict())
    model.train()
    loss(torch.arange(min(how.batch, count))).backward()
    torch.optim.AdamW(model.parameters(), 0.0).step()
    model.zero_grad()
    model.load_state_dict(before)
    folder = training_folder(chosen.out) / re.sub(r"[^a-z0-9]+", "_", name.lower())
    return train(name, model, LossAlone(count, loss), how, chosen, folder)


def seconds_per_epoch(done: TrainingResult, how: Settings, count: int) -> float:
    """Return the seconds that one pass over ``count`` samples took."""
    return done.seconds / done.steps * steps_of_epoch(count, how.batch)


def finish(
    chosen: argparse.Namespace,
    recipe: str,
    row: str,
    done: TrainingResult,
    how: Settings,
    figures: Mapping[str, float],
    **more: Any,
) -> None:
    """Write the result file and print its figures (the first process)."""
    if rank():
        return
    path = chosen.result or chosen.out / "result.json"
    if len(done.commits) > 1:
        more["commits"] = done.commits
    write_result(
        path,
        recipe,
        row,
        figures,
        seed=chosen.seed,
        parameters=parameters(done.model.requires_grad_(True)),
        seconds=done.seconds,
        epochs=done.epochs,
        settings=asdict(how),
        history=done.history,
        **more,
    )
    for name, value in figures.items():
        print(f"{name:>28}  {value:.5g}")
    print(f"wrote {path}")
