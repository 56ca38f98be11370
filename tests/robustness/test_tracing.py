"""``torch.jit.trace``: every layer and network traces, rightly for other inputs too; or the error says why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pdegcnn as pg

from .calls import BALL, BUNDLE, CHANNELS, IMAGE, LAYERS, LIFTED, MESH, R2, S2, SE2, SO3, SPHERE, SPINS, find, outputs

pytestmark = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Casting complex values"),
]
ALL, LINEAR = ("convection", "diffusion", "dilation", "erosion"), ("convection", "diffusion")
Layers = dict[str, tuple[type[nn.Module], dict[str, Any], Tensor]]
TERMS: Layers = {
    name: (pg.nn.PDELayer, {"space": space, "terms": ALL[name == "S2" :], "learn_alpha": True, "alpha": 0.7}, u)
    for name, space, u in (("R2", R2, IMAGE), ("SE2", SE2, LIFTED), ("S2", S2, SPHERE), ("SO3", SO3, BALL))
} | {
    "Mesh": (pg.nn.PDELayer, {"space": MESH, "terms": ALL, "alpha": 0.7, "kernel_size": 3}, BUNDLE),
    "spectral": (
        pg.nn.PDELayer, {"space": SE2, "terms": LINEAR, "convection": "spectral", "diffusion": "spectral"}, LIFTED,
    ),
    "finer samples": (pg.nn.PDELayer, {"space": S2, "terms": ("dilation",), "oversample": 2}, SPHERE),
    "newton": (pg.nn.PDELayer, {"space": S2, "terms": ("dilation",), "subgrid": "newton"}, SPHERE),
}  # fmt: skip


class OnFields(nn.Module):
    """A gauge layer between tensors: a trace holds no dictionaries by spin, and no meshes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, scalar: Tensor, vector: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.layer({0: scalar, 1: vector}, MESH).values())


def check(layer: nn.Module, *inputs: Tensor) -> None:
    layer.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        traced = torch.jit.trace(layer, inputs, check_trace=False)
        for given in (inputs, tuple(torch.randn_like(x) for x in inputs)):
            for a, b in zip(outputs(traced(*given)), outputs(layer(*given)), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in LAYERS if not n.startswith("gauge.")])
def test_every_layer_and_network(name: str) -> None:
    torch.manual_seed(0)
    options, inputs = LAYERS[name]
    check(find(name)(**options), *inputs)


@pytest.mark.parametrize("name", TERMS)
def test_every_term_on_every_space(name: str) -> None:
    torch.manual_seed(0)
    make, options, u = TERMS[name]
    check(make(in_channels=2, out_channels=3, **options), u)


@pytest.mark.parametrize(
    "layer", [pg.gauge.GaugeConv(CHANNELS, CHANNELS), pg.gauge.Diffusion(2, 1, method="spectral", modes=3)]
)
def test_gauge_layers_between_tensors(layer: nn.Module) -> None:
    check(OnFields(layer), SPINS[0], SPINS[1])


def test_what_depends_on_values_is_refused() -> None:
    layer = pg.nn.PDELayer(SE2, 2, 2, ("dilation",), kernel_size="auto").eval()
    with pytest.raises(RuntimeError, match="kernel_size: expected odd sizes inside torch.jit.trace"):
        torch.jit.trace(layer, LIFTED, check_trace=False)
    with pytest.raises(RuntimeError, match="method='implicit'.*got a trace"):
        torch.jit.trace(OnFields(pg.gauge.Diffusion(2, 1)), (SPINS[0], SPINS[1]), check_trace=False)


def test_convection_on_a_mesh_is_exported() -> None:
    """Where paths end depends on the parameters; the search for it is one operator of the graph."""
    layer = pg.nn.Convection(MESH, 2).eval()
    with torch.no_grad():
        program = torch.export.export(layer, (BUNDLE,), strict=False)
        torch.testing.assert_close(program.module()(BUNDLE + 1), layer(BUNDLE + 1))
