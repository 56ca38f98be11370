"""The PDE terms as modules. A new term is a class (or an argument of one) and a line in ``TERMS``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._derived import Derived
from pdegcnn.kernels.metric import Metric
from pdegcnn.nn._precision import in_parameter_precision
from pdegcnn.nn.parameters import MetricParameter, Power
from pdegcnn.pde import solver
from pdegcnn.pde.kernel_cache import KernelCache
from pdegcnn.spaces import GridSpace, Mesh, Space

STREAM_ABOVE = 2**25
"""Signals of more numbers are solved a few channels at a time where no gradients are recorded."""


class Convection(Derived):
    """Transport along a learned left-invariant vector per channel; see :func:`pdegcnn.functional.convection`.

    Args:
        space: the space.
        channels: number of channels C.
        options: further options of the solver, as ``method`` and ``boundary``.
        device: where the parameters live.
        dtype: their dtype.
    """

    def __init__(self, space: Space, channels: int, *, device: Any = None, dtype: Any = None, **options: Any) -> None:
        super().__init__()
        self.space, self.channels, self.options = space, _checks.positive_int("channels", channels), options
        self.plan = _prepare(space, "convection", options, device, dtype)
        self.vector = nn.Parameter(torch.empty(channels, space.dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Vectors uniform within a grid step along each frame vector."""
        _within_a_grid_step(self.vector, self.space)

    @in_parameter_precision
    def forward(self, u: Tensor, time: float = 1.0) -> Tensor:
        """Solve for a step of length ``time``."""
        _checks.channels("u", _checks.tensor("u", u), self.channels, self.space.layout)
        return _solve(self, solver(self.space, "convection").convection, u, self.vector, time=time)

    def extra_repr(self) -> str:
        """Space, channels and options."""
        return _describe(self.space, self.channels, self.options)


