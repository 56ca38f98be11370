"""Helpers for the modules of users, shared by several packages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def named_parameters(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Iterate over parameters by name, also in copies by ``nn.DataParallel``, which do not list their tensors."""
    yield from module.named_parameters()
    if getattr(module, "_is_replica", False):
        for prefix, part in module.named_modules():
            for name, value in vars(part).get("_former_parameters", {}).items():
                yield f"{prefix}.{name}" if prefix else name, value


def parameter(module: nn.Module) -> Tensor:
    """Return one of the parameters of a module."""
    return next(value for _, value in named_parameters(module))


@contextmanager
def eval_mode(model: object) -> Iterator[None]:
    """Set every module of ``model`` to evaluation mode and restore its mode afterwards; leave functions alone."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [m.training for m in modules]
    try:
        for m in modules:
            m.training = False
        yield
    finally:
        for m, mode in zip(modules, modes):
            m.training = mode
