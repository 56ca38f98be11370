"""Base classes of spaces: a tensor layout and motions of signals; homogeneous spaces also have a group law."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypedDict

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import Numbers

if TYPE_CHECKING:
    from typing_extensions import Unpack

SMALL = 1e-3
"""Below this angle (radians) :func:`sinc` is its series, whose next term no float sees."""


def sinc(angle: Tensor) -> Tensor:
    """Return ``sin(angle) / angle`` with derivatives of any order at zero, where :func:`torch.sinc` has one."""
    small = angle.abs() < SMALL
    square = torch.where(small, angle, 0.0) ** 2
    return torch.where(small, 1 - square / 6 + square**2 / 120, torch.sinc(torch.where(small, 1.0, angle) / math.pi))


def check_coordinates(name: str, value: Tensor, size: int) -> Tensor:
    """Return ``value`` if it is a floating tensor ``[..., size]``, else raise."""
    _checks.tensor(name, value)
    if value.ndim < 1 or value.shape[-1] != size:
        raise ValueError(f"{name}: expected a tensor [..., {size}], got shape {tuple(value.shape)}")
    return value


class MotionOptions(TypedDict, total=False):
    """Arguments of a motion of signals; each space takes some of them.

    Attributes:
        angle: angle in degrees, from +x towards +y, about the centre of images; on volumes about the ``axis``, by the
            right-hand rule.
        axis: axis (x, y, z) of a rotation of volumes by ``angle``; z by default.
        shift: whole pixels (rows, columns) or voxels (slices, rows, columns), periodically.
        rotation: matrix ``[3,3]`` of a rotation of the sphere, or of an orthogonal map of volumes.
        exact: on spheres, whether a rotation that maps the grid to itself moves samples; True by default.
        symmetry: image of each vertex under an isometry of a mesh onto itself.
    """

    angle: float
    axis: Sequence[float]
    shift: Sequence[int]
    rotation: Tensor
    exact: bool
    symmetry: Numbers


class Space(ABC):
    """The domain of signals, with the motions that act on it. Signals are plain tensors laid out as ``layout`` says.

    Vectors are tensors ``[..., dim]`` in the space's frame.
    """

    dim: ClassVar[int]
    """Dimension of the frame that carries vectors."""
    supported_terms: ClassVar[tuple[str, ...]] = ("convection", "diffusion", "dilation", "erosion")
    """PDE terms that exist on this space."""
    unsupported_terms: ClassVar[dict[str, str]] = {}
    """Terms that cannot exist, and why."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """The axes of a signal, for example ``[B,C,Or,H,W]``."""

    orientations: int = 1
    """Number of samples of the axis of orientations; 1 for spaces without such an axis."""
    has_orientations: ClassVar[bool] = False
    """Whether axis 2 of a signal is that of orientations."""

    @property
    def base_ndim(self) -> int:
        """The number of axes of a signal after batch, channels and orientations."""
        return self.signal_ndim - 2 - self.has_orientations

    @property
    def metric_dim(self) -> int:
        """The dimension of invariant metrics, that of the group unless the space admits fewer."""
        return self.dim

    @property
    def grid_spacing(self) -> Tensor:
        """The length of a grid step along each frame vector, ``[dim]``, float64; new layers convect that far."""
        return torch.ones(self.dim, dtype=torch.float64, device="cpu")

    @property
    def metric_scale(self) -> Tensor:
        """The length along each frame vector that costs about one in a new metric, ``[metric_dim]``, float64."""
        return torch.ones(self.metric_dim, dtype=torch.float64, device="cpu")

    @property
    def signal_ndim(self) -> int:
        """The number of axes of a signal."""
        return self.layout.count(",") + 1

    @abstractmethod
    def transform(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Move a signal of this space or of its base; return an invariant ``[B,K]`` unchanged.

        Args:
            signal: a signal laid out as :attr:`layout`, a function on the base, or an invariant ``[B,K]``.
            motion: the motion by name, for example ``angle=`` degrees on the plane, ``rotation=`` a matrix ``[3,3]`` on
                the sphere, ``symmetry=`` the image of each vertex on a mesh.

        Raises:
            ValueError: for a motion that the space does not have.
        """

    @abstractmethod
    def comparison_weights(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Return weights, broadcastable to ``signal``, of the part that a motion keeps inside the domain.

        Args:
            signal: the signal that is moved.
            motion: as in :meth:`transform`.
        """

    def band_limit(self, signal: Tensor, **motion: Unpack[MotionOptions]) -> Tensor:
        """Return the part of a signal that a motion can move exactly: by default the signal itself.

        Args:
            signal: a signal on this space.
            motion: as in :meth:`transform`.
        """
        return signal

    @property
    def base_shape(self) -> tuple[int, ...] | None:
        """Samples along the axes of the base; None on grids, which take signals of any size."""
        return None

    def coarser(self, factor: float, size: Sequence[int] | None = None) -> Space:
        """Return the space whose grid steps are ``factor`` times as long, or the one with ``size`` samples.

        Args:
            factor: at least 1.
            size: samples of the coarser grid along its axes, in place of ``factor``.

        Raises:
            TypeError: if signals of this space cannot be made coarser.
            ValueError: if there is no such coarser grid.
        """
        raise TypeError(f"space: expected one with coarser grids, got {self}")

    @property
    def areas(self) -> Tensor | None:
        """The area of each base point, float64; None if all are equal."""
        return None

    @property
    def point_weights(self) -> Tensor | None:
        """The share of each base point in an integral, of mean one, broadcastable to signals; None if all are equal."""
        return None

    def check_signal(self, name: str, u: Tensor) -> Tensor:
        """Return ``u`` if it is a signal on this space, else raise an error that calls it ``name``.

        Args:
            name: what error messages call the signal.
            u: anything.

        Raises:
            TypeError: if ``u`` is not a floating tensor.
            ValueError: if its shape does not fit.
        """
        layout = self.layout
        return _checks.signal(name, u, layout.count(",") + 1, layout)


class HomogeneousSpace(Space):
    """A space on which a group acts transitively.

    Group elements are tensors ``[..., n]`` in the coordinates that the space documents. Lie algebra vectors are tensors
    ``[..., dim]`` in its left-invariant frame.
    """

    @abstractmethod
    def identity(self) -> Tensor:
        """Return the unit element, ``[n]``, float64."""

    @abstractmethod
    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """Return the group product ``g h`` of elements ``[..., n]``.

        Args:
            g: elements ``[..., n]``.
            h: elements; leading axes broadcast with those of ``g``. A point is moved by ``h`` first, then by ``g``.
        """

    @abstractmethod
    def inverse(self, g: Tensor) -> Tensor:
        """Return the inverse of elements ``[..., n]``.

        Args:
            g: elements ``[..., n]``.
        """

    @abstractmethod
    def exp(self, c: Tensor) -> Tensor:
        """Return the group exponential of Lie algebra vectors ``[..., dim]``.

        Args:
            c: components along the left-invariant frame.

        Returns:
            Elements ``[..., n]``.
        """

    @abstractmethod
    def log(self, g: Tensor) -> Tensor:
        """Return logarithmic coordinates of elements, ``[..., dim]``: the inverse of :meth:`exp` near the unit.

        Args:
            g: elements ``[..., n]``.
        """
