"""Pictures and clips that are drawn: they need no file, and their truth is exact."""

from __future__ import annotations

import numpy as np
import torch

from pdegcnn_examples.datasets.scenes import Clip


def drawn_scene(size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Three shapes in front of a wall, far ones hidden by near ones; depth is exact."""
    rows, columns = np.mgrid[:size, :size]
    image, mask = np.full((size, size), 0.5), np.zeros((size, size), int)
    depth = np.ones((size, size))
    for distance in sorted(rng.uniform(0.2, 0.9, 3), reverse=True):
        kind, radius = rng.integers(2), size * 0.16 / (0.4 + distance)
        i, j = rng.uniform(0, size, 2)
        di, dj = np.abs(rows - i), np.abs(columns - j)
        inside = (di**2 + dj**2 < radius**2) if kind == 0 else (np.maximum(di, dj) < radius)
        image[inside], mask[inside], depth[inside] = 1 - distance, 1 + kind, distance
    image = image + rng.normal(0, 0.05, image.shape)
    label = np.array(np.bincount(mask.ravel(), minlength=3)[1:].argmax())
    return {"image": image[None], "mask": mask, "depth": depth, "label": label}


def drawn_clip(frames: int, size: int) -> Clip:
    """A disc that moves and one that stands still, of the same grey, in noise: only motion tells them apart."""
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]

    def disc(i: float, j: float) -> np.ndarray:
        return np.hypot(rows - i, columns - j) < size / 8

    masks = np.stack([disc(size * 0.3, size * (0.2 + 0.6 * t / frames)) for t in range(frames)])
    video = 0.6 * (masks | disc(size * 0.7, size * 0.5)) + draw.normal(0, 0.15, masks.shape)
    return Clip(torch.as_tensor(video, dtype=torch.float32)[None], torch.as_tensor(masks).long())
