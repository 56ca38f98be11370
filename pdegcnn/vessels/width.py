"""The width of vessels on photographs that are larger than what the network sees."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

RIM = 4.0
"""Pixels that the network sees, along the border of the field, where light falls off."""


def narrowed(mask: np.ndarray, light: np.ndarray, field: np.ndarray, unit: float) -> np.ndarray:
    """Narrow vessels to the pixels at least half as dark as their middle: the usual definition of their width.

    The network sees a large photograph made smaller, so its mask is wide by a part of the larger pixels. Pixels of the
    mask that are nearer in light to the ground beside the vessel than to its darkest part are left out. Light reflexes
    along the middle of a vessel stay.

    Args:
        mask: vessels [H,W] bool.
        light: green channel [H,W].
        field: field of view [H,W] bool.
        unit: pixels of the photograph in a pixel that the network sees.
    """
    smooth = ndimage.gaussian_filter(_beyond_the_rim(light.astype(np.float32), field, RIM * unit), 0.35 * unit)
    beside = np.asarray(ndimage.distance_transform_edt(~mask))
    ground = _mean(smooth, (beside > unit) & (beside < 6 * unit) & field, 4 * unit)
    darkest = ndimage.minimum_filter(np.where(mask, smooth, np.inf), 2 * round(1.5 * unit) + 1)
    middle = _mean(np.where(mask, darkest, 0), mask, unit)
    kept = mask & (smooth <= (ground + middle) / 2)
    parts = np.asarray(ndimage.label(~kept)[0])  # pyright: ignore[reportIndexIssue]
    return kept | ~np.isin(parts, np.unique(parts[~mask]))


def _beyond_the_rim(light: np.ndarray, field: np.ndarray, rim: float) -> np.ndarray:
    """Replace the light near the border of the field, where it falls off, by that of the nearest inner pixel."""
    core = np.asarray(ndimage.distance_transform_edt(np.pad(field, 1)))[1:-1, 1:-1] > rim
    if not core.any():
        return light
    nearest = np.asarray(ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True))
    return light[nearest[0], nearest[1]]


def _mean(values: np.ndarray, chosen: np.ndarray, sigma: float) -> np.ndarray:
    """Return the Gaussian means [H,W] of the values at the chosen pixels."""
    weight = chosen.astype(np.float32)
    total = ndimage.gaussian_filter(weight, sigma)
    return ndimage.gaussian_filter(np.where(chosen, values, 0).astype(np.float32), sigma) / np.maximum(total, 1e-4)
