"""What torch asks of an operator: opcheck, gradcheck, compile, func transforms, second derivatives, threads, forks."""

import multiprocessing

import pytest
import torch

from pdegcnn.ops import backend as registry
from pdegcnn.ops.convection import convection
from pdegcnn.ops.convection import op as convection_op
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.morphology import dilation_and_erosion, morphological_convolution
from pdegcnn.ops.morphology import op as morphology_op

MORPHOLOGY = registry.available("morphological_convolution")
CASES = [("morphology", b) for b in MORPHOLOGY] + [("convection", b) for b in registry.available("convection")]
CASES += [("pair", b) for b in MORPHOLOGY]
CASES += [("group", b) for b in registry.available("group_convolution")]


def case(name, backend, dtype=torch.float64):
    torch.manual_seed(1)
    shape, size = ((2, 3, 4, 5, 6), (3, 3, 5)) if backend != "triton" else ((1, 1, 2, 3, 2), (1, 3, 3))
    u = torch.randn(shape, dtype=dtype, requires_grad=True)
    kernel = torch.rand(*shape[1:3], *size, dtype=dtype, requires_grad=True)
    if name == "morphology":
        return lambda u, k: morphological_convolution(u, k, -1, backend), (u, kernel)
    if name == "pair":
        return lambda u, k: sum(dilation_and_erosion(u, k, k.flip(-1), backend)), (u, kernel)
    if name == "group":
        return lambda u, k: group_convolution(u, k, "replicate", backend), (u, kernel)
    shift = torch.randn(*shape[1:3], 3, dtype=dtype, requires_grad=True)
    return lambda u, s: convection(u, s, "zeros", backend), (u, shift)


@pytest.mark.parametrize("name, backend", CASES)
def test_gradcheck(name, backend):
    function, inputs = case(name, backend)
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("name, backend", CASES)
def test_second_derivatives(name, backend):
    function, inputs = case(name, backend)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("backend", MORPHOLOGY)
def test_opcheck_morphology(backend, keep):
    _, (u, kernel) = case("morphology", backend)
    torch.library.opcheck(morphology_op.morphology, (u, kernel, 1, keep, backend))
    torch.library.opcheck(morphology_op.morphology_pair, (u, kernel, kernel, keep, backend))
    winner = morphology_op.morphology(u, kernel, 1, True, backend)[1]
    torch.library.opcheck(morphology_op.morphology_backward, (u, winner, list(kernel.shape[2:]), backend))


@pytest.mark.parametrize("backend", [b for b in registry.available("convection") if b != "torch"])
def test_opcheck_convection(backend):
    _, (u, shift) = case("convection", backend)
    torch.library.opcheck(convection_op.convection, (u, shift, 1, backend))
    torch.library.opcheck(convection_op.convection_backward, (torch.ones_like(u), u, shift, 1, backend))


@pytest.mark.parametrize("name, backend", CASES)
def test_compile(name, backend):
    function, inputs = case(name, backend, torch.float32)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for a, b in zip(
        torch.autograd.grad(compiled(*inputs).sum(), inputs), torch.autograd.grad(function(*inputs).sum(), inputs)
    ):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("name, backend", CASES)
def test_functional_grad(name, backend):
    function, inputs = case(name, backend)
    wanted = torch.autograd.grad(function(*inputs).square().sum(), inputs)
    plain = tuple(x.detach() for x in inputs)
    came = torch.func.grad(lambda *x: function(*x).square().sum(), argnums=(0, 1))(*plain)
    assert all(torch.allclose(a, b) for a, b in zip(came, wanted))


@pytest.mark.parametrize("backend", MORPHOLOGY)
def test_vmap(backend):
    function, (u, kernel) = case("morphology", backend)
    signals, kernels = torch.stack([u, 2 * u]).detach(), torch.stack([kernel, kernel.flip(0)]).detach()
    for dims, inputs in (
        ((0, None), (signals, kernels[0])),
        ((0, 0), (signals, kernels)),
        ((None, 0), (signals[0], kernels)),
    ):
        pick = [[x[n] if d == 0 else x for x, d in zip(inputs, dims)] for n in range(2)]
        assert torch.equal(torch.func.vmap(function, dims)(*inputs), torch.stack([function(*p) for p in pick]))


@pytest.mark.parametrize("name, backend", CASES)
def test_threads_do_not_change_the_result(name, backend):
    function, inputs = case(name, backend, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            out = function(*inputs)
            results.append([out, *torch.autograd.grad(out.sum(), inputs)])
    finally:
        torch.set_num_threads(before)
    exact = torch.equal if name != "group" else torch.allclose
    assert all(exact(a, b) for a, b in zip(*results))


def _child(name, backend, queue):
    torch.set_num_threads(2)
    function, inputs = case(name, backend)
    with torch.no_grad():
        queue.put(float(function(*inputs).sum()))


@pytest.mark.parametrize("name, backend", [c for c in CASES if c[1] == "numba"])
def test_fork(name, backend):
    function, inputs = case(name, backend)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = float(function(*inputs).detach().sum())
    torch.set_num_threads(before)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(name, backend, queue), daemon=True)
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.parametrize("name, backend", CASES)
def test_no_uninitialised_read(name, backend, monkeypatch):
    function, inputs = case(name, backend)
    out = function(*inputs)
    wanted = [out, *torch.autograd.grad(out.sum(), inputs)]
    empty = torch.empty

    def poisoned(*args, **kwargs):
        fresh = empty(*args, **kwargs)
        return fresh.fill_(torch.nan if fresh.is_floating_point() else 1)

    monkeypatch.setattr(torch, "empty", poisoned)
    out = function(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(wanted, [out, *torch.autograd.grad(out.sum(), inputs)]))
