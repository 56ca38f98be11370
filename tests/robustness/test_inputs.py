"""Inputs of every layer and network, bent: a right answer, or an error that names the input; never silent NaN."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import pdegcnn as pg

from .calls import LAYERS, MESH, S2, SE2, SO3, find, outputs

CLOTHES: dict[str, Callable[[Tensor], Tensor]] = {
    "requires_grad": lambda x: x.detach().clone().requires_grad_(),
    "non-contiguous": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1) if x.ndim else x,
    "every other": lambda x: torch.stack((x, x), -1)[..., 0],
    "batch last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0) if x.ndim else x,
    "expanded batch": lambda x: x[:1].expand(x.shape) if x.ndim and len(x) else x,
    "expanded end": lambda x: x[..., :1].expand(x.shape) if x.ndim and x.shape[-1] else x,
    "conjugate": lambda x: x.conj(),
    "offset": lambda x: torch.cat((x.flatten()[:1], x.flatten()))[1:].view(x.shape) if x.numel() else x,
}
"""Other memory, no other dtype and shape: the answer must be the one for a plain copy."""
NUMBERS: dict[str, Callable[[Tensor], Tensor]] = {
    "negative": lambda x: -x,
    "large": lambda x: x * 1e3,
    "tiny": lambda x: x * 1e-38,
    "zero": lambda x: x * 0,
}
SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "empty batch": lambda x: x[:0],
    "one of the batch": lambda x: x[:1],
    "no channels": lambda x: x[:, :0],
    "empty row": lambda x: x[..., :0, :],
    "empty end": lambda x: x[..., :0],
    "scalar": lambda x: x.flatten()[0] if x.numel() else x.sum(),
    "flat": lambda x: x.flatten(),
    "one more axis": lambda x: x[None],
    "two more axes": lambda x: x[..., None, None],
    "one axis less": lambda x: x[0] if len(x) else x.flatten(0, 1),
    "last axis less": lambda x: x.sum(-1),
    "more channels": lambda x: torch.cat((x, x[:, :1]), 1),
    "one channel": lambda x: x[:, :1],
    "longer third axis": lambda x: torch.cat((x, x[:, :, :1]), 2),
    "short third axis": lambda x: x[:, :, :1],
    "longer end": lambda x: torch.cat((x, x[..., :1]), -1),
    "short end": lambda x: x[..., :1],
    "transposed": lambda x: x.transpose(1, -1),
}
KINDS: dict[str, Callable[[Tensor], Any]] = {
    "integers": lambda x: x.real.long(),
    "booleans": lambda x: x != 0,
    "double": lambda x: x.to(torch.complex128 if x.is_complex() else torch.float64),
    "half": lambda x: x.real.to(torch.float16),
    "bfloat": lambda x: x.real.to(torch.bfloat16),
    "complex, or real": lambda x: x.real if x.is_complex() else x.to(torch.complex64),
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.detach().to_sparse(),
    "numpy": lambda x: x.detach().resolve_conj().numpy(),
    "list": lambda x: x.tolist(),
    "tuple": lambda x: (x,),
    "none": lambda x: None,
    "number": lambda x: 1.0,
    "word": lambda x: "x",
}
BROKEN = {"nan": math.nan, "inf": math.inf}
GUESTS = ("reversible.ReversibleStack", "reversible.Telegraph")
"""Their layers are torch's here, which refuse in their own words."""


