"""Solvers of the four terms on spaces with a regular grid (the plane, SE(2))."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._derived import Table, lasting
from pdegcnn._dtypes import HALF, wide_dtype, widen
from pdegcnn._typing import tolist
from pdegcnn.kernels.diffusion import SMALLEST_ALPHA, radius_of_mass
from pdegcnn.kernels.distance import DEFAULT_DISTANCE, DISTANCES, ball_reach
from pdegcnn.kernels.heat import HeatTaps
from pdegcnn.kernels.metric import PLANE_ONLY, Metric
from pdegcnn.kernels.morphological import cost, radius_of_cost
from pdegcnn.ops.convection import convection as shift_signal
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.morphology import morphological_convolution
from pdegcnn.ops.padding import BOUNDARIES
from pdegcnn.pde import grid_lattice, grid_spectral
from pdegcnn.pde.arguments import check_may_look, spread, wide_metric
from pdegcnn.pde.grid_diffusion import diffusion_kernel, heat_kernel, sampled_diffusion_kernel
from pdegcnn.pde.grid_interpolation import shifted, turned
from pdegcnn.pde.grid_lattice import SAMPLES, Pass, Reach, passes
from pdegcnn.pde.kernel_cache import KernelCache
from pdegcnn.pde.solver import Alpha, Options, Solver
from pdegcnn.spaces import GridSpace

METHODS = {"convection": ("cubic", "linear", "spectral"), "diffusion": ("kernel", "sampled", "spectral")}
BOUNDARY = "replicate"
"""What lies outside the image unless the caller says otherwise: so constants stay constant."""
RIGHT_ANGLE = math.pi / 2
"""Radians of orientation in a window whose radius is given in pixels alone."""
RADIUS = (8 * math.pi / 9, 3.0)
"""Half axes of the round window of dilation and erosion on SE(2) by default, radians and pixels."""
BOX = (2 * math.pi / 3, 3.0)
"""Their window to each side, of other spaces and where ``oversample`` is given."""
DIFFUSION_RADIUS = (math.pi, 5.0)
"""The same of diffusion by a kernel."""
SAMPLED_DISTANCE = "half_angle"
"""Nearer to the heat kernel than the exact distance is: volumes grow as this one shrinks."""
OVERSAMPLED_TURN = math.pi
"""Radians of the window where ``oversample`` asks for more than the samples."""


class GridSolver(Solver):
    """Solver of one term on the plane or SE(2).

    In evaluation mode without gradients it keeps its last kernel for as long as the parameters stay the same.
    """

    OPTIONS: ClassVar = {
        "convection": ("method", "boundary"),
        "diffusion": ("method", "kernel_size", "radius", "distance", "boundary"),
        "dilation": ("kernel_size", "radius", "distance", "oversample"),
        "erosion": ("kernel_size", "radius", "distance", "oversample"),
    }
    HAS_TABLES = True
    CAN_BE_TRACED = True
    space: GridSpace

    def _set_up(self, options: Options, like: Tensor) -> None:
        self.method = ""
        if self.term in METHODS:
            method = METHODS[self.term][0] if options.method is None else options.method
            self.method = _checks.choice("method", method, METHODS[self.term])
        allowed = ("periodic",) if self.method == "spectral" else BOUNDARIES
        self.boundary = BOUNDARY if options.boundary is None else _checks.choice("boundary", options.boundary, allowed)
        default = SAMPLED_DISTANCE if self.term == "diffusion" else DEFAULT_DISTANCE
        distance = default if options.distance is None else options.distance
        self.distance = _checks.choice("distance", distance, tuple(DISTANCES))
        self.is_heat = self.method == "kernel" and options.distance is None
        is_max_plus = self.term in ("dilation", "erosion")
        self.passes = passes(self.space, options.oversample) if is_max_plus else SAMPLES
        self.is_plain = self.passes == SAMPLES
        self.reads_cells = is_max_plus and grid_lattice.reads_cells(self.space, options.oversample)
        self.reach = _fixed_reach(self.space, options, self.term)
        self.caches = [KernelCache() for _ in self.passes]
        if self.term != "convection" and self.method != "spectral":
            self._build(like)

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return wide_dtype(dtype)

    def _build(self, like: Tensor) -> None:
        self._precision = wide_dtype(like.dtype)
        super()._build(like)
        if self.reach is not None and not self.method:
            for i, planes in enumerate(self.passes):
                places = lasting(grid_lattice.places, self.space, self.reach, planes)
                self.register_buffer(f"places{i}", None if places is None else places.to(like.device), persistent=False)

    def _tables(self) -> list[Table]:
        made: list[Table] = []
        for i, planes in enumerate(self.passes):
            if self.reach is not None and self.is_heat:
                made += [(name, None, partial(_heat_table, self.space, self.reach, name)) for name in HeatTaps._fields]
            elif self.reach is not None:
                made.append((f"taps{i}", None, partial(self._coordinates, self.reach, planes, self._precision)))
            if planes.finer > 1:
                made.append((f"turns{i}", None, partial(grid_lattice.turns, self.space, planes)))
        if self.reads_cells:
            made.append(("half_cell", None, partial(grid_lattice.half_cell, self.space, self.passes[0])))
        return made

    def _coordinates(self, reach: Reach, planes: Pass, dtype: torch.dtype) -> Tensor:
        """Return the coordinates of a pass's taps that the distance is a function of, computed in ``dtype``."""
        make = grid_lattice.taps_in_reach if not self.method else grid_lattice.taps
        make = grid_lattice.cells if self.method == "kernel" else make
        return DISTANCES[self.distance].coordinates(self.space, make(self.space, reach, planes).to(dtype))

    @property
    def channels_are_independent(self) -> bool:
        """Whether some channels give alone what they give beside others: unless ``"auto"`` looks at all of them."""
        return self.reach is not None

    @property
    def power_range(self) -> tuple[float, float, bool]:
        """Range of the power alpha, and whether it leaves out its lower end."""
        if self.term == "diffusion" and self.method != "spectral":
            return SMALLEST_ALPHA, 1.0, False
        return super().power_range

    def train(self, mode: bool = True) -> GridSolver:
        """Switch between training and use, and forget the kernel."""
        for cache in self.caches:
            cache.clear()
        return super().train(mode)

    def convection(self, u: Tensor, vector: Tensor, time: float) -> Tensor:
        """Return ``u(g exp(-time c))``."""
        space, u = self.space, self.space.to_grid(u)
        if self.method == "spectral":
            return space.from_grid(_in_float32(grid_spectral.convection, u, space, vector, time))
        if self.method == "cubic":
            if u.dtype in HALF:
                return space.from_grid(_in_float32(_cubic_convection, u, space, vector, time, self.boundary))
            return space.from_grid(_cubic_convection(u, space, vector, time, self.boundary))
        step = -time * vector
        rows, columns = space.chord(step)
        turn = step[:, 2] * (space.orientations / (2 * math.pi)) if space.dim == 3 else torch.zeros_like(rows[:, 0])
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
        reach = self.reach or _reach_of_mass(u, space, metric, alpha, time)
        build = sampled_diffusion_kernel if self.method == "sampled" else diffusion_kernel
        kernel = self._kernel(heat_kernel if self.is_heat else build, metric, reach, 0, u, alpha, time)
        out = group_convolution(u, kernel, boundary=self.boundary)
        if self.method == "kernel" and self.boundary != "zeros":
            full = widen(kernel) if u.dtype in HALF else kernel
            lost = 1 - full.sum((-3, -2, -1)).mean(1)  # what the kernel holds outside of its window
            out = out + lost[:, None, None, None].to(u.dtype) * u.mean((2, 3, 4), keepdim=True)
        return space.from_grid(out)

    def morphology(self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u."""
        space, u = self.space, self.space.to_grid(u)
        if u.dtype in HALF:
            metric = wide_metric(metric)
        reach = self.reach or _reach_of_cost(u, metric, alpha, time, self.distance, self._buffers.get("half_cell"))
        best, field = None, widen(u) if u.dtype in HALF and not self.is_plain else u
        for i, planes in enumerate(self.passes):
            kernel = self._kernel(morphology_kernel, metric, reach, i, field, alpha, time)
            read = grid_lattice.read(field, planes, self._buffers.get(f"turns{i}"), sign)
            value = morphological_convolution(read, kernel, sign, stride=planes.finer)
            if best is not None:
                value = torch.maximum(best, value) if sign == 1 else torch.minimum(best, value)
            best = value
        assert best is not None
        return space.from_grid(best.to(u.dtype))

    def _kernel(
        self,
        build: Callable[..., Tensor],
        metric: Metric,
        reach: Reach,
        which: int,
        like: Tensor,
        alpha: Alpha,
        time: float,
    ) -> Tensor:
        """Return a pass's kernel of every channel of ``like``, from the cache in evaluation mode."""
        arguments: tuple[Any, ...] = self.space, metric, self._taps(reach, which, like), alpha, time
        if not self.is_heat:
            arguments = *arguments, self.distance
        if not self.method:
            tables = self._buffers
            places = tables.get(f"places{which}")
            if self.reach is None:
                places = grid_lattice.places(self.space, reach, self.passes[which])
                places = None if places is None else places.to(like.device)
            arguments = *arguments, tables.get("half_cell"), places
        if self.training:
            kernel = build(*arguments)
        else:
            tensors = [v for v in (*vars(metric).values(), alpha) if isinstance(v, Tensor)]
            key = (build, metric.form, reach, like.dtype, None if isinstance(alpha, Tensor) else alpha, time)
            kernel = self.caches[which].get(key, tensors, partial(build, *arguments))
        kernel = kernel.to(like.dtype)
        return kernel.expand(like.shape[1], *kernel.shape[1:])

    def _taps(self, reach: Reach, which: int, like: Tensor) -> Tensor | HeatTaps:
        """Return what a pass's kernel is a function of: tables where the window is fixed, else made now."""
        if self.reach is not None:
            if self.is_heat:
                return HeatTaps(*map(self.get_buffer, HeatTaps._fields))
            return self.get_buffer(f"taps{which}")
        dtype = wide_dtype(like.dtype)
        if self.is_heat:
            return HeatTaps(*[x.to(like.device, dtype) for x in grid_lattice.heat_taps(self.space, reach)])
        return self._coordinates(reach, self.passes[which], dtype).to(like.device)


def _heat_table(space: GridSpace, reach: Reach, name: str) -> Tensor:
    found: Tensor = getattr(grid_lattice.heat_taps(space, reach), name)
    return found


def morphology_kernel(
    space: GridSpace,
    metric: Metric,
    taps: Tensor,
    alpha: Alpha,
    time: float,
    distance: str,
    half_cell: Tensor | None,
    places: Tensor | None,
) -> Tensor:
    """Return the turned kernel ``k(h^-1 g)`` of dilation and erosion, ``[C,Or,KO,KH,KW]``.

    ``taps`` are coordinates that the distance is a function of; with ``places [Or,KO,KH,KW]`` each is met there, and
    where none is, there is no tap. With ``half_cell [dim,dim]`` a tap stands for its cell: the best point of a signal
    lies nearer than the tap that answers for it, on average by the mean squared distance of a cell's points from its
    middle. The squared distance q becomes ``q^2 / (q + m)``: q less this mean m where that is small beside q.
    """
    squared = DISTANCES[distance].squared(space, metric, taps)
    if half_cell is not None:
        most = torch.finfo(squared.dtype).max ** 0.9  # larger costs are infinite
        spread = metric.squared_norm(half_cell).sum(-1).view(-1, *(1,) * (squared.ndim - 1))
        squared = squared.clamp_max(most)
        squared = squared * (squared / (squared + spread.clamp(1 / most, most)))
    kernel = cost(squared, alpha, time)
    if places is None:
        return kernel
    kernel = F.pad(kernel, (0, 1), value=torch.inf)
    return kernel.gather(1, places.flatten().expand(len(kernel), -1)).view(-1, *places.shape)


def _reach_of_cost(
    u: Tensor, metric: Metric, alpha: Alpha, time: float, distance: str, half_cell: Tensor | None
) -> Reach:
    """Return how far every tap lies whose cost does not exceed the range of u.

    The centre costs nothing, so a tap that costs more than ``max u - min u`` loses to it.
    """
    check_may_look(u, alpha, *vars(metric).values())
    with torch.no_grad():
        radius = radius_of_cost(spread(u), alpha, time)
        if half_cell is not None:
            cells = metric.squared_norm(half_cell).sum(-1)
            radius = ((radius**2 + (radius**4 + 4 * radius**2 * cells).sqrt()) / 2).sqrt()
        return _enclosing_reach(u, metric, radius, distance)


def _reach_of_mass(u: Tensor, space: GridSpace, metric: Metric, alpha: Alpha, time: float) -> Reach:
    """Return how far every tap lies whose weight is above 1e-4 of the centre's."""
    check_may_look(u, alpha, *vars(metric).values())
    with torch.no_grad():
        power = float(alpha) if isinstance(alpha, Tensor) else alpha
        radius = widen(u).new_full((u.shape[1],), radius_of_mass(power, space.dim, time))
        return _enclosing_reach(u, metric, radius, DEFAULT_DISTANCE)


def _fixed_reach(space: GridSpace, options: Options, term: str) -> Reach | None:
    """Return the reach of a window that does not depend on values, None for ``"auto"``."""
    kernel_size, radius = options.kernel_size, options.reach(RIGHT_ANGLE)
    if kernel_size is None:
        if radius is None and term != "diffusion" and grid_lattice.reads_cells(space, options.oversample):
            return Reach(RADIUS[0], RADIUS[1], RADIUS[1], is_round=True)
        turn, pixels = radius or (DIFFUSION_RADIUS if term == "diffusion" else BOX)
        if radius is None and options.oversample not in (None, 1):
            turn = OVERSAMPLED_TURN
        return Reach(min(turn, math.pi), pixels, pixels)
    if isinstance(kernel_size, str):
        if kernel_size == "auto":
            return None
        raise ValueError(f"kernel_size: expected an odd int, a sequence of them or 'auto', got {kernel_size!r}")
    ko, kh, kw = space.kernel_sizes(kernel_size)
    return Reach(ko // 2 * space.angle_step, kh // 2, kw // 2)


def _enclosing_reach(u: Tensor, metric: Metric, radius: Tensor, distance: str) -> Reach:
    """Half the sides of the box around the ball of ``radius [C]``, at most around the circle and across the image."""
    if not bool(radius.isfinite().all()):
        raise ValueError("u: expected finite values to choose kernel_size='auto', got NaN or infinity")
    reach = ball_reach(metric, radius, distance)
    pixels, turn = tolist((reach.amax(0) + 1e-6).clamp_max(_checks.LIMIT))
    rows, columns = (min(pixels, n - 1) for n in u.shape[-2:])
    return Reach(min(turn, math.pi), rows, columns)


def _cubic_convection(u: Tensor, space: GridSpace, vector: Tensor, time: float, boundary: str) -> Tensor:
    """``u(g exp(-time c))``: the whole turn by trigonometric interpolation, then a cubic shift by the chord."""
    step = -time * vector
    if space.dim == 3:
        u = turned(u, step[:, 2] * (space.orientations / (2 * math.pi)))
    return shifted(u, *space.chord(step), boundary)


def _in_float32(solver: Callable[..., Tensor], u: Tensor, space: GridSpace, parameter: Tensor, *rest: Any) -> Tensor:
    """Run a spectral solver, in float32 for half-precision signals (there is no half-precision eigendecomposition)."""
    if u.dtype in HALF:
        return solver(widen(u), space, widen(parameter), *rest).to(u.dtype)
    return solver(u, space, parameter, *rest)
