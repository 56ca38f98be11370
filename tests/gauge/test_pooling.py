"""Coarser meshes, and pooling to them and back: laws of geometry, of gauges and of means."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull, Delaunay
from torch import Tensor

import pdegcnn as pg
from pdegcnn import gauge
from pdegcnn.spaces.mesh_operators import turn_fibre
from pdegcnn.surface.checks import check_lengths, check_manifold

from ..helpers import bumpy_sphere, sheet, torus

MESHES = {"closed": bumpy_sphere(2, orientations=6), "open": sheet(7, 9, orientations=5), "flat": torus(8, 10)}
SPINS = (0, 1, 2)


def features(mesh: pg.Mesh, dtype: torch.dtype = torch.float64) -> gauge.Features:
    shape = (2, 3, mesh.vertex_count)
    return {k: torch.randn(shape, dtype=dtype.to_complex() if k else dtype) for k in SPINS}


def close(a: gauge.Features, b: gauge.Features, bound: float) -> None:
    assert set(a) == set(b)
    for k in a:
        assert (a[k] - b[k]).abs().max() <= bound * b[k].abs().max()


def inner(a: Tensor, b: Tensor, weight: Tensor) -> float:
    return float((a.conj() * b * weight.to(a.real)).sum().real)


@pytest.mark.parametrize("factor", [2, 4.0, 9.5])
@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_coarse_meshes_are_surfaces_of_the_same_kind(mesh: pg.Mesh, factor: float) -> None:
    coarse = mesh.coarsen(factor)
    fine, t = mesh.surface.triangulation, coarse.surface.triangulation
    check_manifold(t.faces, coarse.vertex_count)
    check_lengths(t.lengths)
    corners = 4 if mesh is MESHES["open"] else 0
    assert abs(coarse.vertex_count - mesh.vertex_count / factor) <= 1 + corners
    assert len(t.faces) - t.edge_count + t.vertex_count == len(fine.faces) - fine.edge_count + fine.vertex_count
    assert t.on_boundary.any() == fine.on_boundary.any()
    assert np.degrees(t.corners.min()) > 10
    area = float(coarse.areas.sum() * coarse.unit**2 / (mesh.areas.sum() * mesh.unit**2))
    assert area == pytest.approx(1, abs=0.2 if mesh is MESHES["closed"] else 1e-9)
    assert coarse is not mesh.coarsen(factor + 1)
    assert coarse._operators is mesh.coarsen(factor)._operators


def jittered(seed: int, ragged: bool, rows: int = 9, columns: int = 12) -> pg.Mesh:
    """A flat sheet of uneven triangles; its boundary is straight, or uneven too."""
    grid = np.stack(np.meshgrid(np.arange(float(columns)), np.arange(float(rows))), -1).reshape(-1, 2)
    noise = np.random.default_rng(seed).normal(0, 0.15, grid.shape)
    if not ragged:
        noise *= (grid > 0) & (grid < [columns - 1, rows - 1])
    points = grid + noise
    faces = Delaunay(points).simplices
    areas = signed_areas(points, faces)
    faces = np.where(areas[:, None] < 0, faces[:, ::-1], faces)[np.abs(areas) > 0.01]
    return pg.Mesh.from_arrays(np.c_[points, 0 * points[:, :1]], faces, repair=True)


def signed_areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    (ax, ay), (bx, by), (cx, cy) = (points[faces[:, k], :2].T for k in range(3))
    return ((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2


@pytest.mark.parametrize("factor", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("ragged", [False, True], ids=["straight", "ragged"])
@pytest.mark.parametrize("seed", [0, 2, 4, 5, 6, 7, 8, 11])
def test_flat_sheets_stay_flat(seed: int, ragged: bool, factor: float) -> None:
    """Faces keep their side up, inner vertices a full turn; frames and transport are those of the plane."""
    mesh = jittered(seed, ragged)
    level, coarse = mesh.surface.level(factor), mesh.coarsen(factor)
    t, points = level.surface.triangulation, mesh.vertices.numpy()
    areas = signed_areas(points[level.kept], t.faces)
    assert areas.min() > 0
    around = np.bincount(t.tail, t.corners, t.vertex_count)
    np.testing.assert_allclose(around[~t.on_boundary], 2 * math.pi, rtol=0, atol=1e-11)
    before = signed_areas(points, mesh.faces.numpy()).sum()
    if ragged:  # what lies beyond the boundary is added where it is hollow
        assert 0.97 * before < areas.sum() < ConvexHull(points[:, :2]).volume * (1 + 1e-12)
    else:
        assert areas.sum() == pytest.approx(before, rel=1e-12)
    here = points[level.kept]
    distances = np.linalg.norm(here[t.tail] - here[t.head], axis=1)
    np.testing.assert_allclose(level.surface.lengths.ravel(), distances, rtol=0, atol=1e-11)
    fine, after = (torch.complex(*m.frames_in_space()[0][:, :2].mT) for m in (mesh, coarse))
    torch.testing.assert_close(after, fine[level.kept], rtol=0, atol=1e-11)
    wanted = fine[level.kept][level.coarse] / fine[level.fine]
    torch.testing.assert_close(torch.from_numpy(level.transport), wanted, rtol=0, atol=1e-11)


def test_a_hollow_place_at_the_boundary_is_not_bridged_over_an_inner_vertex() -> None:
    """The neighbours of the vertex on top see each other only past the inner one below it."""
    points = np.array([[1, 0, 0], [0, 0.3, 0], [-1, 0, 0], [0, 0.1, 0], [0, -1.0, 0]])
    mesh = pg.Mesh.from_arrays(points, np.array([[1, 2, 3], [1, 3, 0], [2, 4, 3], [3, 4, 0]]))
    level = mesh.surface.level(1.25)
    assert signed_areas(points[level.kept], level.surface.triangulation.faces).min() > 0


def test_a_coarser_mesh_has_fewer_vertices() -> None:
    mesh = MESHES["closed"]
    for size in (mesh.vertex_count, mesh.vertex_count + 1):
        with pytest.raises(ValueError, match=f"size: expected fewer than the {mesh.vertex_count} vertices"):
            mesh.coarser(2.0, size=[size])


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_flat_surfaces_keep_their_geometry(mesh: pg.Mesh) -> None:
    """No curvature appears inside, and directions far apart stay parallel."""
    coarse = mesh.coarsen(4.0)
    t = coarse.surface.triangulation
    total = np.bincount(t.tail, t.corners)[~t.on_boundary]
    if mesh is MESHES["closed"]:
        assert (2 * math.pi - total).sum() == pytest.approx(4 * math.pi)
        return
    np.testing.assert_allclose(total, 2 * math.pi, atol=1e-9)
    like = torch.empty(0, dtype=torch.float64)
    ways = mesh.interpolation(4.0, like).transport
    if mesh is MESHES["flat"]:  # all frames of the torus are parallel
        torch.testing.assert_close(ways, torch.ones_like(ways), atol=1e-9, rtol=0)
        edges = coarse.neighbours(None, like).transport
        torch.testing.assert_close(edges, torch.ones_like(edges), atol=1e-9, rtol=0)
    else:  # a linear function of position is interpolated exactly inside, its gradient everywhere
        x, y, _ = mesh.frames_in_space()
        field = torch.complex(x[:, 0], y[:, 0])[None, None]
        kept = torch.from_numpy(mesh.surface.level(4.0).kept)
        torch.testing.assert_close(gauge.MeshUnpool(4.0)({1: field[..., kept]}, mesh)[1], field)
        height = mesh.vertices[None, :, 0].unsqueeze(0)
        torch.testing.assert_close(gauge.MeshUnpool(4.0)({0: height[..., kept]}, mesh)[0], height)


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=str)
@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_pooling_commutes_with_changes_of_gauge(mesh: pg.Mesh, dtype: torch.dtype, bound: float) -> None:
    angles = 6 * torch.rand(mesh.vertex_count, dtype=torch.float64)
    turned, x = mesh.with_gauge(angles), features(mesh, dtype)
    pool, unpool = gauge.MeshPool(3.0), gauge.MeshUnpool(3.0)
    kept = angles[torch.from_numpy(mesh.surface.level(3.0).kept)]
    down = pool(x, mesh)
    close(pool(gauge.transform(x, angles), turned), gauge.transform(down, kept), bound)
    close(unpool(gauge.transform(down, kept), turned), gauge.transform(unpool(down, mesh), angles), bound)
    torch.testing.assert_close(turned.coarsen(3.0).gauge, mesh.coarsen(3.0).gauge + kept)
    maximum = gauge.MeshPool(3.0, "max")({0: x[0]}, turned)
    assert torch.equal(maximum[0], gauge.MeshPool(3.0, "max")({0: x[0]}, mesh)[0])


@pytest.mark.parametrize("mode", ["mean", "max"])
@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_bundle_signals_turn_with_their_frames(mesh: pg.Mesh, mode: str) -> None:
    u = torch.randn(2, 3, mesh.orientations, mesh.vertex_count, dtype=torch.float64)
    angles = torch.randint(mesh.orientations, (mesh.vertex_count,)).double() * (2 * math.pi / mesh.orientations)
    turned, pool, unpool = mesh.with_gauge(angles), gauge.MeshPool(4.0, mode), gauge.MeshUnpool(4.0)
    kept = angles[torch.from_numpy(mesh.surface.level(4.0).kept)]
    down = pool(u, mesh)
    mesh.coarsen(4.0).check_signal("down", down)
    torch.testing.assert_close(pool(turn_fibre(u, -angles), turned), turn_fibre(down, -kept))
    up = unpool(turn_fibre(down, -kept), turned)
    torch.testing.assert_close(up, turn_fibre(unpool(down, mesh), -angles))
    assert (down.amax() <= u.amax() + 1e-12) and (up.amax() <= down.amax() + 1e-12)
    ones = torch.full_like(u, 2.5)
    torch.testing.assert_close(pool(ones, mesh), torch.full_like(down, 2.5))
    torch.testing.assert_close(unpool(pool(ones, mesh), mesh), ones)
    assert pool(u.bfloat16(), mesh).dtype == torch.bfloat16


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_means_are_the_adjoint_of_interpolation_and_keep_mass(mesh: pg.Mesh) -> None:
    pool, unpool = gauge.MeshPool(4.0), gauge.MeshUnpool(4.0)
    small = pool.areas(mesh)
    assert float(small.sum()) == pytest.approx(float(mesh.areas.sum()))
    x, y = features(mesh), features(mesh.coarsen(4.0))
    down, up = pool(x, mesh), unpool(y, mesh)
    for k in SPINS:
        assert inner(down[k], y[k], small) == pytest.approx(inner(x[k], up[k], mesh.areas), rel=1e-10)
    u = torch.randn(1, 2, mesh.orientations, mesh.vertex_count, dtype=torch.float64)
    v = torch.randn(1, 2, mesh.orientations, small.numel(), dtype=torch.float64)
    assert inner(pool(u, mesh), v, small) == pytest.approx(inner(u, unpool(v, mesh), mesh.areas), rel=1e-10)
    for before, after in ((x[0], down[0]), (u.sum(2), pool(u, mesh).sum(2))):
        torch.testing.assert_close((after * small).sum(-1), (before * mesh.areas).sum(-1))
    kept = torch.from_numpy(mesh.surface.level(4.0).kept)
    for k in SPINS:  # the vertices that both meshes have keep their values
        torch.testing.assert_close(up[k][..., kept], y[k])
        assert up[k].abs().max() <= y[k].abs().max() * (1 + 1e-12)


def test_labels_and_rigid_motion_change_nothing() -> None:
    """On a surface without symmetry, where no two areas are equal."""
    mesh = MESHES["closed"]
    mesh = pg.Mesh.from_arrays(mesh.vertices + 0.02 * torch.randn(mesh.vertex_count, 3), mesh.faces, orientations=6)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn)
    new = torch.randperm(mesh.vertex_count)
    vertices = torch.empty_like(mesh.vertices).index_copy_(0, new, 2.5 * mesh.vertices @ turn.T + 3)
    other = pg.Mesh.from_arrays(vertices, new[mesh.faces].roll(1, dims=1).flip(0), orientations=6)
    kept, theirs = (m.surface.level(4.0).kept for m in (mesh, other))
    place = {int(v): i for i, v in enumerate(theirs)}
    order = torch.tensor([place[int(new[v])] for v in kept])
    assert {int(new[v]) for v in kept} == {int(v) for v in theirs}
    u = torch.randn(1, 2, mesh.vertex_count, dtype=torch.float64)
    moved = torch.empty_like(u).index_copy_(2, new, u)
    for mode in ("mean", "max"):
        pool = gauge.MeshPool(4.0, mode)
        torch.testing.assert_close(pool({0: moved}, other)[0][..., order], pool({0: u}, mesh)[0])


def test_pooled_tangent_fields_of_a_sphere_stay_close_and_tend_to_it() -> None:
    """A smooth vector field, pooled and interpolated back, in error by the square of the edge."""

    def error(subdivisions: int) -> float:
        mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(subdivisions))
        x, y, _ = mesh.frames_in_space()
        wind = torch.linalg.cross(torch.tensor([[0.3, -0.5, 0.8]], dtype=torch.float64), mesh.vertices)
        field = torch.complex((wind * x).sum(1), (wind * y).sum(1))[None, None]
        back = gauge.MeshUnpool()(gauge.MeshPool()({1: field}, mesh), mesh)[1]
        return float((back - field).norm() / field.norm())

    coarse, fine = error(2), error(4)
    assert fine < 0.15 * coarse
    assert fine < 0.02


def test_unions_are_coarsened_each_for_itself_and_levels_are_kept_in_the_file(tmp_path: Path) -> None:
    parts = [bumpy_sphere(1, orientations=4), sheet(5, 6, 0.1, orientations=4)]
    both, coarse = pg.Mesh.union(parts), [m.coarsen(3.0) for m in parts]
    assert both.coarsen(3.0).sizes == tuple(m.vertex_count for m in coarse)
    fields = [features(m) for m in parts]
    joined = {k: torch.cat([f[k] for f in fields], dim=2) for k in SPINS}
    down = gauge.MeshPool(3.0)(joined, both)
    alone = [gauge.MeshPool(3.0)(f, m) for f, m in zip(fields, parts)]
    close(down, {k: torch.cat([f[k] for f in alone], dim=2) for k in SPINS}, 1e-12)
    conv = gauge.GaugeConv(dict.fromkeys(SPINS, 3), {0: 2, 1: 2}, dtype=torch.float64)
    each = [conv(f, m) for f, m in zip(alone, coarse)]
    close(conv(down, both.coarsen(3.0)), {k: torch.cat([f[k] for f in each], dim=2) for k in (0, 1)}, 1e-11)

    both.coarsen(3.0).coarsen(2.0)
    both.save(tmp_path / "levels.npz")
    read = pg.Mesh.load(tmp_path / "levels.npz")
    for part in read.surface.parts:
        assert set(part._levels) == {3.0}
        assert set(part._levels[3.0].surface._levels) == {2.0}
    close(gauge.MeshPool(3.0)(joined, read), down, 1e-15)
    assert torch.equal(read.coarsen(3.0).coarsen(2.0).gauge, both.coarsen(3.0).coarsen(2.0).gauge)


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_gradients(mode: str) -> None:
    mesh = MESHES["open"]
    u = torch.randn(1, 1, 5, mesh.vertex_count, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 1, mesh.coarsen(4.0).vertex_count, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: gauge.MeshPool(4.0, mode)(u, mesh), u, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: gauge.MeshUnpool(4.0)({1: x}, mesh)[1], x, fast_mode=True)


def test_bad_input_is_named() -> None:
    mesh, x = MESHES["closed"], features(MESHES["closed"])
    for run, error, message in (
        (lambda: mesh.coarsen(1), ValueError, r"factor: expected a value in \(1.0, inf\], got 1"),
        (lambda: mesh.coarsen("4"), TypeError, "factor: expected a number"),
        (lambda: gauge.MeshPool(0.5), ValueError, "factor: expected a value"),
        (lambda: gauge.MeshPool(4, "sum"), ValueError, "mode: expected one of 'mean', 'max'"),
        (lambda: gauge.MeshPool(4, "max")(x, mesh), ValueError, "signal: expected spin 0 alone for mode='max'"),
        (lambda: gauge.MeshPool(4)({0: x[0][..., 1:]}, mesh), ValueError, r"signal\[0\]: expected shape"),
        (lambda: gauge.MeshUnpool(4)(x, mesh), ValueError, r"signal\[0\]: expected shape \[B,C,40\]"),
        (
            lambda: gauge.MeshPool(4)(torch.zeros(1, 1, 2, 162), mesh),
            ValueError,
            "signal: expected 6 orientations and 162",
        ),
        (lambda: gauge.MeshUnpool(4)(x, pg.SE2(8)), TypeError, "mesh: expected a pdegcnn.Mesh, got SE2"),
    ):
        with pytest.raises(error, match=message):
            run()
