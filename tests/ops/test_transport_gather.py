"""The transport gather: backends against the specification, adjointness, what torch asks of an operator."""

from __future__ import annotations

import pytest
import torch

from pdegcnn.ops import backend as registry
from pdegcnn.ops.transport_gather import Stencil, custom_op, reference, transport_gather
from pdegcnn.pde.mesh_stencils import filter_stencil

from ..helpers import bumpy_sphere, sheet

DTYPES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
BACKENDS = registry.available("transport_gather")


def case(dtype: torch.dtype = torch.float64, mesh=None) -> tuple[torch.Tensor, Stencil]:
    torch.manual_seed(1)
    mesh = mesh or bumpy_sphere(1)
    stencil = filter_stencil(mesh, 1, 2, 1.4, 2, torch.empty(0, dtype=dtype))
    stencil = Stencil(*stencil[:2], *(x.to(dtype) for x in stencil[2:]))
    return torch.randn(2, mesh.vertex_count, 4, 2, 3, dtype=dtype), stencil


@pytest.mark.parametrize("mesh", [bumpy_sphere(1), sheet(4, 5)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_and_gradients_are_those_of_the_specification(backend, dtype, mesh):
    fields, stencil = case(dtype, mesh)
    wide = torch.promote_types(dtype, torch.float32)
    exact, given = fields.to(wide).requires_grad_(), fields.clone().requires_grad_()
    wanted = reference.transport_gather(exact, *stencil[:2], stencil.values.to(wide))
    came = transport_gather(given, stencil, backend)
    assert came.dtype == dtype
    weight = torch.randn_like(came)
    (gradient,) = torch.autograd.grad(wanted, exact, weight.to(wide))
    (ours,) = torch.autograd.grad(came, given, weight)
    torch.testing.assert_close(came.to(wide), wanted, atol=DTYPES[dtype], rtol=DTYPES[dtype])
    torch.testing.assert_close(ours.to(wide), gradient, atol=DTYPES[dtype], rtol=DTYPES[dtype])


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_opcheck_and_compile(backend):
    fields, stencil = case(mesh=sheet(3, 3))
    fields.requires_grad_()
    assert torch.autograd.gradcheck(lambda f: transport_gather(f, stencil, backend), (fields,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda f: transport_gather(f, stencil, backend), (fields,), fast_mode=True)
    torch.library.opcheck(custom_op.gather, (fields, *stencil, backend))
    torch.library.opcheck(custom_op.spread, (fields.detach()[:, :, 0], *stencil, backend))
    compiled = torch.compile(lambda f: transport_gather(f, stencil, backend), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(fields), transport_gather(fields, stencil, backend))


def test_threads_do_not_change_the_result():
    fields, stencil = case(torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(transport_gather(fields, stencil))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_bad_input_is_named():
    fields, stencil = case()
    for run, error, message in (
        (lambda: transport_gather(fields[0], stencil), ValueError, "fields: expected a tensor of rank 5"),
        (lambda: transport_gather(fields[:, 1:], stencil), ValueError, r"fields: expected \[B,42,K,2,C\]"),
        (lambda: transport_gather(fields[:, :, :2], stencil), ValueError, "stencil.values: expected shape"),
        (lambda: transport_gather(fields.float(), stencil), TypeError, "stencil.values: expected dtype torch.float32"),
    ):
        with pytest.raises(error, match=message):
            run()
