"""Recipe: the depth of every pixel from one picture, by a reversible hyperbolic network and a U-Net of equal size.

    python examples/depth.py train --net hyperbolic --out runs/depth-hyperbolic     # rendered rooms
    python examples/depth.py train --net unet --out runs/depth-unet --data DIR      # DIR: see datasets.nyu
    python examples/depth.py picture --runs runs/depth-hyperbolic runs/depth-unet --picture depth.png

Both have the same loop, loss and pictures. Weights are averaged; no choice uses the test part. If scikit-image is
installed, the networks are also tested on one real photograph of unknown scale, where depths are scaled by one factor
to equal medians.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.regression import MeanAbsolutePercentageError, MeanSquaredError

from pdegcnn_examples.command_line import load_or_exit
from pdegcnn_examples.datasets import Depths, DepthSplit, motorcycle, nyu, rooms
from pdegcnn_examples.networks.scenes import NETS
from pdegcnn_examples.plots.depth import depth_pictures
from pdegcnn_examples.training import distributed, local_device, rank, recipe
from pdegcnn_examples.training.programs import Programs, save_picture, trained

OWN: dict[str, dict[str, Any]] = {name: {"rate": 0.005} for name in NETS}
"""Settings of each network; all else is shared."""
TITLES = {"unet": "U-Net"}
"""Names of networks in pictures, where they differ."""
SIZE, COUNTS = (48, 64), (400, 100, 100)
"""Height and width of the rooms, and how many there are to train on, to choose by and to test on."""


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Depths [B,H,W] in metres of images [B,3,H,W] in [0,1]: networks give their logarithms."""
    return model(images - 0.5)[:, 0].float().clamp(-5, 5).exp()


class DepthTask:
    """Mean absolute error of the logarithm of depths, over known pixels of pictures mirrored at random."""

    def __init__(self, split: DepthSplit) -> None:
        self.train, self.val, self.count = split.train, split.val, len(split.train.depths)

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Loss of the pictures ``chosen``."""
        images, depths = self.train.images[chosen], self.train.depths[chosen]
        mirror = torch.from_numpy(random.random(len(chosen)) < 0.5)
        images = torch.where(mirror[:, None, None, None], images.flip(-1), images).to(local_device())
        depths = torch.where(mirror[:, None, None], depths.flip(-1), depths).to(local_device())
        images = images * float(np.exp(random.normal(0, 0.1)))
        known = depths > 0
        error = (predict(model, images).log() - depths.clamp_min(1e-6).log()).abs() * known
        return error.sum() / known.sum().clamp_min(1)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Scores on the part to choose by."""
        return scores(self.found(model, self.val), self.val.depths)

    @torch.no_grad()
    def found(self, model: nn.Module, scenes: Depths) -> Tensor:
        """Predicted depths of all scenes on the CPU."""
        return torch.cat([predict(model, part.to(local_device())).cpu() for part in scenes.images.split(8)])


def scores(found: Tensor, depths: Tensor, aligned: bool = False) -> dict[str, float]:
    """Relative error, root mean square error in metres, and the share of pixels within a factor of 1.25.

    With ``aligned``, every prediction is first multiplied by the factor that gives it the median of the truth.
    """
    known = depths > 0
    if aligned:
        factors = [t[k].median() / f[k].median() for f, t, k in zip(found, depths, known)]
        found = found * torch.stack(factors)[:, None, None]
    a, b = found[known], depths[known]
    return {
        "abs_rel": float(MeanAbsolutePercentageError()(a, b)),
        "rmse": float(MeanSquaredError(squared=False)(a, b)),
        "delta_125": float((torch.maximum(a / b, b / a) < 1.25).float().mean()),
    }


