"""Solvers of the four terms on spaces with a regular grid (the plane, SE(2), volumes)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._derived import Table
from pdegcnn._dtypes import HALF, wide_dtype, widen
from pdegcnn._typing import Factory, tolist
from pdegcnn.kernels.diffusion import SMALLEST_ALPHA, density, mass_of_cell, profile, radius_of_mass
from pdegcnn.kernels.distance import DEFAULT_DISTANCE, DISTANCES, Distance, ball_reach, distance_of
from pdegcnn.kernels.heat import HeatTaps, heat_mass
from pdegcnn.kernels.metric import PLANE_ONLY, Metric, half_sides
from pdegcnn.kernels.morphological import cost, radius_of_cost
from pdegcnn.ops.between_samples import between_samples
from pdegcnn.ops.convection import convection as shift_signal
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.morphology import log_plus_mean, morphological_convolution
from pdegcnn.ops.padding import BOUNDARIES
from pdegcnn.pde import grid_lattice, grid_spectral
from pdegcnn.pde.arguments import check_may_look, spread, wide_metric
from pdegcnn.pde.grid_interpolation import shifted, shifted_slices, turned
from pdegcnn.pde.grid_lattice import SAMPLES, Pass, Reach, all_quarters, passes
from pdegcnn.pde.kernel_cache import KernelCache
from pdegcnn.pde.solver import KERNEL_OPTIONS, NEGLIGIBLE, Alpha, Options, Solver, refuse_unknown
from pdegcnn.spaces import GridSpace

METHODS = {"convection": ("cubic", "linear", "spectral"), "diffusion": ("kernel", "sampled", "spectral")}
BOUNDARY = "replicate"
"""What lies outside the image unless the caller says otherwise: so constants stay constant."""
RIGHT_ANGLE = math.pi / 2
"""Radians of orientation in a window whose radius is given in pixels alone."""
SINKHORN_STEPS = 30
"""Each halves the remaining imbalance between orientations, a percent at first."""
RADIUS = (2 * math.pi / 3, 3.0)
"""Window of dilation and erosion unless the caller says otherwise, radians and pixels to each side."""
DIFFUSION_RADIUS = (math.pi, 5.0)
"""The same of diffusion by a kernel."""
DIFFUSION_DISTANCE = "half_angle"
"""Nearer to the heat kernel than the exact distance is: volumes grow as this one shrinks."""
SLICES = 2
"""Voxels to each side of the window on volumes, of any term, unless the caller says otherwise."""
OVERSAMPLED_TURN = math.pi
"""Radians of the window where ``oversample`` asks for more than the default."""


class GridSolver(Solver):
    """Solver of one term on the plane, SE(2) or volumes.

    In evaluation mode without gradients it keeps its last kernel for as long as the parameters stay the same. With
    ``inner_orientations`` another class solves: :class:`~pdegcnn.pde.more_orientations.MoreOrientationsSolver`.
    """

    OPTIONS: ClassVar = {
        "convection": ("method", "boundary", "inner_orientations"),
        "diffusion": ("method", "kernel_size", "radius", "distance", "boundary", "inner_orientations"),
        "dilation": ("kernel_size", "radius", "distance", "oversample", "semifield", "inner_orientations"),
        "erosion": ("kernel_size", "radius", "distance", "oversample", "semifield", "inner_orientations"),
    }
    HAS_TABLES: ClassVar = True
    space: GridSpace

    def _set_up(self, options: Options, like: Tensor) -> None:
        self.method = ""
        if self.term in METHODS:
            method = METHODS[self.term][0] if options.method is None else options.method
            self.method = _checks.choice("method", method, METHODS[self.term])
        allowed = ("periodic",) if self.method == "spectral" else BOUNDARIES
        self.boundary = BOUNDARY if options.boundary is None else _checks.choice("boundary", options.boundary, allowed)
        if self.method == "spectral":
            known = [name for name in self.OPTIONS[self.term] if name not in KERNEL_OPTIONS]
            refuse_unknown(options, known, f"spectral {self.term}", self.space)
        default = DIFFUSION_DISTANCE if self.term == "diffusion" else DEFAULT_DISTANCE
        distance = default if options.distance is None else options.distance
        self.distance = _checks.choice("distance", distance, tuple(DISTANCES))
        self.squared = distance_of(self.distance)
        self.passes = passes(self.space, options.oversample) if self.term in ("dilation", "erosion") else SAMPLES
        if options.semifield is not None:
            self.passes = SAMPLES  # points between them would change the sum
            _checks.choice("oversample", options.oversample, (None, 1))
        self.reach = _fixed_reach(self.space, options, self.term)
        self.is_heat = self.method == "kernel" and options.distance is None and self.space.is_periodic
        self.caches = [KernelCache() for _ in self.passes]
        if self.term != "convection" and self.method != "spectral":
            self._build(like)

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return wide_dtype(dtype)

    def _tables(self) -> list[Table]:
        space, reach = self.space, self.reach
        made: list[Table] = []
        if reach is not None and self.is_heat:
            heat_taps = lru_cache(1)(partial(grid_lattice.heat_taps, space, reach))  # computed once for all tables
            made = [(name, None, lambda name=name: getattr(heat_taps(), name)) for name in HeatTaps._fields]
        elif reach is not None:
            made = [(f"taps{i}", None, partial(self._coordinates, reach, p)) for i, p in enumerate(self.passes)]
        for i, planes in enumerate(self.passes):
            if planes != SAMPLES[0]:
                made.append((f"turns{i}", None, partial(grid_lattice.turns, space, planes)))
            if reach is not None and not self.method:
                made.append((f"places{i}", None, partial(grid_lattice.places, space, reach, planes)))
        return made

    def _coordinates(self, reach: Reach, planes: Pass) -> Tensor:
        """Return the coordinates of a pass's taps that the distance is a function of, float64.

        Those of dilation and erosion are what :func:`grid_lattice.places` counts.
        """
        if self.method == "kernel":
            found = grid_lattice.cells(self.space, reach, planes)
        else:
            own = None if self.method else grid_lattice.own_orientations(self.space, reach, planes)
            found = grid_lattice.taps(self.space, reach, planes, own)
        return self.squared.coordinates(self.space, found)

    @property
    def channels_are_independent(self) -> bool:
        """Whether the result of a channel is independent of the other channels, which it is not with ``"auto"``."""
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
        first, rows, columns = space.chord(-time * vector)
        if not space.is_periodic:
            u, first = shifted_slices(u, first, self.boundary, "linear"), torch.zeros_like(first)
        shift = torch.stack([x.expand(u.shape[1:3]) for x in (first[:, None], rows, columns)], dim=-1)
        return space.from_grid(shift_signal(u, shift, boundary=self.boundary))

    def diffusion(self, u: Tensor, metric: Metric, alpha: Alpha, time: float) -> Tensor:
        """Return ``exp(-time (-Delta)^alpha) u``."""
        space, u = self.space, self.space.to_grid(u)
        if u.dtype in HALF:
            metric = wide_metric(metric)
        if self.method == "spectral":
            return space.from_grid(_in_float32(grid_spectral.diffusion, u, space, metric.cometric(), alpha, time))
        if metric.form in PLANE_ONLY:
            metric.cometric()  # raises the reason
        reach = self.reach or _reach_of_mass(u, space, metric, alpha, time)
        build = sampled_diffusion_kernel if self.method == "sampled" else diffusion_kernel
        build = heat_kernel if self.is_heat else build
        kernel = self._kernel(build, metric, reach, 0, u, alpha, time)
        out = group_convolution(u, kernel, boundary=self.boundary, periodic=space.is_periodic)
        if self.method == "kernel" and self.boundary != "zeros":
            whole = widen(kernel) if u.dtype in HALF else kernel
            lost = 1 - whole.sum((-3, -2, -1)).mean(1)  # the kernel's mass outside its window
            out = out + lost[:, None, None, None].to(u.dtype) * u.mean((2, 3, 4), keepdim=True)
        return space.from_grid(out)

    def morphology(self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u."""
        space, u = self.space, self.space.to_grid(u)
        if u.dtype in HALF:
            metric = wide_metric(metric)
        reach = self.reach or self._reach_of_values(u, metric, alpha, time, sign)
        best, field = None, widen(u) if u.dtype in HALF and self.passes != SAMPLES else u
        for i, planes in enumerate(self.passes):
            kernel = self._kernel(morphology_kernel, metric, reach, i, field, alpha, time)
            if not space.is_periodic:
                kernel = kernel.expand(-1, u.shape[2], *kernel.shape[2:])
            value = morphological_convolution(
                self._read(field, i, sign),
                kernel,
                sign,
                stride=len(planes.planes),
                periodic=space.is_periodic,
            )
            if best is not None:
                value = torch.maximum(best, value) if sign == 1 else torch.minimum(best, value)
            best = value
        assert best is not None
        return space.from_grid(best.to(u.dtype))

    def soft_morphology(
        self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int, temperature: Alpha
    ) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u in the log-plus semifield, which keeps constants."""
        space, field = self.space, widen(self.space.to_grid(u))
        metric = wide_metric(metric) if u.dtype in HALF else metric
        if isinstance(temperature, Tensor):
            temperature = temperature.to(field.dtype)
        beyond = NEGLIGIBLE * torch.as_tensor(temperature)
        reach = self.reach or self._reach_of_values(field, metric, alpha, time, sign, beyond)
        kernel = self._kernel(morphology_kernel, metric, reach, 0, field, alpha, time)
        soft = log_plus_mean(field, kernel, temperature, sign, periodic=space.is_periodic)
        return space.from_grid(soft.to(u.dtype))

    def _read(self, u: Tensor, which: int, sign: int) -> Tensor:
        """Return the planes that a pass reads; points outside the image get the least value of the signal."""
        planes = self.passes[which]
        if planes == SAMPLES[0]:
            return u
        loser = (u.detach().amin if sign == 1 else u.detach().amax)((2, 3, 4))
        return between_samples(u, self.get_buffer(f"turns{which}"), loser, planes.planes)

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
            arguments = *arguments, self.squared
        if not self.method:
            places = self._buffers.get(f"places{which}")
            if places is None:
                places = grid_lattice.places(self.space, reach, self.passes[which]).to(like.device)
            arguments = *arguments, places
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
        kind: Factory = {"device": like.device, "dtype": wide_dtype(like.dtype)}
        if self.is_heat:
            return HeatTaps(*[x.to(**kind) for x in grid_lattice.heat_taps(self.space, reach)])
        return self._coordinates(reach, self.passes[which]).to(**kind)

    def _reach_of_values(
        self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int, beyond: Tensor | None = None
    ) -> Reach:
        """Return how far every tap lies whose cost exceeds the range of the values read by at most ``beyond`` (0).

        The centre costs nothing, so a tap that costs more than the greatest less the least value loses to it. Values
        between samples count too: they can be greater than all samples.
        """
        check_may_look(u, alpha, *vars(metric).values(), *(() if beyond is None else (beyond,)))
        with torch.no_grad():
            field = u if self.passes == SAMPLES else widen(u)
            fields = [self._read(field, i, sign) for i in range(len(self.passes))]
            highest = torch.stack([spread(x) for x in fields]).amax(0)
            highest = highest if beyond is None else highest + beyond.to(highest)
            radius = radius_of_cost(highest, alpha, time)
            return _enclosing_reach(u, self.space, metric, radius, self.distance)


def morphology_kernel(
    space: GridSpace, metric: Metric, taps: Tensor, alpha: Alpha, time: float, distance: Distance, places: Tensor
) -> Tensor:
    """Return the turned kernel ``k(h^-1 g)`` of dilation and erosion, ``[C,Or,KO,KH,KW]``.

    ``taps`` are coordinates that the distance is a function of, and ``places [Or,KO,KH,KW]`` says where each is met.
    """
    kernel = cost(distance.squared(space, metric, taps), alpha, time)
    kernel = F.pad(kernel.flatten(1), (0, 1), value=torch.inf)
    return kernel.index_select(1, places.flatten()).view(-1, *places.shape)


def heat_kernel(space: GridSpace, metric: Metric, taps: HeatTaps, alpha: Alpha, time: float) -> Tensor:
    """Return the turned kernel of :mod:`pdegcnn.kernels.heat`, ``[C,Or,KO,KH,KW]``: mass in the cell of each tap."""
    mass, middle = heat_mass(metric, taps, half_sides(metric, taps.cell), alpha, time)
    return _conserving(space, mass.view(-1, *taps.places.shape[:5]).sum(1).transpose(1, 2), middle)


def diffusion_kernel(
    space: GridSpace, metric: Metric, taps: Tensor, alpha: Alpha, time: float, distance: Distance
) -> Tensor:
    """Return the turned diffusion kernel, ``[C,Or,KO,KH,KW]``: its mass in the cell of each tap, at most one in all.

    ``taps [paths,points,Or,KO,KH,KW,dim]`` are coordinates of :func:`pdegcnn.pde.grid_lattice.cells`, a few in each
    cell.
    The cell of the centre, where the kernel of a small power has its peak, is integrated in closed form. All
    orientations give and take the same mass.
    """
    squared = distance.squared(space, metric, taps)
    sides = half_sides(metric, space.grid_spacing.to(squared))
    volume = (2 * sides).prod(-1)[:, None, None, None, None]
    mass = density(squared, alpha, space.dim, time).mean(2).sum(1) * volume
    return _conserving(space, mass, mass_of_cell(sides, alpha, time))


def _conserving(space: GridSpace, mass: Tensor, middle: Tensor) -> Tensor:
    """Return the kernel of masses and that of the centre: all orientations give and take the same, at most one."""
    sizes = mass.shape[2], mass.shape[3], mass.shape[4]
    centre = torch.zeros(sizes, dtype=torch.bool, device=mass.device)
    centre[sizes[0] // 2, sizes[1] // 2, sizes[2] // 2] = True
    mass = torch.where(centre, middle[:, None, None, None, None], mass)
    # a kernel too wide to have any mass in the window is flat
    mass = (mass + torch.finfo(mass.dtype).tiny ** 0.5) * space.tap_weights(sizes, mass)
    mass, there = all_quarters(space, mass), _orientation_of_taps(space, mass)
    mass = _symmetric(mass, there)
    total = mass.sum((-3, -2, -1)).mean(1).clamp_max(1.0)
    return _balanced(mass, there) * total[:, None, None, None, None]


def sampled_diffusion_kernel(
    space: GridSpace, metric: Metric, taps: Tensor, alpha: Alpha, time: float, distance: Distance
) -> Tensor:
    """Return the kernel at taps alone, scaled to mass one, ``[C,Or,KO,KH,KW]``."""
    squared, sizes = distance.squared(space, metric, taps), (taps.shape[1], taps.shape[2], taps.shape[3])
    kernel = profile(squared, alpha, space.dim, time) * space.tap_weights(sizes, squared)
    return _balanced(kernel, _orientation_of_taps(space, kernel))


def _orientation_of_taps(space: GridSpace, kernel: Tensor) -> Tensor:
    """Return the index of each tap's orientation ``[Or,KO]``."""
    steps = torch.arange(kernel.shape[2], device=kernel.device) - kernel.shape[2] // 2
    return (torch.arange(space.orientations, device=kernel.device)[:, None] + steps) % space.orientations


