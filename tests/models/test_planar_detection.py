"""The detector of oriented boxes: it turns and moves with the image, learns from true boxes, refuses what is none."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.models import Detector, average_precision, canonical_boxes, oriented_iou, turn_boxes
from pdegcnn.models.planar_detection import distance

SPACE = pg.SE2(8)


def small(classes: int = 2, **options: Any) -> Detector:
    """In double precision, with statistics that are not those of a fresh network; every peak is a box."""
    torch.manual_seed(0)
    model = pg.models.detector(classes, channels=(3, 4), layers=1, threshold=0.0, most=500, **options).double()
    for m in model.modules():
        if isinstance(m, pg.nn.BatchNorm):
            m.running_mean.uniform_(-0.5, 0.5)
            m.running_var.uniform_(0.5, 1.5)
    nn.init.normal_(model.network[-1].weight, std=0.1)
    return model.eval()


def apart(boxes: Tensor, others: Tensor) -> float:
    """Greatest difference, of angles modulo a half turn."""
    difference = boxes - others
    difference[:, 4] = torch.remainder(difference[:, 4] + math.pi / 2, math.pi) - math.pi / 2
    return float(difference.abs().max())


@pytest.mark.parametrize("angle", [90, 180, -90])
@pytest.mark.parametrize("side", [24, 27])
def test_a_turned_image_gives_turned_boxes(side: int, angle: int) -> None:
    """Also where the side is not a multiple of the stride; all peaks of an untrained network are compared."""
    model, image = small(), torch.rand(2, 1, side, side, dtype=torch.float64)
    for here, there in zip(model(image), model(SPACE.transform(image, angle=angle)), strict=True):
        assert len(here["scores"]) > 5
        torch.testing.assert_close(there["scores"], here["scores"], atol=1e-12, rtol=0)
        assert torch.equal(there["labels"], here["labels"])
        assert apart(turn_boxes(here["boxes"], angle, (side, side)), there["boxes"]) < 1e-9


def test_a_moved_image_gives_moved_boxes() -> None:
    """By multiples of the stride; what there is lies far from the border."""
    model, image = small(classes=1), torch.zeros(1, 1, 96, 96, dtype=torch.float64)
    image[..., 42:54, 40:56] = torch.rand(12, 16)
    (here,), (there,) = model(image), model(image.roll((8, -4), (-2, -1)))

    def central(found: dict[str, Tensor], x: float, y: float) -> Tensor:
        """The boxes near the place, as the background gives boxes too."""
        boxes = found["boxes"]
        return boxes[(boxes[:, 0] - x).abs().maximum((boxes[:, 1] - y).abs()) < 14]

    before, after = central(here, 48, 48), central(there, 44, 56)
    assert len(before) > 1
    assert apart(before + torch.tensor([-4, 8, 0, 0, 0.0]), after) < 1e-9


@pytest.mark.parametrize("angle", [90, 180, -90])
def test_the_loss_does_not_notice_a_turn(angle: int) -> None:
    model, image = small(), torch.rand(1, 1, 27, 27, dtype=torch.float64)
    boxes = torch.tensor([[8, 12, 14, 5, 0.4], [20, 17, 9, 8.7, 1.2]], dtype=torch.float64)
    target = {"boxes": boxes, "labels": torch.tensor([0, 1])}
    turned = {**target, "boxes": turn_boxes(boxes, angle, (27, 27))}
    here, there = model(image, [target]), model(SPACE.transform(image, angle=angle), [turned])
    torch.testing.assert_close(here, there, atol=1e-10, rtol=0)
    turn = torch.tensor([0, 0, 0, 0, math.pi], dtype=torch.float64)
    behind = {**target, "boxes": boxes + turn}
    across = {**target, "boxes": boxes[:, [0, 1, 3, 2, 4]] + turn / 2}
    for same in (behind, across):
        torch.testing.assert_close(model(image, [same]), here, atol=1e-10, rtol=0)


@given(data=st.data())
@settings(max_examples=30)
def test_laws_of_the_distance(data: st.DataObject) -> None:
    """Of two boxes: 0 for the same box, below 1, symmetric, the same for turned boxes and another way of writing."""
    row = st.tuples(*[st.floats(5, 15)] * 2, *[st.floats(1, 12)] * 2, st.floats(-4, 4))
    first, second = (torch.tensor([data.draw(row)], dtype=torch.float64) for _ in range(2))
    here = distance(first, second)
    assert 0 <= float(here) <= 1 and float(distance(first, first)) < 1e-3
    near = {"atol": 1e-6, "rtol": 0.0}  # a root is steep at zero
    torch.testing.assert_close(distance(second, first), here, **near)
    torch.testing.assert_close(distance(canonical_boxes(first), second), here, **near)
    turned = (turn_boxes(box, 33.0, (20, 20)) for box in (first, second))
    torch.testing.assert_close(distance(*turned), here, **near)
    if float(oriented_iou(first, second)) > 0.9:
        assert float(here) < 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_distance_of_the_thinnest_boxes_is_finite(dtype: torch.dtype) -> None:
    """As are its slopes: for sides, directions and places of every size that maps can hold."""
    sides = torch.tensor([0.1, 3.0, 2000.0], dtype=dtype)
    angles, places = torch.linspace(-3, 3, 5, dtype=dtype), torch.tensor([0.0, 1.0, 300.0], dtype=dtype)
    boxes = torch.cartesian_prod(places, places.flip(0), sides, sides, angles).requires_grad_()
    for other in ([0, 0, 14, 0.5, 0.2], [2, 1, 3, 3, 0]):
        came = distance(boxes, torch.tensor([other], dtype=dtype).expand(len(boxes), 5))
        (slope,) = torch.autograd.grad(came.sum(), boxes)
        assert bool(((came >= 0) & (came <= 1)).all()) and bool(slope.isfinite().all())


def test_maps_learn_the_boxes_they_are_taught() -> None:
    """With a network that returns fixed maps: long, round and close boxes of two classes."""

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.Parameter(torch.zeros(2, 7, 8, 12, 12))

        def forward(self, images: Tensor) -> Tensor:
            return self.maps

    model = Detector(Maps(), SPACE, 2, size=10.0)
    boxes = torch.tensor([[10, 12, 20, 4, 1.5], [20, 12, 20, 5, 1.4], [36, 30, 8, 7.5, 0.7], [30, 40, 24, 8, -0.6]])
    target = {"boxes": boxes, "labels": torch.tensor([0, 0, 1, 0])}
    nothing = {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.int64)}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    for _ in range(80):
        optimizer.zero_grad()
        losses = model(torch.zeros(2, 1, 48, 48), [target, nothing])
        sum(losses.values()).backward()
        optimizer.step()
    found, none = model.eval()(torch.zeros(2, 1, 48, 48))
    assert not len(none["scores"])
    assert bool((found["scores"].diff() <= 0).all()) and average_precision([found], [target], overlap=0.8) == 1
    assert len(found["scores"]) == len(boxes)
    assert len(Detector(model.network, SPACE, 2, size=10.0, most=2).eval()(torch.zeros(2, 1, 48, 48))[0]["scores"]) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_precisions(dtype: torch.dtype) -> None:
    """Boxes and scores have the dtype of the images, but float32 where these have half precision."""
    model = pg.models.detector(channels=(3,), layers=1, dtype=dtype, threshold=0.0)
    image, target = torch.rand(1, 1, 12, 12, dtype=dtype), {"boxes": torch.tensor([[6, 6, 5, 3, 0.2]], dtype=dtype)}
    losses = model(image, [target | {"labels": torch.tensor([0])}])
    sum(losses.values()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    (found,) = model.eval()(image)
    assert found["boxes"].dtype == found["scores"].dtype == torch.promote_types(dtype, torch.float32)
    assert found["labels"].dtype == torch.int64
    assert model(image[:0]) == [] and model.found(model.network(image), (12, 12))[0]["boxes"].shape[1] == 5


def test_no_gradient_is_lost_where_boxes_fit() -> None:
    """The distance and its slope are finite where both boxes are the same."""
    box = torch.tensor([[6, 6, 5, 3, 0.2]], dtype=torch.float64, requires_grad=True)
    distance(box, box.detach()).sum().backward()
    assert box.grad is not None and bool(box.grad.isfinite().all())


GOOD = {"boxes": torch.tensor([[6.0, 6, 5, 3, 0.2]]), "labels": torch.tensor([0])}


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "targets: expected a dictionary of boxes and labels for each image in training, got None"),
        ([GOOD, GOOD], "targets: expected a list of 1 dictionaries, one for each image, got 2"),
        (GOOD, "targets: expected a list of 1 dictionaries, one for each image, got dict"),
        ([{"boxes": GOOD["boxes"]}], r"targets\[0\]: expected a dictionary with boxes and labels, got \['boxes'\]"),
        ([GOOD["boxes"]], r"targets\[0\]: expected a dictionary with boxes and labels, got Tensor"),
        ([GOOD | {"boxes": torch.ones(1, 4)}], r"targets\[0\]\['boxes'\]: expected shape \[N,5\]"),
        ([GOOD | {"boxes": -GOOD["boxes"]}], r"targets\[0\]\['boxes'\]: expected positive lengths"),
        ([GOOD | {"boxes": GOOD["boxes"] * 4}], r"targets\[0\]\['boxes'\]: expected centres in the image of 12 x 12"),
        ([GOOD | {"labels": torch.tensor([1])}], r"targets\[0\]\['labels'\]: expected numbers from 0 to 0, got \[1\]"),
        (
            [GOOD | {"labels": torch.tensor([0, 0])}],
            r"targets\[0\]\['labels'\]: expected shape \[1\], one for each box",
        ),
        ([GOOD | {"labels": torch.tensor([0.0])}], r"targets\[0\]\['labels'\]: expected a tensor of int64"),
    ],
)
def test_bad_targets(targets: Any, message: str) -> None:
    model = pg.models.detector(channels=(2,), layers=1)
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        model(torch.rand(1, 1, 12, 12), targets)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Detector(nn.Identity(), SPACE, stride=0), "stride: expected"),
        (lambda: Detector(nn.Identity(), SPACE).eval()(torch.rand(1, 6, 8, 4)), "maps: expected"),
        (
            lambda: Detector(nn.Identity(), SPACE).found(torch.rand(1, 5, 8, 3, 3), (12, 12)),
            "maps: expected 6 channels",
        ),
        (lambda: Detector(nn.Identity(), SPACE).found(torch.rand(1, 6, 8, 3, 3), 12), "size: expected"),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()
