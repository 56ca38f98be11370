"""Spaces moved by rotations of R3: the common base of the sphere and SO(3)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import broadcast_tensors, linalg, tolist
from pdegcnn.spaces.base import HomogeneousSpace, MotionOptions
from pdegcnn.sphere import SphereGrid
from pdegcnn.sphere.rotation import check_rotation

if TYPE_CHECKING:
    from typing_extensions import Unpack

SMALL = 1e-4
"""Below this half-angle (radians) series replace quotients; their error is of its fourth power."""


class RotationSpace(HomogeneousSpace):
    r"""A space over a grid on the sphere, moved by SO(3).

    Elements are unit quaternions ``[..., 4]``, real part first; q and -q are the same rotation. Other quaternions raise
    ``ValueError``. Lie algebra vectors ``[..., 3]`` are rotation vectors in the moving frame, in radians. At the
    rotation R with :math:`R e_z = p`, the frame vectors (tilt about :math:`R e_x`, tilt about :math:`R e_y`, spin about
    p) are the velocities of :math:`R \exp(t e_i)`. The second moves p along :math:`R e_x`, the first along
    :math:`-R e_y`.
    """

    grid: SphereGrid
    dim: ClassVar[int] = 3

    @abstractmethod
    def over(self, grid: SphereGrid) -> RotationSpace:
        """Return the same space on another grid.

        Args:
            grid: points of the sphere.
        """

    @property
    def base_shape(self) -> tuple[int, ...]:
        """Shape of the grid."""
        return self.grid.shape

    def coarser(self, factor: float, size: Sequence[int] | None = None) -> RotationSpace:
        """Return the space over a Gauss-Legendre grid of ``floor((band + 1) / factor)`` rings, or of ``size[0]``.

        Args:
            factor: at least 1.
            size: its first number is the number of rings, in place of ``factor``.
        """
        self.grid.require_rings("space.grid")
        finest = self.grid.band + 1
        rings = int(finest // factor) if size is None else size[0]
        if not 2 <= rings <= finest:
            name, got = ("factor", factor) if size is None else ("size", rings)
            raise ValueError(f"{name}: expected a coarser grid of 2 to {finest} rings for {self}, got {got}")
        return self.over(SphereGrid.gauss_legendre(rings))

    def identity(self) -> Tensor:
        """Return the unit quaternion (1, 0, 0, 0)."""
        return torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64, device="cpu")

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """Return the quaternion product of the rotation by ``h`` followed by ``g``.

        Args:
            g: unit quaternions ``[..., 4]``, the real part first.
            h: unit quaternions; leading axes broadcast with those of ``g``.
        """
        check_quaternion("g", g)
        check_quaternion("h", h)
        a, v, b, w = g[..., :1], g[..., 1:], h[..., :1], h[..., 1:]
        real = a * b - (v * w).sum(-1, keepdim=True)
        return torch.cat((real, a * w + b * v + linalg.cross(*broadcast_tensors(v, w))), dim=-1)

    def inverse(self, g: Tensor) -> Tensor:
        """Return the conjugate quaternion.

        Args:
            g: unit quaternions ``[..., 4]``, the real part first.
        """
        check_quaternion("g", g)
        return torch.cat((g[..., :1], -g[..., 1:]), dim=-1)

    def exp(self, c: Tensor) -> Tensor:
        """Return the rotation by :math:`|c|` radians about ``c``.

        Args:
            c: rotation vectors ``[..., 3]``.

        Returns:
            Unit quaternions ``[..., 4]``.
        """
        _checks.tensor("c", c)
        if c.ndim < 1 or c.shape[-1] != 3:
            raise ValueError(f"c: expected rotation vectors [..., 3], got shape {tuple(c.shape)}")
        if _checks.has_values(c) and not bool(c.isfinite().all()):
            raise ValueError(f"c: expected finite rotation vectors, got {tolist(c.detach().flatten()[:6])}")
        square, small = _square(c)
        half = _safe_norm(c, small) / 2
        cosine = torch.where(small, 1 - square / 8, torch.cos(half))
        return torch.cat((cosine, torch.where(small, 1 - square / 24, torch.sinc(half / math.pi)) * c / 2), dim=-1)

    def log(self, g: Tensor) -> Tensor:
        r"""Return the shortest rotation vector, :math:`|c| \le \pi`.

        Args:
            g: unit quaternions ``[..., 4]``, the real part first.

        Returns:
            Rotation vectors ``[..., 3]`` in radians.
        """
        real, vector = _upper(check_quaternion("g", g))
        return vector * _angle_over_sine(vector, real)

    def half_angle(self, g: Tensor) -> Tensor:
        r"""Return tilt-twist coordinates :math:`(b \cos\varepsilon, b \sin\varepsilon, \psi)` of the rotation.

        The rotation is :math:`R_z(\psi/2)\, T\, R_z(\psi/2)`, where T tilts by b in [0, pi] about the horizontal axis
        at the angle :math:`\varepsilon`, and :math:`\psi` is in (-pi, pi]. Reflections that keep the distance change
        only signs.

        Args:
            g: unit quaternions ``[..., 4]``, the real part first.

        Returns:
            ``[..., 3]``, in radians.
        """
        real, vector = _upper(check_quaternion("g", g))
        along = torch.cat((real, vector[..., 2:]), dim=-1)
        opposite = (along == 0).all(-1, keepdim=True)  # every twist is the same rotation
        cosine = torch.where(opposite, 0.0, _safe_norm(along, opposite))
        tilt = vector[..., :2] * _angle_over_sine(vector[..., :2], cosine)
        return torch.cat((tilt, 2 * torch.atan2(vector[..., 2:], torch.where(opposite, 1.0, real))), dim=-1)

    def to_matrix(self, g: Tensor) -> Tensor:
        """Return rotation matrices ``[..., 3, 3]`` of unit quaternions; raise ``ValueError`` for others.

        Args:
            g: ``[..., 4]``, the real part first.
        """
        return quaternion_to_matrix(check_quaternion("g", g))

    def from_matrix(self, rotation: Tensor) -> Tensor:
        """Convert rotation matrices to unit quaternions ``[..., 4]`` with real part >= 0.

        The largest of four equivalent formulas is used, which avoids cancellation (Shepperd 1978).

        Args:
            rotation: orthogonal matrices of determinant one, ``[..., 3, 3]``.

        Raises:
            TypeError: if ``rotation`` is not a floating tensor.
            ValueError: if a matrix is not a rotation.
        """
        return matrix_to_quaternion(check_rotation("rotation", rotation))

    def comparison_weights(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Return the square root of the area that each point stands for, so that norms are integrals.

        Args:
            signal: the signal that is moved.
            motion: as in :meth:`transform`; not used.

        Returns:
            Square roots of steradians, ``[*grid.shape]``; one, without axes, for invariants.
        """
        base = len(self.grid.shape)
        if tuple(signal.shape[-base:]) != self.grid.shape or signal.ndim < 2 + base:
            return torch.ones((), dtype=signal.dtype, device=signal.device)
        return self.grid.weights.to(signal).sqrt()

    @property
    def areas(self) -> Tensor:
        """The area of each grid point in steradians, ``[*grid.shape]``, float64."""
        return self.grid.weights

    @property
    def point_weights(self) -> Tensor:
        """The area of each grid point divided by the mean area, ``[*grid.shape]``, float64."""
        weights = self.grid.weights
        return weights / weights.mean()

    def band_limit(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Return the band-limited function that the samples represent; the signal itself if the motion is exact.

        Args:
            signal: a signal on this space, or on the sphere.
            motion: as in :meth:`transform`; it is not applied.

        Raises:
            ValueError: for another motion, or a matrix that is not a rotation.
        """
        rotation = self._rotation_of(motion)
        if motion.get("exact", True) and grid_turn(rotation, self.grid) is not None:
            return signal
        return self.transform(signal, rotation=torch.eye(3, dtype=rotation.dtype, device=rotation.device), exact=False)

    def _rotation_of(self, motion: MotionOptions) -> Tensor:
        if "rotation" not in motion or set(motion) - {"exact", "rotation"}:
            raise ValueError(f"motion: expected rotation=R [3,3] on {self}, got {motion}")
        rotation = motion["rotation"]
        _checks.tensor("rotation", rotation, 2, "[3,3]")
        if rotation.is_meta:
            raise TypeError("rotation: expected a tensor with values, got one on meta")
        return check_rotation("rotation", rotation)


def grid_turn(rotation: Tensor, grid: SphereGrid) -> int | None:
    """Return the number of steps by which a rotation about the pole shifts each ring, or None if it is not whole."""
    if len(grid.shape) != 2:
        return None
    r = rotation.double()
    steps = math.atan2(float(r[1, 0]), float(r[0, 0])) * grid.shape[1] / (2 * math.pi)
    fits = abs(steps - round(steps)) < 1e-6 and float(r[2, 2]) > 1 - 1e-12
    return round(steps) if fits else None


def check_quaternion(name: str, q: Tensor) -> Tensor:
    """Return unit quaternions ``[..., 4]``, or raise ``ValueError`` or ``TypeError``."""
    _checks.tensor(name, q)
    if q.ndim < 1 or q.shape[-1] != 4:
        raise ValueError(f"{name}: expected unit quaternions [..., 4], got shape {tuple(q.shape)}")
    if _checks.has_values(q):
        length = linalg.vector_norm(q.detach().double(), dim=-1)
        slack = 1e-6 if q.dtype == torch.float64 else 1e-4
        if not bool(((length - 1).abs() <= slack).all()):
            raise ValueError(f"{name}: expected quaternions of length 1, got lengths {tolist(length.flatten()[:4])}")
    return q


def quaternion_to_matrix(q: Tensor) -> Tensor:
    """Return the rotation matrices ``[..., 3, 3]`` of unit quaternions ``[..., 4]``."""
    a, x, y, z = q.unbind(-1)
    rows = [
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - a * z), 2 * (x * z + a * y)), dim=-1),
        torch.stack((2 * (x * y + a * z), 1 - 2 * (x * x + z * z), 2 * (y * z - a * x)), dim=-1),
        torch.stack((2 * (x * z - a * y), 2 * (y * z + a * x), 1 - 2 * (x * x + y * y)), dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def matrix_to_quaternion(rotation: Tensor) -> Tensor:
    """Return unit quaternions with real part >= 0 of rotation matrices ``[..., 3, 3]``."""
    r = rotation
    xx, yy, zz = (r[..., i, i] for i in range(3))
    off = [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]]
    on = [r[..., 1, 0] + r[..., 0, 1], r[..., 0, 2] + r[..., 2, 0], r[..., 2, 1] + r[..., 1, 2]]
    rows = [  # 4 q_i q, for each i
        torch.stack((1 + xx + yy + zz, *off), dim=-1),
        torch.stack((off[0], 1 + xx - yy - zz, on[0], on[1]), dim=-1),
        torch.stack((off[1], on[0], 1 - xx + yy - zz, on[2]), dim=-1),
        torch.stack((off[2], on[1], on[2], 1 - xx - yy + zz), dim=-1),
    ]
    table = torch.stack(rows, dim=-2)
    best = torch.diagonal(table, dim1=-2, dim2=-1).argmax(-1)
    q = torch.take_along_dim(table, best[..., None, None], dim=-2)[..., 0, :]
    q = q / linalg.vector_norm(q, dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def _upper(g: Tensor) -> tuple[Tensor, Tensor]:
    """Return the real and vector part of the quaternion with real part >= 0."""
    g = torch.where(g[..., :1] < 0, -g, g)
    return g[..., :1], g[..., 1:]


def _square(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared length of vectors, and whether the length is below ``SMALL``."""
    square = (vector * vector).sum(-1, keepdim=True)
    return square, square < SMALL**2


def _safe_norm(vector: Tensor, small: Tensor) -> Tensor:
    """Return lengths of vectors, for ``small`` ones that of (1, 1, ...), because lengths have no derivative at zero."""
    return linalg.vector_norm(torch.where(small, 1.0, vector), dim=-1, keepdim=True)


def _angle_over_sine(vector: Tensor, cosine: Tensor) -> Tensor:
    """Return ``2 atan2(sine, cosine) / sine`` for the length ``sine`` of vectors, smooth at zero."""
    square, small = _square(vector)
    sine = _safe_norm(vector, small)
    return torch.where(small, 2 + square / 3, 2 * torch.atan2(sine, cosine) / sine)
