"""Malformed arguments and inputs of everything public: a right answer or an error that names the argument.

Errors are of a kind that says what is wrong; no NaN comes silently out of finite numbers.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import pdegcnn as pg

from ..cases import FUNCTIONS, LAYERS, MAKERS, MESH, METHODS, PUBLIC_LAYERS, Case, outputs

EVERY_LAYER = pytest.mark.parametrize("case", PUBLIC_LAYERS, ids=str)
EVERY_MAKER = pytest.mark.parametrize("case", MAKERS, ids=str)

WRONG_NUMBERS = [
    -1,
    0,
    1,
    2,
    3,
    2**40,
    -(2**40),
    1.5,
    math.nan,
    math.inf,
    -math.inf,
    True,
    None,
    "x",
    b"x",
    [],
    (),
    {},
    (3, 3),
]
OTHERS = [*WRONG_NUMBERS, object(), "nonsense", int, [1, "a"], {"a": 1}]


def malformed_tensors(x: Tensor) -> list[Any]:
    """The same numbers in another layout, and other numbers and shapes."""
    if not (x.is_floating_point() or x.is_complex()):
        return [-x, x + 100, x * 2**40, x if x.ndim < 2 else x.mT, x.int(), *malformed_tensors(x.double())]
    variants = {
        "non-contiguous": lambda: (
            x.mT.contiguous().mT if x.ndim > 1 else (torch.stack((x, x), 1)[:, 0] if x.ndim else x)
        ),
        "requires_grad": lambda: x.clone().requires_grad_(),
        "expanded": lambda: x[:1].expand(x.shape) if x.ndim else x,
        "nan": lambda: torch.full_like(x, math.nan),
        "inf": lambda: torch.full_like(x, math.inf),
        "huge": lambda: x * 1e30,
        "tiny": lambda: x * 1e-38,
        "negative": lambda: -x.abs() - 1 if not x.is_complex() else -x,
        "empty": lambda: x[:0] if x.ndim else x.new_zeros(0),
        "empty end": lambda: x[..., :0] if x.ndim else x.new_zeros(0),
        "scalar": lambda: x.flatten()[0],
        "more axes": lambda: x[None, None],
        "fewer axes": lambda: x[0] if x.ndim else x,
        "short": lambda: x[..., :1] if x.ndim else x,
        "integers": lambda: x.real.long() if x.is_complex() else x.long(),
        "booleans": lambda: x != 0,
        "complex": lambda: x.to(torch.complex64) if not x.is_complex() else x.real,
        "double": lambda: x.to(torch.complex128 if x.is_complex() else torch.float64),
        "half": lambda: x if x.is_complex() else x.to(torch.float16),
        "bfloat": lambda: x if x.is_complex() else x.to(torch.bfloat16),
        "meta": lambda: x.to("meta"),
        "sparse": lambda: x.to_sparse() if x.ndim and not x.is_complex() else x,
    }
    return [make() for make in variants.values()]


def malformed_variants(value: Any) -> list[Any]:
    """Bad and unusual values in the place of a good one."""
    if isinstance(value, Tensor):
        return malformed_tensors(value) + OTHERS
    if isinstance(value, dict) and any(isinstance(v, Tensor) for v in value.values()):
        changed = [{**value, k: t} for k in value for t in malformed_tensors(value[k])]
        return [*changed, {}, {-1: value[0]}, {"a": value[0]}, {0: value[1]}, *OTHERS]
    return OTHERS


def finite(value: Any) -> bool:
    return all(bool(t.isfinite().all()) for t in outputs(value) if not t.is_meta)


def assert_valid_or_clear_error(case: Case, given_: dict[str, Any], changed: str) -> Any:
    """Call; errors must be of the kind that says what is wrong, and no NaN may come out of finite numbers."""
    name = case.name
    torch.manual_seed(0)
    random.seed(0)
    moderate = all(
        t.is_meta or float(t.to_dense().to(torch.complex128).abs().max()) < 1e20
        for t in outputs(list(given_.values()))
        if t.numel()
    )
    try:
        result = case.make(**given_)
    except (ValueError, TypeError) as error:
        assert str(error).strip(), f"{name}({changed}=...): an error without words"
        known = [changed, *(n for n in given_ if n != changed), "argument", "expected", "layers"]
        assert any(word in str(error) for word in known), f"{name}({changed}): {error}"
        return None
    except RuntimeError as error:
        assert "allocate" in str(error), f"{name}({changed}): {error}"  # more memory than there is
        return None
    if moderate and finite(list(given_.values())):
        assert finite(result), f"{name}({changed}={given_[changed]!r}): NaN or infinity out of finite numbers"
    return result


@pytest.mark.parametrize("case", [*FUNCTIONS, *METHODS], ids=str)
def test_functions(case: Case) -> None:
    """Every argument malformed in every way, the others good."""
    case.make(**case.arguments)  # the good call is one
    for changed, good in case.arguments.items():
        for value in malformed_variants(good):
            assert_valid_or_clear_error(case, {**case.arguments, changed: value}, changed)


CALLED = {
    "convection": "method", "diffusion": "method",  # of a PDE layer: the methods of its terms
    "vertices": "faces", "lengths": "faces",  # what corners make of triangles
    "form": "metric", "initial": "alpha",  # of a parameter: the argument of the layer that has it
    "classes": "out_channels", "logits": "bias", "width": "channels",  # of a network: the argument of its layer
}  # fmt: skip
"""Arguments whose errors come from a layer inside, under the layer's name for them."""


