"""Lift signals from the base of a space to the space: from images, spherical signals, functions on a mesh."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pdegcnn import _checks, sphere
from pdegcnn._derived import Derived, Table
from pdegcnn._dtypes import wide_dtype
from pdegcnn._typing import Factory
from pdegcnn.functional import cake_lift
from pdegcnn.kernels.filters import BASES, lifting_basis
from pdegcnn.kernels.sphere_filters import cake_basis, full_orders, localised_basis, spectral_basis
from pdegcnn.nn._harmonics import HarmonicBasis, resolved_frequency
from pdegcnn.nn._precision import run_in_parameter_dtype
from pdegcnn.nn.resample import Downsample
from pdegcnn.ops.padding import BOUNDARIES, pad
from pdegcnn.ops.transport_gather import transport_gather
from pdegcnn.ops.transport_gather.mixing import mix, to_rows
from pdegcnn.pde.mesh_stencils import filter_stencil
from pdegcnn.spaces import R3, Mesh, PlanarSpace, RotationSpace, Space, by_family
from pdegcnn.spaces.s2 import check_base, point_spacing
from pdegcnn.sphere._tables import Array

SPHERE_FILTERS = ("steerable", "spectral", "cake")


class LiftLayer(nn.Module):
    """Base class of the lifts of all families of spaces; :func:`Lift` makes the one that serves a space."""

    space: Any
    """Of the family of spaces that the layer serves; so is ``out_space``."""
    stride: int = 1
    out_space: Any
    """Where the result lives, on ``space``, or with a stride on the coarser one of :class:`pdegcnn.nn.Downsample`."""

    def _stride(self, stride: int) -> Downsample | None:
        """Take a stride, and return the layer that coarsens the result, if it is needed."""
        self.stride = _checks.positive_int("stride", stride)
        try:
            down = Downsample(self.space, stride) if stride > 1 else None
        except ValueError as error:
            wanted = f"a stride that leaves at least two rings of {self.space}"
            raise ValueError(f"stride: expected {wanted}, got {stride}") from error
        self.out_space = self.space if down is None else down.out_space
        return down

    def _extra_stride(self) -> str:
        return f", stride={self.stride}" if self.stride > 1 else ""


class GridLift(Derived, LiftLayer):
    """Lift an image to orientations: correlate it with a trainable filter turned to each, or with cake wavelets.

    Args:
        space: SE(2), or the plane, where the lift is a convolution.
        in_channels: channels of the image.
        out_channels: channels of the lifted signal.
        kernel_size: odd width of the filters in pixels (unused by cake wavelets); 9 for smooth filters, else 5.
        filters: ``"smooth"`` (Gaussians times the harmonics up to half the band of the orientations: accurate also for
            angles between the orientations), ``"steerable"`` (rings times circular harmonics: more filters),
            ``"bspline"``, or ``"cake"``: fixed invertible wavelets, whose real and imaginary parts are mixed to
            ``out_channels`` by trainable weights. Default: ``"smooth"`` on SE(2) without ``kernel_size``, else
            ``"steerable"``.
        padding: ``"same"``, or 0 for the valid part only.
        boundary: outside the image ``"replicate"`` (nearest pixel, the default), ``"zeros"`` or ``"periodic"`` (cake
            wavelets are always periodic).
        padding_mode: torch's name for ``boundary``, where ``"circular"`` stands for ``"periodic"``.
        stride: factor by which the result is coarser, without aliasing (by :class:`pdegcnn.nn.Downsample`).
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,H,W] -> [B,C',Or,h,w]`` (``[B,C',h,w]`` on the plane), ``h = ceil(H / stride)``,
        ``w = ceil(W / stride)``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.Lift(pg.SE2(8), 3, 16, kernel_size=7)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 16, 8, 32, 32])
    """

    space: PlanarSpace
    basis: Tensor | None

    def __init__(
        self,
        space: PlanarSpace,
        in_channels: int,
        out_channels: int,
        kernel_size: int | None = None,
        *,
        filters: str | None = None,
        padding: str | int = "same",
        boundary: str | None = None,
        padding_mode: str | None = None,
        stride: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, PlanarSpace, "R2 or SE2")
        self.down = self._stride(stride)
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        if filters is None:
            filters = "smooth" if kernel_size is None and space.has_orientations else "steerable"
        self.filters = _checks.choice("filters", filters, (*BASES, "cake"))
        size = (9 if filters == "smooth" else 5) if kernel_size is None else kernel_size
        self.kernel_size = _checks.positive_int("kernel_size", size)
        _checks.odd("kernel_size", (size,))
        self.padding = _checks.choice("padding", padding, ("same", 0))
        outside = _checks.border(boundary, padding_mode, "replicate")
        self.boundary = _checks.choice("boundary", outside, BOUNDARIES)
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
        """Draw weights uniformly with a variance that keeps the scale of white noise."""
        bound = math.sqrt(3 / (self.in_channels * self.weight.shape[2]))
        nn.init.uniform_(self.weight, -bound, bound)

    def filter_bank(self) -> Tensor:
        """Return the filters of every orientation, ``[C',C,Or,K,K]``."""
        if self.basis is None:
            raise ValueError("filters: expected 'smooth', 'steerable' or 'bspline' for a filter bank, got 'cake'")
        return torch.einsum("dcn,onhw->dcohw", self.weight, self.basis)

    @run_in_parameter_dtype
    def forward(self, image: Tensor) -> Tensor:
        """Lift ``image``.

        Args:
            image: ``[B,C,H,W]``.

        Returns:
            ``[B,C',Or,H,W]`` on SE(2), ``[B,C',H,W]`` on the plane.
        """
        _checks.signal("image", image, 4, "[B,C,H,W]")
        _checks.channels("image", image, self.in_channels, "[B,C,H,W]")
        _checks.same_kind("image", image, "the weights", self.weight)
        if self.filters == "cake":
            parts = torch.stack([cake_lift(image, self.space, part) for part in ("real", "imaginary")], dim=2)
            return self._made_coarser(self.space.from_grid(torch.einsum("bcnohw,dcn->bdohw", parts, self.weight)))
        if self.padding == "same":
            margin = self.kernel_size // 2
            image = pad(image.unsqueeze(2), margin, margin, self.boundary).squeeze(2)
        elif min(image.shape[-2:]) < self.kernel_size:
            raise ValueError(
                f"image: expected at least {self.kernel_size} pixels a side for padding=0, got {tuple(image.shape)}"
            )
        bank = self.filter_bank().transpose(1, 2).flatten(0, 1)
        lifted = torch.unflatten(F.conv2d(image, bank), 1, (self.out_channels, self.space.orientations))
        return self._made_coarser(self.space.from_grid(lifted))

    def _made_coarser(self, lifted: Tensor) -> Tensor:
        return lifted if self.down is None else self.down(lifted)

    def extra_repr(self) -> str:
        """Return the space, channels and filters."""
        return (
            f"{self.space}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"filters={self.filters!r}, padding={self.padding!r}, boundary={self.boundary!r}{self._extra_stride()}"
        )


class VolumeLift(LiftLayer):
    """Convolve a volume with trainable filters: the first layer of networks on volumes, which have no orientations.

    Args:
        space: R3.
        in_channels: channels of the volume.
        out_channels: channels of the result.
        kernel_size: odd number of voxels across the filters, one for all axes or (slices, rows, columns).
        padding: ``"same"``, or 0 for the valid part only.
        boundary: outside the volume ``"replicate"`` (nearest voxel, the default), ``"zeros"`` or ``"periodic"``.
        padding_mode: torch's name for ``boundary``, where ``"circular"`` stands for ``"periodic"``.
        stride: factor by which the result is coarser, without aliasing (by :class:`pdegcnn.nn.Downsample`).
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,D,H,W] -> [B,C',d,h,w]``, each axis ``ceil(size / stride)``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.Lift(pg.R3(), 1, 4)(torch.rand(1, 1, 8, 12, 12)).shape
        torch.Size([1, 4, 8, 12, 12])
    """

    def __init__(
        self,
        space: R3,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int] = 3,
        *,
        padding: str | int = "same",
        boundary: str | None = None,
        padding_mode: str | None = None,
        stride: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, R3, "R3")
        self.down = self._stride(stride)
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        self.kernel_size = _checks.odd_sizes("kernel_size", kernel_size, 3)
        self.padding = _checks.choice("padding", padding, ("same", 0))
        outside = _checks.border(boundary, padding_mode, "replicate")
        self.boundary = _checks.choice("boundary", outside, BOUNDARIES)
        shape = (out_channels, in_channels, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniformly with a variance that keeps the scale of white noise."""
        bound = math.sqrt(3 / math.prod(self.weight.shape[1:]))
        nn.init.uniform_(self.weight, -bound, bound)

    @run_in_parameter_dtype
    def forward(self, volume: Tensor) -> Tensor:
        """Convolve a volume with the filters, to ``[B,C',d,h,w]``.

        Args:
            volume: ``[B,C,D,H,W]``; with ``padding=0`` no smaller than the filters.
        """
        self.space.check_signal("volume", volume)
        _checks.channels("volume", volume, self.in_channels, "[B,C,D,H,W]")
        _checks.same_kind("volume", volume, "the weights", self.weight)
        if self.padding == "same":
            slices, rows, columns = (size // 2 for size in self.kernel_size)
            volume = pad(volume, rows, columns, self.boundary, slices)
        elif any(n < size for n, size in zip(volume.shape[2:], self.kernel_size)):
            raise ValueError(
                f"volume: expected at least {self.kernel_size} voxels per axis, got shape {tuple(volume.shape)}"
            )
        out = F.conv3d(volume, self.weight)
        return out if self.down is None else self.down(out)

    def extra_repr(self) -> str:
        """Return the space, channels and filters."""
        return (
            f"{self.space}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"padding={self.padding!r}, boundary={self.boundary!r}{self._extra_stride()}"
        )


class SphereLift(Derived, LiftLayer):
    r"""Lift a spherical signal to rotations with trainable filters: :math:`\int f(x)\, \psi(R^{-1} x)\, dx`.

    In the harmonic domain this is :math:`W^l_{mn} = \sqrt{4 \pi/(2l+1)}\; f_{lm}\, \overline{\psi_{ln}}`: exact for
    band-limited signals, and it commutes with rotations exactly. On S2 filters are zonal (n = 0), and the result lives
    on the sphere. Sources: Cohen et al., *Spherical CNNs* (arXiv 1801.10130); Kostelec & Rockmore (2008).

    Args:
        space: SO(3) or the sphere.
        in_channels: channels of the spherical signal.
        out_channels: channels of the result.
        kernel_size: odd number of grid steps across a steerable filter.
        filters: ``"steerable"`` (localised rings times angular harmonics), ``"spectral"`` (piecewise linear profiles
            over the degree, not localised) or ``"cake"``: fixed invertible wavelets (the mean over orientations of
            their even part is the signal), whose even and odd parts are mixed by trainable weights.
        num_radial: number of knots over the degree of the radial profiles of spectral filters.
        max_frequency: highest angular frequency N of the filters; None: all that the orientations resolve.
        stride: factor by which the grid of the result, ``out_space.grid``, is coarser; coefficients beyond its band are
            not computed.
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,*grid.shape] -> [B,C',Or,*out_space.grid.shape]`` (``[B,C',*out_space.grid.shape]`` on the sphere).

    Raises:
        ValueError: for sizes that do not fit, or more frequencies than the orientations resolve (``2 N + 1 > Or``).

    Example:
        >>> import torch, pdegcnn as pg
        >>> grid = pg.sphere.SphereGrid.gauss_legendre(8)
        >>> pg.nn.Lift(pg.SO3(grid, orientations=4), 2, 3)(torch.rand(1, 2, 8, 16)).shape
        torch.Size([1, 3, 4, 8, 16])
    """

    space: RotationSpace
    out_space: RotationSpace

    def __init__(
        self,
        space: RotationSpace,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 5,
        *,
        filters: str = "steerable",
        num_radial: int = 5,
        max_frequency: int | None = None,
        stride: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, RotationSpace, "S2 or SO3")
        self._stride(stride)
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        self.kernel_size = _checks.positive_int("kernel_size", kernel_size)
        _checks.odd("kernel_size", (kernel_size,))
        self.num_radial = _checks.positive_int("num_radial", num_radial)
        self.filters = _checks.choice("filters", filters, SPHERE_FILTERS)
        kind: Factory = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        grid = self.out_space.grid
        self.max_frequency = resolved_frequency(self.out_space, max_frequency)
        self.analysis = sphere.RealSHT(space.grid, lmax=min(space.grid.band, grid.band), **kind)
        self.synthesis = (
            sphere.InverseSO3FFT(grid, space.orientations, nmax=self.max_frequency, **kind)
            if space.has_orientations
            else sphere.InverseRealSHT(grid, **kind)
        )
        make, shape = self._functions()
        self.basis = HarmonicBasis(make, shape, torch.empty(0, **kind))
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *self._weights(shape), **kind))
        self.reset_parameters()

    def _functions(self) -> tuple[Callable[[], Array], tuple[int, ...]]:
        lmax, spacing = self.space.grid.band, point_spacing(self.space.grid)
        knots = (self.kernel_size + 1) // 2
        if self.filters == "steerable":
            shape = knots, self.max_frequency + 1, lmax + 1
            return partial(localised_basis, lmax, self.max_frequency, knots, spacing), shape
        if self.filters == "spectral":
            shape = self.num_radial, self.max_frequency + 1, lmax + 1
            return partial(spectral_basis, lmax, self.max_frequency, self.num_radial), shape
        return partial(cake_basis, lmax, self.max_frequency, self.space.orientations), (
            2,
            self.max_frequency + 1,
            lmax + 1,
        )

    def _weights(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0],) if self.filters == "cake" else (shape[0], 2 * self.max_frequency + 1)

    def reset_parameters(self) -> None:
        """Draw weights uniformly with a variance that keeps the scale of white noise."""
        bound = math.sqrt(3 / math.prod(self.weight.shape[1:]))
        nn.init.uniform_(self.weight, -bound, bound)

    def filter_coefficients(self) -> Tensor:
        r"""Return the harmonic coefficients :math:`\psi_{ln}` of the filters, complex ``[C',C,lmax+1,2N+1]``."""
        functions = self.basis.get_buffer("functions")
        weight = self.weight.to(functions.dtype)
        if self.filters == "cake":
            even, odd = functions[0].mT, functions[1].mT  # [l,n]
            weight = weight[..., None, None]
            return full_orders(torch.complex(weight[:, :, 0] * even, -weight[:, :, 1] * odd))
        cosine, sine = weight[..., self.max_frequency :], weight[..., : self.max_frequency].flip(-1)
        real = torch.einsum("oikn,knl->oiln", cosine, functions)
        imaginary = torch.einsum("oikn,knl->oiln", sine, functions[:, 1:])
        half = torch.complex(real, -nn.functional.pad(imaginary, (1, 0)))
        share = torch.where(torch.arange(self.max_frequency + 1, device=real.device) > 0, 0.5, 1.0).to(real.dtype)
        return full_orders(half * share)

    @run_in_parameter_dtype
    def forward(self, signal: Tensor) -> Tensor:
        """Lift a function on the sphere to ``[B,C',Or,*out_space.grid.shape]``; on S2 without the axis ``Or``.

        Args:
            signal: ``[B,C,*grid.shape]``.
        """
        layout = "[B,C,nlat,nlon]" if len(self.space.grid.shape) == 2 else "[B,C,P]"
        _checks.signal("signal", signal, 2 + len(self.space.grid.shape), layout)
        check_base("signal", signal, self.space.grid)
        _checks.channels("signal", signal, self.in_channels, layout)
        _checks.same_kind("signal", signal, "the weights", self.weight)
        coefficients = self.analysis(signal)
        degree = torch.arange(coefficients.shape[-1], dtype=coefficients.real.dtype, device=signal.device)
        scale = (4 * math.pi / (2 * degree + 1)).sqrt()
        psi = self.filter_coefficients()[..., : len(degree), :].conj() * scale[:, None]
        lifted = torch.einsum("bilm,oiln->bolmn", coefficients, psi)
        return self.synthesis(lifted if self.space.has_orientations else lifted[..., 0]).to(signal.dtype)

    def extra_repr(self) -> str:
        """Return the space, channels and filters."""
        return (
            f"{self.space}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"filters={self.filters!r}, max_frequency={self.max_frequency}{self._extra_stride()}"
        )


def _checked_frequency(max_frequency: object, orientations: int) -> int:
    """Return the highest angular frequency of filters on a mesh, or raise unless the directions resolve it."""
    highest = (orientations - 1) // 2
    frequency = min(3, highest) if max_frequency is None else max_frequency
    if isinstance(frequency, bool) or not isinstance(frequency, int):
        raise TypeError(f"max_frequency: expected an int from 0 to {highest} or None, got {max_frequency!r}")
    if not 0 <= frequency <= highest:
        raise ValueError(f"max_frequency: expected 0 to {highest} on {orientations} directions, got {frequency}")
    return frequency


class MeshLift(LiftLayer):
    r"""Lift a function to directions: correlate it with trainable filters turned to each direction at each vertex.

    Filters are steerable, :math:`\sum_k R_k(r)\, e^{i k \theta}`. The lift therefore commutes with changes of gauge by
    multiples of ``2 pi / Or``, and responses between directions are trigonometric polynomials.

    Args:
        space: the mesh.
        in_channels: channels of the function.
        out_channels: channels of the lifted signal.
        radius: radius of the filters in units of the mesh.
        num_radial: number of radial profiles.
        max_frequency: highest angular frequency k, below Or/2; None: as high as possible up to 3.
        stride: factor by which the mean edge of the result's mesh is longer (by :class:`pdegcnn.nn.Downsample`).
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,V] -> [B,C',Or,W]``, where W is the number of vertices of ``out_space``.
    """

    space: Mesh

    def __init__(
        self,
        space: Mesh,
        in_channels: int,
        out_channels: int,
        *,
        radius: float = 1.5,
        num_radial: int = 2,
        max_frequency: int | None = None,
        stride: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, Mesh, "a Mesh")
        self.down = self._stride(stride)
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        _checks.number("radius", radius, 0.0, math.inf, open_low=True)
        self.radius, self.num_radial = float(radius), _checks.positive_int("num_radial", num_radial)
        self.max_frequency = _checked_frequency(max_frequency, space.orientations)
        factory: Factory = {"device": device, "dtype": dtype}
        self.centre = nn.Parameter(torch.empty(out_channels, in_channels, **factory))
        shape = (self.max_frequency + 1, self.num_radial, out_channels, in_channels, 2)
        self.weight = nn.Parameter(torch.empty(shape, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniformly with a variance that keeps the scale of smooth functions."""
        inputs = self.in_channels * (1 + self.num_radial * (self.max_frequency + 1))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -math.sqrt(3 / inputs), math.sqrt(3 / inputs))

    @run_in_parameter_dtype
    def forward(self, u: Tensor, mesh: Mesh | None = None) -> Tensor:
        """Lift the function ``u``; ``mesh`` replaces the constructor's mesh if given.

        Args:
            u: a function on the vertices, ``[B,C,V]``.
            mesh: where ``u`` lives, if that is another mesh than the layer was built for.
        """
        space = self.space if mesh is None else _checks.kind("mesh", mesh, Mesh, "a Mesh")
        if space.orientations != self.space.orientations:
            raise ValueError(f"mesh: expected {self.space.orientations} orientations, got {space.orientations}")
        _checks.signal("u", u, 3, "[B,C,V]")
        if tuple(u.shape[1:]) != (self.in_channels, space.vertex_count):
            raise ValueError(
                f"u: expected {self.in_channels} channels and {space.vertex_count} vertices in [B,C,V], "
                f"got shape {tuple(u.shape)}"
            )
        _checks.same_kind("u", u, "the weights", self.weight)
        wide = wide_dtype(u.dtype)
        rows, radius = to_rows(u.to(wide)), self.radius
        angles = space.angles.to(u.device)
        lifted = (rows @ self.centre.to(wide).mT).transpose(1, 2).unsqueeze(2)
        for k in range(self.max_frequency + 1):
            stencil = filter_stencil(space, 0, k, radius, self.num_radial, rows)
            field = transport_gather(mix(rows, self.weight[k].to(wide), conjugate=False), stencil)  # [B,V,2,C']
            waves = torch.stack(((k * angles).cos(), (k * angles).sin())).to(wide)
            lifted = lifted + torch.einsum("bvpc,pn->bcnv", field, waves)
        lifted = lifted.to(u.dtype)
        return lifted if self.down is None else self.down(lifted, mesh)

    def extra_repr(self) -> str:
        """Return the space, channels and filters."""
        return (
            f"{self.space}, {self.in_channels}, {self.out_channels}, radius={self.radius}, "
            f"max_frequency={self.max_frequency}{self._extra_stride()}"
        )


LIFTS: dict[type[Space], type[LiftLayer]] = {
    PlanarSpace: GridLift,
    R3: VolumeLift,
    RotationSpace: SphereLift,
    Mesh: MeshLift,
}
"""The lift of each family of spaces."""


def Lift(  # noqa: N802 - reads as the class that it makes
    space: Space,
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int, int] | None = None,
    *,
    filters: str | None = None,
    padding: str | int | None = None,
    boundary: str | None = None,
    padding_mode: str | None = None,
    radius: float | None = None,
    num_radial: int | None = None,
    max_frequency: int | None = None,
    stride: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> LiftLayer:
    """Build the layer that lifts signals from the base of ``space`` to ``space``.

    It is a :class:`GridLift`, a :class:`VolumeLift`, a :class:`SphereLift` or a :class:`MeshLift`, which document the
    default values of the options.

    Args:
        space: the space.
        in_channels: channels of the signal on the base.
        out_channels: channels of the lifted signal.
        kernel_size: odd number of taps across the filters, on grids and spheres; on volumes also three numbers.
        filters: family of filters, on grids and spheres.
        padding: ``"same"``, or 0 for the valid part only, on grids.
        boundary: what lies outside the image, on grids.
        padding_mode: torch's name for ``boundary``.
        radius: radius of the filters in units of the mesh.
        num_radial: number of radial profiles, on meshes and for spectral filters on spheres.
        max_frequency: highest angular frequency of the filters, on spheres and meshes.
        stride: factor by which the result is coarser, without aliasing; it lives on the layer's ``out_space``.
        device: where the parameters live.
        dtype: their dtype.

    Returns:
        The layer.

    Raises:
        TypeError: if ``space`` has no lift.
        ValueError: if an option is out of range, or the space does not have it.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.Lift(pg.SE2(8), 3, 16, kernel_size=7)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 16, 8, 32, 32])
    """
    layer = by_family(space, LIFTS)
    if layer is None:
        raise TypeError(f"space: expected one of {', '.join(f.__name__ for f in LIFTS)}, got {type(space).__name__}")
    options = {
        "kernel_size": kernel_size,
        "filters": filters,
        "padding": padding,
        "boundary": boundary,
        "padding_mode": padding_mode,
        "radius": radius,
        "num_radial": num_radial,
        "max_frequency": max_frequency,
        "stride": None if _checks.positive_int("stride", stride) == 1 else stride,
    }
    given = _known_to(layer, options, space)
    return layer(space, in_channels, out_channels, **given, device=device, dtype=dtype)


def _known_to(layer: type[LiftLayer], options: dict[str, Any], space: Space) -> dict[str, Any]:
    """Return the options that are not None; raise ``ValueError`` if ``layer`` does not have one of them."""
    given, known = {name: value for name, value in options.items() if value is not None}, inspect.signature(layer)
    for name, value in given.items():
        if name not in known.parameters:
            raise ValueError(f"{name}: expected None for the lift to {space}, got {value!r}")
    return given
