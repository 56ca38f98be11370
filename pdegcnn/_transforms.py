"""Function transforms of torch (``torch.func``, dual numbers) around code that they cannot trace.

A compiled operator has no rule for forward mode and none for ``torch.func``; without care its derivative would be
zero, silently. Functions ask :func:`differentiated` first, and then run a formula that torch can differentiate;
what that formula needs to know but not to differentiate, such as winning taps, it gets by :func:`at_values`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    is_functorch_wrapped_tensor,
    is_legacy_batchedtensor,
)
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes

GRAD, JVP = TransformType.Grad, TransformType.Jvp


def is_wrapped(value: Tensor) -> bool:
    """Return whether a transform of ``torch.func`` wraps the tensor; a compiler cannot trace the question."""
    return not torch.compiler.is_compiling() and is_functorch_wrapped_tensor(value)


def is_batched(*grads: Tensor | None) -> bool:
    """Return whether ``is_grads_batched`` or ``vectorize=True`` runs a backward pass."""
    if torch.compiler.is_compiling():
        return False
    return any(g is not None and is_legacy_batchedtensor(g) for g in grads)


def refuse_batches(name: str, *grads: Tensor | None) -> None:
    """Raise in a backward pass that ``is_grads_batched`` or ``vectorize=True`` runs, for code that cannot do so."""
    if is_batched(*grads):
        raise NotImplementedError(
            f"{name}: expected one gradient at a time, got a batch of them (is_grads_batched=True, vectorize=True); "
            "use torch.func.jacrev or torch.vmap over torch.func.vjp"
        )


def levels() -> set[Any]:
    """Return the kinds of active ``torch.func`` transforms; an autograd function needs rules for all of them."""
    if torch.compiler.is_compiling():
        return set()
    return {level.key() for level in get_interpreter_stack() or ()}


@contextmanager
def constants() -> Iterator[None]:
    """Switch to plain tensors for constants that are kept, outside transforms, traces and inference mode.

    Under ``torch.func`` every result is wrapped, even that of constants, and must not outlive the transform. Under
    ``torch.export`` it would hold no numbers.
    """
    if torch.compiler.is_dynamo_compiling():
        yield
        return
    trace, mode = torch._C._get_tracing_state(), torch._C._TorchDispatchModeKey
    modes = any(torch._C._get_dispatch_mode(key) for key in (mode.PROXY, mode.FAKE))
    if not (get_interpreter_stack() or trace or modes or torch.is_inference_mode_enabled()):
        yield
        return
    pause: Any = getattr(torch._C, "_set_tracing_state")  # noqa: B009 - the stubs do not know it
    pause(None)
    try:
        with (
            temporarily_clear_interpreter_stack(),
            _disable_current_modes(),
            torch.inference_mode(False),
            torch.no_grad(),
        ):
            yield
    finally:
        pause(trace)


def in_forward_mode() -> bool:
    """Return whether a derivative in forward mode is being taken, of any tensor."""
    return forward_ad._current_level >= 0 and not torch.compiler.is_compiling()


def is_tracing() -> bool:
    """Return whether torch.jit.trace is recording."""
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def _records() -> bool:
    """Return whether torch.jit.trace or make_fx is recording."""
    return is_tracing() or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def in_trace() -> bool:
    """Return whether a graph is being recorded (compile, export, trace, make_fx), so values must not be read."""
    return torch.compiler.is_compiling() or _records()


def hides_values(*tensors: Tensor) -> bool:
    """Return whether eager code cannot read one of the tensors: in a recorded graph, or inside ``torch.vmap``."""
    return _records() or (TransformType.Vmap in levels() and any(is_wrapped(x) for x in tensors))


def has_tangent(*tensors: Tensor) -> bool:
    """Return whether a derivative in forward mode passes through one of the tensors."""
    if not in_forward_mode():
        return False
    for x in tensors:
        if is_wrapped(x):  # levels below the outermost wrapper cannot be queried
            return True
        if forward_ad.unpack_dual(x).tangent is not None:
            return True
    return False


def needs_rule(*arguments: Any) -> bool:
    """Return whether a derivative of another kind than ``torch.autograd`` passes one of the arguments of an operator.

    For the operator's own registration, where torch has taken off the wrappers of all transforms but one. What is no
    tensor does not count.
    """
    tensors: list[Tensor] = []
    unusual = forward_ad._current_level >= 0
    for x in arguments:
        if isinstance(x, Tensor):
            tensors.append(x)
            unusual = unusual or is_functorch_wrapped_tensor(x)
    if not unusual:
        return False
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(x).tangent is not None for x in tensors):
        return True
    return torch.is_grad_enabled() and any(is_wrapped(x) and x.requires_grad for x in tensors)


def differentiated(*tensors: Tensor) -> bool:
    """Return whether ``torch.func`` or dual numbers differentiate with respect to one of the tensors."""
    if torch.compiler.is_compiling():
        return False
    if forward_ad._current_level < 0 and not any(map(is_functorch_wrapped_tensor, tensors)):
        return False  # first, because it is the usual case
    wrapped = any(is_wrapped(x) for x in tensors)
    return (wrapped and not levels().isdisjoint((GRAD, JVP))) or has_tangent(*tensors)


def loop(run: Callable[..., Any], size: int, axes: Sequence[Any], args: Sequence[Any]) -> tuple[Any, Any]:
    """Return the result of a ``vmap`` rule: call ``run`` once for each of ``size`` entries of the batched arguments.

    An axis is a number, None for what is not batched, or a list of None for a list of numbers.
    """
    found = []
    for index in range(size):
        pairs = zip(args, axes, strict=True)
        found.append(run(*(x.select(axis, index) if isinstance(axis, int) else x for x, axis in pairs)))
    if isinstance(found[0], Tensor):
        return torch.stack(found), 0
    return tuple(torch.stack(parts) for parts in zip(*found, strict=True)), (0,) * len(found[0])


class _AtValues(torch.autograd.Function):
    """A function of tensors without derivatives, opaque to transforms."""

    @staticmethod
    def forward(function: Callable[..., Any], *args: Any) -> Any:  # pyright: ignore
        return function(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.inputs, ctx.outputs = len(inputs), None if isinstance(output, Tensor) else len(output)
        ctx.mark_non_differentiable(*((output,) if ctx.outputs is None else output))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return (None,) * ctx.inputs

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return None if ctx.outputs is None else (None,) * ctx.outputs

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], function: Callable[..., Any], *args: Any) -> Any:
        return loop(lambda *given: _AtValues.apply(function, *given), info.batch_size, in_dims[1:], args)


def at_values(function: Callable[..., Any], *args: Any) -> Any:
    """Return ``function(*args)``, one tensor or more than one, at the values of the tensors, without derivative."""
    args = tuple(x.detach() if isinstance(x, Tensor) else x for x in args)
    if any(isinstance(x, Tensor) and is_wrapped(x) for x in args):
        return _AtValues.apply(function, *args)
    with torch.no_grad():
        return function(*args)


@contextmanager
def every_level() -> Iterator[None]:
    """Switch derivatives of all levels on in the forward rule of an autograd function, where torch stops them."""
    with forward_ad._set_fwd_grad_enabled(True), torch.enable_grad():
        yield


def primal(value: Tensor) -> Tensor:
    """Return a saved tensor without the tangent of the innermost level."""
    return forward_ad.unpack_dual(value).primal


class _Vanishes(torch.autograd.Function):
    """Zero with zero first ``left`` derivatives in ``x``; the next one raises. It is linear in ``along``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, along: Tensor, left: int, refusal: str) -> Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, str], output: Tensor) -> None:
        *tensors, ctx.left, ctx.refusal = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def _next(x: Tensor, along: Tensor, left: int, refusal: str) -> Any:
        if not left:
            raise NotImplementedError(refusal)
        return _Vanishes.apply(x, along, left - 1, refusal)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Any, None, None]:
        x, _ = ctx.saved_tensors
        needs = ctx.needs_input_grad
        grad_x = _Vanishes._next(x, grads[0], ctx.left, ctx.refusal) if needs[0] else None
        return grad_x, _Vanishes.apply(x, grads[0], ctx.left, ctx.refusal) if needs[1] else None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, along: Tensor | None, *_: None) -> Any:
        with every_level():
            x = primal(ctx.saved_tensors[0])
            moved = torch.zeros_like(x) if tangent is None else _Vanishes._next(x, tangent, ctx.left, ctx.refusal)
            return moved if along is None else moved + _Vanishes.apply(x, along, ctx.left, ctx.refusal)


