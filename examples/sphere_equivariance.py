"""Equivariance errors of each layer on the sphere and on SO(3), on each grid.

Random band-limited signals, random rotations; the number is the relative error of ``pg.testing.equivariance_error``.
Linear layers and products are exact to rounding; maxima and pointwise functions are exact in the limit of fine grids
only. Prints a table, which ``docs/sphere.md`` quotes.

    python examples/sphere_equivariance.py
    python examples/sphere_equivariance.py --band 32
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import pdegcnn as pg
from pdegcnn_examples.datasets.planets import random_field
from pdegcnn_examples.plots.spheres import random_rotations

GRIDS = {
    "Gauss f32": (pg.sphere.SphereGrid.gauss_legendre, torch.float32),
    "Gauss f64": (pg.sphere.SphereGrid.gauss_legendre, torch.float64),
    "reduced f64": (pg.sphere.SphereGrid.reduced_gauss, torch.float64),
    "equiang. f64": (pg.sphere.SphereGrid.equiangular, torch.float64),
}
FIBRE = 8


def layers(grid: pg.sphere.SphereGrid, dtype: torch.dtype) -> dict[str, tuple[Any, Callable[[Tensor], Tensor]]]:
    """Name -> space of the input and layer."""
    s2, so3, kind = pg.S2(grid), pg.SO3(grid, FIBRE), {"dtype": dtype}
    spacing = torch.pi / (grid.band + 1)
    vector = torch.tensor([0.7, -0.4, 0.5], **kind) * spacing
    weights = torch.tensor([1.0, 1.0, 0.4], **kind) / spacing
    one = weights[:1]
    f = pg.functional
    coarse = pg.SO3(pg.sphere.SphereGrid.gauss_legendre((grid.band + 1) // 2), FIBRE)
    wide: dict[str, Any] = {"kernel_size": "auto"}
    found: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
        "lift to SO(3)": (s2, pg.nn.Lift(so3, 1, 2, **kind)),
        "convection on SO(3)": (so3, lambda u: f.convection(u, so3, vector)),
        "diffusion on SO(3)": (so3, lambda u: f.diffusion(u, so3, weights)),
        "spectral pooling": (so3, Pooled(pg.nn.SpectralResample(so3, coarse, **kind), coarse, so3, kind)),
        "projection by mean": (so3, pg.nn.Project(so3, mode="mean")),
        "mean over SO(3)": (so3, pg.nn.GlobalPool(so3)),
        "square, oversample 2": (s2, pg.nn.SphereActivation(s2, torch.square, 2, **kind)),
        "ReLU, oversample 1": (s2, pg.nn.SphereActivation(s2, torch.relu, 1, **kind)),
        "ReLU, oversample 2": (s2, pg.nn.SphereActivation(s2, torch.relu, 2, **kind)),
        "ReLU, oversample 4": (s2, pg.nn.SphereActivation(s2, torch.relu, 4, **kind)),
        "dilation on S2": (s2, lambda u: f.dilation(u, s2, one, alpha=1.0, **wide)),
        "dilation on S2, Newton": (s2, lambda u: f.dilation(u, s2, one, alpha=1.0, subgrid="newton", **wide)),
        "dilation on S2, x 2": (s2, lambda u: f.dilation(u, s2, one, alpha=1.0, oversample=2, **wide)),
        "dilation on S2, x 2, Newton": (
            s2,
            lambda u: f.dilation(u, s2, one, alpha=1.0, oversample=2, subgrid="newton", **wide),
        ),
        "dilation on SO(3)": (so3, lambda u: f.dilation(u, so3, weights, alpha=1.0)),
        "dilation on SO(3), x 2": (so3, lambda u: f.dilation(u, so3, weights, alpha=1.0, oversample=2)),
        "... after diffusion": (so3, lambda u: f.dilation(f.diffusion(u, so3, weights), so3, weights, alpha=1.0)),
        "projection by maximum": (so3, pg.nn.Project(so3, mode="max")),
        "projection by maximum, x 4": (so3, pg.nn.Project(so3, mode="max", oversample=4)),
    }
    return found


class Pooled:
    """Pooling and unpooling, so that input and output are on one grid."""

    def __init__(self, down: Any, coarse: Any, fine: Any, kind: dict[str, Any]) -> None:
        self.down, self.up = down, pg.nn.SpectralResample(coarse, fine, **kind)

    def __call__(self, u: Tensor) -> Tensor:
        """Apply both."""
        return self.up(self.down(u))


def signal(space: Any, band: int, dtype: torch.dtype) -> Tensor:
    """A random signal of unit deviation about 1, whose power falls with the degree; on SO(3) a lifted one."""
    generator = torch.Generator().manual_seed(0)
    c = random_field(2, band, 4.0, generator).to(torch.promote_types(dtype, torch.complex64))
    u = pg.sphere.InverseRealSHT(space.grid, band - 1, dtype=dtype)(c)[:, None]
    if isinstance(space, pg.SO3):
        with torch.no_grad():
            u = pg.nn.Lift(space, 1, 1, dtype=dtype)(u)
    return 1 + u / u.std()


def error(name: str, column: str, band: int) -> float:
    """Mean relative error of a layer on a grid under three random rotations."""
    make, dtype = GRIDS[column]
    torch.manual_seed(0)
    space, layer = layers(make(band), dtype)[name]
    u, turns = signal(space, band, dtype), random_rotations(3, seed=1)
    both = pg.SO3(space.grid, FIBRE)
    return sum(pg.testing.equivariance_error(layer, u, both, rotation=r) for r in turns) / len(turns)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--band", type=int, default=16, help="rings of the grids, at least 4 (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="the first grid only")
    chosen = parser.parse_args()
    if chosen.band < 4:
        parser.error(f"--band: expected a number >= 4, got {chosen.band}")
    columns = list(GRIDS)[: 1 if chosen.smoke else None]
    print(f"{f'L = {chosen.band}, fibre {FIBRE}':<28}" + "".join(f"{name:>14}" for name in columns))
    for name in layers(pg.sphere.SphereGrid.gauss_legendre(chosen.band), torch.float32):
        cells = (partial(error, name, column, chosen.band) for column in columns)
        print(f"{name:<28}" + "".join(f"{cell():>14.1e}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
