"""The data sets of the examples under their former name, where the package ``pdegcnn-examples`` is installed."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        datasets = importlib.import_module("pdegcnn_examples.datasets")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"pdegcnn.data: expected the package pdegcnn-examples, got: {error}; install it by "
            "`pip install ./examples` in the project's folder"
        ) from error
    return getattr(datasets, name)
