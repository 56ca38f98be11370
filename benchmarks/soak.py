"""Random networks: build, train one step, save, load, compare, until the models or the seconds are used up.

``python benchmarks/soak.py --models 10000 --seconds 7200``; prints how many held and stops at the first that does not,
with the seed that builds it again (``--first SEED --models 1``). A model that takes more than ``LONGEST`` seconds ends
the run with its stack.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import pdegcnn as pg

LONGEST = 120
"""Seconds that a model may take; they take a fraction of one."""
TERMS = ("convection", "diffusion", "dilation", "erosion")


def planar(draw: random.Random) -> dict[str, Any]:
    """Options that all networks of PDE layers on the plane and on SE(2) share."""
    space = draw.choice([pg.R2(), pg.SE2(draw.choice([1, 4, 5, 8]))])
    metric = draw.choice(["diagonal", "spd"])
    learned = draw.random() < 0.3
    combined = ["combined"] if space.dim == 3 and metric == "diagonal" else []
    return {
        "space": space,
        "terms": tuple(draw.sample(TERMS, draw.randint(1, 4))),
        "kernel_size": draw.choice([3, 5]),
        "alpha": draw.choice([0.55, 0.65, 0.8, *([] if learned else [1.0])]),  # 1 cannot be learned from
        "learn_alpha": learned,
        "metric": metric,
        "splitting": draw.choice(["lie", "strang"]),
        "boundary": draw.choice([None, "zeros", "replicate", "periodic"]),
        "distance": draw.choice([None, "logarithmic", "half_angle", *combined]),
        "iterations": draw.choice([1, 1, 2]),
        "dtype": draw.choice([torch.float32, torch.float64]),
    }


def spherical(draw: random.Random) -> dict[str, Any]:
    """Options of the networks on the sphere."""
    grids = pg.sphere.SphereGrid
    grid = draw.choice([grids.gauss_legendre(4), grids.gauss_legendre(5), grids.equiangular(4), grids.reduced_gauss(6)])
    terms = tuple(draw.sample(TERMS, draw.randint(1, 4)))
    return {"grid": grid, "fibre": draw.choice([3, 4]), "terms": terms, "kernel_size": 3}


def hyperbolic(draw: random.Random) -> dict[str, Any]:
    """Options of the reversible networks."""
    return {
        "in_channels": draw.randint(1, 3),
        "classes": draw.randint(2, 4),
        "width": draw.choice([2, 4]),
        "depth": draw.randint(1, 3),
        "h": draw.choice([0.1, 0.5]),
        "exact": draw.random() < 0.5,
    }


def recipe(seed: int) -> tuple[str, dict[str, Any], tuple[int, ...]]:
    """The builder, its arguments and the shape of an input that belong to a seed."""
    draw = random.Random(seed)
    name = draw.choice(sorted(pg.models.MODELS))
    batch, sizes = draw.randint(2, 3), (draw.randint(8, 13), draw.randint(8, 13))
    if name == "rotated_digits":
        widths = tuple(draw.randint(1, 3) for _ in range(draw.randint(1, 3)))
        return name, {**planar(draw), "channels": widths, "size": draw.randint(5, 9)}, (batch, 1, *sizes)
    if name == "vessel_segmentation":
        options = {**planar(draw), "layers": draw.randint(3, 4), "channels": draw.randint(1, 3)}
        return name, options, (batch, 3, *sizes)
    if name == "video_segmenter":
        options = {**hyperbolic(draw), "levels": 1, "rank": draw.randint(1, 3)}
        return name, options, (batch, options["in_channels"], 4, *(size // 2 for size in sizes))
    if name == "equivariant_hyperbolic_segmenter":
        layer = draw.choice(["pde", "symmetric"])
        options = {**hyperbolic(draw), "orientations": draw.choice([4, 8]), "layer": layer, "kernel_size": 3}
        return name, options, (batch, options["in_channels"], *sizes)
    if name == "detector":
        options = {
            "classes": draw.randint(1, 3),
            "in_channels": draw.randint(1, 3),
            "space": pg.SE2(draw.choice([4, 8])),
            "channels": tuple(draw.randint(1, 3) for _ in range(2)),
            "layers": draw.randint(1, 2),
            "kernel_size": 3,
        }
        return name, options, (batch, options["in_channels"], *sizes)
    if name.startswith("hyperbolic"):
        options = {**hyperbolic(draw), "levels": draw.randint(1, 2)}
        return name, options, (batch, options["in_channels"], *sizes)
    options = spherical(draw)
    options |= {
        "spherical_classifier": {"channels": (2, 2)},
        "spherical_segmenter": {"width": 2, "levels": 2},
        "spherical_detector": {"width": 2, "layers": draw.randint(1, 2), "classes": draw.randint(1, 3)},
    }[name]
    return name, options, (batch, 1, *options["grid"].shape)


def check(seed: int, folder: Path) -> None:
    """Build, train one step, save, load and compare bit for bit; raises ``AssertionError`` with the recipe."""
    name, options, shape = recipe(seed)
    try:
        torch.manual_seed(seed)
        model = pg.models.MODELS[name](**options)
        x = torch.randn(shape, dtype=options.get("dtype"))
        _step(model, x)
        expected = _maps(model.eval())(x).detach()
        assert expected.isfinite().all(), "NaN or infinity after a step"
        again = pg.load(pg.save(model, folder / "model.safetensors"))
        assert _maps(again)(x).equal(expected), "another result after loading"
    except Exception as error:
        raise AssertionError(f"seed {seed}: {name}({options}) on {shape}: {type(error).__name__}: {error}") from error


def _maps(model: nn.Module) -> nn.Module:
    """The part of a network that gives a tensor: of a detector, the one before its boxes."""
    return model.network if isinstance(model, pg.models.Detector) else model


def _step(model: nn.Module, x: Tensor) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    _maps(model.train())(x).square().mean().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads, "no gradient"
    assert all(g.isfinite().all() for g in grads), "NaN or infinity in a gradient"
    optimiser.step()


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("--models", type=int, default=10_000, help="how many at most (default: %(default)s)")
    made.add_argument("--seconds", type=float, default=3600, help="for how long at most (default: %(default)s)")
    made.add_argument("--first", type=int, default=0, help="seed of the first (default: %(default)s)")
    chosen = made.parse_args()
    start, count = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in tqdm(range(chosen.first, chosen.first + chosen.models)):
            if time.monotonic() > start + chosen.seconds:
                break
            faulthandler.dump_traceback_later(LONGEST, exit=True)
            check(seed, Path(folder))
            count += 1
    faulthandler.cancel_dump_traceback_later()
    rate = count / (time.monotonic() - start)
    print(f"{count} models from seed {chosen.first} on: built, trained one step, saved, loaded, the same to the bit")
    print(f"{rate:.1f} models a second: 10,000 take {10_000 / max(rate, 1e-9) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
