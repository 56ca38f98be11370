"""Grid points that dilation and erosion compare on the sphere and on SO(3), and their costs.

The kernel depends on the position of one point relative to another only. On rings of equal length this is the same
along a ring, so neighbours are listed once per ring; on other grids every point is a separate ring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from scipy.spatial import KDTree  # pyright: ignore[reportMissingTypeStubs] - scipy has no stubs
from torch import Tensor

from pdegcnn._typing import Floats, Ints, from_numpy
from pdegcnn.kernels.metric import ENTRIES, Axisymmetric, Diagonal, Metric
from pdegcnn.kernels.rotation_distance import COORDINATES, NODES, energy_table, exact_squared_distance
from pdegcnn.ops.ring_convolution.log_plus import RingTaps, log_plus_mean
from pdegcnn.ops.ring_morphology import ring_morphology
from pdegcnn.spaces import S2, SO3
from pdegcnn.spaces.s2 import point_spacing
from pdegcnn.sphere._tables import Tables

EDGE = 1e-9
"""Relative slack of a window's edge, so that rounding does not decide which neighbours belong."""
CHUNK = 2**18
"""So many elements are computed at once, to save memory."""


def window(space: S2 | SO3, sizes: tuple[float, float]) -> tuple[float, float]:
    """Return the greatest distance and twist (radians) in a window of ``sizes`` = (fibre, sphere) steps."""
    reach = min(sizes[1] / 2 * point_spacing(space.grid), math.pi)
    if not space.has_orientations:
        return reach, 0.0
    return reach, min(sizes[0] / 2 * (2 * math.pi / space.orientations), math.pi)


