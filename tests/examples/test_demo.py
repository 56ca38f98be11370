"""The demo runs from the command line, writes what it promises, and refuses to overwrite what it did not write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pdegcnn as pg

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def demo(module):
    """The demo as a module."""
    return module("demo")


def run(*arguments, **environment):
    command = [sys.executable, str(EXAMPLES / "demo.py"), *map(str, arguments)]
    surroundings = {k: v for k, v in os.environ.items() if k != "PDEGCNN_DATA"} | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings)


def test_smoke(tmp_path):
    out = tmp_path / "demo"
    for _ in range(2):  # the second run replaces what the first has written
        done = run("--smoke", "--out", out)
        assert done.returncode == 0, done.stderr
    assert {"test accuracy", "parameters", "equivariance error at 90°", "seconds per epoch"} <= {
        line[:27].strip() for line in done.stdout.splitlines()
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
        (("--seed", "-1"), "--seed: expected a number >= 0"),
        (("--data", "/no/such/folder"), "rotmnist_train12k.npz"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    done = run(*arguments, "--smoke", "--out", tmp_path / "demo")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    done = run("--smoke", "--out", tmp_path)
    assert done.returncode == 2 and "was not written by this demo" in done.stderr
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_a_failure_leaves_the_old_folder(demo, tmp_path, monkeypatch):
    out = tmp_path / "demo"
    out.mkdir()
    (out / "results.json").write_text("old")
    monkeypatch.setattr(demo, "save_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.write(out, {"PDE-G-CNN": demo.build("PDE-G-CNN")}, {}, None)
    assert (out / "results.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
