"""What the training recipes share: their command line, and one run from start to result file."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import nn

from pdegcnn.recipes import Outcome, Settings, Task, fit, own_device, parameters, rank, write_result

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
    made.add_argument("--patience", type=int, help="stop after so many scores without a better one")
    made.add_argument("--precision", choices=("float32", "bfloat16", "float16"), help="of autocast")
    made.add_argument("--tensorboard", action="store_true", default=None, help="also write TensorBoard files")
    made.add_argument("--smoke", action="store_true", help="little data and two epochs, to see that everything runs")
    return made


def settings(chosen: argparse.Namespace, **own: Any) -> Settings:
    """The recipe's ``own`` settings, changed by what the command line says; ends the program when one is wrong."""
    given = {f.name: getattr(chosen, f.name, None) for f in fields(Settings)}
    changed = own | {name: value for name, value in given.items() if value is not None}
    if chosen.smoke:
        changed |= {name: value for name, value in SMOKE.items() if given.get(name) is None}
    try:
        if changed["seed"] < 0:
            raise ValueError(f"seed: expected a number >= 0, got {changed['seed']}")
        return Settings(**changed)
    except (ValueError, TypeError) as error:
        raise SystemExit(f"--{error}") from error


def start() -> None:
    """Log the progress of the first process to the standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("pdegcnn.recipes").setLevel(logging.INFO if rank() == 0 else logging.WARNING)


def train(model: nn.Module, task: Task, how: Settings, chosen: argparse.Namespace) -> Outcome:
    """Train on this process's device; a folder of another run ends the program with its message."""
    try:
        return fit(model.to(own_device()), task, how, chosen.out)
    except ValueError as error:
        if rank() == 0:
            raise SystemExit(f"--out: {error}") from error
        raise SystemExit(2) from error


def finish(
    chosen: argparse.Namespace,
    recipe: str,
    row: str,
    outcome: Outcome,
    how: Settings,
    figures: Mapping[str, float],
    **more: Any,
) -> None:
    """Write the result file and print its figures (the first process)."""
    if rank():
        return
    path = chosen.result or chosen.out / "result.json"
    epochs = outcome.history[-1]["epoch"] if outcome.history else 0
    write_result(
        path,
        recipe,
        row,
        figures,
        seed=chosen.seed,
        parameters=parameters(outcome.model.requires_grad_(True)),
        seconds=outcome.seconds,
        epochs=epochs,
        settings=asdict(how),
        history=outcome.history,
        **more,
    )
    for name, value in figures.items():
        print(f"{name:>28}  {value:.5g}")
    print(f"wrote {path}")
