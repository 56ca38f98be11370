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
    module = example("mesh_labels", "--smoke", "--out", tmp_path / "labels")
    results = folder(tmp_path / "labels", "mesh_labels")
    assert set(results) == {"gauge", "graph", "DiffusionNet-like"}
    for result in results.values():
        assert max(result["by_gauge"], result["by_rotation"]) < 1e-5
        assert 0.85 * results["gauge"]["parameters"] < result["parameters"] <= results["gauge"]["parameters"]
    text = capsys.readouterr().out
    assert all(row in text for row in module.ROWS)


def test_vectors(example, tmp_path, capsys):
    module = example("mesh_vectors", "--smoke", "--out", tmp_path / "vectors")
    results = folder(tmp_path / "vectors", "mesh_vectors")
    assert set(results) == set(module.KINDS)
    assert len({r["parameters"] for r in results.values()}) == 1
    for kind in ("connection", "in space"):
        assert results[kind]["change"] < 1e-5
        assert results[kind]["error_other_gauge"] == pytest.approx(results[kind]["error"], rel=1e-4)
    assert results["in frames"]["change"] > 0.1  # components in the frames do see the gauge
    text = capsys.readouterr().out
    assert all(row in text for row in module.ROWS)


@pytest.mark.parametrize("name", ["mesh_labels", "mesh_vectors"])
def test_a_missing_folder_is_named(example, tmp_path, name, capsys):
    with pytest.raises(SystemExit) as raised:
        example(name, "--smoke", "--data", tmp_path, "--out", tmp_path / "out")
    assert raised.value.code == 2
    assert "--data: expected white_left.gii.gz of fsaverage5" in capsys.readouterr().err
