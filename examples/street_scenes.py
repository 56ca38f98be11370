"""Recipe: street scenes (CamVid), reversible hyperbolic networks and plain ones with as many parameters.

    python examples/street_scenes.py --data DIR --net hyperbolic       # DIR: see datasets.camvid
    python examples/street_scenes.py --data DIR --net ends             # hyperbolic, with convolutions at both ends
    python examples/street_scenes.py --data DIR --net unet
    python examples/street_scenes.py --data DIR --net plain

With ``--choosing``, a sixth of the training part is held out, and the validation part is not used. All have the same
loop, loss and pictures. The memory of a training step is measured in a separate process. Without data, drawn discs and
squares stand in.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pdegcnn_examples.command_line import load_or_exit
from pdegcnn_examples.datasets import CAMVID_CLASSES, CAMVID_VOID, Scenes, SceneSplit, camvid, drawn_scene
from pdegcnn_examples.memory import elsewhere, measure
from pdegcnn_examples.networks.scenes import NETS
from pdegcnn_examples.training import distributed, local_device, rank, recipe, world_size

OWN: dict[str, dict[str, Any]] = {name: {"rate": 0.005} for name in NETS} | {"ends": {"rate": 0.01}}
"""Settings of each network; all else is shared."""


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
        return F.cross_entropy(model(images.to(local_device())), labels.to(local_device()), ignore_index=CAMVID_VOID)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean intersection over union and pixel accuracy on the validation part; processes share the work."""
        from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex  # not to measure memory

        count, void = self.classes, CAMVID_VOID
        metrics = {
            "mean_iou": MulticlassJaccardIndex(count, average="macro", ignore_index=void).to(local_device()),
            "pixel_accuracy": MulticlassAccuracy(count, average="micro", ignore_index=void).to(local_device()),
        }
        mine = slice(rank(), None, world_size())
        for x, y in zip(self.val.images[mine].split(4), self.val.labels[mine].split(4)):
            found = model(x.to(local_device()) - 0.5).argmax(1)
            for metric in metrics.values():
                metric.update(found, y.to(local_device()))
        return {name: float(metric.compute()) for name, metric in metrics.items()}


def shrunk(scenes: Scenes, factor: int) -> Scenes:
    """Means over blocks of ``factor`` pixels a side, with the label of each block's first pixel."""
    images = F.avg_pool2d(scenes.images, factor)
    height, width = images.shape[-2:]
    return Scenes(images, scenes.labels[:, ::factor, ::factor][:, :height, :width])


def load(chosen: argparse.Namespace) -> tuple[SceneSplit, int, str]:
    """Pictures, number of classes, name of the set."""
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        split = load_or_exit(lambda: camvid(chosen.data, 8 if chosen.smoke else None))
        if chosen.choosing:
            order = torch.randperm(len(split.train.labels), generator=torch.Generator().manual_seed(0))
            held = len(order) // 6
            split = SceneSplit(*(Scenes(*(x[part] for x in split.train)) for part in (order[held:], order[:held])))
        split = SceneSplit(*(shrunk(part, chosen.shrink) for part in split))
        height, width = split.train.labels.shape[1:]
        parts = "a part of train" if chosen.choosing else "train and val"
        return split, len(CAMVID_CLASSES), f"CamVid at {width} x {height}, {parts}"
    random, size, count = np.random.default_rng(0), 16 if chosen.smoke else 48, 16 if chosen.smoke else 160
    drawn = [drawn_scene(size, random) for _ in range(count)]
    images = torch.from_numpy(np.stack([np.repeat(s["image"], 3, 0) for s in drawn])).float()
    labels = torch.from_numpy(np.stack([s["mask"] for s in drawn])).long()
    held = count // 4
    return SceneSplit(Scenes(images[held:], labels[held:]), Scenes(images[:held], labels[:held])), 3, "drawn scenes"


def one(chosen: argparse.Namespace, task: SceneTask, batch: int) -> None:
    """Print the megabytes and seconds of one training step, the second of this process."""
    torch.manual_seed(0)
    model, random = NETS[chosen.net](3, task.classes), np.random.default_rng(0)
    for size in (1, batch):
        model.zero_grad()
        found = measure(lambda size=size: task.loss(model, torch.arange(min(size, task.count)), random).backward())
    print(json.dumps(found))


def main() -> None:
    """Train a network, test it, write its result."""
    made = recipe.parser(__doc__, out="runs/street_scenes", data="folder with CamVid (default: drawn scenes)")
    made.add_argument("--net", choices=tuple(OWN), default="hyperbolic", help="network (%(default)s)")
    made.add_argument("--shrink", type=int, default=1, help="means over blocks of this many pixels (%(default)s)")
    made.add_argument("--choosing", action="store_true", help="leave the validation part alone")
    made.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = made.parse_args()
    if chosen.patience is not None:
        made.error("--patience: expected none, because the scores are those of the table; nothing else is held out")
    how = recipe.settings(
        chosen, **({"epochs": 60, "batch": 4, "average": 0.99, "clip": 1.0, "score": "mean_iou"} | OWN[chosen.net])
    )
    split, classes, name = load(chosen)
    task = SceneTask(split, classes)
    if chosen.one:
        one(chosen, task, how.batch)
        return
    with distributed():
        recipe.start()
        torch.manual_seed(chosen.seed)
        done = recipe.train(chosen.net, NETS[chosen.net](3, classes).to(local_device()), task, how, chosen)
        figures = task.evaluate(done.model)
        if rank() == 0 and (found := elsewhere([*sys.argv[1:], "--one"])):
            figures |= dict(zip(("memory_mb", "step_seconds"), found))
        network = {"net": chosen.net}
        other = f", {name.removeprefix('CamVid at ')}" if chosen.choosing or chosen.shrink > 1 else ""
        recipe.finish(chosen, "street_scenes", chosen.net + other, done, how, figures, data=name, network=network)


if __name__ == "__main__":
    main()
