"""Gauge layers: invariance under motions and labels, diffusion, memory. Laws of every layer: tests/laws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import pdegcnn as pg
from pdegcnn import gauge
from pdegcnn.gauge.diffusion import implicit_step
from pdegcnn.gauge.nonlinearity import from_directions, to_directions

from ..cases import LAYERS, Case
from ..helpers import bumpy_sphere, sheet

SPINS = {0: 3, 1: 3, 2: 3}
CONVOLUTIONS_AND_DIFFUSIONS = [c for c in LAYERS if c.name.startswith(("gauge.GaugeConv", "gauge.Diffusion"))]
MESHES = {"closed": bumpy_sphere(1), "open": sheet(4, 5)}


def features(mesh: pg.Mesh, dtype: torch.dtype = torch.float64, channels: int = 3) -> gauge.Features:
    shape = (2, channels, mesh.vertex_count)
    return {k: torch.randn(shape, dtype=dtype.to_complex() if k else dtype) for k in SPINS}


def error(a: gauge.Features, b: gauge.Features) -> float:
    assert set(a) == set(b)
    return max(float((a[k] - b[k]).detach().abs().max() / b[k].detach().abs().max()) for k in a)


def test_regular_nonlinearity_is_exact_for_its_angles_and_better_with_more() -> None:
    mesh, errors = MESHES["closed"], []
    x = features(mesh)
    for samples in (5, 9, 33):
        layer = gauge.RegularReLU(SPINS, samples)
        steps = torch.randint(samples, (mesh.vertex_count,)).double() * (2 * torch.pi / samples)
        assert error(layer(gauge.transform(x, steps)), gauge.transform(layer(x), steps)) < 1e-12
        angles = 6 * torch.rand(mesh.vertex_count, dtype=torch.float64)
        errors.append(error(layer(gauge.transform(x, angles)), gauge.transform(layer(x), angles)))
    assert errors[2] < 0.02
    assert errors[2] < 0.25 * errors[1] < 0.25 * errors[0] * 1.5


def test_samples_and_spins_are_inverse() -> None:
    x = features(MESHES["open"])
    for count in (5, 6, 9):
        back = from_directions(to_directions(x, count), [0, 1, 2])
        assert error(back, x) < 1e-12


@pytest.mark.parametrize("case", CONVOLUTIONS_AND_DIFFUSIONS, ids=str)
def test_rigid_motion_scale_and_labels_change_nothing(case: Case) -> None:
    """Up to the gauge: relabelling also changes which edge the reference direction follows."""
    mesh = bumpy_sphere(1)
    layer, x = case.build(dtype=torch.float64), features(mesh, channels=2)
    before = layer(x, mesh)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn)
    moved = pg.Mesh.from_arrays(2.5 * mesh.vertices @ turn.T + 3, mesh.faces)
    assert error(layer(x, moved), before) < 1e-10

    new = torch.randperm(mesh.vertex_count)  # vertex v becomes new[v]
    faces = new[mesh.faces].roll(1, dims=1).flip(0)
    vertices = torch.empty_like(mesh.vertices).index_copy_(0, new, mesh.vertices)
    other = pg.Mesh.from_arrays(vertices, faces)
    (a, b, _), (c, _, _) = mesh.frames_in_space(), other.frames_in_space()
    theirs = c[new]  # reference directions of the relabelled mesh, at the old vertices
    first = other.surface.frames.first[new.numpy()]
    edge = np.stack((other.surface.triangulation.tail[first], other.surface.triangulation.head[first]))
    old = torch.argsort(new).numpy()[edge]  # that edge in old labels
    t = mesh.surface.triangulation
    key = t.tail * mesh.vertex_count + t.head
    order = np.argsort(key)
    place = order[np.searchsorted(key, old[0] * mesh.vertex_count + old[1], sorter=order)]
    angles = torch.from_numpy(mesh.surface.frames.angle[place])
    seen = torch.atan2((theirs * b).sum(1), (theirs * a).sum(1))
    assert (torch.cos(seen - angles) > 0.9).all()  # intrinsic and ambient angles are close
    shuffled = {k: torch.empty_like(f).index_copy_(2, new, f) for k, f in gauge.transform(x, angles).items()}
    expected = gauge.transform(before, angles)
    expected = {k: torch.empty_like(f).index_copy_(2, new, f) for k, f in expected.items()}
    assert error(layer(shuffled, other), expected) < 1e-10


def test_convolution_of_a_constant_field_on_the_plane_is_constant() -> None:
    """Inside a flat mesh, vectors that point the same way in space stay so, and scalars give no vectors."""
    mesh = sheet(7, 7)
    x, _, _ = mesh.frames_in_space()
    field = torch.complex(x[:, 0], -x[:, 1]).expand(1, 1, -1)  # the vector (1, 0) in every frame
    if mesh.frames_in_space()[2][0, 2] < 0:
        field = field.conj()
    out = gauge.GaugeConv({1: 1}, {1: 1}, dtype=torch.float64)({1: field}, mesh)[1][0, 0] / field[0, 0]
    inner = out.view(7, 7)[2:-2, 2:-2]
    torch.testing.assert_close(inner, inner[:1, :1].expand_as(inner))
    ones = torch.ones(1, 1, 49, dtype=torch.float64)
    out = gauge.GaugeConv({0: 1}, {1: 1}, dtype=torch.float64)({0: ones}, mesh)[1]
    assert out.view(7, 7)[2:-2, 2:-2].abs().max() < 1e-12


@pytest.mark.parametrize("spin", [0, 1, 2])
def test_implicit_step_solves_the_equation(spin: int) -> None:
    mesh = bumpy_sphere(1)
    u = features(mesh)[spin]
    time = torch.tensor([0.01, 1.0, 300.0], dtype=torch.float64)
    matrix = torch.from_numpy(mesh.surface.laplacian(spin).toarray()).to(u.dtype)
    mass = torch.from_numpy(np.diag(mesh.surface.delaunay_areas())).to(u.dtype)
    x = implicit_step(u, mesh, spin, time)
    for c, t in enumerate(time):
        exact = torch.linalg.solve(mass + t * matrix, mass @ u[:, c].mT).mT
        torch.testing.assert_close(x[:, c], exact, atol=1e-11, rtol=1e-11)


def test_diffusion_has_the_laws_of_heat() -> None:
    """Scalars: mean kept, maximum principle. Vectors: no longer than the scalar diffusion of their lengths."""
    mesh = bumpy_sphere(2)
    x = features(mesh)
    time = torch.full((3,), 2.0, dtype=torch.float64)
    areas = torch.from_numpy(mesh.surface.delaunay_areas())
    smooth = implicit_step(x[0], mesh, 0, time)
    torch.testing.assert_close((smooth * areas).sum(-1), (x[0] * areas).sum(-1))
    assert smooth.max() <= x[0].max() and smooth.min() >= x[0].min()
    vectors = implicit_step(x[1], mesh, 1, time)
    assert (vectors.abs() <= implicit_step(x[1].abs(), mesh, 0, time) + 1e-12).all()


@pytest.mark.parametrize("method", ["implicit", "spectral"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_diffusion_is_finite_for_any_time(method: str, dtype: torch.dtype) -> None:
    """Long times leave the mean, short ones nothing to do; neither overflows, nor do the gradients."""
    mesh = MESHES["closed"]
    u = torch.randn(1, 4, mesh.vertex_count, dtype=dtype, requires_grad=True)
    layer = gauge.Diffusion(4, spin=0, method=method, dtype=dtype)
    with torch.no_grad():
        layer.log_time.copy_(torch.tensor([-800.0, -20, 20, 800]))
    value = layer({0: u}, mesh)[0]
    grads = torch.autograd.grad(value.float().square().mean(), [u, layer.log_time])
    assert all(bool(x.isfinite().all()) for x in (value, *grads))
    spread = value.detach().float().std(-1)[0]
    assert float(spread[2:].max()) < 1e-2 * float(spread[1])


def test_spectral_diffusion_with_all_modes_is_the_matrix_exponential() -> None:
    mesh = bumpy_sphere(1)
    layer = gauge.Diffusion(3, spin=1, method="spectral", modes=42, dtype=torch.float64)
    u = features(mesh)[1]
    mass = torch.from_numpy(mesh.surface.delaunay_areas())
    matrix = torch.from_numpy(mesh.surface.laplacian(1).toarray()) / mass[:, None]
    out = layer({1: u}, mesh)[1]
    for c in range(3):
        exact = torch.matrix_exp(-layer.time[c].detach() * matrix) @ u[:, c].mT
        torch.testing.assert_close(out[:, c].mT, exact, atol=1e-9, rtol=1e-9)
    constant = gauge.Diffusion(1, spin=0, method="spectral", alpha=0.3, modes=5, dtype=torch.float64)
    ones = torch.ones(1, 1, 42, dtype=torch.float64)
    torch.testing.assert_close(constant({0: ones}, mesh)[0], ones)


def test_nothing_of_the_size_of_the_edges_is_kept_for_backward() -> None:
    mesh = bumpy_sphere(2)
    layer, x = gauge.GaugeConv(SPINS, SPINS, radius=2.5), features(mesh, torch.float32)
    x = {k: f.requires_grad_() for k, f in x.items()}
    layer(x, mesh)  # builds the stencils
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    stencils = {x.data_ptr() for v in mesh._operators if isinstance(v, tuple) for x in v if isinstance(x, torch.Tensor)}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer(x, mesh)
    given = sum(f.untyped_storage().nbytes() for f in x.values())
    weights = sum(p.numel() * 4 for p in layer.parameters())
    assert sum(size for place, size in kept.items() if place not in stencils) <= given + 6 * weights


def test_summaries_of_a_batch_of_meshes() -> None:
    """Layers on a batch: test_unions.py."""
    parts = [bumpy_sphere(1), sheet(3, 4, 0.2)]
    both, fields = pg.Mesh.union(parts), [features(m) for m in parts]
    joined = {k: torch.cat([f[k] for f in fields], dim=2) for k in SPINS}
    for mode in ("mean", "max"):
        pooled = gauge.GlobalPool(mode)(joined, both)
        assert pooled.shape == (4, 3)
        alone = [gauge.GlobalPool(mode)(f[0], m) for f, m in zip(fields, parts)]
        torch.testing.assert_close(pooled, torch.stack(alone, dim=1).flatten(0, 1))
        bad = torch.cat((fields[0][0], fields[1][0] * float("nan")), dim=2)
        assert torch.equal(gauge.GlobalPool(mode)(bad, both)[::2], alone[0])


HALVES: dict[str, Callable[[gauge.Features], torch.nn.Module]] = {
    "GaugeConv": lambda x: gauge.GaugeConv(dict.fromkeys(x, 3), dict.fromkeys(x, 3)),
    "Diffusion": lambda x: gauge.Diffusion(3, max(x)),
    "Diffusion spectral": lambda x: gauge.Diffusion(3, max(x), method="spectral", modes=5),
    "NormReLU": lambda x: gauge.NormReLU(dict.fromkeys(x, 3)),
    "GatedNonlinearity": lambda x: gauge.GatedNonlinearity(dict.fromkeys(x, 3)),
    "TensorProduct": lambda x: gauge.TensorProduct(dict.fromkeys(x, 3)),
    "RegularReLU": lambda x: gauge.RegularReLU(dict.fromkeys(x, 3)),
    "SpinMix": lambda x: gauge.SpinMix(dict.fromkeys(x, 3), dict.fromkeys(x, 3)),
    "SpinNorm": lambda x: gauge.SpinNorm(dict.fromkeys(x, 3)),
    "GlobalPool": lambda x: gauge.GlobalPool(),
    "MeshPool": lambda x: gauge.MeshPool(),
}


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_rounded_result_of_float32(name: str, dtype: torch.dtype) -> None:
    """Also of values whose squares, or sums over a mesh, half precision does not hold; and for a union of meshes."""
    mesh = bumpy_sphere(2)
    spins = (0, 1) if dtype == torch.float16 else (0,)  # bfloat16 has no complex numbers
    scale = 0.04 if name == "TensorProduct" else 1.0  # a square
    x = {k: scale * (1000 + 50 * features(mesh, torch.float32)[k]) for k in spins}
    layer = HALVES[name](x).to(dtype)
    takes_mesh = name.startswith(("GaugeConv", "Diffusion", "GlobalPool", "MeshPool"))
    for where in (mesh, pg.Mesh.union([mesh, mesh])):
        half = {k: torch.cat([u] * len(where.sizes), -1).to(torch.complex32 if k else dtype) for k, u in x.items()}
        wide = {k: u.to(torch.complex64 if k else torch.float32) for k, u in half.items()}
        extra = (where,) if takes_mesh else ()
        expected = layer.float()(wide, *extra)
        came = layer.to(dtype)(half, *extra)
        if name == "GlobalPool":
            came, expected = {0: came}, {0: expected}
        for k, u in came.items():
            assert u.dtype == half[k].dtype
            away = (u.to(expected[k].dtype) - expected[k]).abs().max() / expected[k].abs().max()
            assert away < 10 * torch.finfo(dtype).eps


@pytest.mark.parametrize("spin", [0, 1])
@pytest.mark.parametrize("name", ["GaugeConv", "Diffusion", "Diffusion spectral"])
def test_autocast_leaves_the_precision_of_layers_on_meshes(name: str, spin: int) -> None:
    mesh = MESHES["closed"]
    x = {spin: features(mesh, torch.float32)[spin]}
    layer = HALVES[name](x)
    for where in (mesh, pg.Mesh.union([mesh, mesh])):
        u = {spin: torch.cat([x[spin]] * len(where.sizes), -1)}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            came = layer(u, where)[spin]
        assert torch.equal(came, layer(u, where)[spin]) and came.dtype == u[spin].dtype


def test_a_norm_that_is_reset_is_a_new_one() -> None:
    layer, mesh = gauge.SpinNorm(dict.fromkeys(SPINS, 3)), MESHES["closed"]
    new = {k: v.clone() for k, v in layer.state_dict().items()}
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1)
    layer({k: 3 * u for k, u in features(mesh, torch.float32).items()})
    layer.reset_running_stats()
    assert all(torch.equal(v, new[k]) for k, v in layer.state_dict().items() if "running" in k)
    layer.reset_parameters()
    assert all(torch.equal(v, new[k]) for k, v in layer.state_dict().items())


MESH = MESHES["open"]
CASES: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "spins": (lambda: gauge.GaugeConv({-1: 2}, {0: 2}), ValueError, "in_channels: expected spins .* >= 0, got -1"),
    "channels": (lambda: gauge.GaugeConv({0: 0}, {0: 2}), ValueError, r"in_channels\[0\]: expected a positive int"),
    "no dictionary": (lambda: gauge.GaugeConv(8, {0: 2}), TypeError, "in_channels: expected a dictionary"),
    "radius": (lambda: gauge.GaugeConv({0: 1}, {0: 1}, radius=0.0), ValueError, "radius: expected a value in"),
    "missing spin": (
        lambda: gauge.GaugeConv(SPINS, SPINS)({0: torch.zeros(1, 3, 20)}, MESH),
        ValueError,
        r"the spins \[0, 1, 2\]",
    ),
    "real spin 1": (
        lambda: gauge.Diffusion(3, spin=1)({1: torch.zeros(1, 3, 20)}, MESH),
        TypeError,
        r"features\[1\]: expected a complex tensor, got dtype torch.float32",
    ),
    "vertices": (
        lambda: gauge.GaugeConv({0: 3}, {0: 1})({0: torch.zeros(1, 3, 7)}, MESH),
        ValueError,
        r"features\[0\]: expected shape \[B,3,20\] laid out \[B,C,V\], got \(1, 3, 7\)",
    ),
    "mesh": (
        lambda: gauge.GaugeConv({0: 3}, {0: 1})({0: torch.zeros(1, 3, 7)}, pg.SE2(8)),
        TypeError,
        "mesh: expected a pdegcnn.Mesh, got SE2",
    ),
    "precision": (
        lambda: gauge.GaugeConv({0: 3}, {0: 1})({0: torch.zeros(1, 3, 20).double()}, MESH),
        TypeError,
        r"features\[0\]: expected dtype torch.float32 as the weights",
    ),
    "no mesh": (
        lambda: gauge.GlobalPool()(torch.zeros(1, 3, 20), None),  # pyright: ignore[reportArgumentType]
        TypeError,
        "mesh: expected a pdegcnn.Mesh, got NoneType",
    ),
    "angles": (
        lambda: gauge.transform({0: torch.zeros(1, 3, 20)}, torch.zeros(3)),
        ValueError,
        r"angles: expected shape \[20\]",
    ),
    "fractional implicit": (
        lambda: gauge.Diffusion(2, alpha=0.5),
        ValueError,
        "alpha: expected 1 for method='implicit'",
    ),
    "diffusion spin": (
        lambda: gauge.Diffusion(3, spin=2)({0: torch.zeros(1, 3, 20)}, MESH),
        ValueError,
        "features: expected spin 2 among the spins",
    ),
    "widths": (
        lambda: gauge.TensorProduct({0: 2, 1: 3}),
        ValueError,
        "channels: expected the same number of channels for every spin",
    ),
    "samples": (lambda: gauge.RegularReLU(SPINS, 4), ValueError, "samples: expected more than 4"),
    "gates": (lambda: gauge.GatedNonlinearity({1: 2}), ValueError, "channels: expected spin 0 for the gates"),
    "mix": (lambda: gauge.SpinMix({0: 2}, {1: 2}), ValueError, "out_channels: expected spins among"),
    "pool": (lambda: gauge.GlobalPool("sum"), ValueError, "mode: expected one of 'mean', 'max'"),
}


@pytest.mark.parametrize("name", CASES)
def test_errors_name_argument_expectation_and_value(name: str) -> None:
    build, kind, message = CASES[name]
    with pytest.raises(kind, match=message):
        build()
