"""Move signals to finer and coarser grids, without aliasing."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from pdegcnn import _checks, functional
from pdegcnn._typing import Device, DType
from pdegcnn.ops.resample import FILTERS, resample_axes
from pdegcnn.pde.mesh_levels import pool, unpool
from pdegcnn.pde.sphere_oversample import transforms
from pdegcnn.spaces import Mesh, RotationSpace, Space

ROUNDING = 1e-9
"""Slack in sizes times a factor, so that rounding does not decide on a pixel."""


class Resample(nn.Module):
    """Resize the last axes of ``[..., H, W]``; see :func:`pdegcnn.functional.resample`.

    Args:
        size: height and width of the result, or one number for both; three numbers for volumes ``[..., D, H, W]``.
        filter: ``"linear"`` or ``"lanczos"``, as in the function.
        scale_factor: in place of ``size``: factor for height and width (one for both, or one each), rounded down; three
            numbers for volumes.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.Resample(scale_factor=0.5)(torch.rand(1, 4, 8, 16, 16)).shape
        torch.Size([1, 4, 8, 8, 8])
    """

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        filter: str = "linear",
        *,
        scale_factor: float | tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError(f"size: expected either size or scale_factor, got {size!r} and {scale_factor!r}")
        self.size, self.filter = size, _checks.choice("filter", filter, FILTERS)
        self.scale_factor = None if scale_factor is None else _factors("scale_factor", scale_factor)
        if size is not None:
            _check_size(size)

    def forward(self, u: Tensor) -> Tensor:
        """Resize ``u``.

        Args:
            u: ``[...,H,W]``, or ``[...,D,H,W]`` for three sizes.
        """
        if self.scale_factor is None:
            return functional.resample(u, cast("int | tuple[int, ...]", self.size), self.filter)
        count = len(self.scale_factor)
        if _checks.tensor("u", u).ndim < count:
            raise ValueError(f"u: expected a tensor with at least {count} axes, got shape {tuple(u.shape)}")
        sizes = (_enlarged(n, factor) for n, factor in zip(u.shape[-count:], self.scale_factor))
        return functional.resample(u, tuple(sizes), self.filter)

    def extra_repr(self) -> str:
        """Return the size and filter."""
        size = f"{self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{size}, filter={self.filter!r}"


def _check_size(size: object) -> None:
    """Raise unless ``size`` is a positive int, or two or three of them."""
    sizes: Sequence[object] = (size,) if isinstance(size, int) else cast("Sequence[object]", size)
    if not isinstance(sizes, (tuple, list)) or not isinstance(size, int) and len(sizes) not in (2, 3):
        raise TypeError(f"size: expected a positive int, or two or three of them, got {size!r}")
    for n in sizes:
        _checks.positive_int("size", n)


def _factors(name: str, value: object) -> tuple[float, ...]:
    """Return two or three positive numbers, given as such or as one for height and width."""
    given = cast("Sequence[object]", value if isinstance(value, (tuple, list)) else (value, value))
    if len(given) not in (2, 3):
        raise ValueError(f"{name}: expected a positive number, or two or three of them, got {value!r}")
    return tuple(_checks.plain_number(name, f, 0.0, _checks.LIMIT, open_low=True) for f in given)


def _enlarged(size: int, factor: float) -> int:
    """Return a number of pixels times a factor, rounded down, but at least one pixel."""
    size = _counted(size)
    return size * int(factor) if factor == int(factor) else max(math.floor(size * factor + ROUNDING), 1)


def _reduced(size: int, factor: float) -> int:
    """Return a number of pixels by a factor, rounded up."""
    size = _counted(size)
    return (size + int(factor) - 1) // int(factor) if factor == int(factor) else math.ceil(size / factor - ROUNDING)


def _pixels(size: object, count: int) -> tuple[int, ...]:
    """Return ``count`` positive sizes, else raise; torch.jit.trace makes tensors of them."""
    given = cast("Sequence[Any]", size)
    if isinstance(size, (str, Tensor)) or not isinstance(size, Sequence) or len(given) != count:
        raise ValueError(f"size: expected {count} positive ints, got {size!r}")
    return tuple(n if _checks.is_compiling() else _checks.positive_int("size", _counted(n)) for n in given)


def _counted(size: int) -> int:
    """Return a size; torch.jit.trace makes tensors of sizes, and a trace is for those of its example."""
    return int(size) if isinstance(size, Tensor) else size


class SpectralResample(nn.Module):
    """Move signals to another grid by their coefficients: truncation coarsens, zero padding refines.

    It commutes with rotations exactly (spectral pooling of Rippel et al. 2015, on the sphere).

    Args:
        source: S2 or SO(3) space of the input.
        target: space of the same kind and, for SO(3), the same fibre.
        device: where the tables live.
        dtype: dtype of the signals.
    """

    def __init__(
        self, source: RotationSpace, target: RotationSpace, *, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        _checks.kind("source", source, RotationSpace, "S2 or SO3")
        if type(source) is not type(target) or source.orientations != target.orientations:
            raise ValueError(f"target: expected a space like {source} over another grid, got {target}")
        self.source, self.target = source, target
        lmax = min(source.grid.band, target.grid.band)
        self.analysis, self.synthesis = transforms(source, target, lmax=lmax, device=device, dtype=dtype)

    @property
    def out_space(self) -> RotationSpace:
        """The space of the result."""
        return self.target

    def forward(self, u: Tensor) -> Tensor:
        """Resample ``u``.

        Args:
            u: a signal on ``source``.

        Returns:
            The signal on ``target``.
        """
        self.source.check_signal("u", u)
        return self.synthesis(self.analysis(u)).to(u.dtype)

    def extra_repr(self) -> str:
        """Return both spaces."""
        return f"{self.source} -> {self.target}"


class _BetweenGrids(nn.Module, ABC):
    """Base class of :class:`Downsample` and :class:`Upsample`: a space, the coarser one, and the factor between them.

    ``fine``: the finer of the two spaces. ``coarse``: the other; on images the same, whose unit is
    the pixel, on volumes one of larger voxels.
    """

    def __init__(
        self,
        space: Space,
        factor: float | None = None,
        *,
        size: int | tuple[int, ...] | None = None,
        filter: str | None = None,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.fine = _checks.kind("space", space, Space, "a space")
        if factor is not None and size is not None:
            raise ValueError(f"size: expected either factor or size, got {factor!r} and {size!r}")
        if filter is not None and space.base_shape is not None:
            raise ValueError(f"filter: expected None on {space}, which is resampled without one, got {filter!r}")
        self.filter = _checks.choice("filter", "lanczos" if filter is None else filter, FILTERS)
        self.factor: float = 2
        if factor is not None:
            number = _checks.plain_number("factor", factor, 1.0, _checks.LIMIT, open_low=True)
            self.factor = int(number) if number == int(number) else number
        self.size = None if size is None else self._sizes(size)
        self.coarse = space.coarser(self.factor, self.size)
        self.spectral = None
        if isinstance(self.in_space, RotationSpace) and isinstance(self.out_space, RotationSpace):
            self.spectral = SpectralResample(self.in_space, self.out_space, device=device, dtype=dtype)

    @property
    @abstractmethod
    def in_space(self) -> Space:
        """The space of the input."""

    @property
    @abstractmethod
    def out_space(self) -> Space:
        """The space of the result."""

    def _sizes(self, size: int | tuple[int, ...]) -> tuple[int, ...]:
        """Return one size for each axis of the base of a grid, else one alone."""
        count = self.fine.base_ndim if self.fine.base_shape is None else 1
        sizes: Any = (size,) * count if isinstance(size, int) else size
        if not isinstance(sizes, (tuple, list)) or len(cast("Sequence[object]", sizes)) != count:
            raise TypeError(f"size: expected a positive int{f' or {count} of them' * (count > 1)}, got {size!r}")
        return tuple(_checks.positive_int("size", n) for n in cast("Sequence[object]", sizes))

    @property
    def vertex_factor(self) -> float:
        """How many times fewer vertices a mesh has after it, as ``Mesh.coarsen`` takes it, the square of ``factor``."""
        if self.size is None:
            return float(self.factor) ** 2
        return math.nan if self.fine.base_shape is None else self.fine.base_shape[0] / self.size[0]

    def coarser(self, mesh: Mesh) -> Mesh:
        """Return the coarser mesh of another fine one."""
        return _checks.kind("mesh", mesh, Mesh, "a Mesh").coarsen(self.vertex_factor)

    def _mesh(self, mesh: Mesh | None) -> Mesh | None:
        """Return the fine mesh of a call; raise if there is one on another space than meshes."""
        if isinstance(self.fine, Mesh):
            return self.fine if mesh is None else _checks.kind("mesh", mesh, Mesh, "a Mesh")
        if mesh is not None:
            raise ValueError(f"mesh: expected None on {self.fine}, got {mesh}")
        return None

    def extra_repr(self) -> str:
        """Return spaces, factor or size, and filter."""
        size = f"factor={self.factor}" if self.size is None else f"size={self.size}"
        return f"{self.fine}, {size}" + ("" if self.fine.base_shape else f", filter={self.filter!r}")


class Downsample(_BetweenGrids):
    """Move signals to a coarser grid of their space without aliasing: the equivariant counterpart of a stride.

    On images a centred filter removes the band that the coarser grid does not resolve. It commutes with quarter turns
    and reflections exactly for all sizes, unlike a stride of two on images of even size. On S2 and SO(3) coefficients
    are truncated, which commutes with all rotations exactly. On meshes signals are averaged over the neighbourhood of
    each remaining vertex, with transport (:class:`pdegcnn.gauge.MeshPool`).

    Sources: Zhang, *Making convolutional networks shift-invariant again* (arXiv 1904.11486); Rippel et al.
    (arXiv 1506.03767) for truncation.

    Args:
        space: where the signals live; ``out_space`` is the coarser space, on which later layers must be built.
        factor: factor by which steps grow, 2 by default. Images and volumes get ``ceil(size / factor)`` pixels along
            each axis, spheres a Gauss-Legendre grid of ``floor((band + 1) / factor)`` rings, meshes ``factor ** 2``
            times fewer vertices.
        size: in place of ``factor``: pixels of the result, one number or one for each axis (``out_space`` of volumes is
            then ``space``, as the ratio is not known); rings on spheres; vertices of ``space`` on meshes (for other
            meshes the same ratio).
        filter: on images ``"lanczos"`` (the default, which keeps the band) or ``"linear"`` (without overshoot).
        device: where the tables of spheres live.
        dtype: dtype of the signals on spheres.

    Shape:
        ``[B,C,(Or,) H,W] -> [B,C,(Or,) h,w]``, ``[B,C,(Or,) *grid.shape] -> [B,C,(Or,) *out_space.grid.shape]``,
        ``[B,C,Or,V] -> [B,C,Or,W]``.

    Raises:
        TypeError: if ``space`` is not a space, or an argument has the wrong type.
        ValueError: if an argument is out of range, or a signal does not fit.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.Downsample(pg.SE2(8))(torch.rand(1, 4, 8, 33, 32)).shape
        torch.Size([1, 4, 8, 17, 16])
        >>> sphere = pg.SO3(pg.sphere.SphereGrid.clenshaw_curtis(73, 144), orientations=8)
        >>> pg.nn.Downsample(sphere, 2).out_space.grid.shape
        (36, 72)
    """

    @property
    def in_space(self) -> Space:
        """The space of the input."""
        return self.fine

    @property
    def out_space(self) -> Space:
        """The space of the result."""
        return self.coarse

    def forward(self, u: Tensor, mesh: Mesh | None = None) -> Tensor:
        """Coarsen ``u``; ``mesh`` replaces the constructor's mesh if given.

        Args:
            u: a signal on ``space``.
            mesh: on meshes, where ``u`` lives, if that is another mesh than the layer was built for.
        """
        where = self._mesh(mesh)
        if where is not None:
            return pool(where.check_signal("u", u), where, self.vertex_factor)
        if self.spectral is not None:
            return self.spectral(u)
        self.fine.check_signal("u", u)
        sizes: Sequence[int] | None = self.size
        if sizes is None:
            sizes = [_reduced(n, self.factor) for n in u.shape[-self.fine.base_ndim :]]
        return resample_axes(u, sizes, self.filter)


class Upsample(_BetweenGrids):
    """Move signals from the coarser grid of :class:`Downsample` back to that of ``space``.

    Images use the same filter, S2 and SO(3) coefficients (exact), meshes linear interpolation
    (:class:`pdegcnn.gauge.MeshUnpool`).

    Args:
        space: where the result lives, the finer space; ``in_space`` is the coarser one.
        factor: as in :class:`Downsample`, 2 by default.
        size: in place of ``factor``: on images pixels of the result; on spheres and meshes as in :class:`Downsample`.
        filter: on images ``"lanczos"`` or ``"linear"``.
        device: where the tables of spheres live.
        dtype: dtype of the signals on spheres.

    Shape:
        Those of :class:`Downsample` in reverse. Images grow by ``factor``; ``layer(u, size=(H, W))`` asks for another
        size, for example that of a skip connection.

    Raises:
        TypeError: if ``space`` is not a space, or an argument has the wrong type.
        ValueError: if an argument is out of range, or a signal does not fit.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.Upsample(pg.SE2(8))(torch.rand(1, 4, 8, 16, 16)).shape
        torch.Size([1, 4, 8, 32, 32])
    """

    @property
    def in_space(self) -> Space:
        """The space of the input."""
        return self.coarse

    @property
    def out_space(self) -> Space:
        """The space of the result."""
        return self.fine

    def forward(self, u: Tensor, mesh: Mesh | None = None, *, size: Sequence[int] | None = None) -> Tensor:
        """Refine ``u``; ``mesh`` replaces the constructor's mesh if given, ``size`` sets the pixels of images.

        Args:
            u: a signal on ``in_space``.
            mesh: on meshes, the fine mesh of the result, if that is another mesh than the layer was built for.
            size: on images, pixels of the result: height and width.
        """
        where = self._mesh(mesh)
        if size is not None and self.fine.base_shape is not None:
            raise ValueError(f"size: expected None on {self.fine}, got {size!r}")
        if where is not None:
            return unpool(self.coarser(where).check_signal("u", u), where, self.vertex_factor)
        if self.spectral is not None:
            return self.spectral(u)
        self.fine.check_signal("u", u)
        sizes = self.size if size is None else _pixels(size, self.fine.base_ndim)
        if sizes is None:
            sizes = [_enlarged(n, self.factor) for n in u.shape[-self.fine.base_ndim :]]
        return resample_axes(u, sizes, self.filter)
