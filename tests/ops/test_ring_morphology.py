"""The max-plus convolution on rings: every backend against its specification, and as a torch operator."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.library import opcheck

from pdegcnn.ops._operator import index_dtype
from pdegcnn.ops.ring_morphology import custom_op, numba_impl, ring_morphology
from pdegcnn.ops.ring_morphology.reference import ring_morphology as reference

from ..helpers import backend_cases
from .test_backends import DTYPES, PLAIN, SEEDS, compare, interpreted

CASES = pytest.mark.parametrize("backend, device", backend_cases("ring_morphology"))
shapes = st.tuples(*[st.integers(1, n) for n in (2, 3, 6, 5, 9)])
SMALL = [((1, 2, 2, 3, 4), False, 1, 3), ((2, 1, 3, 2, 3), True, -1, 4), ((2, 1, 2, 2, 3), False, -1, 6)]
"""Shapes [B,C,Or,rings,length], shared kernel, sign and seed for interpreted Triton."""


def lists(shape, most, fill=0.8):
    """Random lists of taps, the centre first; some lists are the centre alone."""
    fibre, rings, length = shape[2:]
    taps, start = [], [0]
    for ring in range(rings):
        count = int(torch.randint(0, most + 1, ()))
        more = [[int(torch.randint(0, n, ())) for n in (rings, fibre, length)] for _ in range(count)]
        taps += [[ring, 0, 0], *more]
        start.append(len(taps))
    return torch.tensor(taps), torch.tensor(start)


def case(shape, shared, seed, device, dtype=torch.float64, most=6):
    torch.manual_seed(seed)
    taps, start = lists(shape, most)
    u = torch.randn(shape).mul(4).round().div(4).to(dtype)  # quarters: many ties
    kernel = torch.rand(shape[1], 1 if shared else shape[2], len(taps)).mul(8).round().div(4).to(dtype)
    kernel[torch.rand(kernel.shape) < 0.2] = torch.inf
    longest = int(start.diff().max())
    return *(x.to(device) for x in (u, kernel, taps, start)), longest


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@CASES
def test_values_and_gradients(backend, device, dtype):
    def test(shape, shared, sign, seed):
        u, kernel, taps, start, longest = case(shape, shared, seed, device, dtype)
        compare(
            lambda u, k: ring_morphology(u, k, taps, start, longest, sign, backend).nan_to_num(0, 0, 0),
            lambda u, k: reference(u, k, taps, start, sign).nan_to_num(0, 0, 0),
            *(u, kernel, DTYPES[dtype]),
        )
        with torch.no_grad():
            wide = torch.promote_types(dtype, torch.float32)
            exact = reference(u.to(wide), kernel.to(wide), taps, start, sign)
            assert torch.equal(ring_morphology(u, kernel, taps, start, longest, sign, backend), exact.to(dtype))

    if interpreted(backend, device):
        for arguments in SMALL:
            test(*arguments)
    else:
        PLAIN(given(shapes, st.booleans(), st.sampled_from([1, -1]), st.sampled_from(SEEDS))(test))()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape, shared", [((5, 2, 2, 3, 4), False), ((9, 2, 3, 4, 1), False), ((5, 2, 4, 3, 1), True)])
def test_blocks_of_signals_overlap(shape, shared, sign, monkeypatch):
    monkeypatch.setattr(
        numba_impl, "WIDE", 2 * max(shape[4], shape[2] if shared else 1)
    )  # two signals at a time of an odd number
    u, kernel, taps, start, longest = case(shape, shared, 4, "cpu")
    compare(
        lambda u, k: ring_morphology(u, k, taps, start, longest, sign, "numba").nan_to_num(0, 0, 0),
        lambda u, k: reference(u, k, taps, start, sign).nan_to_num(0, 0, 0),
        *(u, kernel, DTYPES[torch.float64]),
    )


@CASES
def test_skipped_taps_could_not_win(backend, device):
    u, kernel, taps, start, longest = case((3, 2, 3, 4, 5), False, 5, device)
    kernel = kernel.nan_to_num(posinf=1.0) + 3.0 * torch.rand_like(kernel)  # some above the range of a ring, some not
    assert torch.equal(ring_morphology(u, kernel, taps, start, longest, 1, backend), reference(u, kernel, taps, start))


@CASES
@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("place", ["u", "kernel"])
def test_not_a_number_comes_through(backend, device, length, place):
    u, kernel, taps, start, longest = case((1, 2, 3, 4, length), False, 3, device)
    (u if place == "u" else kernel).view(-1)[5] = torch.nan
    expected = reference(u, kernel, taps, start)
    assert expected.isnan().any() and not expected.isnan().all()
    assert torch.equal(ring_morphology(u, kernel, taps, start, longest, 1, backend).isnan(), expected.isnan())


@CASES
@pytest.mark.parametrize("length", [1, 3])
def test_as_a_torch_operator(backend, device, length):
    slow = interpreted(backend, device)
    shape, most = ((1, 1, 2, 2, length), 2) if slow else ((2, 2, 3, 2, length), 6)
    u, kernel, taps, start, longest = case(shape, False, 1, device, most=most)
    u, kernel = (x + 0.1 * torch.rand_like(x) for x in (u, kernel))  # no ties
    u, kernel = u.requires_grad_(), kernel.requires_grad_()
    opcheck(custom_op.ring_morphology, (u, kernel, taps, start, longest, 1, True, backend))
    opcheck(custom_op.ring_morphology, (u.detach(), kernel.detach(), taps, start, longest, -1, False, backend))
    finite = torch.where(kernel.isinf(), 9.0, kernel).detach().requires_grad_()
    call = lambda u, k: ring_morphology(u, k, taps, start, longest, 1, backend)  # noqa: E731
    assert torch.autograd.gradcheck(call, (u, finite), fast_mode=slow)
    assert torch.autograd.gradgradcheck(call, (u, finite), fast_mode=slow)
    value = torch.func.grad(lambda u: call(u, finite).sum())(u)
    torch.testing.assert_close(value, torch.autograd.grad(call(u, finite).sum(), u)[0])


def test_index_type_is_the_smallest_that_fits():
    assert [index_dtype(n) for n in (256, 257, 2**15, 2**15 + 1)] == [
        torch.uint8,
        torch.int16,
        torch.int16,
        torch.int32,
    ]


def test_bad_input_is_refused():
    u, kernel, taps, start, longest = case((1, 2, 3, 4, 5), False, 0, "cpu")
    with pytest.raises(ValueError, match="kernel: expected shape"):
        ring_morphology(u, kernel[:, :2], taps, start, longest)
    with pytest.raises(ValueError, match="start: expected int64 of shape"):
        ring_morphology(u, kernel, taps, start[1:], longest)
    with pytest.raises(TypeError, match="kernel: expected dtype"):
        ring_morphology(u, kernel.float(), taps, start, longest)
    with pytest.raises(ValueError, match="sign"):
        ring_morphology(u, kernel, taps, start, longest, 2)
