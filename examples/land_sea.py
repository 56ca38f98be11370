"""Tell land from sea by the surface temperature of six months, for any rotation of the planet.

By default planets are synthetic: continents from a random elevation; temperatures from sunshine, seasons (strong on
land, weak on sea, none at the equator), height, blur and weather. Test planets are not used in training. With
``--data`` the planet is the Earth: monthly means of an ensemble of forecasts. There is one planet only, so networks are
trained on the labels of its eastern half (0-180 degrees east) and tested on the western half, with members of the
ensemble not seen in training. A network on single points shows what can be learned without neighbours.

    python examples/land_sea.py
    python examples/land_sea.py --data DIR     # DIR holds glosea4_surface_temp.npz and landfrac_0p5deg.npz
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import pdegcnn as pg
from pdegcnn_examples.command_line import add_band, load_or_exit, parse, parser
from pdegcnn_examples.datasets import earth_land, earth_temperature
from pdegcnn_examples.datasets.planets import MONTHS, Planets, made_up_planets
from pdegcnn_examples.networks.panoramas import UNet
from pdegcnn_examples.output import table, write_folder
from pdegcnn_examples.plots import spheres
from pdegcnn_examples.training import Settings, parameters, recipe

RATES = {"PDE-G-CNN": 0.02, "plain U-Net": 0.003, "point by point": 0.01}
FILES = {"PDE-G-CNN": "pdegcnn", "plain U-Net": "unet", "point by point": "points"}
ROWS = {
    "IoU of land, upright": ("iou_upright", "{:.3f}"),
    "IoU of land, rotated": ("iou_rotated", "{:.3f}"),
    "area named rightly, rotated": ("area_rotated", "{:.1%}"),
    "parameters": ("parameters", "{:,}"),
    "equivariance error": ("equivariance_error", "{:.1e}"),
    "seconds per epoch": ("seconds_per_epoch", "{:.1f}"),
}
EAST = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


class Samples(NamedTuple):
    """Temperatures [N,6,nlat,nlon], land (0 or 1) and areas that labels count for, both [N,1,nlat,nlon]."""

    temperature: Tensor
    land: Tensor
    area: Tensor


def earth(folder: Path | None, band: int) -> tuple[Planets, Planets]:
    """The Earth as the first members of the ensemble see it, its east labelled; and as the last three do, its west."""
    temperature, fraction = earth_temperature(folder), earth_land(folder)
    if temperature.values.shape[0] < 5 or temperature.values.shape[1] != MONTHS:
        raise ValueError(f"t: expected at least 5 members of {MONTHS} months, got {tuple(temperature.values.shape)}")
    fine = pg.sphere.SphereGrid.gauss_legendre(64)
    analysis = pg.sphere.RealSHT(fine, lmax=band - 1)
    warmth, land = analysis(temperature.at(fine.xyz)), analysis(fraction.at(fine.xyz) - 0.5)
    first, last = warmth[:-3], warmth[-3:]
    return (
        Planets(first, land.expand(len(first), 1, -1, -1), EAST),
        Planets(last, land.expand(len(last), 1, -1, -1), -EAST),
    )


@torch.no_grad()
def sampled(planets: Planets, grid: pg.sphere.SphereGrid, rotations: Tensor | None = None) -> Samples:
    """Every planet on the grid; with ``rotations [K N,3,3]`` K turned copies of each."""
    warmth, land = planets.temperature, planets.land
    count = len(warmth)
    if rotations is not None:
        turned = [
            [pg.sphere.rotate_coefficients(c[i % count], r) for i, r in enumerate(rotations)] for c in (warmth, land)
        ]
        warmth, land = (torch.stack(c) for c in turned)
    synthesis = pg.sphere.InverseRealSHT(grid, lmax=warmth.shape[-1] - 1)
    area = (grid.weights / grid.weights.mean()).float().expand(len(warmth), 1, *grid.shape)
    if planets.side is not None:
        turns = torch.eye(3, dtype=torch.float64).expand(len(warmth), 3, 3) if rotations is None else rotations
        seen = torch.einsum("ijk,nkl,l->nij", grid.xyz, turns, planets.side) > 0
        area = area * seen[:, None]
    return Samples(synthesis(warmth), (synthesis(land) > 0).float(), area)


def build(name: str, grid: pg.sphere.SphereGrid) -> nn.Module:
    """The network called ``name``: temperatures [B,6,nlat,nlon] -> logits of land [B,1,nlat,nlon]."""
    if name == "PDE-G-CNN":
        return pg.models.spherical_segmenter(grid, MONTHS, 1, width=8, levels=3)
    if name == "plain U-Net":
        return UNet(MONTHS, 1)
    return nn.Sequential(nn.Conv2d(MONTHS, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.ReLU(), nn.Conv2d(32, 1, 1))


def area_loss(logits: Tensor, samples: Samples, batch: Tensor) -> Tensor:
    """Binary cross-entropy, a mean over area."""
    area = samples.area[batch]
    return binary_cross_entropy_with_logits(logits, samples.land[batch], area, reduction="sum") / area.sum()


@torch.no_grad()
def score(model: nn.Module, samples: Samples) -> tuple[float, float]:
    """Intersection over union of land, and the share that is named rightly, both by area."""
    model.eval()
    found = torch.cat([model(x) for x in samples.temperature.split(16)]) > 0
    land = samples.land > 0.5
    both, either = (samples.area[where].sum() for where in (found & land, found | land))
    return float(both / either), float(samples.area[found == land].sum() / samples.area.sum())


def measure(
    name: str, first: Samples, tests: tuple[Samples, Samples], grid: pg.sphere.SphereGrid, chosen: argparse.Namespace
) -> tuple[nn.Module, dict[str, float]]:
    """Train the network called ``name`` and test it on upright and on turned planets."""
    torch.manual_seed(chosen.seed)
    model = build(name, grid)

    def loss(batch: Tensor) -> Tensor:
        return area_loss(model(first.temperature[batch]), first, batch)

    how = Settings(chosen.epochs, 8, RATES[name], seconds=chosen.seconds, seed=chosen.seed)
    done = recipe.train_alone(f"{name}, {chosen.train}", model, loss, len(first.land), how, chosen)
    turns, some = spheres.random_rotations(3, seed=1), tests[0].temperature[:4]
    errors = [pg.testing.equivariance_error(model, some, pg.S2(grid), rotation=r) for r in turns]
    (upright, _), (rotated, area) = (score(model, test) for test in tests)
    return model, {
        "iou_upright": upright,
        "iou_rotated": rotated,
        "area_rotated": area,
        "parameters": parameters(model),
        "equivariance_error": sum(errors) / len(errors),
        "seconds_per_epoch": recipe.seconds_per_epoch(done, how, len(first.land)),
    }


def picture(models: dict[str, nn.Module], planets: Planets, statistics: Any, grid: pg.sphere.SphereGrid) -> Figure:
    """One test planet upright and turned, always seen from the same side of the planet."""
    turn = spheres.random_rotations(2, seed=5)[1:]
    one = Planets(planets.temperature[:1], planets.land[:1], None)
    front = spheres.view_from(1.2, -1.3 if planets.side is not None else 0.7)
    figure = Figure(figsize=(3 + 2.3 * len(models), 4.9), layout="constrained")
    for row, (label, rotation) in enumerate({"upright": None, "turned": turn}.items()):
        samples = standardised(sampled(one, grid, rotation), statistics)
        raw = (samples.temperature * statistics[1] + statistics[0])[0]
        view = front if rotation is None else front @ rotation[0].numpy().T
        columns: list[tuple[str, Tensor, dict[str, Any]]] = [
            ("warmest - coldest month", raw.amax(0) - raw.amin(0), {"cmap": "magma"}),
            ("land", samples.land[0, 0], {"cmap": "Greens", "vmin": 0, "vmax": 1.3}),
        ]
        with torch.no_grad():
            for name, model in models.items():
                chance = model.eval()(samples.temperature).sigmoid()[0, 0]
                columns.append((f"{name}: chance of land", chance, {"cmap": "Greens", "vmin": 0, "vmax": 1.3}))
        for column, (title, values, options) in enumerate(columns):
            axis = figure.add_subplot(2, len(columns), row * len(columns) + column + 1)
            spheres.draw_sphere(axis, values, grid, view, **options)
            if row == 0:
                axis.set_title(title, fontsize=9)
            if column == 0:
                axis.set_ylabel(label, fontsize=11)
    figure.suptitle("A test planet upright and turned, both seen from one side of the planet", fontsize=11)
    return figure


def standardised(samples: Samples, statistics: tuple[Tensor, Tensor]) -> Samples:
    """Temperatures less the training mean, over the training deviation, of each month."""
    return samples._replace(temperature=(samples.temperature - statistics[0]) / statistics[1])


def load(chosen: argparse.Namespace) -> tuple[Planets, Planets, str]:
    """Planets to train on, planets to test on, and what they are."""
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        return *load_or_exit(
            lambda: earth(chosen.data, chosen.band)
        ), "the Earth, trained in the east, tested in the west"
    sizes = (8, 2) if chosen.smoke else (160, 32)
    first, last = (made_up_planets(n, chosen.band, 2 * chosen.seed + i) for i, n in enumerate(sizes))
    return first, last, "made-up planets"


def arguments() -> argparse.Namespace:
    """The command line."""
    data = "folder with glosea4_surface_temp.npz and landfrac_0p5deg.npz"
    made = parser(__doc__, out="land_sea", data=data, epochs=20)
    made.add_argument("--train", choices=("upright", "rotated"), default="upright", help="planets to train on")
    add_band(made)
    return parse(made)


def main() -> None:
    """Load planets, train the networks, print the table and write the folder."""
    chosen = arguments()
    first, last, source = load(chosen)
    grid = pg.sphere.SphereGrid.gauss_legendre(chosen.band)
    count = len(first.land)
    turns = spheres.random_rotations(2 * count, seed=chosen.seed + 1) if chosen.train == "rotated" else None
    training = sampled(first, grid, turns)
    mean = (training.temperature * training.area).mean((0, 2, 3), keepdim=True) / training.area.mean()
    statistics = mean, (training.temperature - mean).std((0, 2, 3), keepdim=True)
    tests = sampled(last, grid), sampled(last, grid, spheres.random_rotations(4 * len(last.land), seed=7))
    training, upright, rotated = (standardised(samples, statistics) for samples in (training, *tests))
    counts = f"{len(training.land)} planets to train ({chosen.train}), {len(last.land)} to test"
    print(f"{counts} ({source}), {chosen.epochs} epochs")
    models, results = {}, {}
    for name in FILES:
        models[name], results[name] = measure(name, training, (upright, rotated), grid, chosen)
    print("\n" + table(results, ROWS, width=16) + "\n")

    def fill(fresh: Path) -> None:
        for name, model in models.items():
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, fresh / f"{FILES[name]}.safetensors")
        settings = {"planets": source, "train": chosen.train, "band": chosen.band, "seed": chosen.seed}
        report = {**settings, "epochs": chosen.epochs, "networks": results}
        (fresh / "results.json").write_text(json.dumps(report, indent=2) + "\n")
        picture(models, last, statistics, grid).savefig(fresh / "land_sea.png", dpi=110)

    write_folder(chosen.out, fill)
    print(f"wrote {chosen.out / 'land_sea.png'}, checkpoints and results.json")


if __name__ == "__main__":
    main()
