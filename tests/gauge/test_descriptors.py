"""Curvatures, heat-kernel signatures and tangent vectors: laws of geometry, and what must not change them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import pdegcnn as pg
from pdegcnn import gauge

from ..helpers import bumpy_sphere, random_rotation, sheet, torus

F64 = {"dtype": torch.float64}
ALL: dict[str, Callable[[pg.Mesh], Tensor]] = {
    "gaussian": lambda m: gauge.gaussian_curvature(m, **F64),
    "mean": lambda m: gauge.mean_curvature(m, **F64),
    "heat": lambda m: gauge.heat_kernel_signature(m, 4, modes=20, **F64),
    "heat at times": lambda m: gauge.heat_kernel_signature(m, (0.5, 3.0), modes=20, **F64),
}


def moved(mesh: pg.Mesh, change: Callable[[np.ndarray], np.ndarray], **options) -> pg.Mesh:
    return pg.Mesh.from_arrays(change(mesh.vertices.numpy()), mesh.faces, **options)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("mesh", [bumpy_sphere(1), sheet(4, 5)], ids=["closed", "open"])
def test_motions_numbers_scale_and_gauge_change_nothing(name: str, mesh: pg.Mesh) -> None:
    value, call = ALL[name](mesh), ALL[name]
    rotation = random_rotation().numpy()
    torch.testing.assert_close(call(moved(mesh, lambda v: v @ rotation.T + [1, 2, 3])), value, rtol=0, atol=1e-7)
    torch.testing.assert_close(call(moved(mesh, lambda v: 0.01 * v)), value, rtol=0, atol=1e-7)
    order = np.random.default_rng(0).permutation(mesh.vertex_count)
    renumbered = pg.Mesh.from_arrays(mesh.vertices.numpy()[order], np.argsort(order)[mesh.faces.numpy()])
    torch.testing.assert_close(call(renumbered), value[..., order], rtol=0, atol=1e-7)
    assert torch.equal(call(mesh.with_gauge(torch.rand(mesh.vertex_count))), value)
    union = call(pg.Mesh.union([sheet(3, 3), mesh]))
    torch.testing.assert_close(union[..., 9:], value, rtol=0, atol=1e-12)


SCALES = [1e-100, 1e-12, 1e-9, 1e-6, 1e6, 1e9, 1e100]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("unit", [None, 2.0])
@pytest.mark.parametrize("mesh", [bumpy_sphere(1), sheet(4, 5)], ids=["closed", "open"])
def test_any_unit_of_the_positions_gives_the_same_features_and_frames(
    mesh: pg.Mesh, unit: float | None, scale: float
) -> None:
    """A mesh in metres is the mesh in micrometres, alone and beside another of other size; so is its unit."""
    near = moved(mesh, lambda v: v, unit=unit)
    far = moved(mesh, lambda v: scale * v, unit=None if unit is None else scale * unit)
    vectors = torch.randn(3, mesh.vertex_count, 3, **F64)
    tangent = torch.randn(3, mesh.vertex_count, dtype=torch.complex128)
    calls = [*ALL.values(), lambda m: m.to_tangent(vectors), lambda m: m.from_tangent(tangent)]
    for call in [*calls, *(lambda m, k=k: m.frames_in_space()[k] for k in range(3))]:
        torch.testing.assert_close(call(far), call(near), rtol=1e-11, atol=1e-12)
    both = pg.Mesh.union([near, far])
    for call in (ALL["mean"], lambda m: m.frames_in_space()[0].mT, lambda m: m.frames_in_space()[2].mT):
        one, other = call(both).split(mesh.vertex_count, dim=-1)
        torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", SCALES[1:-1])
def test_a_unit_that_is_no_edge_changes_no_frame(scale: float) -> None:
    mesh = bumpy_sphere(1)
    far = moved(mesh, lambda v: scale * v, unit=1.0)
    for a, b in zip(far.frames_in_space(), mesh.frames_in_space()):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_frames_are_those_of_each_vertex_on_a_mesh_of_very_different_faces() -> None:
    """A cone that shrinks by a million from ring to ring has the same frames on each."""
    rings, count = 6, 8
    angle = 2 * math.pi * (np.arange(count)[None] + 0.5 * np.arange(rings)[:, None]) / count
    size = 1e-6 ** np.arange(rings)[:, None]
    vertices = np.stack((size * np.cos(angle), size * np.sin(angle), size + 0 * angle), -1).reshape(-1, 3)
    i, j = (x.ravel() for x in np.meshgrid(np.arange(rings - 1), np.arange(count), indexing="ij"))
    a, b, c, d = (i * count + j, i * count + (j + 1) % count, (i + 1) * count + j, (i + 1) * count + (j + 1) % count)
    mesh = pg.Mesh.from_arrays(vertices, np.concatenate((np.stack((a, b, c), 1), np.stack((b, d, c), 1))))
    frames = torch.stack(mesh.frames_in_space())
    torch.testing.assert_close(frames.norm(dim=-1), torch.ones(3, rings * count, **F64), rtol=0, atol=1e-12)
    x, y, z = frames
    torch.testing.assert_close(torch.linalg.cross(x, y), z, rtol=0, atol=1e-12)


@pytest.mark.parametrize("radius", [0.5, 3.0])
def test_curvatures_of_spheres(radius: float) -> None:
    vertices, faces = pg.surface.icosphere(3)
    mesh = pg.Mesh.from_arrays(radius * vertices, faces, unit=1.0)
    round_, bent = ALL["gaussian"](mesh)[0, 0] * radius**2, ALL["mean"](mesh)[0, 0] * radius
    for value in (round_, bent):
        assert float((value * mesh.areas).sum() / mesh.areas.sum()) == pytest.approx(1, abs=0.01)
        assert value.quantile(0.02) > 0.98 and value.quantile(0.98) < 1.02 and value.max() < 1.2
    inside_out = pg.Mesh.from_arrays(radius * vertices, np.asarray(faces)[:, ::-1].copy(), unit=1.0)
    assert float(ALL["mean"](inside_out).max()) < 0


def test_gauss_bonnet_and_flat_surfaces() -> None:
    closed, flat, plane = bumpy_sphere(2), torus(5, 6), sheet(5, 6)
    assert float((ALL["gaussian"](closed)[0, 0] * closed.areas).sum()) == pytest.approx(4 * math.pi, abs=1e-10)
    assert ALL["gaussian"](flat).abs().max() < 1e-12
    assert ALL["gaussian"](plane).abs().max() < 1e-12 and ALL["mean"](plane).abs().max() < 1e-12
    with pytest.raises(ValueError, match="vertices: expected a mesh with positions"):
        gauge.mean_curvature(flat)


def test_signatures_of_alike_points_are_alike_and_their_mean_is_one() -> None:
    flat = torus(5, 6)
    assert (ALL["heat"](flat) - 1).abs().max() < 1e-9
    mesh = bumpy_sphere(2)
    heat = gauge.heat_kernel_signature(mesh, 6, modes=20)
    areas = mesh.laplacian(0, torch.empty(0))[1]
    torch.testing.assert_close((heat[0] * areas).sum(1) / areas.sum(), torch.ones(6), rtol=0, atol=1e-4)
    assert heat.shape == (1, 6, mesh.vertex_count) and heat.dtype == torch.float32
    assert heat[0, 0].std() > 5 * heat[0, -1].std()  # all points are alike in the end
    with pytest.raises(TypeError, match="times: expected a positive int or a sequence"):
        gauge.heat_kernel_signature(mesh, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.bool, torch.complex64, "float32"])
def test_features_of_other_types_than_floats_are_refused(dtype: torch.dtype) -> None:
    """Whole numbers would cut a curvature to zero."""
    for call in (gauge.gaussian_curvature, gauge.mean_curvature, gauge.heat_kernel_signature):
        with pytest.raises(TypeError, match="dtype: expected a floating-point dtype or None, got"):
            call(bumpy_sphere(0), dtype=dtype)
        assert call(bumpy_sphere(0), dtype=torch.float16).dtype == torch.float16


def test_times_may_be_numbers_of_any_library() -> None:
    mesh, heat = bumpy_sphere(1), gauge.heat_kernel_signature
    for count in (np.int64(3), torch.tensor(3)):
        assert torch.equal(heat(mesh, count), heat(mesh, 3))
    pair = [0.5, 2.0]
    for times in (np.array(pair), torch.tensor(pair), tuple(pair), [np.float32(0.5), torch.tensor(2.0)]):
        assert torch.equal(heat(mesh, times), heat(mesh, pair))
    for wrong in (np.float64(2.5), True, [], np.zeros((2, 2)), np.array([]), None):
        with pytest.raises(TypeError, match="times: expected a positive int or a sequence of positive numbers, got"):
            heat(mesh, wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tangent_vectors_come_back(dtype: torch.dtype) -> None:
    mesh = bumpy_sphere(1).with_gauge(torch.rand(42))
    normal = mesh.frames_in_space()[2]
    vectors = torch.randn(2, 3, 42, 3, dtype=torch.float64)
    vectors = vectors - (vectors * normal).sum(-1, keepdim=True) * normal
    field = mesh.to_tangent(vectors.to(dtype))
    assert field.dtype == (torch.complex128 if dtype == torch.float64 else torch.complex64)
    bound = {torch.float32: 1e-5, torch.float64: 1e-13, torch.bfloat16: 0.03}[dtype]
    torch.testing.assert_close(mesh.from_tangent(field).double(), vectors, rtol=bound, atol=bound)
    torch.testing.assert_close(field.abs().double(), vectors.norm(dim=-1), rtol=bound, atol=bound)


def test_tangent_vectors_follow_the_gauge_and_motions() -> None:
    mesh, angles = bumpy_sphere(1), torch.rand(42, dtype=torch.float64)
    vectors, rotation = torch.randn(1, 2, 42, 3, dtype=torch.float64), random_rotation()
    field = mesh.to_tangent(vectors)
    turned = gauge.transform({1: field}, angles)[1]
    torch.testing.assert_close(mesh.with_gauge(angles).to_tangent(vectors), turned, rtol=0, atol=1e-13)
    carried = moved(mesh, lambda v: v @ rotation.numpy().T)
    torch.testing.assert_close(carried.to_tangent(vectors @ rotation.T), field, rtol=0, atol=1e-12)


def test_vectors_of_numpy_take_the_precision_of_new_layers() -> None:
    mesh = bumpy_sphere(1)
    field = mesh.to_tangent(np.random.default_rng(0).normal(size=(1, 2, 42, 3)))
    out = gauge.GaugeConv({1: 2}, {1: 3})({1: field}, mesh)[1]
    assert mesh.from_tangent(out).shape == (1, 3, 42, 3) and mesh.from_tangent(out).dtype == torch.float32
    for wrong in (torch.zeros(42, 2), torch.zeros(41, 3), torch.zeros(3)):
        with pytest.raises(ValueError, match=r"vectors: expected shape \[..., 42, 3\]"):
            mesh.to_tangent(wrong)
    with pytest.raises(TypeError, match="features: expected a complex tensor"):
        mesh.from_tangent(torch.zeros(42))


def test_a_union_is_the_collate_function_of_a_loader() -> None:
    """As docs/mesh.md writes it."""
    meshes = [bumpy_sphere(0), sheet(3, 4), bumpy_sphere(1), sheet(5, 4)]
    data = [(mesh, torch.randn(1, 2, mesh.vertex_count)) for mesh in meshes]

    def collate(samples: list[tuple[pg.Mesh, Tensor]]) -> tuple[pg.Mesh, Tensor]:
        parts, values = zip(*samples)
        return pg.Mesh.union(parts), torch.cat(values, dim=-1)

    layer = gauge.GaugeConv({0: 2}, {0: 3})
    alone = [layer({0: values}, mesh)[0] for mesh, values in data]
    batches = list(DataLoader(data, batch_size=2, collate_fn=collate))  # type: ignore[arg-type]
    assert [mesh.sizes for mesh, _ in batches] == [(12, 12), (42, 20)]
    together = [layer({0: values}, mesh)[0] for mesh, values in batches]
    torch.testing.assert_close(torch.cat(together, -1), torch.cat(alone, -1))
