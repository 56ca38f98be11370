"""Detection of objects on the sphere: a network whose heat lives on SO(3), and boxes made of great circles.

A box is a rotation R (its centre is ``R e_z``, its long way ``R e_x``) and two half-angles (a, b) in (0, pi/2): the
points q = R^T p with ``|q_x| <= tan(a) q_z`` and ``|q_y| <= tan(b) q_z``, between four great circles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pdegcnn import _checks, functional
from pdegcnn.nn import BatchNorm, ChannelMix, Lift, PDELayer
from pdegcnn.spaces import S2, SO3
from pdegcnn.spaces.s2 import grid_spacing
from pdegcnn.sphere import SphereGrid
from pdegcnn.sphere.rotation import check_rotation

__all__ = ["SphericalBoxes", "box_area", "box_iou", "find_boxes", "spherical_detector"]


class SphericalBoxes(NamedTuple):
    """``rotations [N,3,3]``, ``half_angles [N,2]`` in radians, ``labels [N]``, ``scores [N]`` in [0,1], best first."""

    rotations: Tensor
    half_angles: Tensor
    labels: Tensor
    scores: Tensor


def spherical_detector(
    grid: SphereGrid,
    classes: int = 10,
    in_channels: int = 1,
    *,
    width: int = 16,
    layers: int = 2,
    fibre: int = 8,
    terms: Sequence[str] = ("convection", "dilation", "erosion"),
    device: Any = None,
    dtype: Any = None,
    **options: Any,
) -> nn.Sequential:
    """Maps on SO(3) that :func:`find_boxes` reads: they turn with the signal, up to sampling.

    Args:
        grid: where signals are sampled, a grid of rings.
        classes: kinds of objects.
        in_channels: channels of the signal.
        width: channels inside.
        layers: PDE layers.
        fibre: directions per point.
        terms: terms of the PDE layers.
        device: where the parameters live.
        dtype: their dtype.
        options: further options of :class:`~pdegcnn.nn.PDELayer`.

    Shape:
        ``[B,in_channels,*grid.shape] -> [B,classes+2,fibre,*grid.shape]``: logits of each class, and of the half-angles
        over pi/2.
    """
    space, factory = SO3(grid, fibre), {"device": device, "dtype": dtype}
    _checks.positive_int("classes", classes)
    inside = [
        PDELayer(space, width, width, terms, **factory, **options)
        for _ in range(_checks.positive_int("layers", layers))
    ]
    first = [Lift(space, in_channels, width, **factory), BatchNorm(width, space, **factory)]
    return nn.Sequential(*first, *inside, ChannelMix(width, classes + 2, **factory))


@torch.no_grad()
def find_boxes(
    maps: Tensor, space: SO3, *, radius: float = 0.3, threshold: float = 0.5, most: int = 100
) -> list[SphericalBoxes]:
    """Boxes of every signal: peaks of the heat, that is where a dilation by a geodesic disc changes nothing.

    The heat at a point is the best chance over classes and directions; class, direction and half-angles of the box are
    those at the best one. Centres are grid points, directions fibre samples. Of equal neighbours all are found.

    Args:
        maps: ``[B,classes+2,fibre,*grid.shape]`` of :func:`spherical_detector`.
        space: the space of the maps.
        radius: of the disc in which one peak suppresses lower ones, in radians: from the grid's spacing to pi.
        threshold: least chance of a box, in [0, 1].
        most: at most so many boxes of each signal, the best.

    Raises:
        ValueError: maps of another shape, numbers out of range.
    """
    space.check_signal("maps", maps)
    if maps.shape[1] < 3:
        raise ValueError(f"maps: expected at least one class and two half-angles, got shape {tuple(maps.shape)}")
    _checks.interval("radius", radius, grid_spacing(space.grid), math.pi)
    _checks.interval("threshold", threshold, 0.0, 1.0)
    _checks.positive_int("most", most)
    batch, classes, points = len(maps), maps.shape[1] - 2, math.prod(space.grid.shape)
    chance = maps[:, :classes].sigmoid().reshape(batch, classes * space.fibre, points)
    heat, best = chance.max(1)
    reach = torch.full((1,), 1 / radius, dtype=maps.dtype, device=maps.device)
    around = functional.dilation(
        heat.reshape(batch, 1, *space.grid.shape), S2(space.grid), reach, alpha=0.5, kernel_size="auto"
    )
    peaks = (heat >= around.reshape(batch, points)) & (heat >= threshold)
    angles = (maps[:, classes:].sigmoid() * (math.pi / 2)).reshape(batch, 2, space.fibre, points)
    found = []
    for b in range(batch):
        where = peaks[b].nonzero()[:, 0]
        where = where[heat[b, where].argsort(descending=True)[:most]]
        labels, turn = best[b, where] // space.fibre, best[b, where] % space.fibre
        half = angles[b][:, turn, where].T
        found.append(SphericalBoxes(_frames(space, where, turn).to(maps), half, labels, heat[b, where]))
    return found


def _frames(space: SO3, point: Tensor, turn: Tensor) -> Tensor:
    """The rotations [N,3,3] of samples."""
    p = space.grid.xyz.reshape(-1, 3)[point.cpu()]
    phi, turns = torch.atan2(p[:, 1], p[:, 0]), turn.cpu().double() * (2 * math.pi / space.fibre)
    east = torch.stack((-phi.sin(), phi.cos(), torch.zeros_like(phi)), -1)
    south, cosine, sine = torch.linalg.cross(east, p), turns.cos()[:, None], turns.sin()[:, None]
    return torch.stack((cosine * south + sine * east, cosine * east - sine * south, p), -1)


def box_area(half_angles: Tensor) -> Tensor:
    """Area in steradians of boxes with half-angles ``[..., 2]``: ``4 asin(sin a sin b)``, a pyramid's solid angle."""
    return 4 * (half_angles[..., 0].sin() * half_angles[..., 1].sin()).asin()


