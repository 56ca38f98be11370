"""The recipes run from the command line on data that come with them, go on after a stop, and say what is wrong."""

import argparse
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import pdegcnn as pg
from pdegcnn.command_line import main
from pdegcnn.vessels import photograph
from pdegcnn_examples.datasets import drawn_vessels
from pdegcnn_examples.networks import vessels
from pdegcnn_examples.networks.digits import NETS
from pdegcnn_examples.training import read_weights


@pytest.fixture
def digits(tmp_path):
    """A folder laid out as rotated MNIST: 128 and 64 pictures, bars of as many pixels as their label says."""
    folder = tmp_path / "rotmnist"
    folder.mkdir()
    for name, count in (("rotmnist_train12k", 128), ("rotmnist_test50k", 64)):
        y = np.arange(count) % 10
        x = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(x, y):
            image[8:20, 8 : 9 + label] = 255
        np.savez(folder / f"{name}.npz", x=x, y=y, angle_deg=np.zeros(count))
    return tmp_path


@pytest.mark.parametrize("net", ["small", "gcnn"])
def test_rotated_digits(run, tmp_path, digits, net):
    out, common = tmp_path / "run", ("--smoke", "--net", net, "--data", digits)
    printed = run("rotated_digits.py", *common, "--out", out, "--validation", 16)
    assert "test_error" in printed
    result = json.loads((out / "result.json").read_text())
    assert result["row"] == net and result["settings"]["epochs"] == 2 and len(result["history"]) == 2
    assert 0 <= result["figures"]["test_error"] <= 1 and result["figures"]["invariance_error_90"] < 1e-4
    assert "accuracy" in result["history"][-1]
    before = read_weights(out / "weights.safetensors")
    run("rotated_digits.py", *common, "--out", out, "--validation", 16)  # nothing is left to do
    after = read_weights(out / "weights.safetensors")
    assert all(torch.equal(before[k], after[k]) for k in before)
    tested = run("rotated_digits.py", *common, "--weights", out / "weights.safetensors")
    assert float(tested.split()[-1].rstrip("%")) / 100 == pytest.approx(1 - result["figures"]["test_error"], abs=1e-6)
    assert "--out: folder" in run("rotated_digits.py", *common, "--out", out, "--rate", 0.3)


def test_digit_networks_are_as_small_as_promised():
    counts = {name: sum(p.numel() for p in NETS[name]().parameters()) for name in ("small", "large", "cnn", "gcnn")}
    assert counts["small"] <= 3000 and counts["large"] <= 30000 and counts["cnn"] <= 30000
    assert counts["gcnn"] == pytest.approx(12700, rel=0.1)


def test_augmentation_moves_a_little_and_turns(module):
    """At strength 0 a digit is turned only: the net that does not see turns gives the same logits."""
    augment = module("rotated_digits").augment
    images = torch.zeros(3, 1, 28, 28)
    images[:, :, 8:20, 12:16] = 1
    for strength in (0.0, 1.0):
        made = augment(images, np.random.default_rng(0), strength)
        again = augment(images, np.random.default_rng(0), strength)
        assert torch.equal(made, again) and made.shape == images.shape
        assert float(made.min()) >= 0 and float(made.max()) <= 1
        change = made.sum((1, 2, 3)) / images.sum((1, 2, 3)) - 1
        assert (change.abs() < (0.05 if strength == 0 else 0.4)).all()
        assert (made[0] - made[1]).abs().max() > 0.3


