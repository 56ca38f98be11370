"""Laws of the operators, the rules at the edges of the number line, and the messages for bad arguments."""

import os
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.ops import backend as registry
from pdegcnn.ops.convection import convection
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.morphology import morphological_convolution

MODEST = settings(max_examples=15, deadline=None, derandomize=True)
if os.environ.get("TRITON_INTERPRET") == "1":  # see test_triton.py
    MODEST = settings(max_examples=2, deadline=None, derandomize=True)
MORPHOLOGY = registry.available("morphological_convolution")
INF = torch.inf


@pytest.mark.parametrize("backend", MORPHOLOGY)
@MODEST
@given(seed=st.integers(0, 999), constant=st.integers(-8, 8))
def test_dilation_laws(backend, seed, constant):
    torch.manual_seed(seed)
    u = torch.randint(-9, 9, (1, 2, 4, 6, 7)).double()
    v = u + torch.randint(0, 5, u.shape)
    kernel = torch.randint(0, 6, (2, 4, 3, 5, 3)).double()

    def dilate(x):
        return morphological_convolution(x, kernel, 1, backend)

    assert torch.equal(dilate(u + constant), dilate(u) + constant)
    assert (dilate(v) >= dilate(u)).all()
    assert torch.equal(dilate(torch.maximum(u, v.flip(-1))), torch.maximum(dilate(u), dilate(v.flip(-1))))
    assert torch.equal(morphological_convolution(u, kernel, -1, backend), -dilate(-u))


