"""Side-by-side times and memory of the operators and of whole networks.

    python -m benchmarks.ops            # table, plot and CSV into docs/benchmarks/, about seven minutes
    python -m benchmarks.ops --quick    # the small sizes only, half a minute
    python -m benchmarks.ops --parts terms    # measure these rows again, keep the others
    python -m tools.readme_table        # the README's table from the CSV

Versions of one operator take turns, and the medians are printed, so that ratios hold on a busy machine too; with
OMP_NUM_THREADS=1 the times are processor times, which other programs do not lengthen. Memory is
the peak resident set of a fresh process above its level with the inputs in place (bytes of CUDA memory on a GPU).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

import pdegcnn as pg
from benchmarks import baselines
from pdegcnn.ops import backend as registry
from pdegcnn.ops.convection import convection
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.group_convolution.torch_impl import expand
from pdegcnn.ops.morphology import dilation_and_erosion, morphological_convolution
from tools import ops_report

Versions = dict[str, tuple[Callable, tuple[torch.Tensor, ...]]]
STANDARD, TAPS = (4, 16, 8, 64, 64), (5, 5, 5)
SMALL = ((1, 4, 8, 32, 32), (3, 3, 3))
LARGE = ((1, 16, 8, 128, 128), TAPS)
GROWTH = {
    "taps": [(STANDARD, size) for size in ((3, 3, 3), (5, 7, 7))],
    "channels": [((4, c, 8, 64, 64), TAPS) for c in (4, 32)],
    "pixels": [((4, 16, 8, n, n), TAPS) for n in (32, 96)],
}
"""With the standard case, which belongs to each."""
PARTS = ("standard", "small", "large", "planar", "terms", "models", "inference", "onnx", "growth", "memory")
RINGS = pg.sphere.SphereGrid.gauss_legendre
TERMS = {
    "layer on SE2(8)": (pg.SE2(8), STANDARD, ("convection", "diffusion", "dilation", "log-plus", "diffusion_shock")),
    "layer on R2": (pg.R2(), (4, 16, 128, 128), ("diffusion", "dilation", "log-plus", "diffusion_shock")),
    "layer on R3": (pg.R3(), (1, 16, 32, 64, 64),
                    ("convection", "diffusion", "dilation", "log-plus", "erosion", "diffusion_shock")),
    "layer on S2": (pg.S2(RINGS(32)), (4, 16, 32, 64), ("diffusion", "dilation", "log-plus", "diffusion_shock")),
    "layer on SO3": (pg.SO3(RINGS(16), 8), (2, 8, 8, 16, 32),
                     ("convection", "diffusion", "dilation", "log-plus", "diffusion_shock")),
    "layer on a mesh": (pg.Mesh.from_arrays(*pg.surface.icosphere(3), orientations=8), (2, 8, 8, 642),
                        ("convection", "diffusion", "dilation", "log-plus", "diffusion_shock")),
}  # fmt: skip
"""Spaces, signals and the terms of layers on them; log-plus is a dilation by a soft maximum."""
MEASURED = ("morphology", "convection", "group convolution")
"""Operators whose memory is measured."""
MODELS = {
    "vessel segmentation": (pg.models.vessel_segmentation, [(1, 3, 64, 64), (8, 3, 64, 64)]),
    "rotated digits": (pg.models.rotated_digits, [(32, 1, 28, 28)]),
}


def leaves(device: str, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(t.to(device).requires_grad_() for t in tensors)


def two_calls(u: torch.Tensor, dilation: torch.Tensor, erosion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return morphological_convolution(u, dilation), morphological_convolution(u, erosion, -1)


def soft_maximum(u: torch.Tensor, kernel: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    return morphological_convolution(u, kernel, semifield="log_plus", temperature=temperature)


def versions(operator: str, shape: Sequence[int], size: Sequence[int], device: str) -> Versions:
    """Per version of an operator: the function and its inputs."""
    torch.manual_seed(0)
    u, kernel = leaves(device, torch.randn(*shape), torch.rand(*shape[1:3], *size))
    if operator == "morphology":
        table = {"torch shift": (baselines.shift_maximum, (u, kernel))}
        if u.numel() * kernel[0, 0].numel() < 3e8:  # its windows would fill gigabytes
            table["torch unfold"] = (baselines.unfold_maximum, (u, kernel))
        for name in registry.available("morphological_convolution", device):
            table[f"ours {name}"] = (lambda u, k, n=name: morphological_convolution(u, k, 1, n), (u, kernel))
        return table
    if operator == "log-plus":
        (temperature,) = leaves(device, torch.full(shape[1:2], 0.2))
        table = {"max-plus": (morphological_convolution, (u, kernel))}
        return {**table, "log-plus": (soft_maximum, (u, kernel, temperature))}
    if operator == "planar dilation":
        (same,) = leaves(device, kernel[:1].detach().expand(kernel.shape).contiguous())
        table = {"torch shift": (baselines.shift_maximum, (u, same)), "kornia": (baselines.kornia_dilation, (u, same))}
        return {**table, "ours": (morphological_convolution, (u, same))}
    if operator == "dilation and erosion":
        (other,) = leaves(device, torch.rand(kernel.shape))
        return {"two calls": (two_calls, (u, kernel, other)), "ours": (dilation_and_erosion, (u, kernel, other))}
    if operator == "convection":
        (shift,) = leaves(device, torch.randn(*shape[1:3], 3) * 1.5)
        table = {"grid_sample": (baselines.grid_sample, (u, shift))}
        for name in registry.available(operator, device):
            table[f"ours {name}"] = (lambda u, s, n=name: convection(u, s, backend=n), (u, shift))
        return table
    if operator == "group convolution, mixing":
        (kernel,) = leaves(device, torch.rand(shape[1], *kernel.shape))
        expanded = expand(kernel.detach()).transpose(1, 2).flatten(2, 3).flatten(0, 1).contiguous()
        table = {"conv2d": (baselines.conv2d, (u, *leaves(device, expanded)))}
        return {**table, "ours torch": (group_convolution, (u, kernel))}
    expanded = expand(kernel.detach()).flatten(0, 1)
    table = {"conv2d, grouped": (baselines.conv2d, (u, *leaves(device, expanded)))}
    table["conv3d, grouped"] = (baselines.conv3d, (u, kernel))
    for name in registry.available("group_convolution", device):
        table[f"ours {name}"] = (lambda u, k, n=name: group_convolution(u, k, backend=n), (u, kernel))
    return table


def passes(function: Callable, inputs: tuple[torch.Tensor, ...]) -> dict[str, Callable[[], object]]:
    """Forward without gradients, and forward with backward."""

    def forward() -> None:
        with torch.no_grad():
            function(*inputs)

    def both() -> None:
        out = function(*inputs)
        outs = out if isinstance(out, tuple) else (out,)
        torch.autograd.grad(outs, inputs, [torch.ones_like(o) for o in outs])

    return {"forward": forward, "forward + backward": both}


def medians(calls: dict[str, Callable[[], object]], budget: float) -> dict[str, float]:
    """Median milliseconds of each call; they take turns until each has spent ``budget`` seconds, or run 30 times.

    The first run is a warm-up, and counts only where it alone takes longer than that.
    """
    times = {name: [seconds(call)] for name, call in calls.items()}
    while active := [n for n, t in times.items() if len(t) < 31 and (sum(t[1:]) < budget and t[0] < max(budget, 1.0))]:
        for name in active:
            times[name].append(seconds(calls[name]))
    return {n: 1e3 * statistics.median(t[1:] or t) for n, t in times.items()}


def seconds(call: Callable[[], object]) -> float:
    """Duration of a call; with one thread the processor time, which other programs on the machine do not lengthen."""
    clock = time.process_time if torch.get_num_threads() == 1 and not torch.cuda.is_available() else time.perf_counter
    start = clock()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def peak_operations() -> float:
    """Most additions and maxima a second, in 1e9: chains in registers over lines in the first cache, in all threads."""
    import numpy as np
    from numba import njit

    from pdegcnn.ops import _jit
    from pdegcnn.ops._vectors import whole_vectors

    steps = "\n".join(["            v = v - k", "            v = v if v > c else c"] * 8)
    source = f"""def probe(lines, k, c, start, stop):
    whole_vectors()
    for n in range(start, stop):
        for w in range(lines.shape[1]):
            v = lines[n % 8, w]
{steps}
            lines[n % 8, w] = v
