"""What layers do inside ``torch.autocast``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._modules import parameter


def run_in_parameter_dtype(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a module's ``forward`` run in the dtype of its parameters under autocast.

    Kernels are powers of distances, which half precision does not resolve; as with batch norm, autocast stays outside.
    """

    first = list(inspect.signature(forward).parameters)[1]

    @wraps(forward)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        u = args[0] if args else kwargs.get(first)
        if not (isinstance(u, Tensor) and _checks.autocasts(u.device)):
            return forward(self, *args, **kwargs)
        u = u.to(parameter(self).dtype)
        args, kwargs = ((u, *args[1:]), kwargs) if args else ((), {**kwargs, first: u})
        with torch.autocast(u.device.type, enabled=False):
            return forward(self, *args, **kwargs)

    return run
