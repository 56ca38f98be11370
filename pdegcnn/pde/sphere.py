"""Solvers of the terms on the sphere and on SO(3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from pdegcnn import _checks, _transforms
from pdegcnn._derived import lasting
from pdegcnn._dtypes import widen
from pdegcnn._typing import linalg
from pdegcnn.kernels.metric import Metric
from pdegcnn.kernels.morphological import cost, radius_of_cost
from pdegcnn.kernels.rotation_distance import DEFAULT_ROTATION_DISTANCE, ROTATION_DISTANCES
from pdegcnn.pde.arguments import check_may_look, diffusivity, spread, wide_metric
from pdegcnn.pde.solver import NEGLIGIBLE, Alpha, Options, Solver
from pdegcnn.pde.sphere_oversample import Finer, factors_of
from pdegcnn.pde.sphere_spectral import GroupHarmonics, SphereHarmonics
from pdegcnn.pde.sphere_subpixel import NewtonStep
from pdegcnn.pde.sphere_window import Neighbours, window
from pdegcnn.spaces import S2, SO3
from pdegcnn.spaces.s2 import point_spacing

STEPS = 5
"""Width of the default window in steps."""
LEAST_ANGLE = 5 * math.pi / 8
"""Least default radius in angle: that of eight orientations."""
LEAST_REACH = (5 * math.pi / 16, 5 * math.pi / 32)
"""Least default radius in space on S2 and SO(3): that of eight and of sixteen rings. A smaller one cuts more off."""
LINEAR = ("convection", "diffusion", "convection_diffusion")


class SphereSolver(Solver):
    """Solver of one term on the sphere or SO(3).

    Linear terms are exact on the band of the grid. Dilation and erosion compare the samples of a window.
    """

    OPTIONS: ClassVar = {
        "convection": ("method",),
        "diffusion": ("method",),
        "convection_diffusion": ("method",),
        "dilation": ("kernel_size", "radius", "distance", "subgrid", "oversample", "semifield"),
        "erosion": ("kernel_size", "radius", "distance", "subgrid", "oversample", "semifield"),
    }
    HAS_TABLES = True
    space: S2 | SO3

    def _set_up(self, options: Options, like: Tensor) -> None:
        space, size = self.space, options.kernel_size
        if options.method is not None:
            _checks.choice("method", options.method, ("spectral", "galerkin")[: 1 + (self.term == "convection")])
        distance = DEFAULT_ROTATION_DISTANCE if options.distance is None else options.distance
        self.distance = _checks.choice("distance", distance, ROTATION_DISTANCES)
        self.subgrid = _checks.choice("subgrid", options.subgrid, (None, "newton"))
        if options.semifield is not None:
            _checks.choice("subgrid", options.subgrid, (None,))
        if self.subgrid and self.distance == "exact" and space.has_orientations:
            raise ValueError("distance: expected 'logarithmic' or 'tilt_twist' for subgrid='newton', got 'exact'")
        self.harmonics = self.window = self.finer = None
        if self.term in LINEAR:
            exact = self.term == "convection" and options.method != "galerkin"
            self.harmonics = (
                GroupHarmonics(space, like, exact) if isinstance(space, SO3) else SphereHarmonics(space, like)
            )
            return
        factors = factors_of(space, options.oversample)
        if factors != (1, 1):
            self.finer = Finer(space, factors, device=like.device, dtype=like.dtype)
        if not (isinstance(size, str) and size == "auto"):
            sizes = window_sizes(space, STEPS if size is None else size)
            if size is None:
                reach = options.reach(math.pi / 2)
                sizes = _at_least(space, sizes) if reach is None else window_steps(space, *reach)
            if self.finer is not None:
                length, angle = window(space, sizes)
                sizes = window_steps(self.compared, angle, length)
            self.window = Window(self.compared, sizes, self.distance, self.subgrid, like)

    @property
    def compared(self) -> S2 | SO3:
        """The space whose samples dilation and erosion compare."""
        return self.space if self.finer is None else self.finer.space

    @property
    def channels_are_independent(self) -> bool:
        """Whether some channels give alone what they give beside others, where finer samples of a window are compared.

        Others need no more memory than the signal.
        """
        return self.finer is not None and self.window is not None

    @property
    def expansion(self) -> float:
        """How many samples are compared for each sample of a signal."""
        return 1.0 if self.finer is None else self.finer.expansion

    @property
    def power_range(self) -> tuple[float, float, bool]:
        """Range of the power alpha, and whether it leaves out its lower end; Newton's method needs a smooth kernel."""
        low, high, open_low = super().power_range
        return low, high, open_low or self.subgrid is not None

    def convection(self, u: Tensor, vector: Tensor, time: float) -> Tensor:
        """Return ``u(R exp(-time c))``."""
        return self._group().convection(widen(u), widen(vector), time).to(u.dtype)

    def diffusion(self, u: Tensor, metric: Metric, alpha: Alpha, time: float) -> Tensor:
        """Return ``exp(-time (-Delta)^alpha) u``."""
        assert self.harmonics is not None
        return self.harmonics.diffusion(widen(u), self._diffusivity(u, metric), _power(alpha), time).to(u.dtype)

    def convection_diffusion(self, u: Tensor, vector: Tensor, metric: Metric, alpha: Alpha, time: float) -> Tensor:
        """Return ``exp(-time (c + (-Delta)^alpha)) u``, by one exponential."""
        diffusivity, power = self._diffusivity(u, metric), _power(alpha)
        return self._group().convection_diffusion(widen(u), widen(vector), diffusivity, power, time).to(u.dtype)

    def morphology(self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u."""
        metric = wide_metric(metric)
        return self._in_window(u, metric, alpha, time, lambda window, x: window(x, metric, alpha, time, sign))

    def soft_morphology(
        self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int, temperature: Alpha
    ) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u in the log-plus semifield, which keeps constants.

        Points are weighted by their areas, so grids that are denser near the poles give the same result.
        """
        metric, t = wide_metric(metric), widen(temperature) if isinstance(temperature, Tensor) else temperature
        beyond = NEGLIGIBLE * torch.as_tensor(t)

        def run(window: Window, x: Tensor) -> Tensor:
            return window.soft(x, metric, alpha, time, sign, t)

        return self._in_window(u, metric, alpha, time, run, beyond)

    def _in_window(
        self,
        u: Tensor,
        metric: Metric,
        alpha: Alpha,
        time: float,
        run: Callable[[Window, Tensor], Tensor],
        beyond: Tensor | None = None,
    ) -> Tensor:
        """Return ``run(window, u)``, on finer samples where these are asked for; for ``beyond`` see the window."""
        signal, window = widen(u), self.window
        if self.finer is not None:
            signal = self.finer.up(signal)
        if window is None:
            sizes = _enclosing_sizes(signal, self.compared, metric, alpha, time, beyond)
            window = _window(self.compared, sizes, self.distance, self.subgrid, signal.dtype, signal.device)
        value = run(window, signal)
        return (value if self.finer is None else self.finer.down(value)).to(u.dtype)

    def _group(self) -> GroupHarmonics:
        assert isinstance(self.harmonics, GroupHarmonics)
        return self.harmonics

    def _diffusivity(self, u: Tensor, metric: Metric) -> Tensor:
        """Return the inverse metric of every channel of u; raise where it overflows."""
        dim = self.space.metric_dim
        return diffusivity(wide_metric(metric)).expand(u.shape[1], dim, dim)


class Window(nn.Module):
    """Tables of dilation and erosion for a space and options: the taps, and the Newton step if chosen."""

    def __init__(
        self, space: S2 | SO3, sizes: tuple[float, float], distance: str, subgrid: str | None, like: Tensor
    ) -> None:
        super().__init__()
        self.neighbours = Neighbours(space, sizes, distance, like)
        self.newton = NewtonStep(self.neighbours, like) if subgrid else None

    def soft(self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int, temperature: Alpha) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u in the log-plus semifield."""
        return self.neighbours.soft(u, cost(self._squared(u, metric), alpha, time), temperature, sign)

    def _squared(self, u: Tensor, metric: Metric) -> Tensor:
        """Return squared distances for every channel of u."""
        squared = self.neighbours.squared_distance(metric)
        return squared.expand(u.shape[1], *squared.shape[1:])

    def forward(self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u."""
        squared = self._squared(u, metric)
        kernel = cost(squared, alpha, time)
        value = self.neighbours(u, kernel, sign)
        if self.newton is None:
            return value
        return value + self.newton(u, kernel, metric, self.neighbours, alpha, time, sign)


@lru_cache(maxsize=16)
def _window(
    space: S2 | SO3,
    sizes: tuple[float, float],
    distance: str,
    subgrid: str | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Window:
    """Return the window of ``kernel_size="auto"``; signals of similar range share it."""
    like = torch.empty(0, dtype=dtype, device=device)
    with _transforms.constants():
        return lasting(Window, space, sizes, distance, subgrid, like)


def _at_least(space: S2 | SO3, sizes: tuple[float, float]) -> tuple[float, float]:
    """Return steps that do not make the window smaller than ``LEAST_ANGLE`` and ``LEAST_REACH``."""
    if not space.grid.has_rings:  # every point has its own list, and wide ones take seconds to build
        return sizes
    least = window_steps(space, LEAST_ANGLE, LEAST_REACH[space.has_orientations])
    return max(sizes[0], least[0]), max(sizes[1], least[1])


def window_sizes(space: S2 | SO3, kernel_size: object) -> tuple[int, int]:
    """Return the width of a window in steps of the fibre (1 on the sphere) and of the grid, at most a full turn."""
    if isinstance(kernel_size, str):
        raise ValueError(f"kernel_size: expected an odd int, a pair of them or 'auto', got {kernel_size!r}")
    if not isinstance(kernel_size, (int, Sequence)):
        raise TypeError(f"kernel_size: expected an odd int, a pair of them or 'auto', got {kernel_size!r}")
    names = "(orientations, sphere)" if space.has_orientations else "(sphere,)"
    count = 2 if space.has_orientations else 1
    sizes = (kernel_size,) * count if isinstance(kernel_size, int) else tuple(cast("Sequence[int]", kernel_size))
    if isinstance(kernel_size, bool) or len(sizes) != count:
        raise ValueError(f"kernel_size: expected an odd int or {count} of them {names}, got {kernel_size!r}")
    _checks.odd("kernel_size", sizes)
    if not space.has_orientations:
        return 1, sizes[0]
    return min(sizes[0], space.orientations + 1 - space.orientations % 2), sizes[1]


def window_steps(space: S2 | SO3, angle: float, length: float) -> tuple[float, float]:
    """Return the width of a window of radii in radians: steps of orientations (1 on the sphere) and of the grid."""
    if not space.has_orientations:
        return 1, 2 * length / point_spacing(space.grid)
    return angle * space.orientations / math.pi, 2 * length / point_spacing(space.grid)


def _enclosing_sizes(
    u: Tensor, space: S2 | SO3, metric: Metric, alpha: Alpha, time: float, beyond: Tensor | None
) -> tuple[int, int]:
    """Return the smallest window that holds every neighbour whose cost is below the range of u.

    ``beyond`` is added to the range of every channel.
    """
    check_may_look(u, alpha, beyond, *vars(metric).values())
    with torch.no_grad():
        radius = radius_of_cost(spread(u) + (0.0 if beyond is None else beyond.to(u)), alpha, time)
        if not bool(radius.isfinite().all()):
            raise ValueError("u: expected finite values to choose kernel_size='auto', got NaN or infinity")
        # no distance is below the least weight times the rotation angle, which bounds tilt and twist
        least = linalg.eigvalsh(metric.gram())[:, 0].clamp_min(torch.finfo(radius.dtype).tiny).sqrt()
        angle = min(float((radius / least).amax()), math.pi)
    sphere_steps = 2 * math.ceil(angle / point_spacing(space.grid)) + 1
    if not space.has_orientations:
        return 1, sphere_steps
    return window_sizes(space, (2 * math.ceil(angle * space.orientations / (2 * math.pi)) + 1, sphere_steps))


def _power(alpha: Alpha) -> Alpha:
    return widen(alpha) if isinstance(alpha, Tensor) else alpha
