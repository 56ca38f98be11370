"""Gathers on the bundle of directions: backends against the specifications, what torch asks of an operator."""

from __future__ import annotations

import math

import pytest
import torch

from pdegcnn.export.operators import PLAIN
from pdegcnn.ops import backend as registry
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors
from pdegcnn.ops.gather_mean import custom_op as mean_op
from pdegcnn.ops.gather_mean import gather_mean
from pdegcnn.ops.gather_mean import reference as mean_reference
from pdegcnn.ops.gather_morphology import custom_op as morphology_op
from pdegcnn.ops.gather_morphology import gather_morphology
from pdegcnn.ops.gather_morphology import reference as morphology_reference
from pdegcnn.ops.geodesic_flow import custom_op as flow_op
from pdegcnn.ops.geodesic_flow import geodesic_flow
from pdegcnn.ops.geodesic_flow.geodesic_tracing import polar_shift
from pdegcnn.pde.mesh_neighbors import directional_neighbors, half_edges

from ..helpers import bumpy_sphere, sheet

DTYPES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2e-2}
MESHES = {"closed": bumpy_sphere(1, orientations=6), "open": sheet(3, 4, orientations=5)}
BACKENDS = registry.available("gather_morphology")


def case(mesh, dtype: torch.dtype) -> tuple[torch.Tensor, DirectionalNeighbors, torch.Tensor]:
    torch.manual_seed(2)
    wide = torch.promote_types(dtype, torch.float32)
    u = torch.randn(2, 3, mesh.orientations, mesh.vertex_count).mul(8).round().div(8).to(dtype)  # eighths: ties
    lower = 0.3 * torch.randn(3, 3, 3, dtype=wide).tril() + torch.eye(3, dtype=wide)
    return u, directional_neighbors(mesh, 1.7, u), lower @ lower.mT


def compare(fast, slow, inputs, tolerance: float, dtype: torch.dtype) -> None:
    exact = [x.double().requires_grad_() for x in inputs]
    given = [x.clone().requires_grad_() for x in inputs]
    expected, got = slow(*exact), fast(*given)
    assert got.dtype == dtype
    weight = torch.randn_like(got)
    wanted = torch.autograd.grad(expected, exact, weight.double())
    came = torch.autograd.grad(got, given, weight)
    for a, b in [(expected, got), *zip(wanted, came)]:
        assert (a - b.double()).detach().abs().max() <= tolerance * max(1.0, float(a.detach().abs().max()))


def wide(lists: DirectionalNeighbors) -> DirectionalNeighbors:
    return DirectionalNeighbors(
        *(x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in lists)
    )


@pytest.mark.parametrize("power", [0.8, 2.2, math.inf])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_morphology(backend, mesh, dtype, sign, power):
    u, lists, matrix = case(mesh, dtype)
    law = torch.tensor([0.7, power], dtype=matrix.dtype)
    if math.isinf(power):
        law[0] = 1.3
    compare(
        lambda u, g, f: gather_morphology(u, lists, g, torch.cat((f, law[1:])), 3, sign, backend),
        lambda u, g, f: (
            morphology_reference.gather_morphology(u, wide(lists), g, torch.cat((f, law[1:].double())), 3, sign)
            + 0 * (f.sum() + g.sum())
        ),
        (u, matrix, law[:1]),
        *(DTYPES[dtype], dtype),
    )


@pytest.mark.parametrize("taps", [1, 3, 7])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("backend", registry.available("gather_mean"))
def test_mean(backend, mesh, dtype, taps):
    u, lists, matrix = case(mesh, dtype)
    profile = torch.exp(-torch.linspace(0, 4, 64, dtype=matrix.dtype))
    compare(
        lambda u, g, p: gather_mean(u, lists, g, p, 3.0, taps, backend),
        lambda u, g, p: mean_reference.gather_mean(u, wide(lists), g, p, 3.0, taps),
        (u, matrix, profile),
        *(DTYPES[dtype], dtype),
    )


@pytest.mark.parametrize("taps", [3, 7])
@pytest.mark.parametrize("backend", registry.available("gather_mean"))
def test_mean_by_metrics_that_do_not_couple_turns(backend, taps):
    """A half turn then changes no weight, but what it adds to the gradient in the coupling."""
    dtype = torch.float32 if backend == "triton" else torch.float64
    u, lists, matrix = case(MESHES["closed"], dtype)
    matrix[:, 2, :2] = matrix[:, :2, 2] = 0
    profile = torch.exp(-torch.linspace(0, 4, 64, dtype=dtype))
    compare(
        lambda u, g, p: gather_mean(u, lists, g, p, 3.0, taps, backend),
        lambda u, g, p: mean_reference.gather_mean(u, wide(lists), g, p, 3.0, taps),
        (u, matrix, profile),
        *(DTYPES[dtype], dtype),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_spreads_and_threads_do_not_matter(backend):
    u, lists, matrix = case(MESHES["closed"], torch.float32)
    law = torch.tensor([0.5, 1.5])
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(gather_morphology(u, lists, matrix, law, 3, 1, backend))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)
    u[0, 0, 2, 5] = math.nan
    out = gather_morphology(u, lists, matrix, law, 3, 1, backend)
    reads = lists.columns[lists.start[5] : lists.start[6]]
    assert out[0, 0, :, reads].isnan().any(0).all()
    assert not out[1].isnan().any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_opcheck_and_compile(backend):
    _, lists, matrix = case(MESHES["open"], torch.float64)
    u = torch.randn(1, 3, 5, 12, dtype=torch.float64, requires_grad=True)
    law = torch.tensor([0.7, 1.4], dtype=torch.float64, requires_grad=True)
    inputs = (u, matrix.requires_grad_(), law)

    def function(u, g, f):
        return gather_morphology(u, lists, (g + g.mT) / 2, f, 3, -1, backend)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
    torch.library.opcheck(morphology_op.search, (u, *lists, matrix, law, 3, 1, backend))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), function(*inputs))


