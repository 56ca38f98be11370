"""The demo runs from the command line, writes what it promises, and refuses to overwrite what it did not write."""

import json

import pytest
import torch
from safetensors.torch import load_file

import pdegcnn as pg


@pytest.fixture
def demo(module):
    """The demo as a module."""
    return module("demo")


def test_smoke(tmp_path, run):
    out = tmp_path / "demo"
    for _ in range(2):  # the second run replaces what the first has written
        printed = run("demo.py", "--smoke", "--out", out)
    assert {"test accuracy", "parameters", "equivariance error at 90°", "seconds per epoch"} <= {
        line[:27].strip() for line in printed.splitlines()
    }
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]
    names = {"cnn.safetensors", "demo.png", "pdegcnn.json", "pdegcnn.safetensors", "results.json"}
    assert {p.name for p in out.iterdir()} == names
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    networks = json.loads((out / "results.json").read_text())["networks"]
    ours, plain = networks["PDE-G-CNN"], networks["plain CNN"]
    assert plain["parameters"] >= 10 * ours["parameters"]
    assert ours["equivariance_error_90"] < 1e-5 < plain["equivariance_error_90"]
    config = json.loads((out / "pdegcnn.json").read_text())
    model = pg.models.rotated_digits(config["classes"], space=pg.SE2(**config["space"]["SE2"]))
    model.load_state_dict(load_file(out / "pdegcnn.safetensors"))
    assert model.eval()(torch.rand(2, 1, 28, 28)).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seconds", "0"), "--seconds: expected a positive number"),
        (("--seconds", "nan"), "--seconds: expected a positive number"),
        (("--epochs", "0"), "--epochs: expected a number >= 1"),
        (("--seed", "-1"), "--seed: expected a number >= 0"),
        (("--data", "/no/such/folder"), "rotmnist_train12k.npz"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, run):
    done = run("demo.py", *arguments, "--smoke", "--out", tmp_path / "demo")
    assert done.startswith("2 ") and message in done and not (tmp_path / "demo").exists()


def test_foreign_folder_is_left_alone(tmp_path, run):
    (tmp_path / "mine.txt").write_text("kept")
    assert "was not written by this demo" in run("demo.py", "--smoke", "--out", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_a_failure_leaves_the_old_folder(demo, tmp_path, monkeypatch):
    out = tmp_path / "demo"
    out.mkdir()
    (out / "results.json").write_text("old")
    monkeypatch.setattr(demo, "save_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.write(out, {"PDE-G-CNN": demo.build("PDE-G-CNN")}, {}, None)
    assert (out / "results.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_stopped_demo_goes_on_and_leaves_the_folder_alone_until_then(tmp_path, run, monkeypatch):
    """The same numbers and weights as at one go; what is trained already is not trained twice."""
    out, seen = tmp_path / "demo", []
    run("demo.py", "--smoke", "--out", out)
    step = torch.optim.AdamW.step

    def stopping(self, *arguments, **options):
        seen.append(None)
        if len(seen) == 10:  # in the training of the second network
            raise KeyboardInterrupt
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", stopping)
    other = tmp_path / "other"
    assert "The same command goes on from there" in run("demo.py", "--smoke", "--out", other)
    assert not other.exists() and (tmp_path / ".other-training").is_dir()
    run("demo.py", "--smoke", "--out", other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo", "other"]
    for name in ("pdegcnn", "cnn"):
        first, second = (load_file(folder / f"{name}.safetensors") for folder in (out, other))
        assert all(torch.equal(first[key], second[key]) for key in first)
