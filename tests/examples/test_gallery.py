"""Pictures of the gallery: what is drawn where, and the command that makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pdegcnn_examples.networks import digits, scenes
from pdegcnn_examples.plots.columns import side_by_side, turned_digits
from pdegcnn_examples.training import write_weights
from tools import gallery

ROOT = Path(__file__).parents[2]


def test_a_row_for_each_input_and_a_column_for_each_title():
    pictures = {
        "colours": torch.rand(3, 4, 6),
        "mask": torch.rand(4, 6) > 0.5,
        "labels": torch.arange(24).view(4, 6) % 3,
    }
    figure = side_by_side({"first": pictures, "second": pictures}, {("second", "mask"): "Dice 0.5"})
    assert [axis.get_title() for axis in figure.axes[:3]] == list(pictures)
    assert [figure.axes[n].get_ylabel() for n in (0, 3)] == ["first", "second"]
    assert figure.axes[4].get_xlabel() == "Dice 0.5"
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None and shown.shape == (4, 6, 3)
    with pytest.raises(ValueError, match="rows: expected the columns"):
        side_by_side({"first": pictures, "second": {"mask": pictures["mask"]}})


def test_curves_over_the_angle_close():
    chances = [{"net": torch.eye(10)[:2]}]
    figure = turned_digits([torch.rand(2, 28, 28)], [0], chances, [0, 180], {"net": {0: 0.5, 180: 1.0}})
    (line,) = figure.axes[-1].lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, 50], [180, 100], [360, 50]])


def test_every_picture_is_in_the_gallery_and_its_program_exists():
    text = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("gallery.md", "gallery_surfaces.md"))
    assert set(gallery.TRAININGS) == set(gallery.DRAW)
    for name in (*gallery.DRAW, *gallery.COMPLETE):
        assert f"](images/{name}.png)" in text
    commands = [command for nets in gallery.TRAININGS.values() for command in nets.values()]
    for command in (*commands, *gallery.COMPLETE.values()):
        assert (ROOT / "examples" / command.split()[0]).is_file()


def untrained(folder, nets):
    """Write the weights of new networks as trainings do; return their folders by name."""
    for name, net in nets.items():
        write_weights(folder / name / "weights.safetensors", net.state_dict())
    return {name: folder / name for name in nets}


def test_digits_and_scenes_from_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "TESTED", 4)
    torch.manual_seed(0)
    runs = untrained(tmp_path, {"small": digits.small(), "cnn": digits.cnn()})
    figure = gallery.draw_digits(runs)
    assert len(figure.axes) == 3 * len(gallery.ANGLES) // 2 + 1
    runs = untrained(tmp_path, {net: scenes.NETS[net](3, 3) for net in ("hyperbolic", "unet")})
    figure = gallery.draw_scenes(runs)
    assert len(figure.axes) == 12 and "pixels right" in figure.axes[3].get_xlabel()


def test_a_picture_that_does_not_exist_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gallery", "nothing"])
    with pytest.raises(SystemExit):
        gallery.main()
    assert "NAME: expected one of rotated_digits" in capsys.readouterr().err
