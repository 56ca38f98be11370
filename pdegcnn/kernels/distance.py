"""Approximations of the left-invariant distance from the unit element; all return **squared** distances.

Kernels are smooth functions of the square also at the unit element. Sources: Smets et al. (arXiv
2001.09046) for the logarithmic norm; Bellaard et al., *Analysis of (sub-)Riemannian PDE-G-CNNs* (2023) for the others.
On the plane and on volumes, where coordinates are the element itself, the logarithmic and half-angle ones are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pdegcnn.kernels.metric import Diagonal, Metric, safe_sqrt
from pdegcnn.spaces import GridSpace

NU = 1.6
"""Weight of the sideways cost in the sub-Riemannian estimate."""


@dataclass(frozen=True)
class Distance:
    """A squared distance in two steps; the first one does not depend on the metric and is computed once.

    Calling it does both: ``distance(space, metric, g [..., dim]) -> [C, ...]``.

    Args:
        coordinates: ``(space, g)`` to coordinates of the same shape.
        squared: ``(space, metric, coordinates)`` to the squared distance.
    """

    coordinates: Callable[[GridSpace, Tensor], Tensor]
    squared: Callable[[GridSpace, Metric, Tensor], Tensor]

    def __call__(self, space: GridSpace, metric: Metric, g: Tensor) -> Tensor:
        """Return the squared distance of elements g."""
        return self.squared(space, metric, self.coordinates(space, g))


def _element(space: GridSpace, g: Tensor) -> Tensor:
    return g


def _log(space: GridSpace, g: Tensor) -> Tensor:
    return space.log_of_path(g)


def _half_angle(space: GridSpace, g: Tensor) -> Tensor:
    return space.half_angle_of_path(g)


def norm(space: GridSpace, metric: Metric, b: Tensor) -> Tensor:
    """Return the metric's squared norm of the coordinates.

    Of logarithmic ones it is never less than the exact distance; half-angle ones carry the reflection symmetries of it.
    """
    return metric.squared_norm(b)


def sub_riemannian(space: GridSpace, metric: Metric, b: Tensor) -> Tensor:
    """Return ``sqrt((nu w1 w3 b2)^2 + ((w1 b1)^2 + (w3 b3)^2)^2)``: sideways motion only through turning."""
    w1, _, w3 = _columns(_weights(space, metric), b)
    return safe_sqrt((NU * w1 * w3 * b[..., 1]) ** 2 + ((w1 * b[..., 0]) ** 2 + (w3 * b[..., 2]) ** 2) ** 2)


def combined(space: GridSpace, metric: Metric, b: Tensor) -> Tensor:
    """Return half-angle coordinates, where turning also reaches the expensive direction in the plane.

    With the cheaper of the two weights ``w_c``, the larger ``w_d``, half-angle coordinates b and
    ``r^2 = (w_c b_c)^2 + (w_3 b_3)^2``:

    ``w_c^2 (b_1^2 + b_2^2) + (w_3 b_3)^2 + 1 / (1/D + 1/Q)``, ``D = (w_d^2 - w_c^2) b_d^2``,
    ``Q = 12 z^2 / (r^2 + 3/pi |z|)``, ``z = w_c w_3 b_d``.

    D is the extra cost of the direct path, Q the cost of a detour: in the Heisenberg group an area z costs
    ``4 pi |z|`` alone and ``12 z^2 / r^2`` along a path of length r. The distance is exact where the plane's weights
    are equal; at ratios of two to ten it is 1 % less than the exact one on average, at worst 14 %. It is at least
    ``w_c^2 (b_1^2 + b_2^2) + (w_3 b_3)^2`` and at most the half-angle norm. Metrics that are not diagonal, and spaces
    without orientations, have the half-angle norm. Its first derivatives in the weights are continuous; the second
    ones jump where the plane's weights are equal.
    """
    if not isinstance(metric, Diagonal) or not space.has_orientations:
        return metric.squared_norm(b)
    w1, w2, w3 = _columns(metric.weights, b)
    first, second, turn = (b**2).unbind(-1)
    forward = w1 <= w2  # is cheap; slopes are those of one side where the weights tie, as both sides have the same
    low, high = torch.where(forward, w1, w2), torch.where(forward, w2, w1)
    cheap, costly = torch.where(forward, first, second), torch.where(forward, second, first)
    length = torch.where(forward, b[..., 1], b[..., 0]).abs()
    most = torch.finfo(torch.promote_types(w1.dtype, b.dtype)).max ** 0.2  # ratios whose products do not overflow
    ratio, tilt = (high / low).clamp_max(most), (low / w3).clamp_max(most)
    way = (tilt**2 * cheap + turn + 3 / math.pi * tilt * length) / 12
    more = (high - low) * (high + low)
    return low**2 * (first + second) + w3**2 * turn + more * costly / (1 + (ratio**2 - 1) * way)


DISTANCES: dict[str, Callable[[GridSpace, Metric, Tensor], Tensor]] = {
    "logarithmic": Distance(_log, norm),
    "half_angle": Distance(_half_angle, norm),
    "sub_riemannian": Distance(_half_angle, sub_riemannian),
    "combined": Distance(_half_angle, combined),
}
"""Squared distances by name: functions of ``(space, metric, g [..., dim])`` to ``[C, ...]``."""
DEFAULT_DISTANCE = "combined"


def distance_of(name: str) -> Distance:
    """Return a listed distance in two steps; the coordinates of a plain function are the elements themselves."""
    listed = DISTANCES[name]
    return listed if isinstance(listed, Distance) else Distance(_element, listed)


def ball_reach(metric: Metric, radius: Tensor, distance: str) -> Tensor:
    """Return the greatest image distance and turn (or depth) ``[C,2]`` in the ball of ``radius [C]``."""
    reach = metric.reach(radius)
    if distance == "sub_riemannian" and isinstance(metric, Diagonal):
        w1, w3 = metric.weights[:, 0], metric.weights[:, 2]
        image = torch.hypot(radius / w1, radius**2 / (NU * w1 * w3))
        reach = torch.stack((image, radius / w3), dim=-1)
    return reach


def _weights(space: GridSpace, metric: Metric) -> Tensor:
    if not isinstance(metric, Diagonal):
        raise ValueError(f"metric: expected a 'diagonal' metric for this distance, got {metric.form!r}")
    if not space.has_orientations:
        raise ValueError(f"distance: expected 'logarithmic' or 'half_angle' on {space}, which has no orientations")
    return metric.weights


def _columns(w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Return the weights ``[C,dim]`` one by one, each with as many axes as the distances of ``b``."""
    return w.reshape(len(w), *(1,) * (b.ndim - 1), w.shape[1]).unbind(-1)
