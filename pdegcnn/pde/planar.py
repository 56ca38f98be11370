"""Solvers of the four terms on spaces with a regular grid (the plane, SE(2))."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn.kernels.diffusion import SMALLEST_ALPHA, diffusion_profile, radius_of_mass
from pdegcnn.kernels.distance import DEFAULT_DISTANCE, DISTANCES, ball_reach
from pdegcnn.kernels.metric import PLANE_ONLY, Metric, as_metric
from pdegcnn.kernels.morphological import morphological_kernel, radius_of_cost
from pdegcnn.ops.convection import convection as shift_signal
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.group_convolution.reference import BOUNDARIES
from pdegcnn.ops.morphology import morphological_convolution
from pdegcnn.pde import spectral
from pdegcnn.pde.arguments import check_metric_kind, check_vector, spread, wide, wide_metric
from pdegcnn.pde.kernel_cache import KernelCache
from pdegcnn.spaces import GridSpace

METHODS = {"convection": ("linear", "spectral"), "diffusion": ("kernel", "spectral")}
BOUNDARY = "replicate"
"""What lies outside the image unless the caller says otherwise: so constants stay constant."""
SINKHORN_STEPS = 30
"""Each halves the remaining imbalance between orientations, a percent at first."""
OPTIONS = {
    "convection": ("method", "boundary"),
    "diffusion": ("method", "kernel_size", "distance", "boundary"),
    "dilation": ("kernel_size", "distance"),
    "erosion": ("kernel_size", "distance"),
}
"""Options of each term, besides those that every solver has."""
KernelSize = int | Sequence[int] | str


def prepare(space: GridSpace, term: str, **options: Any) -> None:
    """Nothing: kernels follow from the parameters, and taps are cheap."""


def check_options(
    space: GridSpace,
    term: str,
    *,
    method: str | None = None,
    boundary: str | None = None,
    time: float = 1.0,
    kernel_size: KernelSize | None = None,
    distance: str = DEFAULT_DISTANCE,
) -> None:
    """Raise ``ValueError`` or ``TypeError`` for options that :func:`convection` and the others would refuse."""
    if method is not None:
        _checks.choice("method", method, METHODS[term])
    if boundary is not None:
        _checks.choice("boundary", boundary, BOUNDARIES if method != "spectral" else ("periodic",))
    _checks.interval("time", time, 0.0, math.inf, open_low=term != "convection")
    if kernel_size is not None and kernel_size != "auto":
        _fixed_sizes(space, kernel_size)
    _checks.choice("distance", distance, tuple(DISTANCES))


def convection(
    u: Tensor,
    space: GridSpace,
    vector: Tensor,
    *,
    time: float = 1.0,
    method: str = "linear",
    boundary: str | None = None,
) -> Tensor:
    """``u(g exp(-time c))``; see :func:`pdegcnn.functional.convection`."""
    grid = space.to_grid(space.check_signal("u", u))
    vector = check_vector(vector, space.dim, grid)
    check_options(space, "convection", method=method, boundary=boundary, time=time)
    if method == "spectral":
        return space.from_grid(_in_float32(spectral.convection, grid, space, vector, time))
    step = -time * vector
    angles = space.angles.to(grid)
    if space.dim == 3:
        x, y, turn = space.exp(step).unbind(-1)
        turn = step[:, 2] * (space.orientations / (2 * math.pi))
    else:
        x, y = step.unbind(-1)
        turn = torch.zeros_like(x)
    c, s = torch.cos(angles), torch.sin(angles)
    columns = x[:, None] * c - y[:, None] * s
    rows = x[:, None] * s + y[:, None] * c
    shift = torch.stack((turn[:, None].expand_as(rows), rows, columns), dim=-1)
    return space.from_grid(shift_signal(grid, shift, boundary=boundary or BOUNDARY))


def diffusion(
    u: Tensor,
    space: GridSpace,
    metric: Tensor | Metric,
    *,
    alpha: float | Tensor = 1.0,
    kernel_size: KernelSize = 5,
    time: float = 1.0,
    method: str = "kernel",
    distance: str = DEFAULT_DISTANCE,
    boundary: str | None = None,
    cache: KernelCache | None = None,
) -> Tensor:
    """``exp(-time (-Delta)^alpha) u``; see :func:`pdegcnn.functional.diffusion`."""
    grid = space.to_grid(space.check_signal("u", u))
    check_options(space, "diffusion", method=method, boundary=boundary, time=time, distance=distance)
    _checks.interval(
        "alpha", alpha, 0.0 if method == "spectral" else SMALLEST_ALPHA, 1.0, open_low=method == "spectral"
    )
    metric = wide_metric(check_metric_kind(as_metric(metric, space.dim, grid.shape[1]), grid))
    if method == "spectral":
        return space.from_grid(_in_float32(spectral.diffusion, grid, space, metric.cometric(), alpha, time))
    if metric.form in PLANE_ONLY:
        metric.cometric()  # says why it cannot be
    sizes = diffusion_sizes(grid, space, metric, alpha, kernel_size, time)
    kernel = _cached(cache, diffusion_kernel, space, metric, sizes, grid, alpha, time, distance)
    kernel = kernel.expand(grid.shape[1], *kernel.shape[1:])
    return space.from_grid(group_convolution(grid, kernel, boundary=boundary or BOUNDARY))


def morphology(
    u: Tensor,
    space: GridSpace,
    metric: Tensor | Metric,
    *,
    sign: int,
    alpha: float | Tensor = 0.65,
    kernel_size: KernelSize = 5,
    time: float = 1.0,
    distance: str = DEFAULT_DISTANCE,
    cache: KernelCache | None = None,
) -> Tensor:
    """Dilation (sign +1) or erosion (-1); see :func:`pdegcnn.functional.dilation`."""
    grid = space.to_grid(space.check_signal("u", u))
    check_options(space, "dilation", time=time, distance=distance)
    _checks.interval("alpha", alpha, 0.5, 1.0, open_low=isinstance(alpha, Tensor))
    metric = wide_metric(check_metric_kind(as_metric(metric, space.dim, grid.shape[1]), grid))
    sizes = morphology_sizes(grid, space, metric, alpha, kernel_size, time, distance)
    kernel = _cached(cache, morphology_kernel, space, metric, sizes, grid, alpha, time, distance)
    kernel = kernel.expand(grid.shape[1], *kernel.shape[1:])
    return space.from_grid(morphological_convolution(grid, kernel, sign))


def morphology_kernel(
    space: GridSpace,
    metric: Metric,
    sizes: tuple[int, int, int],
    like: Tensor,
    alpha: float | Tensor,
    time: float = 1.0,
    distance: str = DEFAULT_DISTANCE,
) -> Tensor:
    """The turned kernel ``k(h^-1 g)`` of dilation and erosion, ``[C,Or,KO,KH,KW]``."""
    return morphological_kernel(_squared_distance(space, metric, sizes, like, distance), alpha, time).to(like.dtype)


def diffusion_kernel(
    space: GridSpace,
    metric: Metric,
    sizes: tuple[int, int, int],
    like: Tensor,
    alpha: float | Tensor,
    time: float = 1.0,
    distance: str = DEFAULT_DISTANCE,
) -> Tensor:
    """The turned diffusion kernel, ``[C,Or,KO,KH,KW]``: a mean for each orientation, and it conserves mass.

    Turned samples of one function have different sums, so dividing by them would leak mass between orientations. The
    kernel is symmetric, and symmetric scaling by one factor per orientation (Sinkhorn & Knopp, 1967) gives both laws.
    """
    squared = _squared_distance(space, metric, sizes, like, distance)
    kernel = diffusion_profile(squared, alpha, space.dim, time) * space.tap_weights(sizes, squared)
    between = kernel.sum((-2, -1))  # [C,Or,KO]
    steps = torch.arange(sizes[0], device=like.device) - sizes[0] // 2
    there = (torch.arange(space.orientations, device=like.device)[:, None] + steps) % space.orientations
    scale = between.sum(-1).rsqrt()
    for _ in range(SINKHORN_STEPS):
        scale = (scale / (between * scale[:, there]).sum(-1)).sqrt()
    kernel = kernel * (scale[:, :, None] * scale[:, there])[..., None, None]
    return (kernel / kernel.sum((-3, -2, -1), keepdim=True)).to(like.dtype)


def _cached(
    cache: KernelCache | None,
    build: Any,
    space: GridSpace,
    metric: Metric,
    sizes: tuple[int, int, int],
    like: Tensor,
    alpha: float | Tensor,
    *rest: Any,
) -> Tensor:
    """What ``build`` gives for all that follows, from ``cache`` if it is there."""
    if cache is None:
        return build(space, metric, sizes, like, alpha, *rest)
    tensors = [v for v in (*vars(metric).values(), alpha) if isinstance(v, Tensor)]
    number = None if isinstance(alpha, Tensor) else alpha
    key = (build, metric.form, str(space), sizes, number, *rest)
    return cache.get(key, tensors, lambda: build(space, metric, sizes, like, alpha, *rest))


def morphology_sizes(
    u: Tensor,
    space: GridSpace,
    metric: Metric,
    alpha: float | Tensor,
    kernel_size: KernelSize,
    time: float = 1.0,
    distance: str = DEFAULT_DISTANCE,
) -> tuple[int, int, int]:
    """Tap numbers; ``"auto"``: every tap whose cost does not exceed the range of u fits, for no other can win.

    The centre costs nothing, so a tap that costs more than ``max u - min u`` loses to it.
    """
    if kernel_size != "auto":
        return _fixed_sizes(space, kernel_size)
    with torch.no_grad():
        radius = radius_of_cost(spread(u), alpha, time)
        return _enclosing_sizes(u, space, metric, radius, distance)


def diffusion_sizes(
    u: Tensor, space: GridSpace, metric: Metric, alpha: float | Tensor, kernel_size: KernelSize, time: float = 1.0
) -> tuple[int, int, int]:
    """Tap numbers; ``"auto"``: every tap whose weight is above 1e-4 of the centre's."""
    if kernel_size != "auto":
        return _fixed_sizes(space, kernel_size)
    with torch.no_grad():
        power = float(alpha) if isinstance(alpha, Tensor) else alpha
        radius = wide(u).new_full((u.shape[1],), radius_of_mass(power, space.dim, time))
        return _enclosing_sizes(u, space, metric, radius, DEFAULT_DISTANCE)


