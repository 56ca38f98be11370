"""This library's own operators in ONNX: functions, and loops over blocks and taps, so that files stay small.

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
BLOCK = 32768
"""Outputs of a max-plus convolution that are computed together: a few arrays of this size fit into a cache."""
FINITE = float(torch.finfo(torch.float32).max)
"""Stands for infinity within a loop."""
BOOLEAN = 9
"""The number of this type in ONNX."""


@script(default_opset=op)
def can_win(signal: FLOAT[...], kernel: FLOAT[...]) -> FLOAT[...]:
    """Return one for the taps of each channel that can give the largest value somewhere, zero for others: [C, taps].

    A tap cannot win if it gives less at the largest value of ``signal`` [B,C,Or,H,W] than the centre does at the
    smallest, because the centre lies inside everywhere. All taps stay where a value is infinite or NaN.
    """
    costs = op.Reshape(kernel, op.Concat(op.Shape(kernel, end=2), op.Constant(value_ints=[-1]), axis=0))  # [C,Or',taps]
    taps = op.Shape(costs, start=2)
    centre = op.Gather(costs, op.Div(taps, op.Constant(value_ints=[2])), axis=2)
    every = op.Constant(value_ints=[0, 2, 3, 4])
    high = op.Unsqueeze(op.ReduceMax(signal, every, keepdims=0), op.Constant(value_ints=[1, 2]))
    low = op.ReduceMin(signal, every, keepdims=0) + op.Constant(value_float=0.0) * op.ReduceSum(
        signal, every, keepdims=0
    )
    least = op.Unsqueeze(low, op.Constant(value_ints=[1, 2])) - centre
    return op.ReduceMax(op.Cast(op.Not(op.Less(high - costs, least)), to=1), op.Constant(value_ints=[1]), keepdims=0)


@script(default_opset=op)
def blocks_of(field: FLOAT[...], kernel: FLOAT[...], size: INT64[3], number: INT64[3], each: INT64[3]) -> FLOAT[...]:
    """Cut ``field`` [B,C,Or+,H,W] into blocks [N, channels, Or+, images, rows, W+] and what their outputs read around.

    ``size`` [3] is that of the signal (orientations, height, width). ``number`` says how many parts the rows, the
    images and the channels make, and ``each`` how many of them are in a part.
    """
    none = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    rest = op.Constant(value_ints=[-1])
    reach = op.Shape(kernel, start=2)
    tall = op.Slice(reach, [1], [2])
    wide = op.Slice(reach, [2], [3])
    bands, groups, sets = op.Split(number, num_outputs=3)
    h, b, c = op.Split(each, num_outputs=3)
    above = op.Div(tall, op.Constant(value_ints=[2]))
    aside = op.Div(wide, op.Constant(value_ints=[2]))
    images = groups * b - op.Shape(field, end=1)
    channels = sets * c - op.Shape(kernel, end=1)
    rows = bands * h - op.Slice(size, [1], [2]) + above
    before = op.Concat(none, none, none, above, aside, axis=0)
    after = op.Concat(images, channels, none, rows, aside, axis=0)
    field = op.Pad(field, op.Concat(before, after, axis=0), op.Constant(value_float=float("-inf")))
    zero = op.Constant(value_int=0)
    step = op.Constant(value_int=1)
    long = h + tall - one
    starts = op.Unsqueeze(op.Range(zero, op.Squeeze(bands), step), [1]) * h
    field = op.Gather(field, starts + op.Range(zero, op.Squeeze(long), step), axis=3)
    planes = op.Shape(field, start=2, end=3)
    field = op.Reshape(field, op.Concat(groups, b, sets, c, planes, bands, long, rest, axis=0))
    field = op.Transpose(field, perm=[2, 0, 5, 3, 4, 1, 6, 7])
    return op.Reshape(field, op.Concat(rest, c, planes, b, long, op.Slice(size, [2], [3]) + wide - one, axis=0))


@script(default_opset=op)
def best_taps(
    blocks: FLOAT[...], kernel: FLOAT[...], live: FLOAT[...], size: INT64[3], number: INT64[3], each: INT64[3]
) -> FLOAT[...]:
    """Take the maximum over ``live`` taps [C, taps] of a field minus ``kernel`` [C,Or',KO,KH,KW].

    ``blocks`` are those of :func:`blocks_of`, with the same numbers. The result is [B',C',Or',H',W]: it may have more
    images, channels and rows than the signal, at the end.
    """
    none = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    rest = op.Constant(value_ints=[-1])
    reach = op.Shape(kernel, start=2)
    tall = op.Slice(reach, [1], [2])
    wide = op.Slice(reach, [2], [3])
    channels = op.Shape(kernel, end=1)
    outs = op.Shape(kernel, start=1, end=2)
    width = op.Slice(size, [2], [3])
    bands, groups, sets = op.Split(number, num_outputs=3)
    h, b, c = op.Split(each, num_outputs=3)
    # weights: [sets, taps, c, Or', 1, 1, 1], live: [sets, taps]
    beyond = op.Concat(none, none, none, sets * c - channels, none, none, axis=0)
    weights = op.Pad(op.Reshape(kernel, op.Concat(channels, outs, rest, axis=0)), beyond)
    weights = op.Transpose(op.Reshape(weights, op.Concat(sets, c, outs, rest, axis=0)), perm=[0, 3, 1, 2])
    weights = op.Unsqueeze(weights, op.Constant(value_ints=[4, 5, 6]))
    live = op.Pad(live, op.Concat(none, none, sets * c - channels, none, axis=0))
    live = op.ReduceMax(op.Reshape(live, op.Concat(sets, c, rest, axis=0)), [1], keepdims=0)
    # one block after another
    window = op.Concat(op.Slice(size, [0], [1]), h, width, axis=0)
    steps = op.Concat(op.Div(op.Slice(size, [0], [1]), outs), one, one, axis=0)
    lowest = op.Expand(op.Constant(value_float=float("-inf")), op.Concat(c, outs, b, h, width, axis=0))
    found = op.SequenceEmpty()
    for block in range(op.Squeeze(sets * groups * bands)):
        own = op.Gather(blocks, block)
        part = op.Div(block, op.Squeeze(groups * bands))
        taps = op.Squeeze(op.NonZero(op.Gather(live, part)), [0])
        line = op.Div(taps, wide)
        place = op.Concat(
            op.Unsqueeze(op.Div(line, tall), [1]),
            op.Unsqueeze(op.Mod(line, tall), [1]),
            op.Unsqueeze(op.Mod(taps, wide), [1]),
            axis=1,
        )
        costs = op.Gather(op.Gather(weights, part), taps)
        best = op.Identity(lowest)
        for tap in range(op.Squeeze(op.Shape(taps))):
            first = op.Gather(place, tap)
            value = op.Slice(own, first, first + window, op.Constant(value_ints=[1, 3, 4]), steps)
            best = op.Max(best, value - op.Gather(costs, tap))
        found = op.SequenceInsert(found, best)
    best = op.ConcatFromSequence(found, axis=0, new_axis=1)
    best = op.Reshape(best, op.Concat(sets, groups, bands, c, outs, b, h, width, axis=0))
    best = op.Transpose(best, perm=[1, 5, 0, 3, 4, 2, 6, 7])
    return op.Reshape(best, op.Concat(groups * b, sets * c, outs, bands * h, width, axis=0))


def parts(count: Any, entries: Any) -> tuple[Any, Any]:
    """Return how many parts to make of ``count`` things of ``entries`` numbers each, and how many are in each."""
    one = op.Constant(value_ints=[1])
    most = op.Max(op.Div(op.Constant(value_ints=[BLOCK]), entries), one)
    number = op.Div(op.Sub(op.Add(count, most), one), most)
    return number, op.Div(op.Sub(op.Add(count, number), one), number)


def morphology(u: Any, kernel: Any, sign: int, keep: bool, backend: str, periodic: bool = True) -> Any:
    """Write the max-plus convolution; nothing reads the winning taps."""
    half = op.Div(op.Shape(kernel, start=2), op.Constant(value_ints=[2]))
    beyond = op.Slice(half, [0], [1])
    size = op.Shape(u, start=2)
    none = op.Constant(value_ints=[0, 0])
    top = op.Constant(value_float=FINITE)
    field = op.Min(u if sign > 0 else op.Neg(u), top)  # inf - inf would be NaN
    live = can_win(field, kernel)
    if periodic:
        turns = op.Squeeze(op.Slice(size, [0], [1]), [0])
        first = op.Neg(op.Squeeze(beyond, [0]))
        place = op.Range(first, op.Sub(turns, first), op.Constant(value_int=1))
        field = op.Gather(field, op.Mod(place, turns), axis=2)
    else:
        pads = op.Concat(none, beyond, none, none, beyond, none, axis=0)
        field = op.Pad(field, pads, op.Constant(value_float=float("-inf")))
    entries = op.Mul(op.Shape(kernel, start=1, end=2), op.Slice(size, [2], [3]))  # of a row
    number: list[Any] = []
    each: list[Any] = []
    for count in (op.Slice(size, [1], [2]), op.Shape(u, end=1), op.Shape(kernel, end=1)):
        pair = parts(count, entries)
        number.append(pair[0])
        each.append(pair[1])
        entries = op.Mul(entries, pair[1])
    numbers = op.Concat(*number, axis=0), op.Concat(*each, axis=0)
    best = best_taps(blocks_of(field, kernel, size, *numbers), kernel, live, size, *numbers)
    ends = op.Concat(op.Shape(u, end=1), op.Shape(kernel, end=1), op.Slice(size, [1], [2]), axis=0)
    best = op.Slice(best, op.Constant(value_ints=[0, 0, 0]), ends, op.Constant(value_ints=[0, 1, 3]))
    best = op.Where(op.Less(best, top), best, op.Constant(value_float=float("inf")))
    return (best if sign > 0 else op.Neg(best)), op.Constant(value_ints=[0])


def morphology_pair(u: Any, dilation: Any, erosion: Any, keep: bool, backend: str) -> Any:
    """Write both signs, in turn."""
    return *morphology(u, dilation, 1, keep, backend), *morphology(u, erosion, -1, keep, backend)


@script(default_opset=op)
def shifted(u: FLOAT[...], shift: FLOAT[...], size: INT64[1], periodic: BOOL, zeros: BOOL) -> FLOAT[...]:
    """Interpolate along an axis of ``size`` at every place plus ``shift`` [N, size or 1].

    The axes of ``u`` are a batch, those that flatten to N, the axis, and others: entries of those move together.
    """
    whole = op.Floor(shift)
    part = op.Sub(shift, whole)
    none = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    count = op.Squeeze(size)
    last = count - one
    low = op.Range(none, count, one) + op.Cast(whole, to=7)  # [N, size]
    high = low + one
    low_place = op.Where(periodic, op.Mod(low, count), op.Max(op.Min(low, last), none))
    high_place = op.Where(periodic, op.Mod(high, count), op.Max(op.Min(high, last), none))
    outside = op.Constant(value_float=0.0)
    other = op.Constant(value_float=1.0) - part
    low_part = op.Where(op.And(zeros, op.Not(op.Equal(low, low_place))), outside, other)
    high_part = op.Where(op.And(zeros, op.Not(op.Equal(high, high_place))), outside, part)
    shape = op.Shape(u)
    start = op.Unsqueeze(op.Range(none, op.Squeeze(op.Shape(shift, end=1)), one), [1]) * size
    column = op.Constant(value_ints=[-1, 1])
    rest = op.Constant(value_ints=[-1])
    flat = op.Reshape(u, op.Concat(op.Constant(value_ints=[0]), op.Shape(shift, end=1) * size, rest, axis=0))
    first = op.Gather(flat, op.Reshape(start + low_place, rest), axis=1) * op.Reshape(low_part, column)
    second = op.Gather(flat, op.Reshape(start + high_place, rest), axis=1) * op.Reshape(high_part, column)
    return op.Reshape(first + second, shape)


def convection(u: Any, shift: Any, boundary: int, backend: str) -> Any:
    """Write the interpolation along orientations, rows and columns."""
    sizes = op.Shape(u)
    for axis in (2, 3, 4):
        size = op.Slice(sizes, op.Constant(value_ints=[axis]), op.Constant(value_ints=[axis + 1]))
        name = "periodic" if axis == 2 else BOUNDARIES[boundary]
        step = op.Gather(shift, op.Constant(value_int=axis - 2), axis=2)  # [C,Or]
        step = step if axis == 2 else op.Reshape(step, op.Constant(value_ints=[-1, 1]))
        periodic = op.Cast(op.Constant(value_int=int(name == "periodic")), to=BOOLEAN)
        zeros = op.Cast(op.Constant(value_int=int(name == "zeros")), to=BOOLEAN)
        turned = axis == 4  # whole rows are moved, never single entries
        u = op.Transpose(u, perm=[0, 1, 2, 4, 3]) if turned else u
        u = shifted(u, step, size, periodic, zeros)
        u = op.Transpose(u, perm=[0, 1, 2, 4, 3]) if turned else u
    return u


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the table that ``torch.onnx.export`` takes."""
    return {getattr(torch.ops.pdegcnn, name).default: globals()[name] for name in FUNCTIONS}
