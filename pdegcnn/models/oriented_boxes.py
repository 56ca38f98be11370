"""Oriented boxes in images: rotated rectangles, their overlap and non-maximum suppression.

A box is a row ``(x, y, length, width, angle)``. Its centre ``(x, y)`` is in pixels from the outer corner of the first
pixel: an image covers ``[0, W] x [0, H]``, and the centre of its first pixel is ``(0.5, 0.5)``. x increases along the
columns, y down the rows. The length is the side along the angle, the width the side across it, both in pixels. The
angle is in radians from +x towards +y. A box has no front: the angles ``a`` and ``a + pi`` mean the same box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import linalg, tolist

__all__ = ["canonical_boxes", "oriented_iou", "oriented_nms", "turn_boxes"]

FIELDS = "(x, y, length, width, angle)"


def check_boxes(name: str, boxes: Any) -> Tensor:
    """Return ``boxes`` if they are oriented boxes ``[N,5]``, else raise."""
    _checks.tensor(name, boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise ValueError(f"{name}: expected shape [N,5] of {FIELDS}, got {tuple(boxes.shape)}")
    if not _checks.has_values(boxes):
        return boxes
    if not bool(boxes.isfinite().all()):
        raise ValueError(f"{name}: expected finite numbers, got {boxes[~boxes.isfinite().all(1)][0].tolist()}")
    if not bool((boxes[:, 2:4] > 0).all()):
        raise ValueError(
            f"{name}: expected positive lengths and widths, got {boxes[~(boxes[:, 2:4] > 0).all(1)][0].tolist()}"
        )
    return boxes


def known_boxes(name: str, boxes: Any) -> Tensor:
    """Return ``boxes`` in float64 on the CPU if they are oriented boxes with values, else raise."""
    if not _checks.has_values(check_boxes(name, boxes)):
        raise ValueError(f"{name}: expected boxes with values, got a tensor on {boxes.device} or in a transform")
    return boxes.detach().cpu().double().resolve_neg()


def canonical_boxes(boxes: Tensor) -> Tensor:
    """Return the same boxes in a unique form: ``length >= width`` and the angle in ``[-pi/2, pi/2)``.

    Args:
        boxes: ``[N,5]`` of (x, y, length, width, angle), in pixels and radians.

    Raises:
        TypeError: if ``boxes`` is not a floating tensor.
        ValueError: if its shape or values are not those of boxes.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.models.canonical_boxes(torch.tensor([[8.0, 8.0, 2.0, 6.0, 1.5]])).round(decimals=2)
        tensor([[ 8.0000,  8.0000,  6.0000,  2.0000, -0.0700]])
    """
    check_boxes("boxes", boxes)
    return written(boxes)


def written(boxes: Tensor) -> Tensor:
    """Do what :func:`canonical_boxes` does, without its checks."""
    x, y, length, width, angle = boxes.unbind(1)
    angle = torch.where(length < width, angle + math.pi / 2, angle)
    angle = torch.remainder(angle + math.pi / 2, math.pi) - math.pi / 2
    return torch.stack((x, y, torch.maximum(length, width), torch.minimum(length, width), angle), 1)


def turn_boxes(boxes: Tensor, angle: float, size: Sequence[int]) -> Tensor:
    """Return the boxes of the image turned by ``angle`` degrees about its centre.

    :meth:`pdegcnn.SE2.transform` turns a square image in the same way. Odd multiples of 90 degrees exchange height and
    width, as ``torch.rot90`` does: centres are then in the image with exchanged sides.

    Args:
        boxes: ``[N,5]`` of (x, y, length, width, angle), in pixels and radians.
        angle: degrees from +x towards +y.
        size: height and width of the image before it is turned.

    Raises:
        TypeError: if ``boxes`` is not a floating tensor.
        ValueError: if its values are not those of boxes, or ``size`` is not two ints.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.models.turn_boxes(torch.tensor([[2.0, 8.0, 6.0, 2.0, 0.0]]), 90, (16, 16)).round(decimals=2)
        tensor([[ 8.0000,  2.0000,  6.0000,  2.0000, -1.5700]])
    """
    check_boxes("boxes", boxes)
    degrees = _checks.plain_number("angle", angle, -1e6, 1e6)
    height, width = image_size("size", size)
    swapped = degrees % 180 == 90
    turn = math.radians(degrees)
    cosine, sine = (round(f(turn)) if degrees % 90 == 0 else f(turn) for f in (math.cos, math.sin))
    x, y = boxes[:, 0] - width / 2, boxes[:, 1] - height / 2
    across, down = (height, width) if swapped else (width, height)
    centre = cosine * x - sine * y + across / 2, sine * x + cosine * y + down / 2
    return written(torch.stack((*centre, boxes[:, 2], boxes[:, 3], boxes[:, 4] + turn), 1))


def image_size(name: str, value: Any) -> tuple[int, int]:
    """Return height and width if these are two positive ints, else raise."""
    pair = cast("Sequence[object]", value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2:
        raise TypeError(f"{name}: expected (height, width), got {value!r}")
    return _checks.positive_int(name, pair[0]), _checks.positive_int(name, pair[1])


def oriented_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union ``[N,M]`` of boxes ``[N,5]`` with others ``[M,5]``.

    Exact to rounding: one box is clipped by the four sides of the other in turn (Sutherland and Hodgman 1974), and the
    area of the remaining polygon is its shoelace sum. Without gradient; computed in float64.

    Args:
        boxes: rows (x, y, length, width, angle), in pixels and radians.
        others: rows of the same form.

    Raises:
        TypeError: if an argument is not a floating tensor.
        ValueError: if shapes or values are not those of boxes.

    Example:
        >>> import torch, pdegcnn as pg
        >>> box = torch.tensor([[8.0, 8.0, 6.0, 2.0, 0.0]])
        >>> pg.models.oriented_iou(box, torch.cat((box, pg.models.turn_boxes(box, 90, (16, 16)))))
        tensor([[1.0000, 0.2000]])
    """
    first, second = known_boxes("boxes", boxes), known_boxes("others", others)
    common = first.new_zeros(len(first), len(second))
    away = linalg.vector_norm(first[:, None, :2] - second[:, :2], dim=-1)
    diagonals = [linalg.vector_norm(rows[:, 2:4], dim=-1) for rows in (first, second)]
    i, j = torch.where(away < (diagonals[0][:, None] + diagonals[1]) / 2)
    common[i, j] = _common_area(first[i], second[j])
    area, other = first[:, 2] * first[:, 3], second[:, 2] * second[:, 3]
    return (common / (area[:, None] + other - common)).clamp(0, 1).to(boxes)


