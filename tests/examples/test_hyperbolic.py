"""The recipes that set reversible networks beside plain ones run on data that come with them, and score rightly."""

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pdegcnn_examples import memory
from pdegcnn_examples.datasets import upright_digits
from pdegcnn_examples.networks.digits import UPRIGHT_NETS
from pdegcnn_examples.networks.scenes import NETS


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_rivals_are_of_equal_size():
    scenes = {name: count(make(3, 11)) for name, make in NETS.items()}
    assert max(scenes.values()) < 1.04 * min(scenes.values())
    digits = {name: count(make()) for name, make in UPRIGHT_NETS.items()}
    assert max(digits.values()) < 1.02 * min(digits.values())


@pytest.mark.parametrize("name", list(NETS))
def test_networks_of_scenes_take_any_size(name):
    x = torch.rand(1, 3, 9, 14)
    assert NETS[name](3, 2).eval()(x).shape == (1, 2, 9, 14)


@pytest.fixture
def skimage(tmp_path, monkeypatch):
    """A package scikit-image with a small photograph in it; the networks then see 2 x 3 blocks."""
    found = importlib.util.find_spec
    package = SimpleNamespace(origin=str(tmp_path / "skimage" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: package if name == "skimage" else found(name, *a))
    folder = tmp_path / "skimage" / "data"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (40, 60, 3)).astype(np.uint8)).save(folder / "motorcycle_left.png")
    np.savez(folder / "motorcycle_disp.npz", random.uniform(20, 60, (40, 60)))


@pytest.mark.usefixtures("skimage")
def test_depth_from_training_to_picture(run, tmp_path):
    runs = [tmp_path / "depth-hyperbolic", tmp_path / "depth-unet-0"]
    printed = run("depth.py", "train", "--smoke", "--out", runs[0])
    run("depth.py", "train", "--smoke", "--net", "unet", "--out", runs[1], "--choosing", "--epochs", 1)
    first, second = (json.loads((folder / "result.json").read_text()) for folder in runs)
    assert "photograph_abs_rel" in printed and first["row"] == "hyperbolic" and len(first["history"]) == 2
    assert {"abs_rel", "rmse", "delta_125", "constant_rmse", "photograph_delta_125"} <= set(first["figures"])
    assert 0 <= first["figures"]["delta_125"] <= 1
    assert set(second["figures"]) == {"val_abs_rel", "val_rmse", "val_delta_125"}  # the test part was left alone
    picture = tmp_path / "depth.png"
    run("depth.py", "picture", "--smoke", "--count", 1, "--runs", *runs, "--picture", picture)
    assert np.array(Image.open(picture)).std() > 0
    assert "NET one of" in run("depth.py", "picture", "--smoke", "--runs", tmp_path, "--picture", picture)
    missing = run("depth.py", "picture", "--smoke", "--runs", tmp_path / "depth-plain", "--picture", picture)
    assert "--runs: expected weights.safetensors" in missing
    assert "--data: folder: expected a folder 'nyu'" in run("depth.py", "train", "--data", tmp_path)


def test_street_scenes_for_choosing(run, tmp_path, monkeypatch):
    """Smaller pictures, labels of their blocks' first pixels; the validation part is not even looked at."""
    monkeypatch.setattr(memory, "elsewhere", lambda _: None)  # another test measures
    random = np.random.default_rng(0)
    for part, high in (("train", 11), ("val", 1)):
        for kind, values in (("images", (12, 17, 3)), ("labels", (12, 17))):
            (tmp_path / "camvid" / part / kind).mkdir(parents=True)
            for i in range(8):
                pixels = Image.fromarray(random.integers(0, high, values).astype(np.uint8))
                pixels.save(tmp_path / "camvid" / part / kind / f"{i}.{'jpg' if kind == 'images' else 'png'}")
    options = ("--shrink", 2, "--choosing", "--epochs", 1, "--net", "bare", "--batch", 3)
    run("street_scenes.py", "--smoke", "--data", tmp_path, "--out", tmp_path / "run", *options)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["data"] == "CamVid at 8 x 6, a part of train"
    assert result["row"] == "bare, 8 x 6, a part of train"


def test_scores_of_depths(module):
    scores = module("depth").scores
    truth = torch.tensor([[[1.0, 2.0], [4.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]])
    found = torch.tensor([[[1.1, 2.0], [6.0, 9.0]], [[2.0, 2.0], [2.0, 1.0]]])
    made = scores(found, truth)
    assert made["abs_rel"] == pytest.approx((0.1 + 0.5 + 0.5) / 7)
    assert made["rmse"] == pytest.approx(((0.01 + 4 + 1) / 7) ** 0.5)
    assert made["delta_125"] == pytest.approx(5 / 7)
    scaled = found * torch.tensor([0.3, 5.0])[:, None, None]
    again = scores(scaled, truth, aligned=True)
    assert all(again[k] == pytest.approx(v) for k, v in made.items())  # the medians are equal from the start


def test_masks_fall_on_every_place_of_a_coarse_step(module):
    """What is learnt from belongs to the same frames however many were left out, and every place occurs."""
    video = module("reversible_video")
    clip = video.Clip(torch.rand(3, 12, 4, 4), torch.randint(2, (12, 4, 4)))
    places = set()
    for _ in range(40):
        shorter, chosen = video.moved(clip, torch.arange(0, 12, 4), 2)
        start = 12 - len(shorter.masks)
        assert torch.equal(shorter.masks[chosen], clip.masks[[t for t in (0, 4, 8) if t >= start]])
        assert torch.equal(shorter.frames[:, chosen], clip.frames[:, [t for t in (0, 4, 8) if t >= start]])
        places |= {int(t) % 4 for t in chosen}
    assert places == {0, 1, 2, 3}
    assert video.moved(clip, torch.tensor([0]), 2)[1].tolist() == [0]  # the only mask is never left out


def test_classification(run, tmp_path):
    for net, options in (("hyperbolic", ()), ("plain", ("--choosing",))):
        run("classify.py", "--smoke", "--net", net, "--out", tmp_path / net, *options)
        result = json.loads((tmp_path / net / "result.json").read_text())
        assert result["row"] == net and len(result["history"]) == 2 and "accuracy" in result["history"][-1]
        assert ("test_error" in result["figures"]) == (net == "hyperbolic")
        assert all(0 <= value <= 1 for value in result["figures"].values())


def test_upright_digits_are_not_turned():
    once, other = upright_digits(20, 1, "sklearn"), upright_digits(20, 2, "sklearn")
    assert once.images.shape == (20, 1, 28, 28) and not once.angles.any()
    assert torch.equal(once.images, upright_digits(20, 1, "sklearn").images)
    assert not torch.equal(once.images, other.images)
    assert sorted(set(once.labels.tolist())) == sorted(set(once.labels.tolist()) & set(range(10)))
