r"""Boxes on the sphere with sides on great circles: areas and intersections.

A box is a rotation R (its centre is :math:`R e_z`, its axes point along :math:`R e_x` and :math:`R e_y`) and two
half-angles (a, b) in (0, pi/2): the points :math:`q = R^T p` with :math:`|q_x| \le \tan(a)\, q_z` and
:math:`|q_y| \le \tan(b)\, q_z`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._typing import Floats, tolist
from pdegcnn.sphere.rotation import check_rotation

__all__ = ["SphericalBoxes", "box_area", "box_iou"]


class SphericalBoxes(NamedTuple):
    """Boxes on the sphere, best first.

    Attributes:
        rotations: frames of the boxes, ``[N,3,3]``.
        half_angles: half of width and height, ``[N,2]`` radians.
        labels: classes, ``[N]``.
        scores: in [0,1], ``[N]``.
    """

    rotations: Tensor
    half_angles: Tensor
    labels: Tensor
    scores: Tensor


def box_area(half_angles: Tensor) -> Tensor:
    r"""Return the area of boxes in steradians, :math:`4 \arcsin(\sin a \sin b)`: the solid angle of a pyramid.

    Args:
        half_angles: (a, b) of each box, ``[..., 2]`` radians.

    Raises:
        ValueError: for another shape.
    """
    if _checks.tensor("half_angles", half_angles).shape[-1:] != (2,):
        raise ValueError(f"half_angles: expected shape [..., 2], got {tuple(half_angles.shape)}")
    return 4 * (half_angles[..., 0].sin() * half_angles[..., 1].sin()).asin()


def box_iou(rotations: Tensor, half_angles: Tensor, other_rotations: Tensor, other_half_angles: Tensor) -> Tensor:
    """Return the intersection over union ``[N,M]`` of boxes ``([N,3,3], [N,2])`` and ``([M,3,3], [M,2])``.

    Exact to rounding: the four corners of one box are clipped by the four half-spaces of the other, and the area of the
    remaining polygon is summed over triangles (Van Oosterom and Strackee 1983). Without gradient; computed in float64.

    Args:
        rotations: frames of the boxes, ``[N,3,3]``.
        half_angles: half of the width and height of each, radians, ``[N,2]``.
        other_rotations: frames of the other boxes, ``[M,3,3]``.
        other_half_angles: their half-angles, ``[M,2]``.

    Raises:
        ValueError: for matrices that are not rotations, other shapes, or half-angles outside (0, pi/2).
    """
    first = check_boxes("", rotations, half_angles)
    second = check_boxes("other_", other_rotations, other_half_angles)
    corners, normals = (_polygons(*first), _polygons(*second))
    sides = np.cross(normals, np.roll(normals, -1, axis=1))
    areas = [_area(_clip(box, planes)) for box in corners for planes in sides]
    common = torch.tensor(areas, dtype=torch.float64, device="cpu").view(len(corners), len(normals))
    both = box_area(first[1])[:, None] + box_area(second[1])
    return (common / (both - common)).to(rotations)


def check_boxes(prefix: str, rotations: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Raise ``ValueError`` unless these are boxes; rotations and half-angles in float64 on the CPU."""
    check_rotation(f"{prefix}rotations", _checks.tensor(f"{prefix}rotations", rotations))
    _checks.tensor(f"{prefix}half_angles", half)
    if rotations.ndim != 3 or tuple(half.shape) != (len(rotations), 2):
        raise ValueError(
            f"{prefix}half_angles: expected [N,2] for rotations [N,3,3], got {tuple(half.shape)} for "
            f"{tuple(rotations.shape)}"
        )
    half = half.detach().cpu().double()
    if not bool(((half > 0) & (half < math.pi / 2)).all()):
        raise ValueError(f"{prefix}half_angles: expected radians in (0, pi/2), got {tolist(half.flatten()[:4])}")
    return rotations.detach().cpu().double().resolve_neg(), half.resolve_neg()


def _polygons(rotations: Tensor, half: Tensor) -> Floats:
    """Return corners [N,4,3], counter-clockwise from outside."""
    signs = torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]], dtype=torch.float64, device="cpu")
    flat = nn.functional.pad(half.tan()[:, None] * signs, (0, 1), value=1.0)
    return (nn.functional.normalize(flat, dim=-1) @ rotations.mT).numpy()


def _clip(polygon: Floats, planes: Floats) -> Floats:
    """Return the part [K,3] of a convex spherical polygon where all ``planes @ p`` are non-negative."""
    for plane in planes:
        height = polygon @ plane
        kept: list[Floats] = []
        for p, q, low, high in zip(polygon, np.roll(polygon, -1, 0), height, np.roll(height, -1)):
            if low >= 0:
                kept.append(p)
            if low * high < 0:
                between = p * abs(high) + q * abs(low)
                kept.append(between / np.linalg.norm(between))
        polygon = np.stack(kept) if kept else np.zeros((0, 3))
    return polygon


def _area(polygon: Floats) -> float:
    """Return the area of a convex spherical polygon in steradians."""
    total = 0.0
    for b, c in zip(polygon[1:-1], polygon[2:]):
        a = polygon[0]
        total += 2 * math.atan2(float(a @ np.cross(b, c)), float(1 + a @ b + b @ c + c @ a))
    return max(total, 0.0)
