"""Rounding decides nothing: processors, numbers of threads and noise leave levels, neighbours and faces as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.surface import decimation
from pdegcnn.surface.halfedges import HalfEdges, Ties
from pdegcnn.surface.halving import middles

from ..helpers import sheet, torus

ROOT = Path(__file__).parents[2]


def saddle() -> tuple[np.ndarray, np.ndarray]:
    """A surface of equal squares in space, with corners of the boundary that are exactly at 45 degrees."""
    mesh = sheet(7, 8)
    v, f = mesh.surface.vertices, mesh.surface.triangulation.faces
    assert v is not None
    keep = f[(v[f, :2].sum(2) < 12.5).all(1)]  # one corner cut off along diagonals
    used = np.unique(keep)
    return v[used], np.searchsorted(used, keep)


SHAPES = {"sphere": pg.surface.icosphere(2), "grid": saddle(), "cube": None}


def cube(n: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a cube cut into n x n x 2 triangles on each side."""
    r = np.arange(n + 1)
    i, j = (x.ravel() for x in np.meshgrid(r[:-1], r[:-1], indexing="ij"))
    corner = lambda a, b: a * (n + 1) + b  # noqa: E731
    square = np.concatenate(
        (
            np.stack((corner(i, j), corner(i + 1, j), corner(i + 1, j + 1)), 1),
            np.stack((corner(i, j), corner(i + 1, j + 1), corner(i, j + 1)), 1),
        )
    )
    a, b = (x.ravel() for x in np.meshgrid(r, r, indexing="ij"))
    points, faces = [], []
    for axis in range(3):
        for side, order in ((n, 1), (0, -1)):
            place = np.empty((a.size, 3), dtype=np.int64)
            place[:, axis], place[:, (axis + 1) % 3], place[:, (axis + 2) % 3] = side, a, b
            faces.append(square[:, ::order] + len(points) * a.size)
            points.append(place)
    distinct, label = np.unique(np.concatenate(points), axis=0, return_inverse=True)
    return distinct.astype(float), label.reshape(-1)[np.concatenate(faces)]


SHAPES["cube"] = cube()


def integers(mesh: pg.Mesh) -> dict[str, np.ndarray]:
    """Everything that is decided, not measured."""
    found = {}
    for radius in (None, 1.5, 2.0):
        pairs = mesh.surface.pairs(radius)
        found |= {f"pairs {radius} {name}": getattr(pairs, name) for name in ("start", "source", "reverse_index")}
    found["delaunay"] = mesh.surface.delaunay()[0].faces
    for factor in (2.0, 4.0, 9.5):
        level = mesh.surface.level(factor)
        found |= {f"level {factor} {name}": getattr(level, name) for name in ("kept", "fine", "coarse")}
        found[f"level {factor} faces"] = level.surface.triangulation.faces
        found[f"level {factor} edges"] = level.surface.pairs(1.5).source
    return found


def numbers(mesh: pg.Mesh) -> dict[str, np.ndarray]:
    """What is measured: frames, log maps, transports, weights."""
    surface, level, pairs = mesh.surface, mesh.surface.level(4.0), mesh.surface.pairs(2.0)
    values = {"angle": surface.frames.angle, "length": surface.triangulation.lengths, "unit": np.array([surface.unit])}
    values |= {"offset": pairs.offset, "transport": pairs.transport, "laplacian": surface.laplacian(1).data}
    coarse = level.surface
    values |= {"weight": level.weight, "turn": level.transport, "gauge": np.exp(1j * level.gauge)}
    return values | {"coarse length": coarse.triangulation.lengths, "coarse angle": coarse.frames.angle}


def alike(one: dict[str, Any], other: dict[str, Any], bound: float | None) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        if bound is None:
            assert np.array_equal(value, other[name]), name
        else:
            np.testing.assert_allclose(np.asarray(value), np.asarray(other[name]), rtol=bound, atol=bound, err_msg=name)


REPORT = """
import json
from tests.surface.test_reproducible import SHAPES, integers, numbers, pg
out = {}
for name, shape in SHAPES.items():
    mesh = pg.Mesh.from_arrays(*shape)
    found = {k: v.tolist() for k, v in integers(mesh).items()}
    out[name] = found, {k: [v.real.tolist(), v.imag.tolist()] for k, v in numbers(mesh).items()}
print(json.dumps(out))
"""


