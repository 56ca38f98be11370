"""Symmetric layers and coarsenings: adjoints, symmetry, inverses, behaviour under quarter turns."""

import copy
import math
import pickle
import re

import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pdegcnn import SE2
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.reversible import (
    CyclicSpaceToDepth,
    Inverse,
    LearnableOrthogonal,
    ReversibleStack,
    SymmetricConv,
    SymmetricGroupConv,
    Wavelet,
    memory_estimate,
)
from pdegcnn.reversible.symmetric import adjoint

D = torch.float64


def quarter(u):
    """A quarter turn of a regular field [B,C,Or,H,W]."""
    return torch.rot90(u, -1, (-2, -1)).roll(u.shape[2] // 4, 2)


def close(a, b, tolerance=1e-12):
    assert (a - b).abs().max() <= tolerance * (1 + b.abs().max())


@settings(max_examples=15, deadline=None)
@given(
    dims=st.integers(1, 3),
    rank=st.sampled_from([None, 1, 2]),
    size=st.sampled_from([1, 3]),
    activation=st.sampled_from(["relu", "tanh", "silu", "softplus", "identity"]),
    seed=st.integers(0, 99),
)
def test_hand_written_adjoint_is_that_of_autograd(dims, rank, size, activation, seed):
    torch.manual_seed(seed)
    layer = SymmetricConv(3, size, dims, rank, activation, dtype=D)
    nn.init.normal_(layer.bias)
    y, g = (torch.randn(2, 3, *[4] * dims, dtype=D, requires_grad=True) for _ in range(2))
    values = dict(layer.named_parameters())
    out, pulled, found = layer.value_and_vjp(y.detach(), g.detach(), values, dict.fromkeys(values, True))
    expected = torch.autograd.grad(layer(y), [y, *values.values()], g)
    close(out, layer(y))
    for a, b in zip((pulled, *(found[n] for n in values)), expected):
        close(a, b)
    stack = ReversibleStack([layer] * 3, h=0.5)
    plain = ReversibleStack([layer] * 3, h=0.5, memory="plain")
    for a, b in zip(*(torch.autograd.grad((m(y)[0] ** 2).sum(), [y, *values.values()]) for m in (stack, plain))):
        close(a, b, 1e-10)


@pytest.mark.parametrize("memory", ["reversible", "plain"])
@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize(("size", "space"), [(3, (2, 4, 4)), (5, (3, 9, 9)), (7, (9, 2, 9))])
def test_bfloat16_gradients_of_volumes_smaller_than_the_kernel(size, space, autocast, memory):
    """Torch's own gradient of such a kernel holds what earlier tensors left in memory: here, huge numbers."""
    torch.manual_seed(0)
    layer, y = SymmetricConv(16, size, dims=3, rank=2), torch.randn(2, 16, *space)
    expected = torch.autograd.grad(layer(y).square().sum(), layer.weight)[0]
    if not autocast:
        layer, y = layer.to(torch.bfloat16), y.to(torch.bfloat16)
    stack = ReversibleStack([layer], h=1.0, memory=memory)
    for _ in range(3):
        junk = [torch.full((n,), 1e30) for n in (64, 256, 864, 1024, 4096)] * 3
        del junk
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = stack(y)[1].float().square().sum()
        found = torch.autograd.grad(loss, layer.weight)[0]
        assert (found.float() - expected).norm() <= 0.03 * expected.norm()


def test_empty_channels_for_a_single_volume_change_nothing():
    torch.manual_seed(0)
    z, kernel = torch.randn(1, 2, 12, 10, 6), torch.randn(2, 24, 3, 3, 3)
    found = adjoint(z, kernel, (1, 1, 1))
    expected = torch.nn.functional.conv_transpose3d(z.double(), kernel.double(), padding=1)
    close(found.double(), expected, 1e-5)
    layer = SymmetricConv(24, dims=3, rank=2)
    wanted = [torch.randn(1, 24, 12, 10, 6, requires_grad=True), *layer.parameters()]
    stacks = [ReversibleStack([layer] * 2, h=0.5, memory=m) for m in ("reversible", "plain")]
    for a, b in zip(*(torch.autograd.grad((m(wanted[0])[0] ** 2).sum(), wanted) for m in stacks)):
        close(a, b, 1e-4)
    wide = SymmetricConv(64, dims=3, rank=2)
    signal = 4 * 64 * 20 * 20 * 6
    assert memory_estimate(wide, (1, 64, 20, 20, 6)).plain <= 9 * signal  # columns alone would be 27 signals


@pytest.mark.parametrize("group", [False, True])
def test_jacobian_is_symmetric_and_negative(group):
    torch.manual_seed(0)
    layer = (SymmetricGroupConv(1, 4, 3, dtype=D) if group else SymmetricConv(2, rank=1, dtype=D)).requires_grad_(False)
    shape = (1, 1, 4, 3, 3) if group else (1, 2, 4, 4)
    size = math.prod(shape)
    jacobian = torch.func.jacrev(lambda y: layer(y.reshape(shape)).flatten())(torch.randn(size, dtype=D))
    close(jacobian, jacobian.T)
    assert torch.linalg.eigvalsh(jacobian).max() <= 1e-12


def test_norm_bound_cap_and_rank_bytes():
    torch.manual_seed(0)
    layer = SymmetricConv(3, activation="identity", dtype=D)
    eye = torch.eye(75, dtype=D).reshape(75, 3, 5, 5)
    k = torch.nn.functional.conv2d(eye, layer.weight, padding=1).flatten(1)
    assert torch.linalg.matrix_norm(k, 2) <= layer.norm_bound() + 1e-12 <= 1.0 + 1e-9
    layer.cap_norm(0.25)
    close(layer.norm_bound(), torch.tensor(0.25, dtype=D))
    for some in (layer, SymmetricGroupConv(2, 4, dtype=D)):
        for limit in (-1.0, 0.0, math.nan):
            with pytest.raises(ValueError, match="^limit: expected"):
                some.cap_norm(limit)
    full, low = SymmetricConv(64, dims=3, device="meta"), SymmetricConv(64, dims=3, rank=1, device="meta")
    assert full.weight.numel() == 64 * low.weight.numel()


@pytest.mark.parametrize("orientations", [4, 8])
def test_group_layer_is_the_group_convolution_and_its_adjoint(orientations):
    torch.manual_seed(0)
    layer = SymmetricGroupConv(2, orientations, 3, rank=3, activation="identity", dtype=D)
    u = torch.randn(1, 2, orientations, 5, 5, dtype=D)
    turned = layer.turned().roll(orientations // 2, 3)  # offsets 0.. to the taps -Or/2.. of an odd window
    window = torch.cat((turned, torch.zeros_like(turned[:, :, :, :1])), 3)
    k = group_convolution(u, window)
    close(layer(u).flatten().dot(u.flatten()), -(k**2).sum())
    turned_field = layer(quarter(u))
    close(turned_field, quarter(layer(u)))


def test_equivariant_reversible_and_coarsening_at_once():
    torch.manual_seed(0)
    down, fine, coarse = CyclicSpaceToDepth(4), [SymmetricGroupConv(2, 4, dtype=D) for _ in range(4)], []
    coarse = [SymmetricGroupConv(8, 4, rank=3, dtype=D) for _ in range(4)]
    stack = ReversibleStack([*fine[:2], down, *coarse, Inverse(down), *fine[2:]], h=0.5)
    u = torch.randn(1, 2, 4, 8, 8, dtype=D)
    for a, b in zip(stack(quarter(u)), stack(u)):
        close(a, quarter(b), 1e-12)
    assert stack.drift(u) <= 1e-12


def test_every_wavelet_that_is_offered_inverts():
    """To rounding: filters that are not exact are refused when a layer is built, and not among the choices."""
    with pytest.raises(ValueError, match="name: expected one of") as refusal:
        Wavelet("none")
    offered = re.findall(r"'([a-z0-9.]+)'", str(refusal.value).split(", got ")[0])
    assert set(pywt.wavelist(kind="discrete")) - set(offered) == {"dmey"}
    x = torch.randn(2, 8, dtype=D)[:, None]
    for name in offered:
        split = Wavelet(name, 1)
        close(split.inverse(split(x)), x, 1e-9)


COARSENINGS = [("haar", True), ("db2", True), ("sym4", True), ("bior1.3", False), ("bior3.1", False), ("orth", True)]


@pytest.mark.parametrize("name, orthogonal", COARSENINGS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_coarsening_inverts_and_keeps_norms(name, orthogonal, dims):
    torch.manual_seed(0)
    split = LearnableOrthogonal(dims, dtype=D) if name == "orth" else Wavelet(name, dims)
    if name == "orth":
        nn.init.normal_(split.skew)
    x = torch.randn(2, 3, *[8, 4, 6][:dims], dtype=D)
    y = split(x)
    assert y.shape == (2, 3 * 2**dims, *[4, 2, 3][:dims])
    close(split.inverse(y), x, 1e-10)
    close(split(Inverse(split)(y)), y, 1e-10)
    assert (abs(y.norm() - x.norm()) <= 1e-9) == orthogonal
    assert split(x.float()).dtype == torch.float32
    for twin in (copy.deepcopy(split), pickle.loads(pickle.dumps(split))):
        assert torch.equal(twin(x), y)


@pytest.mark.parametrize("name", ["haar", "db2", "orth"])
def test_gradients_through_a_coarsening_stack(name):
    torch.manual_seed(0)
    split = LearnableOrthogonal(dtype=D) if name == "orth" else Wavelet(name)
    layers = [SymmetricConv(2, dtype=D), split, SymmetricConv(8, rank=3, dtype=D), Inverse(split)]
    stack = ReversibleStack(layers, h=0.5)
    plain = ReversibleStack(layers, h=0.5, memory="plain")
    x = torch.randn(1, 2, 8, 8, dtype=D, requires_grad=True)
    wanted = [x, *stack.parameters()]
    first = [torch.autograd.grad((m(x)[0] ** 3).sum(), wanted, create_graph=True) for m in (stack, plain)]
    second = [torch.autograd.grad(sum((g**2).sum() for g in f), wanted) for f in first]
    for pair in (first, second):
        for a, b in zip(*pair):
            close(a, b, 1e-9)


def turn_error(split, x):
    """How far the bands are from LL->LL, LH->-HL, HL->LH, HH->-HH under a quarter turn."""
    turned = torch.rot90(split(x).unflatten(1, (4, -1)), 1, (-2, -1))[:, [0, 2, 1, 3]]
    expected = turned * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=D)[:, None, None, None]
    found = split(torch.rot90(x, 1, (-2, -1))).unflatten(1, (4, -1))
    return float((found - expected).detach().norm() / expected.detach().norm())


KEEP = ["haar", "bior1.3", "bior1.5", "bior3.1", "bior3.3", "bior3.9", "rbio1.3", "rbio3.5"]
BREAK = ["db2", "db3", "db8", "sym4", "sym5", "coif1", "bior2.2", "bior4.4", "rbio2.2"]


def test_coarsenings_under_a_quarter_turn():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16, dtype=D)
    errors = {name: turn_error(Wavelet(name), x) for name in KEEP + BREAK}
    assert all(errors[name] <= 1e-12 for name in KEEP), errors
    assert all(errors[name] >= 0.3 for name in BREAK), errors
    learned = LearnableOrthogonal(dtype=D)
    assert turn_error(learned, x) <= 1e-12  # it starts as Haar
    nn.init.normal_(learned.skew)
    assert turn_error(learned, x) >= 0.3


def test_a_pointwise_nonlinearity_on_bands_breaks_the_symmetry():
    torch.manual_seed(0)
    split, x = Wavelet(), torch.randn(1, 1, 8, 8, dtype=D)

    def net(x):
        return split.inverse(torch.relu(split(x)))

    error = net(torch.rot90(x, 1, (-2, -1))) - torch.rot90(net(x), 1, (-2, -1))
    assert error.norm() >= 0.1 * net(x).norm()


def test_the_quarter_turn_is_that_of_the_space():
    u = torch.randn(1, 2, 8, 6, 6, dtype=D)
    close(quarter(u), SE2(8).transform(u, angle=90))


@settings(max_examples=10, deadline=None)
@given(orientations=st.sampled_from([4, 8, 12]), channels=st.integers(1, 3), seed=st.integers(0, 9))
def test_cyclic_space_to_depth_keeps_regular_fields(orientations, channels, seed):
    x = torch.randn(2, channels, orientations, 4, 6, generator=torch.Generator().manual_seed(seed))
    split = CyclicSpaceToDepth(orientations)
    assert torch.equal(split.inverse(split(x)), x)
    assert torch.equal(split(quarter(x)), quarter(split(x)))
