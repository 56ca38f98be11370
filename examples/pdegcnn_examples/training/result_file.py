"""The result file of a run: its figures, and everything needed to run it again."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pdegcnn_examples.training.files import write_json
from pdegcnn_examples.training.processes import world_size
from pdegcnn_examples.training.settings import Settings

FIELDS = ("recipe", "row", "command", "seed", "commit", "figures", "parameters", "seconds", "epochs", "machine", "data")
"""What every result file has."""
ROOT = Path(__file__).resolve().parents[3]
"""The project's folder, if the code runs from there."""


def parameters(model: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def command() -> str:
    """This program's command line as one would type it in the project's folder: the data folder left open as ``$DATA``,
    other folders outside the project by their names."""
    words = [os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == "--data":
            place, before = (place, "--data=") if equals else (place + 1, "")
            words[place : place + 1] = [before + "$DATA"]
        elif os.path.isabs(value or word):
            words[place] = option + equals + Path(value).name if equals else Path(word).name
    line = " ".join(word if "$DATA" in word else shlex.quote(word) for word in words)
    return (f"torchrun --nproc-per-node {world_size()} " if world_size() > 1 else "python ") + line


@cache
def commit() -> str:
    """The commit of the code, with a plus sign when tracked files differ from it; ``unknown`` outside a repository.

    It is read once, when a training starts: files may change while it runs.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except OSError:
        return "unknown"


def machine() -> dict[str, Any]:
    """Hardware, versions, threads and load of this moment."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "load_average": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def write_result(
    path: str | os.PathLike[str],
    recipe: str,
    row: str,
    figures: Mapping[str, float],
    *,
    seed: int,
    parameters: int,
    seconds: float,
    epochs: float,
    data: str,
    **more: Any,
) -> dict[str, Any]:
    """Write the result file of a run, atomically; returns what it holds.

    Args:
        path: the file.
        recipe: which table the run belongs to.
        row: which line of the table; runs that differ in their seed only share it.
        figures: what was measured, by name.
        seed: of the run.
        parameters: trainable numbers of the network.
        seconds: time of training.
        epochs: passes over the training data.
        data: what was trained and tested on.
        more: anything else worth keeping, as settings and the history.
    """
    result = {
        "recipe": recipe,
        "row": row,
        "figures": {name: float(value) for name, value in figures.items()},
        "parameters": int(parameters),
        "seed": int(seed),
        "epochs": round(float(epochs), 3),
        "seconds": round(float(seconds), 1),
        "data": data,
        "command": command(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        **more,
    }
    write_json(Path(path), result)
    return result


def record(
    folder: Path | None,
    recipe: str,
    row: str,
    figures: Mapping[str, float],
    how: Settings,
    *,
    name: str | None = None,
    parameters: int,
    seconds: float,
    epochs: float,
    data: str,
    **more: Any,
) -> None:
    """Write the result file of a network that ``how`` trained into ``folder``; do nothing if that is None.

    The file is called ``recipe-name-seed.json``; the name is the row's unless given. Other arguments are those of
    :func:`write_result`.
    """
    if folder is None:
        return
    write_result(
        folder / f"{recipe}-{name or row.replace(' ', '_')}-{how.seed}.json",
        *(recipe, row, figures),
        seed=how.seed,
        parameters=parameters,
        seconds=seconds,
        epochs=epochs,
        data=data,
        settings=asdict(how),
        **more,
    )


def _processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