def box_iou(rotations: Tensor, half_angles: Tensor, other_rotations: Tensor, other_half_angles: Tensor) -> Tensor:
    """Intersection over union ``[N,M]`` of boxes ``([N,3,3], [N,2])`` with others ``([M,3,3], [M,2])``.

    Exact to rounding: the four corners of one box are clipped by the four half-spaces of the other, and the area of
    what is left is summed over triangles (Van Oosterom and Strackee 1983). Without gradient; float64 inside.

    Raises:
        ValueError: no rotations, other shapes, or half-angles outside (0, pi/2).
    """
    first = _check_boxes("", rotations, half_angles)
    second = _check_boxes("other_", other_rotations, other_half_angles)
    corners, normals = (_polygons(*first), _polygons(*second))
    sides = np.cross(normals, np.roll(normals, -1, axis=1))
    common = np.array([[_area(_clip(box, planes)) for planes in sides] for box in corners])
    common = torch.from_numpy(common.reshape(len(corners), len(normals)))
    both = box_area(first[1])[:, None] + box_area(second[1])
    return (common / (both - common)).to(rotations)


def _check_boxes(prefix: str, rotations: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    check_rotation(f"{prefix}rotations", _checks.tensor(f"{prefix}rotations", rotations))
    _checks.tensor(f"{prefix}half_angles", half)
    if rotations.ndim != 3 or tuple(half.shape) != (len(rotations), 2):
        raise ValueError(
            f"{prefix}half_angles: expected [N,2] beside rotations [N,3,3], got {tuple(half.shape)} beside "
            f"{tuple(rotations.shape)}"
        )
    half = half.detach().cpu().double()
    if not bool(((half > 0) & (half < math.pi / 2)).all()):
        raise ValueError(f"{prefix}half_angles: expected radians in (0, pi/2), got {half.flatten()[:4].tolist()}")
    return rotations.detach().cpu().double(), half


def _polygons(rotations: Tensor, half: Tensor) -> np.ndarray:
    """Corners [N,4,3], counter-clockwise from outside."""
    signs = torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]], dtype=torch.float64)
    flat = nn.functional.pad(half.tan()[:, None] * signs, (0, 1), value=1.0)
    return (nn.functional.normalize(flat, dim=-1) @ rotations.mT).numpy()


def _clip(polygon: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """The part [K,3] of a convex spherical polygon where all ``planes @ p`` are non-negative."""
    for plane in planes:
        height, kept = polygon @ plane, []
        for p, q, low, high in zip(polygon, np.roll(polygon, -1, 0), height, np.roll(height, -1)):
            if low >= 0:
                kept.append(p)
            if low * high < 0:
                between = p * abs(high) + q * abs(low)
                kept.append(between / np.linalg.norm(between))
        polygon = np.array(kept).reshape(-1, 3)
    return polygon


def _area(polygon: np.ndarray) -> float:
    """Area of a convex spherical polygon in steradians."""
    total = 0.0
    for b, c in zip(polygon[1:-1], polygon[2:]):
        a = polygon[0]
        total += 2 * math.atan2(float(a @ np.cross(b, c)), float(1 + a @ b + b @ c + c @ a))
    return max(total, 0.0)
