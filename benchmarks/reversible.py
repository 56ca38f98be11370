"""Memory and time of one training step, each measured in a fresh process (peak resident set).

    python benchmarks/reversible.py                # the table and the plot, into docs/benchmarks/
    python benchmarks/reversible.py --depths 8 64  # fewer depths

Convolution layers of 32 channels at 128 x 128, batch 4, as in docs; all rows run the same telegraph map at full width.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

WAYS = ["plain", "reversible", "by hand", "reversible exact", "checkpoint_sqrt", "checkpoint"]


def one(way: str, depth: int, shape: list[int]) -> dict:
    """Measure in this process: peak bytes above the level before the step, seconds, the estimate."""
    import torch
    from torch import nn

    from pdegcnn.reversible import ReversibleStack, SymmetricConv, memory_estimate

    torch.set_num_threads(1)
    torch.manual_seed(0)

    class Generic(SymmetricConv):
        value_and_vjp = None

    kind = SymmetricConv if way == "by hand" else Generic
    layers: list[nn.Module] = [kind(shape[1], init_norm=0.5) for _ in range(depth)]
    memory = way if way.startswith(("plain", "checkpoint")) else "reversible"
    stack = ReversibleStack(layers, h=0.2, exact=way.endswith("exact"), memory=memory)
    warm = ReversibleStack(layers[:1], h=0.2, memory="plain")
    (warm(torch.randn(1, shape[1], 16, 16))[0] ** 2).mean().backward()
    stack.zero_grad(set_to_none=True)
    x = torch.randn(shape)
    estimate = memory_estimate(stack, shape)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident("VmRSS")
    start = time.process_time()
    energy(*stack(x)).backward()
    seconds = time.process_time() - start
    peak = resident("VmHWM") - before
    field = {"by hand": "reversible", "reversible exact": "reversible"}.get(way, way)
    return {"peak": peak / 1e6, "seconds": seconds, "estimate": getattr(estimate, field) / 1e6}


def energy(y, v):
    """A loss that keeps neither state itself, as a network that closes with another layer."""
    return (y**2).mean() + (v**2).mean()


def resident(name: str) -> int:
    """A figure of /proc/self/status in bytes (where that file is missing, the peak of getrusage)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(way: str, depth: int, shape: list[int], repeats: int) -> dict:
    """The medians over fresh processes."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--one", way, str(depth), json.dumps(shape)]
    runs = [
        json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout) for _ in range(repeats)
    ]
    return {key: statistics.median(r[key] for r in runs) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=3)
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 64, 200])
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--shape", type=int, nargs=4, default=[4, 32, 128, 128])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    args = parser.parse_args()
    if args.one:
        way, depth, shape = args.one
        print(json.dumps(one(way, int(depth), json.loads(shape))))
        return
    load = os.getloadavg()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = {}
    lines = [
        f"Input {args.shape}, one core, processor seconds, load average {load[0]:.1f}.",
        "",
        "| way | layers | peak MB | of plain | time / plain | estimate MB |",
        "|---|---|---|---|---|---|",
    ]
    for depth in args.depths:
        for way in args.ways:
            found = rows[way, depth] = measure(way, depth, args.shape, args.repeats)
            plain = rows["plain", depth]
            lines.append(
                f"| {way} | {depth} | {found['peak']:.0f} | {found['peak'] / plain['peak']:.3f} "
                f"| {found['seconds'] / plain['seconds']:.2f} | {found['estimate']:.0f} |"
            )
            print(lines[-1], flush=True)
            (args.out / "reversible.md").write_text(
                "# Reversible stacks: memory and time\n\n" + "\n".join(lines) + "\n"
            )
            plot(rows, args.ways, args.out / "reversible.png")


def plot(rows: dict, ways: list[str], path: Path) -> None:
    """Peak memory over depth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for way in ways:
        found = {depth: row["peak"] for (name, depth), row in rows.items() if name == way}
        if found:
            axes.plot(list(found), list(found.values()), marker="o", label=way)
    axes.set(xlabel="layers", ylabel="peak memory of a step [MB]", xscale="log", yscale="log")
    depths = sorted({depth for _, depth in rows})
    axes.set_xticks(depths, [str(d) for d in depths])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