"""
    scope: dict = {"whole_vectors": whole_vectors}
    exec(source, scope)
    probe = njit(nogil=True, fastmath={"contract", "nsz"})(scope["probe"])
    lines, count = np.ones((8, 256), np.float32), 20_000
    arguments = (lines, np.float32(1e-3), np.float32(-1))
    probe(*arguments, 0, 1)
    times = [seconds(lambda: _jit.parallel(probe, count, *arguments)) for _ in range(15)]
    return count * 256 * 16 / statistics.median(times) / 1e9


class Bench:
    """Collects the rows of the table."""

    def __init__(self, device: str, budget: float) -> None:
        self.device, self.budget, self.rows = device, budget, []
        self.peak = peak_operations() if device == "cpu" and not registry.refusal("convection", "numba", "cpu") else 0.0

    def add(self, part: str, operator: str, signal: Sequence[int], kernel: Sequence[int] | None, times: dict) -> None:
        for (version, direction), value in times.items():
            texts = ["x".join(map(str, x)) if x else "" for x in (signal, kernel)]
            row = dict.fromkeys(ops_report.FIELDS, "")
            row |= {"part": part, "operator": operator, "signal": texts[0], "kernel": texts[1], "version": version}
            row |= {"pass": direction, "ms": round(value, 3), "load": round(os.getloadavg()[0], 1)}
            if operator == "morphology" and direction == "forward" and self.peak and kernel:
                operations = 2 * torch.Size(signal).numel() * torch.Size(kernel).numel() / value / 1e6
                row |= {"gop_s": round(operations, 1), "of_peak": round(operations / self.peak, 3)}
            print(*row.values(), flush=True)
            self.rows.append(row)

    def operator(self, part: str, operator: str, shape: Sequence[int], size: Sequence[int], only: str = "") -> None:
        table = versions(operator, shape, size, self.device)
        calls = {}
        for version, entry in table.items():
            if not only or version in ("torch shift", f"ours {only}"):
                calls |= {(version, name): call for name, call in passes(*entry).items()}
        self.add(part, operator, shape, size, medians(calls, self.budget))

    def terms(self, name: str) -> None:
        """A layer of one term with the default options, 16 channels: its mixing and batch norm are counted too."""
        space, shape, terms = TERMS[name]
        (u,) = leaves(self.device, torch.randn(shape))
        calls = {}
        for term in terms:
            soft: dict = {"semifield": "log_plus", "temperature": 0.2} if term == "log-plus" else {}
            layer = pg.nn.PDELayer(space, shape[1], shape[1], ("dilation",) if soft else (term,), **soft)
            calls |= {(term, key): call for key, call in passes(layer.to(self.device), (u,)).items()}
        self.add("terms", name, shape, None, medians(calls, self.budget))

    def model(self, name: str) -> None:
        """Training step with our operators; at the first shape also with torch shifts (more would fill the memory)."""
        build, shapes = MODELS[name]
        net = build().to(self.device)
        for shape in shapes:
            x = torch.randn(shape, device=self.device)

            def step(x: torch.Tensor = x) -> None:
                net.zero_grad()
                net(x).sum().backward()

            def naive(step: Callable = step) -> None:
                with baselines.naive_layers():
                    step()

            calls = {("ours", "training step"): step}
            if shape == shapes[0]:
                calls["torch shift", "training step"] = naive
            self.add("model", name, shape, None, medians(calls, 2 * self.budget))

    def onnx(self, name: str) -> None:
        """A pass in evaluation mode beside that of the exported file in onnxruntime, on as many threads."""
        import onnxruntime

        build, shapes = MODELS[name]
        net, x = build().eval(), torch.rand(shapes[-1])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        with tempfile.TemporaryDirectory() as folder:
            path = pg.export.to_onnx(net, x, Path(folder) / "model.onnx")
            session = onnxruntime.InferenceSession(path, options)
        feed = {session.get_inputs()[0].name: x.numpy()}
        calls = {("ours", "evaluation"): lambda: torch.no_grad()(net)(x)}
        calls["onnxruntime", "evaluation"] = lambda: session.run(None, feed)
        self.add("onnx", name, shapes[-1], None, medians(calls, 4 * self.budget))

    def memory(self) -> None:
        """Peak memory in fresh processes, into the rows that have the time of the same thing."""
        for row in self.rows:
            case = tuple(row[k] for k in ("operator", "signal", "kernel"))
            wanted = row["pass"] == "forward + backward" and row["part"] == "size" and case[0] in MEASURED
            if wanted and case[1:] == ("x".join(map(str, STANDARD)), "x".join(map(str, TAPS))):
                found = in_fresh_process(self.device, "operator", row["operator"], row["version"])
                row |= {"peak_mb": round(found["peak"], 1), "of_signal": round(found["peak"] / found["signal"], 2)}
            elif row["pass"] == "training step":
                found = in_fresh_process(self.device, "model", row["operator"], row["version"], row["signal"])
                row["peak_mb"] = round(found["peak"], 1)

    def inference(self) -> None:
        found = in_fresh_process(self.device, "inference")
        self.add("model", "vessel segmentation", (1, 3, 1024, 1024), None, {("ours", "inference"): found["ms"]})
        self.rows[-1]["peak_mb"] = round(found["total"], 1)


def in_fresh_process(device: str, *what: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.ops", "--device", device, "--one", *what]
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed memory goes back at once
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)


def resident(name: str) -> float:
    """A figure of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))


