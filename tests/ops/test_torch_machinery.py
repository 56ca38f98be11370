"""What torch asks of an operator: opcheck, gradcheck, compile, func transforms, second derivatives, threads, forks."""

import gc
import importlib
import multiprocessing
import shutil
from pathlib import Path

import pytest
import torch

import pdegcnn
from pdegcnn.ops import _jit
from pdegcnn.ops import backend as registry
from pdegcnn.ops.convection import convection
from pdegcnn.ops.convection import custom_op as convection_op
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.morphology import custom_op as morphology_op
from pdegcnn.ops.morphology import dilation_and_erosion, morphological_convolution
from pdegcnn.ops.newton_gain import newton_gain

from .test_newton_gain import arguments

MORPHOLOGY = registry.available("morphological_convolution")
CASES = [("morphology", b) for b in MORPHOLOGY] + [("convection", b) for b in registry.available("convection")]
CASES += [("pair", b) for b in MORPHOLOGY]
CASES += [("newton_gain", b) for b in registry.available("newton_gain")]
CASES += [(name, b) for name in ("group", "log_plus") for b in registry.available("group_convolution")]


def case(name, backend, dtype=torch.float64):
    torch.manual_seed(1)
    shape, size = ((2, 3, 4, 5, 6), (3, 3, 5)) if backend != "triton" else ((1, 1, 2, 3, 2), (1, 3, 3))
    u = torch.randn(shape, dtype=dtype, requires_grad=True)
    kernel = torch.rand(*shape[1:3], *size, dtype=dtype, requires_grad=True)
    if name == "newton_gain":
        (signal, entries, least), places = arguments(3, dtype=dtype)
        law = 0.3, 1.0, 1.4
        return lambda u, e: newton_gain(u, *places, e, least.detach(), law, -1, backend), (signal, entries)
    if name == "morphology":
        return lambda u, k: morphological_convolution(u, k, -1, backend), (u, kernel)
    if name == "log_plus":
        soft = {"semifield": "log_plus", "temperature": 0.3}
        return lambda u, k: morphological_convolution(u, k, -1, backend, **soft), (u, kernel)
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
    torch.library.opcheck(morphology_op.morphology_backward, (u, winner, u, kernel, 1, backend))
    finer = torch.randn(*u.shape[:2], 2 * u.shape[2], *u.shape[3:], dtype=u.dtype).requires_grad_()
    torch.library.opcheck(morphology_op.morphology, (finer, kernel, 1, keep, backend))
    winner = morphology_op.morphology(finer, kernel, 1, True, backend)[1]
    torch.library.opcheck(morphology_op.morphology_backward, (u, winner, finer, kernel, 1, backend))


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


@pytest.mark.parametrize("name, backend", CASES)
def test_vmap(name, backend):
    function, (u, other) = case(name, backend)
    signals, others = torch.stack([u, 2 * u]).detach(), torch.stack([other, other.flip(0)]).detach()
    for dims, inputs in (
        ((0, None), (signals, others[0])),
        ((0, 0), (signals, others)),
        ((None, 0), (signals[0], others)),
    ):
        pick = [[x[n] if d == 0 else x for x, d in zip(inputs, dims)] for n in range(2)]
        wanted = torch.stack([function(*p) for p in pick])
        assert torch.allclose(torch.func.vmap(function, dims)(*inputs), wanted, atol=1e-12)


@pytest.mark.parametrize("name, backend", CASES)
def test_gradients_per_sample(name, backend):
    function, (u, other) = case(name, backend)
    signals = torch.stack([u, 2 * u]).detach()
    per_sample = torch.func.vmap(torch.func.grad(lambda o, s: function(s, o).square().sum()), (None, 0))
    came = per_sample(other.detach(), signals)
    for s, g in zip(signals, came):
        assert torch.allclose(g, torch.autograd.grad(function(s, other).square().sum(), other)[0])


class Wrapped(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, u, other):
        return self.function(u, other)


@pytest.mark.parametrize("name, backend", CASES)
def test_export(name, backend):
    function, inputs = case(name, backend)
    plain = tuple(x.detach() for x in inputs)
    program = torch.export.export(Wrapped(function), plain)
    tolerance = 1e-12 if name == "log_plus" else 0.0  # a graph scales exponentials for ranges it cannot read
    assert torch.allclose(program.module()(*plain), function(*plain), rtol=0, atol=tolerance)


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
def test_inductor():
    """The default compiler of torch: operators between code that it generates, forward and backward."""
    backend = MORPHOLOGY[0]
    functions = [case(name, backend, torch.float32)[0] for name in ("morphology", "convection")]
    (u, kernel), (_, shift) = (
        case("morphology", backend, torch.float32)[1],
        case("convection", backend, torch.float32)[1],
    )

    def step(u, kernel, shift):
        return functions[0](functions[1](u.sin(), shift) * 2, kernel.square()).cos()

    inputs = (u, kernel, shift)
    wanted, came = step(*inputs), torch.compile(step, fullgraph=True)(*inputs)
    assert torch.allclose(came, wanted, atol=1e-5)
    for a, b in zip(torch.autograd.grad(came.sum(), inputs), torch.autograd.grad(wanted.sum(), inputs)):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("name, backend", CASES)
