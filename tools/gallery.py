"""Pictures of the gallery that need trained networks: ``python -m tools.gallery NAME ...``, all of them without a name.

Each picture compares a network with its rival after equally many steps, on data that are drawn or inside packages.
Networks are trained by the programs in ``examples/``, minutes each, unless ``runs/gallery`` holds them already.
Pictures are written to ``docs/images/NAME.png``.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.datasets import rotated_digits
from pdegcnn_examples.networks import digits, restoration, scenes
from pdegcnn_examples.plots.columns import side_by_side, turned_digits
from pdegcnn_examples.training import parameters, read_weights
from pdegcnn_examples.training.programs import save_picture

ROOT = Path(__file__).parents[1]
IMAGES, RUNS = ROOT / "docs/images", ROOT / "runs/gallery"
TRAININGS: Mapping[str, Mapping[str, str]] = {
    "rotated_digits": {
        "small": "rotated_digits.py --net small --epochs 8 --seconds 100000",
        "cnn": "rotated_digits.py --net cnn --epochs 8",
    },
    "drawn_vessels": {
        "pde6": "vessels.py train --net pde6 --epochs 1",
        "cnn6": "vessels.py train --net cnn6 --epochs 1",
    },
    "drawn_scenes": {
        "hyperbolic": "street_scenes.py --net hyperbolic --epochs 24",
        "unet": "street_scenes.py --net unet --epochs 24",
    },
    "restoration": {
        f"{task}-{net}": f"denoising.py --task {task} --net {net} --seed 2"
        for task in ("denoise", "inpaint", "lines")
        for net in ("shock", "cnn")
    },
    "drawn_clip": {
        "whole": "reversible_video.py --no-memory --net 'reversible + block-low-rank'",
        "frames": "reversible_video.py --no-memory --net 'frame by frame'",
    },
    "retina": {},
}
"""Pictures, networks, and the command that trains each, without its folder."""
COMPLETE: Mapping[str, str] = {
    "sphere_detection": "sphere_detection.py --train upright --scenes 400 --epochs 3",
    "mesh_labels": "mesh_labels.py --data nilearn --nets gauge graph diffusion",
    "mesh_vectors": "mesh_vectors.py",
}
"""Pictures that a program draws after training all networks."""
ANGLES, TESTED, ERRORS = range(0, 360, 30), 300, 3
"""Angles of the test digits, how many are turned, how many of those with an error are drawn."""

PART = 0.08
"""Least share of a scene that discs and squares have each, so that both are seen."""


def example(name: str) -> ModuleType:
    """Import an example."""
    return importlib.import_module(f"examples.{name}")


def load(model: nn.Module, folder: Path) -> nn.Module:
    """Return a network with the weights of a run, ready to evaluate."""
    model.load_state_dict(read_weights(folder / "weights.safetensors"))
    return model.eval()


def named(name: str, model: nn.Module) -> str:
    """Return the title of a network: its name and size."""
    return f"{name}\n{parameters(model):,} parameters"


@torch.no_grad()
def draw_digits(runs: Mapping[str, Path]) -> Figure:
    """Draw test digits at several angles with the answers of a PDE-G-CNN and a CNN."""
    models = {
        "PDE-G-CNN": load(digits.NETS["small"](), runs["small"]),
        "CNN": load(digits.NETS["cnn"](), runs["cnn"]),
    }
    test = rotated_digits().test
    images, labels = test.images[:TESTED], test.labels[:TESTED]
    upright = digits.SPACE.transform(images, angle=0)
    turned = {angle: digits.SPACE.transform(upright, angle=-angle).clamp(0, 1) for angle in ANGLES}
    said = {name: {a: model(x).softmax(1) for a, x in turned.items()} for name, model in models.items()}
    right = {name: torch.stack([p.argmax(1) == labels for p in over.values()]) for name, over in said.items()}
    wrong = (~torch.stack([r.all(0) for r in right.values()]).all(0)).nonzero()[:ERRORS, 0].tolist()
    shown = list(ANGLES)[::2]
    return turned_digits(
        [torch.stack([turned[a][n, 0] for a in shown]) for n in wrong],
        labels[wrong].tolist(),
        [{name: torch.stack([over[a][n] for a in shown]) for name, over in said.items()} for n in wrong],
        shown,
        {
            f"{name}, {parameters(models[name]):,} parameters": dict(zip(ANGLES, r.float().mean(1).tolist()))
            for name, r in right.items()
        },
    )


@torch.no_grad()
def draw_vessels(runs: Mapping[str, Path]) -> Figure:
    """Draw two test pictures of vessels, their truth, and the masks of a PDE-G-CNN and a CNN."""
    recipe = example("vessels")
    photographs = recipe.drawn_vessels(2, 320, seed=1)
    rows: dict[str, dict[str, Tensor]] = {}
    notes: dict[tuple[str, str], str] = {}
    for number, picture in enumerate(recipe.pictures(photographs)):
        name = f"test picture {number + 1}"
        box = pg.vessels.prepare(photographs.images[number], diameter=recipe.DIAMETER).box
        rows[name] = {"input": recipe.cut(photographs.images[number], box), "truth": picture.vessels}
        for net, title in {"pde6": "PDE-G-CNN6", "cnn6": "CNN6"}.items():
            model, config = recipe.load_model(runs[net] / "weights.safetensors")
            mask = pg.vessels.probability(recipe.with_chances(model), picture.pixels) >= config["threshold"]
            mask &= picture.field
            column = named(title, model)
            rows[name][column] = mask
            overlap = 2 * (mask & picture.vessels).sum() / (mask.sum() + picture.vessels.sum())
            notes[name, column] = f"Dice {overlap:.3f}"
    return side_by_side(rows, notes, size=2.6)


@torch.no_grad()
def draw_retina(_: Mapping[str, Path]) -> Figure:
    """Draw the photograph of scikit-image, and the vessels that the weights of the package find in it."""
    skimage = Path(str(importlib.import_module("skimage").__file__)).parent
    photograph = pg.vessels.read(skimage / "data" / "retina.jpg")
    found = pg.vessels.segment(pg.models.vessel_segmentation(pretrained="drive"), photograph)
    small, chance, mask = (
        F.interpolate(x[None], scale_factor=0.5, mode="area")[0]
        for x in (photograph, found.probability[None], found.mask[None].float())
    )
    marked = torch.where(mask > 0.5, torch.tensor([0.2, 1.0, 0.3])[:, None, None], 0.6 * small)
    pictures = {"photograph": small, "probability of a vessel": chance[0], "mask over the photograph": marked}
    return side_by_side({"": pictures}, size=2.8)


@torch.no_grad()
def draw_scenes(runs: Mapping[str, Path]) -> Figure:
    """Draw scenes that were held out, their labels, and those of a reversible network and a U-Net."""
    data = example("street_scenes").load(argparse.Namespace(data=None, smoke=False))[0].val
    share = torch.stack([(data.labels == kind).flatten(1).float().mean(1) for kind in (1, 2)]).amin(0)
    shown = (share > PART).nonzero()[:3, 0].tolist()
    rows = {f"scene {n + 1}": {"input": data.images[n, 0], "truth": data.labels[n]} for n in shown}
    notes: dict[tuple[str, str], str] = {}
    for net, title in {"hyperbolic": "reversible, hyperbolic", "unet": "U-Net"}.items():
        model = load(scenes.NETS[net](3, 3), runs[net])
        column = named(title, model)
        for n, (row, pictures) in zip(shown, rows.items()):
            pictures[column] = model(data.images[[n]] - 0.5)[0].argmax(0)
            right = (pictures[column] == data.labels[n]).float().mean()
            notes[row, column] = f"{right:.1%} of the pixels right"
    return side_by_side(rows, notes)


@torch.no_grad()
def draw_restored(runs: Mapping[str, Path]) -> Figure:
    """Draw a noisy picture, one with holes and lines with gaps, restored by a PDE network and a CNN."""
    rows: dict[str, dict[str, Tensor]] = {}
    notes: dict[tuple[str, str], str] = {}
    recipe = example("denoising")
    for task, (name, which) in {"denoise": ("noise", 0), "inpaint": ("holes", 1), "lines": ("gaps", 0)}.items():
        data = recipe.Restoration(task, False)
        damaged, whole = data.damaged[[which]], data.whole[[which]]
        rows[name] = {"input": damaged[0, 0], "truth": whole[0, 0]}
        for net, title in {"shock": "convection, diffusion-shock", "cnn": "CNN of as many parameters"}.items():
            model = load(restoration.NETS[net](data.channels), runs[f"{task}-{net}"])
            found = restoration.restored(model, damaged)
            rows[name][title] = found[0, 0]
            notes[name, title] = f"{recipe.figures(found, whole)['psnr']:.1f} dB"
        notes[name, "input"] = f"{recipe.figures(damaged[:, :1].clamp(0, 1), whole)['psnr']:.1f} dB"
    return side_by_side(rows, notes, size=1.9)


@torch.no_grad()
def draw_clip(runs: Mapping[str, Path]) -> Figure:
    """Draw frames of a clip, what moves, and what a network of the whole clip and one of single frames find."""
    recipe = example("reversible_video")
    chosen: Any = argparse.Namespace(width=8, depth=1, levels=2, rank=8)
    clip = recipe.drawn_clip(16, 48)
    shown = torch.tensor([2, 6, 10, 14])
    rows = {"input": clip.frames[0, shown], "truth": clip.masks[shown] > 0}
    seen = recipe.placed(clip)
    whole, frames = recipe.WAYS[-2], recipe.WAYS[-1]
    nets = {"whole": (whole, "reversible,\nwhole clip"), "frames": (frames, "U-Net,\nframe by frame")}
    for net, (way, title) in nets.items():
        model = load(recipe.build(way, len(seen.frames), chosen), runs[net])
        rows[title] = recipe.answers(model, seen, shown)[0].argmax(0) == 1
    titles = [f"frame {n + 1} of 16" for n in shown.tolist()]
    return side_by_side({name: dict(zip(titles, pictures)) for name, pictures in rows.items()}, size=1.6)


DRAW: Mapping[str, Callable[[Mapping[str, Path]], Figure]] = {
    "rotated_digits": draw_digits,
    "drawn_vessels": draw_vessels,
    "retina": draw_retina,
    "drawn_scenes": draw_scenes,
    "restoration": draw_restored,
    "drawn_clip": draw_clip,
}


def run(command: str, folder: Path, last: str) -> None:
    """Run a program unless its folder holds its ``last`` file."""
    if not (folder / last).exists():
        program, *options = shlex.split(command)
        subprocess.run([sys.executable, ROOT / "examples" / program, *options, "--out", folder], check=True)


def shrink(path: Path) -> None:
    """Write a PNG again with 256 colours, which takes a third of the bytes."""
    small = Image.open(path).convert("RGB").quantize(256)
    small.save(path, optimize=True)


def main() -> None:
    """Train what is not trained, and draw the pictures that the command line names."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    known = [*DRAW, *COMPLETE]
    made.add_argument("names", nargs="*", metavar="NAME", help=f"of a picture: {', '.join(known)} (default: all)")
    names = made.parse_args().names or known
    if unknown := set(names) - set(known):
        made.error(f"NAME: expected one of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    for name in names:
        if name in COMPLETE:
            run(COMPLETE[name], RUNS / name, f"{name}.png")
            shutil.copy(RUNS / name / f"{name}.png", IMAGES)
            shrink(IMAGES / f"{name}.png")
            continue
        runs = {net: RUNS / f"{name}-{net}" for net in TRAININGS[name]}
        for net, command in TRAININGS[name].items():
            run(command, runs[net], "weights.safetensors")
        save_picture(DRAW[name](runs), IMAGES / f"{name}.png")
        shrink(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
