"""Trainable linear group convolution on grids: the layer of a G-CNN."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._derived import Derived, Table
from pdegcnn.kernels.filters import BASES, lifting_basis
from pdegcnn.nn._precision import in_parameter_precision
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.spaces import GridSpace


class GroupConv(Derived):
    """Channel-mixing group convolution with trainable filters, turned to each orientation.

    Args:
        space: SE(2) or the plane.
        in_channels: channels C.
        out_channels: channels C'.
        kernel_size: odd taps, one number or (orientations, image).
        filters: ``"steerable"`` or ``"bspline"`` basis of the image axes; each relative orientation has its own
            weights.
        bias: whether a constant is added per channel.
        boundary: outside the image ``"zeros"``, ``"replicate"`` or ``"periodic"``.
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,...] -> [B,C',...]`` laid out as ``space.layout``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.GroupConv(pg.SE2(8), 4, 6, (3, 5))(torch.rand(1, 4, 8, 9, 9)).shape
        torch.Size([1, 6, 8, 9, 9])
    """

    basis: Tensor

    def __init__(
        self,
        space: GridSpace,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 5,
        *,
        filters: str = "steerable",
        bias: bool = True,
        boundary: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _checks.kind("space", space, GridSpace, "R2 or SE2")
        ko, k = _checks.odd_sizes("kernel_size", kernel_size, 2)
        sizes = space.kernel_sizes((ko, k, k) if space.dim == 3 else (k, k))
        self.space, self.boundary = space, boundary
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        _checks.flag("bias", bias)
        self.filters = _checks.choice("filters", filters, tuple(BASES))
        self.taps = k
        self._build(torch.empty(0, device=device, dtype=dtype))
        shape = (out_channels, in_channels, sizes[0], self.basis.shape[1])
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def _tables(self) -> list[Table]:
        return [("basis", None, lambda: lifting_basis(self.space, self.taps, self.filters))]

    def reset_parameters(self) -> None:
        """Uniform, of a variance that keeps the scale of white noise; bias zero."""
        bound = math.sqrt(3 / math.prod(self.weight.shape[1:]))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @in_parameter_precision
    def forward(self, u: Tensor) -> Tensor:
        """Convolve ``u``."""
        grid = self.space.to_grid(self.space.check_signal("u", u))
        kernel = torch.einsum("dcan,onhw->dcoahw", self.weight, self.basis)
        out = group_convolution(grid, kernel, boundary=self.boundary)
        if self.bias is not None:
            out = out + self.bias[:, None, None, None]
        return self.space.from_grid(out)

    def extra_repr(self) -> str:
        """Space, channels and filters."""
        sizes = f"{self.in_channels}, {self.out_channels}, orientation taps={self.weight.shape[2]}"
        return f"{self.space}, {sizes}, filters={self.filters!r}"
