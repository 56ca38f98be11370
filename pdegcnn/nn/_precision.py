"""Precision of layers inside ``torch.autocast``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks


def run_in_parameter_dtype(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a module's ``forward(u, ...)`` run in the dtype of its parameters under autocast.

    Kernels are powers of distances, which half precision does not resolve; as with batch norm, autocast stays outside.
    """

    @wraps(forward)
    def run(self: nn.Module, u: object, *args: Any, **kwargs: Any) -> Tensor:
        if not (isinstance(u, Tensor) and _checks.autocasts(u.device)):
            return forward(self, u, *args, **kwargs)
        with torch.autocast(u.device.type, enabled=False):
            return forward(self, u.to(next(self.parameters()).dtype), *args, **kwargs)

    return run
