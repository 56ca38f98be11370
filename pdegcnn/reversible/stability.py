"""Stability of a stack: the step's norm, growth with depth, smoothness of the kernels in depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor

from pdegcnn import _checks as check
from pdegcnn.reversible.engine import step
from pdegcnn.reversible.stack import ReversibleStack
from pdegcnn.reversible.transition import Transition


@dataclass(frozen=True)
class StabilityReport:
    r"""The results of `stability_report`.

    Attributes:
        step_norms: for each layer, an estimate of :math:`h^2 \|J_f\|` at the given state. A leapfrog step with a
            symmetric negative Jacobian is stable only if it is at most 4; with kernels that vary in depth this is not
            sufficient.
        growths: for each layer (and transition), the factor by which it changed the norm of a random perturbation of
            (y, v) that went through all layers before it.
    """

    step_norms: tuple[float, ...]
    growths: tuple[float, ...]

    @property
    def growth(self) -> float:
        """The largest growth of the perturbation up to any depth, at least 1."""
        return max(1.0, *accumulate(self.growths, mul))

    @property
    def growth_per_layer(self) -> float:
        """The geometric mean of the growths; its ``depth``-th power estimates the growth of a deeper stack."""
        return math.prod(self.growths) ** (1 / len(self.growths))

    @property
    def bounded(self) -> bool:
        r"""Whether the necessary condition :math:`h^2 \|J_f\| \le 4` holds for every layer."""
        return all(n <= 4.0 for n in self.step_norms)


def stability_report(
    stack: ReversibleStack, y: Tensor, v: Tensor | None = None, *, iterations: int = 8
) -> StabilityReport:
    """Measure how a stack changes a small perturbation of the state ``y [B,C,...]``.

    Norms of Jacobians come from power iteration on :math:`J^T J`, so they are lower bounds. Sources: arXiv 1905.10484,
    section 3.1; Haber, Ruthotto, arXiv 1705.03341, section 3.

    Args:
        stack: the stack, in any mode; use evaluation mode if it holds dropout or batch norm.
        y: state.
        v: velocity; None: zero.
        iterations: steps of power iteration.

    Raises:
        TypeError: if ``stack`` is not a `ReversibleStack`, ``iterations`` is not an int, or a state is not dense and
            real.
        ValueError: for zero iterations, an empty state, states of different shapes, or a state that is not finite.
    """
    check.kind("stack", stack, ReversibleStack, "a ReversibleStack")
    check.positive_int("iterations", iterations)
    v = None if v is None else check.tensor("v", v).detach()
    y, v, rule = stack._states(check.tensor("y", y).detach(), v)
    check.signal("y", y, y.ndim, "[B,C,...]")
    for name, state in (("y", y), ("v", v)):
        if check.has_values(state) and not bool(state.isfinite().all()):
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    y, v = y.contiguous(), v.contiguous()
    dy, dv = torch.randn_like(y), torch.zeros_like(v)
    scale = 1e-3 * y.norm().clamp_min(1e-3) / dy.norm()
    other = (y + scale * dy, v + dv)
    before = float((other[0] - y).norm())
    norms, growths = [], []
    for index, layer in enumerate(stack.sequence()):
        if not isinstance(layer, Transition):
            norms.append(rule.h2 * _jacobian_norm(layer, y if rule.inner is None else y.to(rule.inner), iterations))
        with torch.no_grad():
            y, v = step(layer, index, y, v, rule)
            other = step(layer, index, *other, rule)
        size = float(torch.stack(((other[0] - y).norm(), (other[1] - v).norm())).norm())
        growths.append(size / before if before else 1.0)
        before = size
    return StabilityReport(tuple(norms), tuple(growths))


def _jacobian_norm(layer: torch.nn.Module, y: Tensor, iterations: int) -> float:
    direction = torch.randn_like(y)
    value = 0.0
    out, pull = torch.func.vjp(layer, y)  # pyright: ignore
    for _ in range(iterations):
        direction = direction / direction.norm().clamp_min(1e-30)
        _, pushed = torch.func.jvp(layer, (y,), (direction,))  # pyright: ignore
        value = float(pushed.detach().norm())
        (direction,) = pull(pushed)
        direction = direction.detach()
    return value


def depth_smoothness(stack: ReversibleStack | Sequence[torch.nn.Module]) -> Tensor:
    r"""Return :math:`\sum_j \|\theta_{j+1} - \theta_j\|^2` over layers j: a penalty for kernels rough in depth.

    Neighbours are compared if they have the same type and parameters of the same shapes. Source: Haber, Ruthotto,
    *Stable Architectures for Deep Neural Networks*, arXiv 1705.03341, eq. 4.2.

    Args:
        stack: a `ReversibleStack`, or its layers in order.

    Raises:
        ValueError: if no two neighbours can be compared.
    """
    layers = stack.sequence() if isinstance(stack, ReversibleStack) else list(stack)
    terms = []
    for a, b in zip(layers[:-1], layers[1:]):
        p, q = dict(a.named_parameters()), dict(b.named_parameters())
        if type(a) is type(b) and p and all(n in q and q[n].shape == x.shape for n, x in p.items()):
            terms += [(q[n] - x).square().sum() for n, x in p.items()]
    if not terms:
        raise ValueError("stack: expected neighbouring layers of one type with equal parameter shapes, got none")
    return torch.stack(terms).sum()


def safe_initialise(stack: ReversibleStack, h2_norm2: float = 0.05) -> None:
    r"""Scale every layer that has ``cap_norm`` (the symmetric ones) so that :math:`h^2 \|K\|^2 \le` ``h2_norm2``.

    If kernels vary independently in depth, the condition :math:`\le 4` does not prevent growth; 0.05 does in practice.

    Args:
        stack: the stack.
        h2_norm2: the bound, positive.

    Raises:
        TypeError: if ``stack`` is not a `ReversibleStack`, or ``h2_norm2`` is not a number.
        ValueError: if ``h2_norm2`` is not positive and finite.
    """
    check.kind("stack", stack, ReversibleStack, "a ReversibleStack")
    check.interval("h2_norm2", h2_norm2, 0.0, math.inf, open_low=True)
    for layer in stack.sequence():
        cap = getattr(layer, "cap_norm", None)
        if cap is not None:
            cap((h2_norm2 / stack.rule.h2) ** 0.5)