def _symmetric(kernel: Tensor, there: Tensor) -> Tensor:
    """Return the mean of a kernel and of the one that goes from the taps, at orientations ``there``, to the centre."""
    tap = torch.arange(kernel.shape[2], device=kernel.device)
    return (kernel + kernel.flip(2, 3, 4)[:, there, tap]) / 2


def _balanced(kernel: Tensor, there: Tensor) -> Tensor:
    """Scale a kernel, whose taps are at orientations ``there [Or,KO]``, to a mean for each that conserves mass.

    Turned samples of one function have different sums, so dividing by them would leak mass between orientations. The
    kernel is symmetric, and symmetric scaling by one factor per orientation (Sinkhorn & Knopp, 1967) gives both laws.
    """
    between = kernel.sum((-2, -1))  # [C,Or,KO]
    scale = between.sum(-1).rsqrt()
    for _ in range(SINKHORN_STEPS):
        scale = (scale / (between * scale[:, there]).sum(-1)).sqrt()
    kernel = kernel * (scale[:, :, None] * scale[:, there])[..., None, None]
    return kernel / kernel.sum((-3, -2, -1), keepdim=True)


def _reach_of_mass(u: Tensor, space: GridSpace, metric: Metric, alpha: Alpha, time: float) -> Reach:
    """Return how far every tap lies whose weight is above 1e-4 of the centre's."""
    check_may_look(u, alpha, *vars(metric).values())
    with torch.no_grad():
        power = float(alpha) if isinstance(alpha, Tensor) else alpha
        radius = widen(u).new_full((u.shape[1],), radius_of_mass(power, space.dim, time))
        return _enclosing_reach(u, space, metric, radius, DEFAULT_DISTANCE)


