"""Distances from the unit rotation: norms of coordinates, and the exact one of axisymmetric metrics from a table.

With weights per radian of tilt and of twist, every coordinate norm agrees with the distance to first order, and
``min(w) theta <= d <= logarithmic <= max(w) theta`` for the rotation angle theta.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn._typing import Floats
from pdegcnn.spaces import RotationSpace

REFUSAL = "distance='exact': expected at most second derivatives in the metric, got a third; take another distance"

COORDINATES: dict[str, Callable[[RotationSpace, Tensor], Tensor]] = {
    "logarithmic": lambda space, g: space.log(g),
    "tilt_twist": lambda space, g: space.half_angle(g),
}
"""Distances that are the metric's norm of coordinates of an element."""
ROTATION_DISTANCES = (*COORDINATES, "exact")
DEFAULT_ROTATION_DISTANCE = "logarithmic"

NODES = 41
"""Table nodes along the tilt, the twist and the logarithm of the ratio of weights."""
RATIOS = (1 / 30, 30.0)
"""Range of (squared tilt weight)/(squared twist weight) in the table; beyond it the nearest end serves."""
_SAMPLES = 600


def geodesics(tilt: float, ratio: float) -> tuple[Floats, Floats, Floats]:
    """Return end twist (unwrapped) and two energies of all geodesics from the unit rotation to ``tilt`` in (0, pi].

    With squared weights a (tilt) and c (twist) and ``ratio = a/c``, the squared length is ``a A + c B``. A geodesic is
    ``exp(tau n) exp(sigma e_z)`` in unit quaternions with n at the angle phi from the axis and
    ``sigma = tau cos(phi) (ratio - 1)``; with ``sin(tau) sin(phi) = sin(tilt/2)`` and ``cos(phi) = tanh(w)`` samples in
    w are close together wherever anything changes fast. Source: the symmetric top (Landau & Lifshitz, *Mechanics*, 33).

    Returns:
        Twist, A and B, each ``[2, samples]``, one row for each sign of cos(phi).
    """
    tilt = min(tilt, np.pi - 1e-4)  # at pi every twist is the same rotation
    least = np.sin(tilt / 2)  # = sin(tau) sin(phi)
    z = np.linspace(0, 2, _SAMPLES)
    w = np.arccosh(1 / least) * np.sin(np.pi * z / 2)
    tau: Floats = np.arcsin(np.minimum(least * np.cosh(w), 1))
    tau: Floats = np.where(z > 1, np.pi - tau, tau)
    sine, cosine = 1 / np.cosh(w), np.tanh(w) * np.array([[1.0], [-1.0]])
    sigma = tau * cosine * (ratio - 1)
    twist = 2 * np.unwrap(np.arctan2(np.sin(tau) * cosine, np.cos(tau)) + sigma, axis=-1)
    return twist, (2 * tau * sine) ** 2 + 0 * cosine, (ratio * 2 * tau * cosine) ** 2


def energies(tilt: float, twists: Floats, ratio: float) -> tuple[Floats, Floats]:
    """Return energies (A, B) of the shortest geodesics to ``tilt`` in [0, pi] and each twist in [0, pi]."""
    if tilt == 0:
        return _energies_of_twists(twists, ratio)
    twist, first, second = geodesics(tilt, ratio)
    best = np.full(len(twists), np.inf)
    result = np.zeros((2, len(twists)))
    cost = ratio * first + second  # squared length in units of c
    for row in range(2):
        least, most = float(twist[row].min()), float(twist[row].max())
        turns = np.arange(math.floor(least / (2 * math.pi)) - 1.0, math.ceil(most / (2 * math.pi)) + 1.0)
        wanted = twists[:, None] + 2 * np.pi * turns  # [T,turns]
        above = twist[row] >= wanted[..., None]
        where, turn, left = np.nonzero(above[..., 1:] != above[..., :-1])
        step = twist[row, left + 1] - twist[row, left]
        share = (wanted[where, turn] - twist[row, left]) / step
        values = [(1 - share) * e[row, left] + share * e[row, left + 1] for e in (cost, first, second)]
        order = np.argsort(-values[0], kind="stable")  # the last value written to an entry is that of the shortest
        order = order[values[0][order] < best[where[order]]]
        best[where[order]] = values[0][order]
        result[:, where[order]] = [values[1][order], values[2][order]]
    return result[0], result[1]


def _energies_of_twists(twists: Floats, ratio: float) -> tuple[Floats, Floats]:
    """Return the same at tilt zero: twist only, or a whole turn of the top's axis (tau = pi)."""
    first, second = np.zeros_like(twists), twists**2
    if ratio != 1:
        for turn in range(-2, 3):
            cosine = (twists / 2 + np.pi * turn) / (np.pi * (ratio - 1))
            inside = np.abs(cosine) <= 1
            a = np.where(inside, (2 * np.pi) ** 2 * (1 - np.minimum(cosine**2, 1)), np.inf)
            b = (ratio * 2 * np.pi * cosine) ** 2
            better = ratio * a + b < ratio * first + second
            first, second = np.where(better, a, first), np.where(better, b, second)
    return first, second


