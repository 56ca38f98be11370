"""Solvers of the terms on the sphere and on SO(3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._derived import lasting
from pdegcnn.kernels.metric import Metric, as_metric
from pdegcnn.kernels.morphological import morphological_kernel, radius_of_cost
from pdegcnn.kernels.rotation_distance import DEFAULT_ROTATION_DISTANCE, ROTATION_DISTANCES
from pdegcnn.pde.arguments import check_metric_kind, check_vector, spread, wide, wide_metric
from pdegcnn.pde.harmonic import GroupHarmonics, SphereHarmonics
from pdegcnn.pde.neighbours import Neighbours
from pdegcnn.pde.subgrid import NewtonStep
from pdegcnn.spaces import S2, SO3
from pdegcnn.spaces.s2 import grid_spacing

OPTIONS = {
    "convection": ("method",),
    "diffusion": ("method",),
    "convection_diffusion": ("method",),
    "dilation": ("kernel_size", "distance", "subgrid"),
    "erosion": ("kernel_size", "distance", "subgrid"),
}
"""Options of each term, besides those that every solver has."""
LINEAR = ("convection", "diffusion", "convection_diffusion")
KernelSize = int | Sequence[int] | str


def check_options(
    space: S2 | SO3,
    term: str,
    *,
    method: str | None = None,
    time: float = 1.0,
    kernel_size: KernelSize = 5,
    distance: str = DEFAULT_ROTATION_DISTANCE,
    subgrid: str | None = None,
) -> None:
    """Raise ``ValueError`` or ``TypeError`` for options that :func:`convection` and the others would refuse."""
    if method is not None:
        _checks.choice("method", method, ("spectral",))
    _checks.interval("time", time, 0.0, math.inf, open_low=term != "convection")
    if kernel_size != "auto":
        window_sizes(space, kernel_size)
    _checks.choice("distance", distance, ROTATION_DISTANCES)
    _checks.choice("subgrid", subgrid, (None, "newton"))
    if subgrid and distance == "exact" and isinstance(space, SO3):
        raise ValueError("distance: expected 'logarithmic' or 'tilt_twist' for subgrid='newton', got 'exact'")


def prepare(
    space: S2 | SO3,
    term: str,
    *,
    kernel_size: KernelSize = 5,
    distance: str = DEFAULT_ROTATION_DISTANCE,
    method: str | None = None,
    subgrid: str | None = None,
    device: Any = None,
    dtype: torch.dtype | None = None,
) -> nn.Module | None:
    """What a term derives from space and options alone: tables as buffers, nothing to save; None if data decide."""
    like = torch.empty(0, device=device, dtype=dtype or torch.get_default_dtype())
    if term in LINEAR:
        return _harmonics(space, like)
    if kernel_size == "auto":
        return None
    return Window(space, window_sizes(space, kernel_size), distance, subgrid, like)


class Window(nn.Module):
    """What dilation and erosion derive from space and options: the taps, and the Newton step if asked for."""

    def __init__(
        self, space: S2 | SO3, sizes: tuple[int, int], distance: str, subgrid: str | None, like: Tensor
    ) -> None:
        super().__init__()
        self.neighbours = Neighbours(space, sizes, distance, like)
        self.newton = NewtonStep(self.neighbours, like) if subgrid else None

    def forward(self, u: Tensor, metric: Metric, alpha: float | Tensor, time: float, sign: int) -> Tensor:
        """Dilation (sign +1) or erosion (-1) of u."""
        squared = self.neighbours.squared_distance(metric)
        squared = squared.expand(u.shape[1], *squared.shape[1:])
        kernel = morphological_kernel(squared, alpha, time)
        value = self.neighbours(u, kernel, sign)
        if self.newton is None:
            return value
        return value + self.newton(u, squared, metric, self.neighbours, alpha, time, sign)


def _harmonics(space: S2 | SO3, like: Tensor) -> GroupHarmonics | SphereHarmonics:
    return GroupHarmonics(space, like) if isinstance(space, SO3) else SphereHarmonics(space, like)


@lru_cache(maxsize=16)
def _cached(make: Callable[..., nn.Module], space: Any, *args: Any) -> nn.Module:
    *arguments, dtype, device = args
    return lasting(lambda: make(space, *arguments, torch.empty(0, dtype=dtype, device=device)))


def _plan(given: nn.Module | None, space: S2 | SO3, like: Tensor) -> Any:
    """The harmonics given, or those kept for this space, dtype and device."""
    return _cached(_harmonics, space, like.dtype, like.device) if given is None else given


def convection(
    u: Tensor,
    space: SO3,
    vector: Tensor,
    *,
    time: float = 1.0,
    method: str | None = None,
    plan: GroupHarmonics | None = None,
) -> Tensor:
    """``u(R exp(-time c))``; see :func:`pdegcnn.functional.convection`."""
    space.check_signal("u", u)
    check_options(space, "convection", method=method, time=time)
    vector = check_vector(vector, 3, u)
    signal = wide(u)
    return _plan(plan, space, signal).convection(signal, wide(vector), time).to(u.dtype)


def diffusion(
    u: Tensor,
    space: S2 | SO3,
    metric: Tensor | Metric,
    *,
    alpha: float | Tensor = 1.0,
    time: float = 1.0,
    method: str | None = None,
    plan: GroupHarmonics | SphereHarmonics | None = None,
) -> Tensor:
    """``exp(-time (-Delta)^alpha) u``; see :func:`pdegcnn.functional.diffusion`."""
    space.check_signal("u", u)
    check_options(space, "diffusion", method=method, time=time)
    _checks.interval("alpha", alpha, 0.0, 1.0, open_low=True)
    metric = wide_metric(check_metric_kind(as_metric(metric, space.metric_dim, u.shape[1]), u))
    signal = wide(u)
    return _plan(plan, space, signal).diffusion(signal, _diffusivity(metric, space, u), _power(alpha), time).to(u.dtype)


def convection_diffusion(
    u: Tensor,
    space: SO3,
    vector: Tensor,
    metric: Tensor | Metric,
    *,
    alpha: float | Tensor = 1.0,
    time: float = 1.0,
    method: str | None = None,
    plan: GroupHarmonics | None = None,
) -> Tensor:
    """``exp(-time (c + (-Delta)^alpha)) u``; see :func:`pdegcnn.functional.convection_diffusion`."""
    space.check_signal("u", u)
    check_options(space, "convection_diffusion", method=method, time=time)
    _checks.interval("alpha", alpha, 0.0, 1.0, open_low=True)
    vector = wide(check_vector(vector, 3, u))
    metric = wide_metric(check_metric_kind(as_metric(metric, space.metric_dim, u.shape[1]), u))
    signal = wide(u)
    diffusivity, power = _diffusivity(metric, space, u), _power(alpha)
    return _plan(plan, space, signal).convection_diffusion(signal, vector, diffusivity, power, time).to(u.dtype)


def morphology(
    u: Tensor,
    space: S2 | SO3,
    metric: Tensor | Metric,
    *,
    sign: int,
    alpha: float | Tensor = 0.65,
    kernel_size: KernelSize = 5,
    time: float = 1.0,
    distance: str = DEFAULT_ROTATION_DISTANCE,
    subgrid: str | None = None,
    plan: Window | None = None,
) -> Tensor:
    """Dilation (sign +1) or erosion (-1); see :func:`pdegcnn.functional.dilation`."""
    space.check_signal("u", u)
    check_options(space, "dilation", time=time, kernel_size=kernel_size, distance=distance, subgrid=subgrid)
    _checks.interval("alpha", alpha, 0.5, 1.0, open_low=isinstance(alpha, Tensor) or subgrid is not None)
    metric = wide_metric(check_metric_kind(as_metric(metric, space.metric_dim, u.shape[1]), u))
    signal = wide(u)
    if plan is None:
        sizes = (
            _enclosing_sizes(signal, space, metric, alpha, time)
            if kernel_size == "auto"
            else window_sizes(space, kernel_size)
        )
        plan = _cached(Window, space, sizes, distance, subgrid, signal.dtype, signal.device)  # type: ignore[assignment]
        assert plan is not None
    return plan(signal, metric, alpha, time, sign).to(u.dtype)


def window_sizes(space: S2 | SO3, kernel_size: KernelSize) -> tuple[int, int]:
    """Steps of the fibre (1 on the sphere) and of the grid that a window is wide; more than a full turn is cut."""
    if isinstance(kernel_size, str):
        raise ValueError(f"kernel_size: expected an odd int, a pair of them or 'auto', got {kernel_size!r}")
    if not isinstance(kernel_size, (int, Sequence)):
        raise TypeError(f"kernel_size: expected an odd int, a pair of them or 'auto', got {kernel_size!r}")
    names = "(fibre, sphere)" if isinstance(space, SO3) else "(sphere,)"
    count = 2 if isinstance(space, SO3) else 1
    sizes = (kernel_size,) * count if isinstance(kernel_size, int) else tuple(kernel_size)
    if isinstance(kernel_size, bool) or len(sizes) != count:
        raise ValueError(f"kernel_size: expected an odd int or {count} of them {names}, got {kernel_size!r}")
    _checks.odd("kernel_size", sizes)
    if isinstance(space, S2):
        return 1, sizes[0]
    return min(sizes[0], space.fibre + 1 - space.fibre % 2), sizes[1]


def _enclosing_sizes(u: Tensor, space: S2 | SO3, metric: Metric, alpha: float | Tensor, time: float) -> tuple[int, int]:
    """The smallest window that holds every neighbour that could win: whose cost is below the range of u."""
    with torch.no_grad():
        radius = radius_of_cost(spread(u), alpha, time)
        if not bool(radius.isfinite().all()):
            raise ValueError("u: expected finite values to choose kernel_size='auto', got NaN or infinity")
        # no distance is below the least weight times the rotation angle, which bounds tilt and twist
        least = torch.linalg.eigvalsh(metric.gram())[:, 0].clamp_min(torch.finfo(radius.dtype).tiny).sqrt()
        angle = min(float((radius / least).amax()), math.pi)
    sphere_steps = 2 * math.ceil(angle / grid_spacing(space.grid)) + 1
    if isinstance(space, S2):
        return 1, sphere_steps
    return window_sizes(space, (2 * math.ceil(angle * space.fibre / (2 * math.pi)) + 1, sphere_steps))


def _diffusivity(metric: Metric, space: S2 | SO3, u: Tensor) -> Tensor:
    """The inverse metric of every channel of u; raises where it overflows."""
    inverse = metric.cometric().expand(u.shape[1], space.metric_dim, space.metric_dim)
    if _checks.has_values(inverse) and not bool(inverse.detach().isfinite().all()):
        got = metric.gram().detach().flatten()[:9].tolist()
        raise ValueError(f"metric: expected one whose inverse is finite in {inverse.dtype}, got matrices of {got}")
    return inverse


def _power(alpha: float | Tensor) -> float | Tensor:
    return wide(alpha) if isinstance(alpha, Tensor) else alpha
