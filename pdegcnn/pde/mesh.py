"""Solvers of the four terms on the bundle of directions of a mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import widen
from pdegcnn._typing import linalg, tolist
from pdegcnn.kernels.diffusion import HIGHEST, SMALLEST_ALPHA, mass_of_cell, profile, radius_of_mass, time_scales
from pdegcnn.kernels.metric import SPD, Metric, half_sides
from pdegcnn.kernels.morphological import FLAT_SLACK, cost_law, radius_of_cost
from pdegcnn.ops.gather_mean import gather_mean
from pdegcnn.ops.gather_morphology import gather_morphology
from pdegcnn.ops.geodesic_flow import geodesic_flow
from pdegcnn.pde.arguments import check_may_look, spread, wide_metric
from pdegcnn.pde.mesh_log_plus import soft_dilation
from pdegcnn.pde.mesh_neighbors import directional_neighbors, half_edges
from pdegcnn.pde.solver import NEGLIGIBLE, Alpha, Options, Solver
from pdegcnn.spaces import SE2, Mesh

METHODS = {"convection": ("linear",), "diffusion": ("kernel", "sampled")}
DISTANCES = ("half_angle",)
NEAR_FLAT = 0.501
"""Below this power rounding it to float32 would change the kernel."""
STEPS = 5
"""The default window is at least this many directions wide,"""
LEAST_ANGLE = 2 * math.pi / 3
"""reaches this many radians to each side (all the way round for diffusion)"""
RADIUS = {"diffusion": 3.5, "dilation": 2.5, "erosion": 2.5}
"""and this many units of length: diffusion loses what is beyond."""
SAMPLES = 4096
"""Samples of the diffusion kernel's profile; between them it is linear."""
LEAST = 1e-30
"""A weight of neighbours that no float32 resolves beside that of the point itself."""
FAINT = 1e-15
"""Weight, relative to the nearest points, that every point of a window has at least."""
WHOLE = 1e6
"""So many sides of a cell hold everything."""


