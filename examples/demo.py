"""Learn upright textures and recognise rotated ones: a PDE-G-CNN and a plain CNN with over ten times its parameters.

Both are trained on the same upright crops of brick, grass and gravel (photographs of scikit-image) in the same order,
for the same number of steps, so results do not depend on the load of the machine. Both are then tested on crops rotated
by any angle. Prints a table and writes a folder with both networks, the numbers and a picture. ``make demo`` runs it,
``make demo SEED=1`` with other crops and other weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.command_line import check_out
from pdegcnn_examples.datasets.textures import TEXTURES, Textures, textures
from pdegcnn_examples.output import table, write_folder
from pdegcnn_examples.plots import demo as plot

SPACE = pg.SE2(orientations=8)
STEPS, BATCH, CROPS = 150, 24, 100
RATES = {"PDE-G-CNN": 0.03, "plain CNN": 0.01}
"""Highest learning rate of each network."""
ANGLES = tuple(range(0, 360, 30))
ROWS = {
    "upright crops": ("upright", "{:.1%}"),
    "crops at any angle": ("any_angle", "{:.1%}"),
    "worst angle": ("worst_angle", "{:.1%}"),
    "parameters": ("parameters", "{:,}"),
    "seconds of training": ("seconds", "{:.0f}"),
}


def build(name: str) -> nn.Module:
    """The network called ``name``: crops [B,1,48,48] -> logits [B,3]."""
    if name == "PDE-G-CNN":
        terms, width = ("convection", "dilation", "erosion"), 12
        options: dict[str, Any] = {"kernel_size": (3, 5, 5), "convection": "linear", "oversample": 1}
        return nn.Sequential(
            pg.nn.Lift(SPACE, 1, 8, kernel_size=5),
            pg.nn.BatchNorm(8),
            pg.nn.Resample(24),
            pg.nn.PDELayer(SPACE, 8, width, terms, distance="half_angle", **options),
            pg.nn.PDELayer(SPACE, width, width, terms, distance="half_angle", **options),
            pg.nn.Project(SPACE, mode="max"),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, len(TEXTURES)),
        )
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 24), (24, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, len(TEXTURES)))


def train(name: str, data: Textures, steps: int, seed: int) -> tuple[nn.Module, float]:
    """The trained network and the seconds that it took; on a terminal, a count of the steps."""
    torch.manual_seed(seed)
    model, order = build(name), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATES[name], total_steps=steps, pct_start=0.2)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        chosen = torch.randint(len(data.labels), (BATCH,), generator=order)
        loss = nn.functional.cross_entropy(model(data.images[chosen]), data.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if sys.stderr.isatty():
            sys.stderr.write(f"\r  step {step} of {steps}" + ("\r" + " " * 30 + "\r" if step == steps else ""))
            sys.stderr.flush()
    return model.eval(), time.perf_counter() - start


@torch.no_grad()
def named(model: nn.Module, images: Tensor) -> Tensor:
    """The label [N] that the network gives each crop."""
    return torch.cat([model(part).argmax(1) for part in images.split(100)])


def accuracy(model: nn.Module, data: Textures) -> float:
    """The fraction of crops that the network names rightly."""
    return float((named(model, data.images) == data.labels).double().mean())


def measure(model: nn.Module, seconds: float, turned: dict[int, Textures], any_angle: Textures) -> dict[str, Any]:
    """What the table and the picture show."""
    by_angle = {angle: accuracy(model, data) for angle, data in turned.items()}
    return {
        "upright": by_angle[0],
        "any_angle": accuracy(model, any_angle),
        "worst_angle": min(by_angle.values()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": seconds,
        "accuracy_over_angle": {str(angle): value for angle, value in by_angle.items()},
    }


def write(folder: Path, models: dict[str, nn.Module], results: dict[str, Any], turned: dict[int, Textures]) -> None:
    """Write everything into a new folder beside ``folder``, then put it in its place."""
    said = {
        name: {angle: named(model, data.images) for angle, data in turned.items()} for name, model in models.items()
    }

    def fill(fresh: Path) -> None:
        for name, model in models.items():
            torch.save(model.state_dict(), fresh / f"{name.lower().replace(' ', '_')}.pt")
        (fresh / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        plot.draw(turned, said, results["networks"]).savefig(fresh / "demo.png", dpi=110)

    write_folder(folder, fill)


def arguments() -> argparse.Namespace:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("--seed", type=int, default=0, help="of crops, weights and batches (default: %(default)s)")
    made.add_argument("--steps", type=int, default=STEPS, help="of each training (default: %(default)s)")
    made.add_argument("--out", type=Path, default=Path("demo"), help="folder to write (default: %(default)s)")
    made.add_argument("--smoke", action="store_true", help="few crops and steps, to see that everything runs")
    chosen = made.parse_args()
    if chosen.seed < 0:
        made.error(f"--seed: expected a number >= 0, got {chosen.seed}")
    if chosen.steps < 2:
        made.error(f"--steps: expected a number >= 2, got {chosen.steps}")
    check_out(made, chosen.out, "demo")
    return chosen


def main() -> None:
    """Train both networks, print the table and write the folder."""
    chosen = arguments()
    steps, crops = (2, 4) if chosen.smoke else (chosen.steps, CROPS)
    data = textures(crops, chosen.seed)
    turned = {angle: textures(-(-crops // 3), chosen.seed, test=True, angle=angle) for angle in ANGLES}
    any_angle = textures(crops, chosen.seed + 1, test=True, angle=None)
    print(f"{3 * crops} upright crops of {', '.join(TEXTURES)} to train, {steps} steps of {BATCH}", flush=True)
    models, results = {}, {}
    for name in RATES:
        print(f"training the {name} ...", flush=True)
        models[name], seconds = train(name, data, steps, chosen.seed)
        results[name] = measure(models[name], seconds, turned, any_angle)
    print("\naccuracy on other crops of the same photographs\n" + table(results, ROWS) + "\n")
    write(chosen.out, models, {"seed": chosen.seed, "steps": steps, "networks": results}, turned)
    print(f"wrote {chosen.out / 'demo.png'}, both networks and results.json")


if __name__ == "__main__":
    main()
