"""The autograd function of a reversible stack: runs forward without a graph and rebuilds the states backwards.

One layer in velocity form, with k = 1 - damping:  v <- k v + h^2 f(y),  y <- y + v.
Reverse:  y <- y - v,  v <- (v - h^2 f(y)) / k.
Adjoint, with (gy, gv) the gradients of the layer's outputs:  g <- gv + gy,  gv <- k g,  gy <- gy + h^2 J_f(y)^T g.
Source: Lensink, Peters, Haber, *Fully Hyperbolic Convolutional Neural Networks*, arXiv 1905.10484, eqs. 4-6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

from pdegcnn.reversible.replay import Autocast, LayerReplay, RandomState
from pdegcnn.reversible.transition import Transition, round_to


@dataclass(frozen=True)
class Rule:
    """The numbers of a step: squared step size, factor of the old velocity, grid (None: no rounding)."""

    h2: float
    keep: float = 1.0
    grid: float | None = None


def transformed(x: Tensor) -> bool:
    """Whether ``x`` is inside a transform of torch.func."""
    return torch._C._functorch.is_functorch_wrapped_tensor(x)  # pyright: ignore


def concrete(x: Tensor) -> bool:
    """Whether the values of ``x`` can be looked at."""
    return not (torch.compiler.is_compiling() or x.is_meta or transformed(x))


def evaluate(layer: nn.Module, index: int, y: Tensor, values: dict[str, Tensor] | None = None) -> Tensor:
    """``f(y)`` in the dtype of y; checks what the layer returned."""
    counted = concrete(y) and not y.is_inference()  # neither a trace nor inference mode knows versions
    version = y._version if counted else None
    out = layer(y) if values is None else functional_call(layer, values, (y,))
    name = f"layers[{index}] ({type(layer).__name__})"
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}: expected it to return one torch.Tensor, got {type(out).__name__}")
    if version is not None and y._version != version:
        raise ValueError(f"{name}: expected a layer that leaves its input as it is, got one that changes it in place")
    if out.shape != y.shape:
        raise ValueError(
            f"{name}: expected an output of the shape of its input {tuple(y.shape)}, got {tuple(out.shape)}"
        )
    return out.to(y.dtype)


def shifted(v: Tensor, out: Tensor, rule: Rule, sign: float = 1.0, own: bool = False) -> Tensor:
    """``v + sign h^2 out``, the increment rounded in exact mode; written over ``v`` when it is one's own."""
    scale = sign * rule.h2
    if rule.grid is not None:
        out, scale = round_to(out * rule.h2, rule.grid), sign
    return v.add_(out, alpha=scale) if own else torch.add(v, out, alpha=scale)


def transit(module: Transition, x: Tensor, rule: Rule, inverse: bool = False) -> Tensor:
    """Apply a transition or its inverse to one state."""
    if rule.grid is None:
        return module.inverse(x) if inverse else module(x)
    return module.inverse_on_grid(x, rule.grid) if inverse else module.on_grid(x, rule.grid)


