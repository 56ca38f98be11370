"""The gathered morphology in plain torch, and the backward pass of all versions."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn.ops.directional_neighbors import DirectionalNeighbors, coordinates, padded, source, squared_norm
from pdegcnn.ops.gather_morphology.reference import cost


def forward(
    u: Tensor, lists: DirectionalNeighbors, matrix: Tensor, law: Tensor, taps: int, sign: int, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return values and winning taps (``pair * taps + step``, counted from the vertex's first pair)."""
    count = u.shape[2]
    pairs, exists = padded(lists)
    direction = torch.arange(count, device=u.device)[:, None]
    signed = sign * u
    best, winner = signed.clone(), torch.full(u.shape, taps // 2, dtype=index_dtype, device=u.device)
    for slot in range(lists.most):
        for s in range(taps):
            step = torch.tensor(s - taps // 2, device=u.device)
            y = coordinates(lists, pairs[:, slot], direction, step, count)
            value = signed.flatten(2)[:, :, source(lists, pairs[:, slot], direction, step, count)]
            value = value - cost(squared_norm(matrix, y), law)
            wins = ((value > best) | (value.isnan() & ~best.isnan())) & exists[:, slot]
            best = torch.where(wins, value, best)
            winner.masked_fill_(wins, slot * taps + s)
    return sign * best, winner


def _chosen(lists: DirectionalNeighbors, winner: Tensor, taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pairs and steps ``[B,C,Or,V]`` of the winning taps, and the directions they are seen from."""
    slot = winner.long()
    pair = lists.start[:-1] + slot.div(taps, rounding_mode="floor")
    return pair, slot % taps - taps // 2, torch.arange(winner.shape[2], device=winner.device)[:, None]


def _law_at(
    lists: DirectionalNeighbors, matrix: Tensor, law: Tensor, pair: Tensor, step: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return coordinates of winning taps, squared distances (one if free), which are not free, factor, power."""
    y = coordinates(lists, pair, direction, step, pair.shape[2])
    squared = torch.einsum("bcnvi,cij,bcnvj->bcnv", y, matrix, y)
    factor, power = law.unbind()
    moved = (squared > 0) & ~power.isinf()
    power = torch.where(power.isinf(), 1, power)
    return y, torch.where(moved, squared, 1), moved, factor, power


def read(
    u: Tensor, lists: DirectionalNeighbors, matrix: Tensor, law: Tensor, winner: Tensor, taps: int, sign: int
) -> Tensor:
    """Read the values of :func:`forward` at the winning taps by differentiable torch."""
    pair, step, direction = _chosen(lists, winner, taps)
    place = source(lists, pair, direction, step, u.shape[2])
    _, safe, moved, factor, power = _law_at(lists, matrix, law, pair, step, direction)
    price = torch.where(moved, factor * safe**power, 0)
    return u.flatten(2).gather(2, place.flatten(2)).view(u.shape) - sign * price


def backward(
    grad: Tensor,
    lists: DirectionalNeighbors,
    matrix: Tensor,
    law: Tensor,
    winner: Tensor,
    taps: int,
    sign: int,
    metric: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients in u, and with ``metric`` (else zero) those in the matrix and the law."""
    pair, step, direction = _chosen(lists, winner, taps)
    place = source(lists, pair, direction, step, grad.shape[2]).flatten(2)
    grad_u = torch.zeros_like(grad).flatten(2).scatter_add(2, place, grad.flatten(2)).view(grad.shape)
    if not metric:
        return grad_u, torch.zeros_like(matrix), torch.zeros_like(law)
    y, safe, moved, factor, power = _law_at(lists, matrix, law, pair, step, direction)
    flow = torch.where(moved, -sign * grad, 0)
    raised = safe**power
    slope = flow * factor * power * raised / safe
    grad_matrix = torch.einsum("bcnv,bcnvi,bcnvj->cij", slope, y, y)
    grad_law = torch.stack(((flow * raised).sum(), (flow * factor * raised * safe.log()).sum()))
    return grad_u, grad_matrix, grad_law
