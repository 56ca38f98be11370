"""Derivatives of a function along two random directions of all its arguments, by every way that torch knows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.utils import _pytree

from ..cases import outputs

WAYS = 2
"""Directions."""
FIRST, SECOND = 1e-6, 1e-6
"""Steps of central differences of values and of gradients."""


def real(x: Tensor) -> Tensor:
    """Complex numbers as two reals."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def along(call: Callable[[Any], Any], arguments: Any, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """``t [WAYS] -> three numbers``: the call at its arguments moved along random directions, projected at random.

    All floating tensors among the arguments (any nested containers) move, by about a tenth of their size.
    """
    torch.manual_seed(seed)
    leaves, tree = _pytree.tree_flatten(arguments)
    wide = [_double(x) for x in leaves]
    moves = [torch.randn(WAYS, *x.shape, dtype=x.dtype) * 0.1 if _moves(x) else None for x in wide]
    found = _flat(call(_pytree.tree_unflatten(wide, tree)))
    shadow = torch.randn(3, found.numel(), dtype=torch.float64) / found.numel() ** 0.5

    def function(t: Tensor) -> Tensor:
        moved = [x if m is None else x + torch.tensordot(t.to(m.dtype), m, 1) for x, m in zip(wide, moves)]
        return shadow @ _flat(call(_pytree.tree_unflatten(moved, tree)))

    return function


def _double(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    return x.detach().to(torch.complex128 if x.is_complex() else torch.float64 if x.is_floating_point() else x.dtype)


def _moves(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def _flat(value: Any) -> Tensor:
    return torch.cat([real(x).flatten().double() for x in outputs(value)])


def of_layer(layer: nn.Module, inputs: tuple[Any, ...]) -> Callable[[Tensor], Tensor]:
    """A layer along directions of its inputs and parameters."""
    layer = copy.deepcopy(layer).double()  # it may hold a module that other tests share
    values = {name: p.detach() for name, p in layer.named_parameters()}
    return along(lambda given: functional_call(layer, given[0], given[1]), (values, inputs))


def _dual(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    columns = []
    for way in torch.eye(WAYS, dtype=t.dtype):
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(t, way))).tangent
            columns.append(torch.zeros(3, dtype=t.dtype) if tangent is None else tangent)
    return torch.stack(columns, 1)


def _linearize(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    _, push = torch.func.linearize(function, t)
    return torch.stack([push(way) for way in torch.eye(WAYS, dtype=t.dtype)], 1)


def _energy(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda t: function(t).square().sum()


def _samples(t: Tensor) -> Tensor:
    return torch.stack([t, t + 1e-3])


VALUES = {
    "vmap": lambda f, t: torch.vmap(f)(_samples(t)),
}
FIRSTS: dict[str, Callable[..., Tensor]] = {
    "autograd": lambda f, t: torch.autograd.functional.jacobian(f, t),
    "batched autograd": lambda f, t: torch.autograd.functional.jacobian(f, t, vectorize=True),
    "dual": _dual,
    "jacrev": lambda f, t: torch.func.jacrev(f)(t),
    "jacfwd": lambda f, t: torch.func.jacfwd(f)(t),
}
SECONDS: dict[str, Callable[..., Tensor]] = {
    "autograd twice": lambda f, t: torch.autograd.functional.hessian(_energy(f), t),
    "hessian": lambda f, t: torch.func.hessian(_energy(f))(t),
    "jacrev of jacrev": lambda f, t: torch.func.jacrev(torch.func.jacrev(_energy(f)))(t),
    "jacrev of jacfwd": lambda f, t: torch.func.jacrev(torch.func.jacfwd(_energy(f)))(t),
    "jacfwd of jacfwd": lambda f, t: torch.func.jacfwd(torch.func.jacfwd(_energy(f)))(t),
}
LINEARIZE = {"linearize": _linearize}
"""Slow, for torch traces the function: to be asked for."""
PER_SAMPLE = {"gradients per sample": lambda f, t: torch.vmap(torch.func.grad(_energy(f)))(_samples(t))}


def _differences(function: Callable[[Tensor], Tensor], t: Tensor, step: float) -> Tensor:
    ways = step * torch.eye(WAYS, dtype=t.dtype)
    return torch.stack([(function(t + way) - function(t - way)) / (2 * step) for way in ways], -1)


def faults(function: Callable[[Tensor], Tensor], linearize: bool = False) -> dict[str, str]:
    """What is wrong, by the name of the transform: an error's text, or how far a derivative is off."""
    firsts = {**FIRSTS, **(LINEARIZE if linearize else {})}
    t = torch.zeros(WAYS, dtype=torch.float64)
    gradient = lambda x: torch.autograd.functional.jacobian(_energy(function), x)  # noqa: E731
    values = torch.stack([function(x) for x in _samples(t)])
    tables = (
        (VALUES, lambda: values, 1e-9),
        (firsts, lambda: _differences(function, t, FIRST), 1e-6),
        (PER_SAMPLE, lambda: torch.stack([gradient(x) for x in _samples(t)]), 1e-9),
        (SECONDS, lambda: _differences(gradient, t, SECOND), 1e-5),
    )
    found: dict[str, str] = {}
    for table, true, tolerance in tables:
        wanted = true().detach()
        scale = wanted.abs().max() + 1e-3
        for name, run in table.items():
            try:
                error = float(((run(function, t).detach() - wanted).abs().max() / scale).nan_to_num(torch.inf))
            except Exception as problem:  # noqa: BLE001 - whatever it is, it is the answer
                found[name] = f"{type(problem).__name__}: {str(problem)[:300]}"
            else:
                if error > tolerance:
                    found[name] = f"off by {error:.1e}"
    return found
