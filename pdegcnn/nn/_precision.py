"""Precision of layers inside ``torch.autocast``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._modules import parameter

Layer = TypeVar("Layer", bound=nn.Module)
P = ParamSpec("P")


def run_in_parameter_dtype(
    forward: Callable[Concatenate[Layer, P], Tensor],
) -> Callable[Concatenate[Layer, P], Tensor]:
    """Let a module's ``forward(u, ...)`` run in the dtype of its parameters under autocast.

    Kernels are powers of distances, which half precision does not resolve; as with batch norm, autocast stays outside.
    """
    signal = list(inspect.signature(forward).parameters)[1]

    @wraps(forward)
    def run(self: Layer, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        u: object = args[0] if args else kwargs.get(signal)
        if not (isinstance(u, Tensor) and _checks.autocasts(u.device)):
            return forward(self, *args, **kwargs)
        converted = u.to(parameter(self).dtype)
        call = cast("Callable[..., Tensor]", forward)
        with torch.autocast(u.device.type, enabled=False):
            if args:
                return call(self, converted, *args[1:], **kwargs)
            return call(self, **{**kwargs, signal: converted})

    return run
