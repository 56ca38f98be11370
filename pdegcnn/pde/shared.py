"""Solvers kept by functions for later calls."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._derived import lasting
from pdegcnn.pde.derivatives import Derivatives
from pdegcnn.pde.families import solver_class
from pdegcnn.pde.shock import SHOCKS
from pdegcnn.pde.solver import Options, Solver
from pdegcnn.spaces import Space, by_family


@lru_cache(maxsize=32)
def shared(
    space: Space, term: str, options: Options, spelling: str, dtype: torch.dtype, device: torch.device
) -> Solver:
    """Return a solver whose tables later calls of a function use again; ``spelling`` is that of the options."""
    make = solver_class(space, term, options)
    with _transforms.constants():
        return lasting(lambda: make(space, term, options, device=device, dtype=dtype))


def checked_solver(u: Tensor, space: Space, term: str, options: Options, time: float) -> Solver:
    """Check the signal and the time, and return the solver."""
    chosen = solver_class(space, term, options)
    space.check_signal("u", u)
    if chosen.HAS_TABLES and options.hashable():
        solver = shared(space, term, options, options.spelling, u.dtype, u.device)
    else:
        solver = chosen(space, term, options, device=u.device, dtype=u.dtype)
    solver.check_time(time)
    return solver


@lru_cache(maxsize=32)
def _shared_derivatives(
    make: type[Derivatives],
    space: Space,
    smoothing: object,
    spelling: str,
    boundary: str | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Derivatives:
    with _transforms.constants():
        return lasting(make, space, smoothing, boundary, torch.empty(0, dtype=dtype, device=device))


def checked_derivatives(u: Tensor, space: Space, smoothing: object, boundary: str | None) -> Derivatives:
    """Check the signal, and return what differentiates it."""
    _checks.kind("space", space, Space, "a space such as pdegcnn.SE2(8)")
    family = by_family(space, SHOCKS)
    if family is None:
        raise ValueError(f"space: expected a space with derivatives, got {space}")
    space.check_signal("u", u)
    given: object = tuple(cast("list[float]", smoothing)) if isinstance(smoothing, list) else smoothing
    if family.HAS_TABLES and _hashable(given) and _hashable(boundary):
        return _shared_derivatives(family.DERIVATIVES, space, given, repr(given), boundary, u.dtype, u.device)
    return family.DERIVATIVES(space, given, boundary, u.new_empty(0))


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
