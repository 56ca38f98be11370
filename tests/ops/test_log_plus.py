"""Log-plus against its specification, and its laws: order, constants, duality, both limits of the temperature."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pdegcnn.ops import backend as registry
from pdegcnn.ops.group_convolution import group_convolution, pull
from pdegcnn.ops.morphology import log_plus_mean, morphological_convolution
from pdegcnn.ops.morphology import reference as specification
from tests.helpers import backend_cases
from tests.ops.test_backends import draws

MODEST = settings(max_examples=15, deadline=None, derandomize=True)
BACKENDS = registry.available("group_convolution")
INF = torch.inf


def soft(u, kernel, temperature, sign=1, backend=None, mean=False):
    """On a circle of planes, or on volumes where one kernel serves all slices."""
    circle = kernel.shape[1] == u.shape[2]
    if mean:
        return log_plus_mean(u, kernel, temperature, sign, backend, periodic=circle)
    options = {"semifield": "log_plus", "temperature": temperature, "periodic": circle}
    return morphological_convolution(u, kernel, sign, backend, **options)


def sharp(u, kernel, sign=1):
    circle = kernel.shape[1] == u.shape[2]
    return morphological_convolution(u, kernel.expand(-1, u.shape[2], -1, -1, -1), sign, periodic=circle)


def inputs(seed, dtype=torch.float64, steep=2.0, volumes=False):
    """A signal, a kernel with absent taps whose centre is present, and a temperature for each channel."""
    torch.manual_seed(seed)
    u, kernel = torch.randn(2, 3, 2, 4, 5), torch.rand(3, 1 if volumes else 2, 3, 3, 3) * steep
    kernel[torch.rand(kernel.shape) < 0.2] = INF
    kernel[..., 1, 1, 1] = 0
    return u.to(dtype), kernel.to(dtype), torch.tensor([1.0, 2.0, 0.5], dtype=dtype)


def values_and_gradients(function, given_, weight):
    leaves = [x.detach().clone().requires_grad_() for x in given_]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad((out.to(weight.dtype) * weight).sum(), leaves)]


@pytest.mark.parametrize("volumes", [False, True])
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("sign, scale", [(1, 0.02), (-1, 0.05), (1, 0.1), (-1, 1.0), (1, 100.0)])
@draws("group_convolution")
def test_values_and_gradients(backend, device, dtype, sign, scale, mean, volumes):
    """In signal, kernel and temperature, from ranges of many temperatures to ranges of few."""
    u, kernel, t = (x.to(device) for x in inputs(round(100 * scale) + sign, dtype, volumes=volumes))
    given_, weight = (u, kernel, t * scale), torch.randn(u.shape, dtype=torch.float64, device=device)
    exact = [x.double() for x in given_]
    terms = sign, mean, not volumes
    wanted = values_and_gradients(lambda u, k, t: specification.log_plus(u, k, t, *terms), exact, weight)
    came = values_and_gradients(lambda u, k, t: soft(u, k, t, sign, backend, mean), given_, weight)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 0.05)  # logarithms up to 100, summed up
    for a, b in zip(wanted, came):
        assert b.dtype == dtype
        assert (a - b.double()).abs().max() <= tolerance * max(1.0, float(a.abs().max()))


@pytest.mark.parametrize("size", [(1, 7, 7), (3, 3, 5), (1, 9, 21)])
@pytest.mark.parametrize("planes", [1, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_a_convolution_by_its_pull(backend, planes, size):
    u, kernel = torch.randn(2, 2, planes, 5, 6).double(), torch.randn(2, planes, *size).double()
    given_ = u.requires_grad_(), kernel.requires_grad_()
    out = group_convolution(u, kernel, backend=backend)
    grad = torch.randn(out.shape).double()
    for a, b in zip(torch.autograd.grad(out, given_, grad), pull(grad, u.detach(), kernel.detach(), backend)):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(3, 3, 5), (5, 1, 7), (1, 3, 3)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_a_convolution_of_volumes_by_its_pull(backend, size):
    u, kernel = torch.randn(2, 2, 4, 5, 6).double(), torch.randn(2, 1, *size).double()
    given_ = u.requires_grad_(), kernel.requires_grad_()
    out = group_convolution(u, kernel, backend=backend, periodic=False)
    grad = torch.randn(out.shape).double()
    came = pull(grad, u.detach(), kernel.detach(), backend, periodic=False)
    for a, b in zip(torch.autograd.grad(out, given_, grad), came):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("volumes", [False, True])
@pytest.mark.parametrize("mean", [False, True])
@MODEST
@given(seed=st.integers(0, 999), scale=st.sampled_from([0.003, 0.05, 0.3, 4.0]), constant=st.floats(-9, 9))
def test_laws(volumes, mean, seed, scale, constant):
    u, kernel, t = inputs(seed, volumes=volumes)
    t, v = t * scale, u + torch.rand(u.shape)

    def dilate(x):
        return soft(x, kernel, t, mean=mean)

    close = {"rtol": 0, "atol": 1e-12}
    assert torch.allclose(dilate(u + constant), dilate(u) + constant, **close)
    assert (dilate(v) >= dilate(u) - 1e-12).all()
    assert torch.equal(soft(u, kernel, t, -1, mean=mean), -dilate(-u))
    if mean:
        flat = torch.full_like(u, constant)
        assert torch.equal(dilate(flat), flat)
        assert (dilate(u) >= u.amin((2, 3, 4), keepdim=True)).all()
        assert (dilate(u) <= u.amax((2, 3, 4), keepdim=True) + 1e-12).all()
    elif (
        scale > 0.01
    ):  # linear over (log-plus, +) within the range of the sums: a sum of signals becomes one of results
        across = t.view(-1, 1, 1, 1)
        both = across * torch.logaddexp(u / across, v / across)
        apart = across * torch.logaddexp(dilate(u) / across, dilate(v) / across)
        assert torch.allclose(dilate(both), apart, **close)


@pytest.mark.parametrize("volumes", [False, True])
@MODEST
@given(seed=st.integers(0, 999), t=st.sampled_from([1e-8, 1e-4, 1e-2, 1.0]), sign=st.sampled_from([1, -1]))
def test_cold_is_max_plus(volumes, seed, t, sign):
    """At most ``t log N`` away for N taps, and never on the other side, at every temperature and range."""
    u, kernel, _ = inputs(seed, volumes=volumes)
    best, taps = sign * sharp(u, kernel, sign), math.log(kernel[0, 0].numel())
    beyond = sign * soft(u, kernel, t, sign) - best
    assert (beyond >= -1e-12).all() and (beyond <= t * taps + 1e-12).all()
    assert ((sign * soft(u, kernel, t, sign, mean=True) - best).abs() <= t * taps + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@MODEST
@given(seed=st.integers(0, 999), t=st.sampled_from([1e2, 1e5, 1e9]))
def test_hot_is_the_mean(dtype, seed, t):
    """Within an eighth of the squared range over t (Hoeffding's lemma), for taps that cost nothing."""
    u = inputs(seed, dtype)[0]
    flat = torch.zeros(3, 2, 3, 3, 3, dtype=dtype)
    mean = group_convolution(u, flat + 1) / group_convolution(torch.ones_like(u), flat + 1)
    off = log_plus_mean(u, flat, t) - mean
    assert (off.abs() <= float(u.max() - u.min()) ** 2 / (8 * t) + 40 * torch.finfo(dtype).eps).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_absent_taps_infinity_and_nan(backend):
    u, absent = torch.zeros(1, 1, 1, 5, 5), torch.full((1, 1, 1, 3, 3), INF)
    assert (soft(u, absent, 1.0, backend=backend) == -INF).all()
    corner = absent.clone()
    corner[..., 0, 0] = 0.5
    out = soft(u, corner, 1.0, backend=backend)[0, 0, 0]
    assert (out[0] == -INF).all() and (out[:, 0] == -INF).all() and torch.allclose(out[1:, 1:], torch.tensor(-0.5))
    u[..., 2, 2] = torch.nan
    assert soft(u, 0 * corner.nan_to_num(0, 0), 1.0, backend=backend).isnan().sum() == 9
    assert soft(u, corner, 1.0, backend=backend).isnan().sum() == 1  # only where the tap is present
    u[..., 2, 2] = -INF  # never counts
    out = soft(u, torch.zeros_like(corner), 1.0, backend=backend)[0, 0, 0]
    assert torch.allclose(out[1:4, 1:4], torch.full((3, 3), math.log(8.0)))
    u[..., 2, 2] = INF
    assert (soft(u, torch.zeros_like(corner), 1.0, backend=backend) == INF).sum() == 9


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("t", [1e-4, 0.02, 0.5])
def test_traced_code_gives_the_same(t, mean):
    """It cannot read the range of the signal, so it computes in float64 and takes the maximum in."""
    u, kernel, _ = inputs(3, torch.float32)
    eager = soft(u, kernel, t, mean=mean)
    compiled = torch.compile(lambda u, k: soft(u, k, t, mean=mean), fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(u, kernel), eager, rtol=0, atol=1e-6)
    assert torch.allclose(torch.func.vmap(lambda x: soft(x, kernel, t, mean=mean))(u[None])[0], eager, atol=1e-6)


@pytest.mark.parametrize("volumes", [False, True])
@pytest.mark.parametrize("mean", [False, True])
def test_derivatives_of_every_kind(volumes, mean):
    u, kernel, t = inputs(4, volumes=volumes)
    u, t = u[:1, :, :, :3, :3].contiguous(), t.requires_grad_()
    given_ = (u.requires_grad_(), kernel.requires_grad_(), t)
    assert torch.autograd.gradcheck(lambda *x: soft(*x, mean=mean), given_, fast_mode=True)
    assert torch.autograd.gradcheck(
        lambda *x: soft(*x, mean=mean), given_, fast_mode=True, check_forward_ad=True, check_backward_ad=False
    )
    assert torch.autograd.gradgradcheck(lambda *x: soft(*x, mean=mean), given_, fast_mode=True)
    weight = torch.randn(u.shape, dtype=u.dtype)
    wanted = torch.autograd.grad((soft(*given_, mean=mean) * weight).sum(), given_)
    came = torch.func.grad(lambda *x: (soft(*x, mean=mean) * weight).sum(), (0, 1, 2))(*(x.detach() for x in given_))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(came, wanted))


@pytest.mark.parametrize("device", sorted({device for _, device in backend_cases("group_convolution")}))
def test_small_numbers_and_large_temperatures_stay_finite(device):
    u, kernel, _ = inputs(5, torch.float32)
    u, kernel = u.to(device), kernel.to(device)
    for scale, t in ((1.0, 1e-300), (1e-38, 0.1), (1e30, 0.1), (1e30, 1e30), (0.0, 1e-30), (1.0, 1e30)):
        given_ = [(u * scale).requires_grad_(), torch.tensor(t, dtype=u.dtype, device=device).requires_grad_()]
        if not given_[1] > 0:
            given_ = [given_[0]]
        for mean in (True, False):
            out = soft(given_[0], kernel, t if len(given_) == 1 else given_[1], mean=mean)
            assert out.isfinite().all()
            assert all(g.isfinite().all() for g in torch.autograd.grad(out.mean(), given_))
