"""Reading image files."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np


def read_image(path: Path, mode: str) -> np.ndarray:
    """The pixels of an image file as uint8: (H,W,3) for mode ``"RGB"``, (H,W) for ``"L"``.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: the file is damaged or no image.
    """
    try:
        pillow = importlib.import_module("PIL.Image")
    except ModuleNotFoundError as error:
        raise ImportError("images are read with Pillow, which is not installed: pip install pillow") from error
    try:
        with pillow.open(path) as image:
            if image.mode.startswith(("I", "F")):  # 16 bits, or floats in [0,1]: convert() would cut, not scale
                image = pillow.fromarray(_to_bytes(np.array(image)))
            return np.array(image.convert(mode))
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise ValueError(f"{path}: expected a readable image, got a damaged one ({error})") from error


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 or 32 bits, or floats in [0,1], as uint8."""
    top = 1.0 if values.dtype.kind == "f" else 65535.0
    return np.clip(np.nan_to_num(values.astype(np.float64)) * (255 / top), 0, 255).round().astype(np.uint8)
