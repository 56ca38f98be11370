"""Ready networks, memory estimates, stability."""

import math
import pickle

import pytest
import torch
from torch import nn

from pdegcnn import R2
from pdegcnn.models.hyperbolic import (
    equivariant_hyperbolic_segmenter,
    hyperbolic_classifier,
    hyperbolic_segmenter,
    video_segmenter,
)
from pdegcnn.reversible import (
    ReversibleStack,
    SymmetricConv,
    depth_smoothness,
    safe_initialise,
    stability_report,
)
from pdegcnn.testing import equivariance_error

D = torch.float64
SMALL = {"orientations": 4, "kernel_size": 3, "depth": 1}
ENDS = {"opening": "normalized", "closing": "normalized"}
MODELS = [
    (lambda **k: hyperbolic_classifier(3, 5, width=2, **k), (2, 3, 9, 12), (2, 5)),
    (lambda **k: hyperbolic_segmenter(3, 5, width=2, **k), (2, 3, 9, 12), (2, 5, 9, 12)),
    (
        lambda **k: hyperbolic_segmenter(3, 5, width=4, rank=(4, 2, 1), batch_norm=True, **ENDS, **k),
        (2, 3, 9, 12),
        (2, 5, 9, 12),
    ),
    (lambda **k: video_segmenter(1, 2, width=2, levels=1, **k), (1, 1, 5, 6, 7), (1, 2, 5, 6, 7)),
    (lambda **k: equivariant_hyperbolic_segmenter(1, 3, width=1, **SMALL, **k), (2, 1, 7, 8), (2, 3, 7, 8)),
    (lambda **k: equivariant_hyperbolic_segmenter(1, 3, layer="symmetric", **SMALL, **k), (1, 1, 7, 8), (1, 3, 7, 8)),
]


@pytest.mark.parametrize("build, shape, out_shape", MODELS)
@pytest.mark.parametrize("exact", [False, True])
def test_models_learn_and_agree_with_plain_autograd(build, shape, out_shape, exact):
    torch.manual_seed(0)
    model = build(dtype=D, exact=exact)
    x = torch.randn(shape, dtype=D)
    assert model(x).shape == out_shape and model(x).dtype == D
    found = []
    for memory in ("reversible", "plain"):
        model.stack.memory = memory
        model.zero_grad()
        (model(x) ** 2).sum().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*found):
        assert (a - b).abs().max() <= 1e-9 * (1 + b.abs().max())
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))
    kept = {n for n, _ in model.named_parameters(remove_duplicate=False)}
    assert {n for n in model.state_dict() if not n.endswith(("mean", "var", "tracked"))} == kept


@pytest.mark.parametrize("layer", ["pde", "symmetric"])
@pytest.mark.parametrize("dtype, tolerance", [(D, 1e-11), (torch.float32, 1e-5)])
def test_the_equivariant_segmenter_commutes_with_quarter_turns_and_reverses(layer, dtype, tolerance):
    torch.manual_seed(0)
    model = equivariant_hyperbolic_segmenter(2, 3, width=1, levels=2, layer=layer, depth=1, kernel_size=3, dtype=dtype)
    x = torch.randn(2, 2, 8, 8, dtype=dtype)
    out = model(x)  # with the statistics of the batch
    assert out.std() > 0.05  # there is something to turn
    assert (model(R2().transform(x, angle=90)) - R2().transform(out, angle=90)).abs().max() <= tolerance
    assert equivariance_error(model, x, R2(), angle=90) <= tolerance
    assert model.stack.drift(model.opening(x)) <= tolerance


def test_block_low_rank_kernels_are_a_hundred_times_smaller():
    options = {"width": 12, "depth": 1, "levels": 3, "device": "meta"}
    full = hyperbolic_segmenter(12, 2, dims=3, **options)
    low = video_segmenter(12, 2, rank=8, **options)
    count = [sum(p.numel() for p in m.stack.parameters()) for m in (full, low)]
    assert count[0] >= 100 * count[1]


def test_each_level_has_its_rank():
    model = hyperbolic_segmenter(3, 2, width=4, depth=1, rank=[3, 2, 1])
    kernels = [layer.weight.shape[:2] for layer in model.stack.layers if isinstance(layer, SymmetricConv)]
    assert kernels == [(3, 4), (2, 16), (1, 64), (2, 16), (3, 4)]
    for rank in ([3, 2], (), [3, 2, 1, 1]):
        with pytest.raises(ValueError, match="rank: expected one number or one for each of 3 levels, got"):
            hyperbolic_segmenter(3, 2, rank=rank)
    with pytest.raises(ValueError, match="rank"):
        hyperbolic_segmenter(3, 2, rank=[3, 0, 1])


