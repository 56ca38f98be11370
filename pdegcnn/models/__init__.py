"""Ready networks, each a short builder. A new one is a function and a line in ``MODELS``."""

from collections.abc import Callable

from torch import nn

from pdegcnn.models._recipe import recorded
from pdegcnn.models.hyperbolic import (
    equivariant_hyperbolic_segmenter,
    hyperbolic_classifier,
    hyperbolic_segmenter,
    video_segmenter,
)
from pdegcnn.models.planar import TwoScales, rotated_digits, vessel_segmentation
from pdegcnn.models.spherical import spherical_classifier, spherical_segmenter
from pdegcnn.models.spherical_boxes import SphericalBoxes, average_precision, box_area, box_iou
from pdegcnn.models.spherical_detection import detection_loss, find_boxes, spherical_detector
from pdegcnn.models.tiles import tiled
from pdegcnn.models.unet import unet

# each network remembers how it was built, so that it can be saved and built again
rotated_digits = recorded(rotated_digits)
vessel_segmentation = recorded(vessel_segmentation)
hyperbolic_classifier = recorded(hyperbolic_classifier)
hyperbolic_segmenter = recorded(hyperbolic_segmenter)
video_segmenter = recorded(video_segmenter, hyperbolic_segmenter)
equivariant_hyperbolic_segmenter = recorded(equivariant_hyperbolic_segmenter)
spherical_classifier = recorded(spherical_classifier)
spherical_segmenter = recorded(spherical_segmenter)
spherical_detector = recorded(spherical_detector)
unet = recorded(unet)

MODELS: dict[str, Callable[..., nn.Module]] = {
    f.__name__: f
    for f in (
        rotated_digits,
        vessel_segmentation,
        hyperbolic_classifier,
        hyperbolic_segmenter,
        video_segmenter,
        equivariant_hyperbolic_segmenter,
        spherical_classifier,
        spherical_segmenter,
        spherical_detector,
        unet,
    )
}

__all__ = [
    "MODELS",
    "SphericalBoxes",
    "TwoScales",
    "average_precision",
    "box_area",
    "box_iou",
    "detection_loss",
    "equivariant_hyperbolic_segmenter",
    "find_boxes",
    "hyperbolic_classifier",
    "hyperbolic_segmenter",
    "rotated_digits",
    "spherical_classifier",
    "spherical_detector",
    "spherical_segmenter",
    "tiled",
    "unet",
    "vessel_segmentation",
    "video_segmenter",
]
