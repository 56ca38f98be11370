"""Recipe: 5,000 upright digits of MNIST from a package, for a hyperbolic classifier and a plain network.

    python examples/classify.py --net hyperbolic --seed 0
    python examples/classify.py --net plain --seed 0

Digits are halved to 14 x 14 pixels, so a training takes minutes. Both networks have equally many parameters and the
same loop, loss and augmentation. 3,000 digits are for training, 1,000 for the choice of settings (``--choosing`` does
not use the rest), 1,000 to test. Which digit is in which part does not depend on the seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pdegcnn_examples.datasets import Digits, upright_digits
from pdegcnn_examples.networks.digits import UPRIGHT_NETS
from pdegcnn_examples.training import distributed, local_device, rank, recipe

OWN: dict[str, dict[str, Any]] = {"hyperbolic": {"rate": 0.01}, "plain": {"rate": 0.01}}
"""Settings of each network, of 0.01 and 0.02 the better by the digits to choose by; all else is shared."""


SIDE = 14
"""Of the digits, in pixels."""


class DigitTask:
    """Cross-entropy of digits moved by up to one pixel; accuracy on the digits to choose by."""

    def __init__(self, train: Digits, val: Digits) -> None:
        self.train, self.val, self.count = train, val, len(train.labels)

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Loss of the digits ``chosen``."""
        images = F.pad(self.train.images[chosen], (1, 1, 1, 1))
        places = random.integers(0, 3, (len(chosen), 2))
        moved = torch.stack([x[:, i : i + SIDE, j : j + SIDE] for x, (i, j) in zip(images, places)])
        return F.cross_entropy(model(moved.to(local_device())), self.train.labels[chosen].to(local_device()))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy on the digits to choose by."""
        return {"accuracy": accuracy(model, self.val)}


@torch.no_grad()
def accuracy(model: nn.Module, digits: Digits) -> float:
    """The fraction of ``digits`` that a model in eval mode names rightly."""
    found = torch.cat([model(x.to(local_device())).argmax(1).cpu() for x in digits.images.split(250)])
    return float((found == digits.labels).float().mean())


def main() -> None:
    """Train a network, test it, write its result."""
    made = recipe.parser(__doc__, out="runs/classify", data="not used: the digits are inside a package")
    made.add_argument("--net", choices=tuple(OWN), default="hyperbolic", help="network (%(default)s)")
    made.add_argument("--choosing", action="store_true", help="leave the test part alone: for choosing settings")
    chosen = made.parse_args()
    how = recipe.settings(chosen, **({"epochs": 15, "batch": 64, "average": 0.99, "clip": 1.0} | OWN[chosen.net]))
    digits = upright_digits(200 if chosen.smoke else None)
    digits = Digits(F.avg_pool2d(digits.images, digits.images.shape[-1] // SIDE), *digits[1:])
    name = f"{len(digits.labels)} upright digits inside a package"
    part = len(digits.labels) // 5
    train, val, test = (Digits(*(x[a:b] for x in digits)) for a, b in ((2 * part, None), (0, part), (part, 2 * part)))
    with distributed():
        recipe.start()
        torch.manual_seed(chosen.seed)
        model = UPRIGHT_NETS[chosen.net]().to(local_device())
        done = recipe.train(chosen.net, model, DigitTask(train, val), how, chosen)
        if rank() == 0:
            figures = {"val_error": 1 - accuracy(done.model, val)}
            if not chosen.choosing:
                figures["test_error"] = 1 - accuracy(done.model, test)
            recipe.finish(chosen, "classify", chosen.net, done, how, figures, data=name, network={"net": chosen.net})


if __name__ == "__main__":
    main()
