"""A batch of meshes: steps and eigenfunctions of each are its own, by work that was done for it before.

That every layer gives a mesh of a union what it gives it alone: tests/laws/test_batches.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pdegcnn as pg
from pdegcnn import gauge
from pdegcnn.gauge.diffusion import implicit_step

from ..helpers import TETRAHEDRON, bumpy_sphere, pieces, sheet
from .test_layers import features

MESHES = {"closed": bumpy_sphere(1), "open": sheet(3, 4, 0.2)}


def test_areas_of_a_union_are_those_of_its_meshes() -> None:
    pool, meshes = gauge.MeshPool(2.0), list(MESHES.values())
    alone = torch.cat([pool.areas(mesh) for mesh in meshes])
    torch.testing.assert_close(pool.areas(pg.Mesh.union(meshes)), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spin", [0, 1])
def test_the_implicit_step_ends_for_each_mesh_by_itself(spin: int) -> None:
    """To the bit: a mesh goes through the steps that it goes through alone, in the derivative as in the value."""
    a, b = MESHES["closed"], MESHES["open"]
    time = torch.tensor([0.2, 30.0, 1.0]).double()
    x, y = features(a)[spin], features(b)[spin] * 1e9
    results = []
    for parts, mesh in (((x,), a), ((x, y), pg.Mesh.union([a, b]))):
        u = torch.cat(parts, -1).requires_grad_()
        out = implicit_step(u, mesh, spin, time)[..., : a.vertex_count]
        (slope,) = torch.autograd.grad(out.abs().square().sum(), u)
        results.append((out.detach(), slope[..., : a.vertex_count]))
        assert not slope[..., a.vertex_count :].any()
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-13, atol=1e-13)


def test_infinite_values_turn_into_directions_of_their_own_mesh_alone() -> None:
    """A flat surface needs no interpolation between directions; one beside it that does must not bring any."""
    flat, round_ = sheet(5, 5, orientations=4), bumpy_sphere(1, orientations=4)
    u = torch.zeros(1, 1, 4, 25)
    u[..., 0, :] = -math.inf
    v = torch.zeros(1, 1, 4, round_.vertex_count)
    alone = gauge.MeshPool(3.0)(u, flat)
    both = gauge.MeshPool(3.0)(torch.cat((u, v), -1), pg.Mesh.union([flat, round_]))
    assert torch.equal(both[..., : alone.shape[-1]], alone)


def test_pieces_of_a_surface_diffuse_as_meshes_of_their_own() -> None:
    """Constants stay, and every piece has its own eigenfunctions, also where pieces are alike or very small."""
    for mesh, modes in ((pieces(30), 64), (pieces(20), 2), (pieces(12, pg.surface.icosphere(0)), 3)):
        layer = gauge.Diffusion(1, 0, method="spectral", modes=modes, alpha=0.3, dtype=torch.float64)
        ones = torch.ones(1, 1, mesh.vertex_count, dtype=torch.float64)
        torch.testing.assert_close(layer({0: ones}, mesh)[0], ones, rtol=1e-12, atol=1e-12)
        values, functions = mesh.eigenbasis(0, modes, ones)
        assert (values.diff() >= 0).all() and values[0] == 0
        areas = torch.from_numpy(mesh.surface.delaunay_areas())
        gram = functions.mH @ (areas[:, None] * functions)
        torch.testing.assert_close(gram, torch.eye(values.numel()).to(gram), rtol=1e-12, atol=1e-12)
    mesh = pieces(2, unit=1.0)
    union = pg.Mesh.union([pg.Mesh.from_arrays(*TETRAHEDRON, unit=1.0)] * 2)
    torch.testing.assert_close(mesh.eigenbasis(0, 3, ones)[0], union.eigenbasis(0, 3, ones)[0], rtol=1e-12, atol=1e-12)


SYMMETRIC = {
    "ball": pg.Mesh.from_arrays(*pg.surface.icosphere(1)),
    "ball beyond dense matrices": pg.Mesh.from_arrays(*pg.surface.icosphere(3)),
    "torus": pg.Mesh.from_lengths(*pg.surface.flat_torus(6, 6)),
    "torus beyond dense matrices": pg.Mesh.from_lengths(*pg.surface.flat_torus(24, 24)),
}


@pytest.mark.parametrize("spin", [0, 1])
@pytest.mark.parametrize("name", SYMMETRIC)
def test_multiple_eigenvalues_are_whole(name: str, spin: int) -> None:
    """The span of the eigenfunctions commutes with the Laplacian, ends at a gap and misses nothing below it."""
    mesh = SYMMETRIC[name]
    matrix, areas = mesh.surface.laplacian(spin), mesh.surface.delaunay_areas()
    root = 1 / np.sqrt(areas)
    every = np.linalg.eigvalsh(root[:, None] * matrix.toarray() * root)
    for count in (2, 11):
        values, functions = mesh.surface.eigenbasis(spin, count)
        assert count <= values.size <= count + 12
        np.testing.assert_allclose(values, every[: values.size], rtol=1e-10, atol=1e-10)
        assert every[values.size] > values[-1] * (1 + 1e-5)
        np.testing.assert_allclose(matrix @ functions, areas[:, None] * functions * values, atol=1e-10)


@pytest.mark.parametrize("name", ["ball", "ball beyond dense matrices"])
def test_spectral_diffusion_does_not_depend_on_numbers_of_vertices(name: str) -> None:
    """Numbers of vertices decide which of the functions of a multiple eigenvalue come out, not what they span."""
    mesh = SYMMETRIC[name]
    new = torch.randperm(mesh.vertex_count)
    vertices = torch.empty_like(mesh.vertices).index_copy_(0, new, mesh.vertices)
    other = pg.Mesh.from_arrays(vertices, new[mesh.faces].flip(0))
    u = torch.randn(1, 1, mesh.vertex_count, dtype=torch.float64)
    moved = torch.empty_like(u).index_copy_(2, new, u)
    for modes in (2, 6):
        layer = gauge.Diffusion(1, 0, method="spectral", modes=modes, dtype=torch.float64)
        torch.testing.assert_close(layer({0: moved}, other)[0][..., new], layer({0: u}, mesh)[0], rtol=1e-9, atol=1e-9)


def test_a_union_takes_over_what_its_meshes_have() -> None:
    parts = [bumpy_sphere(1).prepare(radii=(2,), spins=(1,), bases={0: 4}, factors=(3,)), sheet(4, 4)]
    kept = [dict(parts[0].surface._pairs), dict(parts[0].surface._bases), dict(parts[0].surface._levels)]
    union = pg.Mesh.union([pg.Mesh.union(parts), parts[0]])
    union.prepare(radii=(2.0,), spins=(1,), bases={0: 4}, factors=(3.0,))
    assert union.sizes == (42, 16, 42)
    assert [p is q.surface for p, q in zip(union.surface.parts, (*parts, parts[0]))] == [True] * 3
    for before, now in zip(kept, (parts[0].surface._pairs, parts[0].surface._bases, parts[0].surface._levels)):
        assert before.keys() == now.keys() and all(now[k] is before[k] for k in before)
    for of_part in (p.surface for p in parts):  # and the union's work is the meshes' own
        assert set(of_part._pairs) == {2.0} and set(of_part._laplacians) >= {0, 1} and set(of_part._levels) == {3.0}
    coarse = union.coarsen(3.0).surface.parts
    assert all(c is p.surface.level(3.0).surface for c, p in zip(coarse, (*parts, parts[0])))
