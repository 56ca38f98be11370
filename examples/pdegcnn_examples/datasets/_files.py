"""Data sets in a folder of the user's: where they are, and reading their arrays."""

from __future__ import annotations

import importlib.util
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ENVIRONMENT = "PDEGCNN_DATA"
"""The environment variable that names the folder of real data sets."""


STARDIST_HELP = (
    "expected the package stardist to be installed (pip install --no-deps stardist), which ships these images"
)


def stardist_files(*names: str) -> list[Path]:
    """Find images that the package stardist ships, without importing it.

    Raises:
        FileNotFoundError: if the package is not installed, or comes without one of them.
    """
    found = importlib.util.find_spec("stardist")
    if found is None or found.origin is None:
        raise FileNotFoundError(f"stardist: {STARDIST_HELP}")
    folder = Path(found.origin).parent / "data" / "images"
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"stardist: {STARDIST_HELP}; {folder} has no {name}")
    return [folder / name for name in names]


def find_folder(folder: str | os.PathLike[str] | None, name: str, parts: Sequence[str], usage: str) -> Path:
    """The folder that holds ``parts`` (files or folders), or has a folder ``name`` with them.

    Raises:
        FileNotFoundError: no folder was named by the argument or by ``PDEGCNN_DATA``, or a part is missing; the message
            begins with ``usage``, what the loader expects.
    """
    folder = folder if folder is not None else os.environ.get(ENVIRONMENT)
    if not folder:
        raise FileNotFoundError(f"folder: {usage}; got none")
    root = Path(folder)
    root = root / name if (root / name).is_dir() else root
    for part in parts:
        if not (root / part).exists():
            raise FileNotFoundError(f"folder: {usage}; {root} has no {part}")
    return root


def read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Arrays of an npz file; raises ``ValueError`` naming the file when it is damaged or lacks one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except KeyError as error:
        wanted = ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
        raise ValueError(f"{path}: expected the arrays {wanted}; {error.args[0]}") from error
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected a readable npz file, got a damaged one ({error})") from error
