"""The group of translations, which R2 and R3 share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor


class Translations:
    """Elements are vectors, composed by adding them; every approximation of the distance is exact."""

    dim: ClassVar[int]

    def identity(self) -> Tensor:
        """Return the zero vector."""
        return torch.zeros(self.dim, dtype=torch.float64, device="cpu")

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """Return the sum."""
        return g + h

    def inverse(self, g: Tensor) -> Tensor:
        """Return the negative."""
        return -g

    def exp(self, c: Tensor) -> Tensor:
        """Return the vector itself."""
        return c

    def log(self, g: Tensor) -> Tensor:
        """Return the element itself."""
        return g

    def half_angle(self, g: Tensor) -> Tensor:
        """Return the element itself."""
        return g
