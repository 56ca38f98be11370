"""Models leave the library: plain torch programs, ONNX, other processes; the numbers stay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import pdegcnn as pg
from pdegcnn.export.operators import PLAIN
from pdegcnn.models import MODELS

from ..helpers import MESH_CASES
from .small_models import GRID, SMALL, of_tensors

ALONE = """
import sys, torch
sys.modules["pdegcnn"] = None  # importing it is an error
x, y = torch.load(sys.argv[1], weights_only=True)
for path in sys.argv[2:]:
    module = torch.export.load(path).module()
    assert torch.allclose(module(x), y, atol=1e-5), (module(x) - y).abs().max()
assert not any(name.startswith("pdegcnn.") for name in sys.modules)
"""


def built(name: str) -> tuple[nn.Module, torch.Tensor]:
    build, shape = SMALL[name]
    model = of_tensors(build())
    for m in model.modules():
        if isinstance(m, pg.nn.BatchNorm):
            m.running_mean.uniform_(-0.5, 0.5)
            m.running_var.uniform_(0.5, 1.5)
    return model, torch.randn(shape)


def own_operators(module: nn.Module) -> set[str]:
    return {str(n.target) for n in module.graph.nodes if "pdegcnn" in str(n.target)}  # type: ignore[union-attr]


def test_every_network_is_here() -> None:
    assert set(SMALL) == set(MODELS)


@pytest.mark.parametrize("name", SMALL)
def test_onnx_and_frozen_modules_compute_the_same(name: str, tmp_path: Path) -> None:
    """For another batch size than that of tracing; onnxruntime on the CPU, in float32."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = built(name)
    other = torch.randn(3, *x.shape[1:])
    expected = model.eval()(other).detach()
    path = pg.export.to_onnx(model.train(), x, tmp_path / "model.onnx")
    assert model.training
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(path))
    (came,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    torch.testing.assert_close(torch.from_numpy(came), expected, atol=1e-5, rtol=1e-4)


class Powers(nn.Module):
    """Complex numbers by an operator that has no rule."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The real part of ``exp(i x)``."""
        return torch.exp(torch.complex(torch.zeros_like(x), x)).real


def test_what_onnx_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model: expected .*exp"):
        pg.export.to_onnx(Powers(), torch.randn(2, 3), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["rotated_digits", "spherical_classifier"])
def test_plain_modules_compute_and_learn_the_same(name: str) -> None:
    model, x = built(name)
    model.eval()
    plain = pg.export.to_plain(model, x)
    assert own_operators(plain) == set()
    other = torch.randn(3, *x.shape[1:])
    torch.testing.assert_close(plain(other), model(other))
    assert dict(model.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    for net in (model, plain):
        net(other).square().sum().backward()
    grads = dict(model.named_parameters())
    for key, parameter in plain.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[key].grad, atol=1e-4, rtol=1e-3)


def test_programs_run_where_the_library_is_not(tmp_path: Path) -> None:
    model, x = built("vessel_segmentation")
    torch.save((x, model.eval()(x).detach()), tmp_path / "data.pt")
    files = [str(tmp_path / name) for name in ("data.pt", "model.pt2", "frozen.pt2")]
    for frozen in (False, True):
        torch.export.save(pg.export.program(model, x, frozen=frozen), files[1 + frozen])
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, *files], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_operator_has_a_plain_version() -> None:
    """Of all that are registered, those that only a backward pass calls, and the CUDA ones, are left out."""
    import pdegcnn.ops.group_convolution.custom_op
    import pdegcnn.ops.shifted_solve.custom_op  # noqa: F401

    names = {s.partition("::")[2].partition(".")[0] for s in torch._C._dispatch_get_all_op_names() if "pdegcnn::" in s}
    adjoint = {"group_spread", "group_products", "ring_spread", "ring_products", "transport_spread"}
    backward = {n for n in names if n.endswith("backward")} | adjoint
    assert names - backward == set(PLAIN)


