"""Boxes on the sphere: areas, intersections, peaks; the detector's maps turn with the signal."""

import math

import pytest
import torch

import pdegcnn as pg
from pdegcnn.models.detection_scores import average_precision
from pdegcnn.models.spherical_boxes import SphericalBoxes, box_area, box_iou
from pdegcnn.models.spherical_detection import detection_loss, find_boxes, spherical_detector

SPACE = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(16), orientations=8)


def turns(count, seed=0, spread=3.0):
    """Rotations by vectors of random length."""
    vectors = spread * torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return SPACE.to_matrix(SPACE.exp(vectors))


def halves(count, seed=0):
    return 0.1 + 1.2 * torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def inside(points, rotations, half):
    q = torch.einsum("nji,kj->nki", rotations, points)
    return ((q[..., :2].abs() <= half[:, None].tan() * q[..., 2:]) & (q[..., 2:] > 0)).all(-1)


def test_area_and_intersection_agree_with_quadrature():
    grid = pg.sphere.SphereGrid.gauss_legendre(300)
    points, weights = grid.xyz.reshape(-1, 3), grid.weights.flatten()
    first, second = (turns(3, 0, 0.4), halves(3, 0)), (turns(4, 1, 0.4), halves(4, 1))
    a, b = inside(points, *first), inside(points, *second)
    torch.testing.assert_close(box_area(first[1]), a.double() @ weights, atol=0.02, rtol=0)
    common = torch.einsum("nk,mk,k->nm", a.double(), b.double(), weights)
    either = torch.einsum("nk,k->n", a.double(), weights)[:, None] + b.double() @ weights - common
    torch.testing.assert_close(box_iou(*first, *second), common / either, atol=0.01, rtol=0)  # edges cut cells
    assert box_iou(*first, *second).max() > 0.1


def test_laws_of_the_intersection():
    first, second = (turns(5, 2, 0.5), halves(5, 2)), (turns(6, 3, 0.5), halves(6, 3))
    iou, turn = box_iou(*first, *second), turns(1, 9)[0]
    assert bool(((iou >= 0) & (iou <= 1)).all())
    torch.testing.assert_close(iou, box_iou(*second, *first).T, atol=1e-12, rtol=0)
    torch.testing.assert_close(iou, box_iou(turn @ first[0], first[1], turn @ second[0], second[1]), atol=1e-12, rtol=0)
    torch.testing.assert_close(box_iou(*first, *first).diagonal(), torch.ones(5).double(), atol=1e-12, rtol=0)
    half_turn, quarter = (
        torch.diag(torch.tensor([-1.0, -1, 1])).double(),
        torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double(),
    )
    torch.testing.assert_close(box_iou(first[0] @ half_turn, first[1], *second), iou, atol=1e-12, rtol=0)
    torch.testing.assert_close(box_iou(first[0] @ quarter, first[1].flip(1), *second), iou, atol=1e-12, rtol=0)
    behind = torch.diag(torch.tensor([1.0, -1, -1])).double()
    assert bool((box_iou(first[0] @ behind, first[1] / 2, first[0], first[1] / 2).diagonal() == 0).all())
    smaller = box_iou(first[0], first[1] / 2, *first).diagonal()
    torch.testing.assert_close(smaller, box_area(first[1] / 2) / box_area(first[1]), atol=1e-12, rtol=0)


def test_small_boxes_are_flat_and_large_ones_a_hemisphere():
    assert float(box_area(torch.tensor([1e-3, 2e-3]).double())) == pytest.approx(8e-6, rel=1e-5)
    with pytest.raises(ValueError, match=r"half_angles: expected shape \[..., 2\], got \(3,\)"):
        box_area(torch.ones(3))
    assert float(box_area(torch.tensor([math.pi / 2, math.pi / 2]).double())) == pytest.approx(2 * math.pi)


def planted(where):
    """Maps with smooth peaks of given heights at samples (class, fibre, ring, longitude)."""
    maps = torch.full((1, 5, 8, *SPACE.grid.shape), -8.0)
    for (kind, k, i, j), height in where.items():
        near = torch.exp(20 * (SPACE.grid.xyz @ SPACE.grid.xyz[i, j] - 1)).float()
        maps[0, kind, k] = torch.maximum(maps[0, kind, k], -8 + (height + 8) * near)
    maps[0, 3:] = torch.logit(torch.tensor([0.2, 0.4]))[:, None, None, None]
    return maps


def test_planted_boxes_are_found_and_lesser_neighbours_are_not():
    maps = planted({(0, 2, 4, 5): 3.0, (2, 7, 11, 20): 2.0, (1, 0, 12, 22): 1.0})
    (boxes,) = find_boxes(maps, SPACE, radius=0.4)
    assert boxes.labels.tolist() == [0, 2] and boxes.scores.tolist() == pytest.approx(
        torch.tensor([3.0, 2]).sigmoid().tolist()
    )
    torch.testing.assert_close(boxes.half_angles, torch.tensor([[0.2, 0.4]]).expand(2, 2) * math.pi / 2)
    grid = SPACE.grid
    for box, (k, i, j) in zip(boxes.rotations, ((2, 4, 5), (7, 11, 20))):
        theta, phi, gamma = grid.theta[i], 2 * math.pi * j / grid.nlon, 2 * math.pi * k / 8
        z, y = (lambda t: torch.tensor([0, 0, t]).double()), torch.tensor([0, theta, 0]).double()
        expected = [SPACE.to_matrix(SPACE.exp(v)) for v in (z(phi), y, z(gamma))]
        torch.testing.assert_close(box.double(), expected[0] @ expected[1] @ expected[2], atol=1e-6, rtol=0)
    (close,) = find_boxes(maps, SPACE, radius=0.25)
    assert close.labels.tolist() == [0, 2, 1]
    (one,) = find_boxes(maps, SPACE, radius=0.25, most=1)
    assert one.labels.tolist() == [0]
    assert find_boxes(maps, SPACE, threshold=0.99)[0].rotations.shape == (0, 3, 3)


