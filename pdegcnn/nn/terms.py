"""The PDE terms as modules. To add a term, write a class and enter it in ``TERMS``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._derived import Derived
from pdegcnn._modules import parameter
from pdegcnn.nn.parameters import LearnableAlpha, LearnableTemperature, MetricParameter
from pdegcnn.pde import KernelSize, Options, Radius, Solver, solver_for
from pdegcnn.pde.sphere import SphereSolver
from pdegcnn.spaces import Mesh, Space

STREAM_ABOVE = 2**25
"""Signals of more numbers are solved a few channels at a time where no gradients are recorded."""
Step = tuple[Tensor, Callable[..., Tensor], tuple[Any, ...]]
"""A parameter with an entry for each channel, a method of a solver, and its arguments after the signal."""


class Term(Derived, ABC):
    """Base class of terms: a solver, checks of the signal, and steps of large signals a few channels at a time.

    A subclass says in `_step` which method of the solver takes which parameters.

    Args:
        name: name of the term.
        space: the space.
        channels: number of channels C.
        options: choices of the solver.
        device: where the parameters live.
        dtype: their dtype.
    """

    def __init__(
        self,
        name: str,
        space: Space,
        channels: int,
        options: Options,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.space, self.channels = space, _checks.positive_int("channels", channels)
        self.solver = solver_for(space, name, options, device=device, dtype=dtype)

    def forward(self, u: Tensor, time: float = 1.0, mesh: Mesh | None = None) -> Tensor:
        """Solve for a step of length ``time``, on ``mesh`` in place of the mesh of the constructor if given.

        Autocast is off inside: kernels are powers of distances, which half precision does not resolve.
        """
        solver = self.solver if mesh is None else self._on(mesh)
        solver.space.check_signal("u", u)
        if _checks.autocasts(u.device):
            with torch.autocast(u.device.type, enabled=False):
                return self.forward(u.to(parameter(self).dtype), time, mesh)
        weight, step, given = self._step(solver, time)
        if u.shape[1] != weight.shape[0]:
            _checks.channels("u", u, weight.shape[0], self.space.layout)
        if u.dtype != weight.dtype or u.device != weight.device:
            _checks.same_kind("u", u, "the parameters", weight)
        if isinstance(time, Tensor) or time != 1.0:
            solver.check_time(time)
        if torch.is_grad_enabled() or not (solver.channels_are_independent and _checks.has_values(u)):
            return step(u, *given)  # first, so that a trace does not record sizes
        return _in_parts(solver, step, u, given) if u.numel() * solver.expansion > STREAM_ABOVE else step(u, *given)

    @abstractmethod
    def _step(self, solver: Solver, time: float) -> Step:
        """Return a parameter with an entry for each channel, the method of ``solver`` and what it takes after u."""

    def _on(self, mesh: Mesh) -> Solver:
        if not isinstance(self.space, Mesh):
            raise TypeError(f"mesh: expected None for a term on {self.space}, got {type(mesh).__name__}")
        return self.solver.on(_checks.kind("mesh", mesh, Mesh, "a Mesh"))

    def extra_repr(self) -> str:
        """Return the space and channels; the solver shows its options."""
        return f"{self.space}, {self.channels}"


class Convection(Term):
    """Transport along a learned left-invariant vector per channel; see :func:`pdegcnn.functional.convection`.

    Args:
        space: the space.
        channels: number of channels C.
        method: as in the function.
        boundary: as in the function.
        padding_mode: as in the function.
        inner_orientations: as in the function.
        device: where the parameters live.
        dtype: their dtype.
    """

    def __init__(
        self,
        space: Space,
        channels: int,
        *,
        method: str | None = None,
        boundary: str | None = None,
        padding_mode: str | None = None,
        inner_orientations: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        outside = _checks.border(boundary, padding_mode)
        options = Options(method=method, boundary=outside, inner_orientations=inner_orientations)
        super().__init__("convection", space, channels, options, device, dtype)
        self.vector = nn.Parameter(torch.empty(channels, space.dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw vectors uniformly within one grid step along each frame vector."""
        _within_a_grid_step(self.vector, self.space)

    def _step(self, solver: Solver, time: float) -> Step:
        return self.vector, solver.convection, (self.vector, time)


