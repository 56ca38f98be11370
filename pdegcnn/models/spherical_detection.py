"""Detection of objects on the sphere by heat maps on SO(3) and boxes with sides on great circles.

Definition and comparison of boxes are in :mod:`pdegcnn.models.spherical_boxes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from pdegcnn import _checks, functional
from pdegcnn._typing import Factory, linalg, tolist
from pdegcnn.models.detection_scores import PRIOR, heat_loss
from pdegcnn.models.oriented_boxes import check_labels
from pdegcnn.models.spherical_boxes import SphericalBoxes, check_boxes
from pdegcnn.nn import BatchNorm, Lift, PDELayer, SphereConv
from pdegcnn.spaces import S2, SO3
from pdegcnn.spaces.s2 import point_spacing
from pdegcnn.sphere import SphereGrid

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pdegcnn.nn.layer import LayerOptions

__all__ = ["detection_loss", "find_boxes", "spherical_detector"]


def spherical_detector(
    grid: SphereGrid,
    classes: int = 10,
    in_channels: int = 1,
    *,
    width: int = 16,
    layers: int = 2,
    fibre: int = 8,
    terms: Sequence[str] = ("convection", "dilation", "erosion"),
    metric: str = "diagonal",
    kernel_size: int | Sequence[int] | None = None,
    alpha: float = 0.65,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[LayerOptions],
) -> nn.Sequential:
    """Build a network whose maps on SO(3) rotate with the signal, up to sampling; :func:`find_boxes` reads them.

    A lift and PDE layers, followed by a linear convolution of their features for every class and half-angle: a template
    that is compared in every rotation.

    Args:
        grid: where signals are sampled, a grid of rings.
        classes: number of classes.
        in_channels: channels of the signal.
        width: channels of the hidden layers.
        layers: number of PDE layers.
        fibre: number of directions at each point.
        terms: terms of the PDE layers.
        metric: form of their metrics.
        kernel_size: their windows in grid steps.
        alpha: their power.
        device: where the parameters live.
        dtype: their dtype.
        options: further options of :class:`~pdegcnn.nn.PDELayer`.

    Shape:
        ``[B,in_channels,*grid.shape] -> [B,classes+2,fibre,*grid.shape]``: logits of each class, and of the half-angles
        divided by pi/2.
    """
    space = SO3(grid, _checks.positive_int("fibre", fibre))
    factory: Factory = {"device": device, "dtype": dtype}
    own: dict[str, Any] = {"metric": metric, "kernel_size": kernel_size, "alpha": alpha, **factory}
    _checks.positive_int("classes", classes)
    inside = [
        PDELayer(space, width, width, terms, **own, **options) for _ in range(_checks.positive_int("layers", layers))
    ]
    first = [Lift(space, in_channels, width, **factory), BatchNorm(width, space, **factory)]
    head = SphereConv(space, width, classes + 2, **factory)
    assert head.bias is not None
    nn.init.constant_(head.bias[:classes], PRIOR)
    return nn.Sequential(*first, *inside, head)


@torch.no_grad()
def find_boxes(
    maps: Tensor, space: SO3, *, radius: float = 0.3, threshold: float = 0.5, most: int = 100
) -> list[SphericalBoxes]:
    """Return the boxes of every signal at the peaks of the heat, where dilation by a geodesic disc changes nothing.

    The heat at a point is the greatest probability over classes and directions. Class, direction and half-angles of the
    box are read there. Centres are grid points, directions fibre samples. Equal neighbours are all returned.

    Args:
        maps: ``[B,classes+2,fibre,*grid.shape]`` of :func:`spherical_detector`.
        space: the space of the maps.
        radius: radius of the disc in which a peak suppresses lower ones, in radians: from the grid's spacing to pi.
        threshold: least probability of a box, in [0, 1].
        most: greatest number of boxes of a signal.

    Raises:
        ValueError: if the shape of the maps does not fit, or a number is out of range.
    """
    _check_maps(maps, space)
    _checks.interval("radius", radius, point_spacing(space.grid), math.pi)
    _checks.interval("threshold", threshold, 0.0, 1.0)
    _checks.positive_int("most", most)
    batch, classes, points = len(maps), maps.shape[1] - 2, math.prod(space.grid.shape)
    chance = maps[:, :classes].sigmoid().reshape(batch, classes * space.orientations, points)
    heat, best = chance.max(1)
    reach = torch.full((1,), 1 / radius, dtype=maps.dtype, device=maps.device)
    around = functional.dilation(
        heat.reshape(batch, 1, *space.grid.shape), S2(space.grid), reach, alpha=0.5, kernel_size="auto"
    )
    peaks = (heat >= around.reshape(batch, points)) & (heat >= threshold)
    angles = (maps[:, classes:].sigmoid() * (math.pi / 2)).reshape(batch, 2, space.orientations, points)
    found: list[SphericalBoxes] = []
    for b in range(batch):
        where = peaks[b].nonzero()[:, 0]
        where = where[heat[b, where].argsort(descending=True)[:most]]
        labels, turn = best[b, where] // space.orientations, best[b, where] % space.orientations
        half = angles[b][:, turn, where].T
        found.append(SphericalBoxes(_frames(space, where, turn).to(maps), half, labels, heat[b, where]))
    return found


def _check_maps(maps: Tensor, space: SO3) -> None:
    space.check_signal("maps", maps)
    if maps.shape[1] < 3:
        raise ValueError(f"maps: expected at least one class and two half-angles, got shape {tuple(maps.shape)}")


def _frames(space: SO3, point: Tensor, turn: Tensor) -> Tensor:
    """Return the rotations [N,3,3] of samples."""
    p = space.grid.xyz.reshape(-1, 3)[point.cpu()]
    phi, turns = torch.atan2(p[:, 1], p[:, 0]), turn.cpu().double() * (2 * math.pi / space.orientations)
    east = torch.stack((-phi.sin(), phi.cos(), torch.zeros_like(phi)), -1)
    south, cosine, sine = linalg.cross(east, p), turns.cos()[:, None], turns.sin()[:, None]
    return torch.stack((cosine * south + sine * east, cosine * east - sine * south, p), -1)


TILT, TWIST = 0.75, 0.75
"""Widths of the target's bells, in steps of the grid and of the fibre."""
NEAR = 0.5
"""Where the target is greater, half-angles are learned too."""


