"""Metrics, approximations of distances, and the kernels of dilation, erosion and diffusion."""

from pdegcnn.kernels.diffusion import diffusion_profile
from pdegcnn.kernels.distance import DISTANCES
from pdegcnn.kernels.metric import METRICS, SPD, Axisymmetric, Diagonal, Finsler, Metric, Randers, as_metric
from pdegcnn.kernels.morphological import morphological_kernel

__all__ = [
    "DISTANCES",
    "METRICS",
    "SPD",
    "Axisymmetric",
    "Diagonal",
    "Finsler",
    "Metric",
    "Randers",
    "as_metric",
    "diffusion_profile",
    "morphological_kernel",
]
