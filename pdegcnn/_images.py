"""Reading image files upright, as viewers show them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

WIDE = {"I;12": 4095}
"""How files hold grey values of 12 bits, and the greatest one; of others it is 65535."""

ZERO_IS_WHITE = "pdegcnn: zero is white"
"""What :func:`opened` adds to the ``info`` of an image."""


def listed(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """List the files of a folder that have one of these suffixes, in upper or lower case.

    They are ordered by the numbers in their names: 2.jpg before 10.jpg. Hidden files, which macOS adds, are left out.
    """
    found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "." and p.is_file()]
    return sorted(found, key=lambda path: (_by_number(path.name), path.name))


def _by_number(name: str) -> list[str | int]:
    """Return text and numbers in turn."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", name))]


def read_picture(path: Path) -> np.ndarray:
    """Read the colours of a photograph as uint8 (H,W,3), upright.

    A palette gives its colours. What is transparent lies on black. Grey values of 16 bits, also those kept in 32, are
    scaled from 0..65535, those of 12 bits from 0..4095, floats from [0,1].
    Where the file says that zero is white, it is.

    Raises:
        ImportError: if Pillow is not installed.
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged or no image, or has values outside those ranges.
    """
    with opened(path) as (image, stored, _):
        white = False
        if not image.mode.startswith(("I", "F")):
            clear = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
            values = np.array(image.convert("RGBA" if clear else "RGB"))
        else:
            values, clear = np.array(image), False
            white = image.info[ZERO_IS_WHITE]  # Pillow inverts 8 bits alone
    if clear:
        shares = values[..., 3:].astype(np.uint32)
        return ((values[..., :3] * shares + 127) // 255).astype(np.uint8)
    if values.ndim == 3:
        return values
    top = 1.0 if values.dtype.kind == "f" else WIDE.get(stored[:4], 65535)
    if not (values.min() >= 0 and values.max() <= top * (1 + 1e-6)):
        raise ValueError(f"{path}: expected grey values in [0, {top:g}], got {values.min():g} to {values.max():g}")
    shares = np.clip(values.astype(np.float64) * (255 / top), 0, 255)
    grey = (255 - shares if white else shares).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, str, int]]:
    """Open the first image in a file, turned as its EXIF orientation says.

    Also how its pixels are stored, in Pillow's words, and the number of images in the file.

    Raises:
        ImportError: if Pillow is not installed.
        FileNotFoundError: if the file does not exist.
        ValueError: if it cannot be read, is damaged or not an image, or is a TIFF that Pillow reads wrongly.
    """
    try:
        pillow, operations = importlib.import_module("PIL.Image"), importlib.import_module("PIL.ImageOps")
    except ModuleNotFoundError as error:
        raise ImportError("reading images needs Pillow: pip install 'pdegcnn[vessels]'") from error
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected an image, but the file does not exist")
    if path.is_dir():
        raise ValueError(f"{path}: expected an image, got a folder")
    try:
        # a file, not its name: Pillow maps a named TIFF into memory, and then turns it by 90 degrees in the wrong size
        with open(path, "rb") as file, pillow.open(file) as image:
            tags = dict(getattr(image, "tag_v2", {}))
            if _deep_planes(tags):
                text = "expected the colours of each pixel together, or compressed planes, got planes of over 8 bits"
                raise _Refused(f"{path}: {text} without compression")
            image.info[ZERO_IS_WHITE] = tags.get(262) == 0
            stored = image.tile[0][3] if image.tile else ""  # known until the pixels are loaded
            stored = stored[0] if isinstance(stored, (tuple, list)) and stored else stored
            yield operations.exif_transpose(image), str(stored), getattr(image, "n_frames", 1)
    except _Refused:
        raise
    except pillow.UnidentifiedImageError as error:
        text = "expected a readable image, got a damaged one, or of a kind that Pillow does not know"
        raise ValueError(f"{path}: {text}") from error
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise ValueError(f"{path}: expected a readable image, got a damaged one ({error})") from error


class _Refused(ValueError):
    """A file is whole, but would be read wrongly."""


def _deep_planes(tags: dict[int, Any]) -> bool:
    """Return whether a TIFF with these tags has uncompressed planes of more than 8 bits, which Pillow reads as 8."""
    bits = tags.get(258, (1,))
    deepest = max(bits) if isinstance(bits, tuple) else bits
    return tags.get(284) == 2 and tags.get(277, 1) > 1 and tags.get(259, 1) == 1 and deepest > 8
