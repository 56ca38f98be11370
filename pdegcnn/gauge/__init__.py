r"""Gauge-equivariant layers on meshes; features are dictionaries from spin to tensor.

Spin 0 is real, ``[B,C,V]``. Spin k > 0 is complex, ``[B,C,V]``; a tangent vector has spin 1, and its argument is the
polar angle from the reference direction. If reference directions turn by ``+angles``, spin k is multiplied by
:math:`\exp(-i k \alpha)`. :func:`transform` does so to features and ``mesh.with_gauge(angles)`` to the mesh. Every
layer commutes with this change.
"""

from pdegcnn.gauge.convolution import GaugeConv
from pdegcnn.gauge.descriptors import gaussian_curvature, heat_kernel_signature, mean_curvature
from pdegcnn.gauge.diffusion import Diffusion
from pdegcnn.gauge.features import Features, transform
from pdegcnn.gauge.heads import GlobalPool, SpinMix
from pdegcnn.gauge.nonlinearity import GatedNonlinearity, NormReLU, RegularReLU, SpinNorm, TensorProduct
from pdegcnn.gauge.pooling import MeshPool, MeshUnpool

__all__ = [
    "Diffusion",
    "Features",
    "GaugeConv",
    "GatedNonlinearity",
    "GlobalPool",
    "NormReLU",
    "MeshPool",
    "TensorProduct",
    "RegularReLU",
    "SpinMix",
    "SpinNorm",
    "MeshUnpool",
    "gaussian_curvature",
    "heat_kernel_signature",
    "mean_curvature",
    "transform",
]
