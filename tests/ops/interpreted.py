"""Tests that only the interpreted Triton versions need; ``test_triton.py`` runs them under ``TRITON_INTERPRET=1``."""

import math

import pytest
import torch

from pdegcnn.ops.convection import convection
from pdegcnn.ops.convection import reference as convection_reference
from pdegcnn.ops.convection.custom_op import BOUNDARIES
from pdegcnn.ops.directional_neighbors import DirectionalNeighbors
from pdegcnn.ops.gather_mean import custom_op as mean_op
from pdegcnn.ops.gather_mean import gather_mean
from pdegcnn.ops.gather_mean import reference as mean_reference
from pdegcnn.ops.gather_morphology import custom_op as morphology_op
from pdegcnn.ops.gather_morphology import gather_morphology
from pdegcnn.ops.gather_morphology import reference as morphology_reference
from pdegcnn.ops.geodesic_flow import geodesic_flow
from pdegcnn.ops.group_convolution import custom_op, group_convolution
from pdegcnn.ops.group_convolution import reference as group_reference
from pdegcnn.ops.morphology import morphological_convolution
from pdegcnn.ops.transport_gather import Stencil, transport_gather
from pdegcnn.ops.transport_gather import custom_op as transport_op
from pdegcnn.ops.transport_gather import reference as transport_reference
from pdegcnn.pde.mesh_neighbors import directional_neighbors, half_edges
from pdegcnn.pde.mesh_stencils import filter_stencil
from tests.helpers import bumpy_sphere, sheet

