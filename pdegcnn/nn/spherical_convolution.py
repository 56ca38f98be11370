"""Linear convolution on the sphere and on SO(3): every linear map that commutes with rotations."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._derived import Derived
from pdegcnn.kernels.sphere_filters import degree_profiles
from pdegcnn.nn._precision import in_parameter_precision
from pdegcnn.nn.spherical import HarmonicBasis, resolved_orders
from pdegcnn.pde.sphere_oversample import transforms
from pdegcnn.spaces import SO3, RotationSpace
from pdegcnn.spaces.so3 import from_real_fibre, to_real_fibre


class SphereConv(Derived):
    """Group convolution that mixes channels, for spherical networks in the classical sense.

    By Schur's lemma a linear map commutes with rotations exactly if it acts on each degree alone and leaves the order m
    as it is: on the sphere by one number per degree and pair of channels, on SO(3) by a matrix over the fibre orders.
    Here these are piecewise linear functions of the degree. Source: Cohen et al., *Spherical CNNs* (arXiv 1801.10130);
    Gerken et al. (arXiv 2105.13926), section 4.

    Args:
        space: SO(3) or the sphere, over a grid of rings.
        in_channels: channels C of the input.
        out_channels: channels C' of the output.
        knots: number of knots over the degree, at least one.
        orders: greatest fibre order N of the map; higher ones are dropped. All that the fibre resolves by default.
        bias: whether a constant is added per channel.
        device: where the parameters live.
        dtype: their dtype.

    Shape:
        ``[B,C,...] -> [B,C',...]`` laid out as ``space.layout``.

    Raises:
        ValueError: more orders than the fibre resolves, or a grid without rings.

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
        knots: int = 5,
        *,
        orders: int | None = None,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, RotationSpace, "S2 or SO3")
        _checks.flag("bias", bias)
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        self.knots = _checks.positive_int("knots", knots)
        self.orders = resolved_orders(space, orders)
        kind = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        self.analysis, self.synthesis = transforms(space, nmax=self.orders, **kind)
        lmax = space.grid.band
        self.basis = HarmonicBasis(partial(degree_profiles, lmax, knots), (knots, lmax + 1), torch.empty(0, **kind))
        width = 2 * self.orders + 1
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, knots, width, width, **kind))
        self.bias = nn.Parameter(torch.empty(out_channels, **kind)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform, of a variance that keeps the scale of white noise; no bias."""
        bound = math.sqrt(3 / (self.in_channels * self.weight.shape[-1]))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @in_parameter_precision
    def forward(self, u: Tensor) -> Tensor:
        """Convolve ``u``."""
        self.space.check_signal("u", u)
        _checks.channels("u", u, self.in_channels, self.space.layout)
        _checks.same_kind("u", u, "the weights", self.weight)
        columns = self.analysis(u)
        on_group = isinstance(self.space, SO3)
        real = to_real_fibre(columns) if on_group else columns[..., None]  # [B,C,l,m,n]: real maps keep signals real
        profiles = self.basis.get_buffer("functions")
        matrices = torch.einsum("oiknp,kl->oilnp", self.weight.to(profiles.dtype), profiles)
        mixed = torch.einsum("bilmn,oilnp->bolmp", real, matrices.to(real.dtype))
        value = self.synthesis(from_real_fibre(mixed) if on_group else mixed[..., 0]).to(u.dtype)
        return value if self.bias is None else value + self.bias.view(-1, *(1,) * (value.ndim - 2))

    def extra_repr(self) -> str:
        """Space, channels and resolution."""
        return f"{self.space}, {self.in_channels}, {self.out_channels}, knots={self.knots}, orders={self.orders}"