def test_autocast(name, backend):
    """Our operators stay in the dtype they are given; what is a convolution of torch follows torch's rule."""
    function, inputs = case(name, backend, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = function(*inputs)
        grads = torch.autograd.grad(out.sum(), inputs)
    tolerance = 0.3 if (name, backend) == ("group", "torch") else 0.0
    assert out.dtype == (torch.bfloat16 if tolerance else torch.float32)
    assert torch.allclose(out.float(), function(*inputs), atol=tolerance)
    assert all(g.dtype == x.dtype for g, x in zip(grads, inputs))


class Stored(torch.utils.data.Dataset):
    """A data set whose entries come out of an operator."""

    def __init__(self, function, inputs):
        self.function, self.inputs = function, inputs

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.function(*self.inputs) + index


@pytest.mark.parametrize("name, backend", CASES)
def test_data_loader_workers(name, backend):
    function, inputs = case(name, backend)
    inputs = tuple(x.detach() for x in inputs)
    expected = function(*inputs)  # compiled, and threads started, before the fork
    stored = Stored(function, inputs)
    loader = torch.utils.data.DataLoader(stored, batch_size=2, num_workers=2, multiprocessing_context="fork")
    got = torch.cat(list(loader))
    assert torch.allclose(got, torch.stack([expected + n for n in range(4)]))


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


def _child(name, backend, sender):
    torch.set_num_threads(2)
    function, inputs = case(name, backend)
    with torch.no_grad():
        sender.send(float(function(*inputs).sum()))


@pytest.mark.parametrize("name, backend", [c for c in CASES if c[1] == "numba"])
def test_fork(name, backend):
    function, inputs = case(name, backend)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = float(function(*inputs).detach().sum())
    torch.set_num_threads(before)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(name, backend, sender), daemon=True)
    child.start()
    sender.close()  # so that `recv` raises EOFError if the child dies
    assert receiver.recv() == expected
    child.join()
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


def test_one_line_says_that_kernels_are_compiled(tmp_path, monkeypatch, caplog):
    """And says nothing where they are in the cache."""
    monkeypatch.setenv("PDEGCNN_CACHE_DIR", str(tmp_path))
    for expected in (1, 0):
        caplog.clear()
        monkeypatch.setattr(_jit, "_SAID", set())
        for name in ("one", "other"):
            assert _jit.import_text(name, "value = 1\n").value == 1
        assert [str(tmp_path) in line for line in caplog.messages] == [True] * expected


def test_loops_count_no_references_to_arrays():
    """Every function that Numba compiles is without counting: one that counts slows all that call it."""
    sources = sorted(Path(pdegcnn.ops.__file__).parent.glob("*/numba_kernels.py"))
    counted = []
    for source in sources:
        module = importlib.import_module(f"pdegcnn.ops.{source.parent.name}.numba_kernels")
        loops = {name: loop for name, loop in vars(module).items() if hasattr(loop, "targetoptions")}
        assert loops
        for name, loop in loops.items():
            if loop.targetoptions.get("inline") != "always" and loop.targetoptions.get("_nrt") is not False:
                counted.append(f"{source.parent.name}.{name}")
    assert len(sources) > 8 and counted == []


@pytest.mark.parametrize("running", [True, False])
def test_compiling_leaves_the_garbage_collector_as_it_was(tmp_path, monkeypatch, running):
    """It rests while a loop is compiled, also when that fails."""
    monkeypatch.setenv("PDEGCNN_CACHE_DIR", str(tmp_path))
    text = "import gc\nfrom numba import njit\n\n\n@njit\ndef one(x):\n    return x + 1\n"
    module = _jit.import_text("collector", text + "\n\n@njit\ndef bad(x):\n    return x + unknown\n")
    try:
        (gc.enable if running else gc.disable)()
        assert module.one(1) == 2
        assert gc.isenabled() is running
        with pytest.raises(Exception, match="unknown"):
            module.bad(1)
        assert gc.isenabled() is running
    finally:
        gc.enable()
