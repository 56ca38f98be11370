"""Combine the channels of a signal at every point."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._typing import Device, DType


class ChannelLinear(nn.Module):
    """Affine combination of channels at every point: ``[B,C,...] -> [B,C',...]`` on any space.

    Args:
        in_channels: C.
        out_channels: C'.
        bias: add a learned constant to each channel.
        device: where the parameters live.
        dtype: their dtype.
    """

    def __init__(
        self, in_channels: int, out_channels: int, bias: bool = True, *, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        self.in_channels = _checks.positive_int("in_channels", in_channels)
        self.out_channels = _checks.positive_int("out_channels", out_channels)
        _checks.flag("bias", bias)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draw weights uniformly within :math:`1/\sqrt{C}`, as in ``torch.nn.Linear``."""
        bound = 1 / math.sqrt(self.in_channels)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, u: Tensor) -> Tensor:
        """Mix the channels of ``u``.

        Args:
            u: a signal ``[B,C,...]`` on any space.
        """
        if _checks.weighted("u", u, self.in_channels, self.weight).ndim < 3:
            raise ValueError(f"u: expected a signal [B,C,...] of rank at least three, got shape {tuple(u.shape)}")
        weight = self.weight.expand(u.shape[0], -1, -1)  # matmul would transpose u instead, ten times slower
        mixed = torch.unflatten(torch.bmm(weight, u.flatten(2)), 2, u.shape[2:])
        return mixed if self.bias is None else mixed + self.bias.view(-1, *(1,) * (u.ndim - 2))

    def extra_repr(self) -> str:
        """Return channels and bias."""
        return f"{self.in_channels}, {self.out_channels}, bias={self.bias is not None}"
