"""The recipe of detection in images: from training to the picture, and its parts."""

from __future__ import annotations

import json

import pytest
import torch

from pdegcnn_examples.datasets import Boxed
from pdegcnn_examples.networks.boxes import NETS
from pdegcnn_examples.plots.boxes import box_pictures


def test_from_training_to_the_picture(run, tmp_path):
    runs = [tmp_path / f"ships-{net}" for net in NETS]
    for folder, net in zip(runs, NETS):
        run("plane_detection.py", "train", "--smoke", "--epochs", 1, "--net", net, "--out", folder)
        result = json.loads((folder / "result.json").read_text())
        assert result["recipe"] == "plane_detection" and result["row"] == f"{net}, drawn ships"
        assert {"ap_upright", "ap_turned", "ap75_turned"} <= set(result["figures"])
    picture = tmp_path / "ships.png"
    run("plane_detection.py", "picture", "--smoke", "--runs", *runs, "--picture", picture)
    assert picture.stat().st_size > 10_000
    wrong = tmp_path / "ships-pde-none"
    assert "expected weights" in run("plane_detection.py", "picture", "--smoke", "--runs", wrong, "--picture", picture)
    assert "NET one of" in run("plane_detection.py", "picture", "--runs", tmp_path / "a", "--picture", picture)


def test_the_rival_has_as_many_parameters_and_the_same_outputs():
    nets = [make(14.0) for make in NETS.values()]
    counts = [sum(p.numel() for p in net.parameters()) for net in nets]
    assert counts[0] <= counts[1] <= 1.1 * counts[0]
    shapes = {net.network(torch.rand(2, 1, 24, 32)).shape for net in nets}
    assert shapes == {(2, 6, 8, 6, 8)}


def test_parts_keep_the_boxes_whose_centres_they_hold(module):
    task = module("plane_detection")
    boxes = torch.tensor([[10.0, 4, 6, 3, 0.2], [25.0, 12, 6, 3, 0.2]])
    whole = Boxed(torch.rand(1, 1, 20, 30), [{"boxes": boxes, "labels": torch.tensor([0, 1])}])
    part = task.cut(whole, slice(8, None), slice(20, 30))
    assert torch.equal(part.images, whole.images[..., 8:, 20:])
    torch.testing.assert_close(part.targets[0]["boxes"], torch.tensor([[5.0, 4, 6, 3, 0.2]]))
    assert part.targets[0]["labels"].tolist() == [1]
    turned = task.quarter_turned(part, 90)
    assert turned.images.shape == (1, 1, 10, 12) and float(turned.images[0, 0, 5, 7]) == float(part.images[0, 0, 4, 5])
    torch.testing.assert_close(turned.targets[0]["boxes"][:, :2], torch.tensor([[8.0, 5.0]]))


def test_pictures_need_boxes_of_every_image():
    rows = {"upright": torch.rand(8, 9)}
    figure = box_pictures(rows, {"truth": [torch.tensor([[4.0, 4, 3, 2, 0.1]])]})
    assert [axis.get_title() for axis in figure.axes] == ["image", "truth"]
    with pytest.raises(ValueError, match="boxes: expected boxes on 1 images, got 0 of 'truth'"):
        box_pictures(rows, {"truth": []})
