"""The gathered morphology as a torch operator; derivatives of any order follow from the winning taps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._argmax_autograd import Part, Reading, register_argmax, register_pull
from pdegcnn.ops._operator import implementation, index_dtype, operator
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors
from pdegcnn.ops.gather_morphology import torch_impl


@operator("pdegcnn::gather_morphology")
def search(
    u: Tensor,
    start: Tensor,
    columns: Tensor,
    offset: Tensor,
    turn: Tensor,
    steps: Tensor,
    areas: Tensor,
    most: int,
    matrix: Tensor,
    law: Tensor,
    taps: int,
    sign: int,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Return the value and winning taps, both [B,C,Or,V]."""
    lists = DirectionalNeighbors(start, columns, offset, turn, steps, areas, most)
    return implementation("gather_morphology", backend).forward(
        u, lists, matrix, law, taps, sign, index_dtype(most * taps)
    )


@search.register_fake
def _(u, start, columns, offset, turn, steps, areas, most, matrix, law, taps, sign, backend):
    return u.new_empty(u.shape), u.new_empty(u.shape, dtype=index_dtype(most * taps))


@operator("pdegcnn::gather_morphology_backward")
def pull(
    grad: Tensor,
    winner: Tensor,
    start: Tensor,
    columns: Tensor,
    offset: Tensor,
    turn: Tensor,
    steps: Tensor,
    areas: Tensor,
    most: int,
    matrix: Tensor,
    law: Tensor,
    taps: int,
    sign: int,
    metric: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients in u and (with ``metric``, else zero) in the matrix and the law."""
    lists = DirectionalNeighbors(start, columns, offset, turn, steps, areas, most)
    module = implementation("gather_morphology", "numba" if backend == "numba" else "torch")
    return module.backward(grad, lists, matrix, law, winner, taps, sign, metric)


@pull.register_fake
def _(grad, winner, start, columns, offset, turn, steps, areas, most, matrix, law, taps, sign, metric, backend):
    return grad.new_empty(grad.shape), matrix.new_empty(matrix.shape), law.new_empty(law.shape)


def _parts(needs: Any, u: Tensor, *inputs: Any) -> list[Part]:
    *rest, backend = inputs
    return [Part((0, 8, 9), (*rest, needs[8] or needs[9], backend))]


def _reading(grad: Tensor, winner: Tensor, *rest: Any) -> Reading:
    *lists, matrix, law, taps, sign, _, _ = rest
    bundle = DirectionalNeighbors._make(lists)

    def read(u: Tensor, matrix: Tensor, law: Tensor) -> Tensor:
        return torch_impl.read(u, bundle, matrix, law, winner, taps, sign)

    return Reading(read, (torch.zeros_like(grad), matrix, law), (None, 7, 8))


register_argmax(search, pull, _parts)
register_pull(pull, _reading)


def functorch_fallback(u: Tensor, *arguments: Any) -> Tensor:
    """Read the same values at the winning taps by plain torch, which function transforms can differentiate."""
    *lists, matrix, law, taps, sign, _ = arguments
    winner = _transforms.at_values(search, u, *arguments)[1]
    return torch_impl.read(u, DirectionalNeighbors._make(lists), matrix, law, winner, taps, sign)
