"""What torch promises of any module, for every layer: state, precision, devices, copies, graphs, hooks."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

import pdegcnn as pg
from pdegcnn.nn import terms
from pdegcnn.pde import shared
from pdegcnn.reversible import ReversibleStack

from ..cases import (
    BUNDLE,
    CHANNELS,
    ELSEWHERE,
    FUNCTIONS,
    KINDS,
    LAYERS,
    LIFTED,
    MESH,
    METHODS,
    PACKAGES,
    SE2,
    SPINS,
    Case,
    converted,
    outputs,
    public,
)
from ..cases import CASES as EVERY_CASE
from ..helpers import bumpy_sphere

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NAMES = {c.name for c in KINDS}
EVERY_LAYER = pytest.mark.parametrize("case", LAYERS, ids=str)
EVERY_KIND = pytest.mark.parametrize("case", KINDS, ids=str)


def equal(came: Any, wanted: Any) -> None:
    for a, b in zip(outputs(came), outputs(wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def near(came: Any, wanted: Any) -> None:
    for a, b in zip(outputs(came), outputs(wanted), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def leaves(value: Any) -> Any:
    """The same inputs as leaves of a graph."""
    if isinstance(value, Tensor):
        return value.clone().requires_grad_(value.is_floating_point() or value.is_complex())
    return {k: leaves(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_a_case(package: str) -> None:
    missing = public(package) - {c.name for c in EVERY_CASE} - set(ELSEWHERE)
    assert not missing, f"enter a good call in tests/cases.py: {sorted(missing)}"


def test_names_of_cases_are_different() -> None:
    names = [c.name for c in EVERY_CASE]
    assert len(set(names)) == len(names)


@EVERY_LAYER
def test_a_training_step_in_every_precision(case: Case, device: torch.device) -> None:
    """Dtype out is dtype in; every parameter learns. There are no complex numbers of half precision."""
    has_half = "bfloat16" not in case.lacks and not any(x.is_complex() for x in outputs(case.inputs))
    half = [torch.bfloat16] * has_half
    for dtype in (torch.float32, torch.float64, *half):
        layer = case.build(dtype=dtype).to(dtype).to(device)
        inputs = [leaves(on_device(converted(x, dtype), device)) for x in case.inputs]
        torch.manual_seed(1)
        out = outputs(layer(*inputs))
        for u in out:
            assert u.dtype == (dtype.to_complex() if u.is_complex() else dtype)
            assert u.isfinite().all()
        products = [(u * torch.randn_like(u)).sum() for u in out]
        torch.stack([p.real.double() for p in products]).sum().backward()
        assert any(x.grad is not None for x in outputs(inputs))
        for key, parameter in layer.named_parameters():
            if "learning" not in case.lacks:
                assert parameter.grad is not None and parameter.grad.isfinite().all(), key
                assert dtype == torch.bfloat16 or (parameter.grad != 0).any(), key


def on_device(value: Any, device: torch.device) -> Any:
    """Tensors there; meshes go there by themselves."""
    if isinstance(value, dict):
        return {k: on_device(v, device) for k, v in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("case", [c for c in LAYERS if c.name in NAMES or c.make is not pg.nn.PDELayer], ids=str)
def test_state_and_copies(case: Case) -> None:
    """The state holds parameters and statistics only; copies compute the same to the bit."""
    layer = case.build()
    names = {k for k, _ in layer.named_parameters()} | {k for k, _ in layer.named_buffers() if k.endswith(STATISTICS)}
    assert set(layer.train().state_dict()) == names == set(layer.eval().state_dict())
    other, file = case.build().eval(), io.BytesIO()
    other.load_state_dict(layer.state_dict())
    torch.save(layer, file)
    file.seek(0)
    with torch.no_grad():
        wanted = layer(*case.inputs)
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
            equal(twin(*case.inputs), wanted)
        equal(other(*case.inputs), wanted)


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not filled after ``to_empty`` holds sevens, never zeros by luck."""
    inner = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: nn.init.constant_(inner(*a, **k), 7))


