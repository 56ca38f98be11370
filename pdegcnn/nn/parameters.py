"""Parameters that are valid for every real value: metrics, powers and temperatures."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._typing import Device, DType
from pdegcnn.kernels.metric import METRICS, Metric
from pdegcnn.spaces import Space

LOWEST, HIGHEST = 0.51, 0.99
"""Range of a learned power: the kernels are singular at 1/2, and 1 is reached only in the limit."""


class MetricParameter(nn.Module):
    """A learnable left-invariant metric per channel; calling it returns the metric.

    Args:
        space: the space.
        channels: number of channels C.
        form: ``"diagonal"`` or ``"spd"``; in three dimensions also ``"axisymmetric"`` (the first two weights are
            equal), on the plane also ``"finsler"`` and ``"randers"``.
        device: where the parameters live.
        dtype: their dtype.
    """

    def __init__(
        self, space: Space, channels: int, form: str = "diagonal", *, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        _checks.kind("space", space, Space, "a space")
        allowed = tuple(f for f in METRICS if space.metric_dim in METRICS[f].dims)
        self.form = _checks.choice("metric", form, allowed)
        self.space, self.channels = space, _checks.positive_int("channels", channels)
        shape = METRICS[form].raw_shape(space.metric_dim)
        self.raw = nn.Parameter(torch.empty(channels, *shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights log-uniformly between 1/2 and 3/2 over the space's units: balls hold a few grid points."""
        units = self.space.metric_scale.to(self.raw)
        with torch.no_grad():
            weights = torch.empty(self.channels, len(units), device=self.raw.device, dtype=self.raw.dtype)
            weights.uniform_(math.log(0.5), math.log(1.5)).sub_(units.log())
            self.raw.copy_(METRICS[self.form].raw_of_diagonal(weights))

    def forward(self) -> Metric:
        """Return the metric."""
        return METRICS[self.form].from_raw(self.raw)

    def extra_repr(self) -> str:
        """Return channels and form."""
        return f"{self.space}, {self.channels}, form={self.form!r}"


class LearnableAlpha(nn.Module):
    """A learnable power alpha in (0.51, 0.99), shared by all channels; calling it returns alpha.

    Args:
        initial: initial value, in that range.
        device: where the parameter lives.
        dtype: its dtype.
    """

    def __init__(self, initial: float, *, device: Device = None, dtype: DType = None) -> None:
        super().__init__()
        _checks.number("alpha", initial, 0.0, 1.0)
        if not LOWEST < initial < HIGHEST:
            raise ValueError(f"alpha: expected a value in ({LOWEST}, {HIGHEST}) to learn from, got {initial}")
        self.initial = initial
        self.raw = nn.Parameter(torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Return to the initial power."""
        share = (self.initial - LOWEST) / (HIGHEST - LOWEST)
        with torch.no_grad():
            self.raw.fill_(math.log(share / (1 - share)))

    def forward(self) -> Tensor:
        """Return alpha, a scalar tensor."""
        return LOWEST + (HIGHEST - LOWEST) * torch.sigmoid(self.raw)

    def extra_repr(self) -> str:
        """Return the initial power."""
        return f"initial={self.initial}"


class LearnableTemperature(nn.Module):
    """A learnable temperature per channel, the exponential of its parameter; calling it returns them, ``[C]``.

    Args:
        channels: number of channels C.
        initial: initial value, positive, in units of the signal.
        device: where the parameter lives.
        dtype: its dtype.
    """

    def __init__(self, channels: int, initial: float, *, device: Device = None, dtype: DType = None) -> None:
        super().__init__()
        self.channels = _checks.positive_int("channels", channels)
        self.initial = _checks.plain_number("initial", initial, 0.0, math.inf, open_low=True)
        self.raw = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Return to the initial temperature."""
        with torch.no_grad():
            self.raw.fill_(math.log(self.initial))

    def forward(self) -> Tensor:
        """Return the temperatures, ``[C]``."""
        return self.raw.exp()

    def extra_repr(self) -> str:
        """Return channels and the initial temperature."""
        return f"{self.channels}, initial={self.initial}"
