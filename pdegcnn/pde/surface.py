"""Solvers of the four terms on the bundle of directions of a mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn.kernels.diffusion import SMALLEST_ALPHA, diffusion_profile, radius_of_mass
from pdegcnn.kernels.metric import SPD, Metric, as_metric
from pdegcnn.kernels.morphological import FLAT_SLACK, cost_law, radius_of_cost
from pdegcnn.ops.bundle import bundle
from pdegcnn.ops.gather_mean import gather_mean
from pdegcnn.ops.gather_morphology import gather_morphology
from pdegcnn.ops.geodesic_flow import geodesic_flow
from pdegcnn.pde.arguments import check_metric_kind, check_vector, spread, wide_metric
from pdegcnn.spaces import SE2, Mesh

METHODS = {"convection": ("linear",), "diffusion": ("kernel",)}
DISTANCES = ("half_angle",)
NEAR_FLAT = 0.501
"""Below this power rounding it to float32 would change the kernel."""
SAMPLES = 4096
"""Samples of the diffusion kernel's profile; between them it is linear."""
OPTIONS = {
    "convection": ("method", "boundary"),
    "diffusion": ("method", "kernel_size", "distance", "boundary"),
    "dilation": ("kernel_size", "distance"),
    "erosion": ("kernel_size", "distance"),
}
"""Options of each term, besides those that every solver has."""
KernelSize = int | Sequence[int] | str


def prepare(space: Mesh, term: str, **options: Any) -> None:
    """Nothing: the mesh itself keeps its operators."""


def check_options(
    space: Mesh,
    term: str,
    *,
    method: str | None = None,
    boundary: str | None = None,
    time: float = 1.0,
    kernel_size: KernelSize | None = None,
    distance: str = "half_angle",
) -> None:
    """Raise ``ValueError`` or ``TypeError`` for options that :func:`convection` and the others would refuse."""
    if method is not None:
        _checks.choice("method", method, METHODS[term])
    if boundary is not None:
        _checks.choice("boundary", boundary, ("replicate",))
    _checks.interval("time", time, 0.0, math.inf, open_low=term != "convection")
    if kernel_size is not None and kernel_size != "auto":
        kernel_reach(space, kernel_size)
    _checks.choice("distance", distance, DISTANCES)


def kernel_reach(space: Mesh, kernel_size: KernelSize) -> tuple[int, float]:
    """Steps of directions and radius in units: ``KO, K / 2`` for ``(KO, K)``; an int serves both.

    More steps than go once around the circle are left out.
    """
    wanted = "an odd int, two of them (directions, diameter) or 'auto'"
    if isinstance(kernel_size, bool) or not isinstance(kernel_size, (int, Sequence)):
        raise TypeError(f"kernel_size: expected {wanted}, got {kernel_size!r}")
    if isinstance(kernel_size, str) or not isinstance(kernel_size, int) and len(kernel_size) != 2:
        raise ValueError(f"kernel_size: expected {wanted}, got {kernel_size!r}")
    sizes = (kernel_size,) * 2 if isinstance(kernel_size, int) else tuple(kernel_size)
    _checks.odd("kernel_size", sizes)
    around = space.directions + 1 - space.directions % 2
    return min(sizes[0], around), sizes[1] / 2


def enclosing_reach(space: Mesh, matrix: Tensor, radius: Tensor) -> tuple[int, float]:
    """Steps of directions and radius in units that hold the balls of ``radius [C]`` in the metric: ``"auto"``.

    Radii are halves of odd numbers, so that the lists of a ball serve many metrics.
    """
    if not bool(radius.isfinite().all()):
        raise ValueError("u: expected finite values to choose kernel_size='auto', got NaN or infinity")
    inverse = SPD(matrix.detach().double()).cometric()
    reach = float((radius * torch.linalg.eigvalsh(inverse[:, :2, :2])[:, -1].sqrt()).max())
    turn = min(float((radius * inverse[:, 2, 2].sqrt()).max()), 2 * math.pi)
    if not math.isfinite(reach):
        raise ValueError(
            f"metric: expected one whose balls have a finite radius, got {reach} for radii {radius.tolist()}"
        )
    steps = int(turn * space.directions / (2 * math.pi) + 0.5 + 1e-6)  # a tap's turn is off whole steps by up to a half
    return kernel_reach(space, (2 * steps + 1, 2 * max(math.ceil(reach + 1e-6 - 0.5), 0) + 1))


