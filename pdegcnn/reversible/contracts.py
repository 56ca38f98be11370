"""Hooks and subclasses in recomputed layers: they receive the calls and gradients of plain autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils.parametrize import is_parametrized

MODULE_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)
GLOBAL_HOOKS = tuple(name for name in (f"_global{own}" for own in MODULE_HOOKS) if hasattr(torch_module, name))
FREE_TO_OVERRIDE = ("reset_parameters", "extra_repr")


def _any(holder: object, names: tuple[str, ...], word: str) -> bool:
    held = (vars(holder).get(name) for name in names if name.endswith("hooks") and word in name)
    return any(held)


def hooked(layer: nn.Module, word: str = "hooks", everywhere: bool = True) -> bool:
    """Return whether a hook of a kind with ``word`` acts on ``layer``, a module in it or (``everywhere``) all."""
    if everywhere and _any(torch_module, GLOBAL_HOOKS, word):
        return True
    return any(_any(module, MODULE_HOOKS, word) for module in layer.modules())


def describes_forward(layer: nn.Module, name: str) -> bool:
    """Return whether the attribute ``name`` of the class of ``layer`` certainly describes what the layer computes.

    It does not when a subclass or the object itself overrides something that the class with ``name`` has, or when hooks
    see or change what happens inside.
    """
    if hooked(layer):
        return False
    kinds = type(layer).__mro__
    owner = next((place for place, kind in enumerate(kinds) if name in vars(kind)), None)
    if owner is None:
        return False
    inherited = {key for kind in kinds[owner:] for key, value in vars(kind).items() if callable(value)}
    later = {key for kind in kinds[:owner] for key in vars(kind) if key == "__call__" or not key.startswith("__")}
    overridden = (later | set(vars(layer))) & inherited
    return not overridden - set(FREE_TO_OVERRIDE)


def custom_vjp(layer: nn.Module) -> Callable | None:
    """Return ``value_and_vjp`` if it fits what forward computes and the parameters are plain (no weight norm)."""
    method = getattr(layer, "value_and_vjp", None)
    return (
        method
        if method is not None and not is_parametrized(layer) and describes_forward(layer, "value_and_vjp")
        else None
    )


class _Kept(torch.autograd.Function):
    """The state as a layer sees it in forward: a gradient that arrives here raises an error."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, name: str) -> Tensor:  # pyright: ignore
        ctx.name = name
        return y.data  # its own version, because overwriting the state later is not the error to report

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        raise RuntimeError(
            f"{ctx.name}: expected no gradient for a tensor taken out of a layer of a reversible stack, "
            "got one; return the tensor through the stack, or use memory='plain'"
        )


def refuse_gradients(y: Tensor, name: str) -> Tensor:
    """Return ``y`` as a tensor that asks for gradients and raises, naming the layer, when one comes."""
    return _Kept.apply(y.detach().requires_grad_(), name)  # pyright: ignore


class _SeparateNode(torch.autograd.Function):
    """An output as a separate node."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore
        return x.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore
        return grad


def separate_node(x: Tensor) -> Tensor:
    """Return one output as a separate node, whose hooks are not called if only other outputs get gradients."""
    return _SeparateNode.apply(x)  # pyright: ignore


def same_values(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors agree bit for bit, NaN with NaN."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, 0.0, 0.0, equal_nan=True)
