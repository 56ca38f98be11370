"""Solvers of the four terms on spaces with a regular grid (the plane, SE(2))."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._derived import Table
from pdegcnn.kernels.diffusion import SMALLEST_ALPHA, profile, radius_of_mass
from pdegcnn.kernels.distance import DEFAULT_DISTANCE, DISTANCES, ball_reach
from pdegcnn.kernels.metric import PLANE_ONLY, Metric
from pdegcnn.kernels.morphological import cost, radius_of_cost
from pdegcnn.ops.convection import convection as shift_signal
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.group_convolution.reference import BOUNDARIES
from pdegcnn.ops.morphology import morphological_convolution
from pdegcnn.pde import grid_spectral
from pdegcnn.pde.arguments import HALF, check_may_look, spread, wide, wide_metric
from pdegcnn.pde.kernel_cache import KernelCache
from pdegcnn.pde.solver import Alpha, KernelSize, Options, Solver
from pdegcnn.spaces import GridSpace

METHODS = {"convection": ("linear", "spectral"), "diffusion": ("kernel", "spectral")}
BOUNDARY = "replicate"
"""What lies outside the image unless the caller says otherwise: so constants stay constant."""
RIGHT_ANGLE = math.pi / 2
"""Radians of orientation in a window whose radius is given in pixels alone."""
EDGE = 1e-6
"""Slack in samples: rounding must not decide which taps a window holds."""
SINKHORN_STEPS = 30
"""Each halves the remaining imbalance between orientations, a percent at first."""
Sizes = tuple[int, int, int]
"""Number of taps: orientations, rows, columns."""


class GridSolver(Solver):
    """Solver of one term on the plane or SE(2).

    In evaluation mode without gradients it keeps its last kernel for as long as the parameters stay the same.
    """

    OPTIONS: ClassVar = {
        "convection": ("method", "boundary"),
        "diffusion": ("method", "kernel_size", "radius", "distance", "boundary"),
        "dilation": ("kernel_size", "radius", "distance"),
        "erosion": ("kernel_size", "radius", "distance"),
    }
    space: GridSpace

    def _set_up(self, options: Options, like: Tensor) -> None:
        self.method = ""
        if self.term in METHODS:
            method = METHODS[self.term][0] if options.method is None else options.method
            self.method = _checks.choice("method", method, METHODS[self.term])
        allowed = ("periodic",) if self.method == "spectral" else BOUNDARIES
        self.boundary = BOUNDARY if options.boundary is None else _checks.choice("boundary", options.boundary, allowed)
        distance = DEFAULT_DISTANCE if options.distance is None else options.distance
        self.distance = _checks.choice("distance", distance, tuple(DISTANCES))
        size = 5 if options.kernel_size is None else options.kernel_size
        reach = options.reach(RIGHT_ANGLE)
        if reach is not None:
            self.sizes = _sizes_within(self.space, *reach)
        else:
            self.sizes = None if isinstance(size, str) and size == "auto" else _fixed_sizes(self.space, size)
        self.cache = KernelCache()
        if self.term != "convection" and self.method != "spectral" and self.sizes is not None:
            self._build(like)

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return torch.promote_types(dtype, torch.float32)

    def _tables(self) -> list[Table]:
        sizes, exact = self.sizes, torch.empty(0, dtype=torch.float64)
        return [] if sizes is None else [("taps", None, lambda: self.space.taps(sizes, exact))]

    @property
    def channels_are_independent(self) -> bool:
        """Whether some channels give alone what they give beside others: unless ``"auto"`` looks at all of them."""
        return self.sizes is not None

    @property
    def power_range(self) -> tuple[float, float, bool]:
        """Range of the power alpha, and whether it leaves out its lower end."""
        if self.term == "diffusion" and self.method == "kernel":
            return SMALLEST_ALPHA, 1.0, False
        return super().power_range

    def train(self, mode: bool = True) -> GridSolver:
        """Switch between training and use, and forget the kernel."""
        self.cache.clear()
        return super().train(mode)

    def convection(self, u: Tensor, vector: Tensor, time: float) -> Tensor:
        """Return ``u(g exp(-time c))``."""
        space, u = self.space, self.space.to_grid(u)
        if self.method == "spectral":
            return space.from_grid(_in_float32(grid_spectral.convection, u, space, vector, time))
        step = -time * vector
        angles = space.angles.to(u)
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
        return space.from_grid(shift_signal(u, shift, boundary=self.boundary))

    def diffusion(self, u: Tensor, metric: Metric, alpha: Alpha, time: float) -> Tensor:
        """Return ``exp(-time (-Delta)^alpha) u``."""
        space, u = self.space, self.space.to_grid(u)
        if u.dtype in HALF:
            metric = wide_metric(metric)
        if self.method == "spectral":
            return space.from_grid(_in_float32(grid_spectral.diffusion, u, space, metric.cometric(), alpha, time))
        if metric.form in PLANE_ONLY:
            metric.cometric()  # says why it cannot be
        sizes = self.sizes or _sizes_of_mass(u, space, metric, alpha, time)
        kernel = self._kernel(diffusion_kernel, metric, sizes, u, alpha, time)
        return space.from_grid(group_convolution(u, kernel, boundary=self.boundary))

    def morphology(self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u."""
        space, u = self.space, self.space.to_grid(u)
        if u.dtype in HALF:
            metric = wide_metric(metric)
        sizes = self.sizes or _sizes_of_cost(u, space, metric, alpha, time, self.distance)
        kernel = self._kernel(morphology_kernel, metric, sizes, u, alpha, time)
        return space.from_grid(morphological_convolution(u, kernel, sign))

    def _kernel(
        self, build: Callable[..., Tensor], metric: Metric, sizes: Sizes, like: Tensor, alpha: Alpha, time: float
    ) -> Tensor:
        """Return the kernel of every channel of ``like``, from the cache in evaluation mode."""
        taps = self.space.taps(sizes, wide(like)) if self.sizes is None else self.get_buffer("taps")
        arguments = self.space, metric, taps, alpha, time, self.distance
        if self.training:
            kernel = build(*arguments).to(like.dtype)
        else:
            tensors = [v for v in (*vars(metric).values(), alpha) if isinstance(v, Tensor)]
            key = (build, metric.form, sizes, like.dtype, None if isinstance(alpha, Tensor) else alpha, time)
            kernel = self.cache.get(key, tensors, lambda: build(*arguments).to(like.dtype))
        return kernel.expand(like.shape[1], *kernel.shape[1:])


