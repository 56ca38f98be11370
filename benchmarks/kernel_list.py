"""Every Triton kernel of the library as it is counted: how it is compiled, how much work a thread does, its budget."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

ISSUE, BYTES = 132 * 1.755e9 * 128, 3.35e12
"""Instructions and bytes a second of an H100 SXM: 132 multiprocessors of 128 lanes at 1.755 GHz, memory 3.35 TB/s."""
PER_BYTE = ISSUE / BYTES
"""Instructions that run in the time in which memory moves one byte."""

F, F16, F64 = "*fp32", "*fp16", "*fp64"
U8, I32, I64 = "*u8", "*i32", "*i64"
SIZE = (5, 5, 5)
TAPS = {"KO": 5, "KH": 5, "KW": 5}


class Kernel(NamedTuple):
    """One kernel in one form.

    Args:
        operator: name in ``pdegcnn.ops.backend.OPERATORS``.
        form: what is computed, in which precision and size.
        name: module of ``pdegcnn.ops`` and function, ``"morphology.triton_impl._walk"``; for kernels that are written
            for a size of the kernel, a function of ``triton_source`` and its arguments in ``source``.
        types: Triton's types of pointers.
        constants: constants that it is compiled with.
        work: taps or elements that a thread works on in one pass through all its loops.
        unit: "tap" or "element".
        floor: instructions for one unit below which nothing is gained: the arithmetic itself, or what runs while memory
            moves the data.
        budget: instructions for one unit that the gate allows.
        why: what bounds the kernel.
        trips: how often loops run, by depth.
        warps: warps of a program.
        source: arguments of the function that writes the kernel.
    """

    operator: str
    form: str
    name: str
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    work: float
    unit: str
    floor: float
    budget: float
    why: str
    trips: Sequence[float] = ()
    warps: int = 4
    source: tuple[Any, ...] = ()

    def function(self) -> Any:
        """The function to compile."""
        path, _, name = self.name.rpartition(".")
        module = importlib.import_module(f"pdegcnn.ops.{path}")
        folder, _, file = path.partition(".")
        if file == "triton_source":
            from pdegcnn.ops import _jit

            module = _jit.import_text(f"{folder}_{name}", getattr(module, name)(*self.source))
        return getattr(module, name)


def kernels() -> Iterator[Kernel]:
    """All of them."""
    yield from _morphology()
    yield from _morphology_backward()
    yield from _convection()
    yield from _group_convolution()
    yield from _rings_and_meshes()


def _memory(size: float) -> tuple[float, str]:
    """Floor and reason of a kernel that moves ``size`` bytes for each element."""
    return size * PER_BYTE, f"memory: {size:g} bytes"


def _morphology() -> Iterator[Kernel]:
    operator, issue = "morphological_convolution", "instructions: an addition and a maximum"
    name, pointers = "morphology.triton_source.forward", {"winner": U8}
    for dtype, keep, size, lanes, floor, budget in (
        ("float32", False, SIZE, 128, 2.0, 2.8),
        ("float32", True, SIZE, 128, 2.0, 3.3),
        ("float16", False, SIZE, 256, 1.0, 1.8),
        ("float64", True, SIZE, 128, 8.0, 10.5),
        ("float32", True, (3, 3, 3), 128, 2.0, 5.0),
        ("float32", True, (5, 7, 7), 128, 2.0, 3.0),
    ):
        pointer = {"float32": F, "float16": F16, "float64": F64}[dtype]
        why = issue if floor < 8 else "instructions: a maximum of float64 is a comparison and two selections of halves"
        text = "x".join(map(str, size))
        yield Kernel(
            operator,
            f"{'value with winner' if keep else 'value'}, {text} {dtype}",
            *(name, pointers | dict.fromkeys(("frame", "kernel", "out"), pointer), {"BLOCK": lanes}),
            *(8 * size[1] * size[2] * size[0] * lanes / 128, "tap", floor, budget, why),
            trips=(size[0],),
            source=(size, 8, 1, keep, dtype),
        )
    types = {"u": F, "frame": F, "kernel": F, "out": F, "winner": U8, "special": I32}
    rows = {"ROWS": 8, "BLOCK": 128}
    frame = {"TOP": 2, "LEFT": 2, "EMPTY": -float("inf"), "CHECK": True, **rows}
    module = "morphology.triton_impl."
    yield Kernel(
        *(operator, "frame of the signal, float32", "triton_strips._fill_frame", types, frame, 8, "element"),
        *(_memory(8)[0], 32, _memory(8)[1]),
    )
    yield Kernel(
        *(operator, "columns of winners, 5x5x5 float32", module + "_columns", types, {**TAPS, "SIGN": 1, **rows}, 8),
        *("element", 44.0, 125, "instructions: 5 taps of two loads, an addition, a comparison and two selections"),
    )
    walk = {**TAPS, "SIGN": 1, "KEEP": True, "PERIODIC": True, "LINE": 128, "WIDE": "fp32", "BLOCK": 256}
    yield Kernel(
        *(operator, "tap by tap with winner, 5x5x5 float32", module + "_walk", types, {**walk, "ALL": True}, 2 * 125),
        *("tap", 4.0, 28, "instructions: for NaN, infinity and kernels too large to write out; masks and tests"),
        trips=(1, 5, 5, 5),
    )


def _morphology_backward() -> Iterator[Kernel]:
    operator = "morphological_convolution"
    types = {"frame": F, "winners": U8, "out": F, "grad": F, "winner": U8, "grad_u": F, "sums": F64}
    yield Kernel(
        *(operator, "gradient in the signal, 5x5x5 float32", "morphology.triton_source.backward_signal"),
        *(types, {"BLOCK": 128}, 8 * 125, "tap", 2.0, 4.8, "instructions: a comparison and an addition"),
        trips=(5,),
        source=(SIZE, 8, "float32"),
    )
    yield Kernel(
        *(operator, "gradient in the kernel, 5x5x5 float32", "morphology.triton_source.backward_kernel"),
        *(types, {"BLOCK": 128}, 2 * 32 * 25, "tap", 2.0, 4.8, "instructions: a comparison and an addition"),
        trips=(2, 32),
        source=(SIZE, "float32"),
    )
    yield Kernel(
        *(operator, "gradient in the signal, tap by tap", "morphology.triton_impl._backward_signal", types),
        *(
            {**TAPS, "WIDE": "fp32", "BLOCK": 512},
            4 * 125,
            "tap",
            2.0,
            30,
            "instructions: kernels too large to write out",
        ),
        trips=(5, 5, 5),
    )
    constants = {"NUMBER": 363, "WIDE": "fp32", "TAPS": 32, "CHUNK": 128}
    yield Kernel(
        *(operator, "gradient in the kernel, tap by tap", "morphology.triton_impl._backward_kernel", types, constants),
        *(32 * 32, "tap", 3.0, 20, "instructions: kernels too large to write out"),
        trips=(32,),
    )


def _convection() -> Iterator[Kernel]:
    types = {"u": F, "shift": F, "out": F, "grad": F, "sums": F64}
    floor, why = _memory(8)
    module = "convection.triton_impl."
    for number, name in enumerate(("zeros", "replicate", "periodic")):
        constants = {"BOUNDARY": number, "WIDE": "fp32", "BLOCK": 128, "ROWS": 8, "TILE": 8}
        for form, function, budget, trips in (
            ("value", "_forward", 88, ()),
            ("gradient in the shift", "_backward_shift", 115, ()),
            ("gradient along columns, shift of 2", "_transpose_columns", 65, (2,)),
            ("gradient along rows and orientations", "_transpose_rows", 140, (2,)),
        ):
            text = f"{form}, {name} float32"
            yield Kernel(
                "convection", text, module + function, types, constants, 8, "element", floor, budget, why, trips
            )


def _group_convolution() -> Iterator[Kernel]:
    operator, source = "group_convolution", "group_convolution.triton_source."
    types: dict[str, str] = {"u": F, "frame": F, "kernel": F, "out": F, "grad": F, "sums": F64}
    why, large = "instructions: a multiplication with addition", "instructions: kernels too large to write out"
    for forward, form in ((True, "value"), (False, "gradient in the signal")):
        yield Kernel(
            *(operator, f"{form}, 5x5x5 float32", source + "correlate", types, {"BLOCK": 128}, 8 * 125, "tap"),
            *(1.0, 1.9, why, (5,), 4, (SIZE, 8, forward, "float32")),
        )
    yield Kernel(
        *(operator, "gradient in the kernel, 5x5x5 float32", source + "products", types, {"BLOCK": 128}, 32 * 8 * 25),
        *("tap", 1.0, 2.5, why, (32,), 4, (SIZE, 8, "float32")),
    )
    module, constants = "group_convolution.triton_impl.", {"TOP": 2, "LEFT": 2, **TAPS, "WIDE": "fp32"}
    yield Kernel(
        *(operator, "value, tap by tap", module + "_correlate", types, {**constants, "FORWARD": True, "BLOCK": 512}),
        *(4 * 125, "tap", 1.0, 10.5, large, (5, 5, 5)),
    )
    yield Kernel(
        *(operator, "gradient in the kernel, tap by tap", module + "_products", types),
        *({**constants, "TAPS": 32, "BLOCK": 64}, 16 * 8, "tap", 1.0, 46, large, (1, 8)),
    )


def _rings_and_meshes() -> Iterator[Kernel]:
    tables = dict.fromkeys(("taps", "start", "order", "readers", "owner", "columns", "steps"), I64)
    floats = dict.fromkeys(("u", "kernel", "out", "grad", "grad_u", "fields", "values", "offset", "turn"), F)
    types = {**tables, **floats, **dict.fromkeys(("matrix", "table", "law"), F), "winner": U8, "sums": F64}
    why = "instructions: a tap is looked up in lists"
    module = "ring_morphology.triton_impl."
    ring = {"SIGN": 1, "KEEP": True, "NONE": 255, "WIDE": "fp32", "BLOCK": 256}
    yield Kernel(
        *("ring_morphology", "value with winner, float32", module + "_forward", types, ring, 2 * 50, "tap"),
        *(4.0, 125, why),
        trips=(50,),
    )
    yield Kernel(
        *("ring_morphology", "gradient in the signal, float32", module + "_backward_signal", types),
        *({"WIDE": "fp32", "BLOCK": 256}, 2 * 50, "tap", 4.0, 135, why),
        trips=(50,),
    )
    yield Kernel(
        *("ring_morphology", "gradient in the kernel, float32", module + "_backward_kernel", types),
        *({"WIDE": "fp32", "TAPS": 32, "CHUNK": 64}, 16 * 8, "tap", 4.0, 60, why),
        trips=(8, 1),
    )
    module = "ring_convolution.triton_impl."
    yield Kernel(
        *("ring_convolution", "sum, float32", module + "_correlate", types, {"WIDE": "fp32", "BLOCK": 256}),
        *(2 * 50, "tap", 2.0, 120, why),
        trips=(50,),
    )
    yield Kernel(
        *("ring_convolution", "gradient in the kernel, float32", module + "_products", types),
        *({"WIDE": "fp32", "TAPS": 16, "CHUNK": 64}, 8 * 8, "tap", 2.0, 145, why),
        trips=(8, 1),
    )
    reals = ("keys", "length", "corner", "angles", "transport", "scale", "radius", "angle", "positions", "turn")
    numbers = ("fans", "tail", "following", "previous", "twin", "vertex", "wedge", "corners")
    yield Kernel(
        *("geodesic_flow", "tracing of 4 triangles, float64", "geodesic_flow.triton_impl._land"),
        *(
            {**dict.fromkeys(reals, F64), **dict.fromkeys(numbers, I64)},
            {"BLOCK": 64},
            4,
            "element",
            8 * 9 * PER_BYTE / 4,
        ),
        *(2100, "latency of loads that depend on each other; sine, cosine and square root of float64"),
        trips=(15, 4),
        warps=2,
    )
    module = "transport_gather.triton_impl."
    mixed = {"KINDS": 2, "WIDE": "fp32", "BLOCK": 32}
    yield Kernel(
        *("transport_gather", "value, 32 channels float32", module + "_gather", types, mixed, 7 * 2, "tap"),
        *(_memory(8)[0], 145, "memory: 8 bytes, if no line is read twice"),
        trips=(7, 2),
    )
    yield Kernel(
        *("transport_gather", "gradient, 32 channels float32", module + "_spread", types, mixed, 7, "tap"),
        *(_memory(8)[0], 175, "memory: 8 bytes, if no line is read twice"),
        trips=(7,),
    )
    yield Kernel(
        *(
            "gather_morphology",
            "value with winner, 8 orientations",
            "gather_morphology.triton_impl._search",
            types,
        ),
        *({"SIGN": 1, "NUMBER": 9, "LANES": 8, "BLOCK": 16}, 7 * 9, "tap"),
        *(30.0, 140, "instructions: distance, power and comparison of each tap"),
        trips=(7, 9),
    )
    types |= dict.fromkeys(("flow", "mean", "areas", "profile", "scale", "total"), F)
    for back, form, budget in ((False, "value", 120), (True, "gradients in the signal and the metric", 155)):
        yield Kernel(
            *("gather_mean", f"{form}, 8 orientations", "gather_mean.triton_impl._gather", types),
            *({"NUMBER": 9, "BACK": back, "LANES": 8, "BLOCK": 16}, 7 * 9, "tap", 25.0, budget),
            *("instructions: distance and weight of each tap", (7, 9)),
        )
