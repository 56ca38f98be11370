"""Bad arguments of every public constructor and function: a right answer or an error that names the argument."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from .calls import FUNCTIONS, LAYERS, find, outputs

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
OTHERS = [*NUMBERS, object(), "nonsense", torch.zeros(2), torch.zeros(2, dtype=torch.long), int, [1, "a"], {"a": 1}]


def bent_tensors(x: Tensor) -> st.SearchStrategy[Any]:
    """The same numbers in other clothes, and other numbers and shapes."""
    bends = {
        "non-contiguous": lambda: x.mT.contiguous().mT if x.ndim > 1 else torch.stack((x, x), 1)[:, 0],
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
        "sparse": lambda: x.to_sparse() if x.ndim else x,
    }
    return st.sampled_from(sorted(bends)).map(lambda name: bends[name]()) | st.sampled_from(OTHERS)


def bent(value: Any) -> st.SearchStrategy[Any]:
    if isinstance(value, Tensor):
        return bent_tensors(value)
    if isinstance(value, dict) and any(isinstance(v, Tensor) for v in value.values()):
        keys = st.sampled_from([*value])
        changed = keys.flatmap(lambda k: bent_tensors(value[k]).map(lambda v: {**value, k: v}))
        return changed | st.sampled_from([{}, {-1: value[0]}, {"a": value[0]}, {0: value[1]}, *OTHERS])
    return st.sampled_from(OTHERS)


def finite(value: Any) -> bool:
    return all(bool(t.isfinite().all()) for t in outputs(value) if not t.is_meta)


def settle(name: str, call: Any, given_: dict[str, Any], changed: str) -> Any:
    """Call; errors must be of the kind that says what is wrong, and no NaN may come out of finite numbers."""
    torch.manual_seed(0)
    random.seed(0)
    moderate = all(t.is_meta or float(t.abs().max()) < 1e20 for t in outputs(list(given_.values())) if t.numel())
    try:
        result = call(**given_)
    except (ValueError, TypeError) as error:
        assert str(error).strip(), f"{name}({changed}=...): an error without words"
        known = [changed, *(n for n in given_ if n != changed), "argument", "expected", "layers"]
        assert any(word in str(error) for word in known), f"{name}({changed}): {error}"
        return None
    if moderate and finite(list(given_.values())):
        assert finite(result), f"{name}({changed}={given_[changed]!r}): NaN or infinity out of finite numbers"
    return result


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_functions(name: str, data: st.DataObject) -> None:
    arguments = FUNCTIONS[name]
    changed = data.draw(st.sampled_from(sorted(arguments)), "argument")
    settle(name, find(name), {**arguments, changed: data.draw(bent(arguments[changed]), "value")}, changed)


@pytest.mark.parametrize("name", [n for n, (arguments, _) in LAYERS.items() if arguments])
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_constructors(name: str, data: st.DataObject) -> None:
    arguments = LAYERS[name][0]
    changed = data.draw(st.sampled_from(sorted(arguments)), "argument")
    value = data.draw(
        bent(arguments[changed]).filter(lambda v: v not in (2**40,) if isinstance(v, int) else True), "value"
    )
    settle(name, find(name), {**arguments, changed: value}, changed)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_inputs(name: str, data: st.DataObject) -> None:
    arguments, inputs = LAYERS[name]
    torch.manual_seed(0)
    layer = find(name)(**arguments).eval()
    value = data.draw(bent(inputs[0]), "input")
    settle(name, lambda input: layer(input, *inputs[1:]), {"input": value}, "input")
