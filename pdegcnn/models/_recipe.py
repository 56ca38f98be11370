"""Networks that remember the call that built them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from torch import nn

from pdegcnn.nn.layer import LayerOptions

Options = ParamSpec("Options")
Network = TypeVar("Network", bound=nn.Module)


class Recipe(NamedTuple):
    """Name of a builder and its arguments, without the device."""

    builder: str
    arguments: dict[str, Any]


def recorded(
    builder: Callable[Options, Network], inner: Callable[..., nn.Module] | None = None
) -> Callable[Options, Network]:
    """Return the builder, whose networks carry their :class:`Recipe` as the attribute ``recipe``.

    Options that it does not name go to PDE layers, or to the ``inner`` builder; names of others are refused.
    """
    signature = inspect.signature(builder)
    further = LayerOptions.__annotations__ if inner is None else inspect.signature(inner).parameters

    @wraps(builder)
    def build(*args: Options.args, **kwargs: Options.kwargs) -> Network:
        _check_names(builder.__name__, signature, further, kwargs)
        try:
            given = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(f"{builder.__name__}: {error}") from None
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                given |= given.pop(name, {})
        network = builder(*args, **kwargs)
        network.__dict__["recipe"] = Recipe(builder.__name__, {k: v for k, v in given.items() if k != "device"})
        return network

    return build


def _check_names(builder: str, signature: inspect.Signature, further: Iterable[str], given: Iterable[str]) -> None:
    """Raise ``TypeError`` where an option is neither the builder's own nor one of those that it passes on."""
    known = [n for n, p in signature.parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(known) < len(signature.parameters):
        known += further
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{builder}: expected options among {', '.join(known)}, got {name!r}{hint}")