def morphology_kernel(
    space: GridSpace, metric: Metric, taps: Tensor, alpha: Alpha, time: float = 1.0, distance: str = DEFAULT_DISTANCE
) -> Tensor:
    """Return the turned kernel ``k(h^-1 g)`` of dilation and erosion, ``[C,Or,KO,KH,KW]``.

    ``taps`` are the elements ``h^-1 g`` of :meth:`GridSpace.taps`.
    """
    return cost(DISTANCES[distance](space, metric, taps), alpha, time)


def diffusion_kernel(
    space: GridSpace, metric: Metric, taps: Tensor, alpha: Alpha, time: float = 1.0, distance: str = DEFAULT_DISTANCE
) -> Tensor:
    """Return the turned diffusion kernel, ``[C,Or,KO,KH,KW]``: a mean for each orientation, and it conserves mass.

    Turned samples of one function have different sums, so dividing by them would leak mass between orientations. The
    kernel is symmetric, and symmetric scaling by one factor per orientation (Sinkhorn & Knopp, 1967) gives both laws.
    """
    squared, sizes = DISTANCES[distance](space, metric, taps), (taps.shape[1], taps.shape[2], taps.shape[3])
    kernel = profile(squared, alpha, space.dim, time) * space.tap_weights(sizes, squared)
    between = kernel.sum((-2, -1))  # [C,Or,KO]
    steps = torch.arange(sizes[0], device=taps.device) - sizes[0] // 2
    there = (torch.arange(space.orientations, device=taps.device)[:, None] + steps) % space.orientations
    scale = between.sum(-1).rsqrt()
    for _ in range(SINKHORN_STEPS):
        scale = (scale / (between * scale[:, there]).sum(-1)).sqrt()
    kernel = kernel * (scale[:, :, None] * scale[:, there])[..., None, None]
    return kernel / kernel.sum((-3, -2, -1), keepdim=True)


def _sizes_of_cost(u: Tensor, space: GridSpace, metric: Metric, alpha: Alpha, time: float, distance: str) -> Sizes:
    """Return sizes that hold every tap whose cost does not exceed the range of u.

    The centre costs nothing, so a tap that costs more than ``max u - min u`` loses to it.
    """
    check_may_look(u, alpha, *vars(metric).values())
    with torch.no_grad():
        radius = radius_of_cost(spread(u), alpha, time)
        return _enclosing_sizes(u, space, metric, radius, distance)


def _sizes_of_mass(u: Tensor, space: GridSpace, metric: Metric, alpha: Alpha, time: float) -> Sizes:
    """Return sizes that hold every tap whose weight is above 1e-4 of the centre's."""
    check_may_look(u, alpha, *vars(metric).values())
    with torch.no_grad():
        power = float(alpha) if isinstance(alpha, Tensor) else alpha
        radius = wide(u).new_full((u.shape[1],), radius_of_mass(power, space.dim, time))
        return _enclosing_sizes(u, space, metric, radius, DEFAULT_DISTANCE)


def _fixed_sizes(space: GridSpace, kernel_size: KernelSize) -> Sizes:
    if isinstance(kernel_size, str):
        raise ValueError(f"kernel_size: expected an odd int, a sequence of them or 'auto', got {kernel_size!r}")
    return space.kernel_sizes(kernel_size)


def _sizes_within(space: GridSpace, angle: float, length: float) -> Sizes:
    """Return the numbers of taps whose distance along each axis is at most ``angle`` and ``length``."""
    steps = int(angle * space.orientations / (2 * math.pi) + EDGE)
    pixels = 2 * int(length + EDGE) + 1
    return space.kernel_sizes((2 * steps + 1, pixels, pixels) if space.dim == 3 else (pixels, pixels))


def _enclosing_sizes(u: Tensor, space: GridSpace, metric: Metric, radius: Tensor, distance: str) -> Sizes:
    """Tap numbers of the box around the ball of ``radius [C]``, at most once around the circle and across the image."""
    if not bool(radius.isfinite().all()):
        raise ValueError("u: expected finite values to choose kernel_size='auto', got NaN or infinity")
    reach = ball_reach(metric, radius, distance)
    pixels, turn = (reach.amax(0) + 1e-6).clamp_max(_checks.LIMIT).tolist()
    steps = int(min(turn, 2 * math.pi) * space.orientations / (2 * math.pi))
    rows, columns = (2 * min(int(pixels), n - 1) + 1 for n in u.shape[-2:])
    size = (2 * steps + 1, rows, columns)
    return space.kernel_sizes(size if space.dim == 3 else size[1:])


def _in_float32(solver: Any, u: Tensor, space: GridSpace, parameter: Tensor, *rest: Any) -> Tensor:
    """Run a spectral solver, in float32 for half-precision signals (there is no half-precision eigendecomposition)."""
    if u.dtype in (torch.float16, torch.bfloat16):
        return solver(u.float(), space, parameter.float(), *rest).to(u.dtype)
    return solver(u, space, parameter, *rest)
