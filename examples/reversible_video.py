"""Segment a whole clip at once: learn the moving object from every fourth mask, find it in all frames.

    python examples/reversible_video.py                                            # moving shapes
    python examples/reversible_video.py --data FOLDER --clip camel --shrink 2      # DAVIS, see datasets.davis
    python examples/reversible_video.py --data FOLDER --clip camel --shrink 2 --net "frame by frame"

The 3D network gets all frames at once. First a table of the memory of one training step, each in a fresh process: plain
autograd, checkpoints, reversible, reversible with block-low-rank layers, a U-Net with as many parameters frame by
frame. Then one of them is trained. All get colours, time and position of every pixel.
"""

import argparse
import json
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
from pdegcnn_examples.networks.scenes import PlainNet
from pdegcnn_examples.output import training_folder
from pdegcnn_examples.training import Settings, parameters, recipe, write_result, write_weights
from pdegcnn_examples.training.settings import epochs_of

WAYS = ("plain", "checkpoint_sqrt", "reversible", "reversible + block-low-rank", "frame by frame")
EVERY = 4
"""Distance between frames with a mask."""
RATES = (0.01, 0.01)
"""Highest learning rates of the 3D networks and of the one frame by frame."""
HELD = 3
"""With ``--choosing``, hold out one of this many."""


class FrameByFrame(torch.nn.Module):
    """A network for pictures on each frame of a clip [B,C,T,H,W] alone."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B,C,T,H,W] -> [B,classes,T,H,W]."""
        out = self.net(x.transpose(1, 2).flatten(0, 1))
        return out.unflatten(0, (len(x), -1)).transpose(1, 2)


def load(args: argparse.Namespace) -> Clip:
    if args.data is None:
        return drawn_clip(args.frames or 16, args.size)
    try:
        (clip,) = davis(args.data, [args.clip], args.frames, args.shrink).values()
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"--data: {error}") from error
    return clip