DTYPES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def agree(fast, slow, inputs, tolerance):
    """Values and gradients of the two in ``inputs``."""
    given, exact = [x.clone().requires_grad_() for x in inputs], [x.double().clone().requires_grad_() for x in inputs]
    got, wanted = fast(*given), slow(*exact)
    weight = torch.randn_like(got)
    ours, theirs = torch.autograd.grad(got, given, weight), torch.autograd.grad(wanted, exact, weight.double())
    for a, b in zip((got, *ours), (wanted, *theirs)):
        torch.testing.assert_close(a.double(), b, atol=tolerance * max(1, float(b.detach().abs().max())), rtol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_transport_gather_triton(dtype):
    torch.manual_seed(0)
    stencil = filter_stencil(sheet(2, 3), 1, 2, None, 1, torch.empty(0, dtype=torch.float64))
    stencil = Stencil(*stencil[:2], *(x.to(dtype) for x in stencil[2:]))
    fields = torch.randn(2, 6, 2, 2, 3, dtype=dtype)
    agree(
        lambda f: transport_gather(f, stencil, "triton"),
        lambda f: transport_reference.transport_gather(f, *stencil[:2], stencil.values.double()),
        (fields,),
        DTYPES[dtype],
    )
    if dtype == torch.float64:
        torch.library.opcheck(transport_op.gather, (fields.requires_grad_(), *stencil, "triton"))


@pytest.mark.parametrize("power, sign", [(0.8, 1), (2.2, -1), (math.inf, 1)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gather_morphology_triton(dtype, power, sign):
    torch.manual_seed(0)
    mesh, wide = sheet(3, 4, orientations=3), torch.promote_types(dtype, torch.float32)
    u = torch.randn(1, 2, 3, 12).mul(8).round().div(8).to(dtype)  # eighths: ties
    lists = directional_neighbors(mesh, 1.2, u)
    double = DirectionalNeighbors(
        *(x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in lists)
    )
    lower = 0.3 * torch.randn(2, 3, 3, dtype=wide).tril() + torch.eye(3, dtype=wide)
    law = torch.tensor([1.3 if math.isinf(power) else 0.7, power], dtype=wide)
    agree(
        lambda u, g: gather_morphology(u, lists, g, law, 3, sign, "triton"),
        lambda u, g: morphology_reference.gather_morphology(u, double, g, law.double(), 3, sign) + 0 * g.sum(),
        (u, lower @ lower.mT),
        DTYPES[dtype],
    )
    if dtype == torch.float64 and power < 1:
        u[0, 0, 1, 5] = math.nan
        out = gather_morphology(u, lists, lower @ lower.mT, law, 3, sign, "triton")
        assert out[0, 0, :, lists.columns[lists.start[5] : lists.start[6]]].isnan().any(0).all()
        arguments = (torch.randn_like(u).requires_grad_(), *lists, lower @ lower.mT, law, 3, sign, "triton")
        torch.library.opcheck(morphology_op.search, arguments)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_convection_of_several_strips_triton(boundary):
    u, shift = torch.randn(2, 1, 2, 11, 17).double(), torch.tensor([[[0.4, -2.3, 3.6], [-1.2, 13.5, -20.1]]]).double()
    agree(
        lambda u, s: convection(u, s, boundary, "triton"),
        lambda u, s: convection_reference.convection(u, s, boundary),
        (u, shift),
        1e-10,
    )


@pytest.mark.parametrize("sign", (1, -1))
def test_morphology_of_several_strips_triton(sign):
    """Same bits as the loops, which walk over the same taps in the same order."""
    u, kernel = torch.randn(3, 1, 2, 11, 13), 2 * torch.rand(1, 2, 3, 3, 5)
    u[1, 0, 1, 4, 6] = math.nan  # this signal is walked over tap by tap
    kernel[0, 0, 1, 1, :2] = math.inf
    given = [[x.clone().requires_grad_() for x in (u, kernel)] for _ in range(2)]
    fast, slow = (morphological_convolution(*x, sign, b) for x, b in zip(given, ("triton", "numba")))
    assert torch.equal(fast.nan_to_num(9), slow.nan_to_num(9))
    weight = torch.randn_like(u)
    for a, b in zip(*(torch.autograd.grad(out, x, weight) for out, x in zip((fast, slow), given))):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gather_mean_triton(dtype):
    torch.manual_seed(0)
    mesh, wide = sheet(3, 4, orientations=3), torch.promote_types(dtype, torch.float32)
    u, profile = torch.randn(2, 2, 3, 12).to(dtype), torch.linspace(1, 0, 9, dtype=torch.float64).square()
    lists = directional_neighbors(mesh, 1.2, u.to(wide))
    double = DirectionalNeighbors(
        *(x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in lists)
    )
    lower = 0.3 * torch.randn(2, 3, 3, dtype=wide).tril() + torch.eye(3, dtype=wide)
    agree(
        lambda u, g: gather_mean(u, lists, g, profile.to(wide), 2.5, 3, "triton"),
        lambda u, g: mean_reference.gather_mean(u, double, g, profile, 2.5, 3),
        (u, lower @ lower.mT),
        DTYPES[dtype],
    )
    if dtype == torch.float64:
        v = torch.randn(1, 2, 2, 4, dtype=dtype, requires_grad=True)
        arguments = (
            v,
            *directional_neighbors(sheet(2, 2, orientations=2), 0.6, v),
            lower @ lower.mT,
            profile,
            2.5,
            1,
            "triton",
        )
        torch.library.opcheck(mean_op.mean, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("open", (True, False))
def test_geodesic_flow_triton(open):
    """Paths that cross several triangles, end at the boundary, or leave the surface at once."""
    mesh = sheet(3, 4, orientations=3) if open else bumpy_sphere(0, orientations=3)
    u = torch.randn(1, 2, 3, mesh.vertex_count, dtype=torch.float64).requires_grad_()
    shift = torch.tensor([[1.3, -0.4, 0.2], [-2.1, 0.9, 1.7]], dtype=torch.float64).requires_grad_()
    fast, slow = (geodesic_flow(u, half_edges(mesh, u), shift, backend) for backend in ("triton", "torch"))
    torch.testing.assert_close(fast, slow)
    weight = torch.randn_like(u)
    for a, b in zip(*(torch.autograd.grad(out, (u, shift), weight) for out in (fast, slow))):
        torch.testing.assert_close(a, b)


def test_group_convolution_of_many_taps_triton():
    """More taps than are written out."""
    agree(
        lambda u, k: group_convolution(u, k, "replicate", "triton"),
        lambda u, k: group_reference.group_convolution(u, k, "replicate"),
        (torch.randn(1, 1, 1, 2, 3).double(), torch.randn(1, 1, 1, 11, 13).double()),
        1e-10,
    )


def test_opcheck_group_convolution_triton():
    u = torch.randn(1, 1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(1, 2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(custom_op.correlate, (u, kernel, [1, 0], "triton"))
    torch.library.opcheck(custom_op.spread, (u, kernel, [1, 0], "triton"))
    torch.library.opcheck(custom_op.products, (u, torch.ones_like(u), [1, 1], 3, "triton"))
