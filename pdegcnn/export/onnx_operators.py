"""This library's own operators in ONNX: functions and loops over taps, so that files stay small.

Each agrees with the function of its name in :mod:`pdegcnn.export.operators`, which spells the taps out. Imported only
where ``onnxscript`` is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import BOOL, FLOAT, INT64, opset18, script

import pdegcnn.ops.convection.custom_op
import pdegcnn.ops.morphology.custom_op  # noqa: F401 - both register operators
from pdegcnn.export.real import FUNCTIONS
from pdegcnn.ops.padding import BOUNDARIES

op: Any = opset18
"""Operators of onnxscript, which take values and constants alike; their types do not say so."""
FINITE = float(torch.finfo(torch.float32).max)
"""Stands for infinity within a loop."""
BOOLEAN = 9
"""The number of this type in ONNX."""


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
        best = op.Max(best, window - op.Gather(weights, tap))
    return best


def morphology(u: Any, kernel: Any, sign: int, keep: bool, backend: str, periodic: bool = True) -> Any:
    """Write the max-plus convolution; nothing reads the winning taps."""
    half = op.Div(op.Shape(kernel, start=2), op.Constant(value_ints=[2]))
    around = op.Slice(half, [1], [3])
    beyond = op.Slice(half, [0], [1])
    size = op.Shape(u, start=2)
    none = op.Constant(value_ints=[0, 0])
    top = op.Constant(value_float=FINITE)
    field = op.Min(u if sign > 0 else op.Neg(u), top)  # inf - inf would be NaN
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
    best = op.Where(op.Less(best, top), best, op.Constant(value_float=float("inf")))
    return (best if sign > 0 else op.Neg(best)), op.Constant(value_ints=[0])


def morphology_pair(u: Any, dilation: Any, erosion: Any, keep: bool, backend: str) -> Any:
    """Write both signs, in turn."""
    return *morphology(u, dilation, 1, keep, backend), *morphology(u, erosion, -1, keep, backend)


@script(default_opset=op)
def shifted(u: FLOAT[...], shift: FLOAT[...], line: INT64[5], periodic: BOOL, zeros: BOOL, axis: int) -> FLOAT[...]:
    """Interpolate along ``axis`` at every place plus ``shift`` [1,C,Or,1,1]; ``line`` is the axis' own shape."""
    whole = op.Floor(shift)
    part = op.Sub(shift, whole)
    none = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    outside = op.Constant(value_float=0.0)
    size = op.ReduceMax(line, keepdims=0)
    last = op.Sub(size, one)
    low = op.Add(op.Reshape(op.Range(none, size, one), line), op.Cast(whole, to=7))
    high = op.Add(low, one)
    low_place = op.Where(periodic, op.Mod(low, size), op.Max(op.Min(low, last), none))
    high_place = op.Where(periodic, op.Mod(high, size), op.Max(op.Min(high, last), none))
    low_value = op.GatherElements(u, op.Expand(low_place, op.Shape(u)), axis=axis)
    high_value = op.GatherElements(u, op.Expand(high_place, op.Shape(u)), axis=axis)
    low_out = op.And(zeros, op.Not(op.Equal(low, low_place)))
    high_out = op.And(zeros, op.Not(op.Equal(high, high_place)))
    low_value = op.Where(low_out, outside, low_value)
    high_value = op.Where(high_out, outside, high_value)
    return op.Add(op.Mul(op.Sub(op.Constant(value_float=1.0), part), low_value), op.Mul(part, high_value))


def convection(u: Any, shift: Any, boundary: int, backend: str) -> Any:
    """Write the interpolation along orientations, rows and columns."""
    shifts = op.Unsqueeze(shift, op.Constant(value_ints=[0, 4, 5]))  # [1,C,Or,3,1,1]
    sizes = op.Shape(u)
    for axis in (2, 3, 4):
        step = op.Gather(shifts, op.Constant(value_int=axis - 2), axis=3)
        ones = op.Constant(value_ints=[1] * 5)
        own = op.Constant(value_ints=[int(dim == axis) for dim in range(5)])
        line = op.Where(op.Cast(own, to=BOOLEAN), sizes, ones)
        name = "periodic" if axis == 2 else BOUNDARIES[boundary]
        periodic = op.Cast(op.Constant(value_int=int(name == "periodic")), to=BOOLEAN)
        zeros = op.Cast(op.Constant(value_int=int(name == "zeros")), to=BOOLEAN)
        u = shifted(u, step, line, periodic, zeros, axis=axis)
    return u


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the table that ``torch.onnx.export`` takes."""
    return {getattr(torch.ops.pdegcnn, name).default: globals()[name] for name in FUNCTIONS}