@pytest.mark.usefixtures("unfilled")
@EVERY_KIND
def test_from_the_meta_device(case: Case) -> None:
    """``to_empty``, with or without ``reset_parameters``, then ``load_state_dict``; or at once with ``assign``.

    By the context or by the argument ``device``; ``skip_init`` does the first step. It is described as a layer made
    anywhere else.
    """
    layer, inputs = case.build().eval(), case.inputs
    wanted, state = layer(*inputs), layer.state_dict()
    with torch.device("meta"):
        twin = case.build().eval()
    assigned = case.build(device="meta").eval() if case.takes("device") else copy.deepcopy(twin)
    given = any(isinstance(value, (nn.Module, list)) for value in case.arguments.values())  # layers made elsewhere
    assert given or all(t.is_meta for m in (twin, assigned) for t in (*m.parameters(), *m.buffers()))
    twin.to_empty(device="cpu")
    assert repr(twin) == repr(layer)
    twin.load_state_dict(state)
    equal(twin(*inputs), wanted)
    twin.to_empty(device="cpu")
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert all(not (p == 7).any() for p in twin.parameters())
    assert all(b.isfinite().all() for b in map(torch.sum, twin.state_dict().values()))
    twin.load_state_dict(state)
    equal(twin(*inputs), wanted)
    assigned.load_state_dict(copy.deepcopy(state), assign=True)
    equal(assigned(*inputs), wanted)
    if inspect.isclass(case.make) and "device" in inspect.signature(case.make).parameters:
        skipped = nn.utils.skip_init(case.make, **copy.deepcopy(dict(case.arguments))).eval()
        skipped.load_state_dict(state)
        equal(skipped(*inputs), wanted)


@EVERY_KIND
def test_moves_round_once(case: Case) -> None:
    """Tables are those of a layer made in double precision, though this one was in half precision before.

    And single precision gives what double precision gives, to its rounding.
    """
    single = case.build().eval()
    wide = outputs(copy.deepcopy(single).double()(*(converted(x, torch.float64) for x in case.inputs)))
    for a, b in zip(outputs(single(*case.inputs)), wide, strict=True):
        torch.testing.assert_close(a.to(b.dtype), b, atol=1e-4, rtol=1e-4)
    layer = single.half().double()
    inputs = [converted(x, torch.float64) for x in case.inputs]
    fresh = case.build().eval().double()
    fresh.load_state_dict(layer.state_dict())
    equal(layer(*inputs), fresh(*inputs))
    assigned = case.build().eval()
    assigned.load_state_dict(layer.state_dict(), assign=True)
    equal(assigned.double()(*inputs), fresh(*inputs))


