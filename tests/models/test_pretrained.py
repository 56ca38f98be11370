"""Weights in the package: they load, give what was recorded, come with the wheel; damage is seen."""

import inspect
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import pdegcnn as pg
from pdegcnn.models import pretrained
from pdegcnn.models.pretrained import FOLDER, pretrained_names
from pdegcnn_examples.training import write_result, write_weights
from tools import publish_weights

ROOT = Path(__file__).parents[2]
NAMES = pretrained_names("rotated_digits")
WEIGHTS = [("rotated_digits", name) for name in NAMES]
WEIGHTS += [("vessel_segmentation", name) for name in pretrained_names("vessel_segmentation")]


def build(builder, name, **options):
    """The network with its weights, giving logits."""
    options |= {"logits": True} if builder == "vessel_segmentation" else {}
    return pg.models.MODELS[builder](pretrained=name, **options)


def test_there_are_some():
    assert {("rotated_digits", "small"), ("vessel_segmentation", "drive")} <= set(WEIGHTS)


@pytest.mark.parametrize(("builder", "name"), WEIGHTS)
def test_logits_are_those_recorded(builder, name):
    description = json.loads((FOLDER / f"{builder}_{name}.json").read_text())
    model, images = build(builder, name), publish_weights.KINDS[name].images()
    assert not model.training
    logits = model(images)
    expected = torch.tensor(description["check"]["logits"])
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=2e-4)  # other processors add in another order
    assert (logits[0] - logits[1]).abs().max() > 0.1
    assert sum(p.numel() for p in model.parameters()) == description["parameters"] <= 30000
    assert description["licence"].startswith("weights: MIT") and description["commit"] and description["figures"]
    assert ("CC BY-SA 3.0" if builder == "rotated_digits" else "drive.grand-challenge.org") in description["licence"]
    double = build(builder, name, dtype=torch.float64)
    torch.testing.assert_close(double(images.double()).float(), expected, atol=2e-3, rtol=2e-3)


def test_vessels_as_probabilities_or_logits():
    """The one option beside ``pretrained`` that changes no weights."""
    images = publish_weights.KINDS["drive"].images()
    chances = pg.models.vessel_segmentation(pretrained="drive")(images)
    torch.testing.assert_close(chances, build("vessel_segmentation", "drive")(images).sigmoid())
    with pytest.raises(
        ValueError, match="^pretrained: expected no other arguments with it than logits, device and dtype"
    ):
        pg.models.vessel_segmentation(pretrained="drive", layers=7)


def test_unknown_names_and_other_arguments():
    with pytest.raises(ValueError, match="^pretrained: expected one of 'large', 'small', got 'huge'"):
        pg.models.rotated_digits(pretrained="huge")
    with pytest.raises(ValueError, match="^pretrained: expected no other arguments with it .* got classes, size"):
        pg.models.rotated_digits(5, size=20, pretrained="small")
    with pytest.raises(ValueError, match="got splitting"):
        pg.models.rotated_digits(pretrained="small", splitting="strang")
    assert "pretrained" in inspect.signature(pg.models.rotated_digits).parameters


def test_damaged_and_missing_files(tmp_path, monkeypatch):
    for path in FOLDER.glob("rotated_digits_small*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    weights = tmp_path / "rotated_digits_small.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="^pretrained: .*rotated_digits_small.safetensors is damaged"):
        pg.models.rotated_digits(pretrained="small")
    weights.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        pg.models.rotated_digits(pretrained="small")


def test_without_safetensors(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match=r"pdegcnn\[save\]"):
        pg.models.rotated_digits(pretrained="small")


def test_the_wheel_holds_them(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for builder, name in WEIGHTS:
        for suffix in ("json", "safetensors"):
            assert f"pdegcnn/models/weights/{builder}_{name}.{suffix}" in held
    assert wheel.stat().st_size < 2_000_000


def test_publishing_a_run(tmp_path, monkeypatch, capsys):
    """The one command that puts a run's weights into the package."""
    torch.manual_seed(0)
    model = publish_weights.KINDS["small"].build()
    write_weights(tmp_path / "run" / "weights.safetensors", model.state_dict())
    about = {"seed": 0, "parameters": 2864, "seconds": 1.0, "epochs": 1, "data": "digits"}
    write_result(tmp_path / "run" / "result.json", "rotated_digits", "small", {"test_error": 0.9}, **about)
    monkeypatch.setattr(sys, "argv", ["publish", str(tmp_path / "run"), "small", "--to", str(tmp_path / "to")])
    publish_weights.main()
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "to")
    again = pg.models.rotated_digits(pretrained="small")
    assert torch.equal(again(publish_weights.probe()), model.eval()(publish_weights.probe()))
    monkeypatch.setattr(sys, "argv", ["publish", str(tmp_path / "run"), "large", "--to", str(tmp_path / "to")])
    with pytest.raises(SystemExit, match="expected a run of --net large"):
        publish_weights.main()


def test_publishing_vessels_moves_the_threshold_to_one_half(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    kind = publish_weights.KINDS["drive"]
    model = kind.build().eval()
    write_weights(tmp_path / "weights.safetensors", model.state_dict())
    about = {"seed": 0, "parameters": 3665, "seconds": 1.0, "epochs": 1, "data": "drawn", "network": {"threshold": 0.8}}
    write_result(tmp_path / "result.json", "vessels", "ship", {"dice": 0.1}, **about)
    monkeypatch.setattr(sys, "argv", ["publish", str(tmp_path), "drive", "--to", str(tmp_path)])
    publish_weights.main()
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    published = pg.models.vessel_segmentation(pretrained="drive")
    before = model(kind.images()).sigmoid()
    assert torch.equal(published(kind.images()) >= 0.5, before >= 0.8)
    odds = torch.logit(published(kind.images())) - torch.logit(before)
    torch.testing.assert_close(odds, torch.full_like(odds, -torch.logit(torch.tensor(0.8)).item()), atol=1e-4, rtol=0)