def _fixed_sizes(space: GridSpace, kernel_size: KernelSize) -> tuple[int, int, int]:
    if isinstance(kernel_size, str):
        raise ValueError(f"kernel_size: expected an odd int, a sequence of them or 'auto', got {kernel_size!r}")
    return space.kernel_sizes(kernel_size)


def _enclosing_sizes(
    u: Tensor, space: GridSpace, metric: Metric, radius: Tensor, distance: str
) -> tuple[int, int, int]:
    """Tap numbers of the box around the ball of ``radius [C]``, at most once around the circle and across the image."""
    if not bool(radius.isfinite().all()):
        raise ValueError("u: expected finite values to choose kernel_size='auto', got NaN or infinity")
    reach = ball_reach(metric, radius, distance)
    pixels, turn = (reach.amax(0) + 1e-6).clamp_max(_checks.LIMIT).tolist()
    steps = int(min(turn, 2 * math.pi) * space.orientations / (2 * math.pi))
    rows, columns = (2 * min(int(pixels), n - 1) + 1 for n in u.shape[-2:])
    size = (2 * steps + 1, rows, columns)
    return space.kernel_sizes(size if space.dim == 3 else size[1:])


def _squared_distance(
    space: GridSpace, metric: Metric, sizes: tuple[int, int, int], like: Tensor, distance: str
) -> Tensor:
    """Squared distance of ``h^-1 g`` for centre g and taps h, ``[C,Or,KO,KH,KW]``, in float32 for half precision."""
    estimate = DISTANCES[_checks.choice("distance", distance, tuple(DISTANCES))]
    return estimate(space, wide_metric(metric), space.taps(sizes, wide(like)))


def _in_float32(solver: Any, u: Tensor, space: GridSpace, parameter: Tensor, *rest: Any) -> Tensor:
    """Run a spectral solver, in float32 for half-precision signals (there is no half-precision eigendecomposition)."""
    if u.dtype in (torch.float16, torch.bfloat16):
        return solver(u.float(), space, parameter.float(), *rest).to(u.dtype)
    return solver(u, space, parameter, *rest)
