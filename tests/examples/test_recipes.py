"""The recipes run from the command line on data that come with them, go on after a stop, and say what is wrong."""

import argparse
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import pdegcnn as pg
from pdegcnn_examples import fundus
from pdegcnn_examples.datasets import drawn_vessels
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


@pytest.fixture
def cameras(tmp_path):
    """The same eye as four cameras might store it, and two files that are no photographs."""
    eye = (drawn_vessels(1, 160).images[0].movedim(0, -1).numpy() * 255).astype(np.uint8)
    folder = tmp_path / "eyes"
    folder.mkdir()
    picture = Image.fromarray(eye)
    picture.save(folder / "a.png")
    picture.resize((410, 410), Image.Resampling.BICUBIC).save(folder / "b.jpg", quality=95)
    wide = np.zeros((140, 260, 3), np.uint8)
    wide[:, 50:210] = eye[10:150]
    Image.fromarray(wide).save(folder / "c.tif")
    Image.fromarray(wide[:, ::-1]).convert("L").save(folder / "c.ppm")
    (folder / "broken.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((60, 60), np.uint8)).save(folder / "dark.png")
    return folder


def test_vessels_from_training_to_masks(run, cameras, tmp_path, monkeypatch):
    out = tmp_path / "run"
    trained = run("vessels.py", "train", "--smoke", "--images", 1, "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert result["row"] == "pde, 1 photograph" and result["parameters"] <= 5000, trained
    assert 0.5 < result["figures"]["auc"] <= 1 and result["figures"]["turned_90_error"] < 1e-4
    weights = out / "weights.safetensors"
    tested = run("vessels.py", "evaluate", "--smoke", "--weights", weights)
    assert float(tested.split("auc")[1].split()[0]) == pytest.approx(result["figures"]["auc"], abs=1e-4)
    monkeypatch.setattr(fundus, "DIAMETER", 150.0)
    done = run("vessels.py", "predict", "--weights", weights, "--images", cameras, "--out", tmp_path / "masks")
    assert "2 of 6 photographs" in done and "broken.png: expected a readable image" in done
    assert "dark.png: image: expected a photograph with a lit field of view" in done
    found = {p.name for p in (tmp_path / "masks").iterdir()}
    stems = ("a", "b", "c.ppm", "c.tif")
    assert found == {f"{stem}_{kind}.png" for stem in stems for kind in ("mask", "probability")}
    read = {p.name: np.array(Image.open(p)) for p in (tmp_path / "masks").iterdir()}
    assert read["a_mask.png"].shape == (160, 160) and read["b_mask.png"].shape == (410, 410)
    assert read["c.tif_probability.png"].shape == (140, 260) and read["c.tif_probability.png"].dtype == np.uint8
    assert set(np.unique(read["a_mask.png"])) <= {0, 255} and not read["a_mask.png"][:5, :5].any()
    small = np.array(Image.fromarray(read["b_probability.png"]).resize((160, 160), Image.Resampling.BOX)).astype(float)
    assert np.abs(small - read["a_probability.png"]).mean() < 12  # of 255: the same eye at 2.6 times the size


def test_vessels_with_wrong_arguments(run, tmp_path):
    photograph = tmp_path / "eye.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(photograph)
    weights = tmp_path / "weights.safetensors"
    predict = ("vessels.py", "predict", "--weights", weights, "--images", photograph, "--out", tmp_path / "masks")
    assert "--weights: expected weights" in run(*predict)
    weights.write_bytes(b"x")
    assert "was not written by 'vessels.py train'" in run(*predict)
    assert "--angle: expected a number from 5 to 180" in run(*predict, "--angle", 0)
    assert "--images: expected a number from 1" in run("vessels.py", "train", "--images", 0)
    assert "--epochs: expected" in run("vessels.py", "train", "--smoke", "--epochs", 0)
    assert "--patience: expected --validation" in run("vessels.py", "train", "--patience", 2)
    assert "drive.grand-challenge.org" in run("vessels.py", "train", "--data", tmp_path)


def test_thresholds_are_the_best(module):
    vessels = module("vessels")
    random = np.random.default_rng(0)
    truth = torch.from_numpy(random.random(4000) < 0.1)
    chances = (torch.from_numpy(random.normal(0, 0.15, 4000)) + 0.3 + 0.35 * truth).clamp(0, 1).float()
    threshold, dice = vessels.best_threshold(chances, truth)
    every = []
    for i in range(1, 100):
        marked = chances.double() >= i / 100
        every.append(float(2 * (marked & truth).sum() / (marked.sum() + truth.sum())))
    assert dice == pytest.approx(max(every), abs=0.01) and every[round(100 * threshold) - 1] == pytest.approx(
        dice, abs=0.01
    )


def test_turned_photographs_prepare_to_turned_ones():
    """Field of view, box and contrast know no direction: a quarter turn commutes to rounding."""
    image = drawn_vessels(1, 150).images[0]
    a, b = fundus.prepare(image), fundus.prepare(image.rot90(1, (1, 2)).contiguous())
    assert a.pixels.shape[-1] % 2 == 0 and a.diameter == pytest.approx(b.diameter, rel=1e-3)
    inside = (a.pixels.rot90(1, (1, 2)) - b.pixels).abs() * b.field
    assert inside.mean() < 0.02
    back = fundus.restore(torch.ones_like(a.field, dtype=torch.float32), a, (150, 150))
    truth = drawn_vessels(1, 150).fields[0]
    assert ((back > 0.5) ^ truth).float().mean() < 0.02


def test_mirrored_photographs_have_mirrored_vessels():
    """A network of convolutions has a handedness; what is told of a photograph has none."""
    torch.manual_seed(0)
    model, pixels = torch.nn.Conv2d(3, 1, 3, padding=1), torch.randn(3, 20, 24)
    chances = fundus.probability(model, pixels)
    torch.testing.assert_close(fundus.probability(model, pixels.flip(-1)).flip(-1), chances)
    assert (chances - model(pixels[None])[0, 0].sigmoid()).abs().max() > 0.01


def test_a_cut_field_of_view_has_no_dark_edge():
    """A picture that is field of view throughout, and is made smaller: its border is as bright as the rest."""
    rows, columns = np.mgrid[:900, :1200]
    image = torch.from_numpy(0.5 + 0.05 * np.sin(rows / 9) * np.sin(columns / 9)).float().expand(3, -1, -1)
    ready = fundus.prepare(image)
    border = ready.field & ~torch.from_numpy(ndimage.binary_erosion(ready.field.numpy()))
    assert ready.pixels[1][border].mean().abs() < 0.5  # in deviations


def test_contrast_reaches_to_the_rim():
    """Light that falls off at the border of the field of view takes no contrast from what lies within."""
    size = round(fundus.DIAMETER) + 24
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    depth = fundus.DIAMETER / 2 - np.hypot(rows, columns)
    texture = 0.5 + 0.05 * np.sin(rows) * np.sin(columns)
    seen = fundus.even_out(torch.from_numpy(texture * np.clip(depth / 5, 0, 1))[None], torch.from_numpy(depth > 0))[0]
    centre, near = seen[torch.from_numpy(depth > 100)].std(), seen[torch.from_numpy((depth > 8) & (depth < 30))].std()
    assert near == pytest.approx(float(centre), rel=0.15)


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
        seconds=60.0, seed=2, results=tmp_path, band=16, directions=None, terms=None, validation=0
    )
    found = {"parameters": 7, "rotated_rotated": 0.9, "equivariance_error": 1e-3, "seconds_per_epoch": 30.0}
    found |= {"rotated_seconds": 60.0, "upright_seconds": 60.0, "rotated_epochs": 2.5, "upright_epochs": 1.5}
    example.record(chosen, "digits", {"PDE-G-CNN": found})
    result = json.loads((tmp_path / "spherical_digits-pdegcnn-2.json").read_text())
    assert result["figures"] == {"rotated_rotated": 0.9, "equivariance_error": 1e-3}
    assert result["seconds"] == 120 and result["epochs"] == 2 and result["recipe"] == "spherical_digits"
