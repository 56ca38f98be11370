"""Recipe: find objects in images as oriented boxes, with a detector on SE(2) and with a plain CNN.

    python examples/plane_detection.py train --net pde --out runs/ships-pde            # drawn ships
    python examples/plane_detection.py train --net cnn --out runs/nuclei-cnn --nuclei  # of the package stardist
    python examples/plane_detection.py picture --runs runs/ships-pde runs/ships-cnn --picture ships.png

Both networks are trained on the same upright scenes for equally many steps, with the same loss. They are then tested on
upright and on rotated scenes. Ships head east or west. Rotated scenes are different scenes, each at a random angle. The
left half of the picture of nuclei is for training and the right part for testing, upright and after quarter turns; a
strip between them monitors training.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pdegcnn.models import Detector, average_precision, turn_boxes
from pdegcnn_examples.datasets import Boxed, drawn_ships, nuclei_boxes
from pdegcnn_examples.networks.boxes import NETS
from pdegcnn_examples.training import distributed, local_device, rank, recipe
from pdegcnn_examples.training.programs import Programs, save_picture, trained

OWN: dict[str, dict[str, Any]] = {"pde": {"rate": 0.01}, "cnn": {"rate": 0.01}}
"""Settings of each network; all else is shared."""
SHIPS, SIZES = (400, 60, 200), {"ships": 14.0, "nuclei": 24.0}
"""Scenes to train on, to look at and to test on; the side of a common object in pixels."""
PATCH, PATCHES = 64, 64
"""Pixels of a patch of nuclei, and how many make an epoch."""
COLUMNS = (256, 320)
"""Columns of the nuclei at which the part to look at and the test part begin."""
LEAST = 0.05
"""Least score of the boxes whose precision is averaged."""
SHOWN = 0.4
"""Least score of the boxes in pictures."""


class Data(NamedTuple):
    """Images to train on, to look at, to test on by name."""

    name: str
    train: Boxed
    val: Boxed
    test: dict[str, Boxed]


class BoxTask:
    """The losses of a detector on whole images, or on patches of one that is larger."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.whole = len(data.train.images) > 1
        self.count = len(data.train.images) if self.whole else PATCHES

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Return the loss of the images ``chosen``, or of as many patches."""
        train = self.data.train
        if self.whole:
            images, targets = train.images[chosen], [train.targets[i] for i in chosen.tolist()]
        else:
            patches = [patch(train, random) for _ in chosen]
            images, targets = torch.cat([p.images for p in patches]), [p.targets[0] for p in patches]
        return sum(model(images.to(local_device()), targets).values())

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the average precision on the images to look at."""
        return {"ap": precision(model, self.data.val)}


def patch(whole: Boxed, random: np.random.Generator) -> Boxed:
    """Cut a square out of the only image, with the boxes whose centres it holds."""
    height, width = whole.images.shape[-2:]
    side = min(PATCH, height, width)
    top, left = (int(random.integers(0, n - side + 1)) for n in (height, width))
    return cut(whole, slice(top, top + side), slice(left, left + side))


def cut(whole: Boxed, rows: slice, columns: slice) -> Boxed:
    """Return a part of the only image, with the boxes whose centres it holds."""
    image = whole.images[..., rows, columns]
    boxes = whole.targets[0]["boxes"] - torch.tensor([columns.start or 0, rows.start or 0, 0, 0, 0.0])
    height, width = image.shape[-2:]
    inside = (boxes[:, 0] >= 0) & (boxes[:, 0] < width) & (boxes[:, 1] >= 0) & (boxes[:, 1] < height)
    return Boxed(image, [{"boxes": boxes[inside], "labels": whole.targets[0]["labels"][inside]}])