def test_boxes_turn_with_the_signal():
    torch.manual_seed(0)
    model = spherical_detector(SPACE.grid, classes=3, width=4, layers=1).eval()
    signal = torch.rand(1, 1, *SPACE.grid.shape)
    rotation = SPACE.to_matrix(SPACE.exp(torch.tensor([0, 0, 5 * 2 * math.pi / SPACE.grid.nlon]).double()))
    with torch.no_grad():
        (here,), (there,) = (
            find_boxes(model(x), SPACE, threshold=0.0) for x in (signal, SPACE.transform(signal, rotation=rotation))
        )
    assert len(here.scores) == len(there.scores) > 1
    torch.testing.assert_close(here.scores, there.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(rotation.float() @ here.rotations[0], there.rotations[0], atol=1e-4, rtol=0)


def some_boxes(count, seed, labels=None, scores=None):
    labels = torch.zeros(count, dtype=torch.int64) if labels is None else torch.tensor(labels)
    scores = torch.ones(count) if scores is None else torch.tensor(scores)
    return SphericalBoxes(turns(count, seed), halves(count, seed) / 4, labels, scores)


def test_average_precision_of_known_lists():
    truth = [some_boxes(2, 0, [0, 1]), some_boxes(1, 1, [0])]
    assert average_precision(truth, truth) == 1
    wrong_labels = [boxes._replace(labels=1 - boxes.labels) for boxes in truth]
    assert average_precision(wrong_labels, truth) == 0 and average_precision(wrong_labels, truth, labelled=False) == 1
    none = [some_boxes(0, 0), some_boxes(0, 0)]
    assert average_precision(none, truth) == 0

    def joined(*parts):
        return SphericalBoxes(*(torch.cat(x) for x in zip(*parts)))

    stray = some_boxes(1, 9, [0], [0.5])._replace(half_angles=torch.full((1, 2), 1e-3).double())
    first, second = (boxes._replace(scores=boxes.scores * s) for boxes, s in zip(truth, (0.9, 0.4)))
    # class 0: right, stray, right: precision 1 up to recall 1/2, then 2/3; class 1: right
    assert average_precision([joined(first, stray), second], truth) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    twice = [joined(truth[0], truth[0]._replace(scores=torch.full((2,), 2.0))), truth[1]]
    assert average_precision(twice, truth) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)  # the second of two is wrong
    turn = turns(1, 5)[0]
    moved, there = ([b._replace(rotations=turn @ b.rotations) for b in boxes] for boxes in (twice, truth))
    assert average_precision(moved, there) == average_precision(twice, truth)


def test_the_loss_is_least_where_the_boxes_are():
    truth = [some_boxes(2, 3, [0, 2])._replace(half_angles=torch.tensor([[0.3, 0.4], [0.5, 0.6]]).double())]
    maps = torch.zeros(1, 5, 8, *SPACE.grid.shape, requires_grad=True)
    optimizer = torch.optim.Adam([maps], lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        value = detection_loss(maps, SPACE, truth)
        value.backward()
        optimizer.step()
    assert value < 0.05
    (found,) = find_boxes(maps.detach(), SPACE, radius=0.4)
    assert sorted(found.labels.tolist()) == [0, 2]
    assert average_precision([found], truth) == 1
    turned = [truth[0]._replace(rotations=turns(1, 8) @ truth[0].rotations)]
    assert detection_loss(maps, SPACE, turned) > 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_boxes(torch.zeros(1, 2, 8, 16, 32), SPACE), "maps: expected at least one class"),
        (lambda: find_boxes(torch.zeros(1, 5, 7, 16, 32), SPACE), "maps: expected 8 orientations"),
        (lambda: find_boxes(torch.zeros(1, 5, 8, 16, 32), SPACE, radius=0.0), "radius"),
        (lambda: find_boxes(torch.zeros(1, 5, 8, 16, 32), SPACE, threshold=2.0), "threshold"),
        (lambda: box_iou(turns(2), halves(3), turns(2), halves(2)), r"half_angles: expected \[N,2\]"),
        (lambda: box_iou(turns(2), halves(2), turns(2), 9 * halves(2)), r"other_half_angles: expected radians"),
        (lambda: detection_loss(torch.zeros(2, 5, 8, 16, 32), SPACE, [some_boxes(1, 0)]), "truth: expected boxes of 2"),
        (lambda: detection_loss(torch.zeros(1, 3, 8, 16, 32), SPACE, [some_boxes(1, 0, [1])]), "labels from 0 to 0"),
        (lambda: average_precision([], [some_boxes(1, 0)]), "found: expected boxes of all 1"),
        (lambda: average_precision([some_boxes(0, 0)], [some_boxes(0, 0)]), "must hold a box"),
        (lambda: average_precision([some_boxes(1, 0, [0], [float("nan")])], [some_boxes(1, 0)]), "scores .* got NaN"),
        (lambda: box_iou(2 * turns(2), halves(2), turns(2), halves(2)), "rotations: expected orthogonal"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
