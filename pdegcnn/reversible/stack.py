"""Reversible stacks: telegraph-equation networks of arbitrary modules in constant activation memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pdegcnn import _checks as check
from pdegcnn import _transforms
from pdegcnn._dtypes import HALF
from pdegcnn.reversible.contracts import hooked, separate_node
from pdegcnn.reversible.engine import (
    Plan,
    Rule,
    StackFunction,
    add_increment,
    apply_transition,
    evaluate,
    peak,
    run_without_gradients,
    step,
    traced,
    transformed,
    unique_parameters,
    values_can_be_read,
)
from pdegcnn.reversible.replay import Autocast, RandomState, Settings
from pdegcnn.reversible.transition import Transition, round_to

MEMORY = ("reversible", "plain", "checkpoint", "checkpoint_sqrt")
INVERTIBLE = {torch.bfloat16: 64, torch.float16: 512}
"""Layers through which states that were rounded to half precision can be followed back: a quarter of the velocity."""
MANTISSA = {torch.float32: 24, torch.float64: 53}


def _fit_to_run(layer: nn.Module, index: int, exact: bool) -> None:
    """Raise when a layer's parameters (lazy ones, its own shards) or its hooks would not be there to be used."""
    if exact and isinstance(layer, Transition) and hooked(layer, everywhere=False):
        raise ValueError(
            f"layers[{index}] ({type(layer).__name__}): expected no hooks on a transition with exact=True, which uses "
            "`on_grid` in the place of `forward`, got some"
        )
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in layer.parameters()):
        raise ValueError(f"layers[{index}]: expected initialised parameters, got lazy ones; call the layer once before")
    if any(kind.__name__ == "FSDPModule" for module in layer.modules() for kind in type(module).__mro__):
        raise ValueError(
            f"layers[{index}]: expected a layer whose parameters are gathered with the stack's, got one sharded on its "
            "own; call fully_shard on the ReversibleStack or a module around it"
        )