def build(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The layer in evaluation mode, and its inputs by the names that errors call them by."""
    torch.manual_seed(0)
    arguments, inputs = LAYERS[name]
    layer = find(name)(**arguments).eval()
    first = layer[0] if isinstance(layer, nn.Sequential) else layer
    return layer, dict(zip(inspect.signature(first.forward).parameters, inputs, strict=False))


def places(inputs: dict[str, Any]) -> list[tuple[str, int | None]]:
    """Where tensors stand among the inputs: an argument, and a spin where the argument is a dictionary."""
    plain: list[tuple[str, int | None]] = [(n, None) for n, v in inputs.items() if isinstance(v, Tensor)]
    return plain + [(n, spin) for n, v in inputs.items() if isinstance(v, dict) for spin in v]


def bent(inputs: dict[str, Any], place: tuple[str, int | None], change: Callable[[Tensor], Any]) -> dict[str, Any]:
    """The inputs with one tensor changed."""
    name, spin = place
    value = inputs[name]
    return {**inputs, name: change(value) if spin is None else {**value, spin: change(value[spin])}}


def everywhere(inputs: dict[str, Any], change: Callable[[Tensor], Any]) -> dict[str, Any]:
    """The inputs with all tensors changed alike."""
    for place in places(inputs):
        inputs = bent(inputs, place, change)
    return inputs


def run(layer: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    with torch.no_grad():
        return outputs(layer(*inputs.values()))


def near(came: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(came, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, equal_nan=True)


def settle(name: str, layer: nn.Module, inputs: dict[str, Any], said: str) -> None:
    """An error that names the input and what was expected; or finite numbers, those of each item of the batch alone."""
    try:
        came = run(layer, inputs)
    except (ValueError, TypeError) as error:
        assert any(n in str(error) for n in inputs), f"{name}, {said}: {error}"
        assert "expected" in str(error), f"{name}, {said}: {error}"
        return
    except RuntimeError as error:
        assert name in GUESTS, f"{name}, {said}: {type(error).__name__}: {error}"
        with pytest.raises(RuntimeError):
            run(LAYERS[name][0].get("layer") or LAYERS[name][0]["layers"][0], inputs)
        return
    if any(t.is_meta for t in came) or name in GUESTS:  # without a batch, a convolution's first axis is the channels
        return
    assert all(bool(t.isfinite().all()) for t in came), f"{name}, {said}: NaN or infinity out of finite numbers"
    first = {k: ({s: u[:1] for s, u in v.items()} if isinstance(v, dict) else v) for k, v in inputs.items()}
    first = {k: v[:1] if isinstance(v, Tensor) else v for k, v in first.items()}
    for a, b in zip(came, run(layer, first), strict=True):
        kind = 3e-2 if a.dtype in (torch.float16, torch.bfloat16) else 1e-4
        torch.testing.assert_close(a[:1], b, atol=kind, rtol=kind, msg=lambda m: f"{name}, {said}: {m}")


@pytest.mark.parametrize("name", LAYERS)
def test_each_bend(name: str) -> None:
    layer, inputs = build(name)
    run(layer, inputs)
    for place in places(inputs):
        for said, change in (SHAPES | KINDS | NUMBERS).items():
            settle(name, layer, bent(inputs, place, change), f"{place} {said}")
        for change in CLOTHES.values():
            plain = bent(inputs, place, lambda x, change=change: change(x).detach().resolve_conj().clone().contiguous())
            near(run(layer, bent(inputs, place, change)), run(layer, plain))
    for change in SHAPES.values():
        settle(name, layer, everywhere(inputs, change), "all tensors")


@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
@settings(max_examples=15)
def test_bends_of_bends(name: str, data: st.DataObject) -> None:
    """Two changes of shape or numbers, one of memory, one of kind."""
    layer, inputs = build(name)
    place, said = data.draw(st.sampled_from([None, *places(inputs)])), []
    for table in (SHAPES | NUMBERS, SHAPES, CLOTHES, KINDS | {"same": lambda x: x}):
        said.append(data.draw(st.sampled_from(list(table))))
        change = table[said[-1]]
        if all(x.ndim > 2 for x in outputs(list(inputs.values()))):
            inputs = everywhere(inputs, change) if place is None else bent(inputs, place, change)
    settle(name, layer, inputs, f"{place} {said}")


@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
@settings(max_examples=6)
def test_broken_numbers_are_seen(name: str, data: st.DataObject) -> None:
    """NaN or infinity in the last item: an error, or seen in the answer for that item and for no other."""
    layer, inputs = build(name)
    place, kind = data.draw(st.sampled_from(places(inputs))), data.draw(st.sampled_from(list(BROKEN)))
    share = data.draw(st.sampled_from([0.0, 0.3, 0.99, None]))

    def breaks(x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        last = x[-1].view(-1)
        last[slice(None) if share is None else int(share * len(last))] = BROKEN[kind]
        return x

    try:
        came = run(layer, bent(inputs, place, breaks))
    except ValueError as error:
        assert "finite" in str(error), error
        return
    whole = run(layer, inputs)
    assert not all(bool(t[-1].isfinite().all()) for t in came), f"{name}, {place}, {kind}: silent"
    near([t[:-1] for t in came], [t[:-1] for t in whole])


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_batch_trains(name: str) -> None:
    """An empty result; gradients are zero and statistics stay, as of torch's own layers."""
    layer, inputs = build(name)
    layer.train()
    before = {k: v.clone() for k, v in layer.state_dict().items() if "num_batches" not in k}
    result = outputs(layer(*everywhere(inputs, lambda x: x[:0].clone().requires_grad_()).values()))
    assert [t.shape[1:] for t in result] == [t.shape[1:] for t in run(layer.eval(), inputs)]
    assert all(len(t) == 0 for t in result)
    if any(t.requires_grad for t in result):
        torch.stack([t.abs().sum() for t in result]).sum().backward()
    grads = [p.grad for p in layer.parameters() if p.grad is not None]
    assert all(bool((g == 0).all()) for g in grads)
    assert all(v.equal(layer.state_dict()[k]) for k, v in before.items())


EMPTY = {
    "exact kernels": (pg.nn.PDELayer(SE2, 2, 2, kernel_size="auto"), (0, 2, 4, 6, 7)),
    "spectral": (pg.nn.PDELayer(SE2, 2, 2, convection="spectral", diffusion="spectral"), (0, 2, 4, 6, 7)),
    "on S2": (pg.nn.PDELayer(S2, 2, 2, ("dilation", "diffusion"), kernel_size="auto"), (0, 2, *S2.grid.shape)),
    "on SO(3)": (pg.nn.PDELayer(SO3, 2, 2, kernel_size="auto"), (0, 2, 3, *SO3.grid.shape)),
    "between samples": (pg.nn.PDELayer(SO3, 2, 2, ("erosion",), subgrid="newton"), (0, 2, 3, *SO3.grid.shape)),
    "finer samples": (pg.nn.PDELayer(SO3, 2, 2, ("dilation",), oversample=2), (0, 2, 3, *SO3.grid.shape)),
    "on a mesh": (pg.nn.PDELayer(MESH, 2, 2, kernel_size="auto"), (0, 2, 4, MESH.vertex_count)),
    "cake wavelets": (pg.nn.Lift(SE2, 2, 3, filters="cake"), (0, 2, 6, 7)),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("mode", [True, False])
def test_an_empty_batch_for_every_solver(name: str, mode: bool) -> None:
    layer, shape = EMPTY[name]
    out = layer.train(mode)(torch.zeros(shape, requires_grad=True))
    assert len(out) == 0
    layer.zero_grad()
    out.sum().backward()
    assert all(p.grad is None or bool((p.grad == 0).all()) for p in layer.parameters())


def test_conjugate_gradients_go_on_for_the_others_of_a_batch() -> None:
    layer, u = pg.gauge.Diffusion(2, 1).double(), torch.randn(2, 2, MESH.vertex_count, dtype=torch.complex128)
    expected = run(layer, {"features": {1: u}, "mesh": MESH})[0]
    u[1, 0, 0] = math.nan
    came = run(layer, {"features": {1: u}, "mesh": MESH})[0]
    assert came[1].isnan().any()
    torch.testing.assert_close(came[0], expected[0])
