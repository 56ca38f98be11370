"""Recipe: label the voxels of a volume, with a reversible network of PDE layers and a U-Net of convolutions.

    python examples/volumes.py train --net pde --out runs/volumes-pde          # drawn tubes, slices two pixels apart
    python examples/volumes.py train --net unet --out runs/volumes-unet --nuclei   # of the package stardist
    python examples/volumes.py picture --runs runs/volumes-pde runs/volumes-unet --picture volumes.png

Both have the same loop, loss, patches and mirrors. The first rows of the nuclei are for training, some in the middle
choose the epoch, the last are for testing; tubes are three volumes. The baseline is the best threshold on the training
part. The memory of a step is measured in a separate process.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.datasets import LabelledVolume, drawn_tubes, nuclei
from pdegcnn_examples.memory import elsewhere, measure
from pdegcnn_examples.networks.volumes import NETS
from pdegcnn_examples.training import distributed, local_device, rank, recipe
from pdegcnn_examples.training.programs import Programs, save_picture, trained

OWN: dict[str, dict[str, Any]] = {"pde": {"rate": 0.01}, "unet": {"rate": 0.01}}
"""Settings of each network; all else is shared."""
PATCH, PATCHES = (16, 24, 24), 48
"""Voxels of a patch, and how many make an epoch."""
MEASURED = 8
"""Batches that make the step whose memory is measured: smaller ones vanish in what torch itself holds."""
ROWS = (31, 40)
"""Rows of the nuclei at which the validation and the test part begin."""


class Split(NamedTuple):
    """Volumes to train on, to choose by and to test on."""

    train: LabelledVolume
    val: LabelledVolume
    test: LabelledVolume


class VolumeTask:
    """Cross entropy and soft Dice of random patches, mirrored at random."""

    def __init__(self, split: Split, count: int = PATCHES) -> None:
        self.split, self.count = split, count
        self.space = pg.R3(split.train.spacing)

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Loss of as many patches as there are ``chosen``."""
        values, labels = (torch.stack(parts)[:, None] for parts in zip(*(self._patch(random) for _ in chosen)))
        logits = model(values.to(local_device()))
        wanted, found = labels.to(logits), logits.sigmoid()
        dice = 1 - 2 * (found * wanted).sum() / (found.sum() + wanted.sum() + 1)
        return F.binary_cross_entropy_with_logits(logits, wanted) + dice

    def _patch(self, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Values and labels of a patch somewhere in the training volume, mirrored."""
        volume = self.split.train
        starts = [int(random.integers(0, max(1, n - m + 1))) for n, m in zip(volume.values.shape, PATCH)]
        box = tuple(slice(a, a + m) for a, m in zip(starts, PATCH))
        mirror = torch.diag(torch.from_numpy(random.choice((-1.0, 1.0), 3)))
        both = torch.stack((volume.values[box], volume.labels[box].float()))[None]
        values, labels = self.space.transform(both, rotation=mirror)[0]
        return values, labels

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Dice of the part to choose by."""
        return {"dice": dice(self.found(model, self.split.val), self.split.val.labels)}

    @torch.no_grad()
    def found(self, model: nn.Module, volume: LabelledVolume) -> Tensor:
        """Mask [D,H,W] that a network finds in a volume, on the CPU."""
        return model(volume.values[None, None].to(local_device()))[0, 0].cpu() > 0


def dice(found: Tensor, labels: Tensor) -> float:
    """Dice coefficient of two masks, which is their F1 score."""
    from torchmetrics.functional.classification import binary_f1_score  # not to measure memory

    return float(binary_f1_score(found.int(), labels.int()))


def threshold(volume: LabelledVolume) -> float:
    """The value above which voxels have the best Dice in a volume."""
    steps = torch.linspace(0.02, 0.98, 49)
    values = volume.values.quantile(steps)
    return float(values[int(np.argmax([dice(volume.values > value, volume.labels) for value in values]))])


def rows(volume: LabelledVolume, first: int, last: int | None) -> LabelledVolume:
    """Some rows of a volume."""
    return LabelledVolume(volume.values[:, first:last], volume.labels[:, first:last], volume.spacing)


def load(chosen: argparse.Namespace) -> tuple[Split, str]:
    """Volumes and their name."""
    if chosen.nuclei:
        try:
            whole = nuclei()
        except (FileNotFoundError, ImportError) as error:
            raise SystemExit(f"--nuclei: {error}") from error
        return Split(rows(whole, 0, ROWS[0]), rows(whole, *ROWS), rows(whole, ROWS[1], None)), "nuclei"
    size = (8, 16, 16) if chosen.smoke else (24, 48, 48)
    return Split(*(drawn_tubes(size, seed=seed) for seed in range(3))), "drawn tubes"


def one(chosen: argparse.Namespace, task: VolumeTask, batch: int) -> None:
    """Print the megabytes and seconds of one training step on this many patches, the second step of this process."""
    torch.manual_seed(0)
    model, random = NETS[chosen.net](1, 1, task.space), np.random.default_rng(0)
    for size in (1, batch):
        model.zero_grad()
        found = measure(lambda size=size: task.loss(model, torch.arange(size), random).backward())
    print(json.dumps(found))


def train(chosen: argparse.Namespace) -> None:
    """Train a network, test it, write its result."""
    own = {"epochs": 30, "batch": 4, "average": 0.98, "clip": 1.0, "score": "dice"} | OWN[chosen.net]
    how = recipe.settings(chosen, **own)
    split, name = load(chosen)
    task = VolumeTask(split, 8 if chosen.smoke else PATCHES)
    if chosen.one:
        one(chosen, task, how.batch * MEASURED)
        return
    with distributed():
        recipe.start()
        torch.manual_seed(chosen.seed)
        model = NETS[chosen.net](1, 1, task.space).to(local_device())
        done = recipe.train(chosen.net, model, task, how, chosen)
        if rank():
            return
        figures = {f"val_{k}": v for k, v in task.evaluate(done.model).items()}
        figures["dice"] = dice(task.found(done.model, split.test), split.test.labels)
        figures["threshold_dice"] = dice(split.test.values > threshold(split.train), split.test.labels)
        if found := elsewhere([*sys.argv[1:], "--one"]):
            figures |= dict(zip(("memory_mb", "step_seconds"), found))
        row = f"{chosen.net}, {name}"
        recipe.finish(chosen, "volumes", row, done, how, figures, data=name, network={"net": chosen.net})


def picture(chosen: argparse.Namespace) -> None:
    """Draw slices of the test part: the truth, and what each run finds."""
    from pdegcnn_examples.plots.volumes import slice_pictures

    split, _ = load(chosen)
    task, masks = VolumeTask(split), {"truth": split.test.labels}
    for net, model in trained(chosen.runs, NETS, lambda net: NETS[net](1, 1, task.space)):
        masks[net] = task.found(model, split.test)
    depth = split.test.values.shape[0]
    figure = slice_pictures(split.test.values, masks, [depth // 4, depth // 2, 3 * depth // 4])
    save_picture(figure, chosen.picture)


def main() -> None:
    """Run the program that the command line names."""
    programs = Programs(__doc__, "volumes", NETS)
    programs.train.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    for program in (programs.train, programs.add_picture()):
        program.add_argument("--nuclei", action="store_true", help="the volume of the package stardist (drawn tubes)")
    programs.run(train=train, picture=picture)


if __name__ == "__main__":
    main()
