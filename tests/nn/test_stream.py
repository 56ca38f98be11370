"""Large signals are solved a few channels at a time without gradients, to the same result, by the same modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.prune as prune
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import pdegcnn as pg
from pdegcnn.nn import terms
from pdegcnn.spaces import Space

from ..helpers import MESH_CASES, signal

OPTIONS = [
    {"learn_alpha": True},
    {"batch_norm": False, "splitting": "strang", "metric": "spd"},
    {"convection": "spectral", "diffusion": "spectral", "kernel_size": (3, 3, 3)},
]


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every signal is large; the groups of channels that were solved."""
    found: list[Any] = []
    inner = terms._of_channels
    monkeypatch.setattr(terms, "STREAM_ABOVE", 0)
    monkeypatch.setattr(terms, "_of_channels", lambda p, group: (found.append(group), inner(p, group))[1])
    return found


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("space", [pg.SE2(4), pg.R2(), MESH_CASES[0]], ids=str)
def test_streaming_changes_nothing(space: Space, options: dict[str, Any], pieces: list[Any]) -> None:
    if not space.has_orientations:
        options = options | {"kernel_size": 3}
    if isinstance(space, pg.Mesh):
        options = {k: v for k, v in options.items() if k not in ("convection", "diffusion")} | {"kernel_size": 3}
    net = pg.nn.PDELayer(space, 5, 3, **{"kernel_size": 3} | options, dtype=torch.float64)
    u = signal(space, (6, 7), channels=5, batch=2) if not isinstance(space, pg.Mesh) else torch.randn(2, 5, 8, 42)
    u = u.double()
    net(u)  # running statistics that differ from the initial ones
    whole = net.eval()(u)
    assert not pieces, "gradients need the whole signal"
    with torch.no_grad():
        torch.testing.assert_close(net(u), whole, rtol=0, atol=1e-12)
        assert {(g.start, g.stop) for g in pieces} == {(i, i + 1) for i in range(5)}
        twin = net.train()(u)
    torch.testing.assert_close(twin, net(u), rtol=0, atol=1e-12)


CHANGES: dict[str, Callable[[pg.nn.PDELayer], Any]] = {
    "group norm": lambda net: setattr(net, "norm", nn.GroupNorm(1, 2)),
    "no norm": lambda net: setattr(net, "norm", nn.Identity()),
    "norm in training mode": lambda net: net.norm.train(),  # type: ignore[union-attr]
    "another mixing": lambda net: setattr(net, "mix", nn.Sequential(net.mix, nn.Hardtanh())),
    "pruned mixing": lambda net: prune.l1_unstructured(net.mix, "weight", 0.5),
    "pruned vectors": lambda net: prune.l1_unstructured(net.terms["convection"], "vector", 0.5),
    "pruned metric": lambda net: prune.random_unstructured(net.terms["dilation"].metric, "raw", 0.5),
    "spectral norm": lambda net: spectral_norm(net.mix),
    "classic spectral norm": lambda net: torch.nn.utils.spectral_norm(net.mix),
    "hook of the mixing": lambda net: net.mix.register_forward_hook(lambda _m, _i, out: 2 * out),
    "hook before the norm": lambda net: net.norm.register_forward_pre_hook(lambda _m, i: (i[0] + 1,)),  # type: ignore
    "hook of a term": lambda net: net.terms["dilation"].register_forward_hook(lambda _m, _i, out: out - out.mean()),
    "term of one's own": lambda net: net.terms.update({"dilation": Blur()}),
}


class Blur(nn.Module):
    """A term that joins channels, as the library's do not."""

    def forward(self, u: Tensor, time: float = 1.0) -> Tensor:
        return u - time * u.mean(1, keepdim=True)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_layers_do_with_large_signals_what_they_do_with_small_ones(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also right after their state was loaded."""

    def build() -> pg.nn.PDELayer:
        layer = pg.nn.PDELayer(pg.R2(), 2, 2, ("convection", "dilation"), kernel_size=3, dtype=torch.float64).eval()
        CHANGES[change](layer.double())
        return layer.double()

    trained, fresh, u = build(), build(), torch.randn(2, 2, 6, 7, dtype=torch.float64)
    state = {k: v.clone() for k, v in trained.state_dict().items()}
    with torch.no_grad():
        wanted = trained(u)
        fresh.load_state_dict(state)
        monkeypatch.setattr(terms, "STREAM_ABOVE", 0)
        torch.testing.assert_close(fresh(u), wanted, rtol=0, atol=1e-12)
