"""Recipe: street scenes (CamVid), a reversible hyperbolic network beside a plain one of as many parameters.

    python examples/street_scenes.py --data DIR --net hyperbolic       # DIR: see pdegcnn.data.camvid
    python examples/street_scenes.py --data DIR --net plain

Both have the same loop, loss and pictures. The memory of a training step is measured in a process of its own. Without
data, drawn discs and squares stand in.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

import _recipe
import numpy as np
import torch
from _common import load_or_exit
from _memory import elsewhere, measure
from reversible_scenes import scene
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from pdegcnn.data import CAMVID_CLASSES, CAMVID_VOID, Scenes, SceneSplit, camvid
from pdegcnn.models import hyperbolic_segmenter
from pdegcnn.recipes import own_device, processes, rank, world

OWN: dict[str, dict[str, Any]] = {"hyperbolic": {"rate": 0.005}, "plain": {"rate": 0.005}}
"""Settings of each network; all else is shared."""


class PlainNet(nn.Module):
    """An encoder and decoder of convolution, batch norm, ReLU; halved by pooling, enlarged bilinearly, summed."""

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([_two(in_channels, width), _two(width, 2 * width)])
        self.bottom = _two(2 * width, 4 * width)
        self.up = nn.ModuleList([_two(4 * width, 2 * width), _two(2 * width, width)])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,classes,H,W]."""
        kept = []
        for layer in self.down:
            kept.append(layer(x))
            x = F.max_pool2d(kept[-1], 2)
        x = self.bottom(x)
        for layer, fine in zip(self.up, reversed(kept)):
            x = layer(F.interpolate(x, fine.shape[-2:], mode="bilinear", align_corners=False)) + fine
        return self.head(x)


def _two(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a in (before, after):
        layers += [nn.Conv2d(a, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def build(name: str, channels: int, classes: int) -> nn.Module:
    """The network called ``name``; both have about 320 thousand parameters with three channels and eleven classes."""
    if name == "hyperbolic":
        return hyperbolic_segmenter(channels, classes, width=8, depth=2, levels=2)
    return PlainNet(channels, classes, width=28)


class SceneTask:
    """Cross-entropy over pixels that some class claims, of pictures mirrored at random."""

    def __init__(self, split: SceneSplit, classes: int) -> None:
        self.train, self.val, self.classes, self.count = split.train, split.val, classes, len(split.train.labels)

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Loss of the pictures ``chosen``."""
        images, labels = self.train.images[chosen] - 0.5, self.train.labels[chosen]
        mirror = torch.from_numpy(random.random(len(chosen)) < 0.5)
        images = torch.where(mirror[:, None, None, None], images.flip(-1), images)
        labels = torch.where(mirror[:, None, None], labels.flip(-1), labels)
        images = images * float(np.exp(random.normal(0, 0.1)))
        return F.cross_entropy(model(images.to(own_device())), labels.to(own_device()), ignore_index=CAMVID_VOID)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean intersection over union and pixel accuracy on the validation part; processes share the work."""
        kind = {"num_classes": self.classes, "ignore_index": CAMVID_VOID}
        metrics = {
            "mean_iou": MulticlassJaccardIndex(average="macro", **kind).to(own_device()),
            "pixel_accuracy": MulticlassAccuracy(average="micro", **kind).to(own_device()),
        }
        mine = slice(rank(), None, world())
        for x, y in zip(self.val.images[mine].split(4), self.val.labels[mine].split(4)):
            found = model(x.to(own_device()) - 0.5).argmax(1)
            for metric in metrics.values():
                metric.update(found, y.to(own_device()))
        return {name: float(metric.compute()) for name, metric in metrics.items()}


def load(chosen: argparse.Namespace) -> tuple[SceneSplit, int, str]:
    """Pictures, number of classes, name of the set."""
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        split = load_or_exit(lambda: camvid(chosen.data, 8 if chosen.smoke else None))
        return split, len(CAMVID_CLASSES), "CamVid at 240 x 180, train and val"
    random, size, count = np.random.default_rng(0), 16 if chosen.smoke else 48, 16 if chosen.smoke else 160
    drawn = [scene(size, random) for _ in range(count)]
    images = torch.from_numpy(np.stack([np.repeat(s["image"], 3, 0) for s in drawn])).float()
    labels = torch.from_numpy(np.stack([s["mask"] for s in drawn])).long()
    held = count // 4
    return SceneSplit(Scenes(images[held:], labels[held:]), Scenes(images[:held], labels[:held])), 3, "drawn scenes"


def one(chosen: argparse.Namespace, task: SceneTask, batch: int) -> None:
    """Print the megabytes and seconds of one training step, the second of this process."""
    torch.manual_seed(0)
    model, random = build(chosen.net, 3, task.classes), np.random.default_rng(0)
    for size in (1, batch):
        model.zero_grad()
        found = measure(lambda size=size: task.loss(model, torch.arange(min(size, task.count)), random).backward())
    print(json.dumps(found))


def main() -> None:
    """Train a network, test it, write its result."""
    made = _recipe.parser(__doc__, out="runs/street_scenes", data="folder with CamVid (default: drawn scenes)")
    made.add_argument("--net", choices=tuple(OWN), default="hyperbolic", help="network (%(default)s)")
    made.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = made.parse_args()
    how = _recipe.settings(
        chosen, **({"epochs": 60, "batch": 4, "average": 0.99, "clip": 1.0, "score": "mean_iou"} | OWN[chosen.net])
    )
    split, classes, name = load(chosen)
    task = SceneTask(split, classes)
    if chosen.one:
        one(chosen, task, how.batch)
        return
    with processes():
        _recipe.start()
        torch.manual_seed(chosen.seed)
        outcome = _recipe.train(build(chosen.net, 3, classes), task, how, chosen)
        figures = task.evaluate(outcome.model)
        if rank() == 0 and (found := elsewhere([*sys.argv[1:], "--one"])):
            figures |= dict(zip(("memory_mb", "step_seconds"), found))
        network = {"net": chosen.net}
        _recipe.finish(chosen, "street_scenes", chosen.net, outcome, how, figures, data=name, network=network)


if __name__ == "__main__":
    main()
