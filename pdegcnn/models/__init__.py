"""Ready networks, each a short builder. A new one is a function and a line in ``MODELS``."""

from collections.abc import Callable

from torch import nn

from pdegcnn.models.planar import rotated_digits, vessel_segmentation

MODELS: dict[str, Callable[..., nn.Module]] = {f.__name__: f for f in (rotated_digits, vessel_segmentation)}

__all__ = ["MODELS", "rotated_digits", "vessel_segmentation"]
