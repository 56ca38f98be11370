"""The gain of a Newton step: loops against the specification, derivatives, what torch asks of an operator, threads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pdegcnn.export import operators
from pdegcnn.kernels.morphological import cost_law
from pdegcnn.ops import backend as registry
from pdegcnn.ops.newton_gain import StepTables, custom_op, newton_gain

D = torch.float64
BACKENDS = registry.available("newton_gain")
LOOPS = [name for name in BACKENDS if name != "torch"]
KINDS = ("ordinary", "flat", "centre", "alike", "far", "uphill", "steep")
"""Ordinary numbers; signals without slope, which gain nothing; taps at distance zero; equal axes, whose parts of the
reach are equal; costs that are infinite; forms that are not definite; and long steps."""
TIME = 0.8
Case = tuple[list[Tensor], tuple[Tensor, Tensor, StepTables]]


def arguments(
    dims: int, seed: int = 0, kind: str = "ordinary", dtype: torch.dtype = D, points: int = 6, batch: int = 2
) -> Case:
    """Tensors with gradients: signal, entries of the metric, least squared distance; then the places and the tables."""
    make = torch.Generator().manual_seed(seed)
    channels, fibre, rows, taps = 2, 4 if dims == 3 else 1, 2 if dims == 3 else 1, 20
    size, count = dims + dims * (dims + 1) // 2, fibre * points

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make, dtype=D)

    signal, table = normal(batch, channels, size, count), 0.3 * normal(taps, 1 + size, 6)
    table[:, 0, :3], table[:, 0, 3:] = table[:, 0, :3].abs(), 0
    table[:3, :1] = 0  # the centre
    squares = slice(1 + dims, 1 + 2 * dims)
    table[:, squares] = table[:, squares].abs() + 1
    signal[:, :, dims:] *= 0.3
    entries = torch.rand(channels, rows, 6, generator=make, dtype=D) + 0.5
    entries[..., 3:] *= 0.1
    reach, angle = 0.3 + torch.rand(dims, generator=make, dtype=D), torch.arange(fibre, dtype=D) * (2 * math.pi / fibre)
    if kind == "flat":
        signal[:, :, :dims], table[:, 1 : 1 + dims] = 0, 0
    elif kind == "centre":
        table[:, : 1 + dims] = 0
    elif kind == "alike":
        reach[:], angle = 0.5, 0 * angle  # rounding in a turned frame would decide which part is greater
        signal[:, :, :dims], signal[:, :, dims:], table[:, 1 : 1 + dims] = signal[:, :, :1], 0, 0
        table[:, squares], table[:, squares.stop :] = table[:, squares.start : squares.start + 1], 0
        table[::2, 1:] = 0
    elif kind == "far":
        table[::2, 1:] *= 1e150 if dtype == D else 1e16
    elif kind == "uphill":
        signal[:, :, dims:] += 30
    elif kind == "steep":
        signal[:, :, :dims] *= 30
    position = torch.randint(0, count, (batch, channels, count), generator=make)
    tap = torch.randint(0, taps, (batch, channels, count), generator=make)
    least = torch.rand(channels, generator=make, dtype=D) + 0.1
    leaves = [x.to(dtype).requires_grad_() for x in (signal, entries, least)]
    turn = torch.stack((torch.cos(angle), torch.sin(angle)))
    return leaves, (position, tap, StepTables(*(x.to(dtype) for x in (table, turn, reach))))


def found(case: Case, alpha: float, sign: int, backend: str) -> list[Tensor]:
    """Values, and gradients in signal, entries, least squared distance and power."""
    (signal, entries, least), (position, tap, tables) = case
    power = torch.tensor(alpha, dtype=D, requires_grad=True)
    out = newton_gain(signal, position, tap, tables, entries, least, cost_law(power, TIME), sign, backend)
    push = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * push).sum(), (signal, entries, least, power))]


def exact(case: Case) -> Case:
    """The same numbers in double precision."""
    leaves, (position, tap, tables) = case
    wide = [x.detach().double().requires_grad_() for x in leaves]
    return wide, (position, tap, StepTables(*(x.double() for x in tables)))


@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [2, 3])
def test_loops_agree_with_the_specification(dims: int, kind: str, backend: str) -> None:
    """In single precision, too, they agree with the specification in double precision: they compute in that."""

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(st.integers(0, 10**6), st.sampled_from([0.6, 0.8, 1.0]), st.sampled_from([1, -1]))
    def agree(seed: int, alpha: float, sign: int) -> None:
        for dtype, tolerance in ((D, 1e-10), (torch.float32, 2e-5)):
            case = arguments(dims, seed, kind, dtype)
            known = case if kind == "far" else exact(case)  # costs are infinite from a number on that dtypes have
            for came, wanted in zip(found(case, alpha, sign, backend), found(known, alpha, sign, "torch")):
                scale = wanted.abs().max().clamp_min(1.0)
                torch.testing.assert_close(came / scale, wanted / scale, rtol=0, atol=tolerance, check_dtype=False)

    agree()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dims", [2, 3])
def test_derivatives(dims: int, backend: str) -> None:
    leaves, (position, tap, tables) = arguments(dims, points=3, batch=1)
    power = torch.tensor(0.8, dtype=D, requires_grad=True)

    def function(signal: Tensor, entries: Tensor, least: Tensor, power: Tensor) -> Tensor:
        return newton_gain(signal, position, tap, tables, entries, least, cost_law(power, TIME), 1, backend)

    assert torch.autograd.gradcheck(function, (*leaves, power))
    assert torch.autograd.gradgradcheck(function, (*leaves, power), fast_mode=True)


def test_what_the_cases_are_for() -> None:
    """Steps that gain nothing, taps at distance zero, and infinite costs do occur."""
    (signal, entries, least), (position, tap, tables) = arguments(3, kind="flat")
    law = cost_law(0.8, TIME)
    assert not newton_gain(signal, position, tap, tables, entries, least, law).any()
    for kind in KINDS[2:]:
        (signal, entries, least), (position, tap, tables) = arguments(3, kind=kind)
        gain = newton_gain(signal, position, tap, tables, entries, least, law, -1)
        assert bool((gain <= 0).all()) and bool((gain < 0).any())


@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("dims", [2, 3])
def test_opcheck(dims: int, backend: str) -> None:
    (signal, entries, least), (position, tap, tables) = arguments(dims, points=2, batch=1)
    law = torch.tensor([0.3, 1.0, 1.4], dtype=D, requires_grad=True)
    given = signal, position, tap, *tables, entries, least, law, 1
    torch.library.opcheck(custom_op.newton_gain, (*given, backend))
    with torch.no_grad():
        _, won = custom_op.newton_gain(*given, backend)
    back = torch.ones(tap.shape, dtype=D), won, *given, True, backend
    if dims == 2:  # tracing second derivatives takes long
        torch.library.opcheck(custom_op.newton_gain_backward, back)


@pytest.mark.parametrize("backend", LOOPS)
def test_gradient_of_each_number_of_the_law(backend: str) -> None:
    (signal, entries, least), (position, tap, tables) = arguments(3, points=3)
    law = torch.tensor([0.3, 0.9, 1.4], dtype=D, requires_grad=True)

    def function(law: Tensor) -> Tensor:
        return newton_gain(signal, position, tap, tables, entries, least, tuple(law), 1, backend)

    assert torch.autograd.gradcheck(function, law)


def test_plain_torch_of_exports_agrees() -> None:
    (signal, entries, least), (position, tap, tables) = arguments(3)
    law = torch.tensor([0.3, 1.0, 1.4], dtype=D)
    wanted = newton_gain(signal, position, tap, tables, entries, least, tuple(law), -1)
    plain = operators.newton_gain(signal, position, tap, *tables, entries, least, law, -1, "numba")[0]
    torch.testing.assert_close(plain, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_is_computed_in_single(backend: str) -> None:
    leaves, places = arguments(3, dtype=torch.float16)
    wide = [x.detach().float().requires_grad_() for x in leaves]
    tables = StepTables(*(x.float() for x in places[2]))
    got, wanted = found((leaves, places), 0.8, 1, backend), found((wide, (*places[:2], tables)), 0.8, 1, backend)
    for came, exact in zip(got[:4], wanted[:4]):
        assert came.dtype == torch.float16
        torch.testing.assert_close(came, exact.half(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("backend", LOOPS)
def test_threads_do_not_change_a_bit(backend: str) -> None:
    case, threads = arguments(3, dtype=torch.float32, batch=3), torch.get_num_threads()
    results: list[list[Tensor]] = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(found(case, 0.8, 1, backend))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_nan_stays() -> None:
    """A signal or a distance that is NaN gives NaN, there only."""
    (signal, entries, least), (position, tap, tables) = arguments(3)
    signal, tap[0, 0, 6] = signal.detach().clone(), 19
    position[0, 0, 5] = 7
    signal[0, 0, :, 7] = math.nan
    tables.table[19] = math.nan
    wanted = tap == 19
    wanted[0, 0] |= position[0, 0] == 7
    for backend in BACKENDS:
        gain = newton_gain(signal, position, tap, tables, entries, least, cost_law(0.8, TIME), 1, backend)
        assert torch.equal(gain.isnan(), wanted)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"signal": torch.zeros(2, 2, 8, 24, dtype=D)}, ValueError, "signal: expected 5 or 9 derivatives"),
        ({"position": torch.zeros(2, 2, 24)}, ValueError, "position: expected int64"),
        ({"tap": torch.zeros(2, 2, 23, dtype=torch.int64)}, ValueError, "tap: expected int64 of shape"),
        ({"entries": torch.zeros(3, 2, 6, dtype=D)}, ValueError, "entries: expected shape"),
        ({"least": torch.zeros(2)}, TypeError, "least: expected"),
        ({"sign": 2}, ValueError, "sign"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], error: type[Exception], text: str) -> None:
    (signal, entries, least), (position, tap, tables) = arguments(3)
    given: dict[str, Any] = {"signal": signal, "position": position, "tap": tap, "tables": tables}
    given |= {"entries": entries, "least": least, "law": cost_law(0.8, TIME)}
    with pytest.raises(error, match=text):
        newton_gain(**given | change)
