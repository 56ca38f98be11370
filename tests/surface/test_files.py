"""What files say is what is read: one surface, in any unit, with a map from the vertices of the file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import pyvista
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st

import pdegcnn as pg
from pdegcnn.surface.repair import oriented

VERTICES, FACES = pg.surface.icosphere(1)


def obj(folder: Path, *lines: str) -> Path:
    path = folder / "surface.obj"
    path.write_text("\n".join(lines) + "\n")
    return path


def positions(vertices: np.ndarray = VERTICES) -> list[str]:
    return ["v {:.17g} {:.17g} {:.17g}".format(*x) for x in vertices]


def faces(corner: Callable[[int, int, int], str], rows: np.ndarray = FACES) -> list[str]:
    """Lines of faces; the text of a corner by vertex, face and number of the corner of all."""
    return [
        "f " + " ".join(corner(int(v) + 1, i + 1, 3 * i + k + 1) for k, v in enumerate(f)) for i, f in enumerate(rows)
    ]


def same_surface(mesh: pg.Mesh, vertices: np.ndarray = VERTICES, rows: np.ndarray = FACES) -> None:
    assert np.array_equal(mesh.vertices.numpy(), vertices)
    assert np.array_equal(mesh.faces.numpy(), rows)


def test_normals_textures_materials_and_objects_do_not_cut_an_obj(tmp_path: Path) -> None:
    normals = ["vn 0 0 1"] * len(FACES)
    textures = ["vt 0.1 0.2"] * (3 * len(FACES))
    for corner in (
        lambda v, f, k: f"{v}",
        lambda v, f, k: f"{v}//{f}",
        lambda v, f, k: f"{v}/{k}",
        lambda v, f, k: f"{v}/{k}/{f}",
        lambda v, f, k: f"{v - 1 - len(VERTICES)}/{k}",
    ):
        lines = faces(corner)
        half = len(lines) // 2
        groups = ["o one", "usemtl red", *lines[:half], "o two", "g part", "usemtl blue", "s off", *lines[half:]]
        same_surface(pg.Mesh.from_file(obj(tmp_path, "mtllib none.mtl", *positions(), *normals, *textures, *groups)))


def test_negative_indices_count_from_where_they_stand(tmp_path: Path) -> None:
    lines = ["v 0 0 0", "v 1 0 0", "v 0 1 0", "f -3 -2 -1", "v 1 1 0 0.5 0.5 0.5 # coloured", "f -2 \\", "-3 -1"]
    same_surface(
        pg.Mesh.from_file(obj(tmp_path, *lines)),
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]),
        np.array([[0, 1, 2], [2, 1, 3]]),
    )


@given(seed=st.integers(0, 2**32 - 1), corners=st.integers(4, 9), notch=st.booleans())
def test_polygons_are_cut_into_triangles_that_cover_them(
    tmp_path_factory, seed: int, corners: int, notch: bool
) -> None:
    draw = np.random.default_rng(seed)
    angle = 2 * np.pi * (np.arange(corners) + draw.uniform(-0.2, 0.2, corners)) / corners
    radius = np.where((np.arange(corners) == 1) & notch, 0.15, 1.0)
    points = np.stack((radius * np.cos(angle), radius * np.sin(angle), 0 * angle), 1)
    line = "f " + " ".join(str(k + 1) for k in range(corners))
    mesh = pg.Mesh.from_file(obj(tmp_path_factory.mktemp("polygon"), *positions(points), line))
    x, y, ahead = points[:, 0], points[:, 1], np.roll(points, -1, axis=0)
    assert float(mesh.areas.sum()) * mesh.unit**2 == pytest.approx((x * ahead[:, 1] - y * ahead[:, 0]).sum() / 2)
    assert len(mesh.faces) == corners - 2


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
@pytest.mark.parametrize("kind", ["stl", "stl_ascii", "glb"])
def test_formats_that_repeat_positions_give_one_surface_in_any_unit(tmp_path: Path, kind: str, unit: float) -> None:
    soup = trimesh.Trimesh(unit * VERTICES[FACES].reshape(-1, 3), np.arange(FACES.size).reshape(-1, 3), process=False)
    path = tmp_path / f"surface.{kind.split('_')[0]}"
    soup.export(path, file_type=kind)
    mesh = pg.Mesh.from_file(path)
    assert mesh.vertex_count == len(VERTICES)
    assert not mesh.surface.triangulation.on_boundary.any()
    assert mesh.vertex_map.shape == (FACES.size,)
    torch.testing.assert_close(
        mesh.vertices[mesh.vertex_map], torch.from_numpy(soup.vertices), rtol=1e-5, atol=1e-5 * unit
    )


@pytest.mark.parametrize("kind", ["obj", "ply", "off"])
def test_values_of_a_file_find_their_vertices(tmp_path: Path, kind: str) -> None:
    """Positions without a face are left out, wherever they stand."""
    spare = np.array([[5.0, 5, 5]])
    vertices = np.concatenate((spare, VERTICES[:7], spare, VERTICES[7:], spare))
    place = np.concatenate((np.arange(1, 8), np.arange(9, len(VERTICES) + 2)))
    path = tmp_path / f"surface.{kind}"
    if kind == "obj":
        path = obj(tmp_path, *positions(vertices), *faces(lambda v, f, k: f"{v}", place[FACES]))
    else:
        trimesh.Trimesh(vertices, place[FACES], process=False).export(path)
    mesh = pg.Mesh.from_file(path)
    assert np.array_equal(mesh.source_vertices, place)
    expected = np.full(len(vertices), -1)
    expected[place] = np.arange(len(place))
    assert np.array_equal(mesh.vertex_map, expected)
    mesh.with_gauge(torch.ones(len(place))).with_orientations(3).save(tmp_path / "mesh.npz")
    assert torch.equal(pg.Mesh.load(tmp_path / "mesh.npz").vertex_map, mesh.vertex_map)
    values = np.arange(len(vertices))[mesh.source_vertices]
    np.testing.assert_allclose(vertices[values], mesh.vertices, atol=1e-6)


def test_textured_ply_files_stay_whole(tmp_path: Path) -> None:
    text = ["ply", "format ascii 1.0", "element vertex 4"]
    text += [f"property float {x}" for x in "xyz"] + ["element face 2", "property list uchar int vertex_indices"]
    text += ["property list uchar float texcoord", "end_header", "0 0 0", "1 0 0", "0 1 0", "1 1 0"]
    text += ["3 0 1 2 6 0 0 1 0 0 1", "3 2 1 3 6 0.5 0.5 0.2 0.2 0.1 0.1"]
    (tmp_path / "surface.ply").write_text("\n".join(text) + "\n")
    assert pg.Mesh.from_file(tmp_path / "surface.ply").vertex_count == 4


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@given(seed=st.integers(0, 2**32 - 1))
def test_repair_joins_triangles_that_share_nothing(unit: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    shift = unit * 10 * draw.normal(size=3)
    order = draw.permutation(len(FACES))
    turned = np.where(draw.random((len(FACES), 1)) < 0.3, FACES[:, ::-1], FACES)[order]
    soup = (unit * VERTICES + shift)[turned].reshape(-1, 3)
    soup = soup + 1e-9 * unit * draw.uniform(-1, 1, soup.shape)
    mesh = pg.Mesh.from_arrays(soup, np.arange(len(soup)).reshape(-1, 3), repair=True)
    assert (mesh.vertex_count, len(mesh.faces)) == (len(VERTICES), len(FACES))
    assert not mesh.surface.triangulation.on_boundary.any()
    np.testing.assert_allclose(mesh.vertices[mesh.vertex_map], soup, atol=1e-8 * unit)
    assert np.array_equal(mesh.vertex_map[mesh.source_vertices], np.arange(mesh.vertex_count))


def test_repair_keeps_details_far_smaller_than_the_surface() -> None:
    """The distance of what is merged is small beside the sides of faces too."""
    small = 1e-7 * VERTICES
    vertices, rows = np.concatenate((VERTICES, small)), np.concatenate((FACES, FACES + len(VERTICES)))
    assert pg.Mesh.from_arrays(vertices, rows, repair=True).vertex_count == 2 * len(VERTICES)


def test_surfaces_cut_along_edges_are_reported() -> None:
    soup = VERTICES[FACES].reshape(-1, 3), np.arange(FACES.size).reshape(-1, 3)
    with pytest.warns(
        UserWarning, match=r"vertices: expected one vertex at each place, got edges .* repair=True joins"
    ) as told:
        pg.Mesh.from_arrays(*soup)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pg.Mesh.from_arrays(VERTICES, FACES)
        two = np.concatenate((VERTICES, VERTICES)), np.concatenate((FACES, FACES + len(VERTICES)))
        pg.Mesh.from_arrays(*two)  # closed surfaces that lie on each other are not cut


def written(folder: Path, kind: str) -> bytes:
    """The icosphere as a file of a format."""
    path = folder / f"whole.{kind}"
    if kind == "obj":
        obj(folder, *positions(), *faces(lambda v, *_: str(v))).rename(path)
    elif kind == "npz":
        pg.Mesh.from_arrays(VERTICES, FACES).save(path)
    elif kind == "gii":
        arrays = [
            nibabel.gifti.GiftiDataArray(x, intent=f"NIFTI_INTENT_{name}")
            for x, name in ((VERTICES.astype(np.float32), "POINTSET"), (FACES.astype(np.int32), "TRIANGLE"))
        ]
        nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), path)
    elif kind == "text.ply":
        mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
        path.write_bytes(trimesh.exchange.ply.export_ply(mesh, encoding="ascii"))
    else:
        trimesh.Trimesh(VERTICES, FACES, process=False).export(path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["obj", "ply", "text.ply", "stl", "off", "glb", "gii", "npz"])
def test_damaged_files_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    whole, path = written(tmp_path, kind), tmp_path / f"cut.{kind}"
    read = pg.Mesh.load if kind == "npz" else pg.Mesh.from_file
    assert read(tmp_path / f"whole.{kind}").vertex_count == len(VERTICES)
    for damaged in (whole[: int(0.9 * len(whole))], whole[: len(whole) // 3], whole[:20], b"", b"\x00\xff" * 40):
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy leaves the file of a damaged archive to the garbage collector
            with pytest.raises(ValueError, match=r"path: expected|faces: expected"):
                read(path)


def test_paths_of_no_file_and_unknown_formats_are_named(tmp_path: Path) -> None:
    (tmp_path / "surface.unknown").write_text("v 0 0 0")
    for path, error in ((tmp_path, FileNotFoundError), (tmp_path / "surface.unknown", ValueError), (3, TypeError)):
        with pytest.raises(error, match="path: expected"):
            pg.Mesh.from_file(path)  # pyright: ignore[reportArgumentType]
    with pytest.raises(FileNotFoundError, match=r"path: expected a file in a folder that exists, got .*none.*mesh.npz"):
        pg.Mesh.from_arrays(VERTICES, FACES).save(tmp_path / "none" / "mesh.npz")


@pytest.mark.parametrize("name", ["a.gltf", "a.gii.gz", "a.gii", "a.glb"])
@pytest.mark.parametrize("content", [b"", b"words"])
def test_files_without_a_surface_are_not_said_to_be_missing(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"path: expected a file of a surface, got '.*{name}'"):
        pg.Mesh.from_file(tmp_path / name)


@pytest.mark.parametrize("name", ["a.3mf", "a.gii", "a.ply"])
def test_a_package_that_is_missing_comes_with_advice(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"words")

    def missing(*_: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'x'")

    if name == "a.3mf":
        monkeypatch.setattr("trimesh.load", missing)
    else:
        monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ImportError, match="reading .* needs .*: pip install '(trimesh|pdegcnn)"):
        pg.Mesh.from_file(tmp_path / name)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["# made in C:\\out\\", "# a\u2028f 1 2 3", "o \u0085 f 1 2 3", "#", "# \x0bf 1 2 3"])
def test_comments_of_an_obj_end_where_their_line_ends(mark: str, end: str, tmp_path: Path) -> None:
    """Only line feeds and carriage returns end a line, and no comment goes on in the next."""
    rows = faces(lambda v, *_: str(v))
    if mark[0] == "#":
        rows = [f"{row} {mark}" for row in rows]
    text = end.join([*positions(), mark, *rows, ""])
    (tmp_path / "surface.obj").write_bytes(text.encode())
    same_surface(pg.Mesh.from_file(tmp_path / "surface.obj"))


def test_a_mark_of_the_byte_order_is_no_word(tmp_path: Path) -> None:
    """As some editors put it in front of a text file."""
    same_surface(
        pg.Mesh.from_file(obj(tmp_path, "\ufeff" + positions()[0], *positions()[1:], *faces(lambda v, *_: str(v))))
    )


def test_repaired_faces_follow_the_many() -> None:
    turned = FACES.copy()
    turned[:5] = turned[:5, ::-1]
    assert np.array_equal(oriented(turned, len(VERTICES)), FACES)


def test_bad_input_is_named(tmp_path: Path) -> None:
    nan = np.where(np.arange(len(VERTICES))[:, None] == 3, np.nan, VERTICES)
    point = np.zeros((3, 3))
    for run, message in (
        (lambda: pg.Mesh.from_arrays(nan, FACES, repair=True), r"vertices: expected finite .* at vertices \[3\]"),
        (lambda: pg.Mesh.from_arrays(VERTICES, FACES + 1, repair=True), r"faces: expected indices in \[0, 41\]"),
        (lambda: pg.Mesh.from_arrays(point, [[0, 1, 2]]), r"faces: .*zero area in faces \[0\]"),
        (lambda: pg.Mesh.from_arrays(point, [[0, 1, 2]], repair=True), "faces: expected a face with an area, got 1"),
        (lambda: pg.Mesh.from_file(obj(tmp_path, *positions())), "path: expected a file with faces"),
        (lambda: pg.Mesh.from_file(obj(tmp_path, "v 0 0", "f 1 1 1")), "path: expected three numbers in line 1"),
        (lambda: pg.Mesh.from_file(obj(tmp_path, "v 0 0 \\", "1", "v 0 0 x")), "path: expected numbers in line 3"),
        (lambda: pg.Mesh.from_file(obj(tmp_path, "v 0 0 0", "f 1 2 3")), "path: expected face indices of 1 positions"),
        (lambda: pg.Mesh.from_file(obj(tmp_path, "v 0 0 nan", "v 1 0 0", "v 0 1 0", "f 1 2 3")), "expected finite"),
    ):
        with pytest.raises(ValueError, match=message):
            run()
    with pytest.raises(TypeError, match="repair: expected True or False"):
        pg.Mesh.from_arrays(VERTICES, FACES, repair=1)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["surface.vtp", "surface.vtk"])
def test_files_of_pyvista_and_their_objects(name: str, tmp_path: Path) -> None:
    vertices, faces = pg.surface.icosphere(1)
    data = pyvista.PolyData.from_regular_faces(vertices, np.asarray(faces))
    data.save(tmp_path / name)
    for mesh in (pg.Mesh.from_file(tmp_path / name), pg.Mesh.from_pyvista(data)):
        np.testing.assert_allclose(mesh.vertices.numpy(), vertices, atol=1e-6)
        assert np.array_equal(mesh.faces.numpy(), faces)
    square = pyvista.Plane(i_resolution=2, j_resolution=3)  # of quadrilaterals
    assert len(pg.Mesh.from_pyvista(square).faces) == 12
    box = pyvista.ImageData(dimensions=(3, 3, 3))  # a volume has a surface
    assert pg.Mesh.from_pyvista(box, repair=True).vertex_count == 26


def with_spare_points(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An icosphere whose points are numbered at random among others without a face."""
    draw = np.random.default_rng(seed)
    points = 9 + draw.random((len(VERTICES) + 7, 3))
    place = draw.permutation(len(points))[: len(VERTICES)]
    points[place] = VERTICES
    return points, place[FACES], place


