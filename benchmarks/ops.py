"""Side-by-side times of the operators: ``python benchmarks/ops.py`` writes a table and a plot to docs/benchmarks."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F

from pdegcnn.ops import backend as registry
from pdegcnn.ops.convection import convection
from pdegcnn.ops.convection import reference as convection_reference
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.group_convolution import reference as group_reference
from pdegcnn.ops.morphology import morphological_convolution

SIZES = [((1, 4, 8, 32, 32), (3, 3, 3)), ((4, 16, 8, 64, 64), (5, 5, 5))]
FIELDS = ["operator", "signal", "kernel", "version", "pass", "milliseconds", "load"]


def milliseconds(function: Callable[[], object], budget: float) -> float:
    """Best of the runs that fit into ``budget`` seconds, at least two, after one warm-up (none where it is slow)."""
    start = time.perf_counter()
    function()
    first = time.perf_counter() - start
    best, end, runs = (first, 0.0, 1) if first > 1 else (float("inf"), time.perf_counter() + budget, 0)
    while runs < 2 or (time.perf_counter() < end and runs < 30):
        start = time.perf_counter()
        function()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return 1e3 * best


def shift_maximum(u: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """One shift and one torch.maximum per tap, differentiated by autograd."""
    ko, kh, kw = kernel.shape[-3:]
    padded = F.pad(u, (kw // 2, kw // 2, kh // 2, kh // 2), value=-torch.inf)
    turned = [padded.roll(ko // 2 - a, 2) for a in range(ko)]
    best = None
    for a, i, j in product(range(ko), range(kh), range(kw)):
        value = turned[a][..., i : i + u.shape[3], j : j + u.shape[4]] - kernel[:, :, a, i, j, None, None]
        best = value if best is None else torch.maximum(best, value)
    assert best is not None
    return best


def unfold_dilation(u: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """All taps in one tensor, then one maximum."""
    ko, kh, kw = kernel.shape[-3:]
    padded = F.pad(u, (kw // 2, kw // 2, kh // 2, kh // 2), value=-1e9)
    turned = torch.stack([padded.roll(ko // 2 - a, 2) for a in range(ko)], 3)
    windows = turned.unfold(4, kh, 1).unfold(5, kw, 1)
    return (windows - kernel[:, :, :, None, None]).amax((3, 6, 7))


def grid_sample_convection(u: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Trilinear grid_sample with the orientation axis wrapped by one extra plane on each side."""
    batch, channels, orientations, height, width = u.shape
    wrapped = torch.cat([u[:, :, -1:], u, u[:, :, :1]], 2)
    axes = [torch.arange(n, dtype=u.dtype) for n in (orientations, height, width)]
    base = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    place = base + shift[:, :, None, None]
    place = torch.cat([place[..., :1] % orientations + 1, place[..., 1:]], -1)
    size = torch.tensor([orientations + 2, height, width], dtype=u.dtype)
    grid = (place / (size - 1) * 2 - 1).flip(-1)
    planes = wrapped.flatten(0, 1)[:, None]
    grid = grid.expand(batch, *grid.shape).flatten(0, 1)
    return F.grid_sample(planes, grid, padding_mode="border", align_corners=True).view(u.shape)


