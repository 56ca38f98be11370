"""What is read between samples: backends against the specification, adjointness, what torch asks of an operator."""

from __future__ import annotations

import math

import pytest
import torch

from pdegcnn.ops import backend as registry
from pdegcnn.ops.between_samples import between_samples, custom_op, reference

DTYPES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}
BACKENDS = registry.available("between_samples")
SHAPES = [(2, 3, 8, 6, 7), (1, 2, 3, 4, 5), (1, 1, 5, 3, 1), (1, 2, 1, 1, 2), (2, 1, 2, 2, 2), (1, 1, 4, 2, 3)]
SHIFTS = [
    [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5)],
    [(0.0, 0.3, 0.0), (0.0, 0.0, 0.8), (0.0, 0.25, 0.6)],
    [(0.0, 0.5, 0.5)],
    [(0.0, 0.0, 0.0)] * 2,
]


def case(shape=SHAPES[1], shifts=SHIFTS[0], dtype=torch.float64):
    torch.manual_seed(1)
    matrix = torch.randn((len(shifts) - 1) * shape[2], shape[2], dtype=dtype)
    return torch.randn(shape, dtype=dtype), matrix, torch.randn(shape[:2], dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_and_gradients_are_those_of_the_specification(backend, dtype, shape):
    for shifts in SHIFTS:
        u, *rest = case(shape, shifts, dtype)
        wide = torch.promote_types(dtype, torch.float32)
        exact, given = u.to(wide).requires_grad_(), u.clone().requires_grad_()
        wanted = reference.between_samples(exact, *(x.to(wide) for x in rest), shifts)
        came = between_samples(given, *rest, shifts, backend)
        assert came.dtype == dtype and came.shape == wanted.shape
        weight = torch.randn_like(came)
        (gradient,) = torch.autograd.grad(wanted, exact, weight.to(wide))
        (ours,) = torch.autograd.grad(came, given, weight)
        for a, b in ((came, wanted), (ours, gradient)):
            torch.testing.assert_close(a.to(wide), b, atol=DTYPES[dtype] * 8, rtol=DTYPES[dtype])


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_opcheck_and_compile(backend):
    u, *rest = case()
    u.requires_grad_()

    def run(x):
        return between_samples(x, *rest, SHIFTS[0], backend)

    assert torch.autograd.gradcheck(run, (u,), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (u,), fast_mode=True)
    wanted = torch.autograd.grad(run(u).square().sum(), u)[0]
    torch.testing.assert_close(torch.func.grad(lambda x: run(x).square().sum())(u.detach()), wanted)
    torch.testing.assert_close(torch.compile(run, fullgraph=True, backend="aot_eager")(u), run(u))
    stacked = torch.stack((u, 2 * u)).detach()
    torch.testing.assert_close(torch.func.vmap(run)(stacked), torch.stack([run(x) for x in stacked]))
    if backend != "torch":
        flat = [x for shift in SHIFTS[0] for x in shift[1:]]
        torch.library.opcheck(custom_op.between_samples, (u, *rest, flat, backend))
        torch.library.opcheck(custom_op.adjoint, (run(u).detach().requires_grad_(), rest[0], flat, backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_polynomials_of_degree_two_are_read_exactly_inside(backend):
    h, w = torch.arange(8, dtype=torch.float64), torch.arange(9, dtype=torch.float64)

    def field(h, w):
        return 1 + h[:, None] - w / 2 + 0.3 * h[:, None] ** 2 - 0.2 * h[:, None] * w + 0.1 * w**2

    none, outside = torch.empty(0, 1, dtype=torch.float64), torch.full((1, 1), -math.inf, dtype=torch.float64)
    found = between_samples(field(h, w)[None, None, None], none, outside, [(0.0, 0.3, 0.6)], backend)[0, 0, 0]
    torch.testing.assert_close(found[1:-2, 1:-2], field(h + 0.3, w + 0.6)[1:-2, 1:-2])
    assert (found[-1] == -math.inf).all() and (found[:, -1] == -math.inf).all()


def test_slices_are_shifted_too():
    u = torch.arange(6, dtype=torch.float64).view(1, 1, 6, 1, 1).expand(1, 1, 6, 2, 2)
    outside, shifts = torch.full((1, 1), 9.0, dtype=torch.float64), [(0.5, 0.0, 0.0)]
    found = between_samples(u, torch.empty(0, 6, dtype=torch.float64), outside, shifts)
    torch.testing.assert_close(
        found[0, 0, 1:, 0, 0], torch.tensor([1.5, 2.5, 3.5, 4.5, 9.0]).double(), atol=0.1, rtol=0
    )
    with pytest.raises(ValueError, match="backend: expected 'torch'"):
        between_samples(u, torch.empty(0, 6, dtype=torch.float64), outside, shifts, "numba")


def test_threads_do_not_change_the_result():
    u, *rest = case(SHAPES[0], SHIFTS[0], torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(between_samples(u, *rest, SHIFTS[0]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_bad_input_is_named():
    u, matrix, outside = case()
    shifts = SHIFTS[0]
    for run, error, message in (
        (lambda: between_samples(u[0], matrix, outside, shifts), ValueError, "u: expected a tensor of rank 5"),
        (lambda: between_samples(u, matrix[:1], outside, shifts), ValueError, r"matrix: expected shape \(3, 3\)"),
        (lambda: between_samples(u, matrix, outside.float(), shifts), TypeError, "outside: expected dtype"),
        (lambda: between_samples(u, matrix, outside[:, :1], shifts), ValueError, r"outside: expected shape \(1, 2\)"),
        (lambda: between_samples(u, matrix, outside, [shifts[0], (0.0, 1.0, 0.0)]), ValueError, "shifts: expected"),
    ):
        with pytest.raises(error, match=message):
            run()
