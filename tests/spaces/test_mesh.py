"""Meshes: construction and its errors, gauges, motions, batches, files."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

import pdegcnn as pg

from ..helpers import MESH_CASES, bumpy_sphere, sheet, torus

TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float)
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
BOW_TIE = np.array([[0, 1, 2], [0, 3, 4]])
FLAT = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, -1, 0]], dtype=float)
DEFECTS = {
    "vertices dtype": (TETRAHEDRON.astype(int), FACES, TypeError, r"vertices: expected \[V,3\] float, got dtype int"),
    "vertices shape": (TETRAHEDRON[:, :2], FACES, ValueError, r"vertices: expected \[V,3\] float.*got shape \(4, 2\)"),
    "faces dtype": (TETRAHEDRON, FACES.astype(float), TypeError, "faces: .* got dtype float64"),
    "faces shape": (TETRAHEDRON, FACES[:0], ValueError, r"faces: .*got shape \(0, 3\)"),
    "index": (TETRAHEDRON, FACES + 1, ValueError, r"indices in \[0, 3\], got others in faces \[1, 2, 3\]"),
    "repeated corner": (TETRAHEDRON, [*FACES, [0, 0, 1]], ValueError, r"repeated corners in faces \[4\]"),
    "flat face": (TETRAHEDRON[[0, 1, 2, 0]] * 1.0, FACES, ValueError, r"zero area in faces \[1, 3\]"),
    "nan": (TETRAHEDRON * [[1], [1], [math.nan], [1]], FACES, ValueError, r"NaN or infinity at vertices \[2\]"),
    "isolated": ([*TETRAHEDRON, [2.0, 2, 2]], FACES, ValueError, r"isolated vertex, got no face at vertices \[4\]"),
    "edge": ([*TETRAHEDRON, [2.0, 2, 2]], [*FACES, [0, 1, 4]], ValueError, r"at edges \[\[0, 1\]\]"),
    "orientation": (TETRAHEDRON, [*FACES[:3], [0, 2, 3]], ValueError, r"one orientation.*\[0, 2\], \[2, 3\], \[3, 0\]"),
    "vertex": (FLAT, BOW_TIE, ValueError, r"one sheet at each vertex \(manifold\), got several at vertices \[0\]"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_every_defect_is_named_with_its_place(name: str) -> None:
    vertices, faces, error, message = DEFECTS[name]
    with pytest.raises(error, match=message):
        pg.Mesh.from_arrays(np.asarray(vertices), np.asarray(faces))


def test_repair() -> None:
    vertices = np.concatenate((TETRAHEDRON, [[5.0, 5, 5]]))
    faces = np.concatenate((FACES[:3], [[0, 2, 3], [0, 0, 1], [1, 2, 3]]))
    mesh = pg.Mesh.from_arrays(vertices, faces, repair=True)
    assert (mesh.vertex_count, len(mesh.faces)) == (4, 4)


def test_float32_tensors_and_files(tmp_path: Path) -> None:
    mesh = pg.Mesh.from_arrays(torch.tensor(TETRAHEDRON, dtype=torch.float32), torch.tensor(FACES), orientations=4)
    assert mesh.vertices.dtype == torch.float64
    assert torch.equal(mesh.faces, torch.tensor(FACES))
    trimesh.Trimesh(TETRAHEDRON, FACES, process=False).export(tmp_path / "tetrahedron.ply")
    read = pg.Mesh.from_file(tmp_path / "tetrahedron.ply", orientations=4)
    torch.testing.assert_close(read.vertices, mesh.vertices)


def spare(mesh: pg.Mesh) -> pg.Mesh:
    """The same surface, from arrays with positions that have no face."""
    first = torch.full((3, 3), 7.0, dtype=torch.float64)
    return pg.Mesh.from_arrays(torch.cat((first, mesh.vertices, first)), mesh.faces + 3, repair=True)


@pytest.mark.parametrize("way", ["computed", "file", "former file"])
@pytest.mark.parametrize(
    "mesh",
    [bumpy_sphere(2), spare(bumpy_sphere(2)), sheet(6, 7), pg.Mesh.union([spare(sheet(5, 5)), bumpy_sphere(1)])],
    ids=["closed", "with spare vertices", "open", "union"],
)
def test_coarser_meshes_know_the_vertices_of_the_arrays(mesh: pg.Mesh, way: str, tmp_path: Path) -> None:
    """Values at the vertices of a file land on the same places, however often the mesh was made coarser."""
    values = torch.full((mesh.vertex_map.numel(), 3), math.nan, dtype=torch.float64)
    values[mesh.source_vertices] = mesh.vertices
    finer = mesh
    if way != "computed":
        mesh.coarsen(2.0).coarsen(3.0)
        mesh.save(tmp_path / "mesh.npz")
        if way == "former file":  # whose coarser surfaces had no map
            with np.load(tmp_path / "mesh.npz") as file:
                store = {k: v for k, v in file.items() if "level" not in k or not k.endswith("vertex_map")}
            np.savez(tmp_path / "mesh.npz", **store)
        finer = pg.Mesh.load(tmp_path / "mesh.npz")
    for factor in (2.0, 3.0):
        coarse = finer.coarsen(factor)
        assert coarse.vertex_count < finer.vertex_count
        known, source = coarse.vertex_map, coarse.source_vertices
        assert torch.equal(values[source], coarse.vertices)
        assert torch.equal(known[source], torch.arange(coarse.vertex_count))
        assert known.shape == mesh.vertex_map.shape and (known >= 0).sum() == coarse.vertex_count
        finer = coarse


def test_area_and_unit() -> None:
    mesh = sheet(4, 5, 0.5)
    assert mesh.areas.sum().item() * mesh.unit**2 == pytest.approx(3 * 4 * 0.25)
    edges = 31 * 0.5 + 12 * 0.5 * 2**0.5
    assert mesh.unit == pytest.approx(edges / 43)


@pytest.mark.parametrize("mesh", MESH_CASES, ids=str)
def test_gauge_turns_frames_and_operators_alike(mesh: pg.Mesh) -> None:
    angles = 6 * torch.rand(mesh.vertex_count, dtype=torch.float64)
    turned = mesh.with_gauge(angles)
    like = torch.empty(0, dtype=torch.float64)
    (x, y, n), (tx, ty, tn) = mesh.frames_in_space(), turned.frames_in_space()
    c, s = angles.cos()[:, None], angles.sin()[:, None]
    torch.testing.assert_close(tx, c * x + s * y)
    torch.testing.assert_close(torch.linalg.cross(tx, ty), n)
    torch.testing.assert_close(tn, n)
    old, new = mesh.neighbours(1.5, like), turned.neighbours(1.5, like)
    phase = torch.polar(torch.ones_like(angles), -angles)
    torch.testing.assert_close(new.offset, old.offset * phase[old.centre])
    torch.testing.assert_close(new.transport, old.transport * phase[old.centre] / phase[old.source])
    for spin in (0, 1, 2):
        field = torch.randn(mesh.vertex_count, dtype=torch.complex128)
        apply = [_dense(m.laplacian(spin, like)[0]) for m in (mesh, turned)]
        torch.testing.assert_close(apply[1] @ (phase**spin * field), phase**spin * (apply[0] @ field))
    back = turned.with_gauge(-angles)
    torch.testing.assert_close(back.neighbours(1.5, like).offset, old.offset)


def _dense(matrix: pg.spaces.mesh.SparseRows) -> torch.Tensor:
    n = matrix.start.numel() - 1
    return torch.sparse_csr_tensor(matrix.start, matrix.columns, matrix.values, (n, n)).to_dense()


def test_geometry_ignores_rigid_motion_and_scale() -> None:
    mesh = bumpy_sphere(1)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    turn = turn * torch.linalg.det(turn)
    moved = pg.Mesh.from_arrays(3.7 * mesh.vertices @ turn.T + 5, mesh.faces)
    assert moved.unit == pytest.approx(3.7 * mesh.unit)
    like = torch.empty(0, dtype=torch.float64)
    for a, b in zip(moved.neighbours(2.0, like), mesh.neighbours(2.0, like)):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_motion_of_the_torus_is_a_shift() -> None:
    mesh = torus(5, 6, orientations=4)
    r, c = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    u = torch.randn(1, 2, 4, 30)
    image = ((r + 2) % 5 * 6 + (c - 1) % 6).flatten()
    moved = mesh.transform(u, symmetry=image)
    expected = u.unflatten(-1, (5, 6)).roll((2, -1), dims=(-2, -1)).flatten(-2)
    assert torch.equal(moved, expected)
    assert torch.equal(mesh.transform(u[:, :, 0], symmetry=image), expected[:, :, 0])
    assert torch.equal(mesh.transform(u[:, :, 0, 0], symmetry=image), u[:, :, 0, 0])
    angles = torch.randint(4, (30,)).double() * (math.pi / 2)
    turned = mesh.with_gauge(angles)
    in_turned = pg.spaces.mesh.turn_fibre(u, -angles)
    expected = pg.spaces.mesh.turn_fibre(moved, -angles)
    assert torch.equal(turned.transform(in_turned, symmetry=image), expected)


def test_turning_by_any_angle_composes() -> None:
    u = torch.randn(1, 2, 5, 7, dtype=torch.float64)
    angle = torch.randn(7, dtype=torch.float64)
    back = pg.spaces.mesh.turn_fibre(pg.spaces.mesh.turn_fibre(u, angle), -angle)
    torch.testing.assert_close(back, u)


def test_turning_by_whole_steps_is_exact_beside_other_turns() -> None:
    u = torch.randn(1, 2, 5, 7)
    u[..., 0, :3] = math.inf
    steps = torch.tensor([0, 1, -2, 0.3, 0.4, 0.5, 4]).double()
    alone = pg.spaces.mesh.turn_fibre(u[..., :3], steps[:3] * (2 * math.pi / 5))
    assert torch.equal(pg.spaces.mesh.turn_fibre(u, steps * (2 * math.pi / 5))[..., :3], alone)


def test_union_is_block_diagonal() -> None:
    parts = [bumpy_sphere(1, orientations=4), sheet(3, 4, 0.1, orientations=4)]
    both = pg.Mesh.union(parts)
    assert both.sizes == (42, 12)
    like = torch.empty(0, dtype=torch.float64)
    joined = both.neighbours(1.6, like)
    for mesh, first in zip(parts, (0, 42)):
        own = mesh.neighbours(1.6, like)
        rows = slice(*joined.start[[first, first + mesh.vertex_count]].tolist())
        assert torch.equal(joined.source[rows] - first, own.source)
        torch.testing.assert_close(joined.offset[rows], own.offset)
    dense = _dense(both.laplacian(1, like)[0])
    torch.testing.assert_close(dense, torch.block_diag(*(_dense(m.laplacian(1, like)[0]) for m in parts)))


def test_saved_mesh_comes_back_with_what_was_computed(tmp_path: Path) -> None:
    mesh = bumpy_sphere(1, orientations=6)
    mesh = mesh.with_gauge(torch.randn(mesh.vertex_count))
    like = torch.empty(0, dtype=torch.float64)
    wanted = mesh.neighbours(1.7, like), mesh.neighbours(None, like), mesh.eigenbasis(1, 5, like)
    mesh.save(tmp_path / "mesh.npz")
    read = pg.Mesh.load(tmp_path / "mesh.npz")
    assert (read.orientations, read.sizes) == (6, mesh.sizes)
    assert {1.7, None} == set(read.surface._pairs)
    assert {(1, 5)} == set(read.surface._bases)
    for a, b in zip(wanted, (read.neighbours(1.7, like), read.neighbours(None, like), read.eigenbasis(1, 5, like))):
        assert all(torch.equal(x, y) for x, y in zip(a, b))
    torus(4, 4).save(tmp_path / "torus")
    assert pg.Mesh.load(tmp_path / "torus.npz").vertex_count == 16
    assert {p.name for p in tmp_path.iterdir()} == {"mesh.npz", "torus.npz"}


RADII = (1.5, np.float64(1.5), np.float32(1.5), np.array(1.5), torch.tensor(1.5))
WHOLE = (2, 2.0, np.int64(2), np.float32(2), torch.tensor(2))


@pytest.mark.parametrize("alike", [RADII, WHOLE], ids=["halves", "whole"])
def test_numbers_of_any_library_name_the_same_work(alike: tuple, tmp_path: Path) -> None:
    mesh, like = bumpy_sphere(1), torch.empty(0, dtype=torch.float64)
    first = mesh.neighbours(alike[0], like), mesh.coarsen(alike[0])
    for number in alike:
        mesh.prepare(radii=(number,), factors=(number,))
        assert mesh.neighbours(number, like) is first[0]
        assert mesh.coarsen(number).surface is first[1].surface
        assert pg.gauge.GaugeConv({0: 1}, {0: 1}, radius=number).radius == pg.gauge.MeshPool(number).factor == alike[0]
    for spin, count in ((1, 3), (np.int64(1), np.int32(3)), (np.array(1), torch.tensor(3))):
        mesh.prepare(spins=(spin,), bases={int(spin): count})
        assert mesh.modes(spin, count, like) is mesh.modes(1, 3, like)
    names = [{type(k) for k in kept} for kept in (mesh.surface._pairs, mesh.surface._levels, mesh.surface._laplacians)]
    assert names == [{float}, {float}, {int}] and list(mesh.surface._bases) == [(1, 3)]
    mesh.save(tmp_path / "mesh.npz")
    assert set(pg.Mesh.load(tmp_path / "mesh.npz").surface._pairs) == {float(alike[0])}


@pytest.mark.parametrize("radius", [0, -1.0, math.nan, math.inf, "2", True, np.bool_(True), np.ones(2)])
def test_what_is_no_radius_is_named(radius: object) -> None:
    for run in (
        lambda: MESH_CASES[0].prepare(radii=(radius,)),
        lambda: MESH_CASES[0].neighbours(radius, torch.ones(1)),
    ):
        with pytest.raises((ValueError, TypeError), match="radius: expected a"):
            run()


@pytest.mark.parametrize("name", ["mesh", "mesh.npz", "mesh.v1", "two words", ".hidden", "é" * 100, "mesh.NPZ"])
def test_a_file_is_read_by_the_name_it_was_written_by(name: str, tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()  # a folder of the same name is not in the way
    for path in (tmp_path / name, str(tmp_path / name)):
        for mesh in (torus(4, 4), MESH_CASES[1]):  # the second is written over the first
            mesh.save(path)
            assert pg.Mesh.load(path).vertex_count == mesh.vertex_count
    assert all(p.suffix == ".npz" for p in tmp_path.iterdir() if p.is_file())
    with pytest.raises(FileNotFoundError, match="path: expected a file of Mesh.save, got '.*nowhere', which does not"):
        pg.Mesh.load(str(tmp_path / "nowhere"))


def flipped_sheet() -> pg.Mesh:
    """Long triangles, so that the Delaunay triangulation has other edges."""
    mesh = sheet(4, 5)
    return pg.Mesh.from_arrays(mesh.vertices * torch.tensor([1.0, 0.3, 1.0]) + mesh.vertices[:, [1, 2, 0]], mesh.faces)


@pytest.mark.parametrize("way", ["file", "pickle", "union", "device"])
def test_nothing_that_was_computed_is_computed_again(way: str, tmp_path: Path, monkeypatch) -> None:
    """Neither for a mesh nor for a coarser one nor for a union; the numbers are the same to the bit."""
    wanted = {"radii": (None, 1.7), "spins": (0, 1), "bases": {1: 4, 0: 30}}
    two = pg.Mesh.union([bumpy_sphere(0), sheet(3, 3)]).with_gauge(torch.rand(21))
    for mesh in (flipped_sheet(), two, pg.Mesh.from_arrays(bumpy_sphere(1).vertices * 0.1, bumpy_sphere(1).faces)):
        mesh.prepare(**wanted, factors=(2,)).coarsen(2).prepare(**wanted)
        again = {
            "file": lambda m: (m.save(tmp_path / "mesh"), pg.Mesh.load(tmp_path / "mesh"))[1],
            "pickle": lambda m: pickle.loads(pickle.dumps(m)),
            "union": lambda m: pg.Mesh.union([m, MESH_CASES[0]]).surface.parts,
            "device": lambda m: m.to("cpu"),
        }[way](mesh)
        with monkeypatch.context() as patch:
            for name in ("geodesic_pairs", "intrinsic_delaunay", "connection_laplacian", "eigenmodes", "decimate"):
                patch.setattr(f"pdegcnn.surface.surface.{name}", None)
            if way == "union":
                theirs = pg.Mesh(pg.surface.JoinedSurface(again[: len(mesh.sizes)]), mesh.orientations, mesh.gauge)
            else:
                theirs = again
            same(mesh, theirs.prepare(**wanted, factors=(2,)))
            same(mesh.coarsen(2), theirs.coarsen(2).prepare(**wanted))


def same(a: pg.Mesh, b: pg.Mesh) -> None:
    """All operators are equal to the bit."""
    like = torch.empty(0, dtype=torch.float64)
    assert a.sizes == b.sizes and a.orientations == b.orientations
    pairs = [(a.neighbours(r, like), b.neighbours(r, like)) for r in (None, 1.7)]
    for x, y in ((a.areas, b.areas), (a.gauge, b.gauge), (a.vertices, b.vertices), (a.faces, b.faces)):
        assert torch.equal(x, y)
    for spin, count in ((1, 4), (0, 30)):
        pairs.append((a.laplacian(spin, like)[0], b.laplacian(spin, like)[0]))
        pairs += zip(a.modes(spin, count, like), b.modes(spin, count, like))
    assert all(torch.equal(x, y) for one, other in pairs for x, y in zip(one, other))


def test_unions_that_were_written_as_one_surface_are_read_as_several(tmp_path: Path) -> None:
    parts = [bumpy_sphere(1, orientations=4), sheet(3, 4, 0.1, orientations=4)]
    union = pg.Mesh.union(parts)
    t = union.surface.triangulation
    old = {"faces": t.faces, "lengths": t.lengths, "unit": 1.0, "vertex_count": 54, "vertices": union.vertices.numpy()}
    np.savez(tmp_path / "old.npz", gauge=union.gauge.numpy(), directions=4, sizes=np.array([42, 12]), **old)
    read = pg.Mesh.load(tmp_path / "old")
    assert (
        read.sizes == (42, 12) and torch.equal(read.vertices, union.vertices) and torch.equal(read.faces, union.faces)
    )
    torch.testing.assert_close(read.areas, union.areas)


def test_preparing_computes_what_layers_use_and_shows_a_bar_only_if_asked(capfd, monkeypatch) -> None:
    wanted = {"radii": (1.7, None), "spins": (0, 1), "bases": {1: 4}, "factors": (3.0,)}
    mesh = bumpy_sphere(1)
    assert mesh.prepare(**wanted) is mesh
    surface = mesh.surface
    assert (set(surface._pairs), set(surface._laplacians)) == ({1.7, None}, {0, 1})
    assert (set(surface._bases), set(surface._levels)) == ({(1, 4)}, {3.0})
    assert capfd.readouterr() == ("", "")
    bumpy_sphere(1).prepare(**wanted, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "coarser by 3.0" in err and "6/6" in err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    bumpy_sphere(1).prepare(**wanted, progress=True)
    assert capfd.readouterr() == ("", "")


def test_copies_devices_and_precision() -> None:
    mesh = MESH_CASES[0]
    assert copy.deepcopy(mesh) is mesh
    like = torch.empty(0)
    twin = pickle.loads(pickle.dumps(mesh))
    assert torch.equal(twin.neighbours(1.5, like).offset, mesh.neighbours(1.5, like).offset)
    assert mesh.neighbours(1.5, like).offset.dtype == torch.complex64
    assert mesh.neighbours(1.5, like.bfloat16()).offset.dtype == torch.complex64
    assert mesh.neighbours(1.5, like.double()).offset.dtype == torch.complex128
    assert mesh.to("cpu").areas.device.type == "cpu"
    assert mesh.with_orientations(3).orientations == 3
    assert "42" in repr(mesh)
