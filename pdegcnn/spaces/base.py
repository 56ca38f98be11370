"""What every space offers: a tensor layout and motions of signals; homogeneous spaces also a group law."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from pdegcnn import _checks


class Space(ABC):
    """What signals live on. Signals are plain tensors laid out as ``layout`` says.

    Vectors are tensors ``[..., dim]`` in the space's frame.
    """

    dim: ClassVar[int]
    """Dimension of the frame that carries vectors and metrics."""
    layout: ClassVar[str]
    """Axes of a signal, for example ``[B,C,Or,H,W]``."""
    terms: ClassVar[tuple[str, ...]] = ("convection", "diffusion", "dilation", "erosion")
    """PDE terms that exist on this space."""

    @property
    def signal_ndim(self) -> int:
        """Rank of a signal tensor."""
        return self.layout.count(",") + 1

    @abstractmethod
    def transform(self, signal: Tensor, **motion: object) -> Tensor:
        """Move a signal of this space, or of its base, or leave an invariant ``[B,K]`` as it is."""

    @abstractmethod
    def interior(self, signal: Tensor, **motion: object) -> Tensor:
        """Weights, broadcastable to ``signal``, of the part that a motion keeps inside the domain."""

    def check_signal(self, name: str, u: Tensor) -> Tensor:
        """Return ``u`` if it is a signal on this space, else raise ``TypeError`` or ``ValueError`` naming ``name``."""
        return _checks.signal(name, u, self.signal_ndim, self.layout)


class HomogeneousSpace(Space):
    """A space with the group that moves it.

    Group elements are tensors ``[..., dim]`` in the coordinates the space documents; Lie algebra vectors are tensors
    ``[..., dim]`` in its left-invariant frame.
    """

    @abstractmethod
    def identity(self) -> Tensor:
        """The unit element, ``[dim]``, float64."""

    @abstractmethod
    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The group product ``g h`` of elements ``[..., dim]``."""

    @abstractmethod
    def inverse(self, g: Tensor) -> Tensor:
        """The inverse of elements ``[..., dim]``."""

    @abstractmethod
    def exp(self, c: Tensor) -> Tensor:
        """The group exponential of Lie algebra vectors ``[..., dim]``."""

    @abstractmethod
    def log(self, g: Tensor) -> Tensor:
        """Logarithmic coordinates of elements ``[..., dim]``, the inverse of :meth:`exp` near the unit element."""