def one(device: str, what: str, *names: str) -> dict[str, float]:
    """In this process: megabytes that a call needs above what was there before."""
    signal = 0.0
    if what == "operator":
        small = versions(names[0], *SMALL, device)[names[1]]
        entry = versions(names[0], STANDARD, TAPS, device)[names[1]]
        warm, call = (passes(*e)["forward + backward"] for e in (small, entry))
        signal = entry[1][0].numel() * 4 / 1e6
    elif what == "model":
        bench = Bench.__new__(Bench)
        bench.device, bench.budget, bench.rows = device, 0.0, []
        shape = tuple(map(int, names[2].split("x")))
        net = MODELS[names[0]][0]().to(device)

        def run(x: torch.Tensor) -> None:
            if names[1] == "torch shift":
                with baselines.naive_layers():
                    net(x).sum().backward()
            else:
                net(x).sum().backward()

        tiny, x = torch.randn(2, shape[1], 28, 28, device=device), torch.randn(shape, device=device)
        warm, call = (lambda: run(tiny)), (lambda: run(x))
    else:
        net = pg.models.vessel_segmentation().to(device).eval()
        tiny, x = (torch.randn(1, 3, n, n, device=device) for n in (64, 1024))
        warm, call = (lambda: torch.no_grad()(net)(tiny)), (lambda: torch.no_grad()(net)(x))
    warm()
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated() / 1e6
        torch.cuda.reset_peak_memory_stats()
        taken = seconds(call)
        peak = torch.cuda.max_memory_allocated() / 1e6
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = resident("VmRSS")
        taken = seconds(call)
        peak = resident("VmHWM")
    return {"peak": peak - before, "total": peak, "signal": signal, "ms": 1e3 * taken}


