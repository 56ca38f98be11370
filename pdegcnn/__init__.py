"""PDE-based equivariant networks for PyTorch: layers that are solvers of evolution equations on homogeneous spaces."""

from pdegcnn import (
    export,
    functional,
    gauge,
    interop,
    io,
    kernels,
    models,
    nn,
    reversible,
    spaces,
    sphere,
    surface,
    testing,
)
from pdegcnn.io import load, save
from pdegcnn.ops.backend import backends
from pdegcnn.spaces import R2, S2, SE2, SO3, Mesh

__version__ = "0.1.0"

__all__ = [
    "R2",
    "S2",
    "SE2",
    "SO3",
    "Mesh",
    "backends",
    "export",
    "functional",
    "interop",
    "io",
    "gauge",
    "kernels",
    "load",
    "models",
    "nn",
    "reversible",
    "save",
    "spaces",
    "sphere",
    "surface",
    "testing",
]
