"""From images to lifted signals."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._derived import Derived, Table
from pdegcnn.functional import cake_lift
from pdegcnn.kernels.filters import BASES, lifting_basis
from pdegcnn.nn._precision import in_parameter_precision
from pdegcnn.ops.padding import BOUNDARIES, pad
from pdegcnn.spaces import GridSpace, Space


class Lift(nn.Module):
    """Lift a signal on the base to the space; which module does it depends on the space (see ``LIFTS``).

    ``Lift(space, in_channels, out_channels, ...)`` gives the lift of that space, for SE(2) and the plane a
    :class:`PlanarLift`.
    """

    def __new__(cls, space: Space | None = None, *args: Any, **kwargs: Any) -> Lift:
        """An instance of the lift that serves ``space``."""
        if cls is Lift and space is not None:
            return object.__new__(_family(space, LIFTS))
        return object.__new__(cls)


def _family(space: Space, table: dict[type[Space], Any]) -> Any:
    for family, module in table.items():
        if isinstance(space, family):
            return module
    raise TypeError(f"space: expected one of {', '.join(f.__name__ for f in table)}, got {type(space).__name__}")


class PlanarLift(Derived, Lift):
    """Correlate an image with a trainable filter turned to each orientation, or with fixed cake wavelets.

    Args:
        space: SE(2), or the plane (then it is a convolution).
        in_channels: channels of the image.
        out_channels: channels of the lifted signal.
        kernel_size: odd width of the filters in pixels (unused by cake wavelets).
        filters: ``"steerable"`` (circular harmonics), ``"bspline"``, or ``"cake"``: fixed wavelets that lose nothing,
            whose real and imaginary parts are then mixed to ``out_channels`` by trainable weights.
        padding: ``"same"``, or 0 for the valid part only.
        boundary: outside the image ``"replicate"`` (nearest pixel), ``"zeros"`` or ``"periodic"`` (cake wavelets:
            always periodic).
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,H,W] -> [B,C',Or,H,W]`` (``[B,C',H,W]`` on the plane).

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.Lift(pg.SE2(8), 3, 16, kernel_size=7)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 16, 8, 32, 32])
    """

    basis: Tensor | None

    def __init__(
        self,
        space: GridSpace,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 5,
        *,
        filters: str = "steerable",
        padding: str | int = "same",
        boundary: str = "replicate",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, GridSpace, "R2 or SE2")
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        self.kernel_size = _checks.positive_int("kernel_size", kernel_size)
        _checks.odd("kernel_size", (kernel_size,))
        self.filters = _checks.choice("filters", filters, (*BASES, "cake"))
        self.padding = _checks.choice("padding", padding, ("same", 0))
        self.boundary = _checks.choice("boundary", boundary, BOUNDARIES)
        if filters == "cake":
            self.register_buffer("basis", None, persistent=False)
            functions = 2
        else:
            self._build(torch.empty(0, device=device, dtype=dtype))
            functions = self.get_buffer("basis").shape[1]
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, functions, device=device, dtype=dtype))
        self.reset_parameters()

    def _tables(self) -> list[Table]:
        if self.filters == "cake":
            return []
        return [("basis", None, lambda: lifting_basis(self.space, self.kernel_size, self.filters))]

    def reset_parameters(self) -> None:
        """Uniform, of a variance that keeps the scale of white noise."""
        bound = math.sqrt(3 / (self.in_channels * self.weight.shape[2]))
        nn.init.uniform_(self.weight, -bound, bound)

    def filter_bank(self) -> Tensor:
        """The filters of every orientation, ``[C',C,Or,K,K]``."""
        if self.basis is None:
            raise ValueError("filters: expected 'steerable' or 'bspline' for a filter bank, got 'cake'")
        return torch.einsum("dcn,onhw->dcohw", self.weight, self.basis)

    @in_parameter_precision
    def forward(self, image: Tensor) -> Tensor:
        """Lift ``image``."""
        _checks.signal("image", image, 4, "[B,C,H,W]")
        _checks.channels("image", image, self.in_channels, "[B,C,H,W]")
        _checks.same_kind("image", image, "the weights", self.weight)
        if self.filters == "cake":
            parts = torch.stack([cake_lift(image, self.space, part) for part in ("real", "imaginary")], dim=2)
            return self.space.from_grid(torch.einsum("bcnohw,dcn->bdohw", parts, self.weight))
        if self.padding == "same":
            margin = self.kernel_size // 2
            image = pad(image.unsqueeze(2), margin, margin, self.boundary).squeeze(2)
        elif min(image.shape[-2:]) < self.kernel_size:
            raise ValueError(
                f"image: expected at least {self.kernel_size} pixels a side for padding=0, got {tuple(image.shape)}"
            )
        bank = self.filter_bank().transpose(1, 2).flatten(0, 1)
        lifted = F.conv2d(image, bank).unflatten(1, (self.out_channels, self.space.orientations))
        return self.space.from_grid(lifted)

    def extra_repr(self) -> str:
        """Space, channels and filters."""
        return (
            f"{self.space}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"filters={self.filters!r}, padding={self.padding!r}, boundary={self.boundary!r}"
        )


LIFTS: dict[type[Space], type[Lift]] = {GridSpace: PlanarLift}