MESH = MESH_CASES[0]
LAYERS = {
    "randers": (lambda: pg.nn.PDELayer(pg.R2(), 2, 3, metric="randers"), (2, 2, 8, 7)),
    "mesh": (lambda: pg.nn.PDELayer(MESH, 2, 2, ("dilation",), kernel_size=3), (2, 2, 8, 42)),
    "mesh-flat": (lambda: pg.nn.PDELayer(MESH, 2, 2, ("erosion",), alpha=0.5, kernel_size=3), (2, 2, 8, 42)),
    "mesh-lift": (lambda: pg.nn.Lift(MESH, 2, 2), (2, 2, 42)),
    "flat": (lambda: pg.nn.PDELayer(pg.SE2(4), 2, 2, ("dilation", "erosion"), alpha=0.5), (2, 2, 4, 6, 7)),
    "periodic": (lambda: pg.nn.PDELayer(pg.SE2(4), 2, 2, ("convection",), boundary="periodic"), (2, 2, 4, 6, 7)),
    "spectral": (lambda: pg.nn.PDELayer(pg.R2(), 2, 2, ("convection",), convection="spectral"), (2, 2, 6, 7)),
    "reduced grid": (
        lambda: pg.nn.PDELayer(pg.S2(pg.sphere.SphereGrid.reduced_gauss(4)), 2, 2, ("dilation",), kernel_size=3),
        (2, 2, pg.sphere.SphereGrid.reduced_gauss(4).shape[0]),
    ),
    "log-plus": (
        lambda: pg.nn.PDELayer(pg.SO3(GRID, 4), 2, 2, ("dilation",), semifield="log_plus", temperature=0.1),
        (2, 2, 4, 4, 8),
    ),
    "Newton step": (
        lambda: pg.nn.PDELayer(pg.SO3(GRID, 4), 2, 2, ("dilation", "erosion"), subgrid="newton"),
        (2, 2, 4, 4, 8),
    ),
    "both at once": (lambda: pg.nn.PDELayer(pg.SO3(GRID, 4), 2, 2, ("convection_diffusion",)), (2, 2, 4, 4, 8)),
    "fibre maximum": (lambda: pg.nn.Project(pg.SO3(GRID, 4), oversample=2), (2, 2, 4, 4, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_beyond_the_networks(name: str) -> None:
    build, shape = LAYERS[name]
    layer, x = build().eval(), torch.randn(shape)
    plain = pg.export.to_plain(layer, x, frozen=True)
    assert own_operators(plain) == set()
    torch.testing.assert_close(plain(x), layer(x).detach(), atol=1e-5, rtol=1e-4)


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    x = torch.randn(1, 2, 4, 6, 6)
    layer = pg.nn.PDELayer(pg.SE2(4), 2, 2, ("dilation",), kernel_size="auto")
    with pytest.raises(ValueError, match="model: expected a model that torch.export can trace"):
        pg.export.to_plain(layer, x)
    with pytest.raises(TypeError, match="model: expected a torch.nn.Module, got function"):
        pg.export.to_plain(lambda x: x, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="inputs: expected arguments of the model"):
        pg.export.program(layer)
    with pytest.raises(ValueError, match="inputs: expected no empty axis"):
        pg.export.program(layer, x[:0])
    with pytest.raises(ValueError, match="inputs: expected no empty axis"):
        pg.export.program(Weighted(), torch.arange(2), [x, x[:0]])
    with pytest.raises(TypeError, match="args: expected real tensors"):
        pg.export.to_onnx(nn.Identity(), x.cfloat(), tmp_path / "model.onnx")
    with pytest.raises(TypeError, match="batch: expected True or False"):
        pg.export.to_onnx(nn.Identity(), x, tmp_path / "model.onnx", batch=1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(FileNotFoundError, match="path: expected a file in a folder that exists"):
        pg.export.to_onnx(layer, x, tmp_path / "no" / "model.onnx")


class Weighted(nn.Module):
    """A table, read at numbers, times what may be a number."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, index: torch.Tensor, rest: list[torch.Tensor]) -> torch.Tensor:
        """``[B,3]`` from ``index [B]`` and two factors, ``[]`` or ``[B,3]``."""
        return self.table(index) * rest[0] * rest[1]


@pytest.mark.parametrize("factor", [torch.tensor(0.5), torch.tensor(True), torch.tensor(3), torch.rand(2, 3)])
@pytest.mark.parametrize("count", [1, 2])
def test_inputs_of_any_dtype_and_without_axes(factor: torch.Tensor, count: int) -> None:
    """Traced with one or two samples, run with four."""
    model, several = Weighted(), torch.rand(4, 3)
    plain = pg.export.to_plain(model, torch.arange(count), [factor[:count] if factor.ndim else factor, several[:count]])
    other = torch.arange(1, 5), [several if factor.ndim else factor + 1, several]
    torch.testing.assert_close(plain(*other), model(*other))


@pytest.mark.parametrize("make", [pg.export.program, pg.export.to_plain])
@pytest.mark.parametrize("name", ["batch", "frozen"])
def test_flags_are_bools(make: Callable[..., Any], name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}: expected True or False, got 'yes'"):
        make(nn.Identity(), torch.rand(2), **{name: "yes"})


def test_constants_that_are_written_to_are_not_folded() -> None:
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            table = torch.zeros(3) + 1
            table[1] = x.sum()
            return x + table

    x = torch.randn(2, 3)
    plain = pg.export.to_plain(Writes(), x, frozen=True)
    for value in (x, 2 * x):
        torch.testing.assert_close(plain(value), Writes()(value))


def test_open_height_and_width(tmp_path: Path) -> None:
    """A network of images runs in onnxruntime at sizes that it was not traced at."""
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = pg.models.vessel_segmentation(layers=3, channels=2, space=pg.SE2(4), kernel_size=3, logits=True).eval()
    x, other = torch.randn(2, 3, 16, 18), torch.randn(1, 3, 25, 31)
    sizes = ({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},)
    path = pg.export.to_onnx(model, (x,), tmp_path / "model.onnx", dynamic_shapes=sizes)
    session = onnxruntime.InferenceSession(str(path))
    (came,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    torch.testing.assert_close(torch.from_numpy(came), model(other).detach(), atol=1e-5, rtol=1e-4)


def test_a_unet_runs_at_another_size(tmp_path: Path) -> None:
    """Two levels, the sizes of one halved and rounded, are one short graph: a dilation is a loop, whatever its taps."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = pg.models.unet(pg.R2(), 2, channels=(2, 2), terms=("dilation",), kernel_size=9).eval()
    sizes = ({0: Dim("batch"), 2: Dim("height", min=3), 3: Dim("width", min=3)},)
    path = pg.export.to_onnx(model, torch.randn(1, 2, 16, 16), tmp_path / "model.onnx", dynamic_shapes=sizes)
    session = onnxruntime.InferenceSession(path)
    for shape in ((1, 2, 3, 4), (3, 2, 19, 14)):
        other = torch.randn(shape)
        (came,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
        torch.testing.assert_close(torch.from_numpy(came), model(other).detach(), atol=1e-5, rtol=1e-4)
    loops = [node for node in onnx.load(path).graph.node if node.op_type == "Loop"]
    assert len(loops) == 3  # one for each layer


def test_the_error_names_sizes_that_would_do() -> None:
    sizes = ({3: Dim("height"), 4: Dim("width")},)
    with pytest.raises(
        ValueError, match=r"^model: expected .*Open sizes that would do: height = Dim\('height', min=3\)"
    ):
        pg.export.to_plain(pg.nn.Downsample(pg.SE2(4)), torch.randn(2, 2, 4, 8, 8), dynamic_shapes=sizes)


@pytest.mark.parametrize("boundary", range(3))
def test_shifts_agree_with_plain_torch(boundary: int, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from pdegcnn.ops.convection.custom_op import convection

    torch.manual_seed(0)
    shift = 4 * torch.randn(2, 4, 3)
    shift[0, 0] = torch.tensor([1.0, -2.0, 0.0])

    class Layer(nn.Module):
        def forward(self, u: torch.Tensor) -> torch.Tensor:
            return convection(u, shift, boundary, "numba")

    u = torch.randn(3, 2, 4, 5, 6)
    path = pg.export.to_onnx(Layer(), u[:2], tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    (came,) = session.run(None, {session.get_inputs()[0].name: u.numpy()})
    torch.testing.assert_close(torch.from_numpy(came), PLAIN["convection"](u, shift, boundary, "numba"))


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
def test_loops_over_taps_agree_with_plain_torch(sign: int, periodic: bool, tmp_path: Path) -> None:
    """With taps that are forbidden, values that are infinite, windows wider than the fibre, and several planes each."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from pdegcnn.ops.morphology.custom_op import morphology

    torch.manual_seed(0)
    kernel = torch.rand(2, 2, 9, 3, 5)
    kernel[kernel > 0.7] = torch.inf
    kernel[:, :, 4, 1, 2] = 0

    class Layer(nn.Module):
        def forward(self, u: torch.Tensor) -> torch.Tensor:
            return morphology(u, kernel, sign, False, "torch", periodic)[0]

    u = torch.randn(3, 2, 4, 5, 6)
    u[0, 0, 1, 2, 3], u[1, 1, 0, 0, 0] = torch.inf, -torch.inf
    path = pg.export.to_onnx(Layer(), u[:2], tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    (came,) = session.run(None, {session.get_inputs()[0].name: u.numpy()})
    assert torch.equal(torch.from_numpy(came), PLAIN["morphology"](u, kernel, sign, False, "torch", periodic)[0])


@pytest.mark.parametrize("block", [100, 800])
def test_blocks_and_taps_that_cannot_win(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs above the range of the signal, which are left out, in parts of rows, of images and of channels."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from pdegcnn.export import onnx_operators
    from pdegcnn.ops.morphology.custom_op import morphology

    torch.manual_seed(0)
    monkeypatch.setattr(onnx_operators, "BLOCK", block)
    kernel = 9 * torch.rand(3, 4, 3, 3, 5) ** 4
    kernel[0] += 2.0  # a centre that costs something too

    class Layer(nn.Module):
        def forward(self, u: torch.Tensor) -> torch.Tensor:
            return morphology(u, kernel, -1, False, "torch", True)[0]

    u = torch.rand(3, 3, 4, 5, 6)
    u[1, 2] *= 5.0
    path = pg.export.to_onnx(Layer(), u[:2], tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    (came,) = session.run(None, {session.get_inputs()[0].name: u.numpy()})
    assert torch.equal(torch.from_numpy(came), PLAIN["morphology"](u, kernel, -1, False, "torch", True)[0])


def test_the_order_of_arguments_is_that_of_torch(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^args: expected inputs .*to_onnx\(model, args, path\)"):
        pg.export.to_onnx(nn.Identity(), tmp_path / "model.onnx", torch.rand(1, 2))  # pyright: ignore


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("make", ["plain", "program"])
@pytest.mark.parametrize("name", ["rotated_digits", "unet"])
def test_what_becomes_of_a_copy_leaves_the_model_as_it_is(name: str, make: str, frozen: bool) -> None:
    """Training, filling and loading: values and gradients of the model stay, and those of the copy move."""
    model, x = built(name)
    values = {k: v.clone() for k, v in model.state_dict().items()}
    if make == "plain":
        copy: nn.Module = pg.export.to_plain(model, x, frozen=frozen)
    else:
        copy = pg.export.program(model, x, frozen=frozen).module()
    names = {k for k, _ in model.named_parameters()}
    assert {k for k, _ in copy.named_parameters()} == names or frozen
    assert all(p.requires_grad for p in copy.parameters())
    torch.testing.assert_close(copy(x), model.eval()(x), rtol=1e-4, atol=1e-5)
    if not frozen:
        copy(x).square().mean().backward()
        torch.optim.SGD(copy.parameters(), lr=1.0).step()
        assert any(not torch.equal(p, values[k]) for k, p in copy.named_parameters())
    with torch.no_grad():
        for tensor in (*copy.parameters(), *copy.buffers()):
            tensor.fill_(2)
    assert all(torch.equal(v, values[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_parameter_that_is_used_twice_stays_one_in_the_copy() -> None:
    first = nn.Linear(3, 3)
    model = nn.Sequential(first, nn.Linear(3, 3))
    model[1].weight = first.weight
    copy = pg.export.to_plain(model, torch.randn(2, 3))
    assert len(list(copy.parameters())) == 3 and all(p.data_ptr() != first.weight.data_ptr() for p in copy.parameters())
