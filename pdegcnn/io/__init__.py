"""Networks in safetensors files, with the call that builds them and without pickle, and volumes in NIfTI files."""

from __future__ import annotations

import json
import warnings
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pdegcnn import _checks
from pdegcnn._files import write_file
from pdegcnn.io.recipes import DTYPES, from_json, to_json
from pdegcnn.io.volumes import Volume, read_volume, write_volume
from pdegcnn.models import MODELS
from pdegcnn.models._recipe import Recipe

__all__ = ["FORMAT", "Volume", "load", "read_volume", "save", "write_volume"]

FORMAT = 1
"""Version of the files; newer ones are refused."""
KEY = "pdegcnn"


def save(model: nn.Module, path: str | Path) -> Path:
    """Write a network of :mod:`pdegcnn.models` to one safetensors file. Needs ``safetensors``.

    The file holds parameters and batch-norm statistics, and in its header, as JSON, the builder with its arguments, so
    :func:`load` needs nothing else. An interrupted call leaves no partial file.

    Args:
        model: a network from a builder in ``MODELS``; its parameters may have changed, its structure must not.
        path: the file, in an existing folder.

    Returns:
        The path.

    Raises:
        TypeError: if the network does not come from this library, or was built from objects that a file cannot hold (a
            grid of points, a mesh).
        FileNotFoundError: if the folder does not exist.
        ImportError: if ``safetensors`` is not installed.
    """
    recipe, path = getattr(model, "recipe", None), _checks.path(path)
    if not isinstance(recipe, Recipe):
        raise TypeError(
            f"model: expected a network of pdegcnn.models, which remembers how it was built, got "
            f"{type(model).__name__}; for others save state_dict() with safetensors"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: expected a file in a folder that exists, got {str(path)!r}")
    safetensors = _safetensors()
    header = {"format": FORMAT, "builder": recipe.builder, "arguments": to_json("model", recipe.arguments)}
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    data = safetensors.torch.save(tensors, {KEY: json.dumps(header)})
    write_file(path, lambda fresh: fresh.write_bytes(data))
    return path


def load(path: str | Path, device: Any = None) -> nn.Module:
    """Load a network that :func:`save` wrote: build it again with its parameters, in evaluation mode.

    It has the dtype of the parameters in the file (the widest where they have several), whatever torch's default is and
    the builder was told. Loading executes no code from the file, which holds only the name of a builder, plain
    arguments and numbers.

    Args:
        path: the file.
        device: where the parameters live.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, of another kind or of a newer version, or its parameters do not fit.
        ImportError: if ``safetensors`` is not installed.
    """
    path = _checks.path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a file of pdegcnn.save, got {str(path)!r}, which does not exist")
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            recipe = _read_header(path, file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(
            f"path: expected a file of pdegcnn.save, got {str(path)!r}, which is damaged ({error})"
        ) from error
    build, floats = MODELS[recipe.builder], {t.dtype for t in tensors.values()} & set(DTYPES.values())
    arguments = {**recipe.arguments, "dtype": reduce(torch.promote_types, floats) if floats else None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that pretrained weights do not reach the meta device
            wanted = build(**arguments, device="meta").state_dict()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"path: {str(path)!r} holds arguments that {recipe.builder} does not take ({error})"
        ) from error
    _check_fit(path, wanted, tensors)
    model = build(**arguments)
    model.__dict__["recipe"] = recipe
    model.load_state_dict(tensors)
    return model.to(device).eval()


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ImportError(f"saving and loading need safetensors: pip install 'pdegcnn[save]' ({error})") from error
    return safetensors


def _read_header(path: Path, metadata: dict[str, str] | None) -> Recipe:
    where = f"path: {str(path)!r}"
    if not metadata or KEY not in metadata:
        raise ValueError(f"{where} holds tensors, but not how to build a network: expected a file of pdegcnn.save")
    try:
        header = json.loads(metadata[KEY])
        version, builder, arguments = header["format"], header["builder"], header["arguments"]
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{where} has a header that cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(version, int) or not 1 <= version <= FORMAT:
        raise ValueError(f"{where} is of format {version!r}: expected one up to {FORMAT}; update pdegcnn")
    if not isinstance(builder, str) or builder not in MODELS:
        raise ValueError(f"{where} names the network {builder!r}: expected one of {', '.join(MODELS)}")
    if not isinstance(arguments, dict):
        raise ValueError(f"{where} has a header that cannot be read: expected arguments by name, got {arguments!r}")
    return Recipe(builder, {str(k): from_json(f"{where}: {k}", v) for k, v in arguments.items()})


def _check_fit(path: Path, wanted: dict[str, torch.Tensor], came: dict[str, torch.Tensor]) -> None:
    missing, extra = sorted(set(wanted) - set(came)), sorted(set(came) - set(wanted))
    if missing or extra:
        raise ValueError(
            f"path: {str(path)!r} does not fit its network: missing {missing[:8]}, not expected {extra[:8]}"
        )
    for name, value in wanted.items():
        alike = came[name].dtype == value.dtype or {came[name].dtype, value.dtype} <= set(DTYPES.values())
        if value.shape != came[name].shape or not alike:
            raise ValueError(
                f"path: {str(path)!r} does not fit its network: expected {name} {tuple(value.shape)} {value.dtype}, "
                f"got {tuple(came[name].shape)} {came[name].dtype}"
            )
