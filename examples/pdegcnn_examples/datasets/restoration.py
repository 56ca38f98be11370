"""Pictures to restore: photographs and textures that scikit-image ships, and drawn lines with gaps."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn._images import read_picture

TRAIN = ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png", "motorcycle_left.png", "retina.jpg")
TEST = ("camera.png", "coins.png", "page.png", "text.png")
SIDE = 128
"""Pixels of a test picture, of the middle of what is left after halving."""


class Pictures(NamedTuple):
    """Grey pictures ``[H,W]`` in [0, 1] to train on, and ``[B,1,128,128]`` to test on."""

    train: list[Tensor]
    test: Tensor


def shipped_pictures() -> Pictures:
    """Grey pictures of the package scikit-image, halved: seven to train on, others to test on.

    Raises:
        FileNotFoundError: scikit-image is not installed.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise FileNotFoundError("skimage: expected the package scikit-image, whose pictures these are")
    folder = Path(found.origin).parent / "data"
    train, test = ([_grey(folder / name) for name in names] for names in (TRAIN, TEST))
    return Pictures(train, torch.stack([_middle(picture) for picture in test])[:, None])


def _grey(path: Path) -> Tensor:
    """A picture as the mean of its colours, at half its size."""
    colours = torch.from_numpy(read_picture(path)).float() / 255
    return F.avg_pool2d(colours[..., :3].mean(-1)[None], 2)[0]


def _middle(picture: Tensor) -> Tensor:
    height, width = picture.shape
    short = max(SIDE - height, 0), max(SIDE - width, 0)
    if max(short):
        picture = F.pad(picture[None, None], (0, short[1], 0, short[0]), mode="reflect")[0, 0]
        height, width = picture.shape
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    return picture[top : top + SIDE, left : left + SIDE]


def drawn_lines(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Bright crossing lines and arcs ``[count,1,size,size]``, first with gaps, then whole."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size].astype(float)
    broken, whole = np.zeros((2, count, size, size))
    for number in range(count):
        for _ in range(draw.integers(2, 5)):
            angle, bend = draw.uniform(0, 2 * math.pi), draw.uniform(-1, 1) / size
            across = (x - draw.uniform(0, size)) * math.sin(angle) - (y - draw.uniform(0, size)) * math.cos(angle)
            along = x * math.cos(angle) + y * math.sin(angle)
            line = np.exp(-(((across + bend * (along - size / 2) ** 2) / draw.uniform(0.8, 1.4)) ** 2))
            period, share = draw.uniform(12, 20), draw.uniform(0.25, 0.4)
            kept = (along / period + draw.uniform()) % 1 > share
            whole[number] = np.maximum(whole[number], line)
            broken[number] = np.maximum(broken[number], line * kept)
    return tuple(torch.from_numpy(x).float()[:, None] for x in (broken, whole))  # pyright: ignore[reportReturnType]