def detection_loss(maps: Tensor, space: SO3, truth: Sequence[SphericalBoxes]) -> Tensor:
    """Return the loss of a spherical detector: a focal loss of the heat, and the error of half-angles near true boxes.

    The target of a class is a bell around each of its boxes on SO(3), whose greatest sample is set to 1. The penalty
    for heat falls with the fourth power of the distance of the target from 1. Source: Zhou et al., *Objects as points*
    (arXiv 1904.07850), equation 1, here on the rotation group, where it also trains the direction.

    Args:
        maps: ``[B,classes+2,fibre,*grid.shape]`` of :func:`spherical_detector`.
        space: the space of the maps.
        truth: boxes of each of the B signals, labels below ``classes``; their scores are ignored.

    Returns:
        A scalar: the sum of both parts, divided by the number of true boxes.

    Raises:
        ValueError: if shapes or values of maps or boxes do not fit.
        TypeError: if labels are not int64.
    """
    _check_maps(maps, space)
    if len(truth) != len(maps):
        raise ValueError(f"truth: expected boxes of {len(maps)} signals, as maps are, got {len(truth)}")
    classes = maps.shape[1] - 2
    logits, angles = maps[:, :classes].flatten(2), maps[:, classes:].flatten(2).sigmoid() * (math.pi / 2)
    heat, errors, count = torch.zeros_like(logits), logits.new_zeros(()), 0
    for b, boxes in enumerate(truth):
        check_boxes("truth: ", boxes.rotations, boxes.half_angles)
        labels = cast("list[int]", tolist(check_labels("truth: labels", boxes.labels, boxes.rotations)))
        if not all(0 <= label < classes for label in labels):
            raise ValueError(f"truth: expected labels from 0 to {classes - 1}, got {labels}")
        for rotation, half, label in zip(boxes.rotations, boxes.half_angles, labels):
            bell = _bell(space, rotation).to(maps)
            heat[b, label] = torch.maximum(heat[b, label], bell)
            near = bell * (bell >= NEAR)
            errors = errors + ((angles[b] - half.to(maps)[:, None]).abs().sum(0) * near).sum() / near.sum()
            count += 1
    area = (
        (space.grid.weights / space.grid.weights.mean())
        .to(maps)
        .expand(space.orientations, *space.grid.shape)
        .flatten()
    )
    return (heat_loss(logits, heat, area) + errors) / max(count, 1)


def _bell(space: SO3, rotation: Tensor) -> Tensor:
    """Return ``exp(-(tilt^2 + twist^2)/2)`` ``[fibre*P]`` in units of the target's widths, 1 at the greatest sample."""
    turned = rotation.detach().cpu().double().mT @ _all_frames(space)  # R^T S of each sample S
    x, y, z = cast("Tensor", turned.unflatten(1, (3, -1)))
    tilt, twist = torch.atan2(torch.hypot(x[2], y[2]), z[2]), torch.atan2(y[0] - x[1], x[0] + y[1])
    steps = tilt / (TILT * point_spacing(space.grid)), twist / (TWIST * 2 * math.pi / space.orientations)
    bell = torch.exp(-(steps[0] ** 2 + steps[1] ** 2) / 2)
    bell[bell.argmax()] = 1.0
    return bell


@lru_cache(maxsize=4)
def _all_frames(space: SO3) -> Tensor:
    """Return the rotations of all samples, ``[3, 3*fibre*P]``: rows, then columns and samples."""
    points = math.prod(space.grid.shape)
    turn = torch.arange(space.orientations, device="cpu").repeat_interleave(points)
    point = torch.arange(points, device="cpu").repeat(space.orientations)
    return _frames(space, point, turn).permute(1, 2, 0).reshape(3, -1)