class MetricTerm(Term):
    """A term driven by a learned metric per channel and a power."""

    def __init__(
        self,
        name: str,
        space: Space,
        channels: int,
        options: Options,
        alpha: float | LearnableAlpha,
        metric: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(name, space, channels, options, device, dtype)
        self.metric = MetricParameter(space, channels, metric, device=device, dtype=dtype)
        self.alpha = alpha if isinstance(alpha, LearnableAlpha) else self.solver.check_power(alpha)

    def power(self) -> float | Tensor:
        """Return the power alpha."""
        return self.alpha() if isinstance(self.alpha, LearnableAlpha) else self.alpha

    def extra_repr(self) -> str:
        """Return the space, channels and power."""
        alpha = "learned" if isinstance(self.alpha, LearnableAlpha) else self.alpha
        return f"{super().extra_repr()}, alpha={alpha}"


class Diffusion(MetricTerm):
    """Fractional diffusion with a learned metric per channel; see :func:`pdegcnn.functional.diffusion`.

    Args:
        space: the space.
        channels: number of channels C.
        alpha: power in (0, 1], or a learned :class:`~pdegcnn.nn.parameters.LearnableAlpha`.
        metric: form of the metric, ``"diagonal"`` or ``"spd"``.
        method: as in the function.
        kernel_size: as in the function.
        radius: as in the function.
        distance: as in the function.
        boundary: as in the function.
        padding_mode: as in the function.
        inner_orientations: as in the function.
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
        method: str | None = None,
        kernel_size: KernelSize | None = None,
        radius: Radius | None = None,
        distance: str | None = None,
        boundary: str | None = None,
        padding_mode: str | None = None,
        inner_orientations: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        outside = _checks.border(boundary, padding_mode)
        options = Options(
            method=method,
            kernel_size=kernel_size,
            radius=radius,
            distance=distance,
            boundary=outside,
            inner_orientations=inner_orientations,
        )
        super().__init__("diffusion", space, channels, options, alpha, metric, device, dtype)

    def _step(self, solver: Solver, time: float) -> Step:
        return self.metric.raw, solver.diffusion, (self.metric(), self.power(), time)


class ConvectionDiffusion(MetricTerm):
    """Convection and diffusion together, on SO(3); see :func:`pdegcnn.functional.convection_diffusion`.

    Args:
        space: the space.
        channels: number of channels C.
        alpha: power in (0, 1], or a learned :class:`~pdegcnn.nn.parameters.LearnableAlpha`.
        metric: form of the metric.
        method: ``"spectral"``, the only one.
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
        method: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        options = Options(method=method)
        super().__init__("convection_diffusion", space, channels, options, alpha, metric, device, dtype)
        self.vector = nn.Parameter(torch.empty(channels, space.dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw vectors uniformly within one grid step along each frame vector; leave the metric unchanged."""
        _within_a_grid_step(self.vector, self.space)

    def _step(self, solver: Solver, time: float) -> Step:
        assert isinstance(solver, SphereSolver)
        return self.metric.raw, solver.convection_diffusion, (self.vector, self.metric(), self.power(), time)


class Morphology(MetricTerm):
    """Dilation (sign +1) or erosion (-1) with a learned metric; see :func:`pdegcnn.functional.dilation`.

    Args:
        space: the space.
        channels: number of channels C.
        sign: +1 for dilation, -1 for erosion.
        alpha: power in [1/2, 1], or a learned :class:`~pdegcnn.nn.parameters.LearnableAlpha`.
        metric: form of the metric.
        kernel_size: as in the function.
        radius: as in the function.
        distance: as in the function.
        subgrid: as in the function.
        oversample: as in the function.
        semifield: as in the function.
        inner_orientations: as in the function.
        temperature: as in the function, one for all channels.
        learn_temperature: learn a temperature for each channel, starting from ``temperature``.
        device: where the parameters live.
        dtype: their dtype.
    """

    def __init__(
        self,
        space: Space,
        channels: int,
        *,
        sign: int = +1,
        alpha: float | LearnableAlpha = 0.65,
        metric: str = "diagonal",
        kernel_size: KernelSize | None = None,
        radius: Radius | None = None,
        distance: str | None = None,
        subgrid: str | None = None,
        oversample: int | tuple[int, int | None] | None = None,
        semifield: str = "max_plus",
        inner_orientations: int | None = None,
        temperature: float | None = None,
        learn_temperature: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        name = "dilation" if _checks.choice("sign", sign, (+1, -1)) == 1 else "erosion"
        options = Options(
            kernel_size=kernel_size,
            radius=radius,
            distance=distance,
            subgrid=subgrid,
            oversample=oversample,
            semifield=semifield,
            inner_orientations=inner_orientations,
        )
        super().__init__(name, space, channels, options, alpha, metric, device, dtype)
        self.sign = sign
        self.temperature = check_temperature(semifield, temperature, learn_temperature)
        if learn_temperature:
            self.temperature = LearnableTemperature(channels, temperature or 0.0, device=device, dtype=dtype)

    def _step(self, solver: Solver, time: float) -> Step:
        given = self.metric(), self.power(), time, self.sign
        if self.temperature is None:
            return self.metric.raw, solver.morphology, given
        temperatures = self.temperature() if isinstance(self.temperature, LearnableTemperature) else self.temperature
        return self.metric.raw, solver.soft_morphology, (*given, temperatures)

    def extra_repr(self) -> str:
        """Return the space, channels, power and, where it is not learned, the temperature."""
        fixed = f", temperature={self.temperature}" if isinstance(self.temperature, float) else ""
        return f"{super().extra_repr()}{fixed}"


def check_temperature(semifield: str, temperature: float | None, learn: bool) -> float | None:
    """Return the temperature that layers start from, None for max-plus, which has no temperature, else raise."""
    if _checks.flag("learn_temperature", learn) and semifield == "max_plus":
        raise ValueError("learn_temperature: expected False for semifield='max_plus', got True")
    return _checks.temperature(temperature, semifield)


def _in_parts(solver: Solver, step: Callable[..., Tensor], u: Tensor, given: Sequence[Any]) -> Tensor:
    """Return ``step(u, *given)``, a few channels at a time: solvers need memory of several signals."""
    size, out = max(1, int(STREAM_ABOVE * u.shape[1] / (4 * u.numel() * solver.expansion))), None
    for group in [slice(start, start + size) for start in range(0, u.shape[1], size)]:
        part = step(u[:, group], *(_of_channels(x, group) for x in given))
        out = part.new_empty(u.shape) if out is None else out
        out[:, group] = part
    assert out is not None
    return out


def _of_channels(parameter: Any, group: slice) -> Any:
    """Return what some channels have of a tensor, a metric, or an object of these; one entry or a number serves all."""
    if isinstance(parameter, (int, float)):
        return parameter
    if isinstance(parameter, Tensor):
        return parameter if not parameter.ndim or len(parameter) == 1 else parameter[group]
    held = cast("dict[str, Any]", vars(parameter))
    return type(parameter)(**{name: _of_channels(value, group) for name, value in held.items()})


def _within_a_grid_step(vector: Tensor, space: Space) -> None:
    with torch.no_grad():
        vector.uniform_(-1, 1).mul_(space.grid_spacing.to(vector))


TERMS: dict[str, Callable[..., nn.Module]] = {
    "convection": Convection,
    "diffusion": Diffusion,
    "convection_diffusion": ConvectionDiffusion,
    "dilation": partial(Morphology, sign=+1),
    "erosion": partial(Morphology, sign=-1),
}
"""The terms of PDE layers: what makes them from a space, a number of channels and their options.

A :class:`Term` holds a solver for its space. Any other module with ``forward(u, time=1.0, mesh=None)`` serves all
spaces.
"""


def is_solved(make: Callable[..., nn.Module]) -> bool:
    """Return whether an entry of ``TERMS`` holds a solver."""
    made = make.func if isinstance(make, partial) else make
    return isinstance(made, type) and issubclass(made, Term)
