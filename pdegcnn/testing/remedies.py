"""Search for arguments that lower the error of a layer, with the error and the time of each."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from pdegcnn.nn.nonlinearity import SphereActivation
from pdegcnn.nn.pooling import GlobalPool
from pdegcnn.nn.project import Project
from pdegcnn.nn.terms import Convection, Morphology
from pdegcnn.spaces import SE2
from pdegcnn.testing.call import Call

GAIN = 0.8
"""An argument is reported if it lowers the error to this part of it or less."""


@dataclass(frozen=True)
class Remedy:
    """An argument that lowers the error of a layer.

    Attributes:
        argument: as written in the call of the layer, or of the ``PDELayer`` that contains the term.
        error: relative error of the layer with it.
        cost: time of the layer with it, relative to the time without.
    """

    argument: str
    error: float
    cost: float

    def __str__(self) -> str:
        return f"{self.argument} lowers this to {self.error:.1e} at {self.cost:.2g} times the time"


def remedies(call: Call) -> tuple[Remedy, ...]:
    """Return arguments that lower the error of the layer of a call, in the order of their cost."""
    before, found = call.error(), []
    if not before > 0:
        return ()
    usual = _seconds(call)
    for argument, module in variants(call.module):
        changed = replace(call, module=module)
        try:
            error = changed.error()
        except (ValueError, RuntimeError):  # this input does not support the argument
            continue
        if error <= GAIN * before:
            found.append(Remedy(argument, error, _seconds(changed) / usual))
    return tuple(sorted(found, key=lambda remedy: remedy.cost))


def variants(module: Any) -> Iterator[tuple[str, nn.Module]]:
    """Return the arguments that may lower the error of a layer, and the layer with them; nothing for unknown layers."""
    if isinstance(module, Morphology):
        changes: list[dict[str, Any]] = [{"oversample": 2}, *_more_orientations(module)]
        if module.space.point_weights is not None and not module.space.has_orientations:  # too slow to try on SO(3)
            changes.append({"oversample": 2, "subgrid": "newton"})
        yield from _terms(module, changes)
    elif isinstance(module, Convection):
        yield from _terms(module, [{"method": "spectral"}, *_more_orientations(module)])
    elif isinstance(module, SphereActivation):
        more = 2 * module.oversample
        table = next(module.finer.buffers())
        kind = {"device": table.device, "dtype": table.dtype}
        yield f"oversample={more}", SphereActivation(module.space, module.function, more, **kind)
    elif isinstance(module, (Project, GlobalPool)) and module.mode == "max":
        more = 4 * module.oversample
        twin = copy.deepcopy(module)
        if isinstance(module, Project):
            twin.oversample = more
        else:
            twin = GlobalPool(module.space, "max", oversample=more)
        yield f"oversample={more}", twin


def _more_orientations(module: Morphology | Convection) -> list[dict[str, Any]]:
    if not isinstance(module.space, SE2):
        return []
    closer = [{"oversample": (2, None)}] if isinstance(module, Morphology) else []
    return [*closer, {"inner_orientations": 2 * module.space.orientations}]


def _terms(module: Morphology | Convection, changes: list[dict[str, Any]]) -> Iterator[tuple[str, nn.Module]]:
    solver, like = module.solver, next(module.parameters())
    for change in changes:
        if all(getattr(solver.options, name) == value for name, value in change.items()):
            continue
        try:
            other = type(solver)(
                solver.space, solver.term, replace(solver.options, **change), device=like.device, dtype=like.dtype
            )
        except (ValueError, TypeError):  # the space does not have the option
            continue
        twin = copy.copy(module)
        twin._modules = dict(module._modules) | {"solver": other.train(module.training)}
        name = {"method": "convection"}
        yield ", ".join(f"{name.get(option, option)}={value!r}" for option, value in change.items()), twin


def _seconds(call: Call) -> float:
    """Return the processor time of a run."""
    start = time.process_time()
    call.run(call.args)
    return max(time.process_time() - start, 1e-9)