def other_machine() -> dict[str, str]:
    """Settings that switch the vector instructions of PyTorch, NumPy and its BLAS off, and change the threads."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    threads = "2" if torch.get_num_threads() == 1 else "1"
    return {
        "ATEN_CPU_CAPABILITY": "default",
        "NPY_DISABLE_CPU_FEATURES": " ".join(x for x in __cpu_dispatch__ if __cpu_features__[x]),
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "PYTHONPATH": str(ROOT),
    }


def test_every_machine_builds_the_same_geometry() -> None:
    """Without vector instructions and on another number of threads: the same lists, and numbers to rounding."""
    command = [sys.executable, "-W", "ignore", "-c", REPORT]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | other_machine(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    for name, shape in SHAPES.items():
        mesh, (lists, values) = pg.Mesh.from_arrays(*shape), said[name]
        alike(integers(mesh), lists, None)
        alike({k: [v.real, v.imag] for k, v in numbers(mesh).items()}, values, 1e-12)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1))
def test_noise_of_the_size_of_rounding_decides_nothing(name: str, seed: int) -> None:
    vertices, faces = SHAPES[name]
    noise = 1 + 1e-13 * np.random.default_rng(seed).uniform(-1, 1, vertices.shape)
    alike(integers(pg.Mesh.from_arrays(vertices * noise, faces)), integers(pg.Mesh.from_arrays(vertices, faces)), None)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_other_orders_of_faces_and_corners_decide_nothing_about_vertices(seed: int) -> None:
    """Where symmetry leaves a tie, the number of a vertex decides; the order of faces does not."""
    vertices, faces = pg.surface.icosphere(2)
    draw = np.random.default_rng(seed)
    corner = (np.arange(3) + draw.integers(3, size=(len(faces), 1))) % 3
    mixed = draw.permutation(np.take_along_axis(faces, corner, axis=1))
    one, other = (pg.Mesh.from_arrays(vertices, f) for f in (faces, mixed))
    for radius in (None, 2.0):
        a, b = one.surface.pairs(radius), other.surface.pairs(radius)
        assert np.array_equal(a.start, b.start) and np.array_equal(
            np.sort(a.centre * 999 + a.source), np.sort(b.centre * 999 + b.source)
        )
    kept = [m.surface.level(4.0).kept for m in (one, other)]
    assert np.array_equal(*kept)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_renumbering_renumbers(seed: int) -> None:
    """On a surface without symmetry, numbers of vertices decide nothing: neither lists nor levels."""
    vertices, faces = pg.surface.icosphere(2)
    vertices = vertices * (1 + 0.1 * np.sin(3 * vertices[:, ::-1] + [0.3, 0.5, 0.9]))
    new = np.random.default_rng(seed).permutation(len(vertices))
    moved = np.empty_like(vertices)
    moved[new] = vertices
    one, other = pg.Mesh.from_arrays(vertices, faces), pg.Mesh.from_arrays(moved, new[faces])
    assert one.unit == other.unit
    key = lambda v, w: np.sort(v * len(new) + w)  # noqa: E731
    a, b = one.surface.pairs(2.0), other.surface.pairs(2.0)
    assert np.array_equal(key(new[a.centre], new[a.source]), key(b.centre, b.source))
    for factor in (4.0, 9.0):
        a, b = (m.surface.level(factor) for m in (one, other))
        assert np.array_equal(np.sort(new[a.kept]), b.kept)
        assert np.array_equal(key(new[a.fine], new[a.kept[a.coarse]]), key(b.fine, b.kept[b.coarse]))


def test_an_icosphere_goes_back_to_the_one_it_was_cut_from() -> None:
    """The middles of edges go first, whatever the numbers of the vertices."""
    vertices, faces = pg.surface.icosphere(3)
    new = np.random.default_rng(0).permutation(len(vertices))
    moved = np.empty_like(vertices)
    moved[new] = vertices
    fine, older = pg.Mesh.from_arrays(moved, new[faces]), pg.surface.icosphere(2)[0]
    cut = middles(fine.surface.triangulation)
    assert {tuple(x) for x in moved[~cut].round(9)} == {tuple(x) for x in older.round(9)}
    level = fine.surface.level(642 / 162)
    assert np.array_equal(level.kept, np.flatnonzero(~cut))
    weight = level.weight[np.isin(level.fine, level.kept, invert=True)]
    assert np.minimum(np.abs(weight - 0.5), weight).max() < 0.02, "a middle lies half way between two"


def test_grids_of_squares_have_middles_where_both_sides_are_even() -> None:
    for mesh, count in ((torus(8, 10), 60), (torus(7, 10), 0), (sheet(7, 9), 43), (sheet(6, 9), 0)):
        assert middles(mesh.surface.triangulation).sum() == count
    both = pg.Mesh.union([torus(7, 10), torus(8, 10)])
    assert middles(both.surface.triangulation)[:70].sum() == 0
    assert middles(both.surface.triangulation)[70:].sum() == 60


def test_numbers_within_the_tolerance_are_one() -> None:
    ties = Ties(1e-6)
    for base in np.random.default_rng(0).uniform(-3, 3, 200):
        assert ties.snap(base) == ties.snap(base + 1e-12) == ties.snap(base - 1e-12)
    assert ties.snap(10.0) != ties.snap(10.1)


def test_flips_keep_lengths_and_corners_of_flat_quadrangles() -> None:
    mesh = torus(4, 4)
    work = HalfEdges(mesh.surface.triangulation, mesh.surface.frames)
    h = int(np.flatnonzero(mesh.surface.triangulation.lengths.ravel() > 1.2)[0])
    known = {x: np.sort(getattr(work, x)) for x in ("length", "corner")}
    for _ in range(2):
        work.flip(h := h - h % 3)
    for name, values in known.items():
        np.testing.assert_allclose(np.sort(getattr(work, name)), values, atol=1e-14)


def double_cone(count: int, stretch: float = 1.1, wave: float = 0.1) -> pg.Mesh:
    """Two vertices with ``count`` neighbours each."""
    angle = np.arange(count) * (2 * np.pi / count)
    rim = np.stack((np.cos(angle), stretch * np.sin(angle), wave * np.sin(5 * angle)), 1)
    i, ahead = np.arange(count), (np.arange(count) + 1) % count
    faces = np.concatenate((np.stack((0 * i, 2 + i, 2 + ahead), 1), np.stack((0 * i + 1, 2 + ahead, 2 + i), 1)))
    return pg.Mesh.from_arrays(np.concatenate(([[0, 0, 0.8], [0, 0, -0.5]], rim)), faces)


def test_hubs_of_many_edges_cost_no_more_than_other_vertices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps along half-edges grow as the number of vertices, also where one has all the others for neighbours."""
    before, counted = decimation.before, [0]
    monkeypatch.setattr(decimation, "before", lambda h: counted.__setitem__(0, counted[0] + 1) or before(h))

    def steps(count: int) -> int:
        counted[0] = 0
        double_cone(count).coarsen(20.0)
        return counted[0]

    assert steps(200) < 2.6 * steps(100)


@pytest.mark.parametrize("stretch, wave", [(1.1, 0.1), (0.2, 0.0)])
def test_flips_to_delaunay_are_no_more_than_edges(monkeypatch: pytest.MonkeyPatch, stretch: float, wave: float) -> None:
    """Around hubs flips in the order of a queue would be about a tenth of the square of the edges."""
    flip, counted = HalfEdges.flip, [0]
    monkeypatch.setattr(HalfEdges, "flip", lambda work, h: counted.__setitem__(0, counted[0] + 1) or flip(work, h))
    mesh = double_cone(400, stretch, wave)
    mesh.surface.delaunay()
    assert 0 < counted[0] < mesh.surface.triangulation.edge_count


def test_corners_around_a_hub_are_added_up_as_around_others() -> None:
    mesh = double_cone(300)
    t, f = mesh.surface.triangulation, mesh.surface.frames
    h, total, expected = int(f.first[0]), 0.0, []
    for _ in range(300):
        expected.append((h, total))
        total += t.corners[h]
        h = int(t.twin[t.previous[h]])
    slots, sums = (np.array(x) for x in zip(*expected))
    np.testing.assert_allclose(f.angle[slots], sums * (2 * np.pi / total), atol=1e-12)
