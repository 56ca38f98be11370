"""Every backend of every operator against its specification, in values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pdegcnn.ops.convection import convection
from pdegcnn.ops.convection import reference as convection_reference
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.group_convolution import reference as group_reference
from pdegcnn.ops.morphology import dilation_and_erosion, morphological_convolution
from pdegcnn.ops.morphology import reference as morphology_reference
from tests.helpers import backend_cases

DTYPES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}
BOUNDARIES = ("zeros", "replicate", "periodic")
SEEDS = range(100)
PLAIN = settings(max_examples=12, deadline=None, derandomize=True)
shapes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 16), st.integers(1, 9), st.integers(1, 20))
kernels = st.tuples(*[st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 7]), st.sampled_from([1, 3, 5])])
SMALL = [((2, 1, 2, 3, 4), (3, 3, 1)), ((1, 2, 3, 2, 5), (3, 1, 3)), ((1, 1, 2, 4, 3), (1, 3, 5))]
"""Signals and kernels for interpreted Triton: batches, channels, a fibre, kernels of many taps."""


def interpreted(backend, device):
    """Whether this backend is Triton without a GPU, which takes seconds for what others do in milliseconds."""
    return backend == "triton" and device == "cpu"


def draw(backend, device, test, *choices):
    """Run ``test`` over drawn shapes, kernel sizes and choices; over ``SMALL``, taking turns, where interpreted."""
    if interpreted(backend, device):
        for turn, case in enumerate(SMALL):
            test(*case, *(choice[turn % len(choice)] for choice in choices))
    else:
        PLAIN(given(shapes, kernels, *map(st.sampled_from, choices))(test))()


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


def draws(operator):
    """Parametrise a test by every backend on every device and every dtype."""
    cases = pytest.mark.parametrize("backend, device", backend_cases(operator))
    return lambda test: pytest.mark.parametrize("dtype", DTYPES, ids=str)(cases(test))


@draws("morphological_convolution")
def test_morphology(backend, device, dtype):
    def test(shape, size, sign, steep, seed):
        torch.manual_seed(seed)
        u = torch.randn(shape).mul(4).round().div(4)  # quarters: many ties
        u = (
            torch.where(torch.rand(shape) < 0.03 * (seed % 2), u.sign() * torch.inf, u)
            .nan_to_num(0, torch.inf, -torch.inf)
            .to(device, dtype)
        )
        kernel = torch.rand(*shape[1:3], *size).mul(8).round().div(4) * steep  # steep: most taps cannot be the maximum
        kernel[torch.rand(kernel.shape) < 0.2] = torch.inf
        kernel = kernel.to(device, dtype)
        compare(
            lambda u, k: morphological_convolution(u, k, sign, backend).nan_to_num(0, 0, 0),
            lambda u, k: morphology_reference.morphological_convolution(u, k, sign).nan_to_num(0, 0, 0),
            *(u, kernel, DTYPES[dtype]),
        )
        with torch.no_grad():
            wide = torch.promote_types(dtype, torch.float32)
            exact = morphology_reference.morphological_convolution(u.to(wide), kernel.to(wide), sign)
            assert torch.equal(morphological_convolution(u, kernel, sign, backend), exact.to(dtype))

    draw(backend, device, test, (1, -1), (1, 16), SEEDS)


@draws("morphological_convolution")
def test_planes_between_the_outputs(backend, device, dtype):
    """A stride gives every stride-th output of the convolution with a kernel on all planes, and its gradients."""

    def test(shape, size, stride, sign, seed):
        torch.manual_seed(seed)
        planes = stride * shape[2]
        u = torch.randn(*shape[:2], planes, *shape[3:]).mul(4).round().div(4).to(device, dtype).requires_grad_()
        whole = torch.rand(shape[1], planes, *size).mul(8).round().div(4).to(device, dtype)
        whole[torch.rand(whole.shape) < 0.2] = torch.inf
        with torch.no_grad():
            between = torch.arange(planes) % stride > 0
            u[:, :, between.to(device), -1] = -sign * torch.inf  # may be outside, where no maximum is
        kernel = whole[:, ::stride].contiguous().requires_grad_()
        whole.requires_grad_()
        got = morphological_convolution(u, kernel, sign, backend, stride=stride)
        wanted = morphological_convolution(u, whole, sign, backend)[:, :, ::stride]
        assert torch.equal(got, wanted)
        weight = torch.randn_like(got)
        found = torch.autograd.grad(got, (u, kernel), weight)
        expected = torch.autograd.grad(wanted, (u, whole), weight)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1][:, ::stride])

    draw(backend, device, test, (2, 3), (1, -1), SEEDS)


@draws("morphological_convolution")
def test_dilation_and_erosion_are_the_two_convolutions(backend, device, dtype):
    def test(shape, size, seed):
        torch.manual_seed(seed)
        u = torch.randn(shape).mul(4).round().div(4).to(device, dtype).requires_grad_()
        kernels = torch.rand(2, *shape[1:3], *size).mul(8).round().div(4).to(device, dtype)
        kernels[torch.rand(kernels.shape) < 0.2] = torch.inf
        given = [u, *(k.clone().requires_grad_() for k in kernels)]
        both = dilation_and_erosion(*given, backend)
        apart = [morphological_convolution(u, k, sign, backend) for k, sign in zip(given[1:], (1, -1))]
        assert all(torch.equal(a, b) for a, b in zip(both, apart))
        weights = [torch.randn_like(u) for _ in both]
        got, wanted = (torch.autograd.grad(outs, given, weights) for outs in (both, apart))
        assert all(torch.equal(a, b) for a, b in zip(got, wanted))

    draw(backend, device, test, SEEDS)


@draws("convection")
def test_convection(backend, device, dtype):
    def test(shape, _, boundary, reach, seed):
        torch.manual_seed(seed)
        u, shift = torch.randn(shape).to(device, dtype), (torch.randn(*shape[1:3], 3) * reach).to(device, dtype)
        if backend == "torch" and dtype in (torch.bfloat16, torch.float16):
            shift = shift.mul(4).round().div(4)  # the portable version interpolates in the given precision
        compare(
            lambda u, s: convection(u, s, boundary, backend),
            lambda u, s: convection_reference.convection(u, s, boundary),
            *(u, shift, DTYPES[dtype] * (3 if backend == "torch" else 1)),
        )

    draw(backend, device, test, BOUNDARIES, (0.9, 30.0), SEEDS)


@pytest.mark.parametrize("mixing", [False, True])
@draws("group_convolution")
def test_group_convolution(backend, device, dtype, mixing):
    def test(shape, size, boundary, seed):
        torch.manual_seed(seed)
        u = torch.randn(shape).to(device, dtype)
        kernel = torch.randn(*([2] if mixing else []), *shape[1:3], *size).to(device, dtype)
        compare(
            lambda u, k: group_convolution(u, k, boundary, backend),
            lambda u, k: group_reference.group_convolution(u, k, boundary),
            *(u, kernel, DTYPES[dtype] * 2),
        )

    draw(backend, device, test, BOUNDARIES, SEEDS)


@pytest.mark.parametrize("backend, device", backend_cases("morphological_convolution"))
def test_many_taps_need_a_wider_index(backend, device):
    """363 taps: more than a byte can number."""
    u = torch.randn(1, 1, 2, 4, 5, dtype=torch.float64, device=device)
    kernel = torch.rand(1, 2, 3, 11, 11, dtype=torch.float64, device=device) * 3
    compare(
        lambda u, k: morphological_convolution(u, k, -1, backend),
        lambda u, k: morphology_reference.morphological_convolution(u, k, -1),
        *(u, kernel, 1e-10),
    )


@pytest.mark.parametrize("sign", (1, -1))
@pytest.mark.parametrize("stride", (1, 2))
@pytest.mark.parametrize("backend, device", backend_cases("morphological_convolution"))
def test_taps_beyond_the_first_and_last_slice_never_win(backend, device, stride, sign):
    """Also where kernels are longer than the axis, and with NaN and absent taps."""
    for size, taps in (((3, 3, 5), (3, 3, 3)), ((2, 3, 4), (5, 1, 3))):
        u = torch.randn(2, 1, stride * size[0], *size[1:], device=device)
        u[1, 0, 0, 0, 0] = torch.nan
        kernel = torch.rand(1, size[0], *taps, device=device)
        kernel[0, 0, 0, 0, 0] = torch.inf
        given, exact = ([x.clone().requires_grad_() for x in (u, kernel)] for _ in range(2))
        out = morphological_convolution(*given, sign, backend, stride=stride, periodic=False)
        wanted = morphology_reference.morphological_convolution(*exact, sign, stride, False)
        torch.testing.assert_close(out, wanted, rtol=0, atol=0, equal_nan=True)
        weight = torch.randn_like(out)
        found = torch.autograd.grad((out.nan_to_num() * weight).sum(), given)
        for got, want in zip(found, torch.autograd.grad((wanted.nan_to_num() * weight).sum(), exact)):
            torch.testing.assert_close(got, want)
