"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

LONGEST = 200
"""Bytes of a suffix that leave room for the rest of a file's name."""


def write_file(path: Path, fill: Callable[[Path], object]) -> None:
    """Let ``fill`` write a file beside ``path``, then put it in its place; a failure leaves what was there.

    ``fill`` gets a short name with the suffix of ``path``; the file has the usual permissions.

    Raises:
        FileNotFoundError: if the folder of ``path`` does not exist.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: expected a file in a folder that exists, got {str(path)!r}")
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST else ""
    handle, name = tempfile.mkstemp(prefix=".new-", suffix=suffix, dir=path.parent)
    os.close(handle)
    fresh = Path(name)
    try:
        fill(fresh)
        mask = os.umask(0)
        os.umask(mask)
        fresh.chmod(0o666 & ~mask)
        flush(fresh)
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
