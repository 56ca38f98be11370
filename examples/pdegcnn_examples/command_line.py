"""The command line of the examples, and how they end when something in it is wrong."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Loaded = TypeVar("Loaded")


def parser(doc: str | None, *, out: str, data: str, epochs: int | None = None) -> argparse.ArgumentParser:
    """Return the command line that all examples have; ``data`` says what ``--data`` expects.

    With ``epochs`` the option ``--epochs`` says how many all networks are trained for, so that rivals take equal steps.
    """
    made = argparse.ArgumentParser(description=doc.partition("\n")[0] if doc else None)
    if epochs is not None:
        made.add_argument("--epochs", type=int, default=epochs, help="passes of each network (default: %(default)s)")
    made.add_argument("--seconds", type=float, help="end the training of each network after this time")
    made.add_argument("--seed", type=int, default=0, help="of data, weights and batches (default: %(default)s)")
    made.add_argument("--out", type=Path, default=Path(out), help="folder to write (default: %(default)s)")
    made.add_argument("--data", type=Path, help=data)
    made.add_argument("--smoke", action="store_true", help="little data and a second, to see that everything runs")
    return made


def parse(made: argparse.ArgumentParser, what: str = "example", *, resumes: bool = False) -> argparse.Namespace:
    """Read and check the command line; exits with status 2 and a message when something is wrong.

    Unless the program ``resumes``, its folder is replaced as a whole, so it must be new, empty or its own.
    """
    chosen = made.parse_args()
    if chosen.seconds is not None and not 0 < chosen.seconds < math.inf:
        made.error(f"--seconds: expected a positive number, got {chosen.seconds}")
    if getattr(chosen, "epochs", 1) < 1:
        made.error(f"--epochs: expected a number >= 1, got {chosen.epochs}")
    if chosen.seed < 0:
        made.error(f"--seed: expected a number >= 0, got {chosen.seed}")
    if not resumes:
        check_out(made, chosen.out, what)
    if chosen.smoke and "epochs" in chosen:
        chosen.epochs = 1
    if chosen.smoke and chosen.seconds is not None:
        chosen.seconds = 0.5
    return chosen


def check_out(made: argparse.ArgumentParser, out: Path, what: str = "example") -> None:
    """Exit with a message unless the folder ``--out``, which will be replaced, is new, empty or the program's own."""
    if out.exists() and not ((out / "results.json").exists() or out.is_dir() and not os.listdir(out)):
        made.error(f"--out: {out} exists and was not written by this {what}")


def add_results(made: argparse.ArgumentParser) -> None:
    """The option ``--results``, see :func:`pdegcnn_examples.training.result_file.record`."""
    made.add_argument("--results", type=Path, help="folder for a result file of each network, for the table of results")


def add_band(made: argparse.ArgumentParser) -> None:
    """The option ``--band`` of networks that halve the grid twice."""

    def band(text: str) -> int:
        value = int(text)
        if not 8 <= value <= 48 or value % 4:
            raise argparse.ArgumentTypeError(f"expected a multiple of 4 from 8 to 48, got {value}")
        return value

    made.add_argument("--band", type=band, default=16, help="rings of the grid, 8 to 48 (default: %(default)s)")


def load_or_exit(load: Callable[[], Loaded]) -> Loaded:
    """What ``load`` returns; a data set that is missing or damaged ends the program with status 2 and its message."""
    try:
        return load()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"--data: {error}\n")
        raise SystemExit(2) from error
