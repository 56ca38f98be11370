"""The autograd function of a reversible stack: runs forward without a graph and rebuilds the states backwards.

One layer in velocity form, with k = 1 - damping:  v <- k v + h^2 f(y),  y <- y + v.
Reverse:  y <- y - v,  v <- (v - h^2 f(y)) / k.
Adjoint, with (gy, gv) the gradients of the layer's outputs:  g <- gv + gy,  gv <- k g,  gy <- gy + h^2 J_f(y)^T g.
Source: Lensink, Peters, Haber, *Fully Hyperbolic Convolutional Neural Networks*, arXiv 1905.10484, eqs. 4-6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pdegcnn.reversible.replay import Autocast, LayerReplay, RandomState
from pdegcnn.reversible.transition import Transition, round_to


@dataclass(frozen=True)
class Rule:
    """The numbers of a step: squared step size, factor of the old velocity, grid (None: no rounding)."""

    h2: float
    keep: float = 1.0
    grid: float | None = None


def concrete(x: Tensor) -> bool:
    """Whether the values of ``x`` can be looked at."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(x)  # pyright: ignore
    return not (x.is_meta or wrapped or torch.compiler.is_compiling())


def increment(layer: nn.Module, index: int, y: Tensor, rule: Rule, values: dict[str, Tensor] | None = None) -> Tensor:
    """``h^2 f(y)`` in the dtype of y (rounded to the grid in exact mode); checks what the layer returned."""
    version = y._version
    out = layer(y) if values is None else functional_call(layer, values, (y,))
    name = f"layers[{index}] ({type(layer).__name__})"
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}: expected it to return one torch.Tensor, got {type(out).__name__}")
    if y._version != version:
        raise ValueError(f"{name}: expected a layer that leaves its input as it is, got one that changes it in place")
    if out.shape != y.shape:
        raise ValueError(
            f"{name}: expected an output of the shape of its input {tuple(y.shape)}, got {tuple(out.shape)}"
        )
    scaled = out.to(y.dtype) * rule.h2
    return scaled if rule.grid is None else round_to(scaled, rule.grid)


def transit(module: Transition, x: Tensor, rule: Rule, inverse: bool = False) -> Tensor:
    """Apply a transition or its inverse to one state."""
    if rule.grid is None:
        return module.inverse(x) if inverse else module(x)
    return module.inverse_on_grid(x, rule.grid) if inverse else module.on_grid(x, rule.grid)