def _fixed_reach(space: GridSpace, options: Options, term: str) -> Reach | None:
    """Return the reach of a window that does not depend on values, None for ``"auto"``."""
    kernel_size, radius = options.kernel_size, options.reach(RIGHT_ANGLE)
    if kernel_size is None:
        turn, pixels = radius or (DIFFUSION_RADIUS if term == "diffusion" else RADIUS)
        if not space.is_periodic:
            first, second, third = (SLICES * step for step in space.grid_steps)
            return Reach(pixels, pixels, pixels) if radius else Reach(first, second, third)
        given = options.oversample
        if radius is None and given not in (None, 1) and not (isinstance(given, tuple) and given[1] is None):
            turn = OVERSAMPLED_TURN
        return Reach(min(turn, math.pi), pixels, pixels)
    if isinstance(kernel_size, str):
        if kernel_size == "auto":
            return None
        raise ValueError(f"kernel_size: expected an odd int, a sequence of them or 'auto', got {kernel_size!r}")
    first, second, third = (n // 2 * step for n, step in zip(space.kernel_sizes(kernel_size), space.grid_steps))
    return Reach(first, second, third)


def _enclosing_reach(u: Tensor, space: GridSpace, metric: Metric, radius: Tensor, distance: str) -> Reach:
    """Return half the sides of the box around the ball of ``radius [C]``, limited by circle and image."""
    if not bool(radius.isfinite().all()):
        raise ValueError("u: expected finite values to choose kernel_size='auto', got NaN or infinity")
    reach = ball_reach(metric, radius, distance)
    pixels, first = tolist((reach.amax(0) + 1e-6).clamp_max(_checks.LIMIT))
    most = [(n - 1) * step for n, step in zip(u.shape[2:], space.grid_steps)]
    return Reach(min(first, math.pi if space.is_periodic else most[0]), min(pixels, most[1]), min(pixels, most[2]))


def _cubic_convection(u: Tensor, space: GridSpace, vector: Tensor, time: float, boundary: str) -> Tensor:
    """Return ``u(g exp(-time c))``: the whole turn by trigonometric interpolation, then a cubic shift by the chord."""
    first, rows, columns = space.chord(-time * vector)
    if space.has_orientations:
        u = turned(u, first)
    elif not space.is_periodic:
        u = shifted_slices(u, first, boundary)
    return shifted(u, rows.expand(u.shape[1:3]), columns.expand(u.shape[1:3]), boundary)


def _in_float32(solver: Callable[..., Tensor], u: Tensor, space: GridSpace, parameter: Tensor, *rest: Any) -> Tensor:
    """Run a spectral solver, in float32 for half-precision signals (there is no half-precision eigendecomposition)."""
    if u.dtype in HALF:
        return solver(widen(u), space, widen(parameter), *rest).to(u.dtype)
    return solver(u, space, parameter, *rest)