def constructor_arguments(case: Case) -> list[str]:
    """Names of the constructor's arguments, except where and in what dtype the parameters live."""
    parameters = inspect.signature(case.make).parameters.values()
    plain = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return [n for n in dict.fromkeys([*plain, *case.arguments]) if n not in ("device", "dtype")]


def assert_made_or_clear_error(case: Case, changed: dict[str, Any]) -> None:
    """Build with strange arguments: something, or an error that says which argument."""
    try:
        made = case.make(**{**case.arguments, **changed})
    except (ValueError, TypeError) as error:
        words = [word for argument in changed for word in (argument, CALLED.get(argument, argument))]
        assert any(word in str(error) for word in words), f"{case.name}({changed}): {error}"
        return
    assert made is not None


@EVERY_LAYER
def test_constructors(case: Case) -> None:
    """Every argument of every layer and network, replaced by numbers, words and objects that make no sense there."""
    for changed in constructor_arguments(case):
        for value in [*OTHERS, torch.zeros(2)]:
            torch.manual_seed(0)
            assert_made_or_clear_error(case, {changed: value})


STRANGE = st.one_of(
    st.sampled_from(
        [*OTHERS, 2**31, 2**63, 10**400, -0.0, 1e300, 5e-324, np.float64(0.7), np.float32(0.7), np.int64(3)]
    ),
    st.sampled_from([np.bool_(True), np.array([3, 3]), torch.ones(2), torch.tensor(3), torch.tensor(0.7), 3 + 0j]),
    st.sampled_from([range(3), frozenset({3}), [3, [3]], (3, None), ("dilation", 3), {0: 0}, {0: True}, torch.float32]),
    st.integers(-3, 7),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-1, 3), max_size=3),
)


@EVERY_LAYER
@given(data=st.data())
@settings(max_examples=30)
def test_constructors_with_several(case: Case, data: st.DataObject) -> None:
    """One to three strange arguments at once."""
    torch.manual_seed(0)
    names = data.draw(st.lists(st.sampled_from(constructor_arguments(case)), min_size=1, max_size=3, unique=True))
    assert_made_or_clear_error(case, {n: data.draw(STRANGE) for n in names})


@EVERY_MAKER
def test_makers(case: Case) -> None:
    """Spaces, grids, parameters and transforms; whatever is malformed may also be left as it is."""
    case.make(**case.arguments)
    for changed, value in case.arguments.items():
        for strange in [*malformed_variants(value), torch.ones(2)]:
            assert_made_or_clear_error(case, {changed: strange})