class MeshSolver(Solver):
    """Solver of one term on a mesh; the mesh keeps the tables, so other meshes can be used too."""

    OPTIONS: ClassVar = {
        "convection": ("method", "boundary"),
        "diffusion": ("method", "kernel_size", "radius", "distance", "boundary"),
        "dilation": ("kernel_size", "radius", "distance", "semifield"),
        "erosion": ("kernel_size", "radius", "distance", "semifield"),
    }
    space: Mesh

    def _set_up(self, options: Options, like: Tensor) -> None:
        if options.method is not None:
            _checks.choice("method", options.method, METHODS[self.term])
        if options.boundary is not None:
            _checks.choice("boundary", options.boundary, ("replicate",))
        if options.distance is not None:
            _checks.choice("distance", options.distance, DISTANCES)
        self.sampled = options.method == "sampled"
        size, radii = options.kernel_size, options.reach(math.pi / 2)
        if radii is not None:
            self.reach = reach_within(self.space, *radii)
        elif self.term == "convection":
            self.reach = None
        elif size is None:
            taps, radius = reach_within(
                self.space, math.pi if self.term == "diffusion" else LEAST_ANGLE, RADIUS[self.term]
            )
            self.reach = max(taps, kernel_reach(self.space, STEPS)[0]), radius
        else:
            self.reach = None if isinstance(size, str) and size == "auto" else kernel_reach(self.space, size)

    @property
    def channels_are_independent(self) -> bool:
        """Whether some channels give alone what they give beside others; the profile of diffusion serves all."""
        return self.reach is not None and self.term != "diffusion"

    @property
    def power_range(self) -> tuple[float, float, bool]:
        """Range of the power alpha, and whether it leaves out its lower end."""
        return (SMALLEST_ALPHA, 1.0, False) if self.term == "diffusion" else super().power_range

    def convection(self, u: Tensor, vector: Tensor, time: float) -> Tensor:
        """Return ``u(g exp(-time c))``: semi-Lagrangian, along geodesics."""
        step = widen(-time * vector)
        end = SE2(self.space.orientations).exp(step)
        return geodesic_flow(u, half_edges(self.space, u), torch.cat((end[:, :2], step[:, 2:]), dim=1))

    def diffusion(self, u: Tensor, metric: Metric, alpha: Alpha, time: float) -> Tensor:
        """Return ``exp(-time (-Delta)^alpha) u`` by a kernel.

        The cell of a point, where the kernel of a small power has its peak, is integrated in closed form. What the
        window does not hold goes to the mean of the signal. With ``method="sampled"`` the kernel at the points of the
        window is scaled to mass one instead.
        """
        space, matrix = self.space, _matrix(metric, u)
        dim = dimension(space)
        if self.reach is None:
            check_may_look(u, alpha, matrix)
            far = radius_of_mass(_number(alpha), dim, time)
            taps, radius = enclosing_reach(space, matrix, torch.full_like(matrix[:, 0, 0], far))
        else:
            taps, radius = self.reach
        turn = (taps + 1) * math.pi / space.orientations
        reach = _transforms.at_values(partial(_farthest, square=radius**2 + turn**2), matrix)
        if _checks.has_values(matrix) or _checks.is_compiling():
            reach = float(reach)
            distances = torch.linspace(0, reach, SAMPLES, dtype=matrix.dtype, device=u.device)
        else:
            distances = torch.linspace(0, 1, SAMPLES, dtype=matrix.dtype, device=u.device) * reach
        weights = profile(distances**2, alpha, dim, time)
        if self.sampled:
            table = directional_neighbors(space, radius, u)
            return gather_mean(u, table, matrix, weights / weights.detach()[0], reach, taps)
        weights = weights / weights.detach()[1].clamp_min(LEAST)  # of short steps no neighbour has any weight
        # the point itself counts only where there is no other, and far points where there are no near ones
        weights = torch.cat((torch.full_like(weights[:1], FAINT**2), weights[1:] + FAINT))
        around = gather_mean(u, directional_neighbors(space, radius, u), matrix, weights, reach, taps)
        pieces = [masses(area, space, matrix, (taps, radius), alpha, time) for area in parts(space.areas, space)]
        own, held = (side_by_side([x[:, None, None] for x in xs], space).to(u.dtype) for xs in zip(*pieces))
        return own * u + (held - own) * around + (1 - held) * mean_of_each(u, space)

    def morphology(self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u."""
        matrix = _matrix(metric, u)
        return self._extremum(u, matrix, alpha, time, sign, self._reach(u, matrix, alpha, time))

    def soft_morphology(
        self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int, temperature: Alpha
    ) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u in the log-plus semifield, which keeps constants.

        Points are weighted by their areas, so denser meshes give the same result.
        """
        space, matrix = self.space, _matrix(metric, u)
        t = widen(temperature) if isinstance(temperature, Tensor) else temperature
        window = self._reach(u, matrix, alpha, time, NEGLIGIBLE * torch.as_tensor(t))

        def lowest(x: Tensor) -> Tensor:
            return side_by_side([part.amin(-1, keepdim=True) for part in parts(x, space)], space)

        found = soft_dilation(
            *(sign * u, matrix, alpha, time, t, window[0]),
            partial(directional_neighbors, space, window[1]),
            lowest,
            lambda x: self._extremum(x, matrix, alpha, time, +1, window),
        )
        return sign * found

    def _reach(
        self, u: Tensor, matrix: Tensor, alpha: Alpha, time: float, beyond: Tensor | None = None
    ) -> tuple[int, float]:
        """Return steps and radius of the window; ``"auto"`` holds costs up to the range of u and ``beyond`` (0)."""
        if self.reach is not None:
            return self.reach
        check_may_look(u, alpha, matrix, beyond)
        highest = spread(u, self.space.sizes).double()
        highest = highest if beyond is None else highest + beyond.to(highest)
        return enclosing_reach(self.space, matrix, radius_of_cost(highest, _number(alpha), time))

    def _extremum(
        self, u: Tensor, matrix: Tensor, alpha: Alpha, time: float, sign: int, window: tuple[int, float]
    ) -> Tensor:
        """Return the greatest (sign +1) or least (-1) value in the window."""
        law, unit = _law(alpha, time, matrix)
        pairs = directional_neighbors(self.space, window[1], u)
        return gather_morphology(u, pairs, matrix / unit, law, window[0], sign)


def masses(
    areas: Tensor, space: Mesh, matrix: Tensor, reach: tuple[int, float], alpha: Alpha, time: float
) -> tuple[Tensor, Tensor]:
    """Return the mass ``[C]`` of the diffusion kernel at a point itself, and in positions of the window.

    ``areas`` are those of one mesh.

    The former is the share of the point among the samples of a Gaussian, mixed over time for powers below one. A window
    as large as the mesh holds all positions. Turns that it does not hold are made up for by those that it does.
    """
    taps, radius = reach
    dim = dimension(space)
    side, step = float(areas.mean().sqrt()), 2 * math.pi / space.orientations
    half = half_sides(SPD(matrix), matrix.new_tensor([side, side, step]))[:, :dim]
    wide = math.sqrt(math.pi) * radius / side  # a square of the area of the disk
    if wide**2 >= areas.numel():
        wide = WHOLE
    window = torch.maximum(half * half.new_tensor([wide, wide, WHOLE][:dim]), half)
    if not isinstance(alpha, Tensor) and alpha == 1.0:
        scales = half.new_full((1,), math.log(time)), half.new_zeros(1)
    else:
        scales = time_scales(half, alpha, time)
    held = mass_of_cell(window, alpha, time, scales)
    rate = (half[..., None] * torch.exp((-scales[0] / 2).clamp_max(HIGHEST))) ** 2  # (2 half)^2 / 4 s
    share = 1 / (_theta(rate[:, 0]) * _theta(rate[:, 1]))
    if dim == 3:
        weight, steps = half.new_ones(taps), torch.arange(taps, device=half.device) - taps // 2
        if taps > space.orientations:
            weight[0] = weight[-1] = 0.5
        share = share / torch.einsum("s,csj->cj", weight, torch.exp(-(steps**2)[:, None] * rate[:, 2:3]))
    own = share @ torch.exp(scales[1])
    return own, torch.maximum(held, own)


def _theta(rate: Tensor) -> Tensor:
    """Return ``sum_n exp(-rate n^2)`` over all integers, by this series or Poisson's, whichever converges faster."""
    narrow, wide = rate.clamp_min(1.0), rate.clamp(torch.finfo(rate.dtype).tiny ** 0.5, 1.0)
    by_terms = 1 + 2 * torch.exp(-narrow) + 2 * torch.exp(-4 * narrow) + 2 * torch.exp(-9 * narrow)
    far = math.pi**2 / wide
    by_waves = torch.sqrt(math.pi / wide) * (1 + 2 * torch.exp(-far) + 2 * torch.exp(-4 * far))
    return torch.where(rate > 1, by_terms, by_waves)


def dimension(space: Mesh) -> int:
    """Return the dimension of the domain of signals: positions, or positions and directions."""
    return space.dim if space.orientations > 1 else space.dim - 1


def parts(x: Tensor, space: Mesh) -> Sequence[Tensor]:
    """Return what ``x [...,V]`` holds of each mesh of a union."""
    return torch.split(x, list(space.sizes), -1)


def side_by_side(values: Sequence[Tensor], space: Mesh) -> Tensor:
    """Return values ``[...,1]`` of each mesh, given to its vertices: ``[...,V]``; of a single mesh ``[...,1]``."""
    if len(values) == 1:
        return values[0]
    return torch.cat([x.expand(*x.shape[:-1], n) for x, n in zip(values, space.sizes)], -1)


def mean_of_each(u: Tensor, space: Mesh) -> Tensor:
    """Return the mean over area and directions ``[B,C,1,1]``; for a union that of each vertex's mesh, ``[B,C,1,V]``."""
    wide = widen(u)  # sums of halves leave their range
    pairs = zip(parts(wide.mean(2, keepdim=True), space), parts(space.areas.to(wide), space))
    means = [(part * area).sum(-1, keepdim=True) / area.sum() for part, area in pairs]
    return side_by_side(means, space).to(u.dtype)


def kernel_reach(space: Mesh, kernel_size: object) -> tuple[int, float]:
    """Return steps of directions and radius in units: ``KO, K / 2`` for ``(KO, K)``; an int serves both.

    More steps than go once around the circle are left out.
    """
    wanted = "an odd int, two of them (directions, diameter) or 'auto'"
    if isinstance(kernel_size, bool) or not isinstance(kernel_size, (int, Sequence)):
        raise TypeError(f"kernel_size: expected {wanted}, got {kernel_size!r}")
    sizes = (kernel_size,) * 2 if isinstance(kernel_size, int) else tuple(cast("Sequence[int]", kernel_size))
    if isinstance(kernel_size, str) or len(sizes) != 2:
        raise ValueError(f"kernel_size: expected {wanted}, got {kernel_size!r}")
    _checks.odd("kernel_size", sizes)
    around = space.orientations + 1 - space.orientations % 2
    return min(sizes[0], around), sizes[1] / 2


def reach_within(space: Mesh, angle: float, radius: float) -> tuple[int, float]:
    """Return steps of directions and radius in units of a window of ``angle`` radians and ``radius`` units."""
    around = space.orientations + 1 - space.orientations % 2
    return min(2 * int(angle * space.orientations / (2 * math.pi) + 1e-6) + 1, around), radius


def enclosing_reach(space: Mesh, matrix: Tensor, radius: Tensor) -> tuple[int, float]:
    """Return steps of directions and radius in units that hold the balls of ``radius [C]`` in the metric: ``"auto"``.

    Radii are halves of odd numbers, so that the lists of a ball serve many metrics.
    """
    if not bool(radius.isfinite().all()):
        raise ValueError("u: expected finite values to choose kernel_size='auto', got NaN or infinity")
    inverse = SPD(matrix.detach().double()).cometric()
    reach = float((radius * linalg.eigvalsh(inverse[:, :2, :2])[:, -1].sqrt()).max())
    turn = min(float((radius * inverse[:, 2, 2].sqrt()).max()), 2 * math.pi)
    if not math.isfinite(reach):
        raise ValueError(
            f"metric: expected a metric whose balls have a finite radius, got {reach} for radii {tolist(radius)}"
        )
    steps = int(
        turn * space.orientations / (2 * math.pi) + 0.5 + 1e-6
    )  # a tap's turn is off whole steps by up to a half
    return kernel_reach(space, (2 * steps + 1, 2 * max(math.ceil(reach + 1e-6 - 0.5), 0) + 1))


def _farthest(matrix: Tensor, square: float) -> Tensor:
    """Return the greatest distance in any metric ``[C,3,3]`` of elements with this squared Euclidean distance."""
    return (linalg.eigvalsh(matrix)[:, -1].max() * square).sqrt()


def _law(alpha: Alpha, time: float, like: Tensor) -> tuple[Tensor, float | Tensor]:
    """Return factor and power of the morphological kernel in the squared distance in units, and the unit."""
    if not isinstance(alpha, Tensor) and alpha == 0.5:
        flat = (time * (1 + FLAT_SLACK)) ** 2, math.inf
        return torch.tensor(flat, dtype=like.dtype, device=like.device), 1.0
    near = not isinstance(alpha, Tensor) and alpha < NEAR_FLAT
    law = cost_law(alpha if near else torch.as_tensor(alpha, dtype=like.dtype, device=like.device), time)
    factor, unit, power = (torch.as_tensor(x, dtype=like.dtype, device=like.device) for x in law)
    return torch.stack((factor, power)), unit


def _number(alpha: Alpha) -> float:
    return float(alpha.detach()) if isinstance(alpha, Tensor) else alpha


def _matrix(metric: Metric, u: Tensor) -> Tensor:
    """Return the metric as matrices ``[C,3,3]``, in float32 for half precision."""
    return wide_metric(metric).gram().expand(u.shape[1], 3, 3)
