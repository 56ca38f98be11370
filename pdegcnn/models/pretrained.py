"""Weights in the package: ``weights/NAME.safetensors``, described by ``weights/NAME.json``."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

FOLDER = Path(__file__).with_name("weights")


def pretrained_names(builder: str) -> tuple[str, ...]:
    """Return names of the weights that ``builder`` takes as ``pretrained=``."""
    prefix = f"{builder}_"
    return tuple(sorted(p.stem.removeprefix(prefix) for p in FOLDER.glob(f"{prefix}*.json")))


def read_pretrained(builder: str, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return description and tensors of the weights called ``name``.

    The description has ``arguments`` of the builder, ``figures``, ``command``, ``commit``, ``data`` and ``licence`` of
    the training, and ``check``: logits that the network gives.

    Raises:
        ImportError: if safetensors is not installed.
        ValueError: if no such weights exist, or their file differs from its description.
    """
    names = pretrained_names(builder)
    if name not in names:
        raise ValueError(f"pretrained: expected one of {', '.join(map(repr, names)) or 'none yet'}, got {name!r}")
    path = FOLDER / f"{builder}_{name}.safetensors"
    description = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"pretrained: expected the weights in {path}, but they cannot be read ({error})") from error
    if hashlib.sha256(content).hexdigest() != description["sha256"]:
        raise ValueError(f"pretrained: {path} is damaged: it is not the file that {path.stem}.json describes")
    try:
        load = importlib.import_module("safetensors.torch").load
    except ModuleNotFoundError as error:
        raise ImportError("pretrained: reading weights needs safetensors: pip install 'pdegcnn[save]'") from error
    return description, load(content)
