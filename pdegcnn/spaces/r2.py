"""The plane with its translations: PDE-CNNs on images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pdegcnn.spaces.grid import PlanarSpace, normalise_sizes
from pdegcnn.spaces.translations import Translations


@dataclass(frozen=True)
class R2(Translations, PlanarSpace):
    r"""The plane :math:`\R^2`, moved by translations; signals are images ``[B,C,H,W]``.

    Elements and vectors are ``(x, y)`` in pixels. Layers commute with translations. They commute with rotations only if
    the metric is isotropic and there is no convection. Source: *PDE-CNNs: Axiomatic Derivations* (arXiv 2403.15182).

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.R2().layout
        '[B,C,H,W]'
    """

    dim: ClassVar[int] = 2
    supported_terms: ClassVar[tuple[str, ...]] = (*PlanarSpace.supported_terms, "diffusion_shock")
    orientations: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def layout(self) -> str:
        """``[B,C,H,W]``."""
        return "[B,C,H,W]"

    @property
    def angles(self) -> Tensor:
        """The angle of the only frame, zero, ``[1]``."""
        return torch.zeros(1, dtype=torch.float64, device="cpu")

    def to_grid(self, u: Tensor) -> Tensor:
        """View ``[B,C,H,W]`` as ``[B,C,1,H,W]``.

        Args:
            u: images ``[B,C,H,W]``.
        """
        return u.unsqueeze(2)

    def from_grid(self, u: Tensor) -> Tensor:
        """View ``[B,C,1,H,W]`` as ``[B,C,H,W]``.

        Args:
            u: ``[B,C,1,H,W]``, as :meth:`to_grid` returns.
        """
        return u.squeeze(2)

    def kernel_sizes(self, kernel_size: int | Sequence[int]) -> tuple[int, int, int]:
        """Return the numbers of taps ``(1, KH, KW)``.

        Args:
            kernel_size: one odd number of pixels, or ``(KH, KW)``.

        Raises:
            TypeError: if it is neither an int nor a sequence.
            ValueError: for a number that is not positive and odd, or a sequence of other than two numbers.
        """
        kh, kw = normalise_sizes(kernel_size, 2, "(KH, KW)")
        return 1, kh, kw

    def taps_at(self, steps: Tensor, image: Tensor) -> Tensor:
        """Return the offset of the kernel's centre from each tap, ``[1,1,KH,KW,2]``.

        Args:
            steps: positions along the first axis, ``[1]``; not used.
            image: (x, y) of the taps from the centre, ``[KH,KW,2]`` or ``[1,KH,KW,2]``, in pixels.
        """
        return -image.expand(1, 1, *image.shape[-3:])
