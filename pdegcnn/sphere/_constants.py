"""Constant arrays of a degree, made once by numpy, that compiled graphs take as the results of one opaque operator."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks

_MAKERS: dict[str, Callable[[int], np.ndarray]] = {}


def constant(function: Callable[[int], np.ndarray]) -> Callable[[int, torch.device | str | None], Tensor]:
    """Turn a maker of an array (float64 or int64) from a degree into a cached maker of the tensor, on a device.

    Tracing would take the maker itself apart, through an imitation of numpy that is not always right.
    """
    name = f"{function.__module__}.{function.__name__}"
    _MAKERS[name] = functools.lru_cache(maxsize=64)(function)

    @functools.wraps(function)
    def tensor(degree: int, device: torch.device | str | None = None) -> Tensor:
        if _checks.is_compiling():
            return _opaque(name, degree).to(device)
        return torch.from_numpy(_MAKERS[name](degree)).to(device)

    return tensor  # type: ignore[return-value]


@torch.library.custom_op("pdegcnn::sphere_constant", mutates_args=())
def _opaque(name: str, degree: int) -> Tensor:
    return torch.from_numpy(_MAKERS[name](degree).copy())


@_opaque.register_fake
def _(name: str, degree: int) -> Tensor:
    array = _MAKERS[name](degree)
    return torch.empty(array.shape, dtype=torch.int64 if array.dtype == np.int64 else torch.float64)
