"""Fast CPU version of the gain of a Newton step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdegcnn._dtypes import wide_dtype
from pdegcnn.kernels.morphological import HIGHEST, MOST_COST
from pdegcnn.ops import _jit
from pdegcnn.ops.newton_gain.reference import SMALL, StepTables

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))


def _loops() -> Any:
    return _jit.specialise(LOOPS, None, 0)


def _arguments(
    signal: Tensor,
    position: Tensor,
    tap: Tensor,
    tables: StepTables,
    entries: Tensor,
    least: Tensor,
    law: Tensor,
    sign: int,
) -> tuple[Any, ...]:
    """Return what both loops read."""
    kind = torch.finfo(wide_dtype(signal.dtype))
    factor, unit, power = (float(x) for x in law.double().tolist())
    high = MOST_COST * math.log(kind.max)
    kernel = factor, unit, power, math.exp(min(high / power, HIGHEST)), kind.max**MOST_COST
    places = (x.flatten(0, 1).contiguous().numpy() for x in (position, tap))
    numbers = (_jit.array(x) for x in (tables.turn, entries, tables.table, tables.reach, least))
    return _jit.array(signal.flatten(0, 1)), *places, *numbers, kernel, (kind.eps, kind.tiny**SMALL), float(sign)


def forward(
    signal: Tensor,
    position: Tensor,
    tap: Tensor,
    tables: StepTables,
    entries: Tensor,
    least: Tensor,
    law: Tensor,
    sign: int,
) -> tuple[Tensor, Tensor]:
    """Return gains ``[B,C,N]``, and bits that say which lengths attain them."""
    given = _arguments(signal, position, tap, tables, entries, least, law, sign)
    out = torch.empty(tap.shape, dtype=wide_dtype(signal.dtype))
    won = torch.empty(tap.shape, dtype=torch.uint8)
    found = (x.flatten(0, 1).numpy() for x in (out, won))
    _jit.parallel(_loops().forward, signal.shape[0] * signal.shape[1], *given, *found)
    return out.to(signal.dtype), won


def backward(
    grad: Tensor,
    won: Tensor,
    signal: Tensor,
    position: Tensor,
    tap: Tensor,
    tables: StepTables,
    entries: Tensor,
    least: Tensor,
    law: Tensor,
    sign: int,
    learned: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return gradients in signal, entries, least and law, the last one only where it is ``learned``."""
    given = _arguments(signal, position, tap, tables, entries, least, law, sign)
    batch, channels = signal.shape[:2]
    to_signal = torch.zeros(signal.shape, dtype=wide_dtype(signal.dtype))
    to_entries = torch.zeros(batch, *entries.shape, dtype=torch.float64)
    rest = torch.zeros(batch, channels, 3, dtype=torch.float64)
    found = tuple(x.flatten(0, 1).numpy() for x in (to_signal, to_entries, rest))
    arrays = won.flatten(0, 1).contiguous().numpy(), _jit.array(grad.flatten(0, 1))
    _jit.parallel(_loops().backward, batch * channels, *given, *arrays, learned, found)
    factor, unit, power = law.double()
    to_least, relative, to_power = rest.sum(0).mT.contiguous()
    relative = relative.sum()
    to_law = torch.stack((relative / factor, -power * relative / unit, to_power.sum()))
    return to_signal.to(signal.dtype), to_entries.sum(0).to(entries.dtype), to_least.to(least.dtype), to_law.to(law)
