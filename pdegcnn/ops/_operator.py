"""Registration of operators with torch by one function, which ensures that no derivative is lost silently."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch._library.autograd import make_autograd_impl
from torch._library.custom_ops import CustomOpDef

from pdegcnn import _transforms

_LIBRARY = torch.library.Library("pdegcnn", "FRAGMENT")
_KEYS = ("AutogradCPU", "AutogradCUDA", "AutogradXPU", "AutogradMPS", "AutogradMeta")


def operator(name: str) -> Callable[[Callable[..., Any]], CustomOpDef]:
    """Register an operator as ``torch.library.custom_op(name, mutates_args=())`` does, and add what it leaves out.

    ``torch.vmap`` calls the operator once for each entry, unless the operator registers a better rule. Derivatives by
    ``torch.func`` and by dual numbers, which torch would drop, raise ``NotImplementedError``: the functions of
    :mod:`pdegcnn.ops` take another way before they come here.
    """

    def register(function: Callable[..., Any]) -> CustomOpDef:
        made = torch.library.custom_op(name, mutates_args=())(function)
        made._backend_fns.update({key: _without_compiler(function, run) for key, run in made._backend_fns.items()})
        made.register_vmap(lambda info, axes, *args: _transforms.loop(made, info.batch_size, axes, args))
        differentiate = make_autograd_impl(made._opoverload, made)

        def guarded(keys: torch.DispatchKeySet, *args: object, **options: object) -> Any:
            if _transforms.needs_rule(*args):
                raise NotImplementedError(
                    f"{name}: expected a derivative by torch.autograd, the only kind it supports; got one by "
                    "torch.func or by dual numbers. Call the functions of pdegcnn.functional, uncompiled, or use "
                    "torch.autograd.grad"
                )
            return differentiate(keys, *args, **options)

        for key in _KEYS:
            _LIBRARY.impl(name.partition("::")[2], guarded, key, with_keyset=True)
        return made

    return register


def _without_compiler(function: Callable[..., Any], protected: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function``, and its version ``protected`` from torch's compiler where that is loaded.

    ``protected`` imports the compiler in its first call, which takes longer than to compile one of our loops.
    """

    def run(*args: object, **options: object) -> Any:
        return (protected if "torch._dynamo" in sys.modules else function)(*args, **options)

    return run


@cache
def implementation(name: str, backend: str) -> ModuleType:
    """Import the module of folder ``name`` that holds an operator's version for ``backend``, on first use."""
    return importlib.import_module(f"pdegcnn.ops.{name}.{backend}_impl")


def index_dtype(count: int) -> torch.dtype:
    """Return the smallest integer type that holds the numbers below ``count``."""
    return torch.uint8 if count <= 256 else torch.int16 if count <= 2**15 else torch.int32
