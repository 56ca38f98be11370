"""Mixing of channels at a vertex, and summaries of whole meshes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._dtypes import widen
from pdegcnn._typing import Device, DType, Factory
from pdegcnn.gauge.features import Features, check_features, check_mesh, check_spins
from pdegcnn.spaces import Mesh


class SpinMix(nn.Module):
    """Linear combination of the channels of each spin at every vertex, with a constant for spin 0.

    Args:
        in_channels: channels for each spin.
        out_channels: channels for each spin; its spins are among those of the input.
        device: where the parameters live.
        dtype: their real dtype.
    """

    def __init__(
        self,
        in_channels: Mapping[int, int],
        out_channels: Mapping[int, int],
        *,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.in_channels = check_spins("in_channels", in_channels)
        self.out_channels = check_spins("out_channels", out_channels)
        if not set(self.out_channels) <= set(self.in_channels):
            raise ValueError(
                f"out_channels: expected spins among {sorted(self.in_channels)}, got {sorted(self.out_channels)}"
            )
        factory: Factory = {"device": device, "dtype": dtype}
        self.weights = nn.ParameterDict()
        for spin, wide in self.out_channels.items():
            shape = (wide, self.in_channels[spin], 2 if spin else 1)
            self.weights[str(spin)] = nn.Parameter(torch.empty(shape, **factory))
        self.bias = nn.Parameter(torch.empty(self.out_channels[0], **factory)) if 0 in self.out_channels else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniformly with a variance that keeps the scale; set the bias to zero."""
        for weight in self.weights.values():
            bound = math.sqrt(3 / (weight.shape[1] * weight.shape[2]))
            nn.init.uniform_(weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, features: Mapping[int, Tensor]) -> Features:
        """Mix the channels at each vertex.

        Args:
            features: spin -> ``[B,C,V]``, real for spin 0 and complex for other spins; the spins of ``in_channels``.

        Returns:
            Features of the spins and channels of ``out_channels``.
        """
        weight = next(iter(self.weights.values()))
        fields = check_features("features", features, self.in_channels, weight=weight)
        out: Features = {}
        for key, weight in self.weights.items():
            u = fields[int(key)]
            if int(key):  # complex halves have no matrix product
                matrix = torch.view_as_complex(widen(weight))
                out[int(key)] = torch.einsum("dc,bcv->bdv", matrix, widen(u)).to(u.dtype)
            else:
                out[0] = torch.einsum("dc,bcv->bdv", weight[..., 0], u)
        if self.bias is not None:
            out[0] = out[0] + self.bias[:, None]
        return out

    def extra_repr(self) -> str:
        """Return channels."""
        return f"{self.in_channels}, {self.out_channels}"


class GlobalPool(nn.Module):
    """Reduce a function to one number for each mesh and channel: ``[B,C,V] -> [B*meshes, C]``.

    The result does not depend on the gauge.

    Args:
        mode: ``"mean"`` (weighted by vertex areas) or ``"max"``.
    """

    def __init__(self, mode: str = "mean") -> None:
        super().__init__()
        self.mode = _checks.choice("mode", mode, ("mean", "max"))

    def forward(self, features: Mapping[int, Tensor] | Tensor, mesh: Mesh) -> Tensor:
        """Reduce spin 0 to one row for each mesh of :meth:`pdegcnn.Mesh.union`.

        Args:
            features: a function ``[B,C,V]``, or features with spin 0; their other spins are ignored.
            mesh: where they live.

        Returns:
            ``[B*meshes, C]``: the rows of the first signal for each mesh, then those of the second, and so on.
        """
        fields = features if isinstance(features, Mapping) else {0: features}
        if 0 not in fields:
            raise ValueError(f"features: expected spin 0 among the spins, got {sorted(fields)}")
        u = check_features("features", {0: fields[0]}, None, check_mesh(mesh))[0]
        parts = torch.split(u, list(mesh.sizes), dim=2)
        if self.mode == "max":
            return torch.stack([p.amax(2) for p in parts], dim=1).flatten(0, 1)
        areas = torch.split(mesh.areas.to(widen(u)), list(mesh.sizes))  # sums of halves leave their range
        means = [(widen(p) * a).sum(2) / a.sum() for p, a in zip(parts, areas)]
        return torch.stack(means, dim=1).flatten(0, 1).to(u.dtype)

    def extra_repr(self) -> str:
        """Return the mode."""
        return f"mode={self.mode!r}"
