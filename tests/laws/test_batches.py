"""A member of a batch, and a mesh of a union, gets what it gets alone, whatever the others hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import pdegcnn as pg

from ..cases import LAYERS, SPACED_TERMS, Case, converted, outputs
from ..helpers import bumpy_sphere, pieces, sheet

SIGNALS = [c for c in LAYERS if "batches" not in c.lacks]
MESHES = {"closed": bumpy_sphere(1), "open": sheet(3, 4, 0.2), "pieces": pieces(3)}
PAIRS = [("closed", "open"), ("open", "closed"), ("pieces", "open"), ("open", "pieces")]
ON_MESHES = [
    c for c in (*LAYERS, *SPACED_TERMS)
    if "unions" not in c.lacks and (isinstance(c.space, pg.Mesh) or not isinstance(c.inputs[-1], Tensor))
]  # fmt: skip
"""Layers made for a mesh, that take a mesh, or that take fields by spin."""


def rows(value: Any, at: slice) -> Any:
    """Members of a batch of inputs; a mesh is the same for all."""
    if isinstance(value, dict):
        return {k: v[at] for k, v in value.items()}
    return value[at] if isinstance(value, Tensor) else value


def joined(first: Any, second: Any, dim: int) -> Any:
    """Inputs side by side."""
    if isinstance(first, dict):
        return {k: torch.cat((first[k], second[k]), dim) for k in first}
    return torch.cat((first, second), dim) if isinstance(first, Tensor) else first


def changed(value: Any, change: Any) -> Any:
    """Inputs with every tensor changed alike."""
    if isinstance(value, dict):
        return {k: change(v) for k, v in value.items()}
    return change(value) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("case", SIGNALS, ids=str)
def test_a_member_of_a_batch_gets_what_it_gets_alone_whatever_the_others_hold(case: Case) -> None:
    layer, inputs = case.build().double().eval(), [converted(x, torch.float64) for x in case.inputs]
    x, y = ([rows(u, slice(k, k + 1)) for u in inputs] for k in (0, 1))
    torch.manual_seed(1)
    bad = [changed(u, lambda u: torch.where(torch.rand(u.shape) < 0.3, math.nan, u)) for u in y]
    worse = [changed(u, lambda u: u * math.inf) for u in bad]
    refused = any(isinstance(m, pg.reversible.ReversibleStack) for m in layer.modules())
    with torch.no_grad():
        alone = outputs(layer(*x))
        for other in (y, bad, worse):
            for place, pair in enumerate(((x, other), (other, x))):
                both = [joined(u, v, 0) for u, v in zip(*pair)]
                if refused and other is not y:
                    with pytest.raises(ValueError, match="finite"):
                        layer(*both)
                    continue
                together = outputs(layer(*both))
                for u, v in zip(together, alone, strict=True):
                    assert u[place].isfinite().all()
                    torch.testing.assert_close(u[place], v[0], rtol=1e-11, atol=1e-11)
                assert other is y or any(u[1 - place].isnan().any() for u in together), "NaN became a number"


def signals(case: Case, mesh: pg.Mesh) -> Any:
    """An input on another mesh."""
    factor = {pg.gauge.MeshUnpool: 2.0, pg.nn.Upsample: 2.25}.get(case.make)
    count = mesh.vertex_count if factor is None else mesh.coarsen(factor).vertex_count
    return changed(
        converted(case.inputs[0], torch.float64),
        lambda u: torch.randn(*u.shape[:-1], count, dtype=u.dtype),
    )


def on_mesh(case: Case, mesh: pg.Mesh) -> Callable[[Any], list[Tensor]]:
    """The layer on another mesh, with the same parameters on each."""
    mesh = mesh.with_orientations(4)
    if isinstance(case.space, pg.Mesh):
        case = replace(case, arguments={**case.arguments, "space": mesh})
    layer = case.build().double().eval()
    return lambda u: outputs(layer(u, *case.inputs[1:] and (mesh,)))


@pytest.mark.parametrize("case", ON_MESHES, ids=str)
def test_a_mesh_of_a_union_gets_what_it_gets_alone_whatever_the_others_hold(case: Case) -> None:
    for first, second in PAIRS:
        a, b = MESHES[first], MESHES[second]
        x, y = signals(case, a), signals(case, b)
        bad = changed(y, lambda u: torch.where(torch.rand(u.shape[-1]) < 0.5, math.nan, u))
        worse = bad if case.name.endswith("auto") else changed(y, lambda u: u * math.inf)  # whose reach is refused
        with torch.no_grad():
            alone = on_mesh(case, a)(x)
            for order in (1, -1):
                union = on_mesh(case, pg.Mesh.union([a, b][::order]))
                for beside in (y, bad, worse):
                    for u, v in zip(union(joined(*(x, beside)[::order], dim=-1)), alone, strict=True):
                        part = u[..., : v.shape[-1]] if order > 0 else u[..., -v.shape[-1] :]
                        assert part.isfinite().all()
                        torch.testing.assert_close(part, v, rtol=1e-12, atol=1e-12)