@EVERY_MAKER
@given(data=st.data())
@settings(max_examples=30)
def test_makers_with_several(case: Case, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(list(case.arguments)), min_size=1, max_size=3, unique=True))
    assert_made_or_clear_error(case, {n: data.draw(STRANGE) for n in names})


@pytest.mark.parametrize("case", [*FUNCTIONS, *METHODS], ids=str)
@given(data=st.data())
@settings(max_examples=30)
def test_functions_with_several(case: Case, data: st.DataObject) -> None:
    """As many for functions, whose tensors are malformed."""
    good = dict(case.arguments)
    names = data.draw(st.lists(st.sampled_from(list(good)), min_size=1, max_size=3, unique=True))
    given_ = dict(good)
    for n in names:
        variants = st.one_of(st.sampled_from(malformed_variants(good[n])), STRANGE) if outputs(good[n]) else STRANGE
        given_[n] = data.draw(variants)
    assert_valid_or_clear_error(case, given_, names[0])


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
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


def valid_call(case: Case) -> tuple[nn.Module, dict[str, Any]]:
    """The layer in evaluation mode, and its inputs by the names that errors call them by."""
    layer = case.build().eval()
    return layer, case.named_inputs(layer)


def places(inputs: dict[str, Any]) -> list[tuple[str, int | None]]:
    """Where tensors stand among the inputs: an argument, and a spin where the argument is a dictionary."""
    plain: list[tuple[str, int | None]] = [(n, None) for n, v in inputs.items() if isinstance(v, Tensor)]
    return plain + [(n, spin) for n, v in inputs.items() if isinstance(v, dict) for spin in v]


def with_change(
    inputs: dict[str, Any], place: tuple[str, int | None], change: Callable[[Tensor], Any]
) -> dict[str, Any]:
    """The inputs with one tensor changed."""
    name, spin = place
    value = inputs[name]
    return {**inputs, name: change(value) if spin is None else {**value, spin: change(value[spin])}}


def everywhere(inputs: dict[str, Any], change: Callable[[Tensor], Any]) -> dict[str, Any]:
    """The inputs with all tensors changed alike."""
    for place in places(inputs):
        inputs = with_change(inputs, place, change)
    return inputs


