"""What torch does with our layers on a GPU: compilation, graphs of a whole step, autocast, memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import pdegcnn as pg
from benchmarks.gpu import operator_calls
from benchmarks.gpu.agreement import distance, with_gradients
from benchmarks.gpu.record import Record

WARM_UPS = 3


def network(dry: bool, device: str) -> tuple[nn.Module, Tensor]:
    """The network of rotated digits without dropout, and a batch."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"channels": (2, 2), "size": 6, "kernel_size": 3} if dry else {}
    net = pg.models.rotated_digits(**options).to(device).eval()
    return net, torch.randn(*((2, 1, 8, 8) if dry else (32, 1, 28, 28)), device=device)


def step(net: Callable[..., Tensor], module: nn.Module, x: Tensor) -> list[Tensor]:
    """Value and gradients of one training step."""
    return with_gradients(lambda *_: net(x), tuple(module.parameters()))


def check_machinery(record: Record, dry: bool) -> None:
    """All of it, each part by itself."""
    net, x = network(dry, record.device)
    plain = step(net, net, x)

    def compiled() -> None:
        backend = "aot_eager" if dry else "inductor"
        came = step(torch.compile(net, fullgraph=True, backend=backend), net, x)
        _compare(record, f"torch.compile, {backend}", came, plain)

    def graphed() -> None:
        came = replay(lambda: step(net, net, x), record.device)
        _compare(record, "CUDA graph of value and gradients", came, plain)

    def autocast() -> None:
        with torch.autocast(record.device, torch.bfloat16):
            came = step(net, net, x)
        error = distance([t.float() for t in came[:1]], plain[:1])
        sound = all(t.isfinite().all() for t in came) and error < 0.1
        record.add("torch", "autocast, bfloat16", "error of the value", error, verdict="good" if sound else "wrong")

    def repeated() -> None:
        same = all(torch.equal(a, b) for a, b in zip(step(net, net, x), step(net, net, x)))
        verdict = "good" if same else "wrong"
        record.add("torch", "the same bits in two runs", "equal", float(same), verdict=verdict)

    for name, run in (("compile", compiled), ("graph", graphed), ("autocast", autocast), ("repeat", repeated)):
        record.attempt("torch", name, run)
    record.attempt("memory", "all", measure_memory, record, dry)


def _compare(record: Record, case: str, came: list[Tensor], wanted: list[Tensor]) -> None:
    error = distance(came, wanted)
    record.add("torch", case, "error", error, verdict="good" if error < 1e-3 else "wrong", dtype="float32")


def replay(run: Callable[[], list[Tensor]], device: str) -> list[Tensor]:
    """What ``run`` gives when its kernels are recorded once and played; without a GPU, what it gives."""
    if device != "cuda":
        return run()
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    graph.replay()
    torch.cuda.synchronize()
    return [t.clone() for t in results]


def measure_memory(record: Record, dry: bool) -> None:
    """Memory that value and gradients of an operator need beside the signal, in multiples of it, and of a step."""
    sizes = operator_calls.TINY if dry else operator_calls.FULL
    for name in ("morphological_convolution", "convection", "group_convolution"):
        label, call = operator_calls.prepare(name, sizes, record.device, torch.float32, "torch" if dry else "triton")[0]
        signal = call.leaves[0].numel() * call.leaves[0].element_size()
        needed = peak(partial(with_gradients, *call), record.device)
        record.add("memory", f"{name}, {label}", "peak of value and gradients", needed / signal, "signals")
    net, x = network(dry, record.device)
    record.add("memory", "rotated digits", "peak of a step", peak(lambda: step(net, net, x), record.device) / 1e6, "MB")


def peak(run: Callable[[], object], device: str) -> float:
    """Bytes that ``run`` needs beside what is there; 0 without a GPU."""
    run()
    if device != "cuda":
        return 0.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated() - before)
