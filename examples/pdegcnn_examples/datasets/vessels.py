"""Photographs of the retina with their vessels: DRIVE from a folder of the user's, drawn ones, and finding the field of
view of any photograph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pdegcnn import _checks
from pdegcnn_examples.datasets._files import ENVIRONMENT, find_folder
from pdegcnn_examples.datasets._images import read_labels, read_picture

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


class Field(NamedTuple):
    """A field of view: mask (H,W) bool, centre (row, column) and diameter of its circle in pixels."""

    mask: np.ndarray
    centre: tuple[float, float]
    diameter: float


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
    """Raise ``ValueError`` unless vessels are a small part of a large field, and inside of it."""
    if field.mean() < LEAST_FIELD:
        raise ValueError(f"{paths[2]}: expected a field of view of at least {LEAST_FIELD:.0%}, got {field.mean():.1%}")
    share, outside = vessel[field].mean(), vessel[~field].sum() / max(1, vessel.sum())
    if share > MOST_VESSEL or outside > 0.1:
        raise ValueError(
            f"{paths[1]}: expected vessels in at most {MOST_VESSEL:.0%} of the field of view and not outside of it, "
            f"got {share:.1%} of it and {outside:.1%} of them outside"
        )


def find_field(image: np.ndarray) -> Field:
    """The field of view of a photograph: the lit part before a dark surround, whatever the camera.

    Dark vessels, dust and labels outside do not count. The circle is fitted to the part of the border that the frame of
    the picture does not cut off. A picture without a dark surround is all field, its diameter the longer side.

    Args:
        image: (H,W,3) or (H,W), uint8 or float.

    Raises:
        TypeError: if the image is no array of real numbers.
        ValueError: another shape, fewer than 16 pixels a side, values that are not finite, or a picture without
            contrast.
    """
    image = np.asarray(image)
    if image.dtype.kind not in "fiub":
        raise TypeError(f"image: expected an array of real numbers, got dtype {image.dtype}")
    if image.ndim not in (2, 3) or min(image.shape[:2]) < 16 or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"image: expected (H,W,3) or (H,W) of at least 16 pixels a side, got shape {image.shape}")
    light = np.asarray(image, dtype=np.float64)
    if not np.isfinite(light).all():
        raise ValueError("image: expected finite values, got NaN or infinity")
    light = light.max(-1) if light.ndim == 3 else light
    height, width = light.shape
    light = ndimage.gaussian_filter(light, max(height, width) / 300, mode="nearest")
    dark, top = np.percentile(light, (0.5, 99.5))
    lit = light[light > dark + 0.25 * (top - dark)]
    bright = float(np.median(lit)) if lit.size else 0.0
    if not bright > 0 or bright - light.min() < 1e-3 * bright:
        raise ValueError("image: expected a photograph with a lit field of view, got one without contrast")
    mask = np.ones(light.shape, bool)
    if dark < 0.35 * bright:
        mask = _lit_part(light > dark + 0.18 * (bright - dark))
    return Field(mask, *_circle(mask))


def _lit_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part, without thin outgrowths and holes."""
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
    """Centre and diameter of the circle through the border of ``mask`` inside the frame (Kasa's fit, two rounds)."""
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