def test_vessels_from_training_to_scores(run, tmp_path):
    out = tmp_path / "run"
    trained = run("vessels.py", "train", "--smoke", "--images", 1, "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert result["row"] == "pde, 1 photograph" and result["parameters"] <= 5000, trained
    assert 0.5 < result["figures"]["auc"] <= 1 and result["figures"]["turned_90_error"] < 1e-4
    weights = out / "weights.safetensors"
    tested = run("vessels.py", "evaluate", "--smoke", "--weights", weights)
    assert float(tested.split("auc")[1].split()[0]) == pytest.approx(result["figures"]["auc"], abs=1e-4)


def test_a_trained_network_goes_to_the_command(run, tmp_path, monkeypatch):
    """The file that the recipe writes beside its weights gives masks at the threshold that was chosen."""
    out = tmp_path / "run"
    run("vessels.py", "train", "--smoke", "--net", "ship", "--images", 1, "--out", out)
    monkeypatch.setattr(photograph, "DIAMETER", 60.0)
    pixels = (drawn_vessels(1, 64).images[0].movedim(0, -1).numpy() * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "eye.png")
    arguments = ["vessels", tmp_path / "eye.png", "--weights", out / "network.safetensors", "--out", tmp_path / "masks"]
    assert main([str(a) for a in arguments]) == 0
    assert np.array(Image.open(tmp_path / "masks" / "eye_mask.png")).shape == (64, 64)
    trained = vessels.shipped()
    trained.load_state_dict(load_file(out / "weights.safetensors"))
    threshold = json.loads((out / "weights.json").read_text())["threshold"]
    shifted = pg.load(out / "network.safetensors")
    x = torch.randn(1, 3, 16, 16)
    chances, others = trained.eval()(x).sigmoid(), shifted.eval()(x).sigmoid()
    sure = (chances - threshold).abs() > 1e-4
    assert torch.equal((chances >= threshold)[sure], (others >= 0.5)[sure])


def test_vessels_with_wrong_arguments(run, tmp_path):
    weights = tmp_path / "weights.safetensors"
    evaluate = ("vessels.py", "evaluate", "--smoke", "--weights", weights)
    assert "--weights: expected weights" in run(*evaluate)
    weights.write_bytes(b"x")
    assert "was not written by 'vessels.py train'" in run(*evaluate)
    assert "--images: expected a number from 1" in run("vessels.py", "train", "--images", 0)
    assert "--epochs: expected" in run("vessels.py", "train", "--smoke", "--epochs", 0)
    assert "--patience: expected --validation" in run("vessels.py", "train", "--patience", 2)
    assert "drive.grand-challenge.org" in run("vessels.py", "train", "--data", tmp_path)


def test_thresholds_are_the_best(module):
    recipe = module("vessels")
    random = np.random.default_rng(0)
    truth = torch.from_numpy(random.random(4000) < 0.1)
    chances = (torch.from_numpy(random.normal(0, 0.15, 4000)) + 0.3 + 0.35 * truth).clamp(0, 1).float()
    threshold, dice = recipe.best_threshold(chances, truth)
    every = []
    for i in range(1, 100):
        marked = chances.double() >= i / 100
        every.append(float(2 * (marked & truth).sum() / (marked.sum() + truth.sum())))
    assert dice == pytest.approx(max(every), abs=0.01) and every[round(100 * threshold) - 1] == pytest.approx(
        dice, abs=0.01
    )


def test_the_large_builder_takes_a_size_for_each_layer():
    model = pg.models.rotated_digits(channels=(4, 4, 4), size=(12, 7), template=7)
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match="^size: expected one number, or one for each of 2"):
        pg.models.rotated_digits(channels=(4, 4, 4), size=(12, 7, 7))


def test_street_scenes(run, tmp_path):
    out = tmp_path / "run"
    assert "mean_iou" in run("street_scenes.py", "--smoke", "--out", out)
    figures = json.loads((out / "result.json").read_text())["figures"]
    assert 0 <= figures["mean_iou"] <= figures["pixel_accuracy"] <= 1 and figures.get("memory_mb", 1) > 0


def test_spherical_digits_write_results(module, tmp_path):
    """The example's own test runs it whole; here what it found becomes result files."""
    example = module("spherical_digits")
    chosen = argparse.Namespace(
        epochs=2, seconds=None, seed=2, results=tmp_path, band=16, directions=None, terms=None, validation=0
    )
    found = {"parameters": 7, "rotated_rotated": 0.9, "equivariance_error": 1e-3, "seconds_per_epoch": 30.0}
    found |= {"rotated_seconds": 60.0, "upright_seconds": 60.0, "rotated_epochs": 2.5, "upright_epochs": 1.5}
    example.record_all(chosen, "digits", {"PDE-G-CNN": found})
    result = json.loads((tmp_path / "spherical_digits-pdegcnn-2.json").read_text())
    assert result["figures"] == {"rotated_rotated": 0.9, "equivariance_error": 1e-3}
    assert result["seconds"] == 120 and result["epochs"] == 2 and result["recipe"] == "spherical_digits"
