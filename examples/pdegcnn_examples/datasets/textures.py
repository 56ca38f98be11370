"""Noisy crops of three photographs that ship inside scikit-image: brick, grass and gravel, upright or turned."""

from __future__ import annotations

import importlib
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn import _checks

TEXTURES = ("brick", "grass", "gravel")
"""Names of the classes, in the order of their labels."""
SIZE = 48
"""Height and width of a crop in pixels."""
NOISE = 1.0
"""Deviation of the noise, over that of the crop."""


class Textures(NamedTuple):
    """Crops [N,1,48,48] float32, of mean 0 and deviation 1 before noise is added, and their labels [N]."""

    images: Tensor
    labels: Tensor


def textures(count: int, seed: int = 0, *, test: bool = False, angle: float | None = 0.0) -> Textures:
    """Crops of brick, grass and gravel at half their size, as many of each, with noise as strong as the texture.

    Crops to train on come from the upper halves of the photographs, those to test on from the lower halves. The same
    seed gives the same places and noise at every angle.

    Args:
        count: crops of each texture.
        seed: of the places.
        test: from the lower halves.
        angle: degrees by which the crops are turned, counter-clockwise; None: each by its own.

    Raises:
        ImportError: scikit-image is not installed.
    """
    _checks.positive_int("count", count)
    try:
        load = importlib.import_module("skimage.data")
    except ModuleNotFoundError as error:
        raise ImportError("textures: they ship inside scikit-image: pip install scikit-image") from error
    random = np.random.default_rng([seed, int(test)])
    crops = []
    for name in TEXTURES:
        photograph = F.avg_pool2d(torch.from_numpy(np.ascontiguousarray(getattr(load, name)())).float()[None], 2)[0]
        half = len(photograph) // 2
        part = photograph[half:] if test else photograph[:half]
        reach = SIZE / math.sqrt(2) + 2
        places = np.stack([random.uniform(reach, n - reach, count) for n in part.shape], axis=1)
        angles = random.uniform(0, 360, count)
        crops += [_crop(part, p, float(a) if angle is None else angle) for p, a in zip(places, angles)]
    images = torch.stack(crops)[:, None]
    images = images - images.mean((2, 3), keepdim=True)
    images = images / images.std((2, 3), keepdim=True).clamp_min(1e-3)
    images += NOISE * torch.from_numpy(random.normal(0, 1, tuple(images.shape))).float()
    return Textures(images, torch.arange(len(TEXTURES)).repeat_interleave(count))


def _crop(photograph: Tensor, place: np.ndarray, angle: float) -> Tensor:
    """A crop around a place (row, column), by cubic interpolation; all crops are interpolated, also upright ones."""
    steps = torch.arange(SIZE) - (SIZE - 1) / 2
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rows, columns = place[0] + cos * down + sin * right, place[1] - sin * down + cos * right
    height, width = photograph.shape
    grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), -1)
    return F.grid_sample(photograph[None, None], grid[None].float(), "bicubic", "border", align_corners=False)[0, 0]