@pytest.mark.parametrize("backend", [b for b in registry.available("gather_mean") if b == "numba"])
def test_mean_under_opcheck_and_compile(backend):
    _, lists, matrix = case(MESHES["open"], torch.float64)
    u = torch.randn(1, 3, 5, 12, dtype=torch.float64, requires_grad=True)
    profile = torch.linspace(1, 0.1, 64, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(mean_op.mean, (u, *lists, matrix.requires_grad_(), profile, 3.0, 3, backend))
    compiled = torch.compile(
        lambda u: gather_mean(u, lists, matrix, profile, 3.0, 3), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(u), gather_mean(u, lists, matrix, profile, 3.0, 3))
    seconds = []
    for name in (backend, "torch"):
        out = gather_mean(u, lists, matrix, profile, 3.0, 3, name)
        first = torch.autograd.grad(out.square().sum(), (u, matrix, profile), create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.square().sum() for g in first), (u, matrix, profile)))
    for came, wanted in zip(*seconds):
        torch.testing.assert_close(came, wanted)


def test_mean_of_graphs_with_and_without_a_backend():
    """Programs that were saved before the operator had several backends name none."""
    u, lists, matrix = case(MESHES["open"], torch.float64)
    arguments = (u, *lists, matrix, torch.linspace(1, 0.1, 64, dtype=torch.float64), 3.0, 3)
    expected = mean_reference.gather_mean(u, lists, *arguments[-4:])
    for found in (
        PLAIN["gather_mean"](*arguments),
        PLAIN["gather_mean"](*arguments, "triton"),
        mean_op.mean(*arguments),
    ):
        torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("reach", [0.0, 0.7, 4.0])
@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("backend", [b for b in registry.available("geodesic_flow") if b != "torch"])
def test_flow(backend, mesh, reach):
    u = torch.randn(2, 3, mesh.orientations, mesh.vertex_count, dtype=torch.float64)
    mesh = mesh.with_gauge(torch.randn(mesh.vertex_count))
    shift = torch.randn(3, 3, dtype=torch.float64)
    shift[:, :2] *= reach
    compare(
        lambda u, s: geodesic_flow(u, half_edges(mesh, u), s, backend),
        lambda u, s: geodesic_flow(u, half_edges(mesh, u), s, "torch"),
        (u, shift),
        *(1e-9, torch.float64),
    )


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_loop_of_the_flow_has_all_derivatives(mesh):
    """First and second ones; the operator repeats its results with any number of threads, and compiles."""
    u = torch.randn(2, 2, mesh.orientations, mesh.vertex_count, dtype=torch.float64, requires_grad=True)
    shift = (torch.rand(2, 3, dtype=torch.float64) + 0.1).requires_grad_()
    edges = half_edges(mesh, u)

    def function(u, shift):
        return geodesic_flow(u, edges, shift)

    assert torch.autograd.gradcheck(function, (u, shift), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (u, shift), fast_mode=True)
    torch.library.opcheck(flow_op.read, (u, polar_shift(shift).detach().requires_grad_(), list(edges)))
    expected = torch.autograd.grad(function(u, shift).square().sum(), (u, shift))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = torch.autograd.grad(function(u, shift).square().sum(), (u, shift))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, expected, again))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(u, shift), function(u, shift))
    torch.testing.assert_close(PLAIN["geodesic_flow"](u, polar_shift(shift), list(edges)), function(u, shift))


@pytest.mark.parametrize("backend", registry.available("geodesic_flow", "cpu"))
def test_paths_along_the_boundary_stay_on_it_whatever_the_rounding(backend):
    """A direction just below the boundary edge is that of the edge."""
    mesh, u = sheet(4, 5, orientations=4), torch.randn(1, 1, 4, 20, dtype=torch.float64)
    ahead, below = (torch.tensor([[0.7, turn, 0.0]], dtype=torch.float64) for turn in (0.0, -1e-14))
    torch.testing.assert_close(
        geodesic_flow(u, half_edges(mesh, u), below, backend), geodesic_flow(u, half_edges(mesh, u), ahead, backend)
    )


def test_bad_input_is_named():
    u, lists, matrix = case(MESHES["open"], torch.float32)
    law, profile, mesh = torch.tensor([1.0, 1.0]), torch.ones(8), MESHES["open"]
    for run, message in (
        (lambda: gather_morphology(u[..., 1:], lists, matrix, law, 3), "u: expected 12 vertices"),
        (lambda: gather_morphology(u, lists, matrix[:1], law, 3), r"matrix: expected shape \[3,3,3\]"),
        (lambda: gather_morphology(u, lists, matrix, law[:1], 3), "law: expected factor and power"),
        (lambda: gather_morphology(u, lists, matrix, law, 2), "taps: expected positive odd"),
        (lambda: gather_morphology(u, lists, matrix, law, 3, 0), "sign: expected one of 1, -1"),
        (lambda: gather_mean(u, lists, matrix, profile[None], 1.0, 3), "profile: expected a tensor of rank 1"),
        (lambda: gather_mean(u[0], lists, matrix, profile, 1.0, 3), "u: expected a tensor of rank 4"),
        (lambda: geodesic_flow(u, half_edges(mesh, u), torch.ones(2, 3)), r"shift: expected shape \[3,3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            run()
