"""Recipe: noisy pictures, pictures with missing pixels, and broken lines, restored by three networks of equal size.

    python examples/denoising.py --task denoise --net shock --seed 0
    python examples/denoising.py --task inpaint --net pde --seed 0
    python examples/denoising.py --task lines --net cnn --seed 0

Pictures are those of scikit-image; lines are drawn. Networks get crops, rotated and mirrored at random, and have the
same loop, loss and schedule. ``--picture`` writes damaged, restored and true test pictures side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from pdegcnn_examples.datasets import drawn_lines, shipped_pictures
from pdegcnn_examples.networks.restoration import NETS, restored
from pdegcnn_examples.training import distributed, local_device, rank, recipe

NOISE, MISSING = 0.2, 0.6
"""Standard deviation of the noise, and the share of pixels that are missing."""
CROP, COUNT = 24, 480
"""Side of a crop in pixels, and crops of an epoch."""
OWN: dict[str, dict[str, Any]] = {"shock": {"rate": 0.02}, "pde": {"rate": 0.02}, "cnn": {"rate": 0.01}}


def noisy(whole: Tensor, random: np.random.Generator) -> Tensor:
    """Pictures with Gaussian noise."""
    return whole + NOISE * torch.from_numpy(random.normal(size=tuple(whole.shape))).float()


def with_holes(whole: Tensor, random: np.random.Generator) -> Tensor:
    """Pictures without a part of their pixels (these are 0.5), and which are there."""
    there = torch.from_numpy(random.random(tuple(whole.shape)) > MISSING).float()
    return torch.cat((torch.where(there > 0, whole, 0.5), there), 1)


DAMAGE: dict[str, tuple[int, Callable[[Tensor, np.random.Generator], Tensor] | None]] = {
    "denoise": (1, noisy), "inpaint": (2, with_holes), "lines": (1, None),
}  # fmt: skip
"""Channels of the input of each task, and what makes it; broken lines come in pairs with whole ones."""


class Restoration:
    """Mean square error of restored crops; PSNR of restored test pictures as the score."""

    def __init__(self, task: str, smoke: bool) -> None:
        self.channels, self.damage = DAMAGE[task]
        self.count = 32 if smoke else COUNT
        if self.damage is None:
            self.pairs = drawn_lines(32 if smoke else 200, 64, seed=0)
            self.damaged, self.whole = drawn_lines(2 if smoke else 8, 128, seed=1)
        else:
            pictures = shipped_pictures()
            self.train = pictures.train
            self.whole = pictures.test[: 1 if smoke else None]
            self.damaged = self.damage(self.whole, np.random.default_rng(1))

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Return the loss of as many crops as ``chosen`` has numbers; the number says of which picture."""
        cut = [self._crop(int(i), random) for i in chosen]
        whole = torch.stack([x[-1:] for x in cut])
        damaged = torch.stack([x[:1] for x in cut]) if self.damage is None else self.damage(whole, random)
        return F.mse_loss(model(damaged.to(local_device())), whole.to(local_device()))

    def _crop(self, which: int, random: np.random.Generator) -> Tensor:
        """Return a crop ``[1 or 2,h,w]``, turned by right angles and mirrored."""
        if self.damage is None:
            source = torch.cat([pair[which % len(pair)] for pair in self.pairs])
        else:
            source = self.train[which % len(self.train)][None]
        top, left = (int(random.integers(size - CROP + 1)) for size in source.shape[-2:])
        crop = torch.rot90(source[:, top : top + CROP, left : left + CROP], int(random.integers(4)), (-2, -1))
        return crop.flip(-1) if random.random() < 0.5 else crop

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the peak signal-to-noise ratio and the structural similarity of test pictures."""
        return figures(restored(model, self.damaged.to(local_device())).cpu(), self.whole)


def figures(found: Tensor, whole: Tensor) -> dict[str, float]:
    """Return the mean PSNR (dB) and SSIM of pictures in [0, 1]."""
    ratio = peak_signal_noise_ratio(found, whole, data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))
    similarity = structural_similarity_index_measure(found, whole, data_range=1.0)
    assert isinstance(ratio, Tensor) and isinstance(similarity, Tensor)
    return {"psnr": float(ratio), "ssim": float(similarity)}


def write_picture(path: Path, *rows: Tensor) -> None:
    """Write rows of pictures ``[B,1,H,W]`` above each other."""
    sheet = torch.cat([torch.cat(list(row[:, 0]), 1) for row in rows]).clamp(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((sheet * 255).round().to(torch.uint8).numpy()).save(path)


def main() -> None:
    """Train a network, test it, write its result."""
    made = recipe.parser(__doc__, out="runs/denoising", data="not used: the pictures are inside a package")
    made.add_argument("--task", choices=tuple(DAMAGE), default="denoise", help="what is restored (%(default)s)")
    made.add_argument("--net", choices=tuple(NETS), default="shock", help="network (%(default)s)")
    made.add_argument("--picture", dest="images", type=Path, help="file for damaged, restored and true pictures")
    chosen = made.parse_args()
    if chosen.patience is not None:
        made.error(
            "--patience: expected none, because the scores are those of the test pictures; nothing else is held out"
        )
    own = {"epochs": 2, "batch": 4, "clip": 1.0, "score": "psnr", "evaluate_every": 2}
    how = recipe.settings(chosen, **(own | OWN[chosen.net]))
    with distributed():
        recipe.start()
        torch.manual_seed(chosen.seed)
        task = Restoration(chosen.task, chosen.smoke)
        done = recipe.train(chosen.net, NETS[chosen.net](task.channels).to(local_device()), task, how, chosen)
        if rank() == 0:
            before = figures(task.damaged[:, :1].clamp(0, 1), task.whole)
            found = task.evaluate(done.model) | {f"input_{name}": value for name, value in before.items()}
            name = "drawn lines" if chosen.task == "lines" else "pictures inside scikit-image"
            network = {"net": chosen.net, "task": chosen.task}
            recipe.finish(
                chosen, "denoising", f"{chosen.net}, {chosen.task}", done, how, found, data=name, network=network
            )
            if chosen.images:
                shown = restored(done.model, task.damaged.to(local_device())).cpu()
                write_picture(chosen.images, task.damaged[:, :1], shown, task.whole)


if __name__ == "__main__":
    main()