class Raised(nn.Module):
    """A parametrisation."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1


def own_parameters(layer: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Every module with each of its own parameters."""
    for module in list(layer.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_floating_point():
                yield module, name


@EVERY_KIND
def test_other_weights_are_seen(case: Case) -> None:
    """However they come: by parametrisation, ``functional_call``, ``data`` or an update in place, and after a run."""
    layer, inputs = case.build().eval(), case.inputs
    state = {k: v + 0.1 if v.is_floating_point() else v for k, v in layer.state_dict().items()}
    fresh = case.build().eval()
    fresh.load_state_dict(state)
    twins = [copy.deepcopy(layer) for _ in range(4)]
    with torch.no_grad():
        wanted = fresh(*inputs)
        for twin in twins:
            twin(*inputs)
        equal(functional_call(twins[0], state, inputs), wanted)
        equal(twins[0](*inputs), layer(*inputs))
        for key, parameter in [*twins[1].named_parameters(), *twins[1].named_buffers()]:
            if key in state:
                parameter.data = state[key]
        equal(twins[1](*inputs), wanted)
        twins[2].load_state_dict(state)
        equal(twins[2](*inputs), wanted)
        for module, key in own_parameters(twins[3]):
            parametrize.register_parametrization(module, key, Raised())
        for key, value in twins[3].named_buffers():
            if key in state:
                value.copy_(state[key])
        equal(twins[3](*inputs), wanted)


@EVERY_KIND
def test_inputs_may_be_given_by_name(case: Case) -> None:
    layer = case.build().eval()
    if not isinstance(layer, nn.Sequential):  # whose input has no name of ours
        named = dict(zip(inspect.signature(layer.forward).parameters, case.inputs))
        equal(layer(**named), layer(*case.inputs))


def replica(layer: nn.Module) -> nn.Module:
    """A copy as ``nn.DataParallel`` makes it, here on the same device: parameters are tensors that are not listed."""
    twins: dict[nn.Module, Any] = {m: m._replicate_for_data_parallel() for m in layer.modules()}
    tensors = {p: p * 1 for p in layer.parameters()}
    for module, twin in twins.items():
        twin._former_parameters = {}
        for name, child in module._modules.items():
            twin._modules[name] = None if child is None else twins[child]
        for name, parameter in module._parameters.items():
            if parameter is not None:
                twin._former_parameters[name] = tensors[parameter]
                setattr(twin, name, tensors[parameter])
    return twins[layer]


@EVERY_KIND
def test_replicas_of_data_parallel(case: Case) -> None:
    """Compute the same, and the parameters that they are copies of learn the same."""
    layer, other = case.build().eval(), case.build().eval()
    pairs = [(layer, layer(*case.inputs)), (other, replica(other)(*case.inputs))]
    near(pairs[1][1], pairs[0][1])
    for _, out in pairs:
        loss = torch.stack([t.abs().square().sum() for t in outputs(out)]).sum()
        if loss.requires_grad:
            loss.backward()
    for a, b in zip(layer.parameters(), other.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-4 * float(a.grad.abs().max()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        replica(layer)(*case.inputs)


@EVERY_KIND
@pytest.mark.parametrize("rank", [4, 5])
def test_memory_formats(case: Case, rank: int) -> None:
    """Channels last, of inputs and of modules, where torch can order the parameters so: values and gradients stay."""
    form = torch.channels_last if rank == 4 else torch.channels_last_3d
    layer, other = case.build().eval(), case.build().eval()
    if {p.ndim for p in layer.parameters()} & {4, 5} <= {rank}:
        other = other.to(memory_format=form)
    elif rank == 5:
        return
    inputs = [leaves(x) for x in case.inputs]
    ordered = [leaves(x.contiguous(memory_format=form)) if isinstance(x, Tensor) and x.ndim == rank else leaves(x)
               for x in case.inputs]  # fmt: skip
    pairs = (layer(*inputs), other(*ordered))
    near(pairs[1], pairs[0])
    for out in pairs:
        torch.stack([t.abs().square().sum() for t in outputs(out)]).sum().backward()
    for a, b in zip(outputs(inputs), outputs(ordered), strict=True):
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-4 * float(a.grad.abs().max()) + 1e-6)


def lazily(value: Any) -> Any:
    """The same numbers as views that torch conjugates or negates when they are read."""
    if isinstance(value, dict):
        return {k: lazily(v) for k, v in value.items()}
    if not isinstance(value, Tensor) or not (value.is_complex() or value.is_floating_point()):
        return value
    if value.is_complex():
        return value.conj().resolve_conj().conj()
    return torch.complex(torch.zeros_like(value), -value).conj().imag


def doubled(value: Any) -> Any:
    """Tensors and modules in double precision, where nothing has to be converted and views stay views."""
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).double()
    whole = isinstance(value, Tensor) and not (value.is_complex() or value.is_floating_point())
    return value if whole else converted(value, torch.float64)


@pytest.mark.parametrize("case", [*KINDS, *FUNCTIONS, *METHODS], ids=str)
def test_lazy_conjugates_and_negatives_are_read_as_their_values(case: Case) -> None:
    """They come out of ``.conj()`` and out of the imaginary part of such a conjugate."""
    if case.inputs:
        call = case.build().eval()
        near(call(*lazily(dict(enumerate(case.inputs))).values()), call(*case.inputs))
    else:
        for arguments in (dict(case.arguments), {k: doubled(v) for k, v in case.arguments.items()}):
            near(case.make(**lazily(arguments)), case.make(**arguments))


def test_lazy_vertices_and_boxes_are_read_as_their_values() -> None:
    vertices = MESH.vertices
    assert torch.equal(pg.Mesh.from_arrays(lazily(vertices), MESH.faces).vertices, vertices)
    boxes = torch.eye(3, dtype=torch.float64)[None], torch.tensor([[0.3, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(pg.models.box_iou(*map(lazily, boxes), *boxes), torch.ones(1, 1, dtype=torch.float64))


@pytest.mark.parametrize("case", [*KINDS, *FUNCTIONS], ids=str)
def test_what_inference_mode_leaves_behind_can_be_trained_with(case: Case) -> None:
    """Tables that are made when first needed, and kept, serve later calls with gradients."""
    shared.shared.cache_clear()
    if case.inputs:  # copied meshes have kept nothing yet
        call, named = case.build(), dict(enumerate(copy.deepcopy(case.inputs)))
    else:
        call, named = case.make, copy.deepcopy(dict(case.arguments))

    def run(named: dict[Any, Any]) -> list[Tensor]:
        return outputs(call(*named.values()) if case.inputs else call(**named))

    with torch.inference_mode():
        run(named)
    came = [t for t in run({k: leaves(v) for k, v in named.items()}) if t.requires_grad]
    torch.autograd.backward([t.abs().sum() for t in came])


@pytest.mark.parametrize("case", [c for c in KINDS if "hooks" not in c.lacks], ids=str)
def test_hooks_see_the_same_modules_on_large_signals(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """And change nothing: forward hooks before and after, and those of the backward pass.

    The transforms to finer samples are called for a few channels of a large signal at a time.
    """
    layer, inputs = case.build().eval(), case.inputs
    wanted = layer(*inputs)
    seen: list[tuple[str, list[tuple[int, ...]]]] = []
    with nn.modules.module.register_module_forward_hook(
        lambda m, _, out: seen.append((type(m).__name__, [tuple(t.shape) for t in outputs(out)]))
    ):
        with torch.no_grad():
            layer(*inputs)
            small, seen = seen, []
            monkeypatch.setattr(terms, "STREAM_ABOVE", 0)
            large = layer(*inputs)
        assert seen == small
    near(large, wanted)
    replayed = {m for stack in layer.modules() if isinstance(stack, ReversibleStack) for m in stack.modules()}
    for module in set(layer.modules()) - replayed:  # layers of a stack have their own tests
        module.register_full_backward_hook(lambda *_: None)
        module.register_full_backward_pre_hook(lambda *_: None)
    came = layer(*inputs)
    near(came, wanted)
    loss = sum(t.abs().square().sum() for t in outputs(came))
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()


@EVERY_KIND
def test_autocast(case: Case) -> None:
    """bfloat16 on the CPU: finite and near the full precision; gradients finite, also of a training step."""
    layer, inputs = case.build().eval(), case.inputs
    expected = outputs(layer(*inputs))
    parameters = [p for p in layer.parameters() if p.requires_grad]
    for training in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            came = outputs(layer.train(training)(*inputs))
        for a, b in zip(came, expected, strict=True):
            assert training or (a.to(b.dtype) - b).norm() <= 0.05 * b.norm()
        if parameters:
            loss = torch.stack([t.abs().square().sum() for t in came]).sum()
            grads = torch.autograd.grad(loss, parameters, allow_unused=True)
            assert all(g is None or g.isfinite().all() for g in grads)


@pytest.mark.parametrize("case", [c for c in KINDS if "compile" not in c.lacks], ids=str)
def test_one_graph_for_compile(case: Case) -> None:
    """In evaluation mode without gradients, where reversible stacks too are one graph.

    Diffusion on meshes is not: how far its kernel reaches is a number that depends on the parameters.
    """
    layer, inputs = case.build().eval(), case.inputs
    torch._dynamo.reset()
    with torch.no_grad():
        wanted = layer(*inputs)  # makes the tables of a mesh, which are kept
        near(torch.compile(layer, fullgraph=True, backend="aot_eager")(*inputs), wanted)


class OnFields(nn.Module):
    """A gauge layer between tensors: a trace holds no dictionaries by spin, and no meshes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *fields: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.layer(dict(zip(SPINS, fields)), MESH).values())


def check_trace(layer: nn.Module, *inputs: Tensor) -> None:
    layer.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        traced = torch.jit.trace(layer, inputs, check_trace=False)
        for given in (inputs, tuple(torch.randn_like(x) for x in inputs)):
            near(traced(*given), layer(*given))


quiet_trace = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Casting complex values"),
]


def quietly(test: Any) -> Any:
    """Without the warnings of ``torch.jit.trace``."""
    for mark in quiet_trace:
        test = mark(test)
    return test


@quietly
@pytest.mark.parametrize("case", [c for c in KINDS if not c.name.startswith("gauge.")], ids=str)
def test_traces_are_right_for_other_inputs(case: Case) -> None:
    check_trace(case.build(), *case.inputs)


@quietly
@pytest.mark.parametrize(
    "layer", [pg.gauge.GaugeConv(CHANNELS, CHANNELS), pg.gauge.Diffusion(2, 1, method="spectral", modes=3)]
)
def test_traces_of_gauge_layers_between_tensors(layer: nn.Module) -> None:
    check_trace(OnFields(layer), *SPINS.values())


@quietly
def test_traces_of_what_depends_on_values_are_refused() -> None:
    layer = pg.nn.PDELayer(SE2, 2, 2, ("dilation",), kernel_size="auto").eval()
    with pytest.raises(RuntimeError, match="kernel_size: expected odd sizes inside torch.jit.trace"):
        torch.jit.trace(layer, LIFTED, check_trace=False)
    with pytest.raises(RuntimeError, match="method='implicit'.*got a trace"):
        torch.jit.trace(OnFields(pg.gauge.Diffusion(2, 1)), tuple(SPINS.values()), check_trace=False)


ON_MESHES: dict[str, Any] = {
    "convection": lambda mesh: pg.nn.Convection(mesh, 2),
    "layer": lambda mesh: pg.nn.PDELayer(mesh, 2, 2, ("convection", "dilation", "erosion"), kernel_size=3),
    "coarser": lambda mesh: pg.nn.Downsample(mesh, 1.5),
}


@pytest.mark.parametrize("name", ON_MESHES)
def test_a_mesh_that_is_exported_first_can_be_used_afterwards(name: str) -> None:
    """What a trace is the first to need of a mesh, and the mesh keeps, holds numbers."""
    layer, twin = (ON_MESHES[name](bumpy_sphere(0, orientations=4)).eval() for _ in range(2))
    twin.load_state_dict(layer.state_dict())
    with torch.no_grad():
        exported: Any = torch.export.export(layer, (BUNDLE,), strict=False).module()
        for call in (layer, exported):
            near(call(BUNDLE), twin(BUNDLE))


def test_convection_on_a_mesh_is_exported() -> None:
    """Where paths end depends on the parameters; the search for it is one operator of the graph."""
    layer = pg.nn.Convection(MESH, 2).eval()
    with torch.no_grad():
        program = torch.export.export(layer, (BUNDLE,), strict=False)
        torch.testing.assert_close(program.module()(BUNDLE + 1), layer(BUNDLE + 1))
