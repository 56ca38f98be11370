"""The focal loss of heat maps and the average precision, for detectors on the sphere and in images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._typing import tolist
from pdegcnn.models.oriented_boxes import check_scores, oriented_iou
from pdegcnn.models.spherical_boxes import SphericalBoxes, box_iou

__all__ = ["average_precision"]

PRIOR = -4.0
"""Logit of the heat before training: almost every position is background."""


def heat_loss(logits: Tensor, heat: Tensor, area: Tensor | float = 1.0) -> Tensor:
    """Return the focal loss of heat, summed over all samples.

    Where the target is 1, the loss falls as the chance rises to 1. Elsewhere it rises with the chance, times the fourth
    power of how far the target is from 1. Source: Zhou et al., *Objects as points* (1904.07850), equation 1.

    Args:
        logits: logits of the heat.
        heat: targets in [0, 1], of the same shape.
        area: how much each sample counts where its target is not 1.
    """
    chance = logits.sigmoid()
    present = torch.where(heat == 1, (1 - chance).square() * nn.functional.softplus(-logits), 0)
    absent = (1 - heat) ** 4 * chance.square() * nn.functional.softplus(logits) * area
    return present.sum() + absent.sum()


Found = TypeVar("Found", SphericalBoxes, Mapping[str, Tensor])


def average_precision(
    found: Sequence[Found], truth: Sequence[Found], *, overlap: float = 0.5, labelled: bool = True
) -> float:
    """Return the area under the curve of precision over recall, averaged over the classes in ``truth``.

    All boxes that were found, best first, are matched with the true box of their signal and class that they overlap
    most. A match counts if the intersection over union is at least ``overlap`` and the true box is still free.
    Precision is made monotone first. Source: Everingham et al., *The PASCAL Visual Object Classes Challenge* (2010),
    section 4.2, without its eleven points.

    Args:
        found: boxes found in every signal: :class:`SphericalBoxes` on the sphere; in images the dictionaries of a
            :class:`Detector`, with ``boxes [N,5]``, ``scores [N]`` and ``labels [N]``.
        truth: true boxes of the same kind; their scores are ignored and may be missing in dictionaries.
        overlap: least intersection over union, in (0, 1].
        labelled: whether labels must agree; if not, all boxes are of one class.

    Raises:
        ValueError: if the lists differ in length, ``truth`` has no box, a score is NaN, or there are not as many scores
            or labels as boxes.
        TypeError: if the two kinds of boxes differ.
        KeyError: if a dictionary lacks an entry.
    """
    if len(found) != len(truth) or not any(len(_labels(boxes)) for boxes in truth):
        raise ValueError(
            f"found: expected boxes of all {len(truth)} signals of truth, which must hold a box, got {len(found)}"
        )
    _checks.interval("overlap", overlap, 0.0, 1.0, open_low=True)
    for index, boxes in enumerate(found):
        is_spherical = isinstance(boxes, SphericalBoxes)
        frames, scores = (boxes.rotations, boxes.scores) if is_spherical else (boxes["boxes"], boxes["scores"])
        _check_counts(f"found[{index}]", len(frames), {"scores": scores, "labels": _labels(boxes)})
        check_scores(f"scores of found[{index}]", scores)
    for index, boxes in enumerate(truth):
        frames = boxes.rotations if isinstance(boxes, SphericalBoxes) else boxes["boxes"]
        _check_counts(f"truth[{index}]", len(frames), {"labels": _labels(boxes)})
    labels = [[_labels(boxes) * int(labelled) for boxes in both] for both in (found, truth)]
    classes: list[int] = sorted(set(tolist(torch.cat(labels[1]))))
    return sum(_precision_of_class(found, truth, labels, overlap, label) for label in classes) / len(classes)


def _check_counts(name: str, count: int, values: Mapping[str, Tensor]) -> None:
    """Raise unless there is one of each value for each box."""
    for key, value in values.items():
        if tuple(value.shape) != (count,):
            raise ValueError(f"{key} of {name}: expected shape [{count}], one for each box, got {tuple(value.shape)}")


def _labels(boxes: SphericalBoxes | Mapping[str, Tensor]) -> Tensor:
    return boxes.labels if isinstance(boxes, SphericalBoxes) else boxes["labels"]


def _overlaps(found: Found, mine: Tensor, truth: Found, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores ``[N]`` of some of the found boxes, and their overlaps ``[N,M]`` with some of the true ones."""
    if isinstance(found, SphericalBoxes) and isinstance(truth, SphericalBoxes):
        here, there = ((b.rotations[some], b.half_angles[some]) for b, some in ((found, mine), (truth, target)))
        return found.scores[mine], box_iou(*here, *there)
    if isinstance(found, SphericalBoxes) or isinstance(truth, SphericalBoxes):
        raise TypeError(f"found: expected boxes as in truth, {type(truth).__name__}, got {type(found).__name__}")
    return found["scores"][mine], oriented_iou(found["boxes"][mine], truth["boxes"][target])


def _score(row: tuple[float, list[float]]) -> float:
    return -row[0]


def _precision_of_class(
    found: Sequence[Found], truth: Sequence[Found], labels: list[list[Tensor]], overlap: float, label: int
) -> float:
    hits: list[tuple[float, bool]] = []
    count = 0
    for here, there, names, true_names in zip(found, truth, *labels):
        mine, target = names == label, true_names == label
        count += int(target.sum())
        scores, overlaps = _overlaps(here, mine, there, target)
        taken: set[int] = set()
        rows: list[tuple[float, list[float]]] = list(zip(tolist(scores), tolist(overlaps)))
        for score, row in sorted(rows, key=_score):
            best = max(range(len(row)), key=row.__getitem__, default=-1)
            right = best >= 0 and row[best] >= overlap and best not in taken
            taken |= {best} if right else set()
            hits.append((score, right))
    right = np.cumsum([hit for _, hit in sorted(hits, key=lambda hit: -hit[0])])
    if not len(right):
        return 0.0
    precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    return float(np.diff(right, prepend=0) @ precision) / count
