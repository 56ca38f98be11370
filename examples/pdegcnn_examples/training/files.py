"""Weights, JSON and other files of a run: each is whole or not there."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pdegcnn import _files


class UnfitCheckpoint(ValueError):
    """A checkpoint is damaged, or of another run."""


def write_file(path: Path, fill: Callable[[Path], object]) -> None:
    """Let ``fill`` write a file beside ``path``, then put it in its place; a failure leaves what was there.

    Folders that are missing are made; ``fill`` gets the path to write to, which ends as ``path`` does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _files.write_file(path, fill)
    _files.flush(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, whole or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    write_file(path, lambda fresh: fresh.write_text(text, encoding="utf-8"))


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a ``state_dict`` as safetensors, whole or not at all."""
    flat = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    write_file(path, lambda fresh: save_file(flat, fresh))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or of another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights: expected a safetensors file, but {path} is not there")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a readable safetensors file, got a damaged one ({error})") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of the Trainer onto the CPU; nothing in it is executed.

    Raises:
        UnfitCheckpoint: if the file is damaged, or holds more than tensors and plain values.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or "state_dict" not in found:
            raise ValueError("it has no weights")
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UnfitCheckpoint(f"{path}: expected a readable checkpoint, got a damaged one ({error})") from error
    return found
