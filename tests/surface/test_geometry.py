"""Frames, connection, log maps and Laplacians against theorems, exact surfaces and other implementations."""

from __future__ import annotations

import math

import numpy as np
import potpourri3d
import pytest
import robust_laplacian
import torch
from scipy import sparse

import pdegcnn as pg
from pdegcnn.surface import Triangulation, connection_laplacian, frames, geodesic_pairs, intrinsic_delaunay

from ..helpers import bumpy_sphere, sheet, torus

SURFACES = {"sphere": bumpy_sphere(2), "sheet": sheet(5, 6), "torus": torus(6, 5)}


def wrap(angle: np.ndarray) -> np.ndarray:
    return (angle + math.pi) % (2 * math.pi) - math.pi


def face_curvature(mesh: pg.Mesh) -> np.ndarray:
    """Corners in the frames' angles, minus pi: what turns a vector carried around a face."""
    t, f = mesh.surface.triangulation, mesh.surface.frames
    return (t.corners * f.scale[t.tail]).reshape(-1, 3).sum(1) - math.pi


@pytest.mark.parametrize("name", SURFACES)
def test_angles_around_inner_vertices_make_a_full_turn(name: str) -> None:
    mesh = SURFACES[name]
    t, f = mesh.surface.triangulation, mesh.surface.frames
    total = np.bincount(t.tail, t.corners * f.scale[t.tail])
    np.testing.assert_allclose(total[~t.on_boundary], 2 * math.pi)
    assert (f.angle[f.first] == 0).all()
    after = t.twin[t.previous]  # counter-clockwise neighbour around the same vertex
    inner = after >= 0
    step = (f.angle[after] - f.angle - t.corners * f.scale[t.tail])[inner]
    np.testing.assert_allclose(wrap(step), 0, atol=1e-12)


@pytest.mark.parametrize("name", SURFACES)
def test_transport_around_a_face_turns_by_its_curvature(name: str) -> None:
    mesh = SURFACES[name]
    around = mesh.surface.frames.transport.reshape(-1, 3).sum(1)
    np.testing.assert_allclose(wrap(around + face_curvature(mesh)), 0, atol=1e-12)


def test_gauss_bonnet() -> None:
    """The curvature of all faces is 2 pi times the Euler characteristic; a disk's is the turn around its border."""
    mesh = bumpy_sphere(2)
    assert face_curvature(mesh).sum() == pytest.approx(4 * math.pi)
    assert face_curvature(torus(5, 6)).sum() == pytest.approx(0, abs=1e-11)
    t = mesh.surface.triangulation
    inside = np.isin(t.faces, np.flatnonzero(mesh.surface.vertices[:, 2] > 0.4)).all(1)
    border = np.repeat(inside, 3) & ~np.repeat(inside, 3)[t.twin]
    around = mesh.surface.frames.transport[border].sum()  # every half-edge of the border once
    assert wrap(np.array(around + face_curvature(mesh)[inside].sum())) == pytest.approx(0, abs=1e-11)


def test_curvature_of_a_disk_on_the_sphere_is_its_area() -> None:
    def error(subdivisions: int) -> float:
        mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(subdivisions))
        inside = mesh.surface.vertices[mesh.surface.triangulation.faces].mean(1)[:, 2] > 0.5
        area = mesh.surface.triangulation.areas[inside].sum() * mesh.unit**2
        return abs(face_curvature(mesh)[inside].sum() / area - 1)

    assert error(4) < min(0.01, 0.5 * error(2))


def test_flat_surfaces_are_trivial() -> None:
    rows, columns = 8, 9
    for step in (1.0, 0.3):
        mesh = torus(rows, columns, step=step, unit=step)
        pairs = mesh.surface.pairs(2.5)
        np.testing.assert_allclose(pairs.transport, 1, atol=1e-12)
        r, c = np.divmod(np.arange(mesh.vertex_count), columns)
        step = pairs.offset.round()
        np.testing.assert_allclose(pairs.offset, step, atol=1e-12)
        assert ((c[pairs.centre] + step.real - c[pairs.source]) % columns == 0).all()
        assert ((r[pairs.centre] + step.imag - r[pairs.source]) % rows == 0).all()
    mesh = sheet(5, 6, unit=1.0)
    pairs = mesh.surface.pairs(2.9)
    np.testing.assert_allclose(np.abs(pairs.offset), distance := _straight(mesh, pairs), atol=1e-12)
    assert distance.max() > 2.8  # the diagonal of two squares is inside


