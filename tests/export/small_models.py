"""The smallest of every listed network; a new one must be entered here."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

import pdegcnn as pg
from pdegcnn.models import MODELS

GRID = pg.sphere.SphereGrid.gauss_legendre(4)
TINY = {"terms": ("convection", "dilation"), "kernel_size": 3}
LINEAR, MORPHOLOGY = {"terms": ("convection",)}, {"terms": ("dilation",), "kernel_size": 3}
SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "rotated_digits": (lambda: MODELS["rotated_digits"](3, channels=(2, 2), size=8, **TINY), (2, 1, 12, 12)),
    "vessel_segmentation": (lambda: MODELS["vessel_segmentation"](2, layers=3, channels=2, **TINY), (2, 2, 9, 8)),
    "hyperbolic_classifier": (lambda: MODELS["hyperbolic_classifier"](2, 3, 2, 1, 1), (2, 2, 8, 7)),
    "hyperbolic_segmenter": (lambda: MODELS["hyperbolic_segmenter"](2, 3, 2, 1, 1), (2, 2, 8, 7)),
    "video_segmenter": (lambda: MODELS["video_segmenter"](2, 3, 2, 1, 1, rank=2), (2, 2, 4, 4, 6)),
    "equivariant_hyperbolic_segmenter": (
        lambda: MODELS["equivariant_hyperbolic_segmenter"](2, 2, 2, 1, orientations=4, **TINY), (2, 2, 8, 7),
    ),
    "spherical_classifier": (
        lambda: MODELS["spherical_classifier"](GRID, 3, channels=(2, 2), fibre=3, **LINEAR), (2, 1, 4, 8),
    ),
    "spherical_segmenter": (
        lambda: MODELS["spherical_segmenter"](GRID, width=2, levels=2, fibre=3, **TINY), (2, 1, 4, 8),
    ),
    "spherical_detector": (
        lambda: MODELS["spherical_detector"](GRID, 2, width=2, layers=1, fibre=3, **MORPHOLOGY), (2, 1, 4, 8),
    ),
    "detector": (
        lambda: MODELS["detector"](space=pg.SE2(4), channels=(2,), layers=1, threshold=0.0, **LINEAR), (2, 1, 8, 7),
    ),
    "unet": (lambda: MODELS["unet"](pg.SE2(4), channels=(2, 2), **MORPHOLOGY), (2, 1, 7, 8)),
}  # fmt: skip
"""Builder and shape of an input."""


def of_tensors(model: nn.Module) -> nn.Module:
    """The part of a network that gives tensors: of a detector, what computes its maps."""
    return model.network if isinstance(model, pg.models.Detector) else model
