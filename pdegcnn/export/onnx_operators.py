"""What this library's own operators are in ONNX: loops over taps, so that a file stays small and runs fast.

Each agrees with the function of its name in :mod:`pdegcnn.export.operators`, which spells the taps out. Imported only
where ``onnxscript`` is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import FLOAT, INT64, script
from onnxscript import opset18 as op

import pdegcnn.ops.morphology.custom_op  # noqa: F401 - registers the operators
from pdegcnn.export.real import LOOPS


@script(default_opset=op)
def best_taps(field: FLOAT[...], kernel: FLOAT[...], size: INT64[3]) -> FLOAT[...]:
    """Take the maximum over taps of ``field`` [B,C,Or+,H+,W+] minus ``kernel`` [C,Or',KO,KH,KW].

    ``field`` reaches beyond the signal, of ``size`` [3] (orientations, height, width), by the half of the kernel.
    """
    one = op.Constant(value_ints=[1])
    reach = op.Shape(kernel, start=2)
    weights = op.Unsqueeze(
        op.Transpose(
            op.Reshape(kernel, op.Concat(op.Shape(kernel, end=2), op.Constant(value_ints=[-1]), axis=0)), perm=[2, 0, 1]
        ),
        op.Constant(value_ints=[3, 4]),
    )
    low = op.Neg(op.Constant(value_float=float("inf")))
    closed = op.IsInf(weights, detect_negative=0)
    planes = op.Shape(kernel, start=1, end=2)
    steps = op.Concat(op.Div(op.Slice(size, [0], [1]), planes), one, one, axis=0)
    whole = op.Concat(op.Shape(field, end=2), planes, op.Slice(size, [1], [3]), axis=0)
    best = op.Expand(low, whole)
    columns = op.Slice(reach, [2], [3])
    rows = op.Slice(reach, [1], [2])
    taps = op.Squeeze(op.Shape(weights, end=1))
    for tap in range(taps):
        place = op.Reshape(tap, one)
        line = op.Div(place, columns)
        start = op.Concat(op.Div(line, rows), op.Mod(line, rows), op.Mod(place, columns), axis=0)
        window = op.Slice(field, start, start + size, op.Constant(value_ints=[2, 3, 4]), steps)
        value = op.Where(op.Gather(closed, tap), low, window - op.Gather(weights, tap))
        best = op.Max(best, value)
    return best


def morphology(u: Any, kernel: Any, sign: int, keep: bool, backend: str, periodic: bool = True) -> Any:
    """Write the max-plus convolution; nothing reads the winning taps."""
    half = op.Div(op.Shape(kernel, start=2), op.Constant(value_ints=[2]))
    around = op.Slice(half, [1], [3])
    beyond = op.Slice(half, [0], [1])
    size = op.Shape(u, start=2)
    none = op.Constant(value_ints=[0, 0])
    field = u if sign > 0 else op.Neg(u)
    if periodic:
        turns = op.Squeeze(op.Slice(size, [0], [1]), [0])
        first = op.Neg(op.Squeeze(beyond, [0]))
        place = op.Range(first, op.Sub(turns, first), op.Constant(value_int=1))
        field = op.Gather(field, op.Mod(place, turns), axis=2)
        pads = op.Concat(none, op.Constant(value_ints=[0]), around, none, op.Constant(value_ints=[0]), around, axis=0)
    else:
        pads = op.Concat(none, half, none, half, axis=0)
    field = op.Pad(field, pads, op.Constant(value_float=float("-inf")))
    best = best_taps(field, kernel, size)
    return (best if sign > 0 else op.Neg(best)), op.Constant(value_ints=[0])


def morphology_pair(u: Any, dilation: Any, erosion: Any, keep: bool, backend: str) -> Any:
    """Write both signs, one after the other."""
    return *morphology(u, dilation, 1, keep, backend), *morphology(u, erosion, -1, keep, backend)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the table that ``torch.onnx.export`` takes."""
    return {getattr(torch.ops.pdegcnn, name).default: globals()[name] for name in LOOPS}