def step(layer: nn.Module, index: int, y: Tensor, v: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """One element of the stack under plain autograd."""
    if isinstance(layer, Transition):
        return transit(layer, y, rule), transit(layer, v, rule)
    v = shifted(v if rule.keep == 1.0 else v * rule.keep, evaluate(layer, index, y), rule)
    return y + v, v


@dataclass
class Plan:
    """One call of a stack: its layers, which parameter each uses, and what forward notes for backward."""

    layers: Sequence[nn.Module]
    rule: Rule
    autocast: Autocast
    names: list[dict[str, int]]
    peaks: list[Tensor] = field(default_factory=list)
    replays: list[LayerReplay] = field(default_factory=list)
    checksum: int | None = None

    def values(self, index: int, params: Sequence[Tensor]) -> dict[str, Tensor]:
        """The parameters of one layer by name."""
        return {name: params[place] for name, place in self.names[index].items()}


def collect(layers: Sequence[nn.Module]) -> tuple[list[Tensor], list[dict[str, int]]]:
    """All parameters, each once, and for every layer the place of each of its parameters."""
    params: list[Tensor] = []
    places: dict[int, int] = {}
    names = []
    for layer in layers:
        own = {}
        for name, p in layer.named_parameters():
            if id(p) not in places:
                places[id(p)] = len(params)
                params.append(p)
            own[name] = places[id(p)]
        names.append(own)
    return params, names


def checksum(y: Tensor, v: Tensor) -> int:
    """A number that tells two pairs of states apart, from their bits."""
    kind = {4: torch.int32, 8: torch.int64}[y.element_size()]
    return 3 * int(y.contiguous().view(kind).sum()) + int(v.contiguous().view(kind).sum())


def peak(y: Tensor, v: Tensor) -> Tensor:
    """The largest absolute value in both states; NaN if there is one."""
    if not y.numel():
        return y.new_zeros(())
    return torch.stack([*torch.aminmax(y.detach()), *torch.aminmax(v.detach())]).abs().max()


def _same_parameters(layer: nn.Module, values: dict[str, Tensor]) -> bool:
    """Whether the module itself holds these very tensors: then it can be called as it is."""
    return all(p is values[name] for name, p in layer.named_parameters())


class StackFunction(torch.autograd.Function):
    """The whole stack as one node of the graph. It keeps its outputs and its parameters, no state in between."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, y: Tensor, v: Tensor, *params: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore
        """Run all layers; states are overwritten as soon as they are this function's own."""
        rule, look = plan.rule, concrete(y) and concrete(v)
        plan.replays, plan.peaks = [], []
        if rule.grid is not None and look:
            plan.checksum = checksum(y, v)
        own = False
        for index, layer in enumerate(plan.layers):
            values = plan.values(index, params)
            replay = LayerReplay(layer)
            before = RandomState(y.device)
            with plan.autocast.again():
                if isinstance(layer, Transition):
                    y = transit(layer, y, rule)
                    v, own = transit(layer, v, rule), False
                else:
                    out = evaluate(layer, index, y, None if _same_parameters(layer, values) else values)
                    if rule.keep != 1.0:
                        v = v.mul_(rule.keep) if own else v * rule.keep
                    v = shifted(v, out, rule, own=own)
                    del out
                    y = y.add_(v) if own else y + v
                    own = True
            replay.finish(layer)
            replay.random = None if before.same(RandomState(y.device)) else before
            plan.replays.append(replay)
            if rule.grid is not None and look:
                plan.peaks.append(peak(y, v))
        return y, v

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        """Keep the outputs (the states are rebuilt from them) and the parameters."""
        ctx.plan = inputs[0]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output, *inputs[3:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, grad_v: Tensor | None) -> tuple:
        """Walk the layers back; under ``create_graph`` every step is itself differentiable."""
        if grad_y is None and grad_v is None:
            return (None,) * len(ctx.needs_input_grad)
        y, v, *params = ctx.saved_tensors
        walk = Backwards(ctx.plan, params, ctx.needs_input_grad[3:], torch.is_grad_enabled(), y, v)
        del y, v
        if not walk.graph and hasattr(ctx, "maybe_clear_saved_tensors"):
            ctx.maybe_clear_saved_tensors()  # unless the graph is retained, the outputs need not outlive the first step
        gy, gv, grads = walk.run(grad_y, grad_v)
        return (None, gy if ctx.needs_input_grad[1] else None, gv if ctx.needs_input_grad[2] else None, *grads)


class _Handle(torch.autograd.Function):
    """A scalar that stands for a layer's output in the graph, so that the output itself can be freed before its pull.

    Its backward, called with one, starts from the cotangent given here.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, cotangent: Tensor) -> Tensor:  # pyright: ignore
        ctx.cotangent = cotangent
        return out.new_ones(())

    @staticmethod
    def backward(ctx: Any, one: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        return ctx.cotangent, None


def hand_written(layer: nn.Module) -> Callable | None:
    """The layer's ``value_and_vjp``, where it is sure to belong to what the layer computes.

    It does not when a subclass overrides ``forward`` alone, when hooks may change the result, or when the parameters
    are computed from others (weight norm, spectral norm).
    """
    method = getattr(layer, "value_and_vjp", None)
    hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    if method is None or hooked or is_parametrized(layer) or "forward" in vars(layer):
        return None
    first = next(name for kind in type(layer).__mro__ for name in ("value_and_vjp", "forward") if name in vars(kind))
    return method if first == "value_and_vjp" else None


class Backwards:
    """The backward walk through a stack: rebuilds the states (y, v) and pulls the gradients (gy, gv) back.

    ``own`` says that these four tensors are the walk's own, so that they may be overwritten.
    """

    def __init__(
        self, plan: Plan, params: Sequence[Tensor], needs: Sequence[bool], graph: bool, y: Tensor, v: Tensor
    ) -> None:
        # Views: inside the pull of a torch.func transform the saved tensors are wrappers of a level that has ended; an
        # operation takes them off, and torch.func.vjp below must not meet them.
        params = [p.view_as(p) for p in params] if graph else params
        self.plan, self.params, self.needs, self.graph = plan, params, needs, graph
        self.grads: list[Tensor | None] = [None] * len(params)
        self.y, self.v, self.own = y, v, False

    def run(self, gy: Tensor | None, gv: Tensor | None) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Walk from the last layer to the first; a gradient that is None is zero."""
        plan = self.plan
        self.gy = torch.zeros_like(self.y) if gy is None else gy
        self.gv = torch.zeros_like(self.v) if gv is None else gv
        del gy, gv
        here = RandomState(self.y.device)
        try:
            for index in range(len(plan.layers) - 1, -1, -1):
                layer = plan.layers[index]
                with plan.autocast.again(), plan.replays[index].again(layer):
                    if isinstance(layer, Transition):
                        self._transition(layer, index)
                    else:
                        self._layer(layer, index)
        finally:
            if any(r.random is not None for r in plan.replays):
                here.restore()
        if plan.checksum is not None and concrete(self.y) and checksum(self.y, self.v) != plan.checksum:
            raise RuntimeError(
                "ReversibleStack(exact=True): the states rebuilt in the backward pass are not those of the forward "
                "pass. Expected layers that return the same bits for the same input; got one that does not "
                "(a random number generator of its own, or a non-deterministic kernel)"
            )
        return self.gy, self.gv, self.grads

    def _layer(self, layer: nn.Module, index: int) -> None:
        keep, own = self.plan.rule.keep, self.own
        self.y = self.y.sub_(self.v) if own else self.y - self.v
        self.gv = self.gv.add_(self.gy) if own else self.gv + self.gy
        pulled, scale = self._pull(layer, index)
        if keep != 1.0:
            self.v = self.v.div_(keep) if own else self.v / keep
            self.gv = self.gv.mul_(keep) if own else self.gv * keep
        if pulled is not None:
            self.gy = self.gy.add_(pulled, alpha=scale) if own else torch.add(self.gy, pulled, alpha=scale)
        elif not own and not self.graph:
            self.gy = self.gy.clone()
        self.own = not self.graph

    def _pull(self, layer: nn.Module, index: int) -> tuple[Tensor | None, float]:
        """Undo v, add the parameters' gradients to ``self.grads``, return ``J_f(y)^T gv`` and its factor."""
        rule, values = self.plan.rule, self.plan.values(index, self.params)
        by_hand = hand_written(layer)
        if by_hand is not None and not (self.graph or self.plan.autocast.enabled or transformed(self.y)):
            wanted = {name: self.needs[place] for name, place in self.plan.names[index].items()}
            out, pulled, found = by_hand(self.y, self.gv, values, wanted)
            for name, grad in found.items():
                self._add(self.plan.names[index][name], grad, rule.h2)
            self.v = shifted(self.v, out, rule, -1.0, self.own)
            return pulled, rule.h2
        places = [p for p in dict.fromkeys(self.plan.names[index].values()) if self.needs[p]]
        own = [self.params[p] for p in places]
        if self.graph:
            found, scale = self._pull_with_graph(layer, index, values, places, own), 1.0
        else:
            found, scale = self._pull_freeing(layer, index, values, own)
        for place, grad in zip(places, found[1:]):
            self._add(place, grad, scale)
        return found[0], scale

    def _pull_with_graph(
        self, layer: nn.Module, index: int, values: dict[str, Tensor], places: list[int], own: list[Tensor]
    ) -> Sequence:
        """A fresh level: y may itself depend on the parameters, and the derivative wanted here is the partial one."""
        rule = self.plan.rule

        def run(x: Tensor, *wanted: Tensor) -> Tensor:
            placed = dict(zip(places, wanted))
            used = {n: placed.get(p, values[n]) for n, p in self.plan.names[index].items()}
            out = evaluate(layer, index, x, {**used, **self.plan.replays[index].buffers()})
            return out * rule.h2 if rule.grid is None else round_to(out * rule.h2, rule.grid)

        delta, pull = torch.func.vjp(run, self.y, *own)  # pyright: ignore
        self.v = self.v - delta
        return pull(self.gv)

    def _pull_freeing(
        self, layer: nn.Module, index: int, values: dict[str, Tensor], own: list[Tensor]
    ) -> tuple[Sequence, float]:
        """The pull by autograd; the layer's output is freed before it, and in exact mode it is scaled as in forward."""
        rule = self.plan.rule
        with torch.enable_grad():
            y = self.y.detach().requires_grad_()
            out = evaluate(layer, index, y, {**values, **self.plan.replays[index].buffers()})
            if rule.grid is not None:
                out = round_to(out * rule.h2, rule.grid)
            handle = _Handle.apply(out, self.gv) if out.requires_grad else None
        once = Rule(1.0) if rule.grid is not None else rule
        self.v = shifted(self.v, out.detach(), once, -1.0, self.own)
        del out
        if handle is None:
            return [None] * (1 + len(own)), 1.0
        return torch.autograd.grad(handle, [y, *own], allow_unused=True), once.h2  # pyright: ignore

    def _transition(self, layer: Transition, index: int) -> None:
        rule, values = self.plan.rule, self.plan.values(index, self.params)
        places = [p for p in dict.fromkeys(self.plan.names[index].values()) if self.needs[p]]
        mover = _Mover(layer, rule)
        named = {f"layer.{name}": value for name, value in values.items()}

        def run(x: Tensor, *wanted: Tensor) -> Tensor:
            placed = dict(zip(places, wanted))
            used = {f"layer.{n}": placed.get(p, values[n]) for n, p in self.plan.names[index].items()}
            return functional_call(mover, used, (x, False))

        for state, grad in (("y", "gy"), ("v", "gv")):
            before = functional_call(mover, named, (getattr(self, state), True))
            with torch.enable_grad():
                _, pull = torch.func.vjp(run, before, *(self.params[p] for p in places))  # pyright: ignore
                found = pull(getattr(self, grad))
            for place, extra in zip(places, found[1:]):
                self._add(place, extra)
            setattr(self, state, before)
            setattr(self, grad, found[0])
        self.own = False

    def _add(self, place: int, grad: Tensor | None, scale: float = 1.0) -> None:
        if grad is not None:
            old = self.grads[place]
            self.grads[place] = grad * scale if old is None else torch.add(old, grad, alpha=scale)


class _Mover(nn.Module):
    """A transition whose forward can run either way, so that functional_call reaches its parameters."""

    def __init__(self, layer: Transition, rule: Rule) -> None:
        super().__init__()
        self.layer, self.rule = layer, rule

    def forward(self, x: Tensor, inverse: bool) -> Tensor:
        """Run the transition or its inverse."""
        return transit(self.layer, x, self.rule, inverse)