def _common_area(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the area of the intersection of box and other, pair by pair ``[P]``."""
    signs = boxes.new_tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    polygon = _turned(signs * boxes[:, None, 2:4] / 2, boxes[:, 4]) + (boxes[:, :2] - others[:, :2])[:, None]
    polygon = _turned(polygon, -others[:, 4])  # as the other box sees it
    for axis in (0, 1):
        for sign in (1.0, -1.0):
            polygon = _clip(polygon, others[:, 2 + axis, None] / 2 - sign * polygon[..., axis])
    x, y = polygon.unbind(-1)
    return (x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum(1).clamp_min(0) / 2


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    """Return points ``[P,K,2]`` turned by an angle ``[P]``."""
    cosine, sine, (x, y) = angle.cos()[:, None], angle.sin()[:, None], points.unbind(-1)
    return torch.stack((cosine * x - sine * y, sine * x + cosine * y), -1)


def _clip(polygon: Tensor, height: Tensor) -> Tensor:
    """Return the part of convex polygons ``[P,K,2]`` where the height of their corners ``[P,K]`` is not negative.

    It has up to ``K + 1`` corners, with rounding one more; the first one is repeated where there are fewer.
    """
    after = height.roll(-1, 1)
    crosses = height * after < 0
    share = torch.where(crosses, height / torch.where(crosses, height - after, 1.0), 0.0)[..., None]
    between = polygon + share * (polygon.roll(-1, 1) - polygon)
    corners = torch.stack((polygon, between), 2).flatten(1, 2)
    kept = torch.stack((height >= 0, crosses), 2).flatten(1)
    order = (~kept).byte().argsort(dim=1, stable=True)[:, : polygon.shape[1] + 2]
    corners = torch.take_along_dim(corners, order[..., None], 1)
    kept = torch.take_along_dim(kept, order, 1)[..., None]
    return torch.where(kept, corners, torch.where(kept[:, :1], corners[:, :1], 0.0))


def oriented_nms(boxes: Tensor, scores: Tensor, overlap: float = 0.3, labels: Tensor | None = None) -> Tensor:
    """Return the indices ``[K]`` of the boxes that non-maximum suppression keeps, best first.

    The best box is kept and boxes that overlap it too much are dropped; this is repeated with the remaining boxes.

    Args:
        boxes: rows (x, y, length, width, angle) ``[N,5]``, in pixels and radians.
        scores: ``[N]``; among equal ones the first is taken first.
        overlap: a box is dropped if its intersection over union with a better one is greater, in [0, 1].
        labels: classes ``[N]``, int64; boxes drop only boxes of their own class. None: one class.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes or values are not those of boxes, a score is NaN, or ``overlap`` is out of range.

    Example:
        >>> import torch, pdegcnn as pg
        >>> boxes = torch.tensor([[8.0, 8.0, 6.0, 2.0, 0.0], [8.5, 8.0, 6.0, 2.0, 0.1], [3.0, 3.0, 4.0, 2.0, 1.0]])
        >>> pg.models.oriented_nms(boxes, torch.tensor([0.6, 0.9, 0.5]))
        tensor([1, 2])
    """
    known = known_boxes("boxes", boxes)
    _checks.tensor("scores", scores)
    check_of_boxes("scores", scores, boxes)
    check_scores("scores", scores)
    _checks.number("overlap", overlap, 0.0, 1.0)
    if labels is not None:
        check_labels("labels", labels, boxes)
    order = scores.detach().cpu().argsort(descending=True, stable=True)
    best = known[order]
    rivals = oriented_iou(best, best) > overlap
    if labels is not None:
        classes = labels.cpu()[order]
        rivals &= classes[:, None] == classes
    alive = torch.ones(len(best), dtype=torch.bool, device="cpu")
    for place in range(len(best)):
        if alive[place]:
            alive[place + 1 :] &= ~rivals[place, place + 1 :]
    return order[alive].to(boxes.device)


def check_of_boxes(name: str, value: Tensor, boxes: Tensor) -> None:
    """Raise unless there is one number for each box."""
    if value.shape != boxes.shape[:1] or not _checks.has_values(value):
        raise ValueError(
            f"{name}: expected shape [{len(boxes)}], one for each box, got {tuple(value.shape)} on {value.device}"
        )


def check_scores(name: str, scores: Tensor) -> None:
    """Raise if some scores are NaN: these have no place in an order."""
    if bool(scores.isnan().any()):
        raise ValueError(f"{name}: expected numbers, got NaN in {int(scores.isnan().sum())} of {len(scores)} places")


def check_labels(name: str, labels: Any, boxes: Tensor, classes: int | None = None) -> Tensor:
    """Return ``labels`` if they are int64, one for each box, and below ``classes``, else raise."""
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.layout is not torch.strided:
        raise TypeError(f"{name}: expected a tensor of int64, got {getattr(labels, 'dtype', type(labels).__name__)}")
    check_of_boxes(name, labels, boxes)
    if classes is not None and not bool(((labels >= 0) & (labels < classes)).all()):
        raise ValueError(f"{name}: expected numbers from 0 to {classes - 1}, got {tolist(labels)[:8]}")
    return labels
