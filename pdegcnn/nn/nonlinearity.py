"""Nonlinearities that commute with rotations: pointwise between finer samples, or by the lengths of coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._derived import Derived
from pdegcnn._typing import Device, DType, Factory
from pdegcnn.nn._precision import run_in_parameter_dtype
from pdegcnn.pde.sphere_oversample import Finer, transforms
from pdegcnn.spaces import RotationSpace

SMALLEST = 1e-6
"""Added to lengths in square, so that the gradient at zero is finite."""


class SphereActivation(nn.Module):
    """Apply a pointwise function to finer samples: interpolate ``oversample`` times finer, apply, truncate to the band.

    Pointwise functions create degrees beyond the band, which alias less on a finer grid. A polynomial of degree d is
    exact with ``oversample >= (d + 1)/2``: ``torch.square`` with 2 commutes with rotations to rounding. For ReLU the
    error falls with ``oversample``. The function may combine channels: ``torch.nn.functional.glu(u, dim=1)`` gates the
    first half of them by the second.

    Args:
        space: S2 or SO(3) on a Gauss-Legendre grid.
        function: function of a tensor that acts on each point separately, for example ``torch.relu``.
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
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.space, self.function = _checks.kind("space", space, RotationSpace, "S2 or SO3"), function
        if not callable(function):
            raise TypeError(f"function: expected a function of a tensor, got {type(function).__name__}")
        self.oversample = _checks.positive_int("oversample", oversample)
        self.finer = Finer(space, (oversample, oversample), device=device, dtype=dtype)

    def forward(self, u: Tensor) -> Tensor:
        """Apply the function to ``u`` on the finer grid and truncate the result.

        Args:
            u: a signal ``[B,C,*grid.shape]`` on S2 or ``[B,C,fibre,*grid.shape]`` on SO(3).
        """
        self.space.check_signal("u", u)
        return self.finer.down(self.function(self.finer.up(u))).to(u.dtype)

    def extra_repr(self) -> str:
        """Return the space, function and oversampling."""
        return f"{self.space}, {getattr(self.function, '__name__', self.function)}, oversample={self.oversample}"