def refers_to(mesh: pg.Mesh, points: np.ndarray) -> None:
    """The maps between a mesh and the points from which it was made say where each is."""
    known = mesh.vertex_map
    assert known.shape == (len(points),)
    source = mesh.source_vertices
    np.testing.assert_allclose(points[source], mesh.vertices, rtol=0, atol=1e-6)
    assert torch.equal(known[source], torch.arange(mesh.vertex_count))
    used = (known >= 0).numpy()
    np.testing.assert_allclose(points[used], mesh.vertices[known[used]], rtol=0, atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_maps_of_pyvista_are_those_of_the_points_of_the_data_set(tmp_path_factory, seed: int) -> None:
    points, rows, place = with_spare_points(seed)
    cells = np.concatenate((np.full((len(rows), 1), 3), rows), axis=1).ravel()
    kind = np.full(len(rows), pyvista.CellType.TRIANGLE)
    grid, plain = pyvista.UnstructuredGrid(cells, kind, points), pyvista.PolyData(points, cells)
    grid.point_data["a word"] = np.array(["x"] * len(points))
    folder = tmp_path_factory.mktemp("points")
    pyvista.UnstructuredGrid(cells, kind, points).save(folder / "grid.vtk")
    plain.save(folder / "plain.vtp")
    plain.save(folder / "plain.vtk")
    meshes = [pg.Mesh.from_pyvista(grid), pg.Mesh.from_pyvista(plain)]
    for mesh in [*meshes, *map(pg.Mesh.from_file, folder.iterdir())]:
        refers_to(mesh, points)
        assert mesh.vertex_count == len(place) and set(mesh.source_vertices.tolist()) == set(place.tolist())
    assert grid.point_data.keys() == ["a word"]  # the object is left as it was


@pytest.mark.parametrize("kind", ["image", "tetrahedra", "structured", "rectilinear"])
def test_the_surface_of_a_volume_is_closed_and_knows_its_points(kind: str, tmp_path: Path) -> None:
    image = pyvista.ImageData(dimensions=(4, 5, 3), spacing=(1.0, 0.5, 2.0))
    data = {
        "image": lambda: image,
        "tetrahedra": image.to_tetrahedra,
        "structured": image.cast_to_structured_grid,
        "rectilinear": image.cast_to_rectilinear_grid,
    }[kind]()
    data.save(tmp_path / "volume.vtk")
    for mesh in (pg.Mesh.from_pyvista(data), pg.Mesh.from_file(tmp_path / "volume.vtk")):
        refers_to(mesh, np.asarray(data.points))
        assert mesh.vertex_count == 4 * 5 * 3 - 2 * 3 * 1
        assert not mesh.surface.triangulation.on_boundary.any()


def test_cells_with_points_on_their_edges_know_them_too() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    middles = [(corners[i] + corners[j]) / 2 for i, j in ((0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3))]
    points = np.concatenate(([[8.0, 8, 8]], corners, np.stack(middles) * 1.1, [[9.0, 9, 9]]))
    cell = np.concatenate(([10], np.arange(1, 11)))
    mesh = pg.Mesh.from_pyvista(pyvista.UnstructuredGrid(cell, [pyvista.CellType.QUADRATIC_TETRA], points))
    assert mesh.vertex_count == 10 and not mesh.surface.triangulation.on_boundary.any()
    refers_to(mesh, points)


@pytest.mark.parametrize("name", ["left.surf.gii", "left.surf.gii.gz"])
def test_gifti_files(name: str, tmp_path: Path) -> None:
    vertices, faces = pg.surface.icosphere(1)
    arrays = [
        nibabel.gifti.GiftiDataArray(vertices.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(np.asarray(faces, dtype=np.int32), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), tmp_path / name)
    mesh = pg.Mesh.from_file(tmp_path / name)
    np.testing.assert_allclose(mesh.vertices.numpy(), vertices, atol=1e-6)
    assert np.array_equal(mesh.faces.numpy(), faces)
    values = nibabel.gifti.GiftiImage(darrays=[nibabel.gifti.GiftiDataArray(np.zeros(42, dtype=np.float32))])
    nibabel.save(values, tmp_path / "values.gii")
    with pytest.raises(ValueError, match="path: expected a GIFTI file of a surface"):
        pg.Mesh.from_file(tmp_path / "values.gii")


def test_objects_of_trimesh() -> None:
    vertices, faces = pg.surface.icosphere(1)
    extra = np.concatenate((vertices, [[9.0, 9.0, 9.0]]))  # without a face
    mesh = pg.Mesh.from_trimesh(trimesh.Trimesh(extra, faces, process=False), orientations=4)
    assert mesh.orientations == 4 and mesh.vertex_map[-1] == -1
    np.testing.assert_allclose(mesh.vertices.numpy(), vertices)
    for make, wanted in ((pg.Mesh.from_trimesh, "trimesh.Trimesh"), (pg.Mesh.from_pyvista, "pyvista.PolyData")):
        with pytest.raises(TypeError, match=f"mesh: expected a {wanted}, got str"):
            make("x")
