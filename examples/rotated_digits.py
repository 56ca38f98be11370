"""Recipe: rotated handwritten digits, 12,000 to train and 50,000 to test.

    python examples/rotated_digits.py --data DIR --net small   # DIR: see datasets.rotated_mnist
    torchrun --nproc-per-node 2 examples/rotated_digits.py --data DIR --net large

Without data, digits inside a package stand in. A run that was killed continues when it is started again. All networks
have the same loop, loss, augmentation and schedule. No choice uses the test set.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

import pdegcnn as pg
from pdegcnn_examples.command_line import load_or_exit
from pdegcnn_examples.datasets import Digits, Split, rotated_digits, rotated_mnist
from pdegcnn_examples.networks.digits import NETS, SPACE
from pdegcnn_examples.training import distributed, local_device, rank, recipe, world_size

OWN: dict[str, dict[str, Any]] = {
    "small": {"epochs": 40, "seconds": 600.0, "rate": 0.02},
    "turning": {"epochs": 40, "seconds": 600.0, "rate": 0.02},
    "large": {"epochs": 80, "rate": 0.01},
    "cnn": {"epochs": 80, "rate": 0.005},
    "gcnn": {"epochs": 40, "rate": 0.01},
    "escnn": {"epochs": 40, "rate": 0.01},
}
"""Settings of each network; all else is shared."""


def augment(images: Tensor, random: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Images [B,1,H,W], each turned by any angle, sheared, resized, moved and bent a little; cubic interpolation."""
    count = len(images)
    angle = random.uniform(0, 2 * np.pi, count)
    stretch = np.exp(strength * random.uniform(-0.12, 0.12, (2, count)))
    shear = strength * random.uniform(-0.12, 0.12, count)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    bend = np.array([[stretch[0], shear], [shear, stretch[1]]])
    matrix = np.einsum("ijn,jkn->nik", turn, bend)
    shift = strength * random.uniform(-0.07, 0.07, (count, 2, 1))
    affine = torch.from_numpy(np.concatenate([matrix, shift], 2)).to(images)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    wobble = torch.from_numpy(strength * random.normal(0, 0.035, (count, 2, 6, 6))).to(images)
    wobble = F.interpolate(wobble, images.shape[-2:], mode="bicubic", align_corners=True)
    turned = F.grid_sample(images, grid + wobble.movedim(1, -1), "bicubic", "zeros", align_corners=False)
    return turned.clamp(0, 1)


class DigitTask:
    """Cross-entropy on augmented digits; accuracy on digits held out, if any."""

    def __init__(self, train: Digits, held: Digits | None, strength: float) -> None:
        device = local_device()
        self.images, self.labels = train.images.to(device), train.labels.to(device)
        self.held, self.strength, self.count = held, strength, len(train.labels)

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Loss of the digits ``chosen``."""
        chosen = chosen.to(self.images.device)
        images = self.images[chosen]
        if self.strength:
            images = augment(images, random, self.strength)
        return F.cross_entropy(model(images), self.labels[chosen], label_smoothing=0.05)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy on the digits held out."""
        return {} if self.held is None else {"accuracy": accuracy(model, self.held)}


@torch.no_grad()
def accuracy(model: nn.Module, digits: Digits, batch: int = 250) -> float:
    """The fraction of ``digits`` that a model in eval mode names rightly; processes share the work."""
    device = local_device()
    metric = MulticlassAccuracy(10, average="micro").to(device)
    mine = slice(rank(), None, world_size())
    for x, y in zip(digits.images[mine].split(batch), digits.labels[mine].split(batch)):
        metric.update(model(x.to(device)), y.to(device))
    return float(metric.compute())


def arguments() -> argparse.Namespace:
    """The command line."""
    made = recipe.parser(__doc__, out="runs/rotated_digits", data="folder with rotmnist_{train12k,test50k}.npz")
    made.add_argument("--net", choices=tuple(NETS), default="small", help="network (%(default)s)")
    made.add_argument("--validation", type=int, default=0, help="training digits held out for scores (%(default)s)")
    made.add_argument("--augmentation", type=float, default=1.0, help="strength, 0 for none (%(default)s)")
    made.add_argument("--limit", type=int, help="train and test on this many digits only")
    made.add_argument("--weights", type=argparse.FileType("rb"), help="no training: test these weights")
    chosen = made.parse_args()
    if not 0 <= chosen.augmentation <= 3:
        made.error(f"--augmentation: expected a number from 0 to 3, got {chosen.augmentation}")
    if chosen.limit is not None and chosen.limit < 1:
        made.error(f"--limit: expected a positive number of digits, got {chosen.limit}")
    if chosen.patience is not None and not chosen.validation:
        made.error("--patience: expected --validation N beside it: the score of digits held out decides")
    return chosen


def load(chosen: argparse.Namespace) -> tuple[Split, str]:
    """Digits to train and to test on, and their name."""
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        split, name = load_or_exit(lambda: rotated_mnist(chosen.data)), "rotated MNIST, made from MNIST as 12k / 50k"
    else:
        split, name = rotated_digits(size=160 if chosen.smoke else None, seed=0), "digits inside a package"
    limit = 128 if chosen.smoke and chosen.limit is None else chosen.limit
    if limit is not None:
        split = Split(*(Digits(*(part[:limit] for part in digits)) for digits in split))
        name += f", first {limit}"
    if not 0 <= chosen.validation <= len(split.train.labels) // 2:
        raise SystemExit(f"--validation: expected 0 to half of {len(split.train.labels)}, got {chosen.validation}")
    return split, name


def main() -> None:
    """Train a network, test it, write its result."""
    chosen = arguments()
    how = recipe.settings(chosen, batch=64, average=0.998, weight_decay=0.01, clip=5.0, **OWN[chosen.net])
    split, name = load(chosen)
    with distributed():
        recipe.start()
        torch.manual_seed(chosen.seed)
        model = NETS[chosen.net]()
        held = Digits(*(part[: chosen.validation] for part in split.train)) if chosen.validation else None
        train = Digits(*(part[chosen.validation :] for part in split.train))
        if chosen.weights:
            model.load_state_dict(load_file(chosen.weights.name))
            print(f"test accuracy {accuracy(model.to(local_device()).eval(), split.test):.4%}")
            return
        done = recipe.train(
            chosen.net, model.to(local_device()), DigitTask(train, held, chosen.augmentation), how, chosen
        )
        figures = {"test_error": 1 - accuracy(done.model, split.test)}
        some = split.test.images[:64].to(local_device())
        for angle in (90, 45):
            figures[f"invariance_error_{angle}"] = pg.testing.equivariance_error(done.model, some, SPACE, angle=angle)
        network = {"net": chosen.net, "validation": chosen.validation, "augmentation": chosen.augmentation}
        recipe.finish(chosen, "rotated_digits", chosen.net, done, how, figures, data=name, network=network)


if __name__ == "__main__":
    main()
