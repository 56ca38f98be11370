"""Diffusion-shock on every space: diffusion where a signal is flat, dilation or erosion on either side of an edge."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._dtypes import widen
from pdegcnn._typing import tolist
from pdegcnn.kernels.metric import Metric
from pdegcnn.pde.arguments import diffusivity, wide_metric
from pdegcnn.pde.derivatives import Derivatives, squared_gradient
from pdegcnn.pde.grid import GridSolver
from pdegcnn.pde.grid_derivatives import GridDerivatives
from pdegcnn.pde.grid_lattice import SAMPLES
from pdegcnn.pde.mesh import MeshSolver
from pdegcnn.pde.mesh_derivatives import MeshDerivatives
from pdegcnn.pde.solver import Alpha, Options, Solver
from pdegcnn.pde.sphere import SphereSolver
from pdegcnn.pde.sphere_derivatives import SphereDerivatives
from pdegcnn.pde.volume_derivatives import VolumeDerivatives
from pdegcnn.spaces import R3, Mesh, PlanarSpace, RotationSpace, Space

NAME = "diffusion_shock"
IMAGES = 8.0
"""Signals that a step holds at once."""
LEAST_SHARPNESS = 1e-6
"""Sharper edges act as this one, whose square single precision holds."""


@dataclass(frozen=True)
class ShockParameters:
    """The parameters of the equation.

    Attributes:
        diffusion_metric: metric of the diffusion.
        shock_metric: metric of dilation and erosion, and of the slope that decides between them and diffusion.
        contrast: lambda ``[C]`` or ``[1]``.
        sharpness: eps ``[C]`` or ``[1]``.
    """

    diffusion_metric: Metric
    shock_metric: Metric
    contrast: Tensor
    sharpness: Tensor


def _in_range(changed: Tensor, signal: Tensor) -> Tensor:
    """Limit each channel to the range of the signal's samples."""
    axes = tuple(range(2, signal.ndim))
    return torch.minimum(torch.maximum(changed, signal.amin(axes, True)), signal.amax(axes, True))


class ShockSolver(Solver):
    """Solver of diffusion-shock from those of its parts; each family of spaces has a subclass.

    The mean of a step is convex, so its values stay within the range of the signal. Its parts can leave that range, and
    are limited to it: exact diffusion of samples, and a supremum that reads values between samples.
    """

    PARTS: ClassVar[type[Solver]]
    DERIVATIVES: ClassVar[type[Derivatives]]
    DIFFUSION: ClassVar[str | None] = None
    """Method of the diffusion."""

    def _set_up(self, options: Options, like: Tensor) -> None:
        self.diffusing, self.shocking = (self._part(term, options, like) for term in ("diffusion", "dilation"))
        known = "boundary" in self.OPTIONS[NAME]
        self.derivatives = self.DERIVATIVES(self.space, options.smoothing, options.boundary if known else None, like)

    def _part(self, term: str, options: Options, like: Tensor) -> Solver:
        known = self.PARTS.OPTIONS[term]
        others = {name: None for name in options.given() if name not in known}
        method = self.DIFFUSION if term == "diffusion" else None
        part = replace(options, method=method, **others)
        return self.PARTS(self.space, term, part, device=like.device, dtype=like.dtype)

    @property
    def channels_are_independent(self) -> bool:
        """Whether some channels give alone what they give beside others."""
        return self.diffusing.channels_are_independent and self.shocking.channels_are_independent

    @property
    def expansion(self) -> float:
        """How many numbers are held for each sample of a signal."""
        return max(IMAGES, self.shocking.expansion)

    @property
    def power_range(self) -> tuple[float, float, bool]:
        """Range of the power alpha of dilation and erosion, and whether it leaves out its lower end."""
        return self.shocking.power_range

    def diffusion_shock(self, u: Tensor, parameters: ShockParameters, alpha: Alpha, time: float) -> Tensor:
        """Return u after a step: of each part, by the share that the switches give it."""
        flatness, side = self.switches(u, parameters)
        signal = widen(u)
        diffused = self._in_range(widen(self.diffusing.diffusion(u, parameters.diffusion_metric, 1.0, time)), signal)
        dilated, eroded = (
            widen(self.shocking.morphology(u, parameters.shock_metric, alpha, time, sign)) for sign in (+1, -1)
        )
        if self._reads_between_samples():
            dilated, eroded = _in_range(dilated, signal), _in_range(eroded, signal)
        shocked = (-side).relu() * (dilated - signal) - side.relu() * (signal - eroded)
        return (signal + flatness * (diffused - signal) + (1 - flatness) * shocked).to(u.dtype)

    def switches(self, u: Tensor, parameters: ShockParameters) -> tuple[Tensor, Tensor]:
        """Return ``g`` in [0, 1], how flat u is, and ``S`` in [-1, 1]: negative on crests, positive in valleys."""
        first, lateral = self.derivatives.gates(u)
        contrast, sharpness = (
            widen(x).reshape(-1, *(1,) * (u.ndim - 2)) for x in (parameters.contrast, parameters.sharpness)
        )
        inverse = diffusivity(wide_metric(parameters.shock_metric), "shock_metric").to(lateral.dtype)
        flatness = 1 / (1 + contrast * squared_gradient(first, inverse))
        side = torch.atan(lateral / sharpness.clamp_min(LEAST_SHARPNESS) ** 2) * (2 / math.pi)
        return flatness, side

    def _in_range(self, diffused: Tensor, signal: Tensor) -> Tensor:
        """Return the diffused signal, as it is where the solver takes a mean."""
        return diffused

    def _reads_between_samples(self) -> bool:
        """Return whether dilation and erosion read values between samples, which can leave the range of the samples."""
        return False


