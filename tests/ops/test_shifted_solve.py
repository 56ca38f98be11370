"""The shifted solve: backends against a dense solution, derivatives, what torch asks of an operator."""

from __future__ import annotations

import pytest
import torch

import pdegcnn as pg
from pdegcnn.export import operators
from pdegcnn.ops import backend as registry
from pdegcnn.ops.shifted_solve import custom_op, shifted_solve
from pdegcnn.pde.mesh_stencils import ordered_laplacian

from ..helpers import bumpy_sphere, sheet

BACKENDS = registry.available("shifted_solve")
LIKE = torch.empty(0, dtype=torch.float64)


def dense(stencil, real: bool) -> torch.Tensor:
    """The matrix of a stencil of one field."""
    count = stencil.start.numel() - 1
    rows = torch.repeat_interleave(torch.arange(count), stencil.start.diff())
    matrix = torch.zeros(count, count, dtype=torch.complex128)
    matrix[rows, stencil.columns] = torch.view_as_complex(stencil.values[:, 0].contiguous())
    return matrix.real if real else matrix


@pytest.mark.parametrize("channels", [1, 3, 19])
@pytest.mark.parametrize("spin", [0, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_equation_is_solved(backend: str, spin: int, channels: int) -> None:
    torch.manual_seed(channels)
    mesh = pg.Mesh.union([bumpy_sphere(1), sheet(3, 4, 0.2)])
    stencil, _, order = ordered_laplacian(mesh, spin, LIKE)
    assert torch.equal(order.sort().values, torch.arange(mesh.vertex_count))
    right = torch.randn(2, mesh.vertex_count, 2, channels, dtype=torch.float64)
    time = torch.rand(2, channels, dtype=torch.float64).exp() ** 3 if spin == 0 else 10 * torch.rand(channels).double()
    came = shifted_solve(right, time, stencil, mesh.sizes, backend=backend)
    matrix = dense(stencil, spin == 0)
    for c in range(channels):
        if spin:
            left = came[..., 0, c] + 1j * came[..., 1, c]
            wanted = right[..., 0, c] + 1j * right[..., 1, c]
            torch.testing.assert_close(left + time[c] * (left @ matrix.mT), wanted, rtol=1e-11, atol=1e-11)
        else:
            for part in range(2):
                left = came[..., part, c]
                image = left + time[part, c] * (left @ matrix.mT)
                torch.testing.assert_close(image, right[..., part, c], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("spin", [0, 1])
def test_the_plain_version_of_exports_is_the_same(spin: int) -> None:
    torch.manual_seed(0)
    mesh = sheet(3, 4, 0.2)
    stencil = ordered_laplacian(mesh, spin, LIKE)[0]
    right = torch.randn(2, mesh.vertex_count, 2, 3, dtype=torch.float64)
    time = torch.rand((2, 3) if spin == 0 else (3,), dtype=torch.float64) * 5
    wanted = shifted_solve(right, time, stencil, mesh.sizes)
    plain = operators.shifted_solve(right, time, *stencil, list(mesh.sizes), 1e-14, "torch")
    torch.testing.assert_close(plain, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_and_opcheck(backend: str) -> None:
    torch.manual_seed(0)
    mesh = sheet(3, 3)
    stencil = ordered_laplacian(mesh, 1, LIKE)[0]
    right = torch.randn(1, 9, 2, 2, dtype=torch.float64, requires_grad=True)
    time = torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)

    def solve(right: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return shifted_solve(right, time, stencil, [9], backend=backend)

    assert torch.autograd.gradcheck(solve, (right, time), fast_mode=True)
    assert torch.autograd.gradgradcheck(solve, (right, time), fast_mode=True)
    torch.library.opcheck(
        custom_op.solve,
        (right.detach(), time.detach(), *stencil, [9], 1e-14, backend),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_systems_do_not_touch_each_other(backend: str) -> None:
    """A system that is not finite, a vanishing one and one with a great time, beside an ordinary one."""
    torch.manual_seed(0)
    mesh = bumpy_sphere(1)
    stencil = ordered_laplacian(mesh, 1, LIKE)[0]
    right = torch.randn(1, mesh.vertex_count, 2, 4, dtype=torch.float64)
    time = torch.tensor([1.0, 2.0, 3.0, 1e12], dtype=torch.float64)
    wanted = shifted_solve(right, time, stencil, mesh.sizes, backend=backend)
    assert wanted.isfinite().all()
    right[0, 3, 0, 1], right[..., 2] = torch.inf, 0
    came = shifted_solve(right, time, stencil, mesh.sizes, backend=backend)
    assert came[..., 1].isnan().all() and not came[..., 2].any()
    torch.testing.assert_close(came[..., [0, 3]], wanted[..., [0, 3]])


def test_threads_do_not_change_the_solution() -> None:
    torch.manual_seed(0)
    mesh = bumpy_sphere(1)
    stencil = ordered_laplacian(mesh, 0, LIKE)[0]
    right, time = torch.randn(2, mesh.vertex_count, 2, 20, dtype=torch.float64), torch.rand(2, 20, dtype=torch.float64)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(shifted_solve(right, time, stencil, mesh.sizes))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_bad_input_is_named() -> None:
    stencil = ordered_laplacian(sheet(3, 3), 1, LIKE)[0]
    right, time = torch.zeros(1, 9, 2, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for arguments, error, message in (
        ((right[0], time, stencil, [9]), ValueError, "right: expected a tensor of rank 4"),
        ((right, time, stencil, [8]), ValueError, r"right: expected \[B,8,2,C\]"),
        ((right, time[:2], stencil, [9]), ValueError, r"time: expected shape \[3\] or \[2,3\], got \(2,\)"),
        ((right.float(), time, stencil, [9]), TypeError, "right: expected dtype torch.float64, got torch.float32"),
    ):
        with pytest.raises(error, match=message):
            shifted_solve(*arguments)