def placed(clip: Clip) -> Clip:
    """The clip with colours about 0, and time and place of every pixel from -1 to 1 as three more channels."""
    axes = [torch.linspace(-1, 1, size) for size in clip.masks.shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return Clip(torch.cat((clip.frames - 0.5, places)), clip.masks)


def build(way: str, channels: int, args: argparse.Namespace) -> torch.nn.Module:
    """The network of a way; the reversible ones have the same width, depth and levels."""
    low = video_segmenter(channels, 2, args.width, args.depth, args.levels, args.rank, batch_norm=True)
    if way == WAYS[-1]:
        nets = [PlainNet(channels, 2, width, concatenate=True) for width in range(2, 40)]
        return FrameByFrame(min(nets, key=lambda net: abs(parameters(net) - parameters(low))))
    full = way != WAYS[-2]
    model = (
        hyperbolic_segmenter(channels, 2, args.width, args.depth, args.levels, dims=3, batch_norm=True) if full else low
    )
    model.stack.memory = way.split()[0]
    return model


def parts(count: int, choosing: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of the frames to learn from, and of those to be judged by."""
    frames = torch.arange(count)
    labelled = frames[::EVERY]
    if not choosing:
        return labelled, frames[frames % EVERY != 0]
    held = torch.arange(len(labelled)) % HELD == HELD - 1
    return labelled[~held], labelled[held]


def answers(model: torch.nn.Module, clip: Clip, chosen: torch.Tensor) -> torch.Tensor:
    """Logits [1,2,T',H,W] of the frames ``chosen``; a network that sees frames alone is given no others."""
    if isinstance(model, FrameByFrame):
        return model(clip.frames[None, :, chosen])
    return model(clip.frames[None])[:, :, chosen]


def moved(clip: Clip, chosen: torch.Tensor, levels: int) -> tuple[Clip, torch.Tensor]:
    """The clip without its first frames, a random number of them, and the numbers of the frames ``chosen`` in it.

    A network that coarsens time knows each frame's place within its coarsest step. If masks were always at the same
    place, what it says at the others would not matter to the loss.
    """
    start = int(torch.randint(min(2**levels, int(chosen.max()) + 1), ()))
    shorter = Clip(clip.frames[:, start:], clip.masks[start:])
    return shorter, chosen[chosen >= start] - start


def objective(model: torch.nn.Module, clip: Clip, chosen: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and Dice over the frames ``chosen``."""
    out, truth = answers(model, clip, chosen), clip.masks[None, chosen]
    chance = out.softmax(1)[:, 1]
    dice = (2 * (chance * truth).sum() + 1) / (chance.sum() + truth.sum() + 1)
    return F.cross_entropy(out, truth) + 1 - dice


def overlap(model: torch.nn.Module, clip: Clip, chosen: torch.Tensor) -> tuple[float, float]:
    """Intersection over union on the frames ``chosen``: of the answer, and of marking everything."""
    with torch.no_grad():
        found = answers(model, clip, chosen)[0].argmax(0)
    a, b = found == 1, clip.masks[chosen] == 1
    return float((a & b).sum() / (a | b).sum().clamp_min(1)), float(b.float().mean())


def one(way: str, args: argparse.Namespace) -> None:
    """One training step in this process: its peak beyond the clip and the parameters, its seconds."""
    clip = placed(load(args))
    model = build(way, len(clip.frames), args)
    small = Clip(clip.frames[:, :4, :16, :16], clip.masks[:4, :16, :16])
    objective(model, small, torch.arange(1)).backward()  # loads the code
    model.zero_grad(set_to_none=True)
    chosen, _ = parts(len(clip.masks), args.choosing)
    print(json.dumps(measure(lambda: objective(model, clip, chosen).backward())))


def table(args: argparse.Namespace, clip: Clip) -> dict[str, float]:
    """Print measured and estimated memory of one step, each way; the figures of plain autograd and of the network."""
    shape = (1, *clip.frames.shape)
    print(f"{'':28}{'parameters':>12}{'estimated':>12}{'measured':>10}{'step':>8}")
    figures = {}
    for way in WAYS if args.net != WAYS[-1] else WAYS[-1:]:
        model = build(way, len(clip.frames), args)
        line = f"{way:28}{parameters(model):>12,}"
        before = {"plain": "plain_", args.net: ""}.get(way)
        if isinstance(model, FrameByFrame):
            line += f"{'':>12}"
        else:
            guess = memory_estimate(model, shape, loss=lambda out: out.square().mean())
            megabytes = getattr(guess, model.stack.memory) / 1e6
            line += f"{megabytes:>9.0f} MB"
            if before is not None:
                figures[f"{before}memory_estimate_mb"] = megabytes
        if found := elsewhere([*sys.argv[1:], "--one", way]):
            peak, seconds = found
            line += f"{peak:>7.0f} MB{seconds:>6.1f} s"
            if before is not None:
                figures[f"{before}memory_mb"] = peak
        print(line, flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with DAVIS 2016 (default: moving shapes)")
    parser.add_argument("--clip", default="camel", help="name of a DAVIS clip")
    parser.add_argument("--shrink", type=int, default=1, help="means over blocks of this many pixels")
    parser.add_argument("--frames", type=int, help="at most this many frames (default: 16 drawn ones, the whole clip)")
    parser.add_argument("--size", type=int, default=48, help="side of the moving shapes' frames")
    parser.add_argument("--net", choices=WAYS, default=WAYS[-2], help="which of them to train (%(default)s)")
    parser.add_argument("--choosing", action="store_true", help="judge by masks held out: for choosing settings")
    parser.add_argument("--no-memory", action="store_true", help="train without measuring memory first")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, help="highest learning rate (default: the network's own)")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--levels", type=int, default=2)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--result", type=Path, help="file of the result, for the table of results")
    parser.add_argument("--out", type=Path, default=Path("runs/reversible_video"), help="folder for the weights")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that everything runs")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps: expected a positive number, got {args.steps}")
    if args.smoke:
        args.steps, args.frames, args.size, args.width, args.depth, args.rank = 2, 4, 16, 2, 1, 2
    torch.manual_seed(0)
    if args.one:
        one(args.one, args)
        return
    clip = placed(load(args))
    print(f"clip {tuple(clip.frames.shape)}, object {float(clip.masks.float().mean()):.3f} of the pixels")
    figures = {} if args.choosing or args.no_memory else table(args, clip)
    model = build(args.net, len(clip.frames), args)
    learnt, judged = parts(len(clip.masks), args.choosing)
    how = Settings(epochs_of(args.steps), 1, args.rate or RATES[args.net == WAYS[-1]], 0.0, "one_cycle", clip=1.0)

    def loss(_: torch.Tensor) -> torch.Tensor:
        return objective(model, *moved(clip, learnt, args.levels))

    done = recipe.train_alone("clip", model, loss, args.steps // how.epochs, how, args)
    write_weights(args.out / "weights.safetensors", done.model.state_dict())
    shutil.rmtree(training_folder(args.out))
    pace = done.seconds / done.steps
    found, everything = overlap(done.model, clip, judged)
    print(f"{done.steps} steps: loss {done.history[-1]['loss']:.3f}, {pace:.2f} s each")
    print(f"{'masks held out' if args.choosing else 'frames without a mask'}: IoU {found:.3f}", end=" ")
    print(f"(marking everything: {everything:.3f})")
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
        name = f"{args.clip if args.data else 'shapes'}: {args.net}"
        write_result(args.result, "whole_clip", name, figures, **about)


if __name__ == "__main__":
    main()
