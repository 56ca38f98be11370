"""What torch promises of any module, for every public layer: hooks, copies, moves, other weights, the meta device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from pdegcnn.nn import terms
from pdegcnn.pde import spherical
from pdegcnn.reversible import ReversibleStack

from .calls import FUNCTIONS, LAYERS, find, outputs


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return find(name)(**copy.deepcopy(LAYERS[name][0]))


def moved(value: Any, dtype: torch.dtype) -> Any:
    """Inputs in another precision; meshes have none."""
    if isinstance(value, Tensor):
        return value.to(dtype.to_complex() if value.is_complex() else dtype)
    if isinstance(value, dict):
        return {k: moved(v, dtype) for k, v in value.items()}
    return value


def equal(came: Any, wanted: Any) -> None:
    for a, b in zip(outputs(came), outputs(wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def places(layer: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Every module with each of its own parameters."""
    for module in list(layer.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_floating_point():
                yield module, name


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not filled after ``to_empty`` holds sevens, never zeros by luck."""
    inner = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: nn.init.constant_(inner(*a, **k), 7))


@pytest.mark.usefixtures("unfilled")
@pytest.mark.parametrize("name", LAYERS)
def test_from_the_meta_device(name: str) -> None:
    """``to_empty``, with or without ``reset_parameters``, then ``load_state_dict``; or at once with ``assign``."""
    layer, inputs = build(name).eval(), LAYERS[name][1]
    wanted, state = layer(*inputs), layer.state_dict()
    with torch.device("meta"):
        twin = build(name).eval()
    assigned = copy.deepcopy(twin)
    twin.to_empty(device="cpu")
    twin.load_state_dict(state)
    equal(twin(*inputs), wanted)
    twin.to_empty(device="cpu")
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert all(not (p == 7).any() for p in twin.parameters())
    assert all(b.isfinite().all() for b in map(torch.sum, twin.state_dict().values()))
    twin.load_state_dict(state)
    equal(twin(*inputs), wanted)
    assigned.load_state_dict(copy.deepcopy(state), assign=True)
    equal(assigned(*inputs), wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_moves_round_once(name: str) -> None:
    """Tables are those of a layer made in double precision, though this one was in half precision before."""
    layer = build(name).eval().half().double()
    inputs = tuple(moved(x, torch.float64) for x in LAYERS[name][1])
    fresh = build(name).eval().double()
    fresh.load_state_dict(layer.state_dict())
    equal(layer(*inputs), fresh(*inputs))
    assigned = build(name).eval()
    assigned.load_state_dict(layer.state_dict(), assign=True)
    equal(assigned.double()(*inputs), fresh(*inputs))


@pytest.mark.parametrize("name", LAYERS)
def test_other_weights_are_seen(name: str) -> None:
    """However they come: by parametrisation, ``functional_call``, ``data`` or an update in place, and after a run."""
    layer, inputs = build(name).eval(), LAYERS[name][1]
    state = {k: v + 0.1 if v.is_floating_point() else v for k, v in layer.state_dict().items()}
    fresh = build(name).eval()
    fresh.load_state_dict(state)
    twins = [copy.deepcopy(layer) for _ in range(4)]
    with torch.no_grad():
        wanted = fresh(*inputs)
        for twin in twins:
            twin(*inputs)
        equal(functional_call(twins[0], state, inputs), wanted)
        equal(twins[0](*inputs), layer(*inputs))
        for key, parameter in [*twins[1].named_parameters(), *twins[1].named_buffers()]:
            if key in state:
                parameter.data = state[key]
        equal(twins[1](*inputs), wanted)
        twins[2].load_state_dict(state)
        equal(twins[2](*inputs), wanted)
        for module, key in places(twins[3]):
            parametrize.register_parametrization(module, key, Raised())
        for key, value in twins[3].named_buffers():
            if key in state:
                value.copy_(state[key])
        equal(twins[3](*inputs), wanted)


def with_gradients(value: Any) -> Any:
    """The same inputs as leaves of a graph."""
    if isinstance(value, Tensor):
        return value.clone().requires_grad_(value.is_floating_point() or value.is_complex())
    return {k: with_gradients(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("name", [*LAYERS, *FUNCTIONS])
def test_what_inference_mode_leaves_behind_can_be_trained_with(name: str) -> None:
    """Tables that are made when first needed, and kept, serve later calls with gradients."""
    spherical._cached.cache_clear()
    if name in LAYERS:  # copied meshes have kept nothing yet
        call, inputs = build(name), copy.deepcopy(LAYERS[name][1])
        named = dict(enumerate(inputs))
    else:
        call, named = find(name), copy.deepcopy(FUNCTIONS[name])
    run = (lambda kwargs: call(*kwargs.values())) if name in LAYERS else (lambda kwargs: call(**kwargs))
    with torch.inference_mode():
        run(named)
    came = [t for t in outputs(run({k: with_gradients(v) for k, v in named.items()})) if t.requires_grad]
    torch.autograd.backward([t.abs().sum() for t in came])


class Raised(nn.Module):
    """A parametrisation."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1


@pytest.mark.parametrize("name", LAYERS)
def test_hooks_see_the_same_modules_on_large_signals(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And change nothing: forward hooks before and after, and those of the backward pass."""
    layer, inputs = build(name).eval(), LAYERS[name][1]
    wanted = layer(*inputs)
    seen: list[tuple[str, list[tuple[int, ...]]]] = []
    with nn.modules.module.register_module_forward_hook(
        lambda m, _, out: seen.append((type(m).__name__, [tuple(t.shape) for t in outputs(out)]))
    ):
        with torch.no_grad():
            layer(*inputs)
            small, seen = seen, []
            monkeypatch.setattr(terms, "STREAM_ABOVE", 0)
            large = layer(*inputs)
        assert seen == small
    for a, b in zip(outputs(large), outputs(wanted), strict=True):
        torch.testing.assert_close(a, b)
    replayed = {m for stack in layer.modules() if isinstance(stack, ReversibleStack) for m in stack.modules()}
    for module in set(layer.modules()) - replayed:  # layers of a stack have tests of their own
        module.register_full_backward_hook(lambda *_: None)
        module.register_full_backward_pre_hook(lambda *_: None)
    came = layer(*inputs)
    for a, b in zip(outputs(came), outputs(wanted), strict=True):
        torch.testing.assert_close(a, b)
    loss = sum(t.abs().square().sum() for t in outputs(came))
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()