def test_a_normalized_closing_reads_the_velocity():
    torch.manual_seed(0)
    model = hyperbolic_segmenter(3, 2, width=4, depth=1, closing="normalized", dtype=D)
    x = torch.randn(2, 3, 8, 8, dtype=D)
    y, v = model.stack(model.opening(x))
    assert (model(x) - model.closing(y) - model.of_velocity(v)).abs().max() <= 1e-12
    assert model.of_velocity(v).abs().max() > 0.1
    for end in ENDS:
        with pytest.raises(ValueError, match=f"{end}: expected one of"):
            hyperbolic_segmenter(3, 2, **{end: "relu"})


def test_a_normalized_opening_names_wrong_channels():
    model = hyperbolic_segmenter(3, 2, width=4, depth=1, opening="normalized")
    with pytest.raises(ValueError, match="x: expected 3 channels"):
        model(torch.randn(2, 4, 8, 8))


@pytest.mark.parametrize("normalized", [False, True])
def test_layers_start_with_the_bound_of_their_kind(normalized):
    """Kernels with batch norm start four times as large; h times the bound of their norm does not depend on h."""
    for h in (0.25, 1.0):
        model = hyperbolic_segmenter(3, 2, width=4, levels=1, rank=2, h=h, batch_norm=normalized)
        for layer in model.modules():
            if isinstance(layer, SymmetricConv):
                wanted = 0.05**0.5 * (4 if normalized else 1)
                torch.testing.assert_close(h * layer.norm_bound(), torch.tensor(wanted), rtol=1e-4, atol=0)


def test_stability_report_cap_and_smoothness():
    torch.manual_seed(0)
    layer = SymmetricConv(3, activation="identity", init_norm=2.0, dtype=D)
    stack = ReversibleStack([layer] * 40, h=1.0)
    y = torch.randn(1, 3, 6, 6, dtype=D)
    report = stability_report(stack, y, iterations=40)
    dense = torch.func.jacrev(lambda y: layer(y).flatten())(y).flatten(1).detach()
    assert abs(report.step_norms[0] - torch.linalg.matrix_norm(dense, 2)) <= 0.02 * report.step_norms[0]
    assert report.bounded and report.growth < 1e4
    wild = ReversibleStack([SymmetricConv(3, activation="identity", init_norm=12.0, dtype=D) for _ in range(9)], h=1.0)
    assert not stability_report(wild, y).bounded and stability_report(wild, y).growth > 1e4
    assert stability_report(wild, y).growth_per_layer > 2
    safe_initialise(wild)
    calm = stability_report(wild, y)
    assert len(calm.growths) == 9 and abs(math.prod(calm.growths) ** (1 / 9) - calm.growth_per_layer) <= 1e-12
    assert 0.9 < calm.growth_per_layer < 1.3
    assert max(stability_report(wild, y).step_norms) <= 0.05 + 1e-9
    assert depth_smoothness(stack) == 0 and depth_smoothness(wild) > 0
    with pytest.raises(ValueError, match="neighbouring"):
        depth_smoothness([nn.Tanh(), nn.Tanh()])


def test_growth_of_a_linear_stack_is_that_of_its_matrix():
    """With f = 0 a perturbation of y stays as it is; with f(y) = y and h = 1 it grows by [[2, 1], [1, 1]]."""

    class Nothing(nn.Module):
        def forward(self, y):
            return torch.zeros_like(y)

    torch.manual_seed(0)
    y = torch.randn(1, 2, 4, 4, dtype=D)
    report = stability_report(ReversibleStack([Nothing()] * 5, h=1.0), y)
    assert report.growths == pytest.approx([1.0] * 5) and report.growth_per_layer == pytest.approx(1.0)

    class Double(nn.Module):
        def forward(self, y):
            return y

    report = stability_report(ReversibleStack([Double()] * 3, h=1.0), y)
    norms = [1.0, 5.0**0.5, 34.0**0.5, 233.0**0.5]  # of (y, v) = (1, 0), (2, 1), (5, 3), (13, 8)
    assert report.growths == pytest.approx([b / a for a, b in zip(norms, norms[1:])])
    assert report.growth == pytest.approx(233.0**0.5)
