"""Gain of one Newton step from the winning tap of a dilation or an erosion, towards the maximum between samples."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn import _checks, _transforms
from pdegcnn._dtypes import HALF, widen
from pdegcnn.kernels.morphological import Law
from pdegcnn.ops import backend as _backend
from pdegcnn.ops.newton_gain import custom_op as _op
from pdegcnn.ops.newton_gain import reference as _reference
from pdegcnn.ops.newton_gain.reference import StepTables

__all__ = ["StepTables", "newton_gain"]

BACKENDS = _backend.declare("newton_gain", "numba", "torch")


def newton_gain(
    signal: Tensor,
    position: Tensor,
    tap: Tensor,
    tables: StepTables,
    entries: Tensor,
    least: Tensor,
    law: Law,
    sign: int = +1,
    backend: str | None = None,
) -> Tensor:
    r"""Return ``sign`` times the best gain of :math:`\pm u - k` along a Newton step from the winning tap at each point.

    A quarter, a half, three quarters and the whole of the step are tried, by the Taylor polynomials of the signal and
    of the squared distance; the gain is never below zero. Where the quadratic form is not definite the step goes
    uphill. Half precision is computed in float32.

    Args:
        signal: derivatives of the signal along the frame at its samples, ``[B,C,J,N]``: dims = 2 or 3 slopes, then the
            second ones in the order (00, 11, 22, 01, 02, 12), so J = 5 or 9.
        position: the winning sample of every point, an index in N, int64 ``[B,C,N]``.
        tap: the winning tap of every point, int64 ``[B,C,N]``.
        tables: factors of taps' squared distances, angles of fibre samples and the greatest step. They get no gradient.
        entries: entries of the metric in the frame of each fibre sample, ``[C,R,6]``; they repeat after R of them.
        least: squared distance ``[C]`` from which on the kernel's slopes count in the quadratic form.
        law: factor, unit and power of the kernel, numbers or tensors of one number
            (:func:`pdegcnn.kernels.morphological.cost_law`).
        sign: +1 for dilation, -1 for erosion.
        backend: ``"numba"`` (second derivatives and ``torch.func`` transforms run the torch version) or ``"torch"``; by
            default the fastest that runs here.

    Raises:
        ValueError: if a shape, the sign or the backend does not fit.
        TypeError: if an argument is not a floating-point tensor or the dtypes differ.
    """
    _check_arguments(signal, position, tap, tables, entries, least)
    _checks.choice("sign", sign, (1, -1))
    chosen = _backend.choose("newton_gain", signal, backend)
    if signal.dtype in HALF:
        wide = StepTables(*map(widen, tables))
        given = widen(signal), position, tap, wide, widen(entries), widen(least), law, sign
        return newton_gain(*given, chosen).to(signal.dtype)
    numbers = [x for x in law if isinstance(x, Tensor)]
    if _checks.autocasts(signal.device):
        with torch.autocast(signal.device.type, enabled=False):
            return newton_gain(signal, position, tap, tables, entries, least, law, sign, chosen)
    if chosen == "torch" or _transforms.differentiated(signal, entries, least, *numbers):
        return _reference.newton_gain(signal, position, tap, tables, entries, least, law, sign)
    stacked = torch.stack([torch.as_tensor(x, dtype=torch.float64, device=signal.device).reshape(()) for x in law])
    return _op.newton_gain(signal, position, tap, *tables, entries, least, stacked, sign, chosen)[0]


def _check_arguments(
    signal: Tensor, position: Tensor, tap: Tensor, tables: StepTables, entries: Tensor, least: Tensor
) -> None:
    _checks.tensor("signal", signal, 4, "[B,C,J,N]")
    batch, channels, size, count = signal.shape
    dims = 3 if size == 9 else 2
    if size not in (5, 9) or count % tables.turn.shape[1]:
        raise ValueError(
            f"signal: expected 5 or 9 derivatives at a multiple of {tables.turn.shape[1]} points, got shape "
            f"{tuple(signal.shape)}"
        )
    for name, places in (("position", position), ("tap", tap)):
        if places.dtype != torch.int64 or tuple(places.shape) != (batch, channels, count):
            wanted, got = (batch, channels, count), tuple(places.shape)
            raise ValueError(f"{name}: expected int64 of shape {wanted}, got {places.dtype} {got}")
    shapes = {
        "table": (tables.table, (tables.table.shape[0], 1 + size, 6)),
        "turn": (tables.turn, (2, tables.turn.shape[1])),
        "reach": (tables.reach, (dims,)),
        "entries": (entries, (channels, entries.shape[1], 6)),
        "least": (least, (channels,)),
    }
    for name, (value, shape) in shapes.items():
        _checks.same_kind(name, value, "signal", signal)
        if tuple(value.shape) != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {tuple(value.shape)}")
