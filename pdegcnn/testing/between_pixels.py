"""Comparison at places between pixels, without interpolating what a model returns.

A spline through the samples of the input is a function that can be sampled anywhere: turned, and shifted by a part of a
pixel. For the turned input a model that commutes with motions of the plane returns at a pixel p what it returns, for
the input shifted so that R^-1 p is a pixel, at that pixel. Outputs with creases, such as maxima, are therefore read at
pixels only. A spline through them would be inaccurate at the creases, which is not an error of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pdegcnn.spaces.grid import pixel_positions, rotation, sample_image, turn_orientations

PLACES = 24
"""Outputs are compared at about this many pixels of the disk that the rotation keeps."""


class TurnedInput:
    """A signal as a function: at its samples, turned, and shifted.

    Args:
        signal: samples on a space, or an image, ``[B,C,(Or,)H,W]``; or a function from positions ``[H,W,2]``, (x, y) in
            pixels from the centre, to images ``[B,C,H,W]``.
        size: height and width, for a function.
        degrees: angle of the turn.
    """

    def __init__(self, signal: Tensor | Callable[[Tensor], Tensor], size: tuple[int, int], degrees: float) -> None:
        self.signal, self.size, self.turn = signal, size, math.radians(degrees)
        self.on_pixels = degrees % 180 == 0 or (degrees % 90 == 0 and size[0] == size[1])
        """Whether pixels move to pixels."""

    def _at(self, points: Tensor) -> Tensor:
        return self.signal(points) if callable(self.signal) else sample_image(self.signal, points)

    def still(self, x: float = 0.0, y: float = 0.0) -> Tensor:
        """Return the signal, read (x, y) pixels further on: what is there moves to the pixels."""
        return self._at(pixel_positions(self.size) + torch.tensor([x, y], dtype=torch.float64))

    def turned(self) -> Tensor:
        """Return the signal after the turn."""
        moved = self._at(_turned(pixel_positions(self.size), -self.turn))
        return turn_orientations(moved, self.turn) if moved.ndim == 5 else moved


def outputs_between_pixels(model: Callable[[Tensor], Tensor], signal: TurnedInput) -> tuple[Tensor, Tensor]:
    """Return what ``model`` gives for the turned signal and what it should: at some pixels, or all of ``[B,K]``."""
    moved = model(signal.turned())
    if moved.ndim < 4:
        return moved, model(signal.still())
    size = tuple(moved.shape[-2:])
    strides = [n / m for n, m in zip(signal.size, size)]
    found, wanted = [], []
    if not (places := _places(size)):
        raise ValueError(f"x: expected outputs with a pixel in the disk that the rotation keeps, got {size} pixels")
    for row, column in places:
        there = _turned(pixel_positions(size)[row, column], -signal.turn)
        centre = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], dtype=torch.float64)
        nearest = (there + centre).round()
        x, y = (there + centre - nearest).tolist()
        value = model(signal.still(x * strides[1], y * strides[0]))
        value = value[..., int(nearest[1]), int(nearest[0])][..., None, None]
        wanted.append(turn_orientations(value, signal.turn) if value.ndim == 5 else value)
        found.append(moved[..., row, column][..., None, None])
    return torch.cat(found, -1), torch.cat(wanted, -1)


def _places(size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return rows and columns of a few pixels in the disk that rotations keep, on a spiral of even density.

    Not on a lattice: a pattern in the output may have the same period.
    """
    radius = min(size) / 2 - 0.5
    found = []
    for k in range(PLACES):
        r, phi = radius * math.sqrt((k + 0.5) / PLACES), k * math.pi * (3 - math.sqrt(5))
        row, column = (size[0] - 1) / 2 + r * math.sin(phi), (size[1] - 1) / 2 + r * math.cos(phi)
        place = round(row), round(column)
        away = math.hypot(place[0] - (size[0] - 1) / 2, place[1] - (size[1] - 1) / 2)
        if away <= radius and place not in found:
            found.append(place)
    return found


def _turned(points: Tensor, angle: float) -> Tensor:
    return rotation(torch.tensor(angle, dtype=torch.float64), points)
