"""Choice of the version of an operator by device and dtype, with a reason for each refusal.

``PDEGCNN_BACKEND`` or the argument ``backend=`` of an operator forces one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import warnings
from pathlib import Path

import torch
from torch import Tensor

from pdegcnn import _checks

BACKENDS = ("numba", "triton", "torch")
"""Names of all backends."""
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


_DECLARED: dict[str, tuple[str, ...]] = {}
_PROBLEMS = {name: "" if importlib.util.find_spec(name) else f"{name} is not installed" for name in ("numba", "triton")}
_TRIED: set[str] = set()


def declare(operator: str, *backends: str) -> tuple[str, ...]:
    """Note which backends an operator has: the first that runs on a device is chosen there."""
    _DECLARED[operator] = backends
    return backends


def operators() -> dict[str, tuple[str, ...]]:
    """Return the backends of every operator, as its package declares them."""
    for package in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if package.ispkg:
            importlib.import_module(f"pdegcnn.ops.{package.name}")
    return dict(sorted(_DECLARED.items()))


def _import_problem(name: str) -> str:
    """Return why a package cannot be used; while torch.compile traces, only what is known already."""
    if name not in _TRIED and not _checks.is_compiling() and not _PROBLEMS[name]:
        _TRIED.add(name)
        try:
            importlib.import_module(name)
        except Exception as error:  # treat a broken installation like a missing one
            _PROBLEMS[name] = f"{name} cannot be imported ({type(error).__name__}: {error})"
    return _PROBLEMS[name]


def refusal(operator: str, backend: str, device: str, dtype: torch.dtype | None = None) -> str:
    """Return the reason why ``backend`` cannot run ``operator`` there, or an empty string."""
    if backend == "torch":
        return ""
    if operator not in _DECLARED:
        operators()
    if backend not in _DECLARED[operator]:
        return f"{operator} has no {backend} version"
    if dtype is not None and dtype not in DTYPES:
        return f"dtype {dtype} is not one of float32, float64, bfloat16, float16"
    if backend == "numba":
        return _import_problem("numba") if device == "cpu" else f"compiles for the CPU only, not for device {device}"
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "runs on the CPU only under TRITON_INTERPRET=1 (for tests)"
    if device not in ("cpu", "cuda"):
        return f"no Triton version for device {device}"
    if device == "cuda" and not torch.cuda.is_available():
        return "no CUDA device"
    return _import_problem("triton")


def available(operator: str, device: str = "cpu") -> list[str]:
    """Return names of the backends that can run ``operator`` on ``device``."""
    return [name for name in BACKENDS if not refusal(operator, name, device)]


def choose(operator: str, u: Tensor, backend: str | None) -> str:
    """Name of the backend for the signal ``u``.

    Raises:
        ValueError: if the backend asked for is unknown or cannot run here; the message holds the reason.
    """
    asked = backend if backend is not None else os.environ.get("PDEGCNN_BACKEND") or None
    device = u.device.type
    if asked is not None:
        if asked not in BACKENDS:
            _checks.choice("backend", asked, BACKENDS)
        if asked == "torch":
            return asked
        problem = refusal(operator, asked, device, u.dtype)
        if problem:
            way = ""
            if asked not in _DECLARED[operator]:
                those = ", ".join(name for name, backends in operators().items() if asked in backends)
                forced = "leave out backend=" if backend is not None else "unset PDEGCNN_BACKEND"
                way = f" ({those} have one); {forced}, so that each operator takes the fastest that it has"
            raise ValueError(f"backend: expected a backend that runs {operator} here, got {asked!r}: {problem}{way}")
    if not u.numel():  # loops read a first number, and an empty grid of programs cannot start
        return "torch"
    if asked is not None:
        return asked
    for name in _DECLARED[operator]:
        if not refusal(operator, name, device, u.dtype):
            if name == "torch" and device == "cpu" and "numba" in _DECLARED[operator]:
                _warn_of(_PROBLEMS["numba"])
            return name
    return "torch"


def _warn_of(problem: str) -> None:
    """Warn, once in a process, that the processor has no fast operators."""
    if problem and "warned" not in _TRIED and not _checks.is_compiling():
        _TRIED.add("warned")
        text = f"{problem}: operators run in plain torch, a training step takes 15 times as long. pip install numba"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def backends(show: bool = True) -> str:
    """Print (if ``show`` is set) and return a table: operator, device, backend, and whether it is available or why not.

    Args:
        show: print the table.

    Example:
        >>> import pdegcnn as pg
        >>> pg.backends()  # doctest: +ELLIPSIS
        operator                   device  backend  status
        ...
    """
    devices = ["cpu", "cuda"]
    lines = [f"{'operator':27}{'device':8}{'backend':9}status"]
    for operator in operators():
        for device in devices:
            for name in BACKENDS:
                problem = refusal(operator, name, device)
                if name == "torch" and device == "cuda" and not torch.cuda.is_available():
                    problem = "no CUDA device"
                lines.append(f"{operator:27}{device:8}{name:9}{problem or 'available'}")
    table = "\n".join(lines)
    if show:
        print(table)
    return table
