"""The linear convolution on rings: every backend against its specification, and as a torch operator."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.library import opcheck

from pdegcnn.ops.ring_convolution import custom_op, numba_impl, pull, ring_convolution
from pdegcnn.ops.ring_convolution.reference import correlate

from ..helpers import backend_cases
from .test_backends import DTYPES, PLAIN, SEEDS, compare, interpreted
from .test_ring_morphology import SMALL, case, shapes

CASES = pytest.mark.parametrize("backend, device", backend_cases("ring_convolution"))


def weighted(shape, shared, seed, device="cpu", dtype=torch.float64):
    u, kernel, *lists = case(shape, shared, seed, device, dtype)
    return u, kernel.nan_to_num(posinf=0.0), *lists


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@CASES
def test_values_and_gradients(backend, device, dtype):
    def test(shape, shared, seed):
        u, kernel, *lists = weighted(shape, shared, seed, device, dtype)
        compare(
            lambda u, k: ring_convolution(u, k, *lists, backend),
            lambda u, k: correlate(u, k, *lists),
            *(u, kernel, 2 * DTYPES[dtype]),
        )

    if interpreted(backend, device):
        for shape, shared, _, seed in SMALL:
            test(shape, shared, seed)
    else:
        PLAIN(given(shapes, st.booleans(), st.sampled_from(SEEDS))(test))()


@pytest.mark.parametrize("shape, shared", [((5, 2, 2, 3, 4), False), ((9, 2, 3, 4, 1), False), ((5, 2, 4, 3, 1), True)])
def test_blocks_of_signals(shape, shared, monkeypatch):
    monkeypatch.setattr(numba_impl, "WIDE", 2 * max(shape[4], shape[2] if shared else 1))  # two at a time
    u, kernel, *lists = weighted(shape, shared, 4)
    compare(
        lambda u, k: ring_convolution(u, k, *lists, "numba"),
        lambda u, k: correlate(u, k, *lists),
        *(u, kernel, DTYPES[torch.float64]),
    )


@CASES
@pytest.mark.parametrize("shape, shared", [((2, 2, 3, 4, 3), False), ((2, 1, 3, 4, 1), True)])
def test_gradients_by_its_pull(backend, device, shape, shared):
    u, kernel, *lists = weighted(shape, shared, 2, device)
    leaves = u.requires_grad_(), kernel.requires_grad_()
    out = correlate(u, kernel, *lists)
    grad = torch.randn_like(out)
    for a, b in zip(torch.autograd.grad(out, leaves, grad), pull(grad, u.detach(), kernel.detach(), *lists, backend)):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@CASES
@pytest.mark.parametrize("length, shared", [(1, True), (3, False)])
def test_as_a_torch_operator(backend, device, length, shared):
    slow = interpreted(backend, device)
    shape = (1, 1, 2, 2, length) if slow else (2, 2, 3, 2, length)
    u, kernel, *lists = weighted(shape, shared, 1, device)
    u, kernel, count = u.requires_grad_(), kernel.requires_grad_(), kernel.shape[1]
    for operator, first, rest in (
        (custom_op.correlate, kernel, ()), (custom_op.spread, kernel, ()), (custom_op.products, u, (count,)),
    ):  # fmt: skip
        opcheck(operator, (u, first, *lists, *rest, backend))
    call = lambda u, k: ring_convolution(u, k, *lists, backend)  # noqa: E731
    assert torch.autograd.gradcheck(call, (u, kernel), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (u, kernel), fast_mode=True)
    value = torch.func.grad(lambda u: call(u, kernel).square().sum())(u)
    torch.testing.assert_close(value, torch.autograd.grad(call(u, kernel).square().sum(), u)[0])


def test_bad_input_is_refused():
    u, kernel, taps, start, longest = weighted((1, 2, 3, 4, 5), False, 0)
    with pytest.raises(ValueError, match="kernel: expected shape"):
        ring_convolution(u, kernel[:, :2], taps, start, longest)
    with pytest.raises(ValueError, match="start: expected int64 of shape"):
        ring_convolution(u, kernel, taps, start[1:], longest)
    with pytest.raises(TypeError, match="kernel: expected dtype"):
        ring_convolution(u, kernel.float(), taps, start, longest)
