"""Linear group convolutions that mix channels: the layers of G-CNNs on grids, on the sphere and on SO(3)."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._derived import Derived, Table
from pdegcnn._typing import Device, DType, Factory
from pdegcnn.kernels.filters import BASES, lifting_basis
from pdegcnn.kernels.sphere_filters import degree_profiles
from pdegcnn.nn._harmonics import HarmonicBasis, resolved_frequency
from pdegcnn.nn._precision import run_in_parameter_dtype
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.pde.sphere_oversample import transforms
from pdegcnn.spaces import PlanarSpace, RotationSpace
from pdegcnn.spaces.so3 import from_real_fibre, to_real_fibre


class GroupConv(Derived):
    """Channel-mixing group convolution with trainable filters, turned to each orientation.

    Args:
        space: SE(2) or the plane.
        in_channels: channels C.
        out_channels: channels C'.
        kernel_size: odd taps, one number or (orientations, image).
        filters: ``"steerable"`` or ``"bspline"`` basis of the image axes; each relative orientation has its own
            weights.
        bias: add a learned constant to each channel.
        boundary: outside the image ``"zeros"`` (the default), ``"replicate"`` or ``"periodic"``.
        padding_mode: torch's name for ``boundary``, where ``"circular"`` stands for ``"periodic"``.
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
        space: PlanarSpace,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 5,
        *,
        filters: str = "steerable",
        bias: bool = True,
        boundary: str | None = None,
        padding_mode: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _checks.kind("space", space, PlanarSpace, "R2 or SE2")
        ko, k = _checks.odd_sizes("kernel_size", kernel_size, 2)
        sizes = space.kernel_sizes((ko, k, k) if space.has_orientations else (k, k))
        self.space, self.boundary = space, _checks.border(boundary, padding_mode, "zeros")
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
        """Draw weights uniformly with a variance that keeps the scale of white noise; set the bias to zero."""
        bound = math.sqrt(3 / math.prod(self.weight.shape[1:]))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @run_in_parameter_dtype
    def forward(self, u: Tensor) -> Tensor:
        """Convolve ``u``.

        Args:
            u: a signal ``[B,C,H,W]`` on the plane or ``[B,C,Or,H,W]`` on SE(2).
        """
        grid = self.space.to_grid(self.space.check_signal("u", u))
        kernel = torch.einsum("dcan,onhw->dcoahw", self.weight, self.basis)
        out = group_convolution(grid, kernel, boundary=self.boundary)
        if self.bias is not None:
            out = out + self.bias[:, None, None, None]
        return self.space.from_grid(out)

    def extra_repr(self) -> str:
        """Return the space, channels and filters."""
        sizes = f"{self.in_channels}, {self.out_channels}, orientation taps={self.weight.shape[2]}"
        return f"{self.space}, {sizes}, filters={self.filters!r}"


class SphereConv(Derived):
    """Group convolution that mixes channels: the layer of classical spherical networks.

    By Schur's lemma a linear map commutes with rotations exactly if it acts on each degree separately and keeps the
    order m: on the sphere by one number per degree and pair of channels, on SO(3) by a matrix over the fibre orders.
    Here these are piecewise linear functions of the degree. Sources: Cohen et al., *Spherical CNNs* (arXiv 1801.10130);
    Gerken et al. (arXiv 2105.13926), section 4.

    Args:
        space: SO(3) or the sphere, over a grid of rings.
        in_channels: channels C of the input.
        out_channels: channels C' of the output.
        num_radial: number of knots over the degree, at least one.
        max_frequency: highest angular frequency N of the map; higher ones are dropped. None: all that the orientations
            resolve.
        bias: add a learned constant to each channel.
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,...] -> [B,C',...]`` laid out as ``space.layout``.

    Raises:
        ValueError: if ``max_frequency`` exceeds what the fibre resolves, or the grid has no rings.

    Example:
        >>> import torch, pdegcnn as pg
        >>> sphere = pg.S2(pg.sphere.SphereGrid.gauss_legendre(8))
        >>> pg.nn.SphereConv(sphere, 2, 3)(torch.rand(1, 2, 8, 16)).shape
        torch.Size([1, 3, 8, 16])
    """

    def __init__(
        self,
        space: RotationSpace,
        in_channels: int,
        out_channels: int,
        num_radial: int = 5,
        *,
        max_frequency: int | None = None,
        bias: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, RotationSpace, "S2 or SO3")
        _checks.flag("bias", bias)
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        self.num_radial = _checks.positive_int("num_radial", num_radial)
        self.max_frequency = resolved_frequency(space, max_frequency)
        kind: Factory = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        self.analysis, self.synthesis = transforms(space, nmax=self.max_frequency, **kind)
        lmax = space.grid.band
        self.basis = HarmonicBasis(
            partial(degree_profiles, lmax, num_radial), (num_radial, lmax + 1), torch.empty(0, **kind)
        )
        width = 2 * self.max_frequency + 1
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, num_radial, width, width, **kind))
        self.bias = nn.Parameter(torch.empty(out_channels, **kind)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniformly with a variance that keeps the scale of white noise; set the bias to zero."""
        bound = math.sqrt(3 / (self.in_channels * self.weight.shape[-1]))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @run_in_parameter_dtype
    def forward(self, u: Tensor) -> Tensor:
        """Convolve ``u``.

        Args:
            u: a signal ``[B,C,*grid.shape]`` on S2 or ``[B,C,fibre,*grid.shape]`` on SO(3).
        """
        self.space.check_signal("u", u)
        _checks.channels("u", u, self.in_channels, self.space.layout)
        _checks.same_kind("u", u, "the weights", self.weight)
        columns = self.analysis(u)
        on_group = self.space.has_orientations
        real = to_real_fibre(columns) if on_group else columns[..., None]  # [B,C,l,m,n]: real maps keep signals real
        profiles = self.basis.get_buffer("functions")
        matrices = torch.einsum("oiknp,kl->oilnp", self.weight.to(profiles.dtype), profiles)
        mixed = torch.einsum("bilmn,oilnp->bolmp", real, matrices.to(real.dtype))
        value = self.synthesis(from_real_fibre(mixed) if on_group else mixed[..., 0]).to(u.dtype)
        return value if self.bias is None else value + self.bias.view(-1, *(1,) * (value.ndim - 2))

    def extra_repr(self) -> str:
        """Return the space, channels and resolution."""
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{self.space}, {channels}, num_radial={self.num_radial}, max_frequency={self.max_frequency}"
