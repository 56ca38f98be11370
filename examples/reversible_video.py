"""Segment a whole clip in one go: learn the moving object from every fourth mask, find it in all frames.

    python examples/reversible_video.py                                            # moving shapes
    python examples/reversible_video.py --data FOLDER --clip camel --shrink 2      # DAVIS, see datasets.davis

The 3D network sees all frames at once. First a table of the memory of one training step, each way in a fresh process:
plain autograd, checkpoints, reversible, reversible with block-low-rank layers. Then the last one is trained.
"""

import argparse
import json
import math
import os
import shutil
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from pdegcnn.models import video_segmenter
from pdegcnn.models.hyperbolic import hyperbolic_segmenter
from pdegcnn.reversible import memory_estimate
from pdegcnn_examples.datasets import Clip, davis, drawn_clip
from pdegcnn_examples.memory import elsewhere, measure
from pdegcnn_examples.output import training_folder
from pdegcnn_examples.training import Settings, parameters, recipe, write_result

WAYS = ("plain", "checkpoint_sqrt", "reversible", "reversible + block-low-rank")
EVERY = 4


def load(args: argparse.Namespace) -> Clip:
    if args.data is None:
        return drawn_clip(args.frames or 16, args.size)
    try:
        (clip,) = davis(args.data, [args.clip], args.frames, args.shrink).values()
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"--data: {error}") from error
    return Clip(clip.frames - 0.5, clip.masks)


def build(way: str, channels: int, args: argparse.Namespace) -> torch.nn.Module:
    """The network of a way; all have the same width, depth and levels."""
    if way.endswith("low-rank"):
        model = video_segmenter(channels, 2, args.width, args.depth, args.levels, args.rank)
    else:
        model = hyperbolic_segmenter(channels, 2, args.width, args.depth, args.levels, dims=3)
    model.stack.memory = way.split()[0]
    return model


def objective(model: torch.nn.Module, clip: Clip) -> torch.Tensor:
    """Cross-entropy over every fourth frame; object and background weigh the same."""
    share = clip.masks.float().mean().clamp(0.01, 0.99)
    weight = torch.stack((0.5 / (1 - share), 0.5 / share))
    out = model(clip.frames[None])
    return F.cross_entropy(out[:, :, ::EVERY], clip.masks[None, ::EVERY], weight)


def overlap(model: torch.nn.Module, clip: Clip) -> tuple[float, float]:
    """Intersection over union on the frames without a mask: of the answer, and of marking everything."""
    with torch.no_grad():
        found = model(clip.frames[None])[0].argmax(0)
    rest = torch.arange(len(clip.masks)) % EVERY != 0
    a, b = found[rest] == 1, clip.masks[rest] == 1
    return float((a & b).sum() / (a | b).sum().clamp_min(1)), float(b.float().mean())


def one(way: str, args: argparse.Namespace) -> None:
    """One training step in this process: its peak beyond the clip and the parameters, its seconds."""
    clip = load(args)
    model = build(way, len(clip.frames), args)
    small = Clip(clip.frames[:, :4, :16, :16], clip.masks[:4, :16, :16])
    objective(model, small).backward()  # loads the code
    model.zero_grad(set_to_none=True)
    print(json.dumps(measure(lambda: objective(model, clip).backward())))


def table(args: argparse.Namespace, clip: Clip) -> dict[str, float]:
    """Measured and estimated memory of one step, each way; the figures of the first and the last way."""
    shape = (1, *clip.frames.shape)
    print(f"{'':28}{'kernels':>10}{'estimated':>11}{'measured':>10}{'step':>8}")
    figures = {}
    for way in WAYS:
        model = build(way, len(clip.frames), args)
        guess = memory_estimate(model, shape, loss=lambda out: out.square().mean())
        kernels = sum(p.numel() * p.element_size() for p in model.stack.parameters()) / 1e6
        line = f"{way:28}{kernels:>7.3f} MB{getattr(guess, model.stack.memory) / 1e6:>8.0f} MB"
        figures[f"{'plain_' if way == WAYS[0] else ''}memory_estimate_mb"] = getattr(guess, model.stack.memory) / 1e6
        if found := elsewhere([*sys.argv[1:], "--one", way]):
            peak, seconds = found
            line += f"{peak:>7.0f} MB{seconds:>6.1f} s"
            figures["plain_memory_mb" if way == WAYS[0] else "memory_mb"] = peak
        print(line, flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with DAVIS 2016 (default: moving shapes)")
    parser.add_argument("--clip", default="camel", help="name of a DAVIS clip")
    parser.add_argument("--shrink", type=int, default=1, help="means over blocks of so many pixels")
    parser.add_argument("--frames", type=int, help="at most so many frames (default: 16 drawn ones, the whole clip)")
    parser.add_argument("--size", type=int, default=48, help="side of the moving shapes' frames")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--levels", type=int, default=1)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--result", type=Path, help="file of the result, for the table of results")
    parser.add_argument("--out", type=Path, default=Path("reversible_video"), help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that everything runs")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.smoke:
        args.steps, args.frames, args.size, args.width, args.depth, args.rank = 2, 4, 16, 2, 1, 2
    torch.manual_seed(0)
    if args.one:
        one(args.one, args)
        return
    clip = load(args)
    print(f"clip {tuple(clip.frames.shape)}, object {float(clip.masks.float().mean()):.3f} of the pixels")
    figures = table(args, clip)
    model = build(WAYS[-1], len(clip.frames), args)
    how = Settings(min(10, args.steps), 1, 5e-3, 0.0, "constant")
    count = math.ceil(args.steps / how.epochs)
    done = recipe.train_alone("clip", model, lambda _: objective(model, clip), count, how, args)
    shutil.rmtree(training_folder(args.out))
    pace = done.seconds / done.steps
    found, everything = overlap(model, clip)
    print(f"{done.steps} steps: loss {done.history[-1]['loss']:.3f}, {pace:.2f} s each")
    print(f"frames without a mask: IoU {found:.3f} (marking everything: {everything:.3f})")
    print(f"load average {os.getloadavg()[0]:.1f}")
    if args.result:
        figures |= {"iou": found, "iou_of_marking_everything": everything, "step_seconds": pace}
        size = " x ".join(map(str, clip.frames.shape[1:]))
        data = f"DAVIS 2016, {args.clip}, {size}" if args.data else f"moving shapes, {size}"
        about = {
            "seed": 0,
            "parameters": parameters(model),
            "seconds": done.seconds,
            "epochs": done.steps,
            "data": data,
        }
        name = f"{args.clip if args.data else 'shapes'}: {WAYS[-1]}, width {args.width}"
        write_result(args.result, "whole_clip", name, figures, **about)


if __name__ == "__main__":
    main()
