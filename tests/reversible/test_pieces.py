"""States written over and maps applied piece by piece give what whole tensors give."""

import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pdegcnn.models.hyperbolic import (
    HyperbolicNetwork,
    equivariant_hyperbolic_segmenter,
    hyperbolic_classifier,
    hyperbolic_segmenter,
    video_segmenter,
)
from pdegcnn.reversible import (
    CyclicSpaceToDepth,
    Inverse,
    ReversibleStack,
    SymmetricConv,
    SymmetricGroupConv,
    Wavelet,
    transition,
)
from pdegcnn.reversible.engine import Rule, apply_transition, piecewise
from pdegcnn.reversible.memory import _Live
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
        expected = apply_transition(module, x.clone(), Rule(1.0, grid=grid), inverse)
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


@settings(max_examples=25, deadline=None)
@given(
    dims=st.integers(1, 3),
    rank=st.integers(1, 24),
    channels=st.sampled_from([1, 3, 20, 150]),
    size=st.sampled_from([1, 3, 5]),
    length=st.integers(1, 90),
    batch=st.integers(1, 2),
)
def test_pieces_of_a_symmetric_layer_are_the_layer(dims, rank, channels, size, length, batch):
    torch.manual_seed(0)
    layer = SymmetricConv(channels, size, dims, rank, "tanh", dtype=D)
    nn.init.normal_(layer.bias)
    y = torch.randn(batch, channels, length, *[4, 3][: dims - 1], dtype=D)
    expected = layer(y)
    found = torch.full_like(y, float("nan"))
    with torch.no_grad():
        for piece in layer.pieces(y):
            assert piece.of(found).isnan().all()  # every number once
            piece.of(found).copy_(piece.part)
    assert (found - expected).abs().max() <= 1e-12 * (1 + expected.abs().max())


@pytest.mark.parametrize("rank", [1, 8])
def test_pieces_of_a_group_layer_are_the_layer(rank):
    torch.manual_seed(0)
    layer = SymmetricGroupConv(8, 4, 3, rank, "tanh", dtype=D)
    u = torch.randn(2, 8, 4, 70, 5, dtype=D)
    found = torch.full_like(u, float("nan"))
    with torch.no_grad():
        pieces = list(layer.pieces(u))
        for piece in pieces:
            piece.of(found).copy_(piece.part)
    assert (len(pieces) > 1) == (rank == 1)  # with many channels inside, K weighs more than this state
    assert (found - layer(u)).abs().max() <= 1e-12


class Counting(SymmetricConv):
    """A subclass that changes what the layer computes."""

    def forward(self, y):
        return super().forward(y).tanh()


@pytest.mark.parametrize("memory", ["reversible", "checkpoint", "plain"])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_without_gradients_the_map_is_the_same(memory, exact, overwrite):
    torch.manual_seed(0)
    hooked = SymmetricConv(4, dtype=D)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    norm = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, dtype=D), nn.BatchNorm2d(4, dtype=D))
    split = Wavelet()
    layers = [SymmetricConv(4, rank=1, dtype=D), hooked, split, SymmetricConv(16, dtype=D), Inverse(split)]
    layers += [Counting(4, dtype=D), norm, SymmetricConv(4, 5, dtype=D)]
    stack = ReversibleStack(layers, h=0.4, exact=exact, memory=memory, damping=0.0 if exact else 0.1)
    y, v = torch.randn(2, 4, 100, 6, dtype=D), torch.randn(2, 4, 100, 6, dtype=D)
    for given_v in (None, v):
        state = copy.deepcopy(stack.state_dict())
        expected = stack(y, given_v)
        mean = norm[1].running_mean.clone()
        stack.load_state_dict(state)
        old = [y.clone(), v.clone()]
        with torch.no_grad():
            found = stack(old[0], None if given_v is None else old[1], overwrite=overwrite)
        for a, b in zip(found, expected):
            assert (a - b).abs().max() <= 1e-11 * (1 + b.abs().max())
        assert torch.equal(norm[1].running_mean, mean) or (norm[1].running_mean - mean).abs().max() <= 1e-12
        assert overwrite or (torch.equal(old[0], y) and torch.equal(old[1], v))
        stack.load_state_dict(state)