def _straight(mesh: pg.Mesh, pairs: pg.surface.Pairs) -> np.ndarray:
    assert mesh.surface.vertices is not None
    return np.linalg.norm(mesh.surface.vertices[pairs.centre] - mesh.surface.vertices[pairs.source], axis=1) / mesh.unit


def test_ball_holds_every_vertex_within_its_radius() -> None:
    mesh = sheet(7, 7, unit=1.0)
    count = np.diff(mesh.surface.pairs(2.0).start)[3 * 7 + 3]
    assert count == 13


@pytest.mark.parametrize("name", SURFACES)
def test_pairs_are_antisymmetric(name: str) -> None:
    p = SURFACES[name].surface.pairs(2.2)
    assert (p.reverse_index[p.reverse_index] == np.arange(p.source.size)).all()
    np.testing.assert_allclose(p.offset, -p.transport * p.offset[p.reverse_index], atol=1e-12)
    np.testing.assert_allclose(p.transport, p.transport[p.reverse_index].conj(), atol=1e-12)
    assert (p.centre[p.start[:-1]] == p.source[p.start[:-1]]).all()
    assert (p.offset[p.start[:-1]] == 0).all()


def test_log_map_of_the_sphere() -> None:
    """Against the exact one, in mean edge lengths; the error falls with the square of the edge."""

    def error(subdivisions: int) -> float:
        mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(subdivisions))
        pairs, (x, y, _) = mesh.surface.pairs(2.5), mesh.frames_in_space()
        v, w = mesh.vertices[pairs.centre], mesh.vertices[pairs.source]
        inner = (v * w).sum(1, keepdim=True)
        way = w - inner * v
        way = way / way.norm(dim=1, keepdim=True).clamp_min(1e-12) * torch.acos(inner.clamp(-1, 1))
        exact = torch.complex((way * x[pairs.centre]).sum(1), (way * y[pairs.centre]).sum(1))
        return float((torch.from_numpy(pairs.offset) - exact / mesh.unit).abs().max())

    coarse, fine = error(2), error(4)
    assert fine < 0.12 * coarse
    assert fine < 0.002


def test_log_map_against_the_vector_heat_method() -> None:
    """potpourri3d is itself an approximation: its own error on this mesh is a few percent of the distance."""
    mesh = bumpy_sphere(3)
    pairs = mesh.surface.pairs(2.5)
    solver = potpourri3d.MeshVectorHeatSolver(mesh.surface.vertices, mesh.surface.triangulation.faces)
    x, y, _ = solver.get_tangent_frames()
    ours_x, ours_y, _ = (a.numpy() for a in mesh.frames_in_space())
    for v in (3, 100, 400):
        here = slice(pairs.start[v] + 1, pairs.start[v + 1])
        theirs = (solver.compute_log_map(v) / mesh.unit)[pairs.source[here]]
        turn = complex(ours_x[v] @ x[v], ours_y[v] @ x[v])
        theirs = (theirs[:, 0] + 1j * theirs[:, 1]) * turn / abs(turn)
        away = np.abs(theirs - pairs.offset[here]) / np.abs(pairs.offset[here])
        assert np.median(away) < 0.05
        moved = solver.transport_tangent_vector(v, np.array([1.0, 0.0]))
        w = pairs.source[here]
        theirs = moved[w, 0] + 1j * moved[w, 1]
        change = np.array([complex(ours_x[i] @ x[i], ours_y[i] @ x[i]) for i in w])
        theirs = theirs * change / np.abs(theirs * change)
        expected = pairs.transport[here].conj() * turn / abs(turn)  # from v to w
        assert np.abs(np.angle(theirs / expected)).max() < 0.1


def skewed() -> tuple[Triangulation, pg.surface.Frames]:
    """A sphere squeezed so that many edges are not Delaunay."""
    vertices, faces = pg.surface.icosphere(2)
    mesh = pg.Mesh.from_arrays(vertices * [1.0, 1.0, 0.15] + 0.02 * np.sin(9 * vertices[:, ::-1]), faces)
    return mesh.surface.triangulation, mesh.surface.frames


