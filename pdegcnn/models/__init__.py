"""Ready-made networks: builder functions and their table ``MODELS``, to which new builders are added."""

from collections.abc import Callable

from torch import nn

from pdegcnn.models._recipe import recorded
from pdegcnn.models.detection_scores import average_precision
from pdegcnn.models.hyperbolic import (
    equivariant_hyperbolic_segmenter,
    hyperbolic_classifier,
    hyperbolic_segmenter,
    video_segmenter,
)
from pdegcnn.models.oriented_boxes import canonical_boxes, oriented_iou, oriented_nms, turn_boxes
from pdegcnn.models.planar import TwoScales, rotated_digits, vessel_segmentation
from pdegcnn.models.planar_detection import Detector, detector
from pdegcnn.models.spherical import spherical_classifier, spherical_segmenter
from pdegcnn.models.spherical_boxes import SphericalBoxes, box_area, box_iou
from pdegcnn.models.spherical_detection import detection_loss, find_boxes, spherical_detector
from pdegcnn.models.tiles import tiled
from pdegcnn.models.unet import unet

# each network remembers how it was built, so that it can be saved and built again
rotated_digits = recorded(rotated_digits)
vessel_segmentation = recorded(vessel_segmentation)
hyperbolic_classifier = recorded(hyperbolic_classifier)
hyperbolic_segmenter = recorded(hyperbolic_segmenter)
video_segmenter = recorded(video_segmenter)
equivariant_hyperbolic_segmenter = recorded(equivariant_hyperbolic_segmenter)
spherical_classifier = recorded(spherical_classifier)
spherical_segmenter = recorded(spherical_segmenter)
spherical_detector = recorded(spherical_detector)
detector = recorded(detector)
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
        detector,
        unet,
    )
}

__all__ = [
    "MODELS",
    "Detector",
    "SphericalBoxes",
    "TwoScales",
    "average_precision",
    "box_area",
    "box_iou",
    "canonical_boxes",
    "detection_loss",
    "detector",
    "equivariant_hyperbolic_segmenter",
    "find_boxes",
    "hyperbolic_classifier",
    "hyperbolic_segmenter",
    "oriented_iou",
    "oriented_nms",
    "rotated_digits",
    "spherical_classifier",
    "spherical_detector",
    "spherical_segmenter",
    "tiled",
    "turn_boxes",
    "unet",
    "vessel_segmentation",
    "video_segmenter",
]
