"""Networks that remember the call that built them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from torch import nn

Options = ParamSpec("Options")
Network = TypeVar("Network", bound=nn.Module)


class Recipe(NamedTuple):
    """Name of a builder and its arguments, without the device."""

    builder: str
    arguments: dict[str, Any]


def recorded(builder: Callable[Options, Network]) -> Callable[Options, Network]:
    """The builder, whose networks carry their :class:`Recipe` as the attribute ``recipe``."""
    signature = inspect.signature(builder)

    @wraps(builder)
    def build(*args: Options.args, **kwargs: Options.kwargs) -> Network:
        given = dict(signature.bind(*args, **kwargs).arguments)
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                given |= given.pop(name, {})
        network = builder(*args, **kwargs)
        network.__dict__["recipe"] = Recipe(builder.__name__, {k: v for k, v in given.items() if k != "device"})
        return network

    return build