def conv3d_orientationwise(u: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """One grouped conv3d per output orientation, whose window holds the orientations it needs."""
    ko, kh, kw = kernel.shape[-3:]
    outs = []
    for o in range(u.shape[2]):
        window = torch.stack([u[:, :, (o + a - ko // 2) % u.shape[2]] for a in range(ko)], 2)
        outs.append(F.conv3d(window, kernel[:, o, None], padding=(0, kh // 2, kw // 2), groups=u.shape[1]))
    return torch.cat(outs, 2)


def versions(shape: tuple[int, ...], size: tuple[int, ...]) -> dict[str, dict[str, tuple]]:
    """Per operator and version: the function and its inputs."""
    torch.manual_seed(0)
    u, kernel = torch.randn(shape, requires_grad=True), torch.rand(*shape[1:3], *size, requires_grad=True)
    shift = (torch.randn(*shape[1:3], 3) * 1.5).requires_grad_()
    table: dict[str, dict[str, tuple]] = {
        "morphology": {
            "torch shift, autograd": (shift_maximum, (u, kernel)),
            "torch unfold": (unfold_dilation, (u, kernel)),
        },
        "convection": {
            "grid_sample": (grid_sample_convection, (u, shift)),
            "torch gather, autograd": (convection_reference.convection, (u, shift)),
        },
        "group convolution": {
            "torch shift, autograd": (group_reference.group_convolution, (u, kernel)),
            "grouped conv3d": (conv3d_orientationwise, (u, kernel)),
        },
    }
    if u.numel() > 1e6:  # its windows would fill gigabytes
        del table["morphology"]["torch unfold"]
    for name in registry.available("morphological_convolution"):
        table["morphology"][f"ours {name}"] = (lambda u, k, n=name: morphological_convolution(u, k, 1, n), (u, kernel))
    for name in registry.available("convection")[:1]:
        table["convection"][f"ours {name}"] = (lambda u, s, n=name: convection(u, s, backend=n), (u, shift))
    for name in registry.available("group_convolution"):
        table["group convolution"][f"ours {name}"] = (lambda u, k: group_convolution(u, k), (u, kernel))
    return table


def measure(budget: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for shape, size in SIZES:
        for operator, entries in versions(shape, size).items():
            for version, (function, inputs) in entries.items():
                grad = torch.randn(shape)

                def forward(function=function, inputs=inputs) -> None:
                    with torch.no_grad():
                        function(*inputs)

                def both(function=function, inputs=inputs, grad=grad) -> None:
                    torch.autograd.grad(function(*inputs), inputs, grad)

                for name, call in (("forward", forward), ("forward + backward", both)):
                    value = milliseconds(call, budget)
                    texts = ["x".join(map(str, x)) for x in (shape, size)]
                    load = round(os.getloadavg()[0], 1)
                    print(operator, version, name, texts, round(value, 2), flush=True)
                    rows.append(dict(zip(FIELDS, [operator, *texts, version, name, round(value, 2), load])))
    return rows


def plot(rows: list[dict[str, object]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    chosen = [r for r in rows if r["kernel"] == "5x5x5"]
    operators = list(dict.fromkeys(r["operator"] for r in chosen))
    figure, axes = plt.subplots(1, len(operators), figsize=(14, 4), constrained_layout=True)
    for axis, operator in zip(axes, operators):
        names = list(dict.fromkeys(r["version"] for r in chosen if r["operator"] == operator))
        for offset, part in ((-0.2, "forward"), (0.2, "forward + backward")):
            values = [r["milliseconds"] for r in chosen if r["operator"] == operator and r["pass"] == part]
            bars = axis.barh([i + offset for i in range(len(names))], values, 0.38, label=part)
            axis.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
        axis.set(yticks=range(len(names)), yticklabels=names, xscale="log", xlabel="milliseconds (log)", title=operator)
        axis.margins(x=0.15)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2)
    figure.suptitle("float32, u [4,16,8,64,64], kernels 5x5x5")
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    parser.add_argument("--budget", type=float, default=0.4, help="seconds per entry")
    arguments = parser.parse_args()
    before = os.getloadavg()
    rows = measure(arguments.budget)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "ops.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    note = f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, float32; "
    note += f"load average {before[0]:.1f} before and {os.getloadavg()[0]:.1f} after. "
    note += "Best of the runs (entries above 1 s: one run without warm-up); a load above "
    note += "the number of threads makes all times longer, so read the ratios.\n"
    note += (
        "On a busy machine run with OMP_NUM_THREADS=1: torch's own threads wait for each other there, ours do not.\n"
    )
    lines = ["# Times of the operators\n", note, f"| {' | '.join(FIELDS)} |", "|---" * len(FIELDS) + "|"]
    lines += [f"| {' | '.join(str(v) for v in row.values())} |" for row in rows]
    (arguments.out / "ops.md").write_text("\n".join(lines) + "\n")
    plot(rows, arguments.out / "ops.png")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
