"""Photographs of the retina with their vessels: DRIVE from a folder of the user's, and drawn ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._images import read_picture
from pdegcnn_examples.datasets._files import ENVIRONMENT, find_folder
from pdegcnn_examples.datasets._images import read_labels

DRIVE_HELP = (
    "expected a folder 'drive' with {training,test}/{images,manual1,fov}/NN.png (photographs, vessels and fields of "
    "view as black and white images, equal names and sizes; DRIVE is free for research after registration at "
    f"drive.grand-challenge.org), or that folder itself; name it by an argument or by {ENVIRONMENT}. "
    "pdegcnn_examples.datasets.drawn_vessels() needs no folder"
)
PARTS = {"training": range(21, 41), "test": range(1, 21)}
"""The official split: numbers of the photographs."""
MOST_VESSEL, LEAST_FIELD = 0.4, 0.3
"""Shares of the field of view and of the picture; what lies beyond is mislabelled."""


class Fundus(NamedTuple):
    """Photographs [N,3,H,W] float32 in [0,1]; vessels [N,H,W] and fields of view [N,H,W], bool."""

    images: Tensor
    vessels: Tensor
    fields: Tensor


class FundusSplit(NamedTuple):
    """Photographs to train on and photographs to test on."""

    train: Fundus
    test: Fundus


def drive(folder: str | os.PathLike[str] | None = None) -> FundusSplit:
    """DRIVE: 20 photographs of the retina to train on, 20 to test on, with the first observer's vessels.

    Source: Staal et al., *Ridge-based vessel segmentation in color images of the retina*, 2004.

    Args:
        folder: holds ``training`` and ``test``, or a folder ``drive`` with them; what the environment variable
            ``PDEGCNN_DATA`` names if None.

    Raises:
        FileNotFoundError: no folder was named, or a folder or file is missing.
        ValueError: an image is damaged, of another size, or a mask is none; the message names it.
        ImportError: Pillow is not installed.
    """
    root = find_folder(folder, "drive", ("training", "test"), DRIVE_HELP)
    return FundusSplit(*(_read_part(root / part, numbers) for part, numbers in PARTS.items()))


def _read_part(root: Path, numbers: range) -> Fundus:
    images, vessels, fields = [], [], []
    for number in numbers:
        paths = [root / kind / f"{number:02d}.png" for kind in ("images", "manual1", "fov")]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"folder: {DRIVE_HELP}; {path} is missing")
        image, vessel, field = read_picture(paths[0]), _read_mask(paths[1]), _read_mask(paths[2])
        for path, found in zip(paths, (image, vessel, field)):
            wanted = image.shape[:2] if not images else images[0].shape[:2]
            if found.shape[:2] != wanted:
                raise ValueError(f"{path}: expected {wanted[0]} x {wanted[1]} pixels as the others, got {found.shape}")
        _check_labels(paths, vessel, field)
        images.append(image)
        vessels.append(vessel)
        fields.append(field)
    pictures = torch.from_numpy(np.stack(images)).movedim(-1, 1).float().div_(255)
    return Fundus(pictures.contiguous(), torch.from_numpy(np.stack(vessels)), torch.from_numpy(np.stack(fields)))


def _read_mask(path: Path) -> np.ndarray:
    """A black and white image as bool."""
    grey = read_labels(path)
    values = np.unique(grey)
    if len(values) != 2 or values[0] != 0:
        raise ValueError(f"{path}: expected a black and white image, got {len(values)} grey values from {values[0]}")
    return grey > 0


def _check_labels(paths: list[Path], vessel: np.ndarray, field: np.ndarray) -> None:
    """Raise ``ValueError`` unless vessels are a small part of a large field, and inside it."""
    if field.mean() < LEAST_FIELD:
        raise ValueError(f"{paths[2]}: expected a field of view of at least {LEAST_FIELD:.0%}, got {field.mean():.1%}")
    share, outside = vessel[field].mean(), vessel[~field].sum() / max(1, vessel.sum())
    if share > MOST_VESSEL or outside > 0.1:
        raise ValueError(
            f"{paths[1]}: expected vessels in at most {MOST_VESSEL:.0%} of the field of view and not outside it, "
            f"got {share:.1%} of it and {outside:.1%} of them outside"
        )


def drawn_vessels(count: int = 4, size: int = 192, seed: int = 0) -> Fundus:
    """Drawn stand-ins for photographs of the retina: dark branching lines on an uneven ground, in a disc.

    Args:
        count: number of pictures, at least 1.
        size: height and width in pixels, at least 64.
        seed: the same seed gives the same pictures.
    """
    _checks.positive_int("count", count)
    if _checks.positive_int("size", size) < 64:
        raise ValueError(f"size: expected at least 64 pixels, got {size}")
    random = np.random.default_rng(seed)
    drawn = [_draw(size, random) for _ in range(count)]
    images, vessels, fields = (torch.from_numpy(np.stack(part)) for part in zip(*drawn))
    return Fundus(images.float(), vessels, fields)


def _draw(size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture (3,size,size), vessels and field of view."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    field = np.hypot(rows, columns) < 0.47 * size
    vessels = np.zeros((size, size), bool)
    widest = 1 + size / 160
    trunks = [(random.uniform(0, size, 2), random.uniform(0, 2 * np.pi), random.uniform(1, widest)) for _ in range(5)]
    while trunks:
        place, angle, radius = trunks.pop()
        path = []
        for _ in range(int(random.integers(size // 3, size))):
            angle += random.normal(0, 0.06)
            place = place + np.array([np.sin(angle), np.cos(angle)])
            if not (place >= 0).all() or not (place < size).all():
                break
            path.append(place.astype(int))
            if radius >= 1 and random.random() < 4 / size:
                trunks.append((place, angle + random.choice([-1, 1]) * random.uniform(0.4, 0.9), 0.7 * radius))
        if path:
            line = np.ones((size, size), bool)
            line[tuple(np.array(path).T)] = False
            vessels |= np.asarray(ndimage.distance_transform_edt(line)) <= radius
    vessels &= field
    ground = 1 + 0.25 * ndimage.gaussian_filter(random.normal(0, size / 8, (size, size)), size / 8)
    depth = 0.25 * ndimage.gaussian_filter(vessels.astype(float), 0.7)
    shade = np.clip(ground, 0.5, 1.4) * (1 - depth) + random.normal(0, 0.03, (size, size))
    colour = np.array([0.7, 0.42, 0.25])[:, None, None]
    return np.clip(np.where(field, shade * colour, 0.02), 0, 1), vessels, field
