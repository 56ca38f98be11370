"""The recipe of restored pictures: tasks, networks of equal size, its command line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pdegcnn_examples.datasets import drawn_lines, shipped_pictures
from pdegcnn_examples.networks.restoration import NETS


@pytest.mark.parametrize("task", ["denoise", "inpaint", "lines"])
def test_a_run_writes_figures_and_a_picture(run, tmp_path, task):
    out, sheet = tmp_path / "run", tmp_path / "sheet.png"
    net = {"denoise": "shock", "inpaint": "cnn", "lines": "pde"}[task]
    run("denoising.py", "--smoke", "--epochs", 1, "--task", task, "--net", net, "--out", out, "--picture", sheet)
    result = json.loads((out / "result.json").read_text())
    assert result["row"] == f"{net}, {task}"
    assert 0 < result["figures"]["psnr"] < 60 and -1 <= result["figures"]["ssim"] <= 1
    assert np.array(Image.open(sheet)).shape[0] == 3 * 128


@pytest.mark.parametrize("channels", [1, 2])
def test_networks_have_equal_sizes_and_start_as_the_identity(channels):
    x = torch.rand(1, channels, 24, 24)
    sizes = []
    for make in NETS.values():
        model = make(channels).eval()
        sizes.append(sum(p.numel() for p in model.parameters()))
        constant = (model(x) - x[:, :1]).flatten()
        assert (constant - constant[0]).abs().max() < 1e-6  # the bias alone
    assert max(sizes) < 1.15 * min(sizes)


def test_pictures_and_lines_are_what_they_say():
    pictures = shipped_pictures()
    assert pictures.test.shape[1:] == (1, 128, 128)
    for picture in (*pictures.train, *pictures.test[:, 0]):
        assert 0 <= picture.min() < picture.max() <= 1
    broken, whole = drawn_lines(3, 32, seed=5)
    assert broken.shape == whole.shape == (3, 1, 32, 32)
    assert (broken <= whole).all() and (broken < whole - 0.3).any()
    assert all(torch.equal(a, b) for a, b in zip(drawn_lines(3, 32, seed=5), (broken, whole)))
