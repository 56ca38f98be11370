"""The diffusion-shock term, with two metrics and two rates per channel."""

from __future__ import annotations

import math

import torch
from torch import nn

from pdegcnn import _checks
from pdegcnn.nn.parameters import LearnableAlpha, MetricParameter
from pdegcnn.nn.terms import TERMS, MetricTerm, Step
from pdegcnn.pde import KernelSize, Options, Radius, Solver
from pdegcnn.pde.derivatives import grid_step
from pdegcnn.pde.shock import NAME, ShockParameters, ShockSolver
from pdegcnn.spaces import Space

CONTRAST, SHARPNESS = 4.0, 0.5
"""Where learning starts, for signals of variance one: the sharpness per grid step."""


class DiffusionShock(MetricTerm):
    """Diffusion where a signal is flat, dilation and erosion at edges; see :func:`pdegcnn.functional.diffusion_shock`.

    Each channel learns the metric of the diffusion, the metric of the shocks, the contrast and the sharpness.

    Args:
        space: the space.
        channels: number of channels C.
        alpha: power of dilation and erosion in [1/2, 1], or a learned :class:`~pdegcnn.nn.parameters.LearnableAlpha`.
        metric: form of both metrics, ``"diagonal"`` or ``"spd"``.
        smoothing: as in the function.
        kernel_size: as in the function.
        radius: as in the function.
        distance: as in the function.
        boundary: as in the function.
        padding_mode: as in the function.
        subgrid: as in the function.
        oversample: as in the function.
        device: where the parameters live.
        dtype: their dtype.
    """

    def __init__(
        self,
        space: Space,
        channels: int,
        *,
        alpha: float | LearnableAlpha = 0.65,
        metric: str = "diagonal",
        smoothing: Radius | None = None,
        kernel_size: KernelSize | None = None,
        radius: Radius | None = None,
        distance: str | None = None,
        boundary: str | None = None,
        padding_mode: str | None = None,
        subgrid: str | None = None,
        oversample: int | tuple[int, int | None] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        options = Options(
            kernel_size=kernel_size,
            radius=radius,
            distance=distance,
            boundary=_checks.border(boundary, padding_mode),
            subgrid=subgrid,
            oversample=oversample,
            smoothing=smoothing,
        )
        super().__init__(NAME, space, channels, options, alpha, metric, device, dtype)
        self.diffusion_metric = MetricParameter(space, channels, metric, device=device, dtype=dtype)
        self.log_contrast = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.log_sharpness = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set contrast and sharpness for signals of variance one on this grid; leave the metrics unchanged."""
        nn.init.constant_(self.log_contrast, math.log(CONTRAST))
        nn.init.constant_(self.log_sharpness, math.log(SHARPNESS / grid_step(self.space)))

    def parameters_of_shock(self) -> ShockParameters:
        """Return both metrics, the contrast and the sharpness; ``metric`` belongs to the shocks."""
        return ShockParameters(
            self.diffusion_metric(), self.metric(), self.log_contrast.exp(), self.log_sharpness.exp()
        )

    def _step(self, solver: Solver, time: float) -> Step:
        assert isinstance(solver, ShockSolver)
        return self.log_contrast, solver.diffusion_shock, (self.parameters_of_shock(), self.power(), time)


TERMS[NAME] = DiffusionShock
