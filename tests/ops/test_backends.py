"""Every backend of every operator against its specification, in values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pdegcnn.ops import backend as registry
from pdegcnn.ops.convection import convection
from pdegcnn.ops.convection import reference as convection_reference
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.group_convolution import reference as group_reference
from pdegcnn.ops.morphology import morphological_convolution
from pdegcnn.ops.morphology import reference as morphology_reference

DTYPES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}
BOUNDARIES = ("zeros", "replicate", "periodic")
MODEST = settings(max_examples=12, deadline=None, derandomize=True)
shapes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 16), st.integers(1, 9), st.integers(1, 20))
kernels = st.tuples(*[st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 7]), st.sampled_from([1, 3, 5])])


def compare(fast, slow, u, other, tolerance):
    """Values and gradients of two functions; half precision is judged against float32 of the same numbers."""
    wide = torch.promote_types(u.dtype, torch.float32)
    exact = [x.to(wide).requires_grad_() for x in (u, other)]
    given = [x.clone().requires_grad_() for x in (u, other)]
    expected, got = slow(*exact), fast(*given)
    assert got.dtype == u.dtype
    weight = torch.randn_like(got)
    wanted = torch.autograd.grad(expected, exact, weight.to(wide))
    came = torch.autograd.grad(got, given, weight)
    for a, b in [(expected, got), *zip(wanted, came)]:
        scale = max(1.0, float(a.detach().abs().max()))
        assert (a - b.to(wide)).abs().max() <= tolerance * scale


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", registry.available("morphological_convolution"))
@MODEST
@given(shape=shapes, size=kernels, sign=st.sampled_from([1, -1]), seed=st.integers(0, 99))
def test_morphology(backend, dtype, shape, size, sign, seed):
    torch.manual_seed(seed)
    u = torch.randn(shape).mul(4).round().div(4).to(dtype)  # quarters: many ties
    kernel = torch.rand(*shape[1:3], *size).mul(8).round().div(4).to(dtype)
    kernel[torch.rand(kernel.shape) < 0.2] = torch.inf
    compare(
        lambda u, k: morphological_convolution(u, k, sign, backend).nan_to_num(0, 0, 0),
        lambda u, k: morphology_reference.morphological_convolution(u, k, sign).nan_to_num(0, 0, 0),
        *(u, kernel, DTYPES[dtype]),
    )
    with torch.no_grad():
        wide = torch.promote_types(dtype, torch.float32)
        exact = morphology_reference.morphological_convolution(u.to(wide), kernel.to(wide), sign)
        assert torch.equal(morphological_convolution(u, kernel, sign, backend), exact.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", registry.available("convection"))
@MODEST
@given(shape=shapes, boundary=st.sampled_from(BOUNDARIES), reach=st.sampled_from([0.9, 30.0]), seed=st.integers(0, 99))
def test_convection(backend, dtype, shape, boundary, reach, seed):
    torch.manual_seed(seed)
    u, shift = torch.randn(shape).to(dtype), (torch.randn(*shape[1:3], 3) * reach).to(dtype)
    if backend == "torch" and dtype in (torch.bfloat16, torch.float16):
        shift = shift.mul(4).round().div(4)  # the portable version interpolates in the given precision
    compare(
        lambda u, s: convection(u, s, boundary, backend),
        lambda u, s: convection_reference.convection(u, s, boundary),
        *(u, shift, DTYPES[dtype] * (3 if backend == "torch" else 1)),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize("backend", registry.available("group_convolution"))
@MODEST
@given(shape=shapes, size=kernels, boundary=st.sampled_from(BOUNDARIES), seed=st.integers(0, 99))
def test_group_convolution(backend, mixing, dtype, shape, size, boundary, seed):
    torch.manual_seed(seed)
    u = torch.randn(shape).to(dtype)
    kernel = torch.randn(*([2] if mixing else []), *shape[1:3], *size).to(dtype)
    compare(
        lambda u, k: group_convolution(u, k, boundary, backend),
        lambda u, k: group_reference.group_convolution(u, k, boundary),
        *(u, kernel, DTYPES[dtype] * 2),
    )
