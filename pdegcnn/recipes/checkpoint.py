"""Weights, JSON and other files of a run, and checkpoints that survive a kill at any moment."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pdegcnn import _files

PREFIX = "checkpoint-"
"""Folders of checkpoints are named by this and their number of steps."""


def write_file(path: Path, fill: Callable[[Path], object]) -> None:
    """Let ``fill`` write a file beside ``path``, then put it in its place; a failure leaves what was there.

    Folders that are missing are made; ``fill`` gets the path to write to, which ends as ``path`` does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _files.write_file(path, fill)


def write_json(path: Path, content: Any) -> None:
    """``content`` as indented JSON, atomically."""
    text = json.dumps(content, indent=2) + "\n"
    write_file(path, lambda fresh: fresh.write_text(text, encoding="utf-8"))


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """A ``state_dict`` as safetensors, atomically."""
    flat = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    write_file(path, lambda fresh: save_file(flat, fresh))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights: expected a safetensors file, but {path} is not there")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a readable safetensors file, got a damaged one ({error})") from error


def save(folder: Path, step: int, weights: Mapping[str, Mapping[str, Tensor]], optimizer: Any, state: Any) -> None:
    """Write the checkpoint of a step and delete older ones; a kill leaves the older or the newer one, whole.

    Args:
        folder: holds the checkpoints.
        step: number of steps done.
        weights: state dicts by name, each a safetensors file.
        optimizer: the optimiser's state dict.
        state: everything else, as JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        for name, tensors in weights.items():
            write_weights(fresh / f"{name}.safetensors", tensors)
        write_json(fresh / "state.json", state)
        write_file(fresh / "optimizer.pt", lambda path: torch.save(optimizer, path))
        final = folder / f"{PREFIX}{step:09d}"
        while final.exists():  # the same step again, with the epoch's scores: never a moment without a checkpoint
            final = final.with_name(final.name + "+")
        os.replace(fresh, final)
        _files.flush(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    for old in [*folder.glob(f"{PREFIX}*"), *folder.glob(".writing-*")]:
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in ``folder``, if any."""
    return max(folder.glob(f"{PREFIX}*"), default=None)


def load(path: Path, device: torch.device) -> tuple[dict[str, dict[str, Tensor]], Any, Any]:
    """Weights by name, optimiser's state and JSON state of a checkpoint.

    Raises:
        ValueError: a file of it is damaged; the message names it.
    """
    weights = {file.stem: read_weights(file) for file in path.glob("*.safetensors")}
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        optimizer = torch.load(path / "optimizer.pt", map_location=device, weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: expected a readable checkpoint, got a damaged one ({error})") from error
    return weights, optimizer, state
