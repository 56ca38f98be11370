"""Times on a GPU: operators beside plain torch and their ceiling, training steps beside networks of equal accuracy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import baselines
from benchmarks.gpu import operator_calls
from benchmarks.gpu.record import Record, query
from pdegcnn.ops import backend as registry
from pdegcnn.ops.convection import convection
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.group_convolution.torch_impl import expand
from pdegcnn.ops.morphology import morphological_convolution

CASES = (((4, 16, 8, 64, 64), (5, 5, 5)), ((32, 32, 8, 14, 14), (5, 5, 5)), ((32, 48, 8, 7, 7), (3, 5, 5)))
DRY_CASES = (((1, 1, 2, 3, 4), (1, 3, 3)),)
OTHERS = ("ring_morphology", *operator_calls.MESH)
REPEATS, MOST_BYTES = 20, 8e9
OPERATORS, BOTH = "times of operators", "value and backward"
Version = tuple[Callable[..., Any], tuple[Tensor, ...]]


def check_times(record: Record, dry: bool) -> None:
    """Operators, then whole training steps."""
    for shape, size in DRY_CASES if dry else CASES:
        for dtype in (torch.float32, torch.float16):
            for operator, table in versions(shape, size, record.device, dtype).items():
                for version, entry in table.items():
                    case = f"{operator}, {'x'.join(map(str, shape))}, kernel {'x'.join(map(str, size))}, {version}"
                    record.attempt(OPERATORS, case, _operator, record, case, entry, dtype, dry, dtype=str(dtype)[6:])
    for name in OTHERS:
        record.attempt(OPERATORS, name, _others, record, name, dry)
    for name, networks in training_steps(record.device, dry).items():
        for version, build in networks.items():
            record.attempt("training steps", f"{name}, {version}", _step, record, name, version, build, dry)


def _operator(record: Record, case: str, entry: Version, dtype: torch.dtype, dry: bool) -> None:
    """Times of one version, and for our morphology the share of the ceiling."""
    function, leaves = entry
    taps = leaves[0].numel() * leaves[-1][0, 0].numel()
    for what, call in passes(function, leaves).items():
        taken = milliseconds(call, record.device, 1 if dry else REPEATS)
        note = ""
        if case.startswith("morphology") and "ours" in case and what != BOTH:
            limit = ceiling(record.device, dtype, what == "value")
            note = f"{taps / taken * 1e3 / limit:.0%} of the ceiling" if limit else "ceiling unknown"
        record.add(OPERATORS, case, what, taken, "ms", dtype=str(dtype)[6:], note=note)


def versions(shape: tuple, size: tuple, device: str, dtype: torch.dtype) -> dict[str, dict[str, Version]]:
    """Ours and plain torch, by operator."""
    torch.manual_seed(0)
    leaf = lambda x: x.to(device, dtype).requires_grad_()  # noqa: E731
    u, kernel = leaf(torch.randn(shape)), leaf(torch.rand(*shape[1:3], *size))
    shift = leaf(torch.randn(*shape[1:3], 3))
    morphology: dict[str, Version] = {"torch shift": (baselines.shift_maximum, (u, kernel))}
    if u.numel() * kernel[0, 0].numel() * u.element_size() < MOST_BYTES:
        morphology["torch unfold"] = (baselines.unfold_maximum, (u, kernel))
    weight = leaf(expand(kernel.detach()).flatten(0, 1))
    convolution: dict[str, Version] = {
        "conv2d, grouped": (baselines.conv2d, (u, weight)),
        "conv3d, grouped": (baselines.conv3d, (u, kernel)),
    }
    moving: dict[str, Version] = {"grid_sample": (baselines.grid_sample, (u, shift))}
    for name in registry.available("morphological_convolution", device):
        if name != "numba":
            morphology[f"ours {name}"] = (partial(_morphology, name), (u, kernel))
            convolution[f"ours {name}"] = (partial(_convolution, name), (u, kernel))
            moving[f"ours {name}"] = (partial(_convection, name), (u, shift))
    return {"morphology": morphology, "group convolution": convolution, "convection": moving}


def _morphology(backend: str, u: Tensor, kernel: Tensor) -> Tensor:
    return morphological_convolution(u, kernel, 1, backend)


def _convolution(backend: str, u: Tensor, kernel: Tensor) -> Tensor:
    return group_convolution(u, kernel, backend=backend)


def _convection(backend: str, u: Tensor, shift: Tensor) -> Tensor:
    return convection(u, shift, backend=backend)


def passes(function: Callable[..., Any], leaves: tuple[Tensor, ...]) -> dict[str, Callable[[], object]]:
    """Value alone, value with what backward keeps, and both passes."""

    def value() -> object:
        with torch.no_grad():
            return function(*leaves)

    def both() -> object:
        outs = function(*leaves)
        outs = outs if isinstance(outs, tuple) else (outs,)
        return torch.autograd.grad(outs, leaves, [torch.ones_like(o) for o in outs])

    return {"value": value, "value, with winners": lambda: function(*leaves), BOTH: both}


def milliseconds(call: Callable[[], object], device: str, repeats: int) -> float:
    """Median over ``repeats`` runs, after two that do not count."""
    times = []
    for turn in range(repeats + 2):
        start = time.perf_counter()
        if device == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            call()
            last.record()
            torch.cuda.synchronize()
            taken = first.elapsed_time(last)
        else:
            call()
            taken = 1e3 * (time.perf_counter() - start)
        if turn > 1:
            times.append(taken)
    return statistics.median(times)


def ceiling(device: str, dtype: torch.dtype, values: bool) -> float:
    """Taps a second that the arithmetic allows: 64 for each clock and multiprocessor, twice as many packed halves.

    Winners are found in float32.
    """
    clock = query("clocks.max.sm")
    if device != "cuda" or not clock.isdigit():
        return 0.0
    lanes = 128 if dtype == torch.float16 and values else 64
    return torch.cuda.get_device_properties(0).multi_processor_count * int(clock) * 1e6 * lanes


def _others(record: Record, name: str, dry: bool) -> None:
    """Operators of spheres and meshes, Triton beside plain torch."""
    sizes = operator_calls.TINY if dry else operator_calls.FULL
    for backend in registry.available(name, record.device):
        if backend == "numba":
            continue
        for label, call in operator_calls.prepare(name, sizes, record.device, torch.float32, backend):
            for what, run in passes(*call).items():
                taken = milliseconds(run, record.device, 1 if dry else REPEATS)
                record.add(OPERATORS, f"{name}, {label}, {backend}", what, taken, "ms", dtype="float32")


def training_steps(device: str, dry: bool) -> dict[str, dict[str, Callable[[], tuple[nn.Module, Tensor, Any]]]]:
    """By task: our network, the same on plain torch, and the G-CNN whose accuracy is nearest (docs/results.md)."""

    def make(module: str, name: str, shape: tuple[int, ...], naive: bool = False) -> Callable:
        def build() -> tuple[nn.Module, Tensor, Any]:
            import importlib

            networks = importlib.import_module(f"pdegcnn_examples.networks.{module}")
            x = torch.randn(shape, device=device)
            return getattr(networks, name)().to(device), x, baselines.naive_layers if naive else nullcontext

        return build

    digits, vessels = ((2, 1, 28, 28), (1, 3, 16, 16)) if dry else ((64, 1, 28, 28), (8, 3, 64, 64))
    return {
        "rotated digits": {
            "PDE-G-CNN small": make("digits", "small", digits),
            "PDE-G-CNN small on torch shifts": make("digits", "small", digits, naive=True),
            "PDE-G-CNN large": make("digits", "large", digits),
            "G-CNN": make("digits", "gcnn", digits),
            "CNN": make("digits", "cnn", digits),
        },
        "vessels": {
            "PDE-G-CNN6": make("vessels", "published", vessels),
            "G-CNN6": make("vessels", "gcnn", vessels),
            "CNN6": make("vessels", "cnn", vessels),
        },
    }


def _step(record: Record, name: str, version: str, build: Callable, dry: bool) -> None:
    net, x, around = build()
    optimiser = torch.optim.Adam(net.parameters())

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        net(x).square().mean().backward()
        optimiser.step()

    with around():
        taken = milliseconds(step, record.device, 1 if dry else REPEATS)
    shape = "x".join(map(str, x.shape))
    record.add("training steps", f"{name} [{shape}], {version}", "step", taken, "ms", dtype="float32")
