"""The gathered morphology as a torch operator; derivatives of any order follow from the winning taps."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._operator import implementation, index_dtype, operator
from pdegcnn.ops.bundle import Bundle
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
    """Value and winning taps, both [B,C,Or,V]."""
    lists = Bundle(start, columns, offset, turn, steps, areas, most)
    return implementation("gather_morphology", backend).forward(
        u, lists, matrix, law, taps, sign, index_dtype(most * taps)
    )


@search.register_fake
def _(u, start, columns, offset, turn, steps, areas, most, matrix, law, taps, sign, backend):
    return u.new_empty(u.shape), u.new_empty(u.shape, dtype=index_dtype(most * taps))


def _setup(ctx, inputs, output) -> None:
    _, *lists, most, matrix, law, ctx.taps, ctx.sign, _ = inputs
    ctx.most = most
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], *lists, matrix, law)


def _backward(ctx, grad, _):
    _transforms.refuse_batches("gather_morphology", grad)
    winner, *lists, matrix, law = ctx.saved_tensors
    metric = any(ctx.needs_input_grad[8:10])
    bundle = Bundle._make((*lists, ctx.most))
    found = torch_impl.backward(grad, bundle, matrix, law, winner, ctx.taps, ctx.sign, metric)
    return found[0], *(None,) * 7, *found[1:], None, None, None


search.register_autograd(_backward, setup_context=_setup)


def by_gathering(u: Tensor, *arguments: Any) -> Tensor:
    """Same value, read again at the winning taps by plain torch: what function transforms can differentiate."""
    *lists, matrix, law, taps, sign, _ = arguments
    winner = _transforms.at_values(search, u, *arguments)[1]
    return torch_impl.at_winners(u, Bundle._make(lists), matrix, law, winner, taps, sign)