def neighbour_lists(space: S2 | SO3, sizes: tuple[float, float]) -> tuple[Ints, Ints, Floats]:
    """Return taps (ring, fibre shift, ring shift) ``[S,3]``, starts of rings ``[G+1]``, elements ``[S,4]``.

    The element of a tap h of the centre g (first fibre sample) is the quaternion ``h^-1 g``. The centre comes first,
    then the taps in the order of points and fibre samples. Decisions have a slack, so rounding makes none.
    """
    xyz: Floats = space.grid.xyz.numpy()
    rings = len(xyz)
    length = xyz.shape[1] if xyz.ndim == 3 else 1
    points = np.reshape(xyz, (-1, 3))
    centres = np.arange(rings, dtype=np.int64) * length
    reach, twist = window(space, sizes)
    fibre = space.orientations
    ring, near = _pairs(points, centres, 2 * math.sin(reach / 2) * (1 + EDGE) + EDGE)
    frames = from_numpy(_frames(points))
    spin = np.pi * np.arange(fibre) / fibre
    turns = from_numpy(np.stack((np.cos(spin), 0 * spin, 0 * spin, np.sin(spin)), -1))
    parts: list[Ints] = []
    kept: list[Floats] = []
    for part in range(0, len(ring), max(1, CHUNK // fibre)):
        here, there = (x[part : part + max(1, CHUNK // fibre)] for x in (ring, near))
        turned = space.compose(frames[there][:, None], turns)  # [pairs,fibre,4]
        element = space.compose(space.inverse(turned), frames[centres[here]][:, None]).numpy()
        element[np.hypot(element[..., 0], element[..., 3]) < EDGE] *= (0, 1, 1, 0)  # opposite points: any twist
        element[centres[here] == there, 0] = 1, 0, 0, 0
        psi = 2 * np.arctan2(element[..., 3], element[..., 0])
        psi = np.abs(np.remainder(psi + np.pi, 2 * np.pi) - np.pi)
        keep = psi <= twist * (1 + EDGE) + EDGE if space.has_orientations else np.ones_like(psi, dtype=bool)
        which, shift = np.nonzero(keep)
        parts.append(np.stack((here[which], there[which], shift)))
        kept.append(element[which, shift])
    listed = np.concatenate(parts, axis=1)
    _, near, shift = listed
    taps = np.stack((near // length, shift, near % length), -1)
    start = np.searchsorted(listed[0, :], np.arange(rings + 1))
    return taps.astype(np.int64), start.astype(np.int64), np.concatenate(kept)


def _pairs(points: Floats, centres: Ints, reach: float) -> tuple[Ints, Ints]:
    """Return all points within the chord ``reach`` of each centre.

    These are indices of centre and point, the centre itself first, then in ascending order.

    The pairs come in blocks, because a tree keeps them in thrice the memory.
    """
    tree = KDTree(points)
    found: list[Ints] = []
    for first in range(0, len(centres), CHUNK // 64):
        block = KDTree(points[centres[first : first + CHUNK // 64]])
        pairs = cast("Any", block.sparse_distance_matrix(tree, reach, output_type="ndarray"))  # pyright: ignore[reportUnknownMemberType] - as above
        ring, near = pairs["i"] + first, pairs["j"]
        order = np.lexsort((near, near != centres[ring], ring))
        found.append(np.stack((ring[order], near[order])))
    ring, near = np.concatenate(found, axis=1)
    return ring, near


def _frames(points: Floats) -> Floats:
    """Return quaternions of ``Rz(phi) Ry(theta)`` at unit vectors ``[P,3]``; at the poles phi is zero."""
    across = np.hypot(points[:, 0], points[:, 1])
    theta = np.arctan2(across, points[:, 2]) / 2
    phi = np.where(across > EDGE, np.arctan2(points[:, 1], points[:, 0]), 0) / 2
    c, s = np.cos(theta), np.sin(theta)
    return np.stack((np.cos(phi) * c, -np.sin(phi) * s, np.cos(phi) * s, np.sin(phi) * c), -1)


class Neighbours(Tables):
    """Lists of taps and tables of their costs; all tables are derived, none is saved.

    Args:
        space: S2 or SO3.
        sizes: window in steps of the fibre and of the sphere.
        distance: name of the distance, see :mod:`pdegcnn.kernels.rotation_distance`.
        like: a tensor of the wanted dtype and device.
    """

    taps: Tensor
    start: Tensor

    def __init__(self, space: S2 | SO3, sizes: tuple[float, float], distance: str, like: Tensor) -> None:
        super().__init__()
        self.space, self.sizes, self.distance = space, sizes, distance
        self.exact = distance == "exact" and space.has_orientations
        with torch.device("cpu"):
            self._taps, self._start, self.elements = neighbour_lists(space, sizes)
        self.longest = int(np.diff(self._start).max())
        self._build(like)

    def _build(self, like: Tensor) -> None:
        super()._build(like)
        self.register_buffer("taps", from_numpy(self._taps).to(like.device), persistent=False)
        self.register_buffer("start", from_numpy(self._start).to(like.device), persistent=False)

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Floats]]]:
        count = len(self.elements)
        return [("measure", (count,), self._measure), *self._places(count)]

    def _places(self, count: int) -> list[tuple[str, tuple[int, ...], Callable[[], Floats]]]:
        """Return what distances are computed from."""
        if not self.space.has_orientations:
            return [("position", (1, count), lambda: self._coordinates("tilt_twist")[:1])]
        if self.exact:
            table = ("energies", (2, NODES, NODES, NODES), energy_table)
            return [("position", (2, count), lambda: self._coordinates("tilt_twist")), table]
        return [("position", (6, count), self._monomials)]

    def _measure(self) -> Floats:
        """Return the logarithm of the area of each tap's point over that of the centre, ``[S]``."""
        areas: Floats = np.log(np.reshape(self.space.grid.weights.numpy(), (len(self._start) - 1, -1))[:, 0])
        return areas[self._taps[:, 0]] - np.repeat(areas, np.diff(self._start))

    def _coordinates(self, name: str) -> Floats:
        """Return tilt and absolute twist, ``[2,S]``."""
        v = COORDINATES[name](self.space, from_numpy(self.elements)).numpy()
        return np.stack((np.hypot(v[:, 0], v[:, 1]), np.abs(v[:, 2])))

    def _monomials(self) -> Floats:
        """Return products of coordinates that squared norms are linear in, ``[6,S]``."""
        x, y, z = np.transpose(COORDINATES[self.distance](self.space, from_numpy(self.elements)).numpy())
        return np.stack((x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z))

    def squared_distance(self, metric: Metric) -> Tensor:
        """Return squared distances of the taps, ``[C,fibre,S]``, or of fewer fibre samples after which they repeat."""
        position = self.get_buffer("position")
        gram = metric.gram()
        if not self.space.has_orientations:
            return gram[:, :1] * position**2
        if self.exact:
            if not isinstance(metric, Axisymmetric):
                raise ValueError(f"metric: expected an 'axisymmetric' metric for distance='exact', got {metric.form!r}")
            table = self.get_buffer("energies")
            return exact_squared_distance(table, gram[:, 0, 0], gram[:, 2, 2], position[0], position[1])[:, None]
        return self.entries(metric) @ position

    def entries(self, metric: Metric) -> Tensor:
        """Return entries of the metric in the frame of each fibre sample, ``[C,fibre,6]``.

        The result is ``[C,1,6]`` if all are equal.

        A half turn of the fibre leaves diagonal metrics alone: then those of the first half, ``[C,fibre/2,6]``.
        """
        gram = metric.gram()
        if not self.space.has_orientations:
            weight, zero = gram[:, :1, 0], torch.zeros_like(gram[:, :1, 0])
            return torch.stack((weight, weight, zero, zero, zero, zero), -1)
        gram = gram[:, None]
        if not isinstance(metric, Axisymmetric):
            count = self.space.orientations
            alike = 2 if isinstance(metric, Diagonal) and count % 2 == 0 else 1
            angle = torch.arange(count // alike, dtype=gram.dtype, device=gram.device) * (2 * math.pi / count)
            c, s, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
            turn = torch.stack((c, -s, zero, s, c, zero, zero, zero, one), -1).view(-1, 3, 3)
            gram = turn @ gram @ turn.mT
        return torch.stack([gram[..., i, j] for i, j in ENTRIES], -1)

    def as_rings(self, u: Tensor) -> Tensor:
        """View a signal as ``[B,C,F,G,n]``: fibre, rings, points of a ring."""
        if not self.space.has_orientations:
            u = u.unsqueeze(2)
        return u.unsqueeze(-1) if len(self.space.grid.shape) == 1 else u

    def repeated(self, kernel: Tensor) -> Tensor:
        """Return costs of all fibre samples, or of one that stands for all."""
        if kernel.shape[1] == 1:
            return kernel
        return kernel.repeat(1, self.space.orientations // kernel.shape[1], 1)

    def forward(self, u: Tensor, kernel: Tensor, sign: int) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u with costs ``kernel [C,F,S]``, periodic in F."""
        kernel = self.repeated(kernel)
        return ring_morphology(self.as_rings(u), kernel, self.taps, self.start, self.longest, sign).view(u.shape)

    def soft(self, u: Tensor, kernel: Tensor, temperature: Tensor | float, sign: int) -> Tensor:
        """Do the same in the log-plus semifield, where a tap counts by the area of its point."""
        t = temperature.reshape(-1, 1, 1) if isinstance(temperature, Tensor) else temperature
        costs = self.repeated(kernel) - t * self.get_buffer("measure")
        taps = RingTaps(self.taps, self.start, self.longest)
        return log_plus_mean(self.as_rings(u), costs, temperature, taps, sign).view(u.shape)
