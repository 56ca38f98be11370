"""Reversible networks on pictures: segmentation, equivariant segmentation, depth, classification.

    python examples/reversible_scenes.py --task segmentation                  # drawn scenes
    python examples/reversible_scenes.py --task segmentation --data FOLDER    # CamVid, see datasets.camvid

Drawn discs and squares at known depths stand in for photographs. Each task trains a fully hyperbolic network and the
same network under plain autograd, from the same start, and prints scores, seconds and memory of both.
"""

import argparse
import os
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pdegcnn.models import equivariant_hyperbolic_segmenter, hyperbolic_classifier, hyperbolic_segmenter
from pdegcnn.reversible import memory_estimate
from pdegcnn_examples.datasets import CAMVID_CLASSES, CAMVID_VOID, camvid, drawn_scene
from pdegcnn_examples.output import training_folder
from pdegcnn_examples.training import Settings, recipe
from pdegcnn_examples.training.settings import epochs_of

TARGET = {"segmentation": "mask", "equivariant": "mask", "depth": "depth", "classification": "label"}
DENSE = ("segmentation", "equivariant")


def load(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Inputs and targets to train on, those held out, and the number of classes."""
    if args.data:
        train, held = camvid(args.data, args.count)
        return train.images - 0.5, train.labels, held.images - 0.5, held.labels, len(CAMVID_CLASSES)
    rng = np.random.default_rng(0)
    items = [drawn_scene(args.size, rng) for _ in range(args.count or 64)]
    x = torch.as_tensor(np.stack([item["image"] for item in items]), dtype=torch.float32)
    target = torch.as_tensor(np.stack([item[TARGET[args.task]] for item in items]))
    target = target.float() if args.task == "depth" else target.long()
    held = max(1, len(x) // 4)
    classes = {"depth": 1, "classification": 2}.get(args.task, 3)
    return x[held:], target[held:], x[:held], target[:held], classes


def build(task: str, channels: int, classes: int, width: int, depth: int) -> torch.nn.Module:
    """The network of a task."""
    if task == "equivariant":
        return equivariant_hyperbolic_segmenter(channels, classes, max(1, width // 4), depth, orientations=4)
    kind = hyperbolic_classifier if task == "classification" else hyperbolic_segmenter
    return kind(channels, classes, width, depth)


def objective(task: str, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if task == "depth":
        return F.mse_loss(out[:, 0], target)
    return F.cross_entropy(out, target, ignore_index=CAMVID_VOID if task in DENSE else -100)


def score(task: str, out: torch.Tensor, target: torch.Tensor, classes: int) -> str:
    """What the held-out part reaches; void pixels do not count."""
    if task == "depth":
        return f"mean error {float((out[:, 0] - target).abs().mean()):.3f}"
    found = out.argmax(1)
    if task not in DENSE:
        return f"accuracy {float((found == target).float().mean()):.3f}"
    valid = target != CAMVID_VOID
    table = torch.bincount(target[valid] * classes + found[valid], minlength=classes**2).view(classes, classes).float()
    union = table.sum(0) + table.sum(1) - table.diagonal()
    common = float(table.sum(1).max() / table.sum())
    overlap = float((table.diagonal() / union)[table.sum(1) > 0].mean())
    right = float(table.diagonal().sum() / table.sum())
    return f"pixel accuracy {right:.3f} (commonest class {common:.3f}), mean IoU {overlap:.3f}"


def train(
    way: str, model: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, args: argparse.Namespace
) -> tuple[float, float]:
    """Train by random pictures; return the mean loss of the last tenth of the steps and the seconds of a step."""
    how = Settings(epochs_of(args.steps), args.batch, 5e-3, 0.0, "constant")

    def loss(chosen: torch.Tensor) -> torch.Tensor:
        chosen = chosen % len(x)
        return objective(args.task, model(x[chosen]), target[chosen])

    count = args.batch * (args.steps // how.epochs)
    done = recipe.train_alone(f"{args.task}, {way}", model, loss, count, how, args)
    return done.history[-1]["loss"], done.seconds / done.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=list(TARGET), default="segmentation")
    parser.add_argument("--data", type=Path, help="folder with CamVid, for the segmentations (default: drawn scenes)")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=32, help="side of the drawn scenes in pixels")
    parser.add_argument("--count", type=int, help="number of pictures (default: 64 drawn ones, all of CamVid)")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("reversible_scenes"), help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that everything runs")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps: expected a positive number, got {args.steps}")
    if args.smoke:
        args.steps, args.count, args.size, args.width, args.depth = 2, 8, 16, 4, 1
    if args.data and args.task not in DENSE:
        parser.error(f"--data: CamVid has labels for {' and '.join(DENSE)} only, not for {args.task}")
    try:
        x, target, held_x, held, classes = load(args)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"--data: {error}") from error
    print(f"{args.task}: {len(x)} pictures {tuple(x.shape[1:])}, {len(held_x)} held out, {args.steps} steps")
    model = build(args.task, x.shape[1], classes, args.width, args.depth)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    memory = memory_estimate(model, (args.batch, *x.shape[1:]), loss=lambda out: out.square().mean())
    for way in ("plain", "reversible"):
        model.load_state_dict(start)
        model.stack.memory = way
        value, seconds = train(way, model, x, target, args)
        with torch.no_grad():
            out = torch.cat([model.eval()(part) for part in held_x.split(args.batch)])
        print(f"{way:>10}: loss {value:.3f}, held out: {score(args.task, out, held, classes)}")
        print(f"{'':>12}{1e3 * seconds:.0f} ms and {getattr(memory, way) / 1e6:.1f} MB (estimated) a step")
    shutil.rmtree(training_folder(args.out))
    print(f"with checkpoints every square root of the depth: {memory.checkpoint_sqrt / 1e6:.1f} MB")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
