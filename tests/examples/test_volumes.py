"""The recipe of volumes: from training to the picture, and its parts."""

from __future__ import annotations

import json

import torch

import pdegcnn as pg
from pdegcnn_examples import memory
from pdegcnn_examples.networks.volumes import NETS


def test_volumes_from_training_to_picture(run, tmp_path, monkeypatch):
    """The memory of a step is measured once, because it takes a separate process."""
    runs = [tmp_path / "volumes-pde", tmp_path / "volumes-unet-0"]
    for folder, net in zip(runs, NETS):
        run("volumes.py", "train", "--smoke", "--epochs", 1, "--net", net, "--out", folder)
        result = json.loads((folder / "result.json").read_text())
        assert result["recipe"] == "volumes" and result["row"] == f"{net}, drawn tubes"
        assert {"dice", "val_dice", "threshold_dice"} <= set(result["figures"])
        monkeypatch.setattr(memory, "elsewhere", lambda _: None)
    assert json.loads((runs[0] / "result.json").read_text())["figures"]["memory_mb"] > 0
    picture = tmp_path / "volumes.png"
    run("volumes.py", "picture", "--smoke", "--runs", *runs, "--picture", picture)
    assert picture.stat().st_size > 10_000
    wrong = tmp_path / "volumes-pde-none"
    assert "expected weights" in run("volumes.py", "picture", "--smoke", "--runs", wrong, "--picture", picture)
    assert "NET one of" in run("volumes.py", "picture", "--smoke", "--runs", tmp_path, "--picture", picture)


def test_networks_take_volumes_of_any_size_and_the_reversible_one_knows_its_voxels():
    space = pg.R3((2.0, 1.0, 1.0))
    for make in NETS.values():
        assert make(1, 2, space)(torch.randn(1, 1, 5, 6, 8)).shape == (1, 2, 5, 6, 8)
    spaces = {layer.space.spacing for layer in NETS["pde"](1, 2, space).modules() if isinstance(layer, pg.nn.PDELayer)}
    assert spaces == {(2.0, 1.0, 1.0), (4.0, 2.0, 2.0)}


def test_the_floor_is_the_best_threshold(module):
    task = module("volumes")
    values = torch.linspace(0, 1, 100).view(4, 5, 5)
    volume = task.LabelledVolume(values, values > 0.7, (1.0, 1.0, 1.0))
    assert abs(task.threshold(volume) - 0.7) < 0.02
    assert task.dice(volume.labels, volume.labels) == 1