def quarter_turned(data: Boxed, angle: int) -> Boxed:
    """Return images and boxes turned by a multiple of 90 degrees."""
    size = tuple(data.images.shape[-2:])
    turned = [target | {"boxes": turn_boxes(target["boxes"], angle, size)} for target in data.targets]
    return Boxed(torch.rot90(data.images, -angle // 90, (-2, -1)), turned)


def found(model: nn.Module, images: Tensor, least: float) -> list[dict[str, Tensor]]:
    """Return what a detector finds in images, on the CPU."""
    assert isinstance(model, Detector)
    before, model.threshold = model.threshold, least
    with torch.no_grad():
        parts = [model(x.to(local_device())) for x in images.split(20)]
    model.threshold = before
    return [{k: v.cpu() for k, v in boxes.items()} for part in parts for boxes in part]


def precision(model: nn.Module, data: Boxed, overlap: float = 0.5) -> float:
    """Return the average precision of a model on images."""
    return average_precision(found(model, data.images, LEAST), data.targets, overlap=overlap)


def load(chosen: argparse.Namespace) -> Data:
    """Return the images, and what they are called."""
    if chosen.nuclei:
        try:
            whole = nuclei_boxes()
        except (FileNotFoundError, ImportError) as error:
            raise SystemExit(f"--nuclei: {error}") from error
        everything = slice(None)
        ends = zip((None, *COLUMNS), (*COLUMNS, None))
        train, val, test = (cut(whole, everything, slice(*end)) for end in ends)
        turned = {f"turned_{angle}": quarter_turned(test, angle) for angle in (90, 180, 270)}
        return Data("nuclei", train, val, {"upright": test, **turned})
    counts = (16, 4, 4) if chosen.smoke else SHIPS
    train, val, test = (drawn_ships(count, seed=seed) for seed, count in enumerate(counts))
    return Data("drawn ships", train, val, {"upright": test, "turned": drawn_ships(counts[2], seed=2, turned=True)})


def build(net: str, data: str) -> Detector:
    """Return the network called ``net``."""
    return NETS[net](SIZES[data.rpartition(" ")[2]])


def figures_of(model: nn.Module, data: Data) -> dict[str, float]:
    """Return the average precision on test images, of which those that are turned count together."""
    figures = {name: precision(model, test) for name, test in data.test.items()}
    turned = [value for name, value in figures.items() if name.startswith("turned")]
    strict = {f"strict_{name}": precision(model, test, 0.75) for name, test in data.test.items()}
    strict_turned = [value for name, value in strict.items() if name.startswith("strict_turned")]
    return {
        "ap_upright": figures["upright"],
        "ap_turned": sum(turned) / len(turned),
        "ap75_upright": strict["strict_upright"],
        "ap75_turned": sum(strict_turned) / len(strict_turned),
    }


def train(chosen: argparse.Namespace) -> None:
    """Train a network, test it, write its result."""
    own = {"epochs": 20, "batch": 8, "average": 0.98, "clip": 5.0, "score": "ap", "evaluate_every": 4} | OWN[chosen.net]
    how = recipe.settings(chosen, **own)
    data = load(chosen)
    with distributed():
        recipe.start()
        torch.manual_seed(chosen.seed)
        model = build(chosen.net, data.name).to(local_device())
        done = recipe.train(chosen.net, model, BoxTask(data), how, chosen)
        if rank():
            return
        figures = {"val_ap": precision(done.model, data.val), **figures_of(done.model, data)}
        figures["load"] = os.getloadavg()[0]
        row = f"{chosen.net}, {data.name}"
        recipe.finish(chosen, "plane_detection", row, done, how, figures, data=data.name, network={"net": chosen.net})


def picture(chosen: argparse.Namespace) -> None:
    """Draw test images, their true boxes, and what each run finds."""
    from pdegcnn_examples.plots.boxes import box_pictures

    data = load(chosen)
    if chosen.nuclei:
        test = cut(data.test["upright"], slice(160, 320), slice(16, 176))
        parts = {"upright": test, "turned": quarter_turned(test, 90)}
        shown = [(name, part, 0) for name, part in parts.items()]
    else:
        shown = [(name, part, place) for name, part in data.test.items() for place in (0, 1)]
    rows = {f"{name} {place + 1}": part.images[place, 0] for name, part, place in shown}
    boxes = {"truth": [part.targets[place]["boxes"] for _, part, place in shown]}
    for net, model in trained(chosen.runs, NETS, lambda net: build(net, data.name)):
        name = {"pde": "PDE layers on SE(2)", "cnn": "plain CNN"}[net]
        boxes[name] = [found(model, part.images[[place]], SHOWN)[0]["boxes"] for _, part, place in shown]
    figure = box_pictures(rows, boxes)
    save_picture(figure, chosen.picture)


def main() -> None:
    """Run the program that the command line names."""
    programs = Programs(__doc__, "plane_detection", NETS)
    for program in (programs.train, programs.add_picture()):
        program.add_argument("--nuclei", action="store_true", help="the picture of the package stardist (drawn ships)")
    programs.run(train=train, picture=picture)


if __name__ == "__main__":
    main()
