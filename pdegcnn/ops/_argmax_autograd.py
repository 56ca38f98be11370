"""The derivative of max-plus operators, on grids, spheres and meshes: the gradient goes to the winning tap.

The winning tap is the one that attains the maximum; an operator returns it with each value. With the winners fixed, a
value is a smooth function of the samples that it reads, and this function defines derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch._library.custom_ops import CustomOpDef

from pdegcnn import _transforms


class Part(NamedTuple):
    """The arguments of the backward pass of one output.

    Args:
        places: positions of the operator's inputs that get the gradients.
        rest: arguments of the backward operator after the gradient and the winners.
    """

    places: tuple[int, ...]
    rest: tuple[Any, ...]


class Reading(NamedTuple):
    """Values read again at fixed winners.

    Args:
        read: differentiable torch that gives the values from ``given``.
        given: tensors that the gradients of the backward operator belong to, in its order.
        places: the position of each in the ``rest`` of a :class:`Part`; None where it is not there, as derivatives do
            not depend on it.
    """

    read: Callable[..., Tensor]
    given: tuple[Tensor, ...]
    places: tuple[int | None, ...]


def register_argmax(
    search: CustomOpDef, pull: CustomOpDef, parts: Callable[..., Sequence[Part]], keep: int | None = None
) -> None:
    """Register the derivative of a max-plus operator.

    Args:
        search: the operator; it returns values and winners in turns, one pair or more.
        pull: its backward operator, ``pull(grad, winners, *rest)``, see :func:`register_pull`.
        parts: one :class:`Part` for each pair of outputs, from ``needs_input_grad`` and the inputs of ``search``.
        keep: position of the flag among the inputs that asks for winners; without it the backward pass searches.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        winners = output[1::2]
        ctx.mark_non_differentiable(*winners)
        ctx.inputs, ctx.kept, ctx.places = len(inputs), keep is None or bool(inputs[keep]), []
        held: list[Any] = list(winners)
        for part in parts(ctx.needs_input_grad, *inputs):
            ctx.places.append(part.places)
            held += part.rest
        _hold(ctx, held if ctx.kept else inputs)

    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values = _held(ctx)
        if ctx.kept:
            count = len(ctx.places)
            winners, size = values[:count], (len(values) - count) // count
            rests = [values[count + i * size : count + (i + 1) * size] for i in range(count)]
        else:
            assert keep is not None
            inputs = [x.detach() if isinstance(x, Tensor) else x for x in values]
            inputs[keep] = True
            winners = search(*inputs)[1::2]
            rests = [part.rest for part in parts(ctx.needs_input_grad, *inputs)]
        found: list[Tensor | None] = [None] * ctx.inputs
        for places, grad, winner, rest in zip(ctx.places, grads[::2], winners, rests, strict=True):
            for place, new in zip(places, pull(grad, winner, *rest), strict=True):
                old = found[place]
                found[place] = new if old is None else old + new
        return tuple(found)

    search.register_autograd(backward, setup_context=setup)


def register_pull(pull: CustomOpDef, reading: Callable[..., Reading]) -> None:
    """Register the derivative of a backward operator: ``reading`` has its arguments."""

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _hold(ctx, inputs)

    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
        grad, winner, *rest = _held(ctx)
        read, given, places = reading(grad, winner, *rest)
        first, *others = _transforms.pull_again(read, grad, given, along)
        found: list[Tensor | None] = [first, *(None for _ in range(len(rest) + 1))]
        for place, value in zip(places, others, strict=True):
            if place is not None:
                found[2 + place] = value
        return tuple(found)

    pull.register_autograd(backward, setup_context=setup)


def _hold(ctx: Any, values: Sequence[Any]) -> None:
    """Keep tensors and other values for the backward pass."""
    ctx.plain, ctx.tensors = [], []
    saved: list[Tensor] = []
    for value in values:
        here = isinstance(value, Tensor)
        ctx.tensors.append(here)
        ctx.plain.append(None if here else value)
        if here:
            saved.append(value)
    ctx.save_for_backward(*saved)


def _held(ctx: Any) -> list[Any]:
    """Return what :func:`_hold` kept."""
    tensors = iter(ctx.saved_tensors)
    return [next(tensors) if here else x for here, x in zip(ctx.tensors, ctx.plain, strict=True)]
