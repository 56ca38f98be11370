"""Memory and time of one training step, each measured in a fresh process (peak resident set; Linux).

    python benchmarks/reversible.py                     # tables and plot into docs/benchmarks/, about 7 minutes
    python benchmarks/reversible.py --depths 8 64       # fewer depths
    pip install --no-deps memcnn revlib                 # before: with the peers, too

All rows evaluate the same layers, one for each count: symmetric 3x3 convolutions of 32 channels. The peers' coupling
blocks get 64 channels, halves of 32, so that they hold two states of 32 channels and evaluate one layer for each half,
as a telegraph stack does: equal widths, equal parameters.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

WAYS = ["plain", "reversible", "by hand", "reversible exact", "by hand exact", "checkpoint_sqrt", "checkpoint"]
WAYS += ["memcnn", "revlib"]
PEERS = ("memcnn", "revlib")
SHALLOW = (1, 2, 4, 6)
TARGET = {"shape": [1, 32, 256, 256], "depths": (10, 200)}


def energy(states):
    """A loss that keeps no state itself, as a network that closes with another layer."""
    y, v = states if isinstance(states, tuple) else states.chunk(2, 1)
    return (y**2).mean() + (v**2).mean()


def build(way: str, depth: int, channels: int):
    """The network of a row, and the channels of its input."""
    from torch import nn

    from pdegcnn.reversible import ReversibleStack, SymmetricConv

    class Generic(SymmetricConv):
        """The same layer, left to autograd."""

        value_and_vjp = None

    kind = SymmetricConv if way.startswith("by hand") else Generic
    layers: list[nn.Module] = [kind(channels, init_norm=0.5) for _ in range(depth)]
    if way == "revlib":
        import revlib  # pyright: ignore

        return revlib.ReversibleSequential(*layers), 2 * channels
    if way == "memcnn":
        import memcnn  # pyright: ignore

        pairs = [memcnn.AdditiveCoupling(f, g) for f, g in zip(layers[::2], layers[1::2])]
        wrap = [memcnn.InvertibleModuleWrapper(p, keep_input=False, keep_input_inverse=False) for p in pairs]
        return nn.Sequential(*wrap), 2 * channels
    memory = way if way.startswith(("plain", "checkpoint")) else "reversible"
    return ReversibleStack(layers, h=0.2, exact=way.endswith("exact"), memory=memory), channels


def one(way: str, depth: int, shape: list[int]) -> dict:
    """Measure in this process: peak bytes above the level before the step, processor seconds, the estimate."""
    import torch

    from pdegcnn.reversible import memory_estimate

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, channels = build(way, depth, shape[1])
    shape = [shape[0], channels, *shape[2:]]

    def step(net, x):
        energy(net(x + 0.0 if way in PEERS else x)).backward()  # memcnn frees the tensor that it is given

    x = torch.randn(shape).requires_grad_(way in PEERS)
    warm, _ = build(way, 2, shape[1] // (2 if way in PEERS else 1))
    step(warm, x)  # code pages and compiled kernels are there from the second step on
    x.grad = None
    del warm
    field = "reversible" if way.startswith(("by hand", "reversible")) else way
    estimate = None if way in PEERS else getattr(memory_estimate(net, shape, loss=energy), field) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident("VmRSS")
    start = time.process_time()
    step(net, x)
    seconds = time.process_time() - start
    return {"peak": (resident("VmHWM") - before) / 1e6, "seconds": seconds, "estimate": estimate}


def resident(name: str) -> int:
    """A figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure(way: str, depth: int, shape: list[int], repeats: int = 1) -> dict:
    """The medians over fresh processes."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-W", "ignore", __file__, "--one", way, str(depth), json.dumps(shape)]
    runs = []
    for _ in range(repeats):
        found = subprocess.run(command, env=env, capture_output=True, text=True)
        if found.returncode:
            raise SystemExit(f"{way}, {depth} layers: the process ended with {found.returncode}\n{found.stderr}")
        runs.append(json.loads(found.stdout.splitlines()[-1]))
    return {k: statistics.median(r[k] for r in runs) if runs[0][k] is not None else None for k in runs[0]}


def table(rows: dict) -> list[str]:
    """One line for each way and depth."""
    lines = ["| way | layers | peak MB | of plain | time / plain | estimate MB |", "|---|---|---|---|---|---|"]
    for (way, depth), found in rows.items():
        plain = rows["plain", depth]
        estimate = "" if found["estimate"] is None else f"{found['estimate']:.0f}"
        lines.append(
            f"| {way} | {depth} | {found['peak']:.1f} | {found['peak'] / plain['peak']:.3f} "
            f"| {found['seconds'] / plain['seconds']:.2f} | {estimate} |"
        )
    return lines


def break_even(rows: dict) -> float | None:
    """The depth at which the line of plain autograd's peaks crosses that of the reversible stack."""
    depths = sorted(d for way, d in rows if way == "plain" and ("reversible", d) in rows)
    gaps = [rows["reversible", d]["peak"] - rows["plain", d]["peak"] for d in depths]
    for (a, p), (b, q) in zip(zip(depths, gaps), zip(depths[1:], gaps[1:])):
        if p > 0 >= q:
            return a + (b - a) * p / (p - q)
    return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=3)
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 64, 200])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="plain is always measured")
    parser.add_argument("--shape", type=int, nargs=4, default=[2, 32, 128, 128])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    args = parser.parse_args()
    if args.one:
        way, depth, shape = args.one
        print(json.dumps(one(way, int(depth), json.loads(shape))))
        return
    missing = [p for p in PEERS if p in args.ways and importlib.util.find_spec(p) is None]
    ways = ["plain", *(w for w in args.ways if w not in ("plain", *missing))]
    load = os.getloadavg()[0]
    rows = {}
    for depth, some in [*((d, ways) for d in args.depths), *((d, ways[:3]) for d in SHALLOW)]:
        for way in some:
            rows[way, depth] = measure(way, depth, args.shape, args.repeats)
            print(table(rows)[-1], flush=True)
    few, many = (measure("reversible", d, TARGET["shape"])["peak"] for d in TARGET["depths"])
    report(args, rows, missing, load, few, many)