def test_intrinsic_delaunay_keeps_the_surface() -> None:
    t, f = skewed()
    d, g = intrinsic_delaunay(t, f)
    weight = lambda s: s.cotangents + s.cotangents[s.twin]  # noqa: E731
    assert weight(t).min() < -0.01
    assert weight(d).min() > -1e-6
    assert (d.twin[d.twin] == np.arange(d.twin.size)).all()
    assert (d.tail[d.twin] == d.head).all()
    np.testing.assert_allclose(d.lengths.ravel()[d.twin], d.lengths.ravel())
    assert d.areas.sum() == pytest.approx(t.areas.sum())
    np.testing.assert_allclose(np.bincount(d.tail, d.corners), np.bincount(t.tail, t.corners))
    after = d.twin[d.previous]
    np.testing.assert_allclose(wrap(g.angle[after] - g.angle - d.corners * g.scale[d.tail]), 0, atol=1e-9)


def test_laplacian_is_that_of_robust_laplacian() -> None:
    vertices, faces = pg.surface.icosphere(2)
    vertices = vertices * [1.0, 1.0, 0.15] + 0.02 * np.sin(9 * vertices[:, ::-1])
    mesh = pg.Mesh.from_arrays(vertices, faces)
    theirs, mass = robust_laplacian.mesh_laplacian(vertices, faces, mollify_factor=0.0)
    assert abs(mesh.surface.laplacian(0) - theirs).max() < 1e-9
    # their lumped masses are those of the original faces' tufted cover: the total is the same
    assert mesh.surface.delaunay_areas().sum() * mesh.unit**2 == pytest.approx(mass.diagonal().sum())


@pytest.mark.parametrize("spin", [0, 1, 2, 3])
@pytest.mark.parametrize("name", SURFACES)
def test_laplacians_are_hermitian_and_positive(name: str, spin: int) -> None:
    matrix = SURFACES[name].surface.laplacian(spin)
    assert abs(matrix - matrix.conj().T).max() < 1e-12
    assert np.linalg.eigvalsh(matrix.toarray()).min() > -1e-10
    if spin == 0:
        np.testing.assert_allclose(matrix @ np.ones(matrix.shape[0]), 0, atol=1e-11)


@pytest.mark.parametrize("spin", [0, 1, 2])
def test_spectrum_of_the_sphere(spin: int) -> None:
    """Spin-k harmonics of degree l >= k have eigenvalue ``l (l+1) - k^2`` and multiplicity ``2 l + 1``."""
    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(4), unit=1.0)
    degrees = range(spin, spin + 3)
    expected = np.concatenate([np.full(2 * n + 1, n * (n + 1) - spin**2) for n in degrees])
    values, functions = mesh.surface.eigenbasis(spin, expected.size)
    np.testing.assert_allclose(values, expected, rtol=0.02, atol=1e-6)
    gram = functions.conj().T @ (mesh.surface.delaunay_areas()[:, None] * functions)
    np.testing.assert_allclose(gram, np.eye(expected.size), atol=1e-8)


def test_spectrum_on_a_mesh_too_small_for_lanczos() -> None:
    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(0))
    values, functions = mesh.surface.eigenbasis(1, 12)
    matrix = mesh.surface.laplacian(1)
    product = functions.conj().T @ (matrix @ functions)
    np.testing.assert_allclose(product, np.diag(values), atol=1e-10)


def test_connection_laplacian_of_constant_vectors_on_the_torus() -> None:
    mesh = torus(5, 7)
    matrix = connection_laplacian(mesh.surface.triangulation, mesh.surface.frames, 1)
    assert sparse.issparse(matrix)
    np.testing.assert_allclose(matrix @ np.full(35, 0.3 + 2j), 0, atol=1e-11)


def test_pairs_of_edges_are_exact() -> None:
    mesh = bumpy_sphere(1)
    t, f = mesh.surface.triangulation, mesh.surface.frames
    pairs = geodesic_pairs(t, frames(t))
    ring = pairs.centre != pairs.source
    assert ring.sum() == 2 * t.edge_count
    key = {
        (a, b): (r * np.exp(1j * th), tr)
        for a, b, r, th, tr in zip(t.tail, t.head, t.lengths.ravel(), f.angle, f.transport)
    }
    for v, w, z, turn in zip(pairs.centre[ring], pairs.source[ring], pairs.offset[ring], pairs.transport[ring]):
        assert abs(key[v, w][0] - z) < 1e-12
        assert abs(np.exp(1j * key[v, w][1]) - turn) < 1e-12
