"""Approximations of the left-invariant distance from the unit element, on a list; all return **squared** distances.

Squared, because kernels are smooth functions of the square also at the unit element. Sources: Smets et al. (arXiv
2001.09046) for the logarithmic norm; Bellaard et al., *Analysis of (sub-)Riemannian PDE-G-CNNs* (2023) for the others.
On the plane, where coordinates are the element itself, the logarithmic and half-angle ones are exact.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pdegcnn.kernels.metric import Diagonal, Metric, safe_sqrt
from pdegcnn.spaces import GridSpace

NU = 1.6
"""Weight of the sideways cost in the sub-Riemannian estimate."""


def logarithmic(space: GridSpace, metric: Metric, g: Tensor) -> Tensor:
    """Squared norm of the logarithmic coordinates: never less than the exact distance. ``[..., dim] -> [C, ...]``."""
    return metric.squared_norm(space.log(g))


def half_angle(space: GridSpace, metric: Metric, g: Tensor) -> Tensor:
    """Squared norm of the half-angle coordinates: carries the reflection symmetries of the exact distance."""
    return metric.squared_norm(space.half_angle(g))


def sub_riemannian(space: GridSpace, metric: Metric, g: Tensor) -> Tensor:
    """``sqrt((nu w1 w3 b2)^2 + ((w1 b1)^2 + (w3 b3)^2)^2)``: sideways motion only through turning."""
    w = _weights(space, metric)
    b = space.half_angle(g)
    w1, w3 = _columns(w, b, (0, 2))
    return safe_sqrt((NU * w1 * w3 * b[..., 1]) ** 2 + ((w1 * b[..., 0]) ** 2 + (w3 * b[..., 2]) ** 2) ** 2)


def combined(space: GridSpace, metric: Metric, g: Tensor) -> Tensor:
    """``max(l, min(rho_sub_riemannian, rho_half_angle))`` with ``l^2 = min(w1,w2)^2 |x|^2 + w3^2 theta^2``."""
    w = _weights(space, metric)
    b = space.half_angle(g)
    w1, w2, w3 = _columns(w, b, (0, 1, 2))
    least = torch.minimum(w1, w2) ** 2 * (b[..., :2] ** 2).sum(-1) + (w3 * b[..., 2]) ** 2
    return torch.maximum(least, torch.minimum(sub_riemannian(space, metric, g), half_angle(space, metric, g)))


DISTANCES: dict[str, Callable[[GridSpace, Metric, Tensor], Tensor]] = {
    "logarithmic": logarithmic,
    "half_angle": half_angle,
    "sub_riemannian": sub_riemannian,
    "combined": combined,
}
DEFAULT_DISTANCE = "half_angle"


def ball_reach(metric: Metric, radius: Tensor, distance: str) -> Tensor:
    """Greatest image distance and turn ``[C, 2]`` inside the ball of ``radius [C]`` measured by ``distance``."""
    reach = metric.reach(radius)
    if distance == "sub_riemannian" and isinstance(metric, Diagonal):
        w1, w3 = metric.weights[:, 0], metric.weights[:, 2]
        image = torch.hypot(radius / w1, radius**2 / (NU * w1 * w3))
        reach = torch.stack((image, radius / w3), dim=-1)
    return reach


def _weights(space: GridSpace, metric: Metric) -> Tensor:
    if not isinstance(metric, Diagonal):
        raise ValueError(f"metric: expected a 'diagonal' metric for this distance, got {metric.form!r}")
    if space.dim != 3:
        raise ValueError(f"distance: expected 'logarithmic' or 'half_angle' on {space}, which has no orientations")
    return metric.weights


def _columns(w: Tensor, b: Tensor, which: tuple[int, ...]) -> list[Tensor]:
    return [w[:, i].reshape(-1, *(1,) * (b.ndim - 1)) for i in which]