def load(chosen: argparse.Namespace) -> tuple[DepthSplit, str]:
    """Scenes and their name."""
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        limit = 8 if chosen.smoke else None
        return load_or_exit(lambda: nyu(chosen.data, limit, chosen.shrink)), "photographs with depths"
    counts, size = ((8, 2, 2), (16, 24)) if chosen.smoke else (COUNTS, SIZE)
    parts = [rooms(count, *size, seed=seed) for seed, count in enumerate(counts)]
    return DepthSplit(*parts), f"rendered rooms, {size[1]} x {size[0]}"


def real() -> Depths | None:
    """The photograph of scikit-image, about as large as the rooms; None where it is not installed."""
    try:
        return motorcycle(10)
    except (ImportError, FileNotFoundError):
        return None


def figures_of(task: DepthTask, model: nn.Module, test: Depths, photograph: Depths | None) -> dict[str, float]:
    """Scores on the test part and on the photograph, and those of one depth for all pixels."""
    middle = float(task.train.depths[task.train.depths > 0].median())
    figures = scores(task.found(model, test), test.depths)
    figures |= {f"constant_{k}": v for k, v in scores(torch.full_like(test.depths, middle), test.depths).items()}
    if photograph is not None:
        one = scores(task.found(model, photograph), photograph.depths, True)
        flat = scores(torch.ones_like(photograph.depths), photograph.depths, True)
        figures |= {f"photograph_{k}": v for k, v in one.items()}
        figures |= {f"photograph_constant_{k}": v for k, v in flat.items()}
    return figures


def train(chosen: argparse.Namespace) -> None:
    """Train a network, test it, write its result."""
    own = {"epochs": 15, "batch": 8, "average": 0.99, "clip": 1.0, "score": "delta_125"} | OWN[chosen.net]
    how = recipe.settings(chosen, **own)
    split, name = load(chosen)
    task = DepthTask(split)
    with distributed():
        recipe.start()
        torch.manual_seed(chosen.seed)
        model = NETS[chosen.net](3, 1).to(local_device())
        done = recipe.train(chosen.net, model, task, how, chosen)
        if rank():
            return
        figures = {f"val_{k}": v for k, v in task.evaluate(done.model).items()}
        if not chosen.choosing:
            figures |= figures_of(task, done.model, split.test, real())
        recipe.finish(chosen, "depth", chosen.net, done, how, figures, data=name, network={"net": chosen.net})


def picture(chosen: argparse.Namespace) -> None:
    """Draw rooms of the test part and the photograph: input, truth and what each run predicts."""
    split, _ = load(chosen)
    task, photograph = DepthTask(split), real()
    shown = Depths(*(part[: chosen.count] for part in split.test))
    found = {}
    for net, model in trained(chosen.runs, NETS, lambda net: NETS[net](3, 1)):
        found[net] = list(task.found(model, shown))
        if photograph is not None:
            one = task.found(model, photograph)[0]
            known = photograph.depths[0] > 0
            found[net].append(one * photograph.depths[0][known].median() / one[known].median())
    images, depths = list(shown.images), list(shown.depths)
    if photograph is not None:
        images, depths = [*images, photograph.images[0]], [*depths, photograph.depths[0]]
    figure = depth_pictures(images, depths, {TITLES.get(net, net): maps for net, maps in found.items()})
    save_picture(figure, chosen.picture)


def main() -> None:
    """Run the program that the command line names."""
    data = "folder with photographs and depths, see datasets.nyu (default: rendered rooms)"
    programs = Programs(__doc__, "depth", NETS, data)
    programs.train.add_argument("--choosing", action="store_true", help="leave the test part alone: to choose settings")
    drawing = programs.add_picture()
    drawing.add_argument("--count", type=int, default=4, help="rooms to show (%(default)s)")
    drawing.add_argument("--data", type=Path, help=data)
    for program in (programs.train, drawing):
        program.add_argument("--shrink", type=int, default=4, help="of DIR's pictures, a side (%(default)s)")
    programs.run(train=train, picture=picture)


if __name__ == "__main__":
    main()
