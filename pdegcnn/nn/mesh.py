"""From functions on a mesh to its bundle of directions and back."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._dtypes import wide_dtype
from pdegcnn.nn._precision import in_parameter_precision
from pdegcnn.nn.lift import Lift
from pdegcnn.nn.project import Project
from pdegcnn.ops.transport_gather import transport_gather
from pdegcnn.ops.transport_gather.mixing import mix, to_rows
from pdegcnn.pde.mesh_stencils import filter_stencil
from pdegcnn.spaces import Mesh


class MeshLift(Lift):
    """Correlate a function on a mesh with trainable filters turned to each direction of each tangent plane.

    Filters are steerable, ``sum_k R_k(r) e^(i k theta)``, so that the lift commutes with every change of gauge by
    multiples of ``2 pi / N`` and the responses in between are trigonometric polynomials.

    Args:
        space: the mesh.
        in_channels: channels of the function.
        out_channels: channels of the lifted signal.
        kernel_size: diameter of the filters in units of the mesh, odd; it sets the number of radial profiles.
        frequencies: highest angular frequency k, below N/2; by default the highest up to 3.
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,V] -> [B,C',N,V]``.
    """

    def __init__(
        self,
        space: Mesh,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        frequencies: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, Mesh, "a Mesh")
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        self.kernel_size = _checks.positive_int("kernel_size", kernel_size)
        _checks.odd("kernel_size", (kernel_size,))
        highest = (space.directions - 1) // 2
        self.frequencies = min(3, highest) if frequencies is None else frequencies
        if isinstance(self.frequencies, bool) or not isinstance(self.frequencies, int):
            raise TypeError(f"frequencies: expected an int from 0 to {highest} or None, got {frequencies!r}")
        if not 0 <= self.frequencies <= highest:
            raise ValueError(
                f"frequencies: expected 0 to {highest} on {space.directions} directions, got {self.frequencies}"
            )
        self.radial = (kernel_size + 1) // 2
        factory = {"device": device, "dtype": dtype}
        self.centre = nn.Parameter(torch.empty(out_channels, in_channels, **factory))
        shape = (self.frequencies + 1, self.radial, out_channels, in_channels, 2)
        self.weight = nn.Parameter(torch.empty(shape, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform, of a variance that keeps the scale of smooth functions."""
        inputs = self.in_channels * (1 + self.radial * (self.frequencies + 1))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -math.sqrt(3 / inputs), math.sqrt(3 / inputs))

    @in_parameter_precision
    def forward(self, u: Tensor) -> Tensor:
        """Lift the function ``u``."""
        _checks.signal("u", u, 3, "[B,C,V]")
        if tuple(u.shape[1:]) != (self.in_channels, self.space.vertex_count):
            raise ValueError(
                f"u: expected {self.in_channels} channels and {self.space.vertex_count} vertices in [B,C,V], "
                f"got shape {tuple(u.shape)}"
            )
        _checks.same_kind("u", u, "the weights", self.weight)
        wide = wide_dtype(u.dtype)
        rows, radius = to_rows(u.to(wide)), self.kernel_size / 2
        angles = self.space.angles.to(u.device)
        lifted = (rows @ self.centre.to(wide).mT).transpose(1, 2).unsqueeze(2)
        for k in range(self.frequencies + 1):
            stencil = filter_stencil(self.space, 0, k, radius, self.radial, rows)
            field = transport_gather(mix(rows, self.weight[k].to(wide), conjugate=False), stencil)  # [B,V,2,C']
            waves = torch.stack(((k * angles).cos(), (k * angles).sin())).to(wide)
            lifted = lifted + torch.einsum("bvpc,pn->bcnv", field, waves)
        return lifted.to(u.dtype)

    def extra_repr(self) -> str:
        """Space, channels and filters."""
        return (
            f"{self.space}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"frequencies={self.frequencies}"
        )


class MeshProject(Project):
    """``[B,C,N,V] -> [B,C,V]``: the maximum or mean over directions.

    Args:
        space: the mesh.
        mode: ``"max"`` or ``"mean"``.
    """

    def __init__(self, space: Mesh, mode: str = "max") -> None:
        super().__init__()
        self.space = _checks.kind("space", space, Mesh, "a Mesh")
        self.mode = _checks.choice("mode", mode, ("max", "mean"))

    def forward(self, u: Tensor) -> Tensor:
        """Project ``u``."""
        self.space.check_signal("u", u)
        return u.amax(2) if self.mode == "max" else u.mean(2)

    def extra_repr(self) -> str:
        """Space and mode."""
        return f"{self.space}, mode={self.mode!r}"