def vanishing(x: Tensor, orders: int, refusal: str) -> Tensor:
    """Return zeros like ``x``, for an expansion in it that ends: a derivative beyond ``orders`` raises ``refusal``."""
    result: Any = _Vanishes.apply(x, x.detach(), orders, refusal)
    return result


def pull(
    function: Callable[..., Tensor], grad: Tensor, given: Sequence[Tensor], needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``function(*given)`` that ``needs`` asks for, by a formula that torch can differentiate.

    For a backward pass that is itself differentiated or batched; the result is recorded where gradients are recorded.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        fresh = [x.view_as(x) if graph else x.detach().requires_grad_() for x in given]
        out = function(*fresh)
    wanted = [x for x, need in zip(fresh, needs, strict=True) if need]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=graph))
    return tuple(next(found) if need else None for need in needs)


def pull_again(
    function: Callable[..., Tensor], grad: Tensor, given: Sequence[Tensor], along: Sequence[Tensor | None]
) -> list[Tensor]:
    """Return second-order gradients in ``grad`` and ``given`` of ``sum_i <along_i, d function/d given_i (grad)>``.

    For the backward pass of an operator's backward pass, by a formula ``function`` that torch can differentiate; the
    result can be differentiated again where gradients are recorded.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        fresh = [x.view_as(x) if graph and x.requires_grad else x.detach().requires_grad_() for x in (grad, *given)]
        first = torch.autograd.grad(function(*fresh[1:]), fresh[1:], fresh[0], create_graph=True, allow_unused=True)
        pairs = [(f, a) for f, a in zip(first, along, strict=True) if f is not None and a is not None]
        total = sum(((f * a).sum() for f, a in pairs), fresh[0].sum() * 0)
        found = torch.autograd.grad(total, fresh, create_graph=graph, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, fresh, strict=True)]
