"""PDE-based equivariant networks for PyTorch: layers that are solvers of evolution equations on homogeneous spaces."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        vessels,
    )
    from pdegcnn.io import load, save
    from pdegcnn.ops.backend import backends
    from pdegcnn.spaces import R2, R3, S2, SE2, SO3, Mesh

__version__ = "0.1.0"

__all__ = [
    "R2",
    "R3",
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
    "vessels",
]

_HOMES = {"backends": "ops.backend", "load": "io", "save": "io"} | dict.fromkeys(
    ("R2", "R3", "S2", "SE2", "SO3", "Mesh"), "spaces"
)
"""Where the names are that are not packages."""


def __getattr__(name: str) -> Any:
    """Import a part of the library when it is first asked for: ``import pdegcnn`` alone takes no time."""
    if name in _HOMES:
        value = getattr(importlib.import_module(f"pdegcnn.{_HOMES[name]}"), name)
    elif name in __all__ or name in ("ops", "pde"):
        value = importlib.import_module(f"pdegcnn.{name}")
    else:
        raise AttributeError(f"module 'pdegcnn' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
