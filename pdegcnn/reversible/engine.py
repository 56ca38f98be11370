"""The autograd function of a reversible stack: runs forward without a graph and rebuilds the states backwards.

One layer in velocity form, with k = 1 - damping:  v <- k v + h^2 f(y),  y <- y + v.
Reverse:  y <- y - v,  v <- (v - h^2 f(y)) / k.
Adjoint, with (gy, gv) the gradients of the layer's outputs:  g <- gv + gy,  gv <- k g,  gy <- gy + h^2 J_f(y)^T g.
Source: Lensink, Peters, Haber, *Fully Hyperbolic Convolutional Neural Networks*, arXiv 1905.10484, eqs. 4-6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pdegcnn import _transforms
from pdegcnn._modules import named_parameters
from pdegcnn.reversible.contracts import custom_vjp, describes_forward, hooked, refuse_gradients, same_values
from pdegcnn.reversible.replay import Autocast, LayerReplay, RandomState
from pdegcnn.reversible.transition import Transition, apply_to_channels, round_to


@dataclass(frozen=True)
class Rule:
    """The numbers of a step: squared step size, factor of the old velocity, grid (None: no rounding).

    ``inner`` is the dtype that layers see where it is not that of the states.
    """

    h2: float
    keep: float = 1.0
    grid: float | None = None
    inner: torch.dtype | None = None


def transformed(x: Tensor) -> bool:
    """Return whether ``x`` is inside a transform of torch.func."""
    return torch._C._functorch.is_functorch_wrapped_tensor(x)  # pyright: ignore


def traced() -> bool:
    """Return whether operations are being recorded by torch.compile, torch.export or torch.jit.trace."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore


def values_can_be_read(x: Tensor) -> bool:
    """Return whether the values of ``x`` can be read."""
    return not (traced() or x.is_meta or transformed(x))


_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_LOCK = Lock()


@contextmanager
def _one_thread(layer: nn.Module) -> Iterator[None]:
    """Let one thread at a time exchange the parameters of ``layer`` for others, or list them."""
    with _LOCK:
        lock = _LOCKS.setdefault(layer, RLock())
    with lock:
        yield


def _name(layer: nn.Module, index: int) -> str:
    return f"layers[{index}] ({type(layer).__name__})"


def _mark(y: Tensor) -> int | None:
    """Return a number that changes when ``y`` is written to: its version, or its bits where it has none."""
    if not values_can_be_read(y):
        return None
    return _sum_of_bits(y) if y.is_inference() else y._version


def evaluate(
    layer: nn.Module,
    index: int,
    state: Tensor,
    values: dict[str, Tensor] | None = None,
    inner: torch.dtype | None = None,
) -> Tensor:
    """Return ``f(state)`` in the dtype of the state, computed in the dtype ``inner``; check the output."""
    y = state if inner is None else state.to(inner)
    before = _mark(y)
    if values is None:
        out = layer(y)
    else:
        with _one_thread(layer):
            out = functional_call(layer, values, (y,))
    name = _name(layer, index)
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}: expected it to return one torch.Tensor, got {type(out).__name__}")
    if before != _mark(y):
        raise ValueError(f"{name}: expected a layer that does not change its input, got one that changes it in place")
    if out.shape != y.shape:
        raise ValueError(
            f"{name}: expected an output of the shape of its input {tuple(y.shape)}, got {tuple(out.shape)}"
        )
    return out.to(state.dtype)


def add_increment(v: Tensor, out: Tensor, rule: Rule, sign: float = 1.0, own: bool = False) -> Tensor:
    """Return ``v + sign h^2 out``, the increment rounded in exact mode; written over ``v`` if the caller owns it."""
    scale = sign * rule.h2
    if rule.grid is not None and torch.is_grad_enabled():
        out, scale = round_to(out, rule.grid, rule.h2), sign
    elif rule.grid is not None:  # in units of the grid, whose products are exact
        out, scale = out.mul(rule.h2 / rule.grid).round_(), sign * rule.grid
    return v.add_(out, alpha=scale) if own else torch.add(v, out, alpha=scale)


