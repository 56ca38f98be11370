"""The mesh examples run from the command line, write what they promise, and their networks see neither frames nor
rotations.
"""

import json

import pytest


def folder(out, name):
    """The results, if the folder holds them and a picture and nothing else."""
    assert {p.name for p in out.iterdir()} == {"results.json", f"{name}.png"}
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((out / "results.json").read_text())["networks"]


def test_labels(example, tmp_path, capsys):
    out, files = tmp_path / "labels", tmp_path / "results"
    module = example("mesh_labels", "--smoke", "--out", out, "--results", files)
    results = folder(out, "mesh_labels")
    assert set(results) == set(module.NAMES.values())
    assert {p.name for p in files.iterdir()} == {f"mesh_labels-{net}-0.json" for net in module.NETS}
    for name, result in results.items():
        assert max(result["by_numbers"], result["by_rotation"]) < 1e-5
        assert result["parameters"] <= results["gauge"]["parameters"]
        assert (
            name == "PDE" or result["by_gauge"] < 1e-5
        )  # samples of directions turn with the gauge by grid angles only
    assert len({r["steps"] for r in results.values()}) == 1
    text = capsys.readouterr().out
    assert all(row in text for row in module.ROWS)


def test_vectors(example, tmp_path, capsys):
    module = example("mesh_vectors", "--smoke", "--out", tmp_path / "vectors", "--results", tmp_path / "results")
    results = folder(tmp_path / "vectors", "mesh_vectors")
    recorded = json.loads((tmp_path / "results" / "mesh_vectors-in_space-0.json").read_text())
    assert recorded["figures"]["error"] == results["in space"]["error"]
    assert set(results) == set(module.KINDS)
    assert len({r["parameters"] for r in results.values()}) == 1
    for kind in ("connection", "in space"):
        assert results[kind]["change"] < 1e-5
        assert results[kind]["error_other_gauge"] == pytest.approx(results[kind]["error"], rel=1e-4)
    assert results["in frames"]["change"] > 0.1  # components in the frames do see the gauge
    text = capsys.readouterr().out
    assert all(row in text for row in module.ROWS)


def test_vertices_held_out_are_not_learned_from(example, tmp_path, capsys):
    example("mesh_labels", "--smoke", "--held", "--nets", "graph", "--out", tmp_path / "labels")
    assert "of the vertices held out" in capsys.readouterr().out
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize("name", ["mesh_labels", "mesh_vectors"])
def test_a_missing_folder_is_named(example, tmp_path, name, capsys):
    with pytest.raises(SystemExit) as raised:
        example(name, "--smoke", "--data", tmp_path, "--out", tmp_path / "out")
    assert raised.value.code == 2
    assert "--data: expected white_left.gii.gz of fsaverage5" in capsys.readouterr().err
