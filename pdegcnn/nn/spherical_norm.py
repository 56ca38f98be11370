"""A nonlinearity of harmonic coefficients that commutes with every rotation exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks, sphere
from pdegcnn.nn._precision import in_parameter_precision
from pdegcnn.spaces import S2, SO3, RotationSpace

SMALLEST = 1e-6
"""Added to lengths in square, so that the gradient at zero is finite."""


class SphereNormReLU(nn.Module):
    """ReLU of lengths of coefficients: ``z -> z max(|z| + b, 0)/|z|`` with a bias for each channel and degree.

    A rotation mixes the 2l + 1 coefficients z of one degree l (and one order n along the fibre) among themselves and
    keeps their root mean square ``|z|``; so this commutes with all rotations to rounding, without oversampling. It acts
    on the whole sphere at once: use :class:`SphereActivation` for what acts at each place. Source: the norm
    nonlinearity of Thomas et al., *Tensor field networks* (arXiv 1802.08219); harmonic networks (arXiv 1612.04642).

    Args:
        space: S2 or SO(3) over a grid of rings.
        channels: channels C of the signal.
        device: where the bias and the tables live.
        dtype: their dtype.

    Shape:
        ``[B,C,...] -> [B,C,...]`` laid out as ``space.layout``; what the grid does not resolve is dropped.

    Raises:
        TypeError: ``space`` is neither S2 nor SO(3).
        ValueError: its grid has no rings, or the signal does not fit.
    """

    def __init__(self, space: RotationSpace, channels: int, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if not isinstance(space, (S2, SO3)):
            raise TypeError(f"space: expected S2 or SO3, got {type(space).__name__}")
        if not space.grid.has_rings:
            raise ValueError(
                f"space: expected one over a grid of rings (gauss_legendre, equiangular, reduced_gauss), got {space}, "
                "whose points carry no exact transform"
            )
        self.space, self.channels = space, _checks.positive_int("channels", channels)
        kind = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        if isinstance(space, SO3):
            self.analysis: nn.Module = sphere.SO3FFT(space.grid, space.fibre, **kind)
            self.synthesis: nn.Module = sphere.InverseSO3FFT(space.grid, space.fibre, **kind)
        else:
            self.analysis = sphere.RealSHT(space.grid, **kind)
            self.synthesis = sphere.InverseRealSHT(space.grid, **kind)
        self.bias = nn.Parameter(torch.empty(channels, space.grid.band + 1, **kind))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A small threshold."""
        nn.init.constant_(self.bias, -0.01)

    @in_parameter_precision
    def forward(self, u: Tensor) -> Tensor:
        """Apply to ``u``."""
        self.space.check_signal("u", u)
        _checks.channels("u", u, self.channels, self.space.layout)
        on_group = isinstance(self.space, SO3)
        z = self.analysis(u)  # [B,C,l,m,n], or [B,C,l,m]
        z = z if on_group else z[..., None]
        size = z.real.square() + z.imag.square()
        # order -m of n is the conjugate of m of -n, up to a sign
        total = size[..., :1, :].sum(3) + (size + size.flip(-1))[..., 1:, :].sum(3)
        degree = torch.arange(z.shape[2], dtype=size.dtype, device=u.device)[:, None]
        length = (total / (2 * degree + 1) + SMALLEST**2).sqrt()
        gain = torch.relu(length + self.bias[:, :, None]) / length
        z = z * gain[..., None, :]
        return self.synthesis(z if on_group else z[..., 0]).to(u.dtype)

    def extra_repr(self) -> str:
        """Space and channels."""
        return f"{self.space}, {self.channels}"