def report(args: argparse.Namespace, rows: dict, missing: list[str], load: float, few: float, many: float) -> None:
    """Write tables and plot."""
    even = break_even(rows)
    deep = {key: row for key, row in rows.items() if key[1] in args.depths}
    shallow = {key: row for key, row in rows.items() if key[1] in SHALLOW}
    low, high = TARGET["depths"]
    text = [
        "# Reversible stacks: memory and time of a training step",
        "",
        f"Made by `benchmarks/reversible.py`: input {args.shape}, one core, a fresh process for each row, processor "
        f"seconds, load average {load:.1f} before and {os.getloadavg()[0]:.1f} after.",
        "",
        "`reversible` leaves the layer to autograd, `by hand` uses the adjoint that `SymmetricConv` brings; the peers "
        "run the same layers at equal width." + (f" Not installed: {', '.join(missing)}." if missing else ""),
        "",
        *table(deep),
        "",
        f"On {TARGET['shape']} a reversible stack of {low} layers takes {few:.0f} MB and one of {high} takes "
        f"{many:.0f} MB: {many / few:.2f} times as much.",
        "",
        "## Shallow stacks",
        "",
        *table(shallow),
        "",
        "No break-even between the measured depths." if even is None else f"Break-even: {even:.1f} layers.",
        "",
        "![memory and time over depth](reversible.png)",
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "reversible.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    plot(rows, args.shape, even, args.out / "reversible.png")


STYLES = {
    "plain": ("plain autograd", "#444444", "-"),
    "checkpoint": ("torch checkpoint, each layer", "#b07aa1", "--"),
    "checkpoint_sqrt": ("torch checkpoint, each √L layers", "#e69f00", "-"),
    "reversible": ("reversible", "#0072b2", "-"),
    "by hand": ("reversible, adjoint by hand", "#56b4e9", "-"),
    "reversible exact": ("reversible, bit-exact", "#009e73", ":"),
    "by hand exact": ("bit-exact, adjoint by hand", "#66c2a5", ":"),
    "memcnn": ("memcnn", "#d55e00", "-"),
    "revlib": ("revlib", "#8c564b", "-"),
}


def plot(rows: dict, shape: list[int], even: float | None, path: Path) -> None:
    """Peak memory over depth, and the time beside plain autograd."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=(3, 2))
    depths = sorted({d for _, d in rows})
    for way, (label, colour, line) in STYLES.items():
        found = sorted((d, row["peak"]) for (name, d), row in rows.items() if name == way)
        if found:
            left.plot(*zip(*found), line, marker="o", markersize=4, color=colour, label=label)
    if even is not None:
        left.axvline(even, color="#999999", linewidth=0.8)
        place = left.get_xaxis_transform()
        left.text(even * 1.06, 0.02, f"break-even: {even:.1f} layers", fontsize=8, transform=place)
    left.set(xlabel="layers", ylabel="peak memory of a training step [MB]", xscale="log", yscale="log")
    left.set_xticks(depths, [str(d) for d in depths])
    left.minorticks_off()
    ticks = [t for t in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if left.get_ylim()[0] <= t <= left.get_ylim()[1]]
    left.set_yticks(ticks, [str(t) for t in ticks])
    left.grid(alpha=0.3)
    left.set_title(
        f"Memory: constant in depth when states are rebuilt\n(input {'x'.join(map(str, shape))})", fontsize=10
    )
    left.legend(frameon=False, fontsize=8)
    deepest = max(d for way, d in rows if way == "by hand") if ("by hand", depths[-1]) in rows else depths[-1]
    ways = [w for w in STYLES if (w, deepest) in rows]
    times = [rows[w, deepest]["seconds"] / rows["plain", deepest]["seconds"] for w in ways]
    bars = right.barh([STYLES[w][0] for w in ways], times, color=[STYLES[w][1] for w in ways], height=0.6)
    right.bar_label(bars, [f"{t:.2f}" for t in times], padding=3, fontsize=8)
    right.axvline(4 / 3, color="#999999", linewidth=0.8, linestyle="--")
    right.text(4 / 3, -0.75, "4/3: one more forward pass", fontsize=8, ha="center")
    right.invert_yaxis()
    right.spines[["top", "right"]].set_visible(False)
    right.set_xlim(0, max(times) * 1.15)
    right.set(xlabel="time of a step / plain autograd")
    right.set_title(f"Time at {deepest} layers\n", fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
