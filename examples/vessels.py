"""Recipe: vessels in photographs of the retina (DRIVE, official split).

    python examples/vessels.py train --data DIR --net pde --out runs/vessels       # DIR: see datasets.drive
    python examples/vessels.py evaluate --data DIR --weights runs/vessels/weights.safetensors
    pdegcnn vessels FOLDER --weights runs/vessels/network.safetensors --out masks        # of the net "ship"

Training uses patches, rotated, resized and recoloured at random; testing uses whole photographs in tiles. The threshold
is chosen on training photographs. Without data, drawn pictures stand in. ``pdegcnn vessels`` takes photographs of any
size, camera and format that Pillow reads, with the weights in the package or with those of a training here.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

import pdegcnn as pg
from pdegcnn.vessels.photograph import DIAMETER, cut
from pdegcnn_examples.command_line import load_or_exit
from pdegcnn_examples.datasets import Fundus, FundusSplit, drawn_vessels, drive
from pdegcnn_examples.networks.vessels import NETS, SPACE, shifted
from pdegcnn_examples.training import (
    TrainingResult,
    distributed,
    local_device,
    rank,
    read_weights,
    recipe,
    write_json,
)
from pdegcnn_examples.training.programs import Programs

OWN: dict[str, dict[str, Any]] = {
    "ship": {"rate": 0.02, "evaluate_every": 10},
    "pde": {"rate": 0.02},
    "pde6": {"rate": 0.02},
    "cnn6": {"rate": 0.005},
    "gcnn6": {"rate": 0.01},
}
"""Settings of each network; all else is shared."""
PATCH, PATCHES = 64, 800
SIZES = (0.7, 1.6)
"""By how much patches are enlarged: vessels of cameras that see more and less of the retina."""


class Picture(NamedTuple):
    """A prepared photograph [3,h,w], its field of view and vessels [h,w] on the same pixels."""

    pixels: Tensor
    field: Tensor
    vessels: Tensor


def pictures(photographs: Fundus) -> list[Picture]:
    """Photographs as networks see them. Their scale is not changed, so that vessels stay as the observer drew them."""
    made = []
    for image, vessels, field in zip(*photographs):
        ready = pg.vessels.prepare(image, diameter=DIAMETER)
        labels = cut(torch.stack((vessels, field)).float(), ready.box) > 0.5
        made.append(Picture(ready.pixels, labels[1], labels[0]))
    return made


class VesselTask:
    """Cross-entropy and Dice of random patches; scores on photographs held out, if any."""

    def __init__(self, train: list[Picture], held: list[Picture], patches: int, patch: int = PATCH) -> None:
        self.train, self.held, self.count, self.patch = train, held, patches, patch

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Loss of as many patches as ``chosen`` has numbers; the number says which photograph."""
        cut = [self._cut(self.train[int(i) % len(self.train)], random) for i in chosen]
        pixels = recolour(torch.cat([p for p, _ in cut]), random).to(local_device())
        target, weight = torch.cat([t for _, t in cut]).to(local_device()).unbind(1)
        out = model(pixels)[:, 0]
        entropy = F.binary_cross_entropy_with_logits(out, target, reduction="none")
        chance = out.sigmoid()
        overlap = 2 * (chance * target * weight).sum() + 1
        dice = overlap / (((chance + target) * weight).sum() + 1)
        return (entropy * weight).sum() / weight.sum().clamp_min(1) + 0.3 * (1 - dice)

    def _cut(self, picture: Picture, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pixels [1,3,p,p], vessels and field [1,2,p,p] of a patch, turned, mirrored and resized, around a point of the
        field."""
        inside = picture.field.nonzero()
        centre = inside[int(random.integers(len(inside)))].double()
        height, width = picture.field.shape
        angle, size = random.uniform(0, 2 * math.pi), math.exp(-random.uniform(*np.log(SIZES)))
        mirror = random.choice([-1.0, 1.0])
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = turn @ np.diag([mirror, 1.0]) * size * (self.patch / np.array([[width], [height]]))
        shift = np.array([[2 * (centre[1] + 0.5) / width - 1], [2 * (centre[0] + 0.5) / height - 1]])
        affine = torch.from_numpy(np.concatenate([matrix, shift], 1))[None].float()
        grid = F.affine_grid(affine, [1, 1, self.patch, self.patch], align_corners=False)
        pixels = F.grid_sample(picture.pixels[None], grid, "bicubic", "border", align_corners=False)
        labels = torch.stack((picture.vessels, picture.field)).float()[None]
        return pixels, F.grid_sample(labels, grid, "bilinear", "zeros", align_corners=False)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Area under the curve and best Dice on the photographs held out."""
        if not self.held:
            return {}
        chances, truth = predictions(model, self.held)
        return {"auc": float(binary_auroc(chances, truth.long())), "dice": best_threshold(chances, truth)[1]}


def recolour(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Patches [B,3,p,p] as other cameras might show them.

    Contrast, offset, slope of the light, gamma, blur or sharpening, noise; sometimes a colour is missing.
    """
    count, size = len(pixels), pixels.shape[-1]
    shape = (count, 3, 1, 1)
    gain = np.exp(random.normal(0, 0.2, shape)) * np.exp(random.normal(0, 0.15, (count, 1, 1, 1)))
    kept = random.random(shape) > np.array([0.1, 0.0, 0.1]).reshape(1, 3, 1, 1)
    smooth = torch.stack([_blurred(p, float(random.uniform(0.5, 1.5))) for p in pixels])
    sharpness = torch.from_numpy(random.uniform(-1, 0.7, (count, 1, 1, 1)) * (random.random((count, 1, 1, 1)) < 0.5))
    made = pixels + sharpness * (pixels - smooth)
    made = made + torch.from_numpy(random.normal(0, 0.07, shape)) * (made.clamp(-3, 3).square() - 1)
    axis = torch.linspace(-1, 1, size)
    across, down = (torch.from_numpy(random.normal(0, 0.1, shape)) for _ in range(2))
    light = torch.from_numpy(random.normal(0, 0.15, shape)) + across * axis + down * axis[:, None]
    noise = random.normal(0, 1, tuple(pixels.shape)) * random.uniform(0, 0.2, shape)
    made = made * torch.from_numpy(gain) + light + torch.from_numpy(noise)
    return (made * torch.from_numpy(kept)).float()


def _blurred(patch: Tensor, sigma: float) -> Tensor:
    """Gaussian means of a patch [3,p,p]."""
    steps = torch.arange(-4.0, 5.0)
    taps = torch.exp(-0.5 * (steps / sigma) ** 2)
    taps = (taps / taps.sum()).expand(3, 1, 1, -1)
    rows = F.conv2d(F.pad(patch[None], (4, 4, 0, 0), mode="replicate"), taps, groups=3)
    return F.conv2d(F.pad(rows, (0, 0, 4, 4), mode="replicate"), taps.mT, groups=3)[0]


def with_chances(model: nn.Module) -> nn.Module:
    """The network, whose logits become probabilities."""
    return nn.Sequential(model, nn.Sigmoid()).train(model.training)


def predictions(model: nn.Module, chosen: list[Picture]) -> tuple[Tensor, Tensor]:
    """Chances and truth of all pixels in the fields of view, concatenated."""
    found = [pg.vessels.probability(with_chances(model), p.pixels)[p.field] for p in chosen]
    return torch.cat(found), torch.cat([p.vessels[p.field] for p in chosen])


def best_threshold(chances: Tensor, truth: Tensor) -> tuple[float, float]:
    """The threshold (of 0.01, ..., 0.99) with the largest Dice, and that."""
    edges = (chances * 100).long().clamp(0, 99)
    vessel = torch.bincount(edges[truth], minlength=100).flip(0).cumsum(0).flip(0).double()
    marked = torch.bincount(edges, minlength=100).flip(0).cumsum(0).flip(0).double()
    dice = 2 * vessel / (marked + truth.sum()).clamp_min(1)
    best = 1 + int(dice[1:].argmax())
    return best / 100, float(dice[best])


def scores(model: nn.Module, chosen: list[Picture], threshold: float) -> dict[str, float]:
    """Figures inside the fields of view, over all pixels of all photographs."""
    chances, truth = predictions(model, chosen)
    marked = chances >= threshold
    both = (marked & truth).sum().double()
    return {
        "auc": float(binary_auroc(chances, truth.long())),
        "dice": float(2 * both / (marked.sum() + truth.sum())),
        "sensitivity": float(both / truth.sum()),
        "specificity": float((~marked & ~truth).sum() / (~truth).sum()),
        "accuracy": float((marked == truth).double().mean()),
    }


def turned(model: nn.Module, picture: Picture, threshold: float) -> dict[str, float]:
    """How a turned photograph is segmented, against its turned segmentation: change of chances, Dice of both masks."""
    pixels = (picture.pixels * picture.field)[None]

    def segment(x: Tensor) -> Tensor:
        return torch.cat([pg.vessels.probability(with_chances(model), p)[None, None] for p in x])

    figures = {}
    for angle in (90, 45):
        figures[f"turned_{angle}_error"] = pg.testing.equivariance_error(segment, pixels, SPACE, angle=angle)
        first = SPACE.transform(segment(pixels), angle=angle) >= threshold
        second = segment(SPACE.transform(pixels, angle=angle)) >= threshold
        inside = SPACE.transform(picture.field[None, None].float(), angle=angle) > 0.5
        both, either = (first & second & inside).sum(), ((first & inside).sum() + (second & inside).sum())
        figures[f"turned_{angle}_dice"] = float(2 * both / either.clamp_min(1))
    return figures


def config_of(weights: Path) -> Path:
    """The file beside weights that says how to use them."""
    return weights.with_suffix(".json")


def load_model(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network that ``train`` wrote, in eval mode, and its settings; ends the program when a file is wrong."""
    try:
        state = read_weights(weights)
        config = json.loads(config_of(weights).read_text(encoding="utf-8"))
        model = NETS[config["net"]]()
        model.load_state_dict(state)
        if not 0 < float(config["threshold"]) < 1:
            raise ValueError(f"threshold: expected a number in (0, 1), got {config['threshold']}")
    except FileNotFoundError as error:
        raise SystemExit(f"--weights: expected weights and, beside them, {config_of(weights).name}: {error}") from error
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise SystemExit(f"--weights: {weights} was not written by 'vessels.py train' ({error})") from error
    return model.to(local_device()).eval(), config


def load(chosen: argparse.Namespace) -> tuple[FundusSplit, str]:
    """Photographs to train and to test on, and their name."""
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        split, name = load_or_exit(lambda: drive(chosen.data)), "DRIVE, official split"
        if chosen.smoke:
            split = FundusSplit(*(Fundus(*(x[:2] for x in part)) for part in split))
        return split, name
    size = 96 if chosen.smoke else 320
    few = 2 if chosen.smoke else 8
    return FundusSplit(drawn_vessels(few, size, seed=0), drawn_vessels(2, size, seed=1)), "drawn vessels"


def spread(chosen: list[Picture], count: int) -> list[Picture]:
    """``count`` of them, evenly spaced; all if there are fewer."""
    if count >= len(chosen):
        return chosen
    return [chosen[i] for i in np.linspace(0, len(chosen) - 1, count).round().astype(int)]


def train(chosen: argparse.Namespace) -> None:
    """Train on some photographs, choose the threshold on them, test on the others."""
    if chosen.patience is not None and not chosen.validation:
        raise SystemExit("--patience: expected --validation N beside it: the score of photographs held out decides")
    if not 1 <= chosen.photographs <= 1000:
        raise SystemExit(f"--images: expected a number from 1 to 1000, got {chosen.photographs}")
    own = {"epochs": 60, "batch": 8, "average": 0.998, "clip": 5.0, "score": "auc"} | OWN[chosen.net]
    how = recipe.settings(chosen, **own)
    split, name = load(chosen)
    available = pictures(split.train)
    if not 0 <= chosen.validation < len(available):
        raise SystemExit(f"--validation: expected 0 to {len(available) - 1} photographs, got {chosen.validation}")
    held = available[len(available) - chosen.validation :]
    used = spread(available[: len(available) - chosen.validation], chosen.photographs)
    with distributed():
        recipe.start()
        torch.manual_seed(chosen.seed)
        task = VesselTask(used, held, 16 if chosen.smoke else PATCHES, 32 if chosen.smoke else PATCH)
        done = recipe.train(chosen.net, NETS[chosen.net]().to(local_device()), task, how, chosen)
        if rank() == 0:
            conclude(chosen, how, done, used, held, pictures(split.test), name)


def conclude(
    chosen: argparse.Namespace, how: Any, done: TrainingResult, used: list, held: list, test: list, name: str
) -> None:
    """Threshold (from photographs held out, if any), scores, result file and the settings beside the weights."""
    threshold, _ = best_threshold(*predictions(done.model, held or spread(used, 5)))
    figures = scores(done.model, test, threshold) | turned(done.model, test[0], threshold)
    network = {"net": chosen.net, "photographs": len(used), "validation": chosen.validation, "threshold": threshold}
    few = f", {len(used)} photograph{'s' if len(used) > 1 else ''}"
    row = chosen.net + (few if chosen.photographs < 20 else "")
    if hasattr(done.model, "recipe"):
        pg.save(shifted(done.model, threshold), chosen.out / "network.safetensors")
    write_json(config_of(chosen.out / "weights.safetensors"), network | {"trained_on": name, "seed": chosen.seed})
    recipe.finish(chosen, "vessels", row, done, how, figures, data=name, network=network)


def evaluate(chosen: argparse.Namespace) -> None:
    """Scores of weights on the test photographs."""
    model, config = load_model(chosen.weights)
    split, name = load(chosen)
    test = pictures(split.test)
    print(f"{name}, threshold {config['threshold']}")
    for key, value in (scores(model, test, config["threshold"]) | turned(model, test[0], config["threshold"])).items():
        print(f"{key:>28}  {value:.5g}")


def main() -> None:
    """Run the program that the command line names."""
    data = "folder with DRIVE (default: drawn pictures)"
    programs = Programs(__doc__, "vessels", NETS, data, usual="pde")
    images = "training photographs (%(default)s)"
    programs.train.add_argument("--images", dest="photographs", type=int, default=20, help=images)
    programs.train.add_argument("--validation", type=int, default=0, help="training photographs held out (%(default)s)")
    judging = programs.add("evaluate")
    judging.add_argument("--data", type=Path, help=data)
    judging.add_argument("--smoke", action="store_true", help="two small pictures")
    judging.add_argument("--weights", type=Path, required=True, help="weights.safetensors of 'train'")
    programs.run(train=train, evaluate=evaluate)


if __name__ == "__main__":
    main()
