"""PDE-based equivariant networks for PyTorch: layers that are solvers of evolution equations on homogeneous spaces."""

from pdegcnn import functional, kernels, models, nn, reversible, spaces, sphere, testing
from pdegcnn.ops.backend import backends
from pdegcnn.spaces import R2, S2, SE2, SO3

__version__ = "0.1.0"

__all__ = [
    "R2",
    "S2",
    "SE2",
    "SO3",
    "backends",
    "functional",
    "kernels",
    "models",
    "nn",
    "reversible",
    "spaces",
    "sphere",
    "testing",
]