class ReversibleStack(nn.Module):
    r"""A telegraph-equation network over any modules, trained without storing its activations.

    Each layer f maps the state (y, v) to :math:`v' = (1 - d)\, v + h^2 f(y)`, :math:`y' = y + v'` with damping d:
    leapfrog in velocity form (Lensink, Peters, Haber, arXiv 1905.10484, eq. 4, there
    :math:`y_{n+1} = 2 y_n - y_{n-1} + h^2 f(y_n)`). Only the last pair of states is kept; the backward pass rebuilds
    the others. A `Transition` (a coarsening) acts on both states.

    Args:
        layers: modules with one tensor in and one tensor of the same shape out, or transitions. A layer must not change
            its input in place. Gradients reach parameters only, not other tensors that a layer refers to.
        h: step size. ``h^2 ||K||^2 <= 4`` is necessary for stability but not sufficient: see `stability_report`.
        exact: keep states on the grid ``grid`` (increments are rounded, with derivative one), so that the reversal is
            bit-exact. States must be float32 or float64; values outside the range of exact addition raise an error.
        grid: spacing of the grid of ``exact``; the default 2^-14 bounds float32 states by 1024.
        damping: part of the velocity lost per layer, in [0, 1). The reverse divides by ``1 - damping`` and amplifies
            rounding by ``(1 - damping)^-depth``: keep it 0, or the product ``damping * depth`` below about 5.
        memory: ``"reversible"``, ``"plain"`` (autograd stores everything: faster, and no larger below five or six
            layers), ``"checkpoint"`` (per layer) or ``"checkpoint_sqrt"``. The map is the same.
        check_finite: raise an error if the last states hold a NaN or an infinity.
        output: ``"states"`` returns both of the last states, ``"state"`` only y, as modules in `nn.Sequential` do.

    The backward pass repeats the layers: random numbers are replayed, buffers (batch norm) are updated once a step,
    autocast and the training mode are restored. Hooks of layers receive what they would under plain autograd; forward
    hooks run in both passes. A tensor that a layer exposes by a hook or an attribute has values but no gradient.
    ``torch.func`` transforms and ``create_graph=True`` are supported, but store the graph of all layers; forward-mode
    derivatives need ``memory="plain"``. Under ``torch.compile`` a stack is one graph break while gradients are
    recorded, and part of the graph otherwise. With FSDP, shard the stack as a whole.

    States of half precision are kept in float32 inside the stack, for all values of ``memory``, and layers receive them
    rounded. Under autocast outputs are float32, otherwise they are rounded to the input's dtype. `inverse` refuses such
    rounded outputs after more than 64 layers (bfloat16) or 512 (float16); gradients and `drift` do not depend on it.

    Example:
        >>> import torch, pdegcnn as pg
        >>> stack = pg.reversible.ReversibleStack([pg.reversible.SymmetricConv(4) for _ in range(8)], h=0.2)
        >>> y, v = stack(torch.rand(1, 4, 8, 8))
        >>> y.shape, stack.drift(torch.rand(1, 4, 8, 8)) < 1e-4
        (torch.Size([1, 4, 8, 8]), True)
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        h: float = 0.1,
        exact: bool = False,
        *,
        grid: float = 2.0**-14,
        damping: float = 0.0,
        memory: str = "reversible",
        check_finite: bool = True,
        output: str = "states",
    ) -> None:
        super().__init__()
        if not isinstance(layers, Iterable) or isinstance(layers, Tensor):
            raise TypeError(f"layers: expected modules in a sequence, got {type(layers).__name__}")
        layers = list(layers)
        for index, layer in enumerate(layers):
            if not isinstance(layer, nn.Module):
                raise TypeError(f"layers[{index}]: expected a torch.nn.Module, got {type(layer).__name__}")
        if not layers:
            raise ValueError("layers: expected at least one module, got none")
        check.number("h", h, 0.0, math.inf, open_low=True)
        check.number("damping", damping, 0.0, 1.0)
        if damping == 1.0:
            raise ValueError("damping: expected a value in [0, 1), got 1.0")
        check.flag("exact", exact)
        check.flag("check_finite", check_finite)
        check.number("grid", grid, 0.0, math.inf, open_low=True)
        if exact and damping:
            raise ValueError(f"damping: expected 0 with exact=True (division cannot be exact), got {damping}")
        if math.frexp(grid)[0] != 0.5:
            raise ValueError(f"grid: expected a power of two, got {grid}")
        for index, layer in enumerate(layers):
            if exact and isinstance(layer, Transition) and not layer.bit_exact:
                raise ValueError(
                    f"layers[{index}]: expected a transition that is bit-exact on the grid (Haar, space to depth), "
                    f"got {type(layer).__name__}"
                )
        self.layers = nn.ModuleList(layers)
        self.h, self.exact, self.grid, self.damping = float(h), bool(exact), float(grid), float(damping)
        self.memory = check.choice("memory", memory, MEMORY)
        self.check_finite = check_finite
        self.output = check.choice("output", output, ("states", "state"))

    def extra_repr(self) -> str:
        """Return the numbers of the stack."""
        return f"h={self.h}, exact={self.exact}, damping={self.damping}, memory={self.memory!r}"

    def sequence(self) -> Sequence[nn.Module]:
        """Return the modules in the order in which they act."""
        return list(self.layers)

    @property
    def rule(self) -> Rule:
        """The step size, damping and grid of a step."""
        return Rule(self.h * self.h, 1.0 - self.damping, self.grid if self.exact else None)

    def forward(self, y: Tensor, v: Tensor | None = None, *, overwrite: bool = False) -> Any:
        """Map states ``y [B,C,...]`` and ``v`` (the same shape) to the states after the last layer.

        Without gradients the states are updated in place, coarsenings included, and layers with a method ``pieces``
        (`SymmetricConv.pieces`) run piece by piece, so little memory is needed beyond the two states.

        Args:
            y: state.
            v: velocity; None: zero.
            overwrite: without gradients, overwrite ``y`` and ``v`` instead of copying them.

        Returns:
            A tuple of both states, or y alone with ``output="state"``.

        Raises:
            TypeError: if a state is not a floating tensor (float32 or float64 with ``exact``).
            ValueError: if shapes differ, a layer changes shape or input, or a state is not finite or out of range.
            RuntimeError: in backward, with ``exact``, if a layer was not deterministic.
        """
        always = torch.compiler.is_exporting() or torch.jit.is_tracing()  # pyright: ignore
        if always or (traced() and not torch.is_grad_enabled()):
            states = self._traced(y, v)
        else:
            states = self._eager(y, v, overwrite)  # pyright: ignore[reportCallIssue]
        return states if self.output == "states" else states[0]

    @torch.compiler.disable
    def _eager(self, y: Tensor, v: Tensor | None, overwrite: bool) -> tuple[Tensor, Tensor]:
        half = y.dtype if isinstance(y, Tensor) else None
        y, v, rule = self._states(y, v)
        y, v = self._run(y, v, rule, overwrite)
        return (y, v) if rule.inner is None else (y.to(half), v.to(half))

    def _traced(self, y: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply the map alone, without looking at values: for graphs without a backward pass."""
        y, v, rule = self._states(y, v)
        for index, layer in enumerate(self.sequence()):
            y, v = step(layer, index, y, v, rule)
        return (y, v) if rule.inner is None else (y.to(rule.inner), v.to(rule.inner))

    def inverse(self, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Map the states after the last layer to those before the first; differentiable by plain autograd.

        Args:
            y: state after the last layer.
            v: its velocity, of the same shape.

        Returns:
            State and velocity before the first layer.

        Raises:
            RuntimeError: if a layer draws random numbers, because those of the forward pass are not known here.
            TypeError: for states of half precision after more layers (64 of bfloat16, 512 of float16): their rounding
                would grow.
        """
        deepest = INVERTIBLE.get(y.dtype, math.inf) if isinstance(y, Tensor) else math.inf
        y, v, rule = self._states(y, v)
        if rule.inner is not None and len(self.sequence()) > deepest:
            raise TypeError(
                f"y: expected states of float32 for the inverse of more than {deepest} layers, got {rule.inner}, "
                "whose rounding errors would grow with the number of layers"
            )
        back = self._inverse(y, v, rule)
        return back if rule.inner is None else (back[0].to(rule.inner), back[1].to(rule.inner))

    def _inverse(self, y: Tensor, v: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
        layers, peaks = self.sequence(), []
        start = RandomState(y.device)
        for index in range(len(layers) - 1, -1, -1):
            layer = layers[index]
            if isinstance(layer, Transition):
                y, v = apply_transition(layer, y, rule, inverse=True), apply_transition(layer, v, rule, inverse=True)
            else:
                y = y - v
                copies = {name: buffer.clone() for name, buffer in layer.named_buffers()}
                v = add_increment(v, evaluate(layer, index, y, copies, rule.inner), rule, -1.0)
                v = v if rule.keep == 1.0 else v / rule.keep
            if self.exact and values_can_be_read(y):
                peaks.append(peak(y, v))
            if not start.same(RandomState(y.device)):
                start.restore()
                raise RuntimeError(f"layers[{index}]: expected a layer without randomness, got one that draws numbers")
        self._in_range(peaks[::-1], y.dtype, "the state before layers[{}]")
        return y, v

    @torch.no_grad()
    def drift(self, y: Tensor, v: Tensor | None = None) -> float:
        """Return the largest absolute error of ``inverse(forward(y, v))``, relative to the largest input value.

        Args:
            y: input of the stack, not empty.
            v: its velocity; None for zero.
        """
        y, v, rule = self._states(y, v)
        if not y.numel():
            raise ValueError(f"y: expected at least one number, got shape {tuple(y.shape)}")
        copies = [(b, b.clone()) for b in self.buffers()]
        out = self._run(y.clone(), v.clone(), rule)
        for buffer, copy in copies:
            buffer.copy_(copy)
        back = self._inverse(*out, rule)
        error = max(float((back[0] - y).abs().max()), float((back[1] - v).abs().max()))
        return error / max(float(y.abs().max()), float(v.abs().max()), 1e-30)

    def _states(self, y: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor, Rule]:
        """Return the states as the stack holds them (half precision becomes float32), and the step's numbers."""
        check.tensor("y", y)
        if v is None:
            v = torch.zeros_like(y)
        check.tensor("v", v)
        if v.shape != y.shape:
            raise ValueError(f"v: expected the shape of y {tuple(y.shape)}, got {tuple(v.shape)}")
        check.same_kind("v", v, "y", y)
        rule, auto = self.rule, y.dtype in HALF and Autocast(y.device).enabled
        if y.dtype in HALF and not self.exact or auto:
            rule = rule if auto else replace(rule, inner=y.dtype)
            y, v = y.float(), v.float()
        if not self.exact:
            return y, v, rule
        if y.dtype not in MANTISSA:
            raise TypeError(f"y: expected dtype float32 or float64 with exact=True, got {y.dtype}")
        y, v = round_to(y, self.grid) + 0.0, round_to(v, self.grid) + 0.0
        if values_can_be_read(y) and values_can_be_read(v):
            self._in_range([peak(y, v)], y.dtype, "the input", entry=0)
        return y, v, rule

    def _run(self, y: Tensor, v: Tensor, rule: Rule, own: bool = False) -> tuple[Tensor, Tensor]:
        layers = self.sequence()
        for index, layer in enumerate(self.layers):
            _fit_to_run(layer, index, self.exact)
        params, names = unique_parameters(layers)
        tensors = (y, v, *params)
        inside = any(transformed(t) for t in tensors)  # gradients of outer levels are unknown here
        record = not inside and torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        flows = [(inside or y.requires_grad, inside or v.requires_grad)]
        plan = Plan(layers, rule, Autocast(y.device), names, record, flows)
        forward_mode = _transforms.in_forward_mode()  # it has no backward pass, so it needs no states
        if self.memory != "plain" and not (inside or record or forward_mode):
            y, v = run_without_gradients(plan, y, v, own or self.exact)  # exact states are rounded copies
            peaks = plan.peaks
        elif self.memory == "reversible" and not forward_mode:
            y, v = StackFunction.apply(plan, y, v, *params)  # pyright: ignore
            if record:
                y, v = separate_node(y), separate_node(v)
            peaks = plan.peaks
        else:
            plain = forward_mode or _transforms.differentiated(y, v)  # torch.func does not support checkpoints
            y, v, peaks = self._stored(layers, y, v, rule, "plain" if plain else self.memory)
        if not (values_can_be_read(y) and values_can_be_read(v)):
            return y, v
        if self.exact:
            self._in_range(peaks, y.dtype, "the state after layers[{}]", entry=1)
        elif self.check_finite and not math.isfinite(float(peak(y, v))):
            raise ValueError(
                "y: expected finite states after the last layer, got a NaN or an infinity "
                "(in the input, or the stack is unstable: lower h or the kernels' norm, see stability_report)"
            )
        return y, v

    def _stored(
        self, layers: Sequence[nn.Module], y: Tensor, v: Tensor, rule: Rule, memory: str
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Apply the same map under plain autograd, or with torch's checkpoints."""
        count = len(layers)
        size = {"plain": count, "checkpoint": 1, "checkpoint_sqrt": math.isqrt(count - 1) + 1}[memory]
        peaks: list[Tensor] = []

        def segment(y: Tensor, v: Tensor, first: int, last: int, note: bool) -> tuple[Tensor, Tensor]:
            for index in range(first, last):
                y, v = step(layers[index], index, y, v, rule)
                if note and self.exact and values_can_be_read(y):
                    peaks.append(peak(y, v))
            return y, v

        for first in range(0, count, size):
            last = min(first + size, count)
            if memory == "plain":
                y, v = segment(y, v, first, last, True)
            else:
                settings = Settings(self.layers)

                def contexts(settings: Settings = settings) -> tuple:
                    return nullcontext(), settings.again()

                y, v = checkpoint(segment, y, v, first, last, True, use_reentrant=False, context_fn=contexts)  # pyright: ignore
        return y, v, peaks[:count]

    def _in_range(self, peaks: Sequence[Tensor], dtype: torch.dtype, where: str, entry: int = 0) -> None:
        """Raise unless every peak leaves the headroom of the layer that acts on it; peaks[i] enters layers[i+entry]."""
        layers = self.sequence()
        for index, value in enumerate(torch.stack(list(peaks)).tolist() if peaks else []):
            after = layers[index + entry] if index + entry < len(layers) else None
            limit = 2.0 ** MANTISSA[dtype] * self.grid / (after.headroom if isinstance(after, Transition) else 1.0)
            if not value < limit:
                raise ValueError(
                    f"y, v: expected finite values below {limit:g} in absolute value, the range in which exact=True "
                    f"with grid={self.grid:g} adds exactly in {dtype}; got {value:g} in {where.format(index)}"
                )


class Telegraph(ReversibleStack):
    """The telegraph flow of one module: the same ``layer`` applied ``steps`` times with shared parameters.

    Source: arXiv 1905.10484, eq. 3, with a velocity field constant in time.

    Args:
        layer: the module f, same shape in and out.
        steps: number of steps.
        h: step size.
        exact: bit-exact reversal.
        options: the other arguments of `ReversibleStack`.
    """

    def __init__(self, layer: nn.Module, steps: int, h: float = 0.1, exact: bool = False, **options) -> None:
        super().__init__([layer], h, exact, **options)
        self.steps = check.positive_int("steps", steps)

    def sequence(self) -> Sequence[nn.Module]:
        """Return the module ``steps`` times."""
        return [self.layers[0]] * self.steps

    def extra_repr(self) -> str:
        """Return the numbers of the flow."""
        return f"steps={self.steps}, {super().extra_repr()}"
