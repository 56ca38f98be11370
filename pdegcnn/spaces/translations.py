"""The group of translations, which R2 and R3 share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pdegcnn.spaces.base import check_coordinates


class Translations:
    """Elements are vectors, composed by adding them; every approximation of the distance is exact."""

    dim: ClassVar[int]

    def identity(self) -> Tensor:
        """Return the zero vector."""
        return torch.zeros(self.dim, dtype=torch.float64, device="cpu")

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """Return the sum."""
        return check_coordinates("g", g, self.dim) + check_coordinates("h", h, self.dim)

    def inverse(self, g: Tensor) -> Tensor:
        """Return the negative."""
        return -check_coordinates("g", g, self.dim)

    def exp(self, c: Tensor) -> Tensor:
        """Return the vector itself."""
        return check_coordinates("c", c, self.dim)

    def log(self, g: Tensor) -> Tensor:
        """Return the element itself."""
        return check_coordinates("g", g, self.dim)

    def half_angle(self, g: Tensor) -> Tensor:
        """Return the element itself."""
        return check_coordinates("g", g, self.dim)