def run(layer: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    with torch.no_grad():
        return outputs(layer(*inputs.values()))


def near(came: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(came, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, equal_nan=True)


def assert_right_or_clear_error(case: Case, layer: nn.Module, inputs: dict[str, Any], said: str) -> None:
    """Check for an error that names the input and what was expected, or for finite numbers, those of an item alone."""
    name = case.name
    try:
        came = run(layer, inputs)
    except (ValueError, TypeError) as error:
        assert any(n in str(error) for n in inputs), f"{name}, {said}: {error}"
        assert "expected" in str(error), f"{name}, {said}: {error}"
        return
    except RuntimeError as error:
        assert name in GUESTS, f"{name}, {said}: {type(error).__name__}: {error}"
        with pytest.raises(RuntimeError):
            run(case.arguments.get("layer") or case.arguments["layers"][0], inputs)
        return
    if any(t.is_meta for t in came) or name in GUESTS:  # without a batch, a convolution's first axis is the channels
        return
    assert all(bool(t.isfinite().all()) for t in came), f"{name}, {said}: NaN or infinity out of finite numbers"
    first = {k: ({s: u[:1] for s, u in v.items()} if isinstance(v, dict) else v) for k, v in inputs.items()}
    first = {k: v[:1] if isinstance(v, Tensor) else v for k, v in first.items()}
    for a, b in zip(came, run(layer, first), strict=True):
        kind = 3e-2 if a.dtype in (torch.float16, torch.bfloat16) else 1e-4
        torch.testing.assert_close(a[:1], b, atol=kind, rtol=kind, msg=lambda m: f"{name}, {said}: {m}")


@EVERY_LAYER
def test_each_change_of_an_input(case: Case) -> None:
    layer, inputs = valid_call(case)
    run(layer, inputs)
    for place in places(inputs):
        for said, change in (SHAPES | KINDS | NUMBERS).items():
            assert_right_or_clear_error(case, layer, with_change(inputs, place, change), f"{place} {said}")
        for change in LAYOUTS.values():
            plain = with_change(
                inputs, place, lambda x, change=change: change(x).detach().resolve_conj().clone().contiguous()
            )
            near(run(layer, with_change(inputs, place, change)), run(layer, plain))
    for change in SHAPES.values():
        assert_right_or_clear_error(case, layer, everywhere(inputs, change), "all tensors")


@EVERY_LAYER
@given(data=st.data())
@settings(max_examples=15)
def test_changes_of_changed_inputs(case: Case, data: st.DataObject) -> None:
    """Two changes of shape or numbers, one of memory, one of kind."""
    layer, inputs = valid_call(case)
    place, said = data.draw(st.sampled_from([None, *places(inputs)])), []
    for table in (SHAPES | NUMBERS, SHAPES, LAYOUTS, KINDS | {"same": lambda x: x}):
        said.append(data.draw(st.sampled_from(list(table))))
        change = table[said[-1]]
        if all(x.ndim > 2 for x in outputs(list(inputs.values()))):
            inputs = everywhere(inputs, change) if place is None else with_change(inputs, place, change)
    assert_right_or_clear_error(case, layer, inputs, f"{place} {said}")


@EVERY_LAYER
@given(data=st.data())
@settings(max_examples=6)
def test_broken_numbers_are_seen(case: Case, data: st.DataObject) -> None:
    """NaN or infinity in the last item: an error, or seen in the answer for that item and for no other."""
    layer, inputs = valid_call(case)
    place, kind = data.draw(st.sampled_from(places(inputs))), data.draw(st.sampled_from(list(BROKEN)))
    share = data.draw(st.sampled_from([0.0, 0.3, 0.99, None]))

    def breaks(x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        last = x[-1].view(-1)
        last[slice(None) if share is None else int(share * len(last))] = BROKEN[kind]
        return x

    try:
        came = run(layer, with_change(inputs, place, breaks))
    except ValueError as error:
        assert "finite" in str(error), error
        return
    whole = run(layer, inputs)
    assert not all(bool(t[-1].isfinite().all()) for t in came), f"{case.name}, {place}, {kind}: silent"
    near([t[:-1] for t in came], [t[:-1] for t in whole])


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_an_empty_batch_trains(case: Case) -> None:
    """An empty result; gradients are zero and statistics stay, as of torch's own layers, in training and evaluation."""
    layer, inputs = valid_call(case)
    shapes = [t.shape[1:] for t in run(layer, inputs)]
    before = {k: v.clone() for k, v in layer.state_dict().items() if "num_batches" not in k}
    for mode in (True, False):
        empty = everywhere(inputs, lambda x: x[:0].clone().requires_grad_())
        result = outputs(layer.train(mode)(*empty.values()))
        assert [t.shape for t in result] == [(0, *shape) for shape in shapes]
        if any(t.requires_grad for t in result):
            torch.stack([t.abs().sum() for t in result]).sum().backward()
        grads = [p.grad for p in layer.parameters() if p.grad is not None]
        assert all(bool((g == 0).all()) for g in grads)
        assert all(v.equal(layer.state_dict()[k]) for k, v in before.items())


def test_conjugate_gradients_go_on_for_the_others_of_a_batch() -> None:
    layer, u = pg.gauge.Diffusion(2, 1).double(), torch.randn(2, 2, MESH.vertex_count, dtype=torch.complex128)
    expected = run(layer, {"features": {1: u}, "mesh": MESH})[0]
    u[1, 0, 0] = math.nan
    came = run(layer, {"features": {1: u}, "mesh": MESH})[0]
    assert came[1].isnan().any()
    torch.testing.assert_close(came[0], expected[0])
