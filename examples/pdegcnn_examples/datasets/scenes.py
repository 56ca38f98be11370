"""Street scenes (CamVid) and clips of moving objects (DAVIS 2016) from a folder of the user's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._images import listed, read_picture
from pdegcnn_examples.datasets._files import ENVIRONMENT, find_folder
from pdegcnn_examples.datasets._images import read_labels

CAMVID_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
"""Names of the labels 0 to 10."""
CAMVID_VOID = 11
"""The label of pixels that no class claims: to be left out of losses and scores."""
JPEG = (".jpg", ".jpeg")
CAMVID_HELP = (
    "expected a folder 'camvid' with {train,val}/{images/*.jpg,labels/*.png}, labels being grey images of 0..11 (the "
    f"11 classes of CamVid and void), or that folder itself; name it by an argument or by {ENVIRONMENT}"
)
DAVIS_HELP = (
    "expected a folder 'davis' with frames/CLIP/*.jpg and masks/CLIP/*.png of equal numbers and sizes (DAVIS 2016, one "
    f"object a clip), or that folder itself; name it by an argument or by {ENVIRONMENT}"
)


class Scenes(NamedTuple):
    """Images [N,3,H,W] float32 in [0,1] and labels [N,H,W] int64."""

    images: Tensor
    labels: Tensor


class SceneSplit(NamedTuple):
    """Scenes to train on and scenes to validate with."""

    train: Scenes
    val: Scenes


class Clip(NamedTuple):
    """Frames [3,T,H,W] float32 in [0,1] and masks [T,H,W] int64: 1 on the object, 0 elsewhere."""

    frames: Tensor
    masks: Tensor


def camvid(folder: str | os.PathLike[str] | None = None, limit: int | None = None) -> SceneSplit:
    """CamVid street scenes: photographs and the class of every pixel (``CAMVID_CLASSES``, or ``CAMVID_VOID``).

    Source: Brostow, Fauqueur, Cipolla, *Semantic object classes in video*, 2009.

    Args:
        folder: holds ``train`` and ``val``, or a folder ``camvid`` with them; what the environment variable
            ``PDEGCNN_DATA`` names if None.
        limit: read at most this many images of each part, evenly spaced; None: all.

    Raises:
        FileNotFoundError: no folder was named, or a folder or label image is missing.
        ValueError: an image is damaged, of another size than the first, or has other labels; the message names it.
        ImportError: Pillow is not installed.
    """
    root = find_folder(folder, "camvid", ("train",), CAMVID_HELP)
    if limit is not None:
        _checks.positive_int("limit", limit)
    return SceneSplit(*(_scenes(root / part, limit) for part in ("train", "val")))


def davis(
    folder: str | os.PathLike[str] | None = None,
    clips: Sequence[str] | None = None,
    frames: int | None = None,
    shrink: int = 1,
) -> dict[str, Clip]:
    """Clips of DAVIS 2016 by name, each whole: frames and the mask of its moving object.

    Source: Perazzi et al., *A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation*, 2016.

    Args:
        folder: holds ``frames`` and ``masks``, or a folder ``davis`` with them; what the environment variable
            ``PDEGCNN_DATA`` names if None.
        clips: names of clips; None: all.
        frames: read at most this many frames, the first ones; None: all.
        shrink: take the mean of blocks of this many pixels a side (of masks: the majority); borders that fill no block
            are cut.

    Raises:
        FileNotFoundError: no folder was named, or a folder, a clip or a mask is missing.
        ValueError: an image is damaged or of another size than the first of its clip; the message names it.
        ImportError: Pillow is not installed.
    """
    root = find_folder(folder, "davis", ("frames",), DAVIS_HELP)
    if frames is not None:
        _checks.positive_int("frames", frames)
    _checks.positive_int("shrink", shrink)
    present = sorted(p.name for p in (root / "frames").iterdir() if p.is_dir() and p.name[0] != ".")
    names = present if clips is None else list(clips)
    if not names:
        raise FileNotFoundError(f"folder: {DAVIS_HELP}; {root / 'frames'} has no clips")
    for name in names:
        if name not in present:
            raise FileNotFoundError(f"clips: expected names among {', '.join(present)}; got {name!r}")
    return {name: _clip(root, name, frames, shrink) for name in names}


def _scenes(root: Path, limit: int | None) -> Scenes:
    pictures = listed(root / "images", JPEG) if (root / "images").is_dir() else []
    if not pictures:
        raise FileNotFoundError(f"folder: {CAMVID_HELP}; {root / 'images'} has no *.jpg")
    if limit is not None and limit < len(pictures):
        pictures = [pictures[i] for i in np.linspace(0, len(pictures) - 1, limit).round().astype(int)]
    images, labels = _pairs([(p, root / "labels" / f"{p.stem}.png") for p in pictures])
    for number in (labels.max(), labels.min()):
        if not 0 <= int(number) <= CAMVID_VOID:
            wrong = pictures[int((labels == number).flatten(1).any(1).int().argmax())]
            raise ValueError(f"{root / 'labels' / wrong.stem}.png: expected labels 0..{CAMVID_VOID}, got {int(number)}")
    return Scenes(images, labels)


def _clip(root: Path, name: str, frames: int | None, shrink: int) -> Clip:
    pictures = listed(root / "frames" / name, JPEG)[:frames]
    if not pictures:
        raise FileNotFoundError(f"folder: {DAVIS_HELP}; {root / 'frames' / name} has no *.jpg")
    images, masks = _pairs([(p, root / "masks" / name / f"{p.stem}.png") for p in pictures], shrink)
    return Clip(images.transpose(0, 1), (masks > 0).long() if shrink == 1 else masks)


def _pairs(paths: Sequence[tuple[Path, Path]], shrink: int = 1) -> tuple[Tensor, Tensor]:
    """Pictures [N,3,H,W] float32 and labels [N,H,W]; with ``shrink`` the labels are masks, by majority."""
    images, labels, first = [], [], None
    for picture, label in paths:
        if not label.is_file():
            raise FileNotFoundError(f"folder: expected {label} beside {picture}, but it is missing")
        image, values = (
            torch.from_numpy(read_picture(picture)).movedim(-1, 0),
            torch.from_numpy(read_labels(label).astype(np.int32)),
        )
        first = values.shape if first is None else first
        for path, size in ((picture, image.shape[-2:]), (label, values.shape)):
            if size != first:
                raise ValueError(f"{path}: expected {tuple(first)} pixels as {paths[0][1]}, got {tuple(size)}")
        if shrink > 1:
            image = _blocks(image, shrink)
            values = _blocks(values[None] > 0, shrink)[0] > 0.5
        images.append(image)
        labels.append(values)
    return torch.stack(images).float().div_(255), torch.stack(labels).long()


def _blocks(x: Tensor, shrink: int) -> Tensor:
    """Means of [C,H,W] over blocks."""
    if min(x.shape[-2:]) < shrink:
        raise ValueError(f"shrink: expected at most the image's size {tuple(x.shape[-2:])}, got {shrink}")
    return torch.nn.functional.avg_pool2d(x.float(), shrink)
