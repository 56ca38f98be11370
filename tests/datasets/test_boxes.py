"""Images with oriented boxes: drawn ships, turned scenes, the nuclei of a package, smallest rectangles."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pdegcnn.models import canonical_boxes, oriented_iou
from pdegcnn_examples.datasets import drawn_ships, nuclei_boxes
from pdegcnn_examples.datasets.boxes import smallest_box


def test_ships_are_the_same_each_time_and_lie_apart() -> None:
    first, second = (drawn_ships(6, 48, seed=3) for _ in range(2))
    assert torch.equal(first.images, second.images) and first.images.shape == (6, 1, 48, 48)
    assert not torch.equal(first.images, drawn_ships(6, 48, seed=4).images)
    for target in first.targets:
        boxes = canonical_boxes(target["boxes"])
        assert len(boxes) >= 1 and target["labels"].tolist() == [0] * len(boxes)
        assert bool((oriented_iou(boxes, boxes).fill_diagonal_(0) == 0).all())
        assert bool((boxes[:, 4].abs() < math.radians(60)).all())  # they head east or west
        assert bool(((boxes[:, :2] > 0) & (boxes[:, :2] < 48)).all())


def test_turned_scenes_hold_the_same_ships() -> None:
    """Each ship is as far from the centre, and its direction to it is the same as seen from the ship."""
    upright, turned = (drawn_ships(4, 48, seed=1, turned=t) for t in (False, True))
    for here, there in zip(upright.targets, turned.targets, strict=True):
        a, b = here["boxes"].double(), there["boxes"].double()
        torch.testing.assert_close(a[:, 2:4], b[:, 2:4])
        places = [torch.complex(*(x[:, :2] - 24).unbind(1)) * torch.exp(-1j * x[:, 4]) for x in (a, b)]
        torch.testing.assert_close(*places, atol=1e-4, rtol=0)
        assert len({round(float(x) % (2 * math.pi), 3) for x in (b - a)[:, 4]}) == 1
    with pytest.raises(ValueError, match="count: expected"):
        drawn_ships(0)


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.1])
def test_the_smallest_box_of_a_drawn_rectangle_is_nearly_it(angle: float) -> None:
    y, x = np.mgrid[:60, :60] + 0.5
    u = (x - 31) * math.cos(angle) + (y - 28) * math.sin(angle)
    v = (y - 28) * math.cos(angle) - (x - 31) * math.sin(angle)
    box = torch.tensor([smallest_box((np.abs(u) <= 14) & (np.abs(v) <= 7))])
    assert float(oriented_iou(box, torch.tensor([[31, 28, 28, 14, angle]]))) > 0.85  # pixels stick out at the border
    with pytest.raises(ValueError, match="mask: expected"):
        smallest_box(np.zeros((3, 3), bool))


def test_nuclei_come_from_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stardist" / "data" / "images"
    folder.mkdir(parents=True)
    (tmp_path / "stardist" / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"stardist: expected the package.*has no img2d\.tif"):
        nuclei_boxes()
    labels = np.zeros((40, 50), np.uint16)
    labels[5:15, 10:30], labels[20:36, 30:38], labels[0, 0] = 1, 2, 3
    for name, array in (("img2d.tif", labels * 40), ("mask2d.tif", labels)):
        Image.fromarray(array).save(folder / name)
    found = nuclei_boxes()
    assert "stardist" not in sys.modules
    assert found.images.shape == (1, 1, 40, 50) and float(found.images.max()) == 1
    wanted = torch.tensor([[20.0, 10, 20, 10, 0], [34, 28, 8, 16, 0]])
    torch.testing.assert_close(oriented_iou(found.targets[0]["boxes"], wanted), torch.eye(2))
