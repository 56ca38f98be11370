"""Symmetric layers with batch norm: the formula, one map in every memory mode, pieces in eval mode."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pdegcnn.models import hyperbolic_classifier, hyperbolic_segmenter, video_segmenter
from pdegcnn.reversible import NormalizedSymmetricConv, ReversibleStack, memory_estimate
from pdegcnn.reversible.strips import assembled
from pdegcnn.reversible.symmetric import CONV, TRANSPOSED

DIMS, SEED = st.integers(1, 3), st.integers(0, 2**31)


def layer_of(dims, channels=3, rank=2, activation="silu", dtype=torch.float64):
    layer = NormalizedSymmetricConv(channels, 3, dims, rank, activation, dtype=dtype)
    with torch.no_grad():
        layer.scale.uniform_(0.5, 2)
        layer.bias.uniform_(-1, 1)
        layer.running_mean.uniform_(-1, 1)
        layer.running_var.uniform_(0.5, 2)
    return layer


def formula(layer, y, training):
    """-K^T act(N(K y)), by torch's own batch norm."""
    norm = [torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d][layer.dims - 1]
    norm = norm(layer.rank, layer.eps, layer.momentum, dtype=y.dtype).train(training)
    with torch.no_grad():
        norm.weight.copy_(layer.scale), norm.bias.copy_(layer.bias)
        norm.running_mean.copy_(layer.running_mean), norm.running_var.copy_(layer.running_var)
    z = F.silu(norm(CONV[layer.dims](y, layer.weight, padding=1)))
    return -TRANSPOSED[layer.dims](z, layer.weight, padding=1), norm


@given(DIMS, SEED, st.booleans())
@settings(max_examples=20, deadline=None)
def test_the_formula(dims, seed, training):
    torch.manual_seed(seed)
    layer, y = layer_of(dims).train(training), torch.randn(2, 3, *(5, 4, 6)[:dims], dtype=torch.float64)
    wanted, norm = formula(layer, y, training)
    assert torch.allclose(layer(y), wanted, rtol=1e-9, atol=1e-11)
    assert torch.allclose(layer.running_mean, norm.running_mean) and torch.allclose(layer.running_var, norm.running_var)
    if not training:
        with torch.no_grad():
            whole = layer(y)
            assert torch.allclose(whole, wanted, rtol=1e-9, atol=1e-11)
            parts = list(layer.pieces(y))
            assert torch.equal(assembled(iter(parts), y, parts[0].axis), whole)


@pytest.mark.parametrize("training", [True, False])
def test_derivatives(training):
    torch.manual_seed(0)
    layer = layer_of(2).train(training)
    y = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, y)
    assert torch.autograd.gradgradcheck(layer, y)


@given(SEED)
@settings(max_examples=8, deadline=None)
def test_one_map_in_every_memory_mode(seed):
    torch.manual_seed(seed)
    layers = [layer_of(2, 4, 3, "tanh") for _ in range(4)]
    start = [{k: v.clone() for k, v in layer.state_dict().items()} for layer in layers]
    y = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    found = {}
    for memory in ("plain", "reversible"):
        for layer, state in zip(layers, start):
            layer.load_state_dict(state)
        stack, x = ReversibleStack(layers, 0.5, memory=memory), y.clone().requires_grad_()
        params = list(stack.parameters())
        grads = torch.autograd.grad(stack(x)[0].square().sum(), [x, *params])
        moments = [m.clone() for layer in layers for m in (layer.running_mean, layer.running_var)]
        found[memory] = [*grads, *moments]
    for a, b in zip(*found.values()):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("make", [hyperbolic_segmenter, hyperbolic_classifier])
def test_ready_networks(make):
    torch.manual_seed(0)
    model, x = make(2, 3, width=4, depth=1, levels=1, batch_norm=True), torch.randn(2, 2, 9, 10)
    assert any(isinstance(part, NormalizedSymmetricConv) for part in model.modules())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {k for k in before if "running" in k}
    model.eval()
    wanted = model(x)
    with torch.no_grad():
        assert torch.allclose(model(x), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="batch_norm"):
        make(2, 3, batch_norm=1)


def test_video_and_half_precision():
    """bfloat16 under autocast and as the dtype of all parameters; volumes shorter than the kernel run in float32."""
    for size in ((4, 4, 4), (2, 2, 4)):
        x = torch.randn(1, 2, *size)
        model = video_segmenter(2, 2, 4, 1, 1, 2, batch_norm=True)
        with torch.autocast("cpu", torch.bfloat16):
            model(x).float().square().mean().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        half = video_segmenter(2, 2, 4, 1, 1, 2, batch_norm=True, dtype=torch.bfloat16)
        half(x.bfloat16()).float().square().mean().backward()
        assert all(p.grad.isfinite().all() for p in half.parameters())


def test_the_memory_of_a_step_is_estimated():
    model = hyperbolic_segmenter(3, 2, 4, 1, 1, batch_norm=True)
    guess = memory_estimate(model, (1, 3, 16, 16), loss=lambda out: out.square().mean())
    assert 0 < guess.reversible <= guess.plain


def test_reset_begins_anew():
    layer = layer_of(1)
    layer.reset_parameters()
    assert (layer.scale == 1).all() and not layer.bias.any()
    assert not layer.running_mean.any() and (layer.running_var == 1).all()
    assert float(layer.norm_bound().detach()) == pytest.approx(layer.init_norm)
