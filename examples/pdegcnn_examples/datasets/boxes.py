"""Images with oriented boxes: drawn ships on the sea, and the nuclei that the package stardist ships."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import ConvexHull
from torch import Tensor

from pdegcnn import _checks
from pdegcnn.models import oriented_iou
from pdegcnn_examples.datasets._files import stardist_files
from pdegcnn_examples.datasets._images import read_labels

LEAN = 12.0
"""Deviation of the ships' direction from the horizontal, in degrees."""
LEAST_AREA = 30
"""Pixels of a nucleus; smaller ones are cut off by the border."""


class Boxed(NamedTuple):
    """Images [N,1,H,W] float32, and for each ``boxes [N,5]`` and ``labels [N]`` as a detector takes them."""

    images: Tensor
    targets: list[dict[str, Tensor]]


def drawn_ships(count: int, size: int = 64, seed: int = 0, turned: bool = False) -> Boxed:
    """Draw ships of one kind on a sea with swell, among buoys and foam.

    Ships head east or west, and the swell comes from the side. If ``turned``, each of the same scenes is drawn turned
    about its centre by its own angle. The same arguments give the same images.

    Args:
        count: number of images.
        size: pixels of a side.
        seed: of everything that is drawn at random.
        turned: whether scenes are turned.

    Raises:
        ValueError: if a number is not positive.
    """
    for name, value in (("count", count), ("size", size)):
        _checks.positive_int(name, value)
    made = [_scene(size, np.random.default_rng((seed, number)), turned) for number in range(count)]
    images = torch.from_numpy(np.stack([image for image, _ in made]).astype(np.float32))[:, None]
    return Boxed(images, [target for _, target in made])


def _scene(size: int, random: np.random.Generator, turned: bool) -> tuple[np.ndarray, dict[str, Tensor]]:
    """Draw one image and the boxes of its ships."""
    turn = random.uniform(0, 2 * math.pi) * turned
    rows, columns = np.mgrid[:size, :size] + 0.5 - size / 2
    x, y = (math.cos(turn) * columns + math.sin(turn) * rows, math.cos(turn) * rows - math.sin(turn) * columns)
    boxes = _places(size, random)
    image = random.uniform(0.25, 0.45) + _sea(x, y, random)
    for ship in boxes:
        u, v = _seen(x, y, ship)
        image = _with_ship(image, u, v, ship[2], ship[3], random)
    image = image + random.normal(0, 0.06, image.shape)
    centres = np.exp(1j * turn) * (boxes[:, 0] + 1j * boxes[:, 1])
    boxes = np.stack((centres.real + size / 2, centres.imag + size / 2, *boxes[:, 2:4].T, boxes[:, 4] + turn), 1)
    target = {"boxes": torch.from_numpy(boxes.astype(np.float32)), "labels": torch.zeros(len(boxes), dtype=torch.int64)}
    return image, target


def _places(size: int, random: np.random.Generator) -> np.ndarray:
    """Choose boxes [N,5] of two to five ships in a disc about the origin, which do not touch."""
    wanted, boxes = random.integers(2, 6), np.zeros((0, 5))
    for _ in range(60):
        radius, around = (size / 2 - 6) * math.sqrt(random.uniform()), random.uniform(0, 2 * math.pi)
        length = random.uniform(12, 26)
        width = length * random.uniform(0.24, 0.38)
        heading = math.radians(random.normal(0, LEAN)) + math.pi * random.integers(2)
        box = np.array([[radius * math.cos(around), radius * math.sin(around), length, width, heading]])
        margin = np.array([0, 0, 3, 3, 0])
        if not len(boxes) or float(oriented_iou(*(torch.from_numpy(b + margin) for b in (box, boxes))).max()) == 0:
            boxes = np.concatenate((boxes, box))
        if len(boxes) == wanted:
            break
    return boxes


