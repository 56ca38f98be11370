"""The demo runs from the command line, writes what it promises, and refuses to overwrite what it did not write."""

import json
import sys

import pytest
import torch

from pdegcnn_examples.datasets import TEXTURES, textures


@pytest.fixture
def demo(module):
    """The demo as a module."""
    return module("demo")


def test_smoke(tmp_path, run, demo):
    out, before = tmp_path / "demo", None
    for _ in range(2):  # the second run replaces what the first has written, and finds the same
        printed = run("demo.py", "--smoke", "--out", out)
        assert set(demo.ROWS) <= {line[:21].strip() for line in printed.splitlines()} and "\r" not in printed
        assert [p.name for p in tmp_path.iterdir()] == ["demo"]
        assert {p.name for p in out.iterdir()} == {"plain_cnn.pt", "demo.png", "pde-g-cnn.pt", "results.json"}
        networks = json.loads((out / "results.json").read_text())["networks"]
        over = {name: found["accuracy_over_angle"] for name, found in networks.items()}
        assert before in (None, over)
        before = over
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    ours, plain = networks["PDE-G-CNN"], networks["plain CNN"]
    assert plain["parameters"] >= 10 * ours["parameters"] and len(over["PDE-G-CNN"]) == len(demo.ANGLES)
    model = demo.build("PDE-G-CNN")
    model.load_state_dict(torch.load(out / "pde-g-cnn.pt", weights_only=True))
    x = torch.rand(2, 1, 48, 48)
    torch.testing.assert_close(model.eval()(x), model(x.rot90(1, (2, 3))), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "1"), "--steps: expected a number >= 2"),
        (("--seed", "-1"), "--seed: expected a number >= 0"),
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
    monkeypatch.setattr(demo.torch, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.write(out, {"PDE-G-CNN": demo.build("PDE-G-CNN").eval()}, {}, {0: textures(1)})
    assert (out / "results.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_crops_are_what_is_promised():
    one, same, other = textures(3, 1), textures(3, 1), textures(3, 2)
    assert torch.equal(one.images, same.images) and not torch.equal(one.images, other.images)
    assert one.images.shape == (9, 1, 48, 48) and one.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert len(TEXTURES) == 3
    for wrong in (0, 2.5):
        with pytest.raises((TypeError, ValueError), match="^count: expected"):
            textures(wrong)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_crops_turn_about_their_middle(angle, monkeypatch):
    """Counter-clockwise, as ``SE2.transform`` turns; the places are the same."""
    monkeypatch.setattr(sys.modules[textures.__module__], "NOISE", 0.0)
    upright, turned = textures(2, 5, test=True), textures(2, 5, test=True, angle=angle)
    torch.testing.assert_close(turned.images, upright.images.rot90(angle // 90, (2, 3)), atol=2e-3, rtol=0)
