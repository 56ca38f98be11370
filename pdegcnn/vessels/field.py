"""The field of view of a photograph of the retina."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

LONGEST = 1200
"""Pixels of the longer side from which pictures are shrunk to find the field: seconds become a fraction of one."""


class Field(NamedTuple):
    """The field of view of a photograph.

    Attributes:
        mask: ``(H,W)`` bool.
        centre: (row, column) of its circle in pixels.
        diameter: of its circle in pixels.
    """

    mask: np.ndarray
    centre: tuple[float, float]
    diameter: float


def find_field(image: np.ndarray) -> Field:
    """Return the field of view of a photograph: the bright part in front of a dark surround, for any camera.

    Dark vessels, dust and labels outside are ignored. The circle is fitted to the part of its border that the frame of
    the picture does not cut off. In a picture without a dark surround the field is the whole picture, and its diameter
    the longer side.

    Args:
        image: ``(H,W,3)`` or ``(H,W)``, uint8 or float.

    Raises:
        TypeError: if the image is not an array of real numbers.
        ValueError: for another shape, fewer than 16 pixels a side, values that are not finite, or a picture without
            contrast.
    """
    image = np.asarray(image)
    if image.dtype.kind not in "fiub":
        raise TypeError(f"image: expected an array of real numbers, got dtype {image.dtype}")
    if image.ndim not in (2, 3) or min(image.shape[:2]) < 16 or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"image: expected (H,W,3) or (H,W) of at least 16 pixels a side, got shape {image.shape}")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError("image: expected finite values, got NaN or infinity")
    light = image.max(-1) if image.ndim == 3 else image
    step = -(-max(light.shape) // LONGEST)
    mask = _lit(_means(light, step))
    (row, column), diameter = _circle(mask)
    centre = ((row + 0.5) * step - 0.5, (column + 0.5) * step - 0.5)
    whole = mask.repeat(step, 0).repeat(step, 1)[: light.shape[0], : light.shape[1]]
    return Field(whole, centre, diameter * step)


def _means(light: np.ndarray, step: int) -> np.ndarray:
    """Return means [h,w] over blocks of ``step`` x ``step`` pixels.

    The last row and column of the picture are repeated.
    """
    if step == 1:
        return light.astype(np.float64)
    more = [(0, -size % step) for size in light.shape]
    padded = np.pad(light, more, mode="edge").astype(np.float32)
    return padded.reshape(padded.shape[0] // step, step, -1, step).mean((1, 3), dtype=np.float64)


def _lit(light: np.ndarray) -> np.ndarray:
    """Return the lit part [h,w] of a picture."""
    height, width = light.shape
    light = ndimage.gaussian_filter(light, max(height, width) / 300, mode="nearest")
    dark, top = np.percentile(light, (0.5, 99.5))
    lit = light[light > dark + 0.25 * (top - dark)]
    bright = float(np.median(lit)) if lit.size else 0.0
    if not bright > 0 or bright - light.min() < 1e-3 * bright:
        raise ValueError("image: expected a photograph with a lit field of view, got one without contrast")
    if dark < 0.35 * bright:
        return _lit_part(light > dark + 0.18 * (bright - dark))
    return np.ones(light.shape, bool)


def _lit_part(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected part, without thin outgrowths and holes."""
    steps = max(1, max(mask.shape) // 200)
    padded = np.pad(mask, steps, mode="edge")
    opened = ndimage.binary_opening(padded, iterations=steps)[steps:-steps, steps:-steps]
    labels = np.asarray(ndimage.label(opened)[0])  # pyright: ignore[reportIndexIssue]
    count = int(labels.max())
    if not count:
        return np.ones(mask.shape, bool)
    largest = labels == 1 + np.argmax(ndimage.sum_labels(opened, labels, np.arange(1, count + 1)))
    return np.asarray(ndimage.binary_fill_holes(largest))


def _circle(mask: np.ndarray) -> tuple[tuple[float, float], float]:
    """Return centre and diameter of the circle through the border of ``mask`` in the frame (Kasa's fit, twice)."""
    rows, columns = np.nonzero(mask)
    box = rows.min(), rows.max(), columns.min(), columns.max()
    centre = ((box[0] + box[1]) / 2, (box[2] + box[3]) / 2)
    extent = float(max(box[1] - box[0], box[3] - box[2]) + 1)
    border = mask & ~np.asarray(ndimage.binary_erosion(mask, border_value=1), dtype=bool)
    border[:2], border[-2:], border[:, :2], border[:, -2:] = False, False, False, False
    i, j = (x.astype(float) for x in np.nonzero(border))
    if len(i) < 0.2 * np.pi * extent:
        return centre, extent
    radius = extent / 2
    for _ in range(2):
        (a, b, c), *_ = np.linalg.lstsq(np.stack((2 * i, 2 * j, np.ones_like(i)), 1), i**2 + j**2, rcond=None)
        radius = float(np.sqrt(max(c + a**2 + b**2, 0)))
        near = np.abs(np.hypot(i - a, j - b) - radius) < 0.03 * radius
        if near.sum() < 0.1 * np.pi * extent:
            return centre, extent
        i, j = i[near], j[near]
    if not 0.9 * extent <= 2 * radius <= 1.6 * extent:
        return centre, extent
    return (float(a), float(b)), 2 * radius + 1
