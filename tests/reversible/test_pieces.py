"""States written over and maps applied piece by piece give what whole tensors give."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pdegcnn.reversible import CyclicSpaceToDepth, Inverse, ReversibleStack, SymmetricConv, Wavelet, transition
from pdegcnn.reversible.engine import Rule, piecewise, transit
from pdegcnn.reversible.transition import apply_to_channels

D = torch.float64
GRID = 2.0**-14


def cases():
    """Transitions with the shape of a fine state."""
    space = {1: (8,), 2: (4, 6), 3: (4, 2, 6)}
    found = [(Wavelet(name, dims), space[dims]) for name in ("haar", "db2", "bior1.3") for dims in (1, 2, 3)]
    return [*found, (CyclicSpaceToDepth(4), (4, 4, 6))]


@settings(max_examples=25, deadline=None)
@given(
    case=st.sampled_from(range(10)),
    batch=st.integers(1, 3),
    channels=st.integers(1, 7),
    group=st.sampled_from([1, 100, 10**6]),
    way=st.sampled_from(["down", "up", "inverse of down"]),
    exact=st.booleans(),
    own=st.booleans(),
)
def test_a_few_channels_at_a_time_and_in_place(case, batch, channels, group, way, exact, own):
    split, space = cases()[case]
    exact = exact and split.bit_exact
    x = torch.round(torch.randn(batch, channels, *space) / GRID) * GRID
    x = split.on_grid(x, GRID) if way != "down" else x
    module = Inverse(split) if way == "up" else split
    grid, inverse = GRID if exact else None, way == "inverse of down"
    with torch.enable_grad():
        expected = transit(module, x.clone(), Rule(1.0, grid=grid), inverse)
    before, old = x.clone(), transition.GROUP
    try:
        transition.GROUP = group
        found = apply_to_channels(module, x, grid, inverse, own)
    finally:
        transition.GROUP = old
    assert torch.equal(found, expected) and found.is_contiguous()
    assert (found.data_ptr() == x.data_ptr()) == own
    assert own or torch.equal(x, before)


def test_the_inverse_of_an_orthogonal_map_is_its_transpose_bit_for_bit():
    for split, space in cases():
        x = torch.randn(2, 3, *space, requires_grad=True)
        y = split(x)
        g = torch.randn_like(y)
        (expected,) = torch.autograd.grad(y, x, g)
        error = (split.inverse(g) - expected).abs().max()
        if getattr(split, "name", "haar") == "haar":
            assert split.orthogonal and error == 0
        assert (error <= 1e-5) == split.orthogonal


def test_what_a_subclass_changes_is_not_taken_to_pieces():
    class Mixing(Wavelet):
        def forward(self, x):
            return super().forward(x.flip(1))

        def inverse(self, x):
            return super().inverse(x).flip(1)

    torch.manual_seed(0)
    with torch.no_grad():
        x = torch.randn(1, 3, 4, 4)
        assert piecewise(Wavelet(), x) and piecewise(Inverse(Wavelet()), x)
        assert not piecewise(Mixing(), x) and not piecewise(Inverse(Mixing()), x)
    stack = ReversibleStack([Mixing(), SymmetricConv(12, dtype=D), Inverse(Mixing())], h=0.5)
    plain = copy.deepcopy(stack)
    plain.memory = "plain"
    x = torch.randn(1, 3, 4, 4, dtype=D, requires_grad=True)
    for a, b in zip(*(torch.autograd.grad((m(x)[0] ** 3).sum(), [x, *m.parameters()]) for m in (stack, plain))):
        assert (a - b).abs().max() <= 1e-11 * (1 + b.abs().max())


@pytest.mark.parametrize("name", ["haar", "db2", "bior1.3"])
@pytest.mark.parametrize("exact", [False, True])
def test_gradients_through_transitions_that_follow_each_other(name, exact):
    if exact and name != "haar":
        with pytest.raises(ValueError, match="bit-exact"):
            ReversibleStack([Wavelet(name)], exact=True)
        return
    torch.manual_seed(0)
    split = Wavelet(name)
    layers = [split, split, nn.Tanh(), Inverse(split), SymmetricConv(12, dtype=D), Inverse(split), split]
    found = []
    for memory in ("reversible", "plain"):
        stack = ReversibleStack(layers, h=0.5, exact=exact, memory=memory)
        y, v = (torch.randn(2, 3, 8, 4, dtype=D, requires_grad=True) for _ in range(2))
        with torch.no_grad():
            y.copy_(torch.linspace(-1, 1, y.numel()).view_as(y))
            v.copy_(y.sin())
        out = stack(y, v)
        found.append([*out, *torch.autograd.grad((out[0] ** 3).sum() + out[1].sum(), [y, v, *stack.parameters()])])
    for a, b in zip(*found):
        assert (a - b).abs().max() <= 1e-11 * (1 + b.abs().max())
