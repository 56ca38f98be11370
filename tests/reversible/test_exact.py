"""`exact=True`: no mismatch after the reversal, gradients bit for bit those of plain autograd, errors outside."""

import copy
import math

import pytest
import torch
from torch import nn

from pdegcnn.reversible import CyclicSpaceToDepth, Inverse, ReversibleStack, SymmetricConv, Wavelet


def build(depth, h, dtype=torch.float32, **options):
    torch.manual_seed(0)
    layers = [SymmetricConv(4, rank=2, activation="tanh", dtype=dtype) for _ in range(depth)]
    return ReversibleStack(layers, h=h, exact=True, **options)


def on_grid(*shape, grid=2.0**-14):
    return torch.round(torch.randn(*shape) / grid) * grid


def test_a_thousand_layers_without_one_mismatch():
    stack, y, v = build(1000, 0.2), on_grid(1, 4, 6, 6), on_grid(1, 4, 6, 6) * 2**-4
    v = torch.round(v * 2**14) / 2**14
    with torch.no_grad():
        back = stack.inverse(*stack(y, v))
    assert torch.equal(back[0], y) and torch.equal(back[1], v)
    assert stack.drift(y, v) == 0.0


@pytest.mark.parametrize("amp", [False, True])
def test_gradients_are_bitwise_those_of_plain_autograd(amp):
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()) for _ in range(30)]
    stack = ReversibleStack(layers, h=0.3, exact=True)
    plain = copy.deepcopy(stack)
    plain.memory = "plain"
    found = []
    for model in (stack, plain):
        y = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp, cache_enabled=False):
            a, b = model(y)
            value = (a**2).sum() + (a * b).sum()
        found.append((value.detach(), *torch.autograd.grad(value, [y, *model.parameters()])))
    assert all(torch.equal(a, b) for a, b in zip(*found))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_coarsening_network_reverses_bit_for_bit(dims):
    torch.manual_seed(0)
    down = Wavelet("haar", dims)
    inner = [SymmetricConv(2 * 2**dims, dims=dims, rank=2) for _ in range(3)]
    stack = ReversibleStack([SymmetricConv(2, dims=dims), down, *inner, Inverse(down)], h=0.3, exact=True)
    y, v = on_grid(1, 2, *[4] * dims), on_grid(1, 2, *[4] * dims)
    back = stack.inverse(*stack(y, v))
    assert torch.equal(back[0], y) and torch.equal(back[1], v)
    stack(y, v)[0].sum().backward()
    assert all(p.grad is not None for p in stack.parameters())


def test_permutations_are_exact_and_other_wavelets_are_refused():
    ReversibleStack([CyclicSpaceToDepth(4)], exact=True)
    with pytest.raises(ValueError, match=r"layers\[0\].*bit-exact"):
        ReversibleStack([Wavelet("db2")], exact=True)


@pytest.mark.parametrize("memory", ["reversible", "plain"])
def test_out_of_range_and_nan_raise(memory):
    class Push(nn.Module):
        def forward(self, y):
            return torch.full_like(y, 300.0)

    y = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"below 1024.*the input"):
        ReversibleStack([nn.Tanh()], exact=True, memory=memory)(y + 1024)
    with pytest.raises(ValueError, match=r"the input"):
        ReversibleStack([nn.Tanh()], exact=True, memory=memory)(y * float("nan"))
    with pytest.raises(ValueError, match=r"after layers\[2\]"):
        ReversibleStack([Push()] * 5, h=1.0, exact=True, memory=memory)(y)


def test_haar_needs_headroom_for_its_shears():
    """Both numbers of a pair are in range, and so are its bands, but the first shear on the way leaves it."""
    pairs = torch.tensor([[[0.9 * 1024, 0.5 * 1024]]])
    assert Wavelet(dims=1)(pairs).abs().max() < 1024 < 0.9 * 1024 + math.tan(math.pi / 8) * 0.5 * 1024
    stack = ReversibleStack([Wavelet(dims=1)], exact=True)
    with pytest.raises(ValueError, match=r"below 724\.077.*the input"):
        stack(pairs)
    safe = on_grid(1, 2, 64) * 2.0**7
    back = stack.inverse(*stack(safe, safe))
    assert torch.equal(back[0], safe) and torch.equal(back[1], safe)


def test_the_inverse_checks_the_range_too():
    stack = build(3, 0.1)
    y = torch.full((1, 4, 4, 4), 400.0)
    with pytest.raises(ValueError, match=r"got 1600 in the state before layers\[0\]"):
        stack.inverse(y, -y)


def test_a_layer_that_is_not_deterministic_is_detected():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.generator = torch.Generator().manual_seed(0)
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, y):
            return self.scale * torch.randn(y.shape, generator=self.generator)

    y, _ = ReversibleStack([Fickle(), Fickle()], h=1.0, exact=True)(torch.zeros(1, 2, 3, 3))
    with pytest.raises(RuntimeError, match="same bits"):
        y.sum().backward()


def test_float32_drift_of_a_thousand_smooth_layers():
    torch.manual_seed(0)
    layer = SymmetricConv(4, activation="tanh")
    stack = ReversibleStack([layer] * 1000, h=0.2)
    assert stack.drift(torch.randn(1, 4, 8, 8)) <= 1e-4
