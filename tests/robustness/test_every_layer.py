"""Every public layer in one graph, under autocast, with every bad argument: the lists come from the public names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from .calls import ELSEWHERE, FUNCTIONS, LAYERS, ROOMS, find, outputs, public


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return find(name)(**LAYERS[name][0])


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_here(room: str) -> None:
    known = set(LAYERS) | set(FUNCTIONS) | set(ELSEWHERE)
    assert public(room) <= known, f"enter a good call in tests/robustness/calls.py: {sorted(public(room) - known)}"


@pytest.mark.parametrize("name", LAYERS)
def test_one_graph_for_compile(name: str) -> None:
    """In evaluation mode without gradients, where reversible stacks too are one graph."""
    layer, inputs = build(name).eval(), LAYERS[name][1]
    torch._dynamo.reset()
    with torch.no_grad():
        expected = outputs(layer(*inputs))
        came = outputs(torch.compile(layer, fullgraph=True, backend="aot_eager")(*inputs))
    for a, b in zip(came, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_autocast(name: str) -> None:
    """bfloat16 on the CPU: finite and near the full precision, gradients finite."""
    layer, inputs = build(name).eval(), LAYERS[name][1]
    expected = outputs(layer(*inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        came = outputs(layer(*inputs))
    for a, b in zip(came, expected, strict=True):
        assert (a.to(b.dtype) - b).norm() <= 0.05 * b.norm()
    loss = sum(t.abs().square().sum() for t in came)
    parameters = [p for p in layer.parameters() if p.requires_grad]
    if parameters:
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in grads)
