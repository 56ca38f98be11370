"""Vessels in photographs of the retina: reading, preparation, segmentation, overlays; used by ``pdegcnn vessels``."""

from pdegcnn.vessels.field import Field, find_field
from pdegcnn.vessels.photograph import Prepared, prepare, read, restore
from pdegcnn.vessels.segmentation import Vessels, overlay, probability, segment

__all__ = [
    "Field",
    "Prepared",
    "Vessels",
    "find_field",
    "overlay",
    "prepare",
    "probability",
    "read",
    "restore",
    "segment",
]
