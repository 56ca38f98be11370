"""Divergence and vorticity of winds, learned from the wind as a vector signal, for any rotation of the planet.

A wind v is a signal on SO(3), ``u(R) = v(p) . e``, where R gives the point p and a direction e there: this keeps all
information and prefers no direction, even at the poles. Derivatives along the frame become convections, so a small
network of convections and mixings can learn divergence and vorticity. The plain U-Net gets southward and eastward
components, which have no meaning at the poles. True values come from the exact spin-1 transform.

Winds are synthetic by default (random flow over westerly jets); with ``--data`` they are monthly means of the Earth,
nine months to train and three to test.

    python examples/wind.py
    python examples/wind.py --epochs 200
    python examples/wind.py --data DIR     # DIR holds wind_monthly_2p5deg.npz
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
from matplotlib.figure import Figure
from safetensors.torch import save_file
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.command_line import add_band, load_or_exit, parse, parser
from pdegcnn_examples.datasets import earth_wind
from pdegcnn_examples.networks.panoramas import UNet
from pdegcnn_examples.output import table, write_folder
from pdegcnn_examples.plots import spheres
from pdegcnn_examples.training import Settings, parameters, recipe

RATES = {"PDE-G-CNN": 0.02, "plain U-Net": 0.003}
FILES = {"PDE-G-CNN": "pdegcnn", "plain U-Net": "unet"}
ROWS = {
    "divergence error, upright": ("divergence_upright", "{:.1%}"),
    "divergence error, rotated": ("divergence_rotated", "{:.1%}"),
    "vorticity error, upright": ("vorticity_upright", "{:.1%}"),
    "vorticity error, rotated": ("vorticity_rotated", "{:.1%}"),
    "parameters": ("parameters", "{:,}"),
    "equivariance error": ("equivariance_error", "{:.1e}"),
    "seconds per epoch": ("seconds_per_epoch", "{:.1f}"),
}
TARGETS = ("divergence", "vorticity")


class Samples(NamedTuple):
    """Winds (v_theta, v_phi) and their divergence and vorticity, both [N,2,nlat,nlon]."""

    wind: Tensor
    target: Tensor


class VectorLift(nn.Module):
    """Tangent fields to SO(3): ``u(R) = v(p) . R e_x``, that is ``v_theta cos c + v_phi sin c`` at direction c.

    Exact and equivariant. [B,2,nlat,nlon] -> [B,1,fibre,nlat,nlon].
    """

    def __init__(self, space: pg.SO3) -> None:
        super().__init__()
        self.space = space

    def forward(self, wind: Tensor) -> Tensor:
        """Lift ``wind``."""
        turn = torch.arange(self.space.orientations, device=wind.device) * (2 * math.pi / self.space.orientations)
        directions = torch.stack((turn.cos(), turn.sin())).to(wind)
        return torch.einsum("bc...,cf->bf...", wind, directions)[:, None]


def build(name: str, grid: pg.sphere.SphereGrid, width: int = 16) -> nn.Module:
    """The network called ``name``: winds [B,2,nlat,nlon] -> divergence and vorticity [B,2,nlat,nlon]."""
    if name == "plain U-Net":
        return UNet(2, 2)
    space = pg.SO3(grid, orientations=8)
    return nn.Sequential(
        VectorLift(space),
        pg.nn.ChannelLinear(1, width, bias=False),
        pg.nn.PDELayer(space, width, width, terms=("convection",), batch_norm=False),
        pg.nn.Project(space, mode="mean"),
        pg.nn.ChannelLinear(width, 2, bias=False),
    )


def made_up_winds(count: int, band: int, seed: int) -> Tensor:
    """Coefficients [count,2,band,band] of winds: random potential and stream function, over two westerly jets."""
    generator = torch.Generator().manual_seed(seed)
    degree = torch.arange(band)
    parts = torch.complex(*torch.randn(2, count, 2, band, band, generator=generator).unbind(0))
    parts[..., 0] = parts[..., 0].real * 2**0.5
    wind = (parts * (degree.clamp(min=1) ** -1.5)[:, None]).tril() * (degree > 0)[:, None]
    wind[:, 0] *= 0.5
    grid = pg.sphere.SphereGrid.gauss_legendre(2 * band)
    z = grid.xyz[..., 2].float()
    jets = torch.stack((torch.zeros_like(z), 2.5 * (1 - z**2).sqrt() * z**2))
    return wind + pg.sphere.VectorSHT(grid, band - 1)(jets)


def earth(folder: Path | None, band: int) -> tuple[Tensor, Tensor]:
    """Winds of nine months to train on and of three to test on, coefficients [N,2,band,band]."""
    field = earth_wind(folder)
    if len(field.values) != 12:
        raise ValueError(f"u, v: expected 12 months, got {len(field.values)}")
    fine = pg.sphere.SphereGrid.gauss_legendre(48)
    east, north = field.at(fine.xyz).unbind(1)
    months = pg.sphere.VectorSHT(fine, band - 1)(torch.stack((-north, east), 1))
    test = torch.arange(12) % 4 == 3
    return months[~test], months[test]


@torch.no_grad()
def sampled(winds: Tensor, grid: pg.sphere.SphereGrid, rotations: Tensor | None = None) -> Samples:
    """Every wind and its derivatives on the grid; with ``rotations [K N,3,3]`` K turned copies of each."""
    if rotations is not None:
        turned = (pg.sphere.rotate_coefficients(winds[i % len(winds)], r) for i, r in enumerate(rotations))
        winds = torch.stack(list(turned))
    derived = torch.stack((pg.sphere.divergence(winds), pg.sphere.curl(winds)), 1)
    lmax = winds.shape[-1] - 1
    return Samples(pg.sphere.InverseVectorSHT(grid, lmax)(winds), pg.sphere.InverseRealSHT(grid, lmax)(derived))


def scaled(samples: Samples, like: Samples) -> Samples:
    """Both over the root mean square of ``like``, so that winds and each derivative are of the order of one."""
    speed, size = like.wind.square().mean().sqrt(), like.target.square().mean((0, 2, 3), keepdim=True).sqrt()
    return Samples(samples.wind / speed, samples.target / size)


@torch.no_grad()
def errors(model: nn.Module, samples: Samples, grid: pg.sphere.SphereGrid) -> list[float]:
    """Relative error of divergence and of vorticity: root of the integral of its square over that of the truth."""
    model.eval()
    wrong = torch.cat([model(x) for x in samples.wind.split(16)]) - samples.target
    share = grid.weights.to(wrong)
    lost, all_ = ((part.square() * share).sum((0, 2, 3)) for part in (wrong, samples.target))
    return (lost / all_).sqrt().tolist()


@torch.no_grad()
def equivariance(model: nn.Module, winds: Tensor, scale: Samples, grid: pg.sphere.SphereGrid) -> float:
    """Mean relative difference of the map of a turned wind and the turned map, under three random rotations."""
    total, turns = 0.0, spheres.random_rotations(3, seed=1)
    space, share = pg.S2(grid), grid.weights.float()
    plain = model.eval()(scaled(sampled(winds, grid), scale).wind)
    for r in turns:
        turned = scaled(sampled(winds, grid, r.expand(len(winds), 3, 3)), scale).wind
        moved, expected = space.band_limit(model(turned), rotation=r), space.transform(plain, rotation=r)
        total += float((((moved - expected).square() * share).sum() / (expected.square() * share).sum()).sqrt())
    return total / len(turns)


def measure(
    name: str, first: Samples, tests: tuple[Samples, Samples], grid: pg.sphere.SphereGrid, chosen: argparse.Namespace
) -> tuple[nn.Module, dict[str, float]]:
    """Train the network called ``name`` and test it on upright and on turned planets."""
    torch.manual_seed(chosen.seed)
    model, share = build(name, grid), (grid.weights / grid.weights.mean()).float()

    def loss(batch: Tensor) -> Tensor:
        return ((model(first.wind[batch]) - first.target[batch]).square() * share).mean()

    how = Settings(chosen.epochs, 16, RATES[name], seconds=chosen.seconds, seed=chosen.seed)
    done = recipe.train_alone(name, model, loss, len(first.wind), how, chosen)
    found: dict[str, float] = {"parameters": parameters(model)}
    found["seconds_per_epoch"] = recipe.seconds_per_epoch(done, how, len(first.wind))
    for label, samples in zip(("upright", "rotated"), tests):
        found |= {f"{what}_{label}": error for what, error in zip(TARGETS, errors(model, samples, grid))}
    return model, found


def draw_arrows(axis: Any, wind: Tensor, grid: pg.sphere.SphereGrid, view: np.ndarray) -> None:
    """Arrows of the wind [2,nlat,nlon] on the sphere that ``view`` sees."""
    points, seen = spheres.disc(view, pixels=15)
    theta, phi = (spheres.sample(part, grid, points) for part in wind)
    across = np.maximum(np.hypot(points[..., 0], points[..., 1]), 1e-9)
    east = np.stack((-points[..., 1] / across, points[..., 0] / across, 0 * across), -1)
    arrows = (theta[..., None] * np.cross(east, points) + phi[..., None] * east) @ view.T
    side = np.linspace(-1.02, 1.02, 15)
    x, y = np.meshgrid(side, -side)
    inside = seen & (x**2 + y**2 < 0.9)
    axis.quiver(x[inside], y[inside], arrows[inside][:, 0], arrows[inside][:, 1], color="white", scale=30, width=0.008)


def picture(models: dict[str, nn.Module], winds: Tensor, scale: Samples, grid: pg.sphere.SphereGrid) -> Figure:
    """One test wind upright and turned, always seen from the same side of the planet, near its pole."""
    turn = spheres.random_rotations(2, seed=5)[1:]
    front = spheres.view_from(0.5, 0.7)
    figure = Figure(figsize=(2.4 * (2 + len(models)), 4.9), layout="constrained")
    axes = figure.subplots(2, 2 + len(models))
    for line, label, rotation in zip(axes, ("upright", "turned"), (None, turn)):
        samples = scaled(sampled(winds[:1], grid, rotation), scale)
        view = front if rotation is None else front @ rotation[0].numpy().T
        spheres.draw_sphere(line[0], samples.wind[0].square().sum(0).sqrt(), grid, view, cmap="viridis")
        draw_arrows(line[0], samples.wind[0], grid, view)
        with torch.no_grad():
            maps = {name: model.eval()(samples.wind)[0, 1] for name, model in models.items()}
        for axis, values in zip(line[1:], (samples.target[0, 1], *maps.values())):
            fine, fine_grid = spheres.refine(values, grid)
            spheres.draw_sphere(axis, fine, fine_grid, view, cmap="RdBu_r", vmin=-3, vmax=3)
        line[0].set_ylabel(label, fontsize=11)
    for axis, title in zip(axes[0], ("wind and its speed", "vorticity", *(f"vorticity by {n}" for n in models))):
        axis.set_title(title, fontsize=9)
    figure.suptitle("A test wind upright and turned, both seen from one side of the planet, near its pole", fontsize=11)
    return figure


def load(chosen: argparse.Namespace) -> tuple[Tensor, Tensor, str]:
    """Winds to train on, winds to test on, and what they are."""
    if chosen.data or os.environ.get("PDEGCNN_DATA"):
        return *load_or_exit(lambda: earth(chosen.data, chosen.band)), "monthly winds of the Earth"
    first, last = (made_up_winds(n, chosen.band, 2 * chosen.seed + i) for i, n in enumerate((160, 32)))
    return first, last, "made-up winds"


def arguments() -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, out="wind", data="folder with wind_monthly_2p5deg.npz", epochs=40)
    add_band(made)
    return parse(made)


def main() -> None:
    """Load winds, train the networks, print the table and write the folder."""
    chosen = arguments()
    first, last, source = load(chosen)
    grid = pg.sphere.SphereGrid.gauss_legendre(chosen.band)
    scale = sampled(first, grid)
    turns = spheres.random_rotations(4 * len(last), seed=7)
    training, *tests = (scaled(s, scale) for s in (scale, sampled(last, grid), sampled(last, grid, turns)))
    print(f"{len(first)} winds to train (upright), {len(last)} to test ({source}), {chosen.epochs} epochs")
    models, results = {}, {}
    for name in FILES:
        models[name], results[name] = measure(name, training, (tests[0], tests[1]), grid, chosen)
        results[name]["equivariance_error"] = equivariance(models[name], last[:3], scale, grid)
    print("\n" + table(results, ROWS) + "\n")

    def fill(fresh: Path) -> None:
        for name, model in models.items():
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, fresh / f"{FILES[name]}.safetensors")
        settings = {"winds": source, "band": chosen.band, "seed": chosen.seed, "epochs": chosen.epochs}
        (fresh / "results.json").write_text(json.dumps({**settings, "networks": results}, indent=2) + "\n")
        picture(models, last, scale, grid).savefig(fresh / "wind.png", dpi=110)

    write_folder(chosen.out, fill)
    print(f"wrote {chosen.out / 'wind.png'}, checkpoints and results.json")


if __name__ == "__main__":
    main()
