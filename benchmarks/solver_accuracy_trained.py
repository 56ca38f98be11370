"""How far trained networks turn with their input: rotated digits on the plane, digits on the sphere.

Called by ``python -m benchmarks.solver_accuracy``. The change of the logits is measured for the weights in the package,
on 64 test digits and at angles between those of the grid. What the results files hold is shown beside it: networks that
``examples/rotated_digits.py`` and ``examples/spherical_digits.py`` trained, with their epochs. Metrics without a
gradient are counted too: those whose weights are so great that the centre of every window wins.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.datasets import rotated_digits, rotated_mnist

RESULTS = Path(__file__).parents[1] / "results"
ANGLES = (15, 30, 45)


def results(recipe: str) -> Iterator[dict[str, Any]]:
    """Every result file of a recipe."""
    for path in sorted(RESULTS.glob(f"{recipe}-*.json")):
        yield json.loads(path.read_text())


def dead_metrics(model: nn.Module, images: Tensor, labels: Tensor) -> Counter[str]:
    """Count metrics of dilation and erosion, ``"all"``, and those without a gradient on these digits, ``"dead"``."""
    found = Counter[str]()
    F.cross_entropy(model(images), torch.as_tensor(labels)).backward()
    for module in model.modules():
        if isinstance(module, pg.nn.Morphology):
            slope = module.metric.raw.grad
            found["all"] += module.channels
            found["dead"] += module.channels if slope is None else int((slope.flatten(1) == 0).all(1).sum())
    return found


def digits(folder: Path | None = None) -> None:
    """Print the change of logits and the error of networks for rotated digits."""
    split, space = rotated_mnist(folder) if folder else rotated_digits(seed=0), pg.SE2(8)
    some = split.test.images[:64]
    print("| rotated digits | change of logits at 15, 30, 45 degrees | target | test error | epochs |")
    print("|---|---|---|---|---|")
    dead = Counter[str]()
    for name in ("small", "large"):
        model = pg.models.rotated_digits(pretrained=name)
        errors = " ".join(f"{pg.testing.equivariance_error(model, some, space, angle=a):.3f}" for a in ANGLES)
        print(f"| weights in the package: {name} | {errors} | .08 at 45 | | |", flush=True)
        dead += dead_metrics(model, split.train.images[:256], split.train.labels[:256])
    for found in results("rotated_digits"):
        figures = found["figures"]
        print(
            f"| {found['row']}, seed {found['seed']} | {figures['invariance_error_45']:.3f} at 45 | .08 at 45 "
            f"| {figures['test_error']:.2%} | {found['epochs']:.0f} |"
        )
    print(f"\nMetrics without a gradient: {dead['dead']} of {dead['all']} in the two networks (target: at most 1 %).")


def spherical_digits() -> None:
    """Print what the results files say of digits on the sphere."""
    print("| spherical digits | rotated / rotated | upright / rotated | parameters | epochs |\n|---|---|---|---|---|")
    for found in results("spherical_digits"):
        both = (f"{found['figures'][key]:.2%}" for key in ("rotated_rotated", "upright_rotated"))
        print(f"| {found['row']} | {' | '.join(both)} | {found['parameters']:,} | {found['epochs']:.1f} |")
    print("| target, PDE layers | 98 % | within a point of it | at most 10,000 | |")