def step(layer: nn.Module, index: int, y: Tensor, v: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """One element of the stack under plain autograd."""
    if isinstance(layer, Transition):
        return transit(layer, y, rule), transit(layer, v, rule)
    v = (v if rule.keep == 1.0 else v * rule.keep) + increment(layer, index, y, rule)
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
                    y, v, own = transit(layer, y, rule), transit(layer, v, rule), False
                else:
                    delta = increment(layer, index, y, rule, None if _same_parameters(layer, values) else values)
                    v = v if rule.keep == 1.0 else v * rule.keep
                    v = v.add_(delta) if own else v + delta
                    del delta
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
        ctx.needs = ctx.needs_input_grad
        ctx.save_for_backward(*output, *inputs[3:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_v: Tensor) -> tuple:
        """Walk the layers back; under ``create_graph`` every step is itself differentiable."""
        y, v, *params = ctx.saved_tensors
        needs = ctx.needs_input_grad[3:]
        graph = torch.is_grad_enabled()
        walk = Backwards(ctx.plan, params, needs, graph)
        gy, gv, grads = walk.run(y, v, grad_y, grad_v)
        return (None, gy if ctx.needs_input_grad[1] else None, gv if ctx.needs_input_grad[2] else None, *grads)


class Backwards:
    """The backward walk through a stack."""

    def __init__(self, plan: Plan, params: Sequence[Tensor], needs: Sequence[bool], graph: bool) -> None:
        self.plan, self.params, self.needs, self.graph = plan, params, needs, graph
        self.grads: list[Tensor | None] = [None] * len(params)

    def run(self, y: Tensor, v: Tensor, gy: Tensor, gv: Tensor) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Rebuild the states from the last to the first and pull the gradients back."""
        plan = self.plan
        own = False
        here = RandomState(y.device)
        try:
            for index in range(len(plan.layers) - 1, -1, -1):
                layer = plan.layers[index]
                with plan.autocast.again(), self._as_it_was(index):
                    if isinstance(layer, Transition):
                        y, v, gy, gv = self._transition(layer, index, y, v, gy, gv)
                        own = False
                    else:
                        y, v, gy, gv = self._layer(layer, index, y, v, gy, gv, own and not self.graph)
                        own = True
        finally:
            if any(r.random is not None for r in plan.replays):
                here.restore()
        if plan.checksum is not None and concrete(y) and checksum(y.detach(), v.detach()) != plan.checksum:
            raise RuntimeError(
                "ReversibleStack(exact=True): the states rebuilt in the backward pass are not those of the forward "
                "pass. Expected layers that return the same bits for the same input; got one that does not "
                "(a random number generator of its own, or a non-deterministic kernel)"
            )
        return gy, gv, self.grads

    @contextmanager
    def _as_it_was(self, index: int) -> Iterator[None]:
        random = self.plan.replays[index].random
        if random is not None:
            random.restore()
        yield

    def _layer(
        self, layer: nn.Module, index: int, y: Tensor, v: Tensor, gy: Tensor, gv: Tensor, own: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        keep = self.plan.rule.keep
        y = y.sub_(v) if own else y - v
        gv = gv.add_(gy) if own else gv + gy
        delta, pulled = self._pull(layer, index, y, gv)
        v = v.sub_(delta) if own else v - delta
        del delta
        if keep != 1.0:
            v, gv = v / keep, gv * keep
        if pulled is not None:
            gy = gy.add_(pulled) if own else gy + pulled
        elif not own:
            gy = gy if self.graph else gy.clone()
        return y, v, gy, gv

    def _pull(self, layer: nn.Module, index: int, y: Tensor, g: Tensor) -> tuple[Tensor, Tensor | None]:
        """``h^2 f(y)`` and ``h^2 J_f(y)^T g``; adds the parameters' gradients to ``self.grads``."""
        rule, values = self.plan.rule, self.plan.values(index, self.params)
        by_hand = getattr(layer, "value_and_vjp", None)
        if by_hand is not None and not self.graph and not self.plan.autocast.enabled and concrete(y):
            wanted = {name: self.needs[place] for name, place in self.plan.names[index].items()}
            out, pulled, found = by_hand(y, g * rule.h2, values, wanted)
            for name, grad in found.items():
                self._add(self.plan.names[index][name], grad)
            scaled = out.mul_(rule.h2)
            return (scaled if rule.grid is None else round_to(scaled, rule.grid)), pulled
        places = [p for p in dict.fromkeys(self.plan.names[index].values()) if self.needs[p]]
        own = [self.params[p] for p in places]
        if self.graph:
            # A fresh level: y may itself depend on the parameters, and the derivative wanted here is the partial one.
            def run(x: Tensor, *wanted: Tensor) -> Tensor:
                placed = dict(zip(places, wanted))
                used = {n: placed.get(p, values[n]) for n, p in self.plan.names[index].items()}
                return increment(layer, index, x, rule, {**used, **self.plan.replays[index].buffers()})

            delta, pull = torch.func.vjp(run, y, *own)  # pyright: ignore
            found = pull(g)
        else:
            with torch.enable_grad():
                y_in = y.detach().requires_grad_()
                delta = increment(layer, index, y_in, rule, {**values, **self.plan.replays[index].buffers()})
                if not delta.requires_grad:
                    return delta, None
                found = torch.autograd.grad(delta, [y_in, *own], g, allow_unused=True)
        for place, grad in zip(places, found[1:]):
            self._add(place, grad)
        return (delta if self.graph else delta.detach()), found[0]

    def _transition(
        self, layer: Transition, index: int, y: Tensor, v: Tensor, gy: Tensor, gv: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rule, values = self.plan.rule, self.plan.values(index, self.params)
        places = [p for p in dict.fromkeys(self.plan.names[index].values()) if self.needs[p]]
        mover = _Mover(layer, rule)
        named = {f"layer.{name}": value for name, value in values.items()}
        states, pulled = [], []
        for state, grad in ((y, gy), (v, gv)):
            before = functional_call(mover, named, (state, True))

            def run(x: Tensor, *wanted: Tensor) -> Tensor:
                placed = dict(zip(places, wanted))
                used = {f"layer.{n}": placed.get(p, values[n]) for n, p in self.plan.names[index].items()}
                return functional_call(mover, used, (x, False))

            with torch.enable_grad():
                _, pull = torch.func.vjp(run, before, *(self.params[p] for p in places))  # pyright: ignore
                found = pull(grad)
            for place, extra in zip(places, found[1:]):
                self._add(place, extra)
            states.append(before)
            pulled.append(found[0])
        return states[0], states[1], pulled[0], pulled[1]

    def _add(self, place: int, grad: Tensor | None) -> None:
        if grad is not None:
            old = self.grads[place]
            self.grads[place] = grad if old is None else old + grad


class _Mover(nn.Module):
    """A transition whose forward can run either way, so that functional_call reaches its parameters."""

    def __init__(self, layer: Transition, rule: Rule) -> None:
        super().__init__()
        self.layer, self.rule = layer, rule

    def forward(self, x: Tensor, inverse: bool) -> Tensor:
        """Run the transition or its inverse."""
        return transit(self.layer, x, self.rule, inverse)