def test_states_that_share_memory_are_not_written_over():
    torch.manual_seed(0)
    stack = ReversibleStack([SymmetricConv(4, dtype=D)] * 2, h=0.5)
    y = torch.randn(1, 4, 6, 6, dtype=D)
    expected = stack(y, y)
    row = torch.randn(1, 4, 1, 6, dtype=D).expand(1, 4, 6, 6)
    broad = stack(row, row.clone())
    with torch.no_grad():
        found = [*stack(y, y, overwrite=True), *stack(row, row.clone(), overwrite=True)]
    for a, b in zip(found, [*expected, *broad]):
        assert (a - b).abs().max() <= 1e-12


ENDS = {"opening": "normalized", "closing": "normalized"}
NETWORKS = {
    "segmenter": (lambda: hyperbolic_segmenter(3, 5, 4, 1, 2, dtype=D), (1, 3, 70, 42)),
    "low rank": (lambda: hyperbolic_segmenter(3, 5, 8, 1, 2, rank=2, dtype=D), (1, 3, 70, 42)),
    "batch norm": (lambda: hyperbolic_segmenter(3, 5, 8, 1, 2, rank=2, batch_norm=True, dtype=D), (1, 3, 70, 42)),
    "normalized ends": (
        lambda: hyperbolic_segmenter(3, 5, 8, 1, 2, rank=(4, 2, 2), dtype=D, **ENDS),
        (1, 3, 70, 42),
    ),
    "classifier": (lambda: hyperbolic_classifier(3, 5, 4, 1, 1, dtype=D), (2, 3, 50, 42)),
    "video": (lambda: video_segmenter(1, 2, 2, 1, 1, dtype=D), (1, 1, 40, 6, 6)),
    "group": (
        lambda: equivariant_hyperbolic_segmenter(1, 3, 2, 1, layer="symmetric", kernel_size=3, dtype=D),
        (1, 1, 66, 9),
    ),
    "pde": (
        lambda: equivariant_hyperbolic_segmenter(1, 3, 1, 1, orientations=4, kernel_size=3, dtype=D),
        (1, 1, 40, 9),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_without_gradients(name):
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x = build().eval(), torch.randn(shape, dtype=D)
    expected, before = model(x), x.clone()
    with torch.no_grad():
        found = model(x)
    assert torch.equal(x, before)
    assert (found - expected).abs().max() <= 1e-11 * (1 + expected.abs().max())


def test_an_opening_that_gives_its_input_does_not_lose_it():
    stack = ReversibleStack([SymmetricConv(2, dtype=D)], h=0.5)
    model = HyperbolicNetwork(nn.Identity(), stack, nn.Identity(), 1, 2, dense=True)
    x = torch.randn(1, 2, 8, 8, dtype=D)
    before = x.clone()
    with torch.no_grad():
        model(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("layer", ["conv", "batch norm", "normalized ends", "group"])
def test_inference_holds_little_more_than_two_states(layer, monkeypatch):
    monkeypatch.setattr(transition, "GROUP", 1 << 12)  # for small images small groups of channels
    if layer != "group":
        ends = ENDS if layer == "normalized ends" else {}
        model = hyperbolic_segmenter(3, 4, 16, 1, 2, rank=16, batch_norm=layer != "conv", **ends).eval()
        x, width = torch.randn(1, 3, 160, 160), 16
    else:
        options = {"orientations": 4, "layer": "symmetric", "kernel_size": 3, "rank": 1}
        model, width = equivariant_hyperbolic_segmenter(1, 2, 8, 1, 2, **options), 32
        x = torch.randn(1, 1, 160, 160)
    with torch.no_grad(), _Live(False, [x, *model.parameters(), *model.buffers()]) as live:
        model(x)
    state = 4 * width * 160 * 160
    assert 2 * state <= live.peak <= 2.6 * state


def test_a_trace_holds_the_map_alone_and_serves_other_sizes():
    torch.manual_seed(0)
    model = hyperbolic_segmenter(2, 3, 4, 1, 1, dtype=D).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model.stack, torch.randn(1, 4, 8, 8, dtype=D), check_trace=False)
        for size in (8, 44):
            y = torch.randn(1, 4, size, size, dtype=D)
            for a, b in zip(traced(y), model.stack(y)):
                assert (a - b).abs().max() <= 1e-12 * (1 + b.abs().max())
