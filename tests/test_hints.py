"""Errors and warnings say what to do next, where the usual reason is known."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import pdegcnn as pg
from pdegcnn.ops import backend

SPACE = pg.SE2(8)
TETRAHEDRON = (
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: pg.nn.PDELayer(SPACE, 3, 3)(x),
        lambda x: pg.nn.Project(SPACE)(x),
        lambda x: pg.nn.GroupConv(SPACE, 3, 3, 3)(x),
        lambda x: pg.functional.dilation(x, SPACE, torch.ones(3, 3), kernel_size=3),
    ],
)
def test_an_image_where_a_lifted_signal_is_due(call) -> None:
    with pytest.raises(ValueError, match=r"lift first: pdegcnn.nn.Lift\(space, in_channels, out_channels\)"):
        call(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError) as other:
        call(torch.rand(1, 3, 8))
    assert "lift first" not in str(other.value)


def test_images_of_eight_bits() -> None:
    with pytest.raises(TypeError, match=r"got dtype torch.uint8; an image of 8 bits: \w+.float\(\) / 255"):
        pg.nn.Lift(SPACE, 3, 4, kernel_size=5)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_a_mesh_from_arrays() -> None:
    with pytest.raises(TypeError, match=r"^surface: expected .*Mesh.from_arrays\(vertices, faces\).* got ndarray"):
        pg.Mesh(*TETRAHEDRON)
    assert pg.Mesh.from_arrays(*TETRAHEDRON).vertex_count == 4


@pytest.mark.parametrize("name", sorted(pg.models.MODELS))
def test_builders_check_the_names_of_their_options(name) -> None:
    with pytest.raises(TypeError, match=f"^{name}: expected options among .*, got 'dvice'; did you mean 'device'"):
        pg.models.MODELS[name](dvice="cpu")
    with pytest.raises(TypeError, match=f"^{name}: .*zzzz"):
        pg.models.MODELS[name](zzzz=1)


def test_reports_warn_of_what_is_seldom_meant() -> None:
    def told(orientations: int, x: torch.Tensor) -> tuple[str, ...]:
        space = pg.SE2(orientations)
        model = nn.Sequential(pg.nn.Lift(space, 1, 2, kernel_size=3), pg.nn.Project(space))
        found = pg.testing.report(model, x, space)
        assert all(text in str(found) for text in found.warnings)
        return found.warnings

    x = torch.rand(1, 1, 8, 8)
    assert not told(8, x) and not told(8, 255 * (x - 0.5))
    (eight,) = told(8, (255 * x).floor())
    assert eight.endswith("x / 255")
    (seven,) = told(7, x)
    assert "the 7 orientations" in seven and "multiples of 4" in seven


@pytest.mark.parametrize("memory", ["reversible", "plain", "checkpoint"])
def test_a_stack_as_a_part_of_a_sequence(memory) -> None:
    """``output="state"`` gives the first of both states, with the same gradients."""
    torch.manual_seed(0)
    layers = [pg.reversible.SymmetricConv(2).double() for _ in range(3)]
    both = pg.reversible.ReversibleStack(layers, h=0.2, memory=memory)
    alone = pg.reversible.ReversibleStack(copy.deepcopy(layers), h=0.2, memory=memory, output="state")
    x = torch.rand(1, 2, 5, 5, dtype=torch.float64)
    model = nn.Sequential(alone, nn.Conv2d(2, 1, 1).double())
    torch.testing.assert_close(model(x), model[1](both(x)[0]), atol=1e-12, rtol=0)
    both(x)[0].sum().backward()
    alone(x).sum().backward()
    for p, q in zip(both.parameters(), alone.parameters()):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="^output: expected one of 'states', 'state', got 'y'"):
        pg.reversible.ReversibleStack(layers, output="y")


def test_without_numba_one_warning_says_what_it_costs(monkeypatch) -> None:
    monkeypatch.setitem(backend._PROBLEMS, "numba", "numba is not installed")
    monkeypatch.setattr(backend, "_TRIED", set())
    layer, u = pg.nn.PDELayer(pg.SE2(4), 1, 1, ("dilation",), kernel_size=3), torch.rand(1, 1, 4, 5, 5)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        layer(u)
        layer(u)
    (only,) = [w for w in said if "numba" in str(w.message)]
    assert "15 times" in str(only.message) and "pip install numba" in str(only.message)
