"""Hints about inputs: positions of vertices as features."""

from __future__ import annotations

import pytest
import torch

import pdegcnn as pg
from pdegcnn.testing import report

from ..helpers import bumpy_sphere, torus

MESH = bumpy_sphere(1)


@pytest.mark.parametrize("moved", [False, True])
def test_positions_among_the_features_are_named(moved: bool) -> None:
    """As they are or shifted, turned and scaled; float32 is enough."""
    places = MESH.vertices.T[None].float()
    if moved:
        places = 3 * torch.linalg.qr(torch.randn(3, 3)).Q @ places + 1
    features = {0: torch.cat((torch.randn(1, 2, 42), places), dim=1)}
    layer = pg.gauge.GaugeConv({0: 5}, {0: 2})
    (said,) = report(layer, (features, MESH), MESH).warnings
    assert said.startswith("channels [2, 3, 4] of the input are positions of the vertices")
    assert f"warning: {said}" in str(report(layer, (features, MESH), MESH))


def test_functions_of_the_surface_are_not() -> None:
    functions = torch.cat((pg.gauge.heat_kernel_signature(MESH, 3), pg.gauge.mean_curvature(MESH)), dim=1)
    for given, mesh in ((functions, MESH), (torch.ones(1, 4, 42), MESH), (torch.randn(1, 4, 30), torus(5, 6))):
        layer = pg.gauge.GaugeConv({0: 4}, {0: 2})
        assert not report(layer, ({0: given}, mesh), mesh).warnings
