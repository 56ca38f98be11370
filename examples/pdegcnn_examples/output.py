"""What the examples give: a table in text, and a folder that is whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def table(results: Mapping[str, Mapping[str, Any]], rows: Mapping[str, tuple[str, str]], width: int = 12) -> str:
    """Lines of text with a column per network: ``rows`` maps a label to the key of a result and its format."""
    wide = 2 + max(len(label) for label in rows)
    lines = [f"{'':<{wide}}" + "".join(f"{name:>{width}}" for name in results)]
    for label, (key, form) in rows.items():
        cells = (form.format(r[key]) if key in r else "-" for r in results.values())
        lines.append(f"{label:<{wide}}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(lines)


def training_folder(folder: Path) -> Path:
    """Return where the checkpoints of an example are while it trains: beside the folder that it will write."""
    return folder.with_name(f".{folder.name}-training")


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write into a new folder, then put it in the place of ``folder``; a failure leaves what was there.

    The checkpoints in ``training_folder(folder)`` have then served their purpose, and are deleted.

    Raises:
        NotADirectoryError: if ``folder`` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"folder: expected a folder or a new name, got the file {str(folder)!r}")
    place = folder.resolve()  # a link stays a link
    place.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    fresh, old = hidden / "new", hidden / "old"
    try:
        fresh.mkdir()
        fresh.chmod(0o755)
        fill(fresh)
        if place.exists():
            os.replace(place, old)
        os.replace(fresh, place)
    except BaseException:
        if old.exists() and not place.exists():
            old.rename(place)  # if this fails too, the old content stays in the hidden folder
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    for past in (hidden, training_folder(folder)):
        shutil.rmtree(past, ignore_errors=True)
