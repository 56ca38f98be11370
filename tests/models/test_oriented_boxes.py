"""Oriented boxes: overlaps beside counted points, the laws of a box, suppression beside its definition."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import pdegcnn as pg
from pdegcnn.models import average_precision, canonical_boxes, oriented_iou, oriented_nms, turn_boxes

QUARTER = math.pi / 2
NUMBER = st.floats(-20, 20, allow_subnormal=False)
SIDE = st.floats(0.5, 20)
BOX = st.tuples(NUMBER, NUMBER, SIDE, SIDE, st.floats(-7, 7)).map(lambda row: torch.tensor([row], dtype=torch.float64))


def some_boxes(count: int, seed: int = 0) -> Tensor:
    """Boxes in an image of 32 x 32 pixels, many of which meet."""
    low, high = torch.tensor([[10, 10, 2, 1, -7], [22, 22, 14, 8, 7]], dtype=torch.float64)
    draw = torch.rand(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return low + (high - low) * draw


def inside(boxes: Tensor, points: Tensor) -> Tensor:
    """Which points ``[K,2]`` lie in which box, ``[N,K]``: their coordinates along and across it are short enough."""
    away = torch.complex(*(points[None] - boxes[:, None, :2]).unbind(-1)) * torch.exp(-1j * boxes[:, 4, None])
    return (away.real.abs() <= boxes[:, 2, None] / 2) & (away.imag.abs() <= boxes[:, 3, None] / 2)


def corners(boxes: Tensor) -> Tensor:
    """Corners ``[N,4]`` as complex numbers, in an order that does not depend on how a box is written."""
    signs = torch.tensor([1 + 1j, -1 + 1j, -1 - 1j, 1 - 1j], dtype=torch.complex128)
    half = torch.complex(boxes[:, 2, None] * signs.real / 2, boxes[:, 3, None] * signs.imag / 2)
    found = torch.complex(boxes[:, 0, None], boxes[:, 1, None]) + half * torch.exp(1j * boxes[:, 4, None])
    order = (found.real + math.pi * found.imag).argsort(1)
    return found.gather(1, order)


def test_overlaps_agree_with_counted_points() -> None:
    first, second = some_boxes(12), some_boxes(10, 1)
    line = (torch.arange(400, dtype=torch.float64) + 0.5) * 0.08
    points = torch.cartesian_prod(line, line)
    a, b = inside(first, points).float(), inside(second, points).float()
    common = a @ b.T
    counted = common / (a.sum(1)[:, None] + b.sum(1) - common)
    assert 0.3 < counted.max() < 1
    torch.testing.assert_close(oriented_iou(first, second), counted.double(), atol=0.02, rtol=0)  # edges cut cells


@given(first=BOX, second=BOX, motion=st.tuples(NUMBER, NUMBER, st.floats(-180, 180)))
@settings(max_examples=60)
def test_laws_of_the_overlap(first: Tensor, second: Tensor, motion: tuple[float, float, float]) -> None:
    """Symmetric, at most 1, the same for moved boxes and however a box is written."""
    iou = oriented_iou(first, second)
    assert bool(((iou >= 0) & (iou <= 1)).all())
    near = {"atol": 1e-9, "rtol": 0.0}
    torch.testing.assert_close(oriented_iou(second, first), iou, **near)
    torch.testing.assert_close(oriented_iou(first, first), torch.ones_like(iou), **near)
    torch.testing.assert_close(oriented_iou(canonical_boxes(first), second), iou, **near)
    shift = torch.tensor([[*motion[:2], 0, 0, 0]], dtype=torch.float64)
    moved = (turn_boxes(box + shift, motion[2], (9, 12)) for box in (first, second))
    torch.testing.assert_close(oriented_iou(*moved), iou, **near)
    parts = torch.tensor([[1, 1, 0.5, 0.25, 1.0]]).double() * first
    torch.testing.assert_close(oriented_iou(first, parts), torch.full_like(iou, 0.125), **near)


def test_known_overlaps() -> None:
    square = torch.tensor([[5, 5, 4, 4, 0.0]], dtype=torch.float64)
    others = [[5, 5, 4, 4, QUARTER], [5, 5, 4, 4, QUARTER / 2], [7, 5, 4, 4, 0], [9, 5, 4, 4, 0], [40, 5, 4, 4, 1]]
    wanted = [[1, math.sqrt(0.5), 1 / 3, 0, 0]]
    came = oriented_iou(square, torch.tensor(others, dtype=torch.float64))
    torch.testing.assert_close(came, torch.tensor(wanted, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (
        oriented_iou(square[:0], square).shape == (0, 1) and oriented_iou(square.float(), square).dtype == torch.float32
    )


@given(box=BOX)
@settings(max_examples=60)
def test_a_box_has_one_way_to_be_written(box: Tensor) -> None:
    x, y, length, width, angle = canonical_boxes(box)[0].tolist()
    assert length >= width and -QUARTER <= angle < QUARTER and (x, y) == tuple(box[0, :2].tolist())
    torch.testing.assert_close(corners(canonical_boxes(box)), corners(box), atol=1e-9, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (11, 18), (15, 8)])
@pytest.mark.parametrize("angle", [90, 180, -90, 450])
def test_boxes_turn_with_the_image(size: tuple[int, int], angle: int) -> None:
    """The pixels in a turned box are those that were in the box, turned."""
    box = torch.tensor([[6.0, 4.3, 7.0, 3.0, 0.4]], dtype=torch.float64)

    def pixels(box: Tensor, size: tuple[int, int]) -> Tensor:
        rows, columns = (torch.arange(n) + 0.5 for n in size)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return inside(box, torch.stack((x, y), -1).reshape(-1, 2).double()).view(1, 1, *size).double()

    turned = pg.SE2(4).transform(pixels(box, size), angle=angle)
    if size[0] == size[1] or angle % 180 == 0:
        assert torch.equal(pixels(turn_boxes(box, angle, size), (turned.shape[-2], turned.shape[-1])), turned)
    back = turn_boxes(turn_boxes(box, angle, size), -angle, size[::-1] if angle % 180 else size)
    torch.testing.assert_close(back, box, atol=1e-12, rtol=0)


@given(seed=st.integers(0, 100), overlap=st.floats(0.05, 0.95), classes=st.sampled_from([1, 3]))
@settings(max_examples=30)
def test_what_is_kept_is_what_the_definition_keeps(seed: int, overlap: float, classes: int) -> None:
    boxes, random = some_boxes(12, seed), torch.Generator().manual_seed(seed)
    scores, labels = torch.rand(12, generator=random), torch.randint(classes, (12,), generator=random)
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        rivals = [k for k in kept if labels[k] == labels[i]]
        if not rivals or float(oriented_iou(boxes[i : i + 1], boxes[rivals]).max()) <= overlap:
            kept.append(i)
    assert oriented_nms(boxes, scores, overlap, labels if classes > 1 else None).tolist() == kept
    order = torch.randperm(12, generator=random)
    moved = oriented_nms(boxes[order], scores[order], overlap, labels[order] if classes > 1 else None)
    assert order[moved].tolist() == kept


def test_average_precision_of_known_lists() -> None:
    boxes = torch.tensor([[8, 8, 9, 4, 0.3], [20, 8, 9, 4, -0.3], [14, 20, 6, 6, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 0])
    truth = [{"boxes": boxes[:2], "labels": labels[:2]}, {"boxes": boxes[2:], "labels": labels[2:]}]

    def found(*rows: tuple[int, int, float]) -> dict[str, Tensor]:
        """Box, label and score."""
        place, label, score = (torch.tensor(column) for column in zip(*rows))
        return {"boxes": boxes[place], "labels": label, "scores": score}

    whole = [found((0, 0, 0.9), (1, 1, 0.8)), found((2, 0, 0.7))]
    assert average_precision(whole, truth) == 1
    swapped = [found((0, 1, 0.9), (1, 0, 0.8)), found((2, 1, 0.7))]
    assert average_precision(swapped, truth) == 0 and average_precision(swapped, truth, labelled=False) == 1
    # class 0: right, in the other image, right: precision 1 up to recall 1/2, then 2/3; class 1: right
    stray = [found((0, 0, 0.9), (1, 1, 0.8), (2, 0, 0.75)), found((2, 0, 0.7))]
    assert average_precision(stray, truth) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    twice = [found((0, 0, 0.9), (0, 0, 0.8), (1, 1, 0.8)), found((2, 0, 0.7))]  # the second of two is wrong
    assert average_precision(twice, truth) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    sphere = pg.models.SphericalBoxes(torch.eye(3)[None], torch.ones(1, 2), torch.zeros(1).long(), torch.ones(1))
    with pytest.raises(ValueError, match=r"scores of found\[1\]: expected numbers, got NaN"):
        average_precision([whole[0], found((2, 0, math.nan))], truth)
    with pytest.raises(TypeError, match="found: expected boxes as in truth"):
        average_precision([sphere, sphere], truth)