@pytest.mark.parametrize("backend", MORPHOLOGY)
def test_absent_taps_and_ties(backend):
    u = torch.zeros(1, 1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    absent = torch.full((1, 1, 1, 3, 3), INF, dtype=torch.float64, requires_grad=True)
    out = morphological_convolution(u, absent, 1, backend)
    assert (out == -INF).all()
    grads = torch.autograd.grad(out, (u, absent), torch.ones_like(out))
    assert all((g == 0).all() for g in grads)
    flat = torch.zeros_like(absent).requires_grad_()
    _, grad = torch.autograd.grad(morphological_convolution(u, flat, 1, backend).sum(), (u, flat))
    assert grad[0, 0, 0].tolist() == [[-4, -2, 0], [-2, -1, 0], [0, 0, 0]]  # the first tap inside the image


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("odd", [None, torch.nan, -INF, INF])
def test_winners_kept_as_taps_and_as_rows_give_the_same_gradients(monkeypatch, full, odd):
    """Which of the two the Numba version keeps depends on the processor."""
    numba_impl = pytest.importorskip("pdegcnn.ops.morphology.numba_impl")
    monkeypatch.setattr(numba_impl, "FULL", full)
    torch.manual_seed(0)
    u, kernel = torch.randn(2, 2, 4, 6, 7), torch.rand(2, 4, 3, 3, 5)
    if odd is not None:
        u[0, 0, 1, 2, 3] = kernel[1, 2, 1, 1, 2] = odd
    results = []
    for backend in ("numba", "torch"):
        given = u.double().requires_grad_(), kernel.double().requires_grad_()
        out = morphological_convolution(*given, -1, backend)
        weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
        grads = torch.autograd.grad(out, given, weight, create_graph=True)
        results.append((out, *grads))
        tangent = torch.autograd.grad(grads[0].square().sum() + grads[1].square().sum(), given, allow_unused=True)
        assert all(g is None or not g.isnan().any() for g in tangent)
    for ours, wanted in zip(*results):
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("where", ["u", "kernel"])
@pytest.mark.parametrize("backend", MORPHOLOGY)
def test_nan_propagates(backend, where):
    u, kernel = torch.randn(1, 1, 2, 5, 5), torch.rand(1, 2, 1, 3, 3)
    kernel[0, 0, 0, 0, 0] = INF
    if where == "u":
        u[0, 0, 0, 2, 2] = torch.nan
    else:
        kernel[0, 1, 0, 1, 1] = torch.nan
    out = morphological_convolution(u, kernel, 1, backend)
    if where == "u":
        assert out[0, 0, 0].isnan().sum() == 8 and not out[0, 0, 1].isnan().any()
    else:
        assert out[0, 0, 1].isnan().all() and not out[0, 0, 0].isnan().any()


@pytest.mark.parametrize("backend", registry.available("convection"))
@MODEST
@given(seed=st.integers(0, 999))
def test_convection_laws(backend, seed):
    torch.manual_seed(seed)
    u = torch.randn(2, 2, 4, 5, 6, dtype=torch.float64)
    step = torch.randint(-9, 9, (3,))
    moved = convection(u, step.double().expand(2, 4, 3).contiguous(), "periodic", backend)
    assert torch.equal(moved, u.roll(tuple((-step).tolist()), (2, 3, 4)))
    shift = torch.randn(2, 4, 3, dtype=torch.float64) * 3
    for boundary in ("replicate", "periodic"):
        assert torch.allclose(convection(torch.ones_like(u), shift, boundary, backend), torch.ones_like(u))


@pytest.mark.parametrize("backend", registry.available("group_convolution"))
def test_depthwise_is_diagonal_mixing(backend):
    u, kernel = torch.randn(2, 3, 4, 5, 6).double(), torch.randn(3, 4, 3, 3, 5).double()
    full = torch.zeros(3, *kernel.shape).double()
    full[range(3), range(3)] = kernel
    assert torch.allclose(group_convolution(u, kernel, backend=backend), group_convolution(u, full, backend=backend))


U = torch.zeros(1, 2, 4, 5, 5)


def test_backend_can_be_forced(monkeypatch):
    monkeypatch.setenv("PDEGCNN_BACKEND", "torch")
    assert registry.choose("convection", U, None) == "torch"
    monkeypatch.setenv("PDEGCNN_BACKEND", "fastest")
    with pytest.raises(ValueError, match="backend: expected one of"):
        registry.choose("convection", U, None)


def test_absent_numba_is_a_soft_failure(monkeypatch):
    monkeypatch.setattr(registry, "_import_problem", lambda name: f"{name} cannot be imported")
    assert registry.choose("convection", U, None) == "torch"
    assert "numba cannot be imported" in registry.backends(show=False)
    with pytest.raises(ValueError, match="numba cannot be imported"):
        registry.choose("convection", U, "numba")


def test_without_numba_one_warning_says_what_it_costs(monkeypatch) -> None:
    monkeypatch.setitem(registry._PROBLEMS, "numba", "numba is not installed")
    monkeypatch.setattr(registry, "_TRIED", set())
    layer, u = pg.nn.PDELayer(pg.SE2(4), 1, 1, ("dilation",), kernel_size=3), torch.rand(1, 1, 4, 5, 5)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        layer(u)
        layer(u)
    (only,) = [w for w in said if "numba" in str(w.message)]
    assert "15 times" in str(only.message) and "pip install numba" in str(only.message)


@pytest.mark.parametrize("full", [False, True])
def test_taps_that_are_too_dear_to_win_are_left_out_and_change_nothing(monkeypatch, full):
    """The Numba version compares only the part of a wide row that can be the maximum; ties still go to the first."""
    numba_impl = pytest.importorskip("pdegcnn.ops.morphology.numba_impl")
    monkeypatch.setattr(numba_impl, "FULL", full)
    torch.manual_seed(0)
    u = torch.randint(0, 4, (2, 3, 4, 6, 9)).double()
    away = (torch.arange(7) - 3).abs()
    steep = torch.tensor([0.5, 2.0, 9.0])[:, None, None, None, None]
    kernel = (steep * (away + (torch.arange(3) - 1).abs()[:, None])).double().expand(3, 4, 3, 3, 7).contiguous()
    kernel[1, :, :, :, -1] = INF
    for sign in (1, -1):
        results = []
        for backend in ("numba", "torch"):
            given = u.clone().requires_grad_(), kernel.clone().requires_grad_()
            out = morphological_convolution(*given, sign, backend)
            weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
            results.append((out, *torch.autograd.grad(out, given, weight)))
        for ours, wanted in zip(*results):
            torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-12)