def convection(
    u: Tensor,
    space: Mesh,
    vector: Tensor,
    *,
    time: float = 1.0,
    method: str = "linear",
    boundary: str | None = None,
) -> Tensor:
    """``u(g exp(-time c))``; see :func:`pdegcnn.functional.convection`. Semi-Lagrangian, along geodesics."""
    space.check_signal("u", u)
    vector = check_vector(vector, 3, u)
    check_options(space, "convection", method=method, boundary=boundary, time=time)
    local = SE2(space.directions)
    step = -time * vector
    if step.dtype in (torch.float16, torch.bfloat16):
        step = step.float()
    return geodesic_flow(u, space, torch.cat((local.exp(step)[:, :2], step[:, 2:]), dim=1))


def diffusion(
    u: Tensor,
    space: Mesh,
    metric: Tensor | Metric,
    *,
    alpha: float | Tensor = 1.0,
    kernel_size: KernelSize = 5,
    time: float = 1.0,
    method: str = "kernel",
    distance: str = "half_angle",
    boundary: str | None = None,
) -> Tensor:
    """``exp(-time (-Delta)^alpha) u`` by a kernel; see :func:`pdegcnn.functional.diffusion`."""
    space.check_signal("u", u)
    check_options(
        space, "diffusion", method=method, boundary=boundary, time=time, kernel_size=kernel_size, distance=distance
    )
    _checks.interval("alpha", alpha, SMALLEST_ALPHA, 1.0)
    matrix = _matrix(metric, u)
    if kernel_size == "auto":
        far = radius_of_mass(_number(alpha), space.dim, time)
        taps, radius = enclosing_reach(space, matrix, torch.full_like(matrix[:, 0, 0], far))
    else:
        taps, radius = kernel_reach(space, kernel_size)
    with torch.no_grad():  # no tap is further away than this
        turn = (taps + 1) * math.pi / space.directions
        reach = float((torch.linalg.eigvalsh(matrix)[:, -1].max() * (radius**2 + turn**2)).sqrt())
    distances = torch.linspace(0, reach, SAMPLES, dtype=matrix.dtype, device=u.device)
    profile = diffusion_profile(distances**2, alpha, space.dim, time)
    profile = profile / profile.detach()[0]
    return gather_mean(u, bundle(space, radius, u), matrix, profile, reach, taps)


def morphology(
    u: Tensor,
    space: Mesh,
    metric: Tensor | Metric,
    *,
    sign: int,
    alpha: float | Tensor = 0.65,
    kernel_size: KernelSize = 5,
    time: float = 1.0,
    distance: str = "half_angle",
) -> Tensor:
    """Dilation (sign +1) or erosion (-1); see :func:`pdegcnn.functional.dilation`."""
    space.check_signal("u", u)
    check_options(space, "dilation", time=time, kernel_size=kernel_size, distance=distance)
    _checks.interval("alpha", alpha, 0.5, 1.0, open_low=isinstance(alpha, Tensor))
    matrix = _matrix(metric, u)
    if kernel_size == "auto":
        taps, radius = enclosing_reach(
            space, matrix, radius_of_cost(spread(u, space.sizes).double(), _number(alpha), time)
        )
    else:
        taps, radius = kernel_reach(space, kernel_size)
    law, unit = _law(alpha, time, matrix)
    return gather_morphology(u, bundle(space, radius, u), matrix / unit, law, taps, sign)


def _law(alpha: float | Tensor, time: float, like: Tensor) -> tuple[Tensor, float | Tensor]:
    """Factor and power of the morphological kernel as a function of the squared distance in units, and the unit."""
    if not isinstance(alpha, Tensor) and alpha == 0.5:
        flat = (time * (1 + FLAT_SLACK)) ** 2, math.inf
        return torch.tensor(flat, dtype=like.dtype, device=like.device), 1.0
    near = not isinstance(alpha, Tensor) and alpha < NEAR_FLAT
    law = cost_law(alpha if near else torch.as_tensor(alpha, dtype=like.dtype, device=like.device), time)
    factor, unit, power = (torch.as_tensor(x, dtype=like.dtype, device=like.device) for x in law)
    return torch.stack((factor, power)), unit


def _number(alpha: float | Tensor) -> float:
    return float(alpha.detach()) if isinstance(alpha, Tensor) else alpha


def _matrix(metric: Tensor | Metric, u: Tensor) -> Tensor:
    """The metric as matrices ``[C,3,3]``, in float32 for half precision."""
    metric = wide_metric(check_metric_kind(as_metric(metric, 3, u.shape[1]), u))
    return metric.gram().expand(u.shape[1], 3, 3)
