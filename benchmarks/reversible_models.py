"""What reversible networks save: inference beside a U-Net, training steps, and block-low-rank layers on large volumes.

    python benchmarks/reversible_models.py       # into docs/benchmarks/reversible_models.md, about 10 minutes (Linux)

Peaks of the resident set beyond parameters and input, each in a fresh process. Where a step does not fit, the estimate
of `pdegcnn.reversible.memory_estimate` stands alone, and says so.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

LEVELS, CLASSES = 3, 12
IMAGE = [1, 3, 360, 480]
VOLUME = {"width": 12, "depth": 4, "levels": 3}
SIDES = (32, 64, 248)
NETWORKS = {
    "unet": "U-Net",
    "hyperbolic": "hyperbolic",
    "low rank": "hyperbolic, block-low-rank",
    "low rank, one layer": "hyperbolic, block-low-rank, one layer a level",
    "equivariant": "equivariant, 4 orientations, symmetric layers",
}


def unet(width: int):
    """A plain U-Net: two 3x3 convolutions a level, twice the channels a level, concatenated skips."""
    import torch
    from torch import nn

    def pair(a: int, b: int) -> nn.Module:
        relu = nn.ReLU(inplace=True)
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), relu, nn.Conv2d(b, b, 3, padding=1), relu)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = [width * 2**k for k in range(LEVELS + 1)]
            self.down = nn.ModuleList(pair(a, b) for a, b in zip([3, *sizes], sizes))
            self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * a, a, 2, stride=2) for a in sizes[:-1])
            self.up = nn.ModuleList(pair(2 * a, a) for a in sizes[:-1])
            self.last = nn.Conv2d(width, CLASSES, 1)

        def forward(self, x):
            kept = []
            for level, block in enumerate(self.down):
                x = block(nn.functional.max_pool2d(x, 2) if level else x)
                kept.append(x)
            kept.pop()
            for grow, block in zip(reversed(self.grow), reversed(self.up)):
                x = block(torch.cat((kept.pop(), grow(x)), 1))
            return self.last(x)

    return UNet()


def resident(name: str) -> int:
    """A figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def network(kind: str, width: int):
    """An image network by its key in NETWORKS; the equivariant one has ``width`` planes at the top, 4 a channel."""
    from pdegcnn.models import equivariant_hyperbolic_segmenter, hyperbolic_segmenter

    if kind == "unet":
        return unet(width)
    if kind == "equivariant":
        options = {"orientations": 4, "layer": "symmetric", "kernel_size": 3, "rank": width // 4}
        return equivariant_hyperbolic_segmenter(3, CLASSES, width // 4, 1, LEVELS, **options)
    depth, rank = (1 if kind.endswith("one layer") else 2), (width if kind.startswith("low rank") else None)
    return hyperbolic_segmenter(3, CLASSES, width, depth, LEVELS, rank=rank)


def one(kind: str, size: int, shape: list[int]) -> dict:
    """Measure in this process; ``size`` is the width of an image network, or the side of a volume."""
    import torch

    from pdegcnn.models import video_segmenter

    torch.set_num_threads(1)
    torch.manual_seed(0)
    training = kind == "volume"
    if training:
        model = video_segmenter(VOLUME["width"], 2, VOLUME["width"], VOLUME["depth"], VOLUME["levels"], rank=8)
        x = torch.randn(1, VOLUME["width"], size, size, size)
    else:
        model, x = network(kind, size), torch.randn(shape)

    def run(x):
        with torch.set_grad_enabled(training):
            out = model(x)
            if training:
                out.square().mean().backward()

    run(x[..., :16, :16, :16] if training else x[..., :128, :160])  # loads the code
    model.zero_grad(set_to_none=True)
    seconds = []
    for _ in range(1 if training else int(os.environ.get("RUNS", "1"))):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts again from here
        before, start = resident("VmRSS"), time.process_time()
        run(x)
        seconds.append(time.process_time() - start)
    count = sum(p.numel() for p in model.parameters())
    return {"peak": (resident("VmHWM") - before) / 1e6, "seconds": min(seconds), "parameters": count}


def process(kind: str, size: int, shape: list[int], **environment: str) -> dict:
    """One run in a fresh process."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, __file__, "--one", kind, str(size), json.dumps(shape)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{kind}, {size}: the process ended with {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(kind: str, size: int, shape: list[int] = IMAGE) -> dict:
    """The peak with an allocator that gives memory back at once, the time with the usual one."""
    found = process(kind, size, shape, MALLOC_MMAP_THRESHOLD_="65536")
    if kind != "volume":
        found["seconds"] = process(kind, size, shape, RUNS="3")["seconds"]
    return found


def inference(widths: list[int]) -> list[str]:
    """The table of image networks."""
    lines = [
        "| network | top width | peak MB | of the U-Net | parameters | seconds | of the U-Net |",
        "|---|---|---|---|---|---|---|",
    ]
    beside = {}
    for width in widths:
        for kind, name in NETWORKS.items():
            if kind == "hyperbolic" and width > widths[0]:
                continue  # a kernel alone has 4,000 channels squared
            found = measure(kind, width)
            beside = found if kind == "unet" else beside
            lines.append(
                f"| {name} | {width} | {found['peak']:.0f} | {found['peak'] / beside['peak']:.2f} | "
                f"{found['parameters']:,} | {found['seconds']:.2f} | {found['seconds'] / beside['seconds']:.2f} |"
            )
            print(lines[-1], flush=True)
    return lines


def sizes(width: int, largest: int) -> list[str]:
    """The table of peaks over the side of a square image."""
    lines = ["| side | U-Net MB | block-low-rank MB | of the U-Net | two states MB |", "|---|---|---|---|---|"]
    side = 256
    while side <= largest:
        shape = [1, 3, side, side]
        unet, low = (
            process(kind, width, shape, MALLOC_MMAP_THRESHOLD_="65536")["peak"]
            for kind in ("unet", "low rank, one layer")
        )
        states = 2 * 4 * width * side * side / 1e6
        lines.append(f"| {side} | {unet:.0f} | {low:.0f} | {low / unet:.2f} | {states:.0f} |")
        print(lines[-1], flush=True)
        side *= 2
    return lines


def training() -> list[str]:
    """The table of training steps on street scenes, in turn in this process."""
    import torch

    from pdegcnn.models import hyperbolic_segmenter
    from pdegcnn_examples.networks.scenes import plain

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, wanted = torch.randn(4, 3, 180, 240), torch.randint(0, 11, (4, 180, 240))
    models = {"plain": plain(3, 11), "hyperbolic": hyperbolic_segmenter(3, 11, width=8, depth=2, levels=2)}
    rows = {"encoder and decoder": ("plain", "")}
    rows |= {f"hyperbolic, `memory={m!r}`": ("hyperbolic", m) for m in ("plain", "reversible")}
    rows["hyperbolic, `exact=True`"] = ("hyperbolic", "exact")
    times = {label: [] for label in rows}
    for _ in range(6):
        for label, (name, memory) in rows.items():
            model = models[name]
            if memory:
                model.stack.memory, model.stack.exact = memory.replace("exact", "reversible"), memory == "exact"
            start = time.process_time()
            torch.nn.functional.cross_entropy(model(x), wanted).backward()
            times[label].append(time.process_time() - start)
    median = {label: statistics.median(found[1:]) for label, found in times.items()}
    first = median["encoder and decoder"]
    lines = ["| network | seconds | of the encoder and decoder |", "|---|---|---|"]
    lines += [f"| {label} | {value:.2f} | {value / first:.2f} |" for label, value in median.items()]
    print(*lines, sep="\n", flush=True)
    return lines


def volumes(largest: int) -> list[str]:
    """The table of block-low-rank volumes: measured where it fits, estimated everywhere."""
    from pdegcnn.models import hyperbolic_segmenter, video_segmenter
    from pdegcnn.reversible import memory_estimate

    width, depth, levels = VOLUME.values()
    low = video_segmenter(width, 2, width, depth, levels, rank=8)
    full = hyperbolic_segmenter(width, 2, width, depth, levels, dims=3, device="meta")
    kernels = [sum(p.numel() * p.element_size() for p in m.stack.parameters()) / 1e9 for m in (full, low)]
    lines = [
        f"{len(low.stack.sequence()) - 2 * levels} layers, {width} to {width * 8**levels} channels, kernels in full "
        f"{kernels[0]:.2f} GB, block-low-rank of rank 8 {kernels[1]:.4f} GB: {kernels[0] / kernels[1]:.0f} times less.",
        "",
        "| side | states GB | plain, estimated GB | reversible, estimated GB | reversible, measured GB |",
        "|---|---|---|---|---|",
    ]
    for side in SIDES:
        guess = memory_estimate(low, (1, width, side, side, side), loss=lambda out: out.square().mean())
        found = f"{measure('volume', side)['peak'] / 1e3:.3f}" if side <= largest else "not run"
        lines.append(
            f"| {side} | {guess.states / 1e9:.3f} | {guess.plain / 1e9:.3f} | {guess.reversible / 1e9:.3f} | {found} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--largest", type=int, default=64, help="largest side of a volume that is really run")
    parser.add_argument("--largest-image", type=int, default=4096, help="largest side of an image")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "benchmarks")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one[0], int(args.one[1]), json.loads(args.one[2]))))
        return
    load = os.getloadavg()[0]
    text = [
        "# Reversible networks: inference and large volumes",
        "",
        f"Made by `benchmarks/reversible_models.py`, one core, a fresh process for each measured figure, processor "
        f"seconds, load average {load:.1f}. Peaks are beyond parameters and input.",
        "",
        f"## Inference on {IMAGE}",
        "",
        f"{LEVELS} coarsenings, two layers a level on the way down and up; block-low-rank with as many channels inside "
        "a layer as the top has. Widths are equal; that the networks are equally accurate is not shown here.",
        "",
        *inference(args.widths),
        "",
        f"## Inference over the size of the image, top width {args.widths[0]}",
        "",
        *sizes(args.widths[0], args.largest_image),
        "",
        "## A training step on [4, 3, 180, 240]",
        "",
        "The plain network of `examples/street_scenes.py` and `hyperbolic_segmenter(3, 11, width=8, depth=2, "
        "levels=2)`, of about as many parameters, in turn in one process.",
        "",
        *training(),
        "",
        "## A training step on volumes",
        "",
        *volumes(args.largest),
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "reversible_models.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
