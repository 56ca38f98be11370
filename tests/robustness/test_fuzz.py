"""Bad arguments of every public function and layer: a right answer or an error that names the argument."""

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
from torch import Tensor

from .calls import FUNCTIONS, LAYERS, MAKERS, find, outputs

NUMBERS = [
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
OTHERS = [*NUMBERS, object(), "nonsense", int, [1, "a"], {"a": 1}]


def bent_tensors(x: Tensor) -> list[Any]:
    """The same numbers in other clothes, and other numbers and shapes."""
    if not (x.is_floating_point() or x.is_complex()):
        return [-x, x + 100, x * 2**40, x if x.ndim < 2 else x.mT, x.int(), *bent_tensors(x.double())]
    bends = {
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
    return [bend() for bend in bends.values()]


def bent(value: Any) -> list[Any]:
    """Bad and unusual values in the place of a good one."""
    if isinstance(value, Tensor):
        return bent_tensors(value) + OTHERS
    if isinstance(value, dict) and any(isinstance(v, Tensor) for v in value.values()):
        changed = [{**value, k: b} for k in value for b in bent_tensors(value[k])]
        return [*changed, {}, {-1: value[0]}, {"a": value[0]}, {0: value[1]}, *OTHERS]
    return OTHERS


def finite(value: Any) -> bool:
    return all(bool(t.isfinite().all()) for t in outputs(value) if not t.is_meta)


def settle(name: str, call: Any, given_: dict[str, Any], changed: str) -> Any:
    """Call; errors must be of the kind that says what is wrong, and no NaN may come out of finite numbers."""
    torch.manual_seed(0)
    random.seed(0)
    moderate = all(
        t.is_meta or float(t.to_dense().to(torch.complex128).abs().max()) < 1e20
        for t in outputs(list(given_.values()))
        if t.numel()
    )
    try:
        result = call(**given_)
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


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    """Every argument, bent in every way, the others good."""
    arguments = FUNCTIONS[name]
    find(name)(**arguments)  # the good call is one
    for changed, good in arguments.items():
        for value in bent(good):
            settle(name, find(name), {**arguments, changed: value}, changed)


CALLED = {
    "convection": "method", "diffusion": "method",  # of a PDE layer: the methods of its terms
    "vertices": "faces", "lengths": "faces",  # what corners make of triangles
    "form": "metric", "initial": "alpha",  # of a parameter: the argument of the layer that has it
    "classes": "out_channels", "logits": "bias", "width": "channels",  # of a network: the argument of its layer
}  # fmt: skip
"""Arguments whose errors come from a layer inside, under the layer's name for them."""


def options_of(name: str) -> list[str]:
    """Names of the constructor's arguments, but for where and in what dtype the parameters live."""
    parameters = inspect.signature(find(name)).parameters.values()
    plain = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return [n for n in dict.fromkeys([*plain, *LAYERS[name][0]]) if n not in ("device", "dtype")]


def settle_maker(name: str, make: Callable[..., Any], good: dict[str, Any], changed: dict[str, Any]) -> None:
    """Build with strange arguments: something, or an error that says which argument."""
    try:
        made = make(**{**good, **changed})
    except (ValueError, TypeError) as error:
        words = [word for argument in changed for word in (argument, CALLED.get(argument, argument))]
        assert any(word in str(error) for word in words), f"{name}({changed}): {error}"
        return
    assert made is not None


def settle_layer(name: str, changed: dict[str, Any]) -> None:
    settle_maker(name, find(name), LAYERS[name][0], changed)


@pytest.mark.parametrize("name", LAYERS)
def test_constructors(name: str) -> None:
    """Every argument of every layer and network, replaced by numbers, words and objects that make no sense there."""
    for changed in options_of(name):
        for value in [*OTHERS, torch.zeros(2)]:
            torch.manual_seed(0)
            settle_layer(name, {changed: value})


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


@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
@settings(max_examples=30)
def test_constructors_with_several(name: str, data: st.DataObject) -> None:
    """One to three strange arguments at once."""
    torch.manual_seed(0)
    names = data.draw(st.lists(st.sampled_from(options_of(name)), min_size=1, max_size=3, unique=True))
    settle_layer(name, {n: data.draw(STRANGE) for n in names})


@pytest.mark.parametrize("name", MAKERS)
def test_makers(name: str) -> None:
    """Spaces, grids, parameters and transforms; whatever is bent may also be left as it is."""
    make, good = MAKERS[name]
    make(**good)
    for changed, value in good.items():
        for strange in [*bent(value), torch.ones(2)]:
            settle_maker(name, make, good, {changed: strange})


@pytest.mark.parametrize("name", MAKERS)
@given(data=st.data())
@settings(max_examples=30)
def test_makers_with_several(name: str, data: st.DataObject) -> None:
    make, good = MAKERS[name]
    names = data.draw(st.lists(st.sampled_from(list(good)), min_size=1, max_size=3, unique=True))
    settle_maker(name, make, good, {n: data.draw(STRANGE) for n in names})


@pytest.mark.parametrize("name", FUNCTIONS)
@given(data=st.data())
@settings(max_examples=30)
def test_functions_with_several(name: str, data: st.DataObject) -> None:
    """As many for functions, whose tensors are bent."""
    good = FUNCTIONS[name]
    names = data.draw(st.lists(st.sampled_from(list(good)), min_size=1, max_size=3, unique=True))
    given_ = dict(good)
    for n in names:
        tensors = outputs(good[n])
        given_[n] = data.draw(st.one_of(st.sampled_from(bent(good[n])), STRANGE) if tensors else STRANGE)
    settle(name, find(name), given_, names[0])