def measure(bench: Bench, parts: Sequence[str]) -> Iterator[None]:
    """All that the parts ask for; yields when there is something to write."""
    operators = ["morphology", "convection", "group convolution", "group convolution, mixing", "dilation and erosion"]
    operators.append("log-plus")
    sizes = {"standard": (STANDARD, TAPS), "small": SMALL, "large": LARGE}
    for part in (p for p in sizes if p in parts):
        for operator in operators if part != "large" else operators[:3]:
            bench.operator("size", operator, *sizes[part])
        yield
    if "planar" in parts:
        bench.operator("size", "planar dilation", (4, 16, 1, 128, 128), (1, 7, 7))
        bench.operator("size", "log-plus", (4, 16, 1, 128, 128), (1, 7, 7))
    for name in TERMS if "terms" in parts else ():
        bench.terms(name)
    if "models" in parts:
        for name in MODELS:
            bench.model(name)
    if "inference" in parts:
        bench.inference()
    for name in MODELS if "onnx" in parts and bench.device == "cpu" else ():
        bench.onnx(name)
    yield
    fastest = "triton" if bench.device == "cuda" else registry.available("morphological_convolution", "cpu")[0]
    for part, cases in GROWTH.items() if "growth" in parts else ():
        for shape, size in cases:
            bench.operator(part, "morphology", shape, size, only=fastest)
    yield
    if "memory" in parts:
        bench.memory()
    yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for each version and pass")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes only, and nothing is written")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.device, *arguments.one)))
        return
    start, before = time.perf_counter(), os.getloadavg()[0]
    some = arguments.parts if set(arguments.parts) != set(PARTS) else ()
    bench = Bench(arguments.device, 0.1 if arguments.quick else arguments.budget)
    for _ in measure(bench, ["small"] if arguments.quick else arguments.parts):
        note = ops_report.machine(arguments.device, bench.peak, before, time.perf_counter() - start)
        print(note)
        if not arguments.quick:
            ops_report.write(bench.rows, note, arguments.out, "ops" if arguments.device == "cpu" else "ops_cuda", some)


if __name__ == "__main__":
    main()
