"""Volumes whose voxels are labelled: drawn tubes, and the nuclei that the package stardist ships."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn_examples.datasets._files import stardist_files


class LabelledVolume(NamedTuple):
    """Values [D,H,W] float32 of mean 0 and deviation 1, labels [D,H,W] bool, size of a voxel (d, h, w)."""

    values: Tensor
    labels: Tensor
    spacing: tuple[float, float, float]


def drawn_tubes(size: tuple[int, int, int], count: int = 6, seed: int = 0, spacing: float = 2.0) -> LabelledVolume:
    """Bent tubes, bright in noise and in a background that drifts; slices are ``spacing`` pixels apart.

    The same arguments give the same volume.

    Args:
        size: slices, rows and columns.
        count: number of tubes.
        seed: of everything that is drawn at random.
        spacing: distance of slices, in pixels.

    Raises:
        ValueError: if a number is not positive.
    """
    for name, value in (("count", count), *(("size", n) for n in size)):
        _checks.positive_int(name, value)
    steps = (_checks.plain_number("spacing", spacing, 0.0, 1e6, open_low=True), 1.0, 1.0)
    random = np.random.default_rng(seed)
    axes = [np.arange(n) * step for n, step in zip(size, steps)]
    place = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    extent = np.array([axis[-1] + step for axis, step in zip(axes, steps)])
    inside = np.zeros(size, bool)
    for _ in range(count):
        radius, along = random.uniform(1.5, 3.0), np.linspace(0, 1, 4 * int(extent.max()))[:, None]
        ends, bend = random.uniform(0, 1, (2, 3)) * extent, random.normal(0, 0.25, 3) * extent
        for point in ends[0] + along * (ends[1] - ends[0]) + np.sin(np.pi * along) * bend:
            low = [max(0, int(np.ceil((p - radius) / step))) for p, step in zip(point, steps)]
            high = [int((p + radius) / step) + 1 for p, step in zip(point, steps)]
            box = tuple(slice(a, max(a, b)) for a, b in zip(low, high))
            inside[box] |= ((place[box] - point) ** 2).sum(-1) < radius**2
    phase = random.uniform(0, 6, 3)
    drift = np.cos(place / extent * 3 + phase).sum(-1)
    values = 1.2 * inside + 0.4 * drift + random.normal(0, 0.6, size)
    return LabelledVolume(_standard(values), torch.from_numpy(inside), steps)


def nuclei() -> LabelledVolume:
    """The volume of nuclei in the package stardist, 31 x 61 x 57 voxels: 51 nuclei that touch, made by a simulation.

    Its files do not say how large voxels are; they count as cubes. Source: Weigert et al., *Star-convex polyhedra for
    3D object detection and segmentation in microscopy* (2020). The package is not imported.

    Raises:
        FileNotFoundError: the package is not installed, or comes without the volume.
        ImportError: Pillow is not installed.
    """
    parts = [_slices(path) for path in stardist_files("img3d.tif", "mask3d.tif")]
    return LabelledVolume(_standard(parts[0].astype(float)), torch.from_numpy(parts[1] > 0), (1.0, 1.0, 1.0))


def _standard(values: np.ndarray) -> Tensor:
    return torch.from_numpy(((values - values.mean()) / values.std()).astype(np.float32))


def _slices(path: Path) -> np.ndarray:
    """The pages of a TIFF file."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"reading {path.name} needs Pillow: pip install 'pdegcnn[vessels]' ({error})") from error
    with Image.open(path) as file:
        pages = []
        for page in range(getattr(file, "n_frames", 1)):
            file.seek(page)
            pages.append(np.array(file))
    return np.stack(pages)