def _seen(x: np.ndarray, y: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates along and across a box, from its centre."""
    dx, dy, cosine, sine = x - box[0], y - box[1], math.cos(box[4]), math.sin(box[4])
    return cosine * dx + sine * dy, cosine * dy - sine * dx


def _sea(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw swell that runs down the image, bright streaks along its crests, and round buoys."""
    sea = np.zeros_like(x)
    for _ in range(3):
        lean, length = math.radians(random.normal(90, 15)), random.uniform(5, 14)
        wave = np.cos((math.cos(lean) * x + math.sin(lean) * y) * 2 * math.pi / length + random.uniform(0, 6))
        sea += random.uniform(0.01, 0.05) * wave
    reach = np.abs(x).max()
    for _ in range(random.integers(2, 6)):
        streak = (
            *random.uniform(-reach, reach, 2),
            random.uniform(8, 24),
            random.uniform(0.8, 1.6),
            random.normal(0, 0.2),
        )
        u, v = _seen(x, y, np.array(streak))
        sea += random.uniform(0.15, 0.4) * np.exp(-((2 * u / streak[2]) ** 2) - (v / streak[3]) ** 2)
    for _ in range(random.integers(1, 5)):
        a, b, radius = *random.uniform(-reach, reach, 2), random.uniform(1.5, 4)
        sea += random.uniform(0.2, 0.5) * np.clip(radius - np.hypot(x - a, y - b) + 0.5, 0, 1)
    return sea


def _with_ship(
    image: np.ndarray, u: np.ndarray, v: np.ndarray, length: float, width: float, random: np.random.Generator
) -> np.ndarray:
    """Draw a hull with a pointed bow, a bridge near its stern and a wake behind it."""
    along = np.clip((2 * u / length - 0.2) / 0.8, 0, 1)
    half = np.where(np.abs(u) <= length / 2, width / 2 * (1 - along**2), -1.0)
    hull = np.clip(half - np.abs(v) + 0.5, 0, 1) * np.clip(length / 2 - np.abs(u) + 0.5, 0, 1)
    behind = np.clip(-u - length / 2, 0, None)
    wake = (behind > 0) * np.exp(-behind / length) * np.exp(-((v / (0.3 * width + 0.15 * behind)) ** 2))
    image = image + random.uniform(0, 0.15) * wake
    shade = random.uniform(0.1, 0.35) * random.choice((-1.0, 1.0)) + 0.35
    image = image * (1 - hull) + shade * hull
    bridge = (np.abs(u + 0.28 * length) < 0.12 * length) & (np.abs(v) < 0.3 * width)
    return np.where(bridge, random.uniform(0.6, 0.9), image)


def nuclei_boxes() -> Boxed:
    """Read the picture of nuclei in the package stardist, 512 x 512 pixels, with the smallest box around each nucleus.

    Values are roots of the brightness, in [0, 1].

    Source: Schmidt et al., *Cell detection with star-convex polygons* (2018). The package is not imported.

    Raises:
        FileNotFoundError: if the package is not installed, or comes without the picture.
        ImportError: if Pillow is not installed.
    """
    values, labels = (read_labels(path) for path in stardist_files("img2d.tif", "mask2d.tif"))
    low, high = np.quantile(values, (0.01, 0.998))
    image = torch.from_numpy(np.sqrt(((values - low) / (high - low)).clip(0, 1)).astype(np.float32))
    boxes = [smallest_box(labels == k) for k in np.unique(labels)[1:] if (labels == k).sum() >= LEAST_AREA]
    target = {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.zeros(len(boxes), dtype=torch.int64)}
    return Boxed(image[None, None], [target])


def smallest_box(mask: np.ndarray) -> tuple[float, float, float, float, float]:
    """Return (x, y, length, width, angle) of the smallest rectangle around the pixels of a mask.

    One of its sides lies along a side of the convex hull of their corners (Freeman and Shapira 1975).

    Raises:
        ValueError: if the mask is empty.
    """
    rows, columns = np.nonzero(mask & np.logical_not(ndimage.binary_erosion(mask)))
    if not len(rows):
        raise ValueError("mask: expected at least one pixel, got none")
    corners = np.concatenate([np.stack((columns + i, rows + j), 1) for i in (0, 1) for j in (0, 1)]).astype(float)
    hull = corners[ConvexHull(corners).vertices]
    best, smallest = (0.0, 0.0, 0.0, 0.0, 0.0), math.inf
    for dx, dy in np.roll(hull, -1, 0) - hull:
        angle = math.atan2(dy, dx)
        frame = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        seen = hull @ frame.T
        low, high = seen.min(0), seen.max(0)
        length, width = high - low
        if length * width < smallest:
            smallest = length * width
            best = (*((low + high) / 2 @ frame), length, width, angle)
    return best
