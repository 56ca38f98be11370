"""Derivatives of smoothed signals along the frame of a space, and quantities computed from them on every space.

Each family of spaces has one subclass of :class:`Derivatives`. Sources: left-invariant derivatives, Smets et al. (arXiv
2001.09046), section 2; Gaussian derivatives, Koenderink (1984).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._derived import Derived
from pdegcnn.kernels.metric import safe_sqrt
from pdegcnn.spaces import Space

Smoothing = float | tuple[float, float]
"""Standard deviation of the smoothing in units of length, or (radians of orientation, units of length)."""
PAIRS = {2: ((0, 0), (1, 1), (0, 1)), 3: ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))}
"""Which products of two derivatives :meth:`Derivatives.second` gives, by the number of frame vectors."""


class Derivatives(Derived, ABC):
    """First and second derivatives of a smoothed signal, in float32 at least.

    Args:
        space: the space.
        smoothing: standard deviation of the Gaussian, in units of length of the space, or (radians of orientation,
            that); by default one grid step, and half a step of orientations.
        boundary: what lies outside an image; None on spaces without a border.
        like: a tensor of the dtype and device of the tables.

    Raises:
        ValueError: for a smoothing that is not positive or too wide, or a boundary that the space does not have.
        TypeError: if ``smoothing`` is not a number.
    """

    LARGEST: float
    """Greatest standard deviation in units of length."""

    def __init__(self, space: Space, smoothing: object, boundary: str | None, like: Tensor) -> None:
        super().__init__()
        self.space = space
        self.turn, self.length = self._deviations(smoothing)
        self._set_up(boundary, like)

    @abstractmethod
    def _set_up(self, boundary: str | None, like: Tensor) -> None:
        """Check the boundary and make the tables."""

    @abstractmethod
    def first(self, u: Tensor) -> Tensor:
        """Return the derivatives along the frame vectors, ``[dim, *u.shape]``."""

    @abstractmethod
    def second(self, u: Tensor) -> Tensor:
        """Return symmetric products ``(A_i A_j + A_j A_i) / 2`` of derivatives in the order of ``PAIRS``."""

    @abstractmethod
    def lateral(self, u: Tensor) -> Tensor:
        """Return the second derivative across lines: sideways of the direction, else along the gradient."""

    def gates(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return :meth:`first` and :meth:`lateral`; subclasses smooth only once for both."""
        return self.first(u), self.lateral(u)

    def _deviations(self, smoothing: object) -> tuple[float, float]:
        """Return the standard deviations in radians of orientation and in units of length."""
        turn, length = math.pi / self.space.orientations, grid_step(self.space)
        if isinstance(smoothing, tuple):
            given = cast("tuple[float, ...]", smoothing)
            if len(given) != 2:
                raise ValueError(f"smoothing: expected a number or (radians, units of length), got {smoothing!r}")
            turn, length = given
        elif smoothing is not None:
            length = cast("float", smoothing)
        _checks.number("smoothing", turn, 0.0, math.pi)
        _checks.number("smoothing", length, 0.0, self._largest(), open_low=True)
        return float(turn), float(length)

    def _largest(self) -> float:
        """Return the greatest standard deviation in units of length."""
        return self.LARGEST

    def extra_repr(self) -> str:
        """Return the standard deviations."""
        return f"smoothing=({self.turn:.3g}, {self.length:.3g})"


def grid_step(space: Space) -> float:
    """Return the length of a grid step in the units of the space."""
    with torch.device("cpu"):
        return float(space.metric_scale[0])


def squared_gradient(first: Tensor, inverse: Tensor) -> Tensor:
    """Return ``sum_ij D_ij A_i u A_j u`` of derivatives ``[dim,B,C,...]`` with inverse metrics ``D [C,m,m]``.

    One entry of D serves all channels; a single weight (m = 1) serves all directions.
    """
    if inverse.shape[-1] == 1:
        return (first**2).sum(0) * _on_channels(inverse[:, 0, 0], first[0])
    square = torch.zeros_like(first[0])
    for i, j in PAIRS[len(first)]:
        weight = _on_channels(inverse[:, i, j], first[0])
        square = square + (1 if i == j else 2) * weight * first[i] * first[j]
    return square.clamp_min(0)


def gradient_norm(derivatives: Derivatives, u: Tensor, inverse: Tensor) -> Tensor:
    """Return the length of the gradient in the metric whose inverse is ``[C,m,m]``; its derivative at zero is zero."""
    return safe_sqrt(squared_gradient(derivatives.first(u), inverse))


def laplacian(derivatives: Derivatives, u: Tensor, inverse: Tensor) -> Tensor:
    """Return ``sum_ij D_ij A_i A_j u``."""
    second = derivatives.second(u)
    pairs = PAIRS[2 if len(second) == 3 else 3]
    if inverse.shape[-1] == 1:
        return (second[0] + second[1]) * _on_channels(inverse[:, 0, 0], u)
    weights = [(1 if i == j else 2) * _on_channels(inverse[:, i, j], u) for i, j in pairs]
    return torch.stack([weight * part for weight, part in zip(weights, second)]).sum(0)


def along_gradient(second: Tensor, square: Tensor, twofold: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean second derivative along gradients nearby, weighted by their squared lengths.

    With one gradient it is the second derivative along it. On the crest of a line, where the gradient vanishes, those
    on both sides say which way is across.

    Args:
        second: second derivatives ``[3,B,C,...]`` along x, along y, and along both.
        square: smoothed ``|grad u|^2``.
        twofold: the smoothed square of the gradient as a complex number, ``(u_x^2 - u_y^2, 2 u_x u_y)``.
    """
    xx, yy, xy = second
    total = torch.maximum(square, safe_sqrt(twofold[0] ** 2 + twofold[1] ** 2))
    some = total > 0
    total = torch.where(some, total, 1.0)
    share = [torch.where(some, part / total, 0.0) for part in twofold]
    return (xx + yy + (xx - yy) * share[0] + 2 * xy * share[1]) / 2


def unit_scale(first: Tensor) -> Tensor:
    """Return gradients ``[2,B,C,...]`` divided by the greatest of each signal, so that squares stay in range."""
    most = first.detach().abs().amax((0, *range(3, first.ndim)), keepdim=True)
    return first / most.clamp_min(torch.finfo(first.dtype).tiny)


def _on_channels(weight: Tensor, u: Tensor) -> Tensor:
    """Return ``[C]`` (or one for all) shaped to multiply signals ``[B,C,...]``."""
    return weight.reshape(-1, *(1,) * (u.ndim - 2))
