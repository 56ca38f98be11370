"""Roto-translations of the plane: signals over positions and orientations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn.spaces.base import check_coordinates, sinc
from pdegcnn.spaces.grid import PlanarSpace, normalise_sizes, rotation

LAYOUT = "[B,C,Or,H,W]"


@dataclass(frozen=True)
class SE2(PlanarSpace):
    r"""The group SE(2) of roto-translations; signals ``[B,C,Or,H,W]`` over positions and orientations.

    Elements are ``(x, y, theta)`` in pixels and radians, with the product :math:`(x,R)(x',R') = (x + R x', R R')`. The
    left-invariant frame is (forward, lateral, turn): :math:`A_1 = \cos\theta\,\partial_x + \sin\theta\,\partial_y`,
    :math:`A_2 = -\sin\theta\,\partial_x + \cos\theta\,\partial_y`, :math:`A_3 = \partial_\theta`. Orientation ``i`` has
    the angle ``2 pi i / orientations``.

    Source: Smets et al., *PDE-based Group Equivariant CNNs* (arXiv 2001.09046), section 2.

    Args:
        orientations: number of sampled orientations, at least one. With a multiple of four, rotations by 90 degrees are
            exact.

    Example:
        >>> import torch, pdegcnn as pg
        >>> space = pg.SE2(orientations=8)
        >>> g = torch.tensor([1.0, 0.0, torch.pi / 2])  # one pixel forward, then a quarter turn
        >>> space.compose(g, g).round(decimals=3)
        tensor([1.0000, 1.0000, 3.1420])
    """

    orientations: int = 8
    dim: ClassVar[int] = 3
    supported_terms: ClassVar[tuple[str, ...]] = (*PlanarSpace.supported_terms, "diffusion_shock")
    has_orientations: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checks.positive_int("orientations", self.orientations)

    @property
    def layout(self) -> str:
        """``[B,C,Or,H,W]``."""
        return LAYOUT

    def identity(self) -> Tensor:
        """Return the unit element (0, 0, 0)."""
        return torch.zeros(3, dtype=torch.float64, device="cpu")

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """Return the product ``g h``, with its angle in (-pi, pi].

        Args:
            g: ``[..., 3]``: x and y in pixels, angle in radians.
            h: elements; leading axes broadcast with those of ``g``.
        """
        check_coordinates("g", g, 3)
        check_coordinates("h", h, 3)
        position = g[..., :2] + rotation(g[..., 2], h[..., :2])
        return torch.cat((position, _wrap(g[..., 2] + h[..., 2])[..., None]), dim=-1)

    def inverse(self, g: Tensor) -> Tensor:
        """Return the inverse :math:`(-R^{-1} x, R^{-1})`.

        Args:
            g: ``[..., 3]``: x and y in pixels, angle in radians.
        """
        check_coordinates("g", g, 3)
        return torch.cat((-rotation(-g[..., 2], g[..., :2]), _wrap(-g[..., 2])[..., None]), dim=-1)

    def exp(self, c: Tensor) -> Tensor:
        """Return the end of the arc that starts at the unit element with velocity ``c`` and lasts one unit of time.

        Args:
            c: ``[..., 3]``: pixels forward, pixels sideways and radians per unit of time.

        Returns:
            Elements ``[..., 3]``, the angle in (-pi, pi].
        """
        half = check_coordinates("c", c, 3)[..., 2] / 2
        chord = sinc(half)[..., None] * c[..., :2]
        return torch.cat((rotation(half, chord), _wrap(c[..., 2])[..., None]), dim=-1)

    def log(self, g: Tensor) -> Tensor:
        """Return logarithmic coordinates, with the angle in (-pi, pi]: the inverse of :meth:`exp` there.

        Args:
            g: ``[..., 3]``: x and y in pixels, angle in radians.

        Returns:
            Pixels forward, pixels sideways and radians, ``[..., 3]``.
        """
        return self.log_of_path(_within_a_turn(g))

    def half_angle(self, g: Tensor) -> Tensor:
        r"""Return the half-angle coordinates :math:`(R(-\theta/2)\,(x, y), \theta)`.

        The angle is in (-pi, pi]. Source: Bellaard et al., *Analysis of (sub-)Riemannian PDE-G-CNNs*, 2023.

        Args:
            g: ``[..., 3]``: x and y in pixels, angle in radians.
        """
        return self.half_angle_of_path(_within_a_turn(g))

    def half_angle_of_path(self, g: Tensor) -> Tensor:
        """Return half-angle coordinates of the arc that turns by all of the angle, which may lie outside (-pi, pi].

        Args:
            g: ``[..., 3]``: x and y in pixels, angle in radians.
        """
        check_coordinates("g", g, 3)
        return torch.cat((rotation(-g[..., 2] / 2, g[..., :2]), g[..., 2:]), dim=-1)

    def log_of_path(self, g: Tensor) -> Tensor:
        """Return logarithmic coordinates of the same arc.

        Args:
            g: ``[..., 3]``: x and y in pixels, angle in radians.
        """
        b = self.half_angle_of_path(g)
        return torch.cat((b[..., :2] / sinc(b[..., 2] / 2)[..., None], b[..., 2:]), dim=-1)

    @property
    def angles(self) -> Tensor:
        """The angle of each orientation, ``[Or]`` radians, float64."""
        return torch.arange(self.orientations, dtype=torch.float64, device="cpu") * self.angle_step

    @property
    def grid_spacing(self) -> Tensor:
        """One pixel, one pixel and one orientation step in radians."""
        return torch.tensor([1.0, 1.0, self.angle_step], dtype=torch.float64, device="cpu")

    def to_grid(self, u: Tensor) -> Tensor:
        """Return the signal itself.

        Args:
            u: ``[B,C,Or,H,W]``.
        """
        return u

    def from_grid(self, u: Tensor) -> Tensor:
        """Return the signal itself.

        Args:
            u: ``[B,C,Or,H,W]``.
        """
        return u

    def check_signal(self, name: str, u: Tensor) -> Tensor:
        """Return ``u`` if its layout is ``[B,C,Or,H,W]`` with this space's number of orientations, else raise.

        Args:
            name: what error messages call the signal.
            u: anything.

        Raises:
            TypeError: if ``u`` is not a floating tensor.
            ValueError: if its shape does not fit.
        """
        _checks.signal(name, u, 5, LAYOUT)
        if u.shape[2] != self.orientations:
            raise ValueError(
                f"{name}: expected {self.orientations} orientations on axis 2 of {self.layout}, "
                f"got shape {tuple(u.shape)}"
            )
        return u

    def kernel_sizes(self, kernel_size: int | Sequence[int]) -> tuple[int, int, int]:
        """Return the numbers of taps ``(KO, KH, KW)``; KO is limited to one turn around the circle.

        Args:
            kernel_size: one odd number, or ``(KO, KH, KW)``.
        """
        ko, kh, kw = normalise_sizes(kernel_size, 3, "(KO, KH, KW)")
        around = self.orientations + 1 - self.orientations % 2
        return min(ko, around), kh, kw

    def tap_weights(self, sizes: tuple[int, int, int], like: Tensor) -> Tensor:
        """Return the share of a grid cell that each tap stands for, ``[KO,1,1]``: one half for a tap met twice.

        Args:
            sizes: numbers of taps ``(KO, KH, KW)``; the first and last meet where KO is Or + 1.
            like: tensor that sets device and dtype.
        """
        weights = [1.0] * sizes[0]
        if sizes[0] == self.orientations + 1:
            weights[0] = weights[-1] = 0.5
        return torch.tensor(weights, dtype=like.dtype, device=like.device)[:, None, None]

    def taps_at(self, steps: Tensor, image: Tensor) -> Tensor:
        """Return :math:`h^{-1} g` for the centre g at each orientation and each tap h, ``[Or,KO,KH,KW,3]``.

        Positions are in pixels, angles in radians, in [-pi, pi] for taps within one turn.

        Args:
            steps: orientations of the taps from the centre, ``[KO]``, in orientation steps, float64.
            image: (x, y) of the taps from the centre, ``[KH,KW,2]`` or ``[KO,KH,KW,2]``, in pixels, float64.
        """
        turn = steps * self.angle_step
        angles = self.angles.to(steps.device)[:, None] + turn  # of the taps, [Or,KO]
        position = rotation(-angles[:, :, None, None], -image)
        turn = -turn[:, None, None, None].expand(*position.shape[:-1], 1)
        return torch.cat((position, turn), dim=-1)


def _within_a_turn(g: Tensor) -> Tensor:
    """Return elements with their angles in (-pi, pi]; those that are there keep every bit."""
    angle = check_coordinates("g", g, 3)[..., 2:]
    inside = (angle > -math.pi) & (angle <= math.pi)
    return torch.cat((g[..., :2], torch.where(inside, angle, _wrap(angle))), dim=-1)


def _wrap(angle: Tensor) -> Tensor:
    """Bring angles to (-pi, pi]."""
    return math.pi - torch.remainder(math.pi - angle, 2 * math.pi)