class _MetricTerm(Derived):
    """A term driven by a learned metric per channel and a power."""

    name: str

    def __init__(
        self,
        space: Space,
        channels: int,
        *,
        alpha: float | Power = 0.65,
        metric: str = "diagonal",
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.space, self.channels, self.options = space, _checks.positive_int("channels", channels), options
        self.plan = _prepare(space, self.name, options, device, dtype)
        self.metric = MetricParameter(space, channels, metric, device=device, dtype=dtype)
        self.alpha = alpha
        self.cache = KernelCache()

    def train(self, mode: bool = True) -> _MetricTerm:
        """Switch between training and use; the kernel of evaluation mode is forgotten."""
        self.cache.clear()
        return super().train(mode)

    def _cache(self) -> dict[str, KernelCache]:
        """The solver's option that keeps the kernel in evaluation mode, for solvers whose kernels are worth it."""
        return {"cache": self.cache} if isinstance(self.space, GridSpace) and not self.training else {}

    def _check(self, u: Tensor) -> None:
        _checks.channels("u", _checks.tensor("u", u), self.channels, self.space.layout)

    def power(self) -> float | Tensor:
        """The power alpha."""
        return self.alpha() if isinstance(self.alpha, Power) else self.alpha

    def extra_repr(self) -> str:
        """Space, channels and options."""
        return _describe(self.space, self.channels, {"alpha": self.alpha, **self.options})


class Diffusion(_MetricTerm):
    """Fractional diffusion with a learned metric per channel; see :func:`pdegcnn.functional.diffusion`.

    Args:
        space: the space.
        channels: number of channels C.
        alpha: power in (0, 1], or a learned :class:`~pdegcnn.nn.parameters.Power`.
        metric: form of the metric, ``"diagonal"`` or ``"spd"``.
        options: further options of the solver, as ``method``, ``kernel_size``, ``distance`` and ``boundary``.
    """

    name = "diffusion"

    @in_parameter_precision
    def forward(self, u: Tensor, time: float = 1.0) -> Tensor:
        """Solve for a step of length ``time``."""
        self._check(u)
        run = solver(self.space, self.name).diffusion
        whole = isinstance(self.space, Mesh)  # where one table of a profile serves all channels
        return _solve(self, run, u, self.metric(), whole=whole, alpha=self.power(), time=time, **self._cache())


class ConvectionDiffusion(_MetricTerm):
    """Convection and diffusion at once, on SO(3); see :func:`pdegcnn.functional.convection_diffusion`.

    Args:
        space: the space.
        channels: number of channels C.
        alpha: power in (0, 1], or a learned :class:`~pdegcnn.nn.parameters.Power`.
        metric: form of the metric.
        options: further options of the solver.
        device: where the parameters live.
        dtype: their dtype.
    """

    name = "convection_diffusion"

    def __init__(self, space: Space, channels: int, *, device: Any = None, dtype: Any = None, **options: Any) -> None:
        super().__init__(space, channels, device=device, dtype=dtype, **options)
        self.vector = nn.Parameter(torch.empty(channels, space.dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Vectors uniform within a grid step along each frame vector; the metric has its own."""
        _within_a_grid_step(self.vector, self.space)

    @in_parameter_precision
    def forward(self, u: Tensor, time: float = 1.0) -> Tensor:
        """Solve for a step of length ``time``."""
        self._check(u)
        run = solver(self.space, self.name).convection_diffusion
        return _solve(self, run, u, self.vector, self.metric(), alpha=self.power(), time=time)


class Morphology(_MetricTerm):
    """Dilation (sign +1) or erosion (-1) with a learned metric; see :func:`pdegcnn.functional.dilation`.

    Args:
        space: the space.
        channels: number of channels C.
        sign: +1 for dilation, -1 for erosion.
        alpha: power in [1/2, 1], or a learned :class:`~pdegcnn.nn.parameters.Power`.
        metric: form of the metric.
        options: further options of the solver, as ``kernel_size`` and ``distance``.
    """

    name = "dilation"

    def __init__(self, space: Space, channels: int, *, sign: int = +1, **options: Any) -> None:
        self.sign = _checks.choice("sign", sign, (+1, -1))
        super().__init__(space, channels, **options)
        if not isinstance(self.alpha, Power):
            _checks.interval("alpha", self.alpha, 0.5, 1.0)

    @in_parameter_precision
    def forward(self, u: Tensor, time: float = 1.0) -> Tensor:
        """Solve for a step of length ``time``."""
        self._check(u)
        run = solver(self.space, self.name).morphology
        options = {"sign": self.sign, "alpha": self.power(), "time": time, **self._cache()}
        return _solve(self, run, u, self.metric(), **options)

    def extra_repr(self) -> str:
        """Sign, space, channels and options."""
        return f"sign={self.sign:+d}, {super().extra_repr()}"


def _within_a_grid_step(vector: Tensor, space: Space) -> None:
    with torch.no_grad():
        vector.uniform_(-1, 1).mul_(space.grid_steps.to(vector))


def _prepare(space: Space, term: str, options: dict[str, Any], device: Any, dtype: Any) -> nn.Module | None:
    """Check the options of a term; what its solver derives from them once."""
    chosen = solver(space, term)
    chosen.check_options(space, term, **options)
    return chosen.prepare(space, term, device=device, dtype=dtype, **options)


def _solve(
    term: Any, run: Callable[..., Tensor], u: Tensor, *parameters: Any, whole: bool = False, **options: Any
) -> Tensor:
    """What the solver ``run`` of ``term`` gives for a signal and parameters.

    Solvers need memory of several signals. They keep channels apart, so without gradients a large signal is solved a
    few channels at a time. It is solved ``whole`` where the channels share something, as a kernel size that depends on
    all of them, and where the modules of a plan would be called more than once.
    """
    options |= term.options if term.plan is None else term.options | {"plan": term.plan}
    whole = whole or term.plan is not None or options.get("kernel_size") == "auto" or torch.is_grad_enabled()
    if whole or not _checks.has_values(u) or u.numel() <= STREAM_ABOVE:
        return run(u, term.space, *parameters, **options)
    options.pop("cache", None)
    size, out = max(1, STREAM_ABOVE * u.shape[1] // (4 * u.numel())), None
    for group in [slice(start, start + size) for start in range(0, u.shape[1], size)]:
        part = run(u[:, group], term.space, *(_of_channels(p, group) for p in parameters), **options)
        out = part.new_empty(u.shape) if out is None else out
        out[:, group] = part
    assert out is not None
    return out


def _of_channels(parameter: Tensor | Metric, group: slice) -> Any:
    """The vectors or the metric of some channels; one entry serves all."""
    if isinstance(parameter, Tensor):
        return parameter if len(parameter) == 1 else parameter[group]
    return type(parameter)(**{name: _of_channels(value, group) for name, value in vars(parameter).items()})


def _describe(space: Space, channels: int, options: dict[str, Any]) -> str:
    return ", ".join(
        [str(space), str(channels), *(f"{k}={v!r}" for k, v in options.items() if not isinstance(v, nn.Module))]
    )


TERMS: dict[str, Callable[..., nn.Module]] = {
    "convection": Convection,
    "diffusion": Diffusion,
    "convection_diffusion": ConvectionDiffusion,
    "dilation": partial(Morphology, sign=+1),
    "erosion": partial(Morphology, sign=-1),
}


def build_term(
    name: str,
    space: Space,
    channels: int,
    *,
    alpha: float | Power,
    metric: str,
    method: str | None,
    options: dict[str, Any],
    device: Any = None,
    dtype: Any = None,
) -> nn.Module:
    """The term ``name`` of a layer, given the layer's options; those that are None are left to the solver."""
    _checks.choice("terms", name, tuple(TERMS))
    allowed = solver(space, name).OPTIONS[name]
    chosen = {k: options[k] for k in allowed if options.get(k) is not None}
    if method is not None:
        chosen["method"] = method
        if method == "spectral":  # exact solvers have neither a kernel nor a border
            chosen = {"method": method}
    if name != "convection":
        chosen |= {"alpha": alpha, "metric": metric}
    return TERMS[name](space, channels, device=device, dtype=dtype, **chosen)
