"""Every operator, layer, network and function on the device against the CPU, in every precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu import operator_calls
from benchmarks.gpu.record import Record
from pdegcnn.ops import backend as registry

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SLACK = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}
"""Greatest error, relative to the greatest entry, that rounding in this precision explains; more is allowed where the
CPU in the same precision is as far from float64.
"""


def text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a result."""
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return [t for v in values for t in tensors(v)]


def moved(value: Any, device: str, dtype: torch.dtype) -> Any:
    """Inputs on a device in a precision; complex ones have at least complex64, integers stay."""
    if isinstance(value, Tensor):
        if value.is_complex():
            return value.to(device, torch.promote_types(dtype, torch.float32).to_complex())
        return value.to(device, dtype) if value.is_floating_point() else value.to(device)
    if isinstance(value, dict):
        return {k: moved(v, device, dtype) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(moved(v, device, dtype) for v in value)
    return copy.deepcopy(value).to(device, dtype) if isinstance(value, nn.Module) else value


def distance(came: list[Tensor], wanted: list[Tensor]) -> float:
    """Greatest difference, relative to the greatest entry of each; infinity where NaN or infinity differ."""
    worst = 0.0
    for a, b in zip(came, wanted, strict=True):
        a, b = (x.detach().cpu().to(torch.complex128 if x.is_complex() else torch.float64) for x in (a, b))
        if a.shape != b.shape or not torch.equal(a.isfinite(), b.isfinite()):
            return float("inf")
        a, b = (torch.where(b.isfinite(), x, 0) for x in (a, b))
        worst = max(worst, float((a - b).abs().max() / b.abs().max().clamp_min(1))) if b.numel() else worst
    return worst


def judge(record: Record, part: str, case: str, dtype: torch.dtype, run: Callable[[str, torch.dtype], list]) -> None:
    """Compare ``run(device, dtype)`` with the CPU in float64, and by how much the CPU itself in ``dtype`` differs."""
    exact = run("cpu", torch.float64)
    try:
        same = run("cpu", dtype)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as refusal:
        try:
            run(record.device, dtype)
        except type(refusal):
            record.add(part, case, "error", verdict="good", dtype=text(dtype), note=f"refused as on the CPU: {refusal}")
            return
        raise
    error = distance(run(record.device, dtype), exact)
    allowed = 3 * distance(same, exact) + SLACK[dtype]
    note = "" if error <= allowed else f"allowed {allowed:.2g}"
    verdict = "good" if error <= allowed else "wrong"
    record.add(part, case, "error", error, verdict=verdict, dtype=text(dtype), note=note)


def with_gradients(function: Callable[..., Any], leaves: tuple[Tensor, ...]) -> list[Tensor]:
    """Values, and gradients of a fixed sum of them."""
    outs = tensors(function(*leaves))
    grown = [o for o in outs if o.requires_grad]
    if not grown:
        return outs
    weights = [torch.linspace(-1, 2, o.numel(), dtype=torch.float64).view(o.shape).to(o) for o in grown]
    wanted = [x for x in leaves if x.requires_grad]
    grads = torch.autograd.grad(grown, wanted, weights, allow_unused=True)
    return outs + [g for g in grads if g is not None]


def check_operators(record: Record, dry: bool) -> None:
    """All versions that run on the device, values and gradients."""
    sizes = operator_calls.TINY if dry else operator_calls.SMALL
    for name in sorted(operator_calls.missing()):
        record.add("operators", name, "run", verdict="wrong", note="enter a call in benchmarks/gpu/operator_calls.py")
    for name in registry.operators():
        for backend in registry.available(name, record.device):
            if record.device == "cpu" and backend == "numba":
                continue
            for dtype in DTYPES:
                _check_operator(record, name, backend, dtype, sizes)


def _check_operator(record: Record, name: str, backend: str, dtype: torch.dtype, sizes: operator_calls.Sizes) -> None:
    for index, (label, _) in enumerate(operator_calls.prepare(name, sizes, "cpu", dtype, "torch")):

        def run(device: str, kind: torch.dtype, index: int = index) -> list[Tensor]:
            chosen = backend if kind == dtype and device == record.device else "torch"
            _, call = operator_calls.prepare(name, sizes, device, kind, chosen)[index]
            return with_gradients(*call)

        case = f"{name}, {backend}, {label}"
        record.attempt("operators", case, judge, record, "operators", case, dtype, run, dtype=text(dtype))


def check_layers(record: Record, dry: bool) -> None:
    """Layers, networks and functions of ``tests/cases.py``, which lists all that are public."""
    from tests.cases import FUNCTIONS, LAYERS

    for case in [*LAYERS, *FUNCTIONS]:
        if case.inputs:
            part = "networks" if case.name.startswith("models.") else "layers"
            run = partial(_layer, case.build, case.inputs)
        else:
            part, run = "functions", partial(_function, case.make, dict(case.arguments))
        for dtype in DTYPES[:1] if dry else DTYPES:
            record.attempt(part, case.name, judge, record, part, case.name, dtype, run, dtype=text(dtype))


def _layer(build: Callable[[], nn.Module], inputs: tuple, device: str, dtype: torch.dtype) -> list[Tensor]:
    """Values of a layer, and gradients of its parameters in the precisions in which winners do not change."""
    layer = build().to(device, dtype).eval()
    values = tensors(layer(*moved(inputs, device, dtype)))
    loss = sum(v.abs().double().square().sum() for v in values if v.requires_grad)
    leaves = [p for p in layer.parameters() if p.requires_grad]
    if not isinstance(loss, Tensor) or not leaves or dtype in (torch.float16, torch.bfloat16):
        return values
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return values + [g for g in grads if g is not None]


def _function(function: Callable[..., Any], arguments: dict, device: str, dtype: torch.dtype) -> list[Tensor]:
    return tensors(function(**moved(arguments, device, dtype)))