class _DegreeGain(Derived):
    """Every degree l (and fibre order n) of every channel, times a gain made of the lengths of all of them.

    A rotation mixes the 2l + 1 coefficients of degree l and order n along the fibre among themselves and keeps their
    root mean square, the length ``|z|``; so any function of lengths is a gain that commutes with rotations. Turning the
    fibre keeps lengths too, and those of n and -n agree, so that real signals stay real.
    """

    numbers: ClassVar[int] = 0
    """How many numbers of every channel the weight joins to the gain of each."""

    def __init__(self, space: RotationSpace, channels: int, *, device: Device = None, dtype: DType = None) -> None:
        super().__init__()
        _checks.kind("space", space, RotationSpace, "S2 or SO3")
        space.grid.require_rings("space.grid")
        self.space, self.channels = space, _checks.positive_int("channels", channels)
        kind: Factory = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        self.analysis, self.synthesis = transforms(space, **kind)
        self.bias = nn.Parameter(torch.empty(channels, space.grid.band + 1, **kind))
        mixing = torch.empty(channels, self.numbers * channels, **kind)
        self.register_parameter("weight", nn.Parameter(mixing) if self.numbers else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start values of bias and weight."""
        raise NotImplementedError

    def _gain(self, lengths: Tensor, means: Tensor) -> Tensor:
        """Return the gain ``[B,C,l,n]`` of lengths ``[B,C,l,n]`` and of means ``[B,C]`` over the space."""
        raise NotImplementedError

    @run_in_parameter_dtype
    def forward(self, u: Tensor) -> Tensor:
        """Apply to ``u``, ``[B,C,...]`` laid out as ``space.layout``."""
        self.space.check_signal("u", u)
        _checks.channels("u", u, self.channels, self.space.layout)
        _checks.same_kind("u", u, "the parameters", self.bias)
        on_group = self.space.has_orientations
        z = self.analysis(u)  # [B,C,l,m,n], or [B,C,l,m]
        z = z if on_group else z[..., None]
        means = z[:, :, 0, 0, z.shape[-1] // 2].real / math.sqrt(4 * math.pi)
        z = z * self._gain(coefficient_lengths(z), means)[..., None, :]
        return self.synthesis(z if on_group else z[..., 0]).to(u.dtype)

    def extra_repr(self) -> str:
        """Return the space and channels."""
        return f"{self.space}, {self.channels}"


def coefficient_lengths(z: Tensor) -> Tensor:
    """Return the root mean square over the orders m of coefficients ``[...,l,m >= 0,n]``.

    They belong to a real signal; the result is ``[...,l,n]``.
    """
    size = z.real.square() + z.imag.square()
    # order -m of n is the conjugate of m of -n, up to a sign
    total = size[..., 0, :] + (size + size.flip(-1))[..., 1:, :].sum(-2)
    degree = torch.arange(z.shape[-3], dtype=size.dtype, device=z.device)[:, None]
    return (total / (2 * degree + 1) + SMALLEST**2).sqrt()


class SphereNormReLU(_DegreeGain):
    r"""ReLU of the length of coefficients, :math:`z \mapsto z \max(|z| + b, 0)/|z|`, with a learned bias b.

    A rotation mixes the 2l + 1 coefficients z of one degree l (and one order n along the fibre) and keeps their root
    mean square :math:`|z|`. The layer therefore commutes with all rotations to rounding, without oversampling. Each
    channel and degree has its bias. The layer acts on the whole sphere at once; :class:`SphereActivation` acts
    pointwise. Sources: the norm nonlinearity of Thomas et al., *Tensor field networks* (arXiv 1802.08219); harmonic
    networks (arXiv 1612.04642).

    Args:
        space: S2 or SO(3) over a grid of rings.
        channels: channels C of the signal.
        device: where the bias and the tables live.
        dtype: their dtype.

    Shape:
        ``[B,C,...] -> [B,C,...]`` laid out as ``space.layout``; degrees that the grid does not resolve are dropped.

    Raises:
        TypeError: if ``space`` is neither S2 nor SO(3).
        ValueError: if its grid has no rings, or the signal does not fit.
    """

    def reset_parameters(self) -> None:
        """Set the bias to a small threshold."""
        nn.init.constant_(self.bias, -0.01)

    def _gain(self, lengths: Tensor, means: Tensor) -> Tensor:
        return torch.relu(lengths + self.bias[:, :, None]) / lengths


class SphereGated(_DegreeGain):
    r"""Multiply every degree of every channel by a sigmoid of the lengths of all channels at that degree.

    .. math:: z_{cl} \mapsto z_{cl}\, \sigma\Big(\sum_k A_{ck} |z_{kl}| + \sum_k B_{ck} \bar u_k + b_{cl}\Big)

    Lengths :math:`|z|` are as in :class:`SphereNormReLU` (on SO(3) for every order n along the fibre separately);
    :math:`\bar u_k` is the mean of channel k over the space. The layer commutes with all rotations to rounding, without
    oversampling, and acts on the whole sphere at once. Source: the gated nonlinearity of Weiler et al., *3D steerable
    CNNs* (arXiv 1807.02547).

    Args:
        space: S2 or SO(3) over a grid of rings.
        channels: channels C of the signal.
        device: where the parameters and the tables live.
        dtype: their dtype.

    Shape:
        ``[B,C,...] -> [B,C,...]`` laid out as ``space.layout``; degrees that the grid does not resolve are dropped.

    Raises:
        TypeError: if ``space`` is neither S2 nor SO(3).
        ValueError: if its grid has no rings, or the signal does not fit.
    """

    numbers = 2
    weight: nn.Parameter

    def reset_parameters(self) -> None:
        """Draw weights uniformly as in a linear layer with as many inputs; set the bias to zero."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.bias)

    def _gain(self, lengths: Tensor, means: Tensor) -> Tensor:
        of_lengths, of_means = self.weight.to(lengths.dtype).chunk(2, dim=1)
        shift = torch.einsum("ck,bk->bc", of_means, means)[..., None] + self.bias
        return torch.sigmoid(torch.einsum("ck,bkln->bcln", of_lengths, lengths) + shift[..., None])