def piecewise(module: Transition, x: Tensor) -> bool:
    """Return whether `apply_transition` processes a few channels at a time; its result is then a new tensor."""
    noted = torch.is_grad_enabled() or traced() or transformed(x)
    return not noted and x.numel() > 0 and describes_forward(module, "bands") and bool(module.bands)


def apply_transition(module: Transition, x: Tensor, rule: Rule, inverse: bool = False, own: bool = False) -> Tensor:
    """Apply a transition or its inverse to one state, which may be overwritten if it is one's own."""
    if piecewise(module, x):
        return apply_to_channels(module, x, rule.grid, inverse, own)
    if rule.grid is None:
        return module.inverse(x) if inverse else module(x)
    return module.inverse_on_grid(x, rule.grid) if inverse else module.on_grid(x, rule.grid)


def step(layer: nn.Module, index: int, y: Tensor, v: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """Apply one element of the stack under plain autograd."""
    if isinstance(layer, Transition):
        return apply_transition(layer, y, rule), apply_transition(layer, v, rule)
    v = add_increment(v if rule.keep == 1.0 else v * rule.keep, evaluate(layer, index, y, inner=rule.inner), rule)
    return y + v, v


@dataclass
class Plan:
    """One call of a stack: its layers, which parameter each uses, and what forward notes for backward.

    ``record`` says that a backward pass of plain autograd may follow. Then layers that may show tensors to others
    (hooks) run with gradients recorded in forward too. ``flows`` has for every layer whether the states (y, v) before
    it depend on something that wants a gradient, as plain autograd would know it; the last entry is for the outputs.
    """

    layers: Sequence[nn.Module]
    rule: Rule
    autocast: Autocast
    names: list[dict[str, int]]
    record: bool
    flows: list[tuple[bool, bool]]
    peaks: list[Tensor] = field(default_factory=list)
    replays: list[LayerReplay] = field(default_factory=list)
    checksum: int | None = None

    def values(self, index: int, params: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the parameters of one layer by name."""
        return {name: params[place] for name, place in self.names[index].items()}


def unique_parameters(layers: Sequence[nn.Module]) -> tuple[list[Tensor], list[dict[str, int]]]:
    """Return all parameters, each once, and for every layer the place of each of its parameters."""
    params: list[Tensor] = []
    places: dict[int, int] = {}
    names = []
    for layer in layers:
        own = {}
        with _one_thread(layer):
            held = list(named_parameters(layer))
        for name, p in held:
            if id(p) not in places:
                places[id(p)] = len(params)
                params.append(p)
            own[name] = places[id(p)]
        names.append(own)
    return params, names


def checksum(y: Tensor, v: Tensor) -> int:
    """Return a number that tells two pairs of states apart, from their bits."""
    return 3 * _sum_of_bits(y) + _sum_of_bits(v)


def _sum_of_bits(x: Tensor) -> int:
    """Return the sum of the values of ``x``, read as whole numbers."""
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    return int(x.contiguous().view(kind).sum())


def peak(y: Tensor, v: Tensor) -> Tensor:
    """Return the largest absolute value in both states; NaN if there is one."""
    if not y.numel():
        return y.new_zeros(())
    return torch.stack([*torch.aminmax(y.detach()), *torch.aminmax(v.detach())]).abs().max()


def _same_parameters(layer: nn.Module, values: dict[str, Tensor]) -> bool:
    """Return whether the module itself holds these tensors and can be called unchanged."""
    return all(p is values[name] for name, p in named_parameters(layer))


def _run(plan: Plan, index: int, layer: nn.Module, y: Tensor, values: dict[str, Tensor] | None) -> Tensor:
    """Run the layer in forward. What hooks may see asks for gradients, as under plain autograd, and has none."""
    flow_y, flow_v = plan.flows[-1]
    if not plan.record or custom_vjp(layer) is not None:
        out = evaluate(layer, index, y, values, plan.rule.inner)
        wants = flow_y or any(p.requires_grad for _, p in named_parameters(layer))
    else:
        with torch.enable_grad():
            seen = refuse_gradients(y, _name(layer, index)) if flow_y else y.detach()
            out = evaluate(layer, index, seen, values, plan.rule.inner)
        wants, out = out.requires_grad, out.detach()
    plan.flows.append((flow_y or flow_v or wants, flow_v or wants))
    return out


def _move(plan: Plan, index: int, layer: Transition, y: Tensor, v: Tensor, own: bool) -> tuple[Tensor, Tensor]:
    """Move both states through a transition in forward; hooks may read but not change them."""
    states = []
    for x, flow in zip((y, v), plan.flows[-1]):
        if not (plan.record and hooked(layer)):
            states.append(apply_transition(layer, x, plan.rule, own=own))
            continue
        with torch.enable_grad():
            seen = refuse_gradients(x, _name(layer, index)) if flow else x.detach()
            out = apply_transition(layer, seen, plan.rule).detach()
        if plan.rule.grid is None and values_can_be_read(x) and not same_values(out, layer.forward(x)):
            raise ValueError(
                f"{_name(layer, index)}: expected hooks that do not change the input or output of a transition, "
                "got one that does; the inverse would not undo that (memory='plain' needs no inverse)"
            )
        states.append(out)
    wants = any(p.requires_grad for _, p in named_parameters(layer))
    plan.flows.append((plan.flows[-1][0] or wants, plan.flows[-1][1] or wants))
    return states[0], states[1]


@torch.no_grad()
def run_without_gradients(plan: Plan, y: Tensor, v: Tensor, own: bool) -> tuple[Tensor, Tensor]:
    """Apply the map alone, in place of the states; ``own``: they may be overwritten from the start."""
    rule, look = plan.rule, values_can_be_read(y) and values_can_be_read(v)
    own = own and y.is_contiguous() and v.is_contiguous() and y.data_ptr() != v.data_ptr()
    for index, layer in enumerate(plan.layers):
        if isinstance(layer, Transition):
            fresh = piecewise(layer, y)
            y, v, own = apply_transition(layer, y, rule, own=own), apply_transition(layer, v, rule, own=own), fresh
        else:
            y, v, own = *((y, v) if own else (y.clone(), v.clone())), True
            v = v if rule.keep == 1.0 else v.mul_(rule.keep)
            _add_increment(layer, index, y, v, rule)
            y = y + v if hooked(layer) else y.add_(v)  # a hook may have kept its input
        if rule.grid is not None and look:
            plan.peaks.append(peak(y, v))
    return y, v


def _add_increment(layer: nn.Module, index: int, y: Tensor, v: Tensor, rule: Rule) -> None:
    """Apply ``v <- v + h^2 f(y)``, piece by piece if the layer supports it."""
    if not describes_forward(layer, "pieces"):
        add_increment(v, evaluate(layer, index, y, inner=rule.inner), rule, own=True)
        return
    for piece in layer.pieces(y if rule.inner is None else y.to(rule.inner)):  # pyright: ignore
        add_increment(piece.of(v), piece.part.to(v.dtype), rule, own=True)
        del piece


class StackFunction(torch.autograd.Function):
    """The whole stack as one node of the graph. It keeps its outputs and its parameters, no state in between."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, y: Tensor, v: Tensor, *params: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore
        """Run all layers; states are overwritten as soon as they are this function's own."""
        rule, look = plan.rule, values_can_be_read(y) and values_can_be_read(v)
        plan.replays, plan.peaks = [], []
        plan.flows = plan.flows[:1]
        if rule.grid is not None and look:
            plan.checksum = checksum(y, v)
        own, before = False, RandomState(y.device)
        for index, layer in enumerate(plan.layers):
            values = plan.values(index, params)
            replay = LayerReplay(layer)
            with plan.autocast.again():
                if isinstance(layer, Transition):
                    fresh = piecewise(layer, y)
                    y, v, own = *_move(plan, index, layer, y, v, own), fresh
                else:
                    out = _run(plan, index, layer, y, None if _same_parameters(layer, values) else values)
                    if rule.keep != 1.0:
                        v = v.mul_(rule.keep) if own else v * rule.keep
                    v = add_increment(v, out, rule, own=own)
                    del out
                    # tensors that the layer exposes stay usable, and what hooks keep stays as it is
                    seen = plan.record and not plan.flows[index][0] or hooked(layer)
                    y = y.add_(v) if own and not seen else y + v
                    own = True
            replay.finish(layer)
            after = RandomState(y.device)
            replay.random, before = None if before.same(after) else before, after
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
        _transforms.refuse_batches("ReversibleStack", grad_y, grad_v)
        batched = any(g is not None and transformed(g) for g in (grad_y, grad_v))  # by vmap over backward passes
        walk = Backwards(ctx.plan, params, ctx.needs_input_grad[3:], torch.is_grad_enabled() or batched, y, v)
        del y, v
        if not walk.graph and hasattr(ctx, "maybe_clear_saved_tensors"):
            ctx.maybe_clear_saved_tensors()  # unless the graph is retained, the outputs need not outlive the first step
        gy, gv, grads = walk.run(grad_y, grad_v)
        return (None, gy if ctx.needs_input_grad[1] else None, gv if ctx.needs_input_grad[2] else None, *grads)


class _Handle(torch.autograd.Function):
    """A scalar that stands for a layer's output in the graph, so that the output itself can be freed before its pull.

    Its backward, called with one, starts from the cotangent given here, times ``scale``.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, cotangent: Tensor, scale: float) -> Tensor:  # pyright: ignore
        ctx.cotangent, ctx.scale = cotangent, scale
        return out.new_ones(())

    @staticmethod
    def backward(ctx: Any, one: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        return ctx.cotangent * ctx.scale, None, None


class Backwards:
    """The backward walk through a stack: rebuilds the states (y, v) and pulls the gradients (gy, gv) back.

    A gradient of None is zero. ``own`` says that the walk owns these tensors and may overwrite them.
    """

    def __init__(
        self, plan: Plan, params: Sequence[Tensor], needs: Sequence[bool], graph: bool, y: Tensor, v: Tensor
    ) -> None:
        # Views: inside the pull of a torch.func transform the saved tensors are wrappers of a level that has ended; an
        # operation takes them off, and torch.func.vjp below must not meet them. Twins: a hook of a parameter belongs to
        # its whole gradient, not to the share of one layer.
        params = [p.view_as(p) if graph else _leaf(p, needed) for p, needed in zip(params, needs)]
        self.plan, self.params, self.needs, self.graph = plan, params, needs, graph
        self.grads: list[Tensor | None] = [None] * len(params)
        self.y, self.v, self.own, self.kept = y, v, False, False

    def run(self, gy: Tensor | None, gv: Tensor | None) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
        """Walk from the last layer to the first that something wants a gradient of."""
        plan = self.plan
        self.gy, self.gv = gy, gv
        del gy, gv
        here = RandomState(self.y.device)
        try:
            for index in range(len(plan.layers) - 1, -1, -1):
                if not any(plan.flows[index + 1]):
                    return None, None, self.grads
                layer = plan.layers[index]
                with plan.autocast.again(), plan.replays[index].again():
                    if self.graph and hooked(layer, "backward"):
                        raise RuntimeError(
                            f"{_name(layer, index)}: expected no backward hooks with create_graph=True, got some; "
                            "memory='plain' runs them there"
                        )
                    if isinstance(layer, Transition):
                        self._transition(layer, index)
                    else:
                        self._layer(layer, index)
        finally:
            if any(r.random is not None for r in plan.replays):
                here.restore()
        if plan.checksum is not None and values_can_be_read(self.y) and checksum(self.y, self.v) != plan.checksum:
            raise RuntimeError(
                "ReversibleStack(exact=True): the states rebuilt in the backward pass are not those of the forward "
                "pass. Expected layers that return the same bits for the same input; got one that does not "
                "(a private random number generator, or a non-deterministic kernel)"
            )
        return self.gy, self.gv, self.grads

    def _layer(self, layer: nn.Module, index: int) -> None:
        keep, own = self.plan.rule.keep, self.own
        self.y = self.y.sub_(self.v) if own and not self.kept else self.y - self.v
        self.kept = hooked(layer)  # which may keep its input
        self.gv = gv = self._sum(self.gv, self.gy)
        pulled, scale = self._pull(layer, index, gv)
        if keep != 1.0:
            self.v = self.v.div_(keep) if own else self.v / keep
            self.gv = gv.mul_(keep) if own else gv * keep
        self.gy = self._sum(self.gy, pulled, scale)
        self.own = not self.graph

    def _sum(self, a: Tensor | None, b: Tensor | None, scale: float = 1.0) -> Tensor:
        """Return ``a + scale b``, written over ``a`` where the walk owns it; the result may always be owned."""
        if a is None:
            return torch.zeros_like(self.y) if b is None else b * scale
        if b is None:
            return a if self.own or self.graph else a.clone()
        return a.add_(b, alpha=scale) if self.own else torch.add(a, b, alpha=scale)

    def _pull(self, layer: nn.Module, index: int, gv: Tensor) -> tuple[Tensor | None, float]:
        """Undo v, add the parameters' gradients to ``self.grads``, return ``J_f(y)^T gv`` and its factor."""
        rule, values = self.plan.rule, self.plan.values(index, self.params)
        by_hand = custom_vjp(layer)
        if by_hand is not None and not (self.graph or self.plan.autocast.enabled or transformed(self.y)):
            wanted = {name: self.needs[place] for name, place in self.plan.names[index].items()}
            inner = rule.inner or self.y.dtype
            out, pulled, found = by_hand(self.y.to(inner), gv.to(inner), values, wanted)
            for name, grad in found.items():
                self._add(self.plan.names[index][name], grad, rule.h2)
            self.v = add_increment(self.v, out.to(self.v.dtype), rule, -1.0, self.own)
            return pulled.to(self.y.dtype), rule.h2
        places = [p for p in dict.fromkeys(self.plan.names[index].values()) if self.needs[p]]
        own = [self.params[p] for p in places]
        if self.graph:
            found = self._pull_with_graph(layer, index, gv, values, places, own)
        else:
            found = self._pull_freeing(layer, index, gv, values, own)
        for place, grad in zip(places, found[1:]):
            self._add(place, grad)
        return found[0], 1.0

    def _pull_with_graph(
        self, layer: nn.Module, index: int, gv: Tensor, values: dict[str, Tensor], places: list[int], own: list[Tensor]
    ) -> Sequence:
        """Differentiate on a fresh level: y may depend on the parameters, and the partial derivative is wanted."""
        rule = self.plan.rule

        def run(x: Tensor, *wanted: Tensor) -> Tensor:
            placed = dict(zip(places, wanted))
            used = {n: placed.get(p, values[n]) for n, p in self.plan.names[index].items()}
            out = evaluate(layer, index, x, {**used, **self.plan.replays[index].buffers()}, rule.inner)
            return out * rule.h2 if rule.grid is None else round_to(out, rule.grid, rule.h2)

        delta, pull = torch.func.vjp(run, self.y, *own)  # pyright: ignore
        self.v = self.v - delta
        return pull(gv)

    def _pull_freeing(
        self, layer: nn.Module, index: int, gv: Tensor, values: dict[str, Tensor], own: list[Tensor]
    ) -> Sequence[Tensor | None]:
        """Differentiate by autograd from ``h^2 gv``, as hooks see it; free the layer's output before it."""
        rule, flow = self.plan.rule, self.plan.flows[index][0]
        with torch.enable_grad():
            y = self.y.detach().requires_grad_(flow)
            seen = y.view_as(y)  # tools that follow modules ask which function made their inputs
            used = {**values, **self.plan.replays[index].buffers()}
            itself = len(used) == len(values) and _same_parameters(layer, values)
            out = evaluate(layer, index, seen, None if itself else used, rule.inner)
            del seen
            handle = _Handle.apply(out, gv, rule.h2) if out.requires_grad else None
        self.v = add_increment(self.v, out.detach(), rule, -1.0, self.own)
        del out
        if handle is None:
            return [None] * (1 + len(own))
        found = torch.autograd.grad(handle, [*([y] if flow else ()), *own], allow_unused=True)  # pyright: ignore
        return found if flow else (None, *found)

    def _transition(self, layer: Transition, index: int) -> None:
        places = [p for p in dict.fromkeys(self.plan.names[index].values()) if self.needs[p]]
        values = self.plan.values(index, self.params)
        own = [self.params[p] for p in places]
        mover = _Mover(layer, self.plan.rule)

        def run(x: Tensor, *wanted: Tensor, inverse: bool = False) -> Tensor:
            placed = dict(zip(places, wanted))
            used = {f"layer.{n}": placed.get(p, values[n]) for n, p in self.plan.names[index].items()}
            return functional_call(mover, used, (x, inverse))

        if not (self.graph or own or hooked(layer)) and piecewise(layer, self.y):
            self._transition_in_pieces(layer, index)
            return
        flow_y, flow_v = self.plan.flows[index]
        self.v = run(self.v, inverse=True)
        self.gv, *of_v = self._pull_transition(run, self.v, own, self.gv, flow_v)  # first, as plain autograd does
        self.y = run(self.y, inverse=True)
        self.gy, *of_y = self._pull_transition(run, self.y, own, self.gy, flow_y)
        for found in (of_y, of_v):
            for place, extra in zip(places, found):
                self._add(place, extra)
        self.own = False

    def _transition_in_pieces(self, layer: Transition, index: int) -> None:
        """Do the same as `_transition` in place; the transpose of an orthogonal map is its inverse."""
        rule = self.plan.rule
        turn = rule.grid is None and layer.orthogonal and describes_forward(layer, "orthogonal")
        for state, name, flow in zip("vy", ("gv", "gy"), reversed(self.plan.flows[index])):
            before = apply_transition(layer, getattr(self, state), rule, inverse=True, own=self.own)
            setattr(self, state, before)
            grad = getattr(self, name)
            if grad is not None and turn:
                grad = apply_transition(layer, grad, Rule(1.0), inverse=True, own=self.own)
            elif grad is not None:
                (grad,) = self._pull_transition(lambda x: apply_transition(layer, x, rule), before, [], grad, flow)
            setattr(self, name, grad)
        self.own = True

    def _pull_transition(
        self, run: Callable[..., Tensor], before: Tensor, own: list[Tensor], grad: Tensor | None, flow: bool
    ) -> Sequence[Tensor | None]:
        """Return the gradients of the state before a transition and of its parameters."""
        if grad is None:
            return (None,) * (1 + len(own))
        if self.graph:
            with torch.enable_grad():
                return torch.func.vjp(run, before, *own)[1](grad)  # pyright: ignore
        with torch.enable_grad():
            x = before.detach().requires_grad_(flow)
            out = run(x.view_as(x), *own)  # as in `_pull_freeing`
        if not out.requires_grad:
            return (None,) * (1 + len(own))
        found = torch.autograd.grad(out, [*([x] if flow else ()), *own], grad, allow_unused=True)
        return found if flow else (None, *found)

    def _add(self, place: int, grad: Tensor | None, scale: float = 1.0) -> None:
        if grad is not None:
            old = self.grads[place]
            grad = grad if scale == 1.0 else grad * scale
            self.grads[place] = grad if old is None else old + grad


def _leaf(p: Tensor, needed: bool) -> Tensor:
    """Return a tensor of the same values and kind as ``p`` that asks for a gradient if ``needed``, without hooks.

    It is ``p`` itself if possible, so that the module need not hold other parameters for a moment.
    """
    if p.is_leaf and p.requires_grad == needed and not p._backward_hooks:
        return p
    if isinstance(p, nn.Parameter):
        return nn.Parameter(p.detach(), needed)
    return p.detach().requires_grad_(needed)


class _Mover(nn.Module):
    """A transition whose forward can run either way, so that functional_call reaches its parameters."""

    def __init__(self, layer: Transition, rule: Rule) -> None:
        super().__init__()
        self.layer, self.rule = layer, rule

    def __call__(self, x: Tensor, inverse: bool) -> Tensor:
        """Run the transition or its inverse; hooks of all modules see the transition alone."""
        return apply_transition(self.layer, x, self.rule, inverse)
