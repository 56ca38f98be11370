"""Reading label files as numbers, upright, as viewers show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pdegcnn._images import opened

NARROW = {"L;2": 85, "L;4": 17}
"""How files hold grey values of two and four bits, and by what Pillow multiplies them to reach 255."""


def read_labels(path: Path) -> np.ndarray:
    """The numbers in a label file as int64 (H,W), upright and exact: grey values of 1 to 32 bits, or palette places.

    Opaque colours of 8 bits are read where red, green and blue are equal.

    Raises:
        ImportError: if Pillow is not installed.
        ValueError: if the file is damaged or no image, or holds floats, colours, transparency or several images.
    """
    with opened(path) as (image, stored, frames):
        mode = image.mode
        whole = mode in ("1", "L", "P") or mode.startswith("I")
        values = np.array(image if whole else image.convert("RGBA"))
    if frames > 1:
        raise ValueError(f"{path}: expected one image of labels, got {frames} in one file")
    if mode.startswith("F"):
        raise ValueError(f"{path}: expected labels as whole numbers, got an image of floats")
    if not whole:
        colours, opaque = values[..., :-1], values[..., -1]
        grey = mode in ("LA", "RGB", "RGBA") and ";16" not in stored and (colours == colours[..., :1]).all()
        if not grey or (opaque < 255).any():
            got = f"mode {mode}, stored as {stored}"
            raise ValueError(f"{path}: expected labels as grey values or places in a palette, got colours ({got})")
        values = colours[..., 0]
    return values.astype(np.int64) // NARROW.get(stored[:3], 1)
