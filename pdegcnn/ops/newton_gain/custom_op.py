"""The fast version of the gain of a Newton step as torch operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn.ops._operator import implementation, operator
from pdegcnn.ops.newton_gain import reference
from pdegcnn.ops.newton_gain.reference import StepTables

LEARNED = (0, 6, 7, 8)
"""Places of the arguments with gradients: signal, entries, least, law."""


def _placed(found: Sequence[Tensor], count: int) -> list[Tensor | None]:
    """Return ``count`` gradients: those found in their places, None elsewhere."""
    by_place: dict[int, Tensor] = dict(zip(LEARNED, found, strict=True))
    return [by_place.get(k) for k in range(count)]


@operator("pdegcnn::newton_gain")
def newton_gain(
    signal: Tensor,
    position: Tensor,
    tap: Tensor,
    table: Tensor,
    turn: Tensor,
    reach: Tensor,
    entries: Tensor,
    least: Tensor,
    law: Tensor,
    sign: int,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Return gains ``[B,C,N]``, and bits that say which lengths of the step attain them."""
    given = signal, position, tap, StepTables(table, turn, reach), entries, least, law, sign
    return implementation("newton_gain", backend).forward(*given)


@newton_gain.register_fake
def _(signal: Tensor, position: Tensor, tap: Tensor, *_: Any):
    return signal.new_empty(tap.shape), signal.new_empty(tap.shape, dtype=torch.uint8)


@operator("pdegcnn::newton_gain_backward")
def newton_gain_backward(
    grad: Tensor,
    won: Tensor,
    signal: Tensor,
    position: Tensor,
    tap: Tensor,
    table: Tensor,
    turn: Tensor,
    reach: Tensor,
    entries: Tensor,
    least: Tensor,
    law: Tensor,
    sign: int,
    learned: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return gradients in signal, entries, least and law, the last one only where it is ``learned``."""
    given = signal, position, tap, StepTables(table, turn, reach), entries, least, law, sign
    return implementation("newton_gain", backend).backward(grad, won, *given, learned)


@newton_gain_backward.register_fake
def _(grad: Tensor, won: Tensor, *rest: Any):
    return tuple(rest[k].new_empty(rest[k].shape) for k in LEARNED)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.sign, ctx.backend = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], *tensors)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    learned = ctx.needs_input_grad[LEARNED[-1]]
    found = newton_gain_backward(grad, *ctx.saved_tensors, ctx.sign, learned, ctx.backend)
    return tuple(_placed(found, 11))


newton_gain.register_autograd(_backward, setup_context=_setup)


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, _, *tensors, ctx.sign, _, _ = inputs
    ctx.save_for_backward(grad, *tensors)


def _double_backward(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
    """Compute second derivatives through the specification: they are rare, so speed does not matter."""
    grad, *given = ctx.saved_tensors
    _, position, tap, table, turn, reach, *_ = given

    def specification(signal: Tensor, entries: Tensor, least: Tensor, law: Tensor) -> Tensor:
        tables = StepTables(table, turn, reach)
        return reference.newton_gain(signal, position, tap, tables, entries, least, tuple(law), ctx.sign)

    along_grad, *found = _transforms.pull_again(specification, grad, [given[k] for k in LEARNED], along)
    return along_grad, None, *_placed(found, 12)


newton_gain_backward.register_autograd(_double_backward, setup_context=_setup_backward)
