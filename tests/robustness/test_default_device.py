"""Functions work where their arguments are, whatever torch's default device is: tables on it would have no values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import pdegcnn as pg
from pdegcnn.functional import cake_lift, diffusion, dilation, erosion, project

from ..helpers import GRID_CASES, signal

BOXES = torch.tensor([[8.0, 8.0, 6.0, 2.0, 0.0], [8.5, 8.0, 6.0, 2.0, 0.1], [3.0, 3.0, 4.0, 2.0, 1.0]])
SCORES, LABELS = torch.tensor([0.6, 0.9, 0.5]), torch.tensor([0, 0, 1])
FRAME, HALF = torch.eye(3, dtype=torch.float64)[None], torch.full((1, 2), 0.3, dtype=torch.float64)
GROUP = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(5), 7)
MAPS = torch.randn(1, 4, 7, 5, 10)
TRUTH = [pg.models.SphericalBoxes(FRAME, HALF, LABELS[:1], SCORES[:1])]
IMAGES = torch.rand(1, 1, 7, 6)
FOUND: list[Any] = [{"boxes": BOXES, "scores": SCORES, "labels": LABELS}]
FUNCTIONS: dict[str, Callable[[], Any]] = {
    "oriented_iou": lambda: pg.models.oriented_iou(BOXES, BOXES),
    "oriented_nms": lambda: pg.models.oriented_nms(BOXES, SCORES, labels=LABELS),
    "box_iou": lambda: pg.models.box_iou(FRAME, HALF, FRAME, HALF),
    "find_boxes": lambda: pg.models.find_boxes(MAPS, GROUP, radius=0.7, threshold=0.1)[0].scores,
    "detection_loss": lambda: pg.models.detection_loss(MAPS, GROUP, TRUTH),
    "average_precision": lambda: torch.tensor(pg.models.average_precision(FOUND, FOUND), device="cpu"),
    "average_precision on the sphere": lambda: torch.tensor(pg.models.average_precision(TRUTH, TRUTH), device="cpu"),
    "cake_lift": lambda: cake_lift(IMAGES, pg.SE2(6)),
    "project": lambda: project(IMAGES[:, :, None].expand(1, 1, 6, 7, 6), pg.SE2(6), "dilated"),
}


def on_both(function: Callable[[], torch.Tensor]) -> None:
    torch.set_default_device("meta")
    try:
        found = function()
    finally:
        torch.set_default_device(None)
    assert found.device.type == "cpu"
    assert torch.equal(found, function())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_models_do_not_follow_the_default_device(name: str) -> None:
    on_both(FUNCTIONS[name])


@pytest.mark.parametrize("filters", ["bspline", "steerable", "smooth", "cake"])
def test_filters_do_not_follow_the_default_device(filters: str) -> None:
    def lifted() -> torch.Tensor:
        lift = pg.nn.Lift(pg.SE2(8), 1, 2, 5, filters=filters, device="cpu")
        for weight in lift.parameters():
            torch.nn.init.constant_(weight, 0.5)
        return lift(IMAGES)

    on_both(lifted)


@pytest.mark.parametrize("options", [{"kernel_size": "auto"}, {}, {"kernel_size": "auto", "oversample": 3}], ids=str)
@pytest.mark.parametrize("term", (dilation, erosion, diffusion))
@pytest.mark.parametrize("space", GRID_CASES, ids=str)
def test_terms_do_not_follow_the_default_device(space: Any, term: Any, options: dict[str, Any]) -> None:
    if term is diffusion and "oversample" in options:
        options = {"kernel_size": "auto", "method": "sampled"}
    u, w = signal(space, (4, 5)), torch.full((space.dim,), 2.0, dtype=torch.float64)
    on_both(lambda: term(u, space, w, **options))


def test_more_orientations_do_not_follow_the_default_device() -> None:
    u = signal(pg.SE2(6), (4, 5), channels=1)
    w = torch.full((3,), 1.5, dtype=torch.float64)
    for term in (dilation, diffusion):
        on_both(lambda term=term: term(u, pg.SE2(6), w, inner_orientations=10, kernel_size=3))