class GridShock(ShockSolver):
    """Diffusion-shock on the plane and on SE(2)."""

    OPTIONS: ClassVar = {NAME: ("kernel_size", "radius", "distance", "boundary", "oversample", "smoothing")}
    HAS_TABLES: ClassVar = True
    PARTS: ClassVar = GridSolver
    DERIVATIVES: ClassVar = GridDerivatives
    DIFFUSION: ClassVar = "sampled"  # the kernel's mass beyond its window would reach every pixel of the image
    shocking: GridSolver

    def _reads_between_samples(self) -> bool:
        return self.shocking.passes != SAMPLES


class VolumeShock(GridShock):
    """Diffusion-shock on volumes."""

    DERIVATIVES: ClassVar = VolumeDerivatives


class SphereShock(ShockSolver):
    """Diffusion-shock on the sphere and on SO(3)."""

    OPTIONS: ClassVar = {NAME: ("kernel_size", "radius", "distance", "subgrid", "oversample", "smoothing")}
    HAS_TABLES: ClassVar = True
    PARTS: ClassVar = SphereSolver
    DERIVATIVES: ClassVar = SphereDerivatives

    shocking: SphereSolver

    def _reads_between_samples(self) -> bool:
        return self.shocking.finer is not None

    def _in_range(self, diffused: Tensor, signal: Tensor) -> Tensor:
        """Limit a diffusion in the harmonic domain to the range of the samples, which it can leave."""
        return _in_range(diffused, signal)


class MeshShock(ShockSolver):
    """Diffusion-shock on a mesh."""

    OPTIONS: ClassVar = {NAME: ("kernel_size", "radius", "distance", "boundary", "smoothing")}
    PARTS: ClassVar = MeshSolver
    DERIVATIVES: ClassVar = MeshDerivatives
    DIFFUSION: ClassVar = "sampled"  # as on grids


SHOCKS: dict[type[Space], type[ShockSolver]] = {
    PlanarSpace: GridShock,
    R3: VolumeShock,
    RotationSpace: SphereShock,
    Mesh: MeshShock,
}
"""Solvers of diffusion-shock by family of spaces."""


def check_rate(name: str, value: float | Tensor, u: Tensor) -> Tensor:
    """Return a positive number, or one for each channel of u, as a tensor ``[1]`` or ``[C]``, else raise."""
    if not isinstance(value, Tensor):
        _checks.number(name, value, 0.0, math.inf, open_low=True)
        return torch.tensor([float(value)], dtype=widen(u).dtype, device=u.device)
    _checks.tensor(name, value, (0, 1), "[C]")
    value = value.reshape(-1)
    if value.shape[0] != 1 and value.shape[0] != u.shape[1]:
        raise ValueError(f"{name}: expected one number or {u.shape[1]}, one for each channel, got {value.shape[0]}")
    _checks.same_kind(name, value, "u", widen(u) if value.dtype == torch.float32 else u)
    if _checks.has_values(value) and not bool((value.isfinite() & (value > 0)).all()):
        raise ValueError(f"{name}: expected finite positive numbers, got {tolist(value.detach()[:8])}")
    return value