@lru_cache(maxsize=1)
def energy_table() -> Floats:
    """Return ((A, B) - (tilt^2, twist^2)) / (tilt^2 + twist^2), ``[2, tilt, twist, log ratio]``; takes a second.

    At the unit element the difference is of fourth order, so the table is zero there.
    """
    nodes = np.pi * np.linspace(0, 1, NODES) ** 2  # close together near the unit element
    table = np.zeros((2, NODES, NODES, NODES))
    square = nodes[:, None] ** 2 + nodes**2
    square[0, 0] = 1
    for r, ratio in enumerate(np.geomspace(*RATIOS, NODES)):
        for i, tilt in enumerate(nodes):
            a, b = energies(tilt, nodes, ratio)
            table[:, i, :, r] = (a - tilt**2) / square[i], (b - nodes**2) / square[i]
    table[:, 0, 0] = 0
    return table


def exact_squared_distance(
    table: Tensor, tilt_square: Tensor, twist_square: Tensor, tilt: Tensor, twist: Tensor
) -> Tensor:
    """Return squared exact distances ``[C,S]`` of axisymmetric metrics by interpolating :func:`energy_table`.

    ``d^2 = a A + c B`` with the energies of the shortest geodesic, whose change with a and c is of second order (it is
    shortest), so the gradient in the squared weights is (A, B). Within half a percent of the solver for ratios in
    [1/25, 25].

    Args:
        table: :func:`energy_table` as a tensor.
        tilt_square: squared weights of tilt, ``[C]``.
        twist_square: squared weights of twist, ``[C]``.
        tilt: tilt of each element in [0, pi], ``[S]``.
        twist: absolute twist of each element in [0, pi], ``[S]``.
    """
    given: Any = (table, tilt_square, twist_square, tilt, twist)
    if _transforms.differentiated(*given):
        return _expanded(*given)
    return _Energy.apply(*given)[0]  # type: ignore[index]


def _energies_at(
    table: Tensor, tilt_square: Tensor, twist_square: Tensor, tilt: Tensor, twist: Tensor
) -> tuple[Tensor, Tensor]:
    """Return A and B of every channel and element, ``[C,S]`` each, by the table."""
    low, high = float(np.log(RATIOS[0])), float(np.log(RATIOS[1]))
    r, s = _node(((tilt_square / twist_square).log() - low) / (high - low))
    of_ratio = torch.lerp(table[..., r], table[..., r + 1], s)  # [2,tilt,twist,C]
    i, x = _node((tilt / torch.pi).sqrt())
    j, y = _node((twist / torch.pi).sqrt())
    x, y = x[:, None], y[:, None]
    below = torch.lerp(of_ratio[:, i, j], of_ratio[:, i, j + 1], y)
    above = torch.lerp(of_ratio[:, i + 1, j], of_ratio[:, i + 1, j + 1], y)
    excess = torch.lerp(below, above, x).mT * (tilt**2 + twist**2)  # [2,C,S]
    return (tilt**2 + excess[0]).clamp_min(0), (twist**2 + excess[1]).clamp_min(0)


class _Energy(torch.autograd.Function):
    """``tilt_square A + twist_square B``, whose gradient in the two weights is (A, B); arguments as `_energies_at`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(table: Tensor, tilt_square: Tensor, twist_square: Tensor, tilt: Tensor, twist: Tensor) -> Any:
        first, second = _energies_at(table, tilt_square, twist_square, tilt, twist)
        return tilt_square[:, None] * first + twist_square[:, None] * second, first, second

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *given, first, second = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives need these dependencies
            first, second = _energies_at(*given)
        return None, (grads[0] * first).sum(1), (grads[0] * second).sum(1), None, None


def _expanded(table: Tensor, tilt_square: Tensor, twist_square: Tensor, tilt: Tensor, twist: Tensor) -> Tensor:
    """Return what `_Energy` gives, as a polynomial of degree two in the weights about themselves: plain torch."""
    total = torch.zeros((), dtype=tilt.dtype, device=tilt.device)
    for weight, energy in zip((tilt_square, twist_square), _energies_at(table, tilt_square, twist_square, tilt, twist)):
        moved, still = (weight - weight.detach())[:, None], energy.detach()
        total = total + weight[:, None] * still + moved * (energy - still) / 2
        total = total + _transforms.vanishing(moved, 2, REFUSAL)
    return total


def _node(share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the table node below a position in [0, 1], and how far it is to the next."""
    position = (share.clamp(0, 1) * (NODES - 1)).clamp(max=NODES - 1)
    node = position.floor().clamp(max=NODES - 2)
    return node.long(), position - node
