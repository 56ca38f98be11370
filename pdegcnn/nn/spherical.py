"""Modules of the sphere and of SO(3): lifting, projecting, and what commutes with rotations between layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks, functional, sphere
from pdegcnn._derived import Derived
from pdegcnn.kernels.sphere_filters import cake_basis, full_orders, localised_basis, spectral_basis
from pdegcnn.nn._precision import in_parameter_precision
from pdegcnn.nn.lift import Lift
from pdegcnn.nn.project import Project
from pdegcnn.pde.sphere_oversample import Finer, transforms
from pdegcnn.spaces import S2, SO3, RotationSpace
from pdegcnn.spaces.s2 import check_base, point_spacing
from pdegcnn.sphere._tables import Array, Tables

FILTERS = ("steerable", "spectral", "cake")


class HarmonicBasis(Tables):
    """The functions that filters are made of, a table over the degree (and orders) of the given shape."""

    def __init__(self, make: Callable[[], Array], shape: tuple[int, ...], like: Tensor) -> None:
        super().__init__()
        self._make, self._shape = make, shape
        self._build(like)

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Array]]]:
        return [("functions", self._shape, self._make)]


class SphereLift(Derived, Lift):
    """Correlate a spherical signal with trainable filters in every rotation: ``int f(x) psi(R^-1 x) dx``.

    In the harmonic domain this is ``W^l_mn = sqrt(4 pi/(2l+1)) f_lm conj(psi_ln)``: exact for band-limited signals, and
    it commutes with rotations exactly. On S2 filters are zonal (n = 0), and the result lives on the sphere again.
    Source: Cohen et al., *Spherical CNNs* (arXiv 1801.10130); Kostelec & Rockmore (2008).

    Args:
        space: SO(3) or the sphere.
        in_channels: channels of the spherical signal.
        out_channels: channels of the result.
        kernel_size: odd width of a steerable filter in grid steps; number of knots over the degree of a spectral one.
        filters: ``"steerable"`` (localised rings times angular harmonics), ``"spectral"`` (piecewise linear profiles
            over the degree, not localised) or ``"cake"``: fixed wavelets that lose nothing (the mean over the fibre of
            their even part is the signal), whose even and odd parts are mixed by trainable weights.
        orders: greatest angular order N of the filters; all that the fibre resolves by default.
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,*grid.shape] -> [B,C',Or,*grid.shape]`` (``[B,C',*grid.shape]`` on the sphere).

    Raises:
        ValueError: sizes that do not fit, or more orders than the fibre resolves (``2 N + 1 > fibre``).

    Example:
        >>> import torch, pdegcnn as pg
        >>> grid = pg.sphere.SphereGrid.gauss_legendre(8)
        >>> pg.nn.Lift(pg.SO3(grid, orientations=4), 2, 3)(torch.rand(1, 2, 8, 16)).shape
        torch.Size([1, 3, 4, 8, 16])
    """

    def __init__(
        self,
        space: RotationSpace,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 5,
        *,
        filters: str = "steerable",
        orders: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, RotationSpace, "S2 or SO3")
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        self.kernel_size = _checks.positive_int("kernel_size", kernel_size)
        _checks.odd("kernel_size", (kernel_size,))
        self.filters = _checks.choice("filters", filters, FILTERS)
        kind = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        self.orders = resolved_orders(space, orders)
        self.analysis = sphere.RealSHT(space.grid, **kind)
        self.synthesis = (
            sphere.InverseSO3FFT(space.grid, space.orientations, nmax=self.orders, **kind)
            if isinstance(space, SO3)
            else sphere.InverseRealSHT(space.grid, **kind)
        )
        make, shape = self._functions()
        self.basis = HarmonicBasis(make, shape, torch.empty(0, **kind))
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *self._weights(shape), **kind))
        self.reset_parameters()

    def _functions(self) -> tuple[Callable[[], Array], tuple[int, ...]]:
        lmax, spacing = self.analysis.lmax, point_spacing(self.space.grid)
        knots = (self.kernel_size + 1) // 2
        if self.filters == "steerable":
            shape = knots, self.orders + 1, lmax + 1
            return partial(localised_basis, lmax, self.orders, knots, spacing), shape
        if self.filters == "spectral":
            shape = self.kernel_size, self.orders + 1, lmax + 1
            return partial(spectral_basis, lmax, self.orders, self.kernel_size), shape
        fibre = self.space.orientations if isinstance(self.space, SO3) else 1
        return partial(cake_basis, lmax, self.orders, fibre), (2, self.orders + 1, lmax + 1)

    def _weights(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0],) if self.filters == "cake" else (shape[0], 2 * self.orders + 1)

    def reset_parameters(self) -> None:
        """Uniform, of a variance that keeps the scale of white noise."""
        bound = math.sqrt(3 / math.prod(self.weight.shape[1:]))
        nn.init.uniform_(self.weight, -bound, bound)

    def filter_coefficients(self) -> Tensor:
        """Harmonic coefficients ``psi_ln`` of the filters, complex ``[C',C,lmax+1,2N+1]``."""
        functions = self.basis.get_buffer("functions")
        weight = self.weight.to(functions.dtype)
        if self.filters == "cake":
            even, odd = functions[0].mT, functions[1].mT  # [l,n]
            weight = weight[..., None, None]
            return full_orders(torch.complex(weight[:, :, 0] * even, -weight[:, :, 1] * odd))
        cosine, sine = weight[..., self.orders :], weight[..., : self.orders].flip(-1)
        real = torch.einsum("oikn,knl->oiln", cosine, functions)
        imaginary = torch.einsum("oikn,knl->oiln", sine, functions[:, 1:])
        half = torch.complex(real, -nn.functional.pad(imaginary, (1, 0)))
        share = torch.where(torch.arange(self.orders + 1, device=real.device) > 0, 0.5, 1.0).to(real.dtype)
        return full_orders(half * share)

    @in_parameter_precision
    def forward(self, signal: Tensor) -> Tensor:
        """Lift ``signal``."""
        layout = "[B,C,nlat,nlon]" if len(self.space.grid.shape) == 2 else "[B,C,P]"
        _checks.signal("signal", signal, 2 + len(self.space.grid.shape), layout)
        check_base("signal", signal, self.space.grid)
        _checks.channels("signal", signal, self.in_channels, layout)
        _checks.same_kind("signal", signal, "the weights", self.weight)
        coefficients = self.analysis(signal)
        degree = torch.arange(coefficients.shape[-1], dtype=coefficients.real.dtype, device=signal.device)
        scale = (4 * math.pi / (2 * degree + 1)).sqrt()
        psi = self.filter_coefficients().conj() * scale[:, None]
        lifted = torch.einsum("bilm,oiln->bolmn", coefficients, psi)
        return self.synthesis(lifted if isinstance(self.space, SO3) else lifted[..., 0]).to(signal.dtype)

    def extra_repr(self) -> str:
        """Space, channels and filters."""
        return (
            f"{self.space}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"filters={self.filters!r}, orders={self.orders}"
        )


def resolved_orders(space: RotationSpace, orders: int | None) -> int:
    """Angular orders that the fibre resolves, or those asked for if it does."""
    if not isinstance(space, SO3):
        if orders not in (None, 0):
            raise ValueError(f"orders: expected 0 on {space}, whose filters are zonal, got {orders}")
        return 0
    most = min((space.orientations - 1) // 2, space.grid.band)
    if orders is None:
        return most
    if isinstance(orders, bool) or not isinstance(orders, int) or orders < 0:
        raise ValueError(f"orders: expected an int >= 0, got {orders!r}")
    if orders > most:
        raise ValueError(
            f"orders: expected at most {most} on {space}, for orders up to N need a fibre of at least 2 N + 1 samples "
            f"and a band of N; got {orders}"
        )
    return orders


class SphereProject(Project):
    """From SO(3) back to the sphere, ``[B,C,Or,*grid.shape] -> [B,C,*grid.shape]``; on S2 nothing changes.

    Args:
        space: SO(3) or the sphere.
        mode: ``"max"`` over the fibre, ``"mean"`` (exact: the column n = 0), or ``"norm"`` (root of the mean square).
        oversample: for the maximum, by how much finer the fibre is sampled first, by trigonometric interpolation.
    """

    def __init__(self, space: RotationSpace, mode: str = "max", *, oversample: int = 1) -> None:
        super().__init__()
        self.space = space
        self.mode = _checks.choice("mode", mode, ("max", "mean", "norm"))
        self.oversample = _checks.positive_int("oversample", oversample)

    def forward(self, u: Tensor) -> Tensor:
        """Project ``u``."""
        return functional.project(u, self.space, self.mode, oversample=self.oversample)

    def extra_repr(self) -> str:
        """Space and mode."""
        return f"{self.space}, mode={self.mode!r}, oversample={self.oversample}"


class SpectralResample(nn.Module):
    """Carry signals to another grid by their coefficients: truncation shrinks, zero padding enlarges.

    Spectral pooling and unpooling commute with rotations exactly (Rippel et al. 2015, on the sphere).

    Args:
        source: S2 or SO(3) space of the input.
        target: space of the same kind and, for SO(3), the same fibre.
        device: where the tables live.
        dtype: dtype of the signals.
    """

    def __init__(self, source: RotationSpace, target: RotationSpace, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        _checks.kind("source", source, RotationSpace, "S2 or SO3")
        if type(source) is not type(target) or getattr(source, "fibre", 0) != getattr(target, "fibre", 0):
            raise ValueError(f"target: expected a space like {source} over another grid, got {target}")
        self.source, self.target = source, target
        lmax = min(source.grid.band, target.grid.band)
        self.analysis, self.synthesis = transforms(source, target, lmax=lmax, device=device, dtype=dtype)

    def forward(self, u: Tensor) -> Tensor:
        """Resample ``u``."""
        self.source.check_signal("u", u)
        return self.synthesis(self.analysis(u)).to(u.dtype)

    def extra_repr(self) -> str:
        """Both spaces."""
        return f"{self.source} -> {self.target}"


class SphereActivation(nn.Module):
    """A pointwise function between finer samples: sample ``oversample`` times finer, apply, return by truncation.

    Pointwise functions create degrees beyond the band; on a finer grid less of them folds back. A polynomial of degree
    d is exact with ``oversample >= (d + 1)/2``, so ``torch.square`` with 2 commutes with rotations to
    rounding; for ReLU the error falls with the oversampling. The function may join channels: one that
    returns ``torch.nn.functional.glu(u, dim=1)`` gates the first half of them by the second.

    Args:
        space: S2 or SO(3) on a Gauss-Legendre grid.
        function: function of a tensor that acts at each place alone, for example ``torch.relu``.
        oversample: factor for the band and the fibre.
        device: where the tables live.
        dtype: dtype of the signals.
    """

    def __init__(
        self,
        space: RotationSpace,
        function: Callable[[Tensor], Tensor] = torch.relu,
        oversample: int = 2,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.space, self.function = _checks.kind("space", space, RotationSpace, "S2 or SO3"), function
        if not callable(function):
            raise TypeError(f"function: expected a function of a tensor, got {type(function).__name__}")
        self.oversample = _checks.positive_int("oversample", oversample)
        self.finer = Finer(space, (oversample, oversample), device=device, dtype=dtype)

    def forward(self, u: Tensor) -> Tensor:
        """Apply the function."""
        self.space.check_signal("u", u)
        return self.finer.down(self.function(self.finer.up(u))).to(u.dtype)

    def extra_repr(self) -> str:
        """Space, function and oversampling."""
        return f"{self.space}, {getattr(self.function, '__name__', self.function)}, oversample={self.oversample}"


class GlobalPool(nn.Module):
    """Invariants ``[B,C]`` of signals: the area-weighted mean, or the maximum, over the sphere (and the fibre).

    Args:
        space: S2 or SO(3).
        mode: ``"mean"`` (exactly invariant for band-limited signals) or ``"max"`` (invariant up to sampling).
        oversample: for the maximum, by how much finer sphere and fibre are sampled first, by their coefficients: the
            maximum of the samples then comes nearer to that of the function, which does not change with rotations.
        device: where the tables of ``oversample`` live.
        dtype: dtype of the signals, for ``oversample``.
    """

    def __init__(
        self, space: RotationSpace, mode: str = "mean", *, oversample: int = 1, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, RotationSpace, "S2 or SO3")
        self.mode = _checks.choice("mode", mode, ("mean", "max"))
        self.oversample = _checks.positive_int("oversample", oversample)
        if oversample > 1 and mode != "max":
            raise ValueError(f"oversample: expected 1 for mode='mean', which is exact, got {oversample}")
        self.finer = None
        if oversample > 1:
            self.finer = Finer(space, (oversample, oversample), device=device, dtype=dtype, back=False)

    def forward(self, u: Tensor) -> Tensor:
        """Reduce ``u``, also (but for ``oversample``) a spherical signal ``[B,C,*grid.shape]`` of an SO(3) space."""
        if self.finer is not None:
            self.space.check_signal("u", u)
            return self.finer.up(u).to(u.dtype).flatten(2).amax(2)
        if _checks.tensor("u", u).ndim == self.space.signal_ndim:
            self.space.check_signal("u", u)
        else:
            S2(self.space.grid).check_signal("u", u)
        if self.mode == "max":
            return u.flatten(2).amax(2)
        share = self.space.grid.weights.to(u) / (4 * math.pi)
        mean = (u * share).flatten(-len(self.space.grid.shape)).sum(-1)
        return mean if mean.ndim == 2 else mean.mean(2)

    def extra_repr(self) -> str:
        """Space, mode and oversampling."""
        return f"{self.space}, mode={self.mode!r}, oversample={self.oversample}"
