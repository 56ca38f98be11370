"""Layers on the sphere and on SO(3): how far dilation is from the supremum over the continuum, and what terms cost.

    python benchmarks/sphere_layers.py [--out docs/benchmarks] [--repeats 7] [--quick]

The error of a grid is the root mean square, over its points, of dilation minus dilation over the samples of a grid with
five times as many rings, over the standard deviation of the latter: this is what breaks the equivariance of dilation on
a grid. Times are medians of interleaved repetitions, in processor time; ratios within one run are what counts.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import pdegcnn as pg
from pdegcnn.functional import dilation
from pdegcnn.kernels import morphological_kernel
from pdegcnn.sphere import InverseRealSHT, RealSHT, SphereGrid

WEIGHT = 12.0
"""Cost of a radian: a ball holds a few grid points."""
FIELDS = ("what", "setting", "value", "unit")


def band_limited(grid: SphereGrid, band: float, seed: int) -> torch.Tensor:
    """Noise ``[1,1,*grid.shape]`` of unit variance, degrees fading beyond ``band``; one function on every grid."""
    generator = torch.Generator().manual_seed(seed)
    size = int(4 * band)
    noise = torch.randn(size, size, 2, generator=generator, dtype=torch.float64)
    noise[:, 0, 1] = 0
    coefficients = torch.view_as_complex(noise).tril() * torch.exp(-((torch.arange(size) / band) ** 2))[:, None]
    power = coefficients[:, 0].abs().square().sum() + 2 * coefficients[:, 1:].abs().square().sum()
    coefficients = coefficients * (4 * torch.pi / power).sqrt()
    return InverseRealSHT(grid, size - 1, dtype=torch.float64)(coefficients)[None, None]


def supremum(grid: SphereGrid, u: torch.Tensor, lmax: int, alpha: float, fine: SphereGrid) -> torch.Tensor:
    """Dilation of the band-limited u at the points of ``grid``, over the points of ``fine``."""
    values = InverseRealSHT(fine, lmax, dtype=torch.float64)(RealSHT(grid, lmax, dtype=torch.float64)(u)).flatten()
    there, best = fine.xyz.reshape(-1, 3), []
    for here in grid.xyz.reshape(-1, 3).split(64):
        chord = torch.cdist(here, there, compute_mode="donot_use_mm_for_euclid_dist")
        distance = 2 * torch.asin((chord / 2).clamp(max=1))
        best.append((values - morphological_kernel((WEIGHT * distance) ** 2, alpha)).amax(1))
    return torch.cat(best)


def errors(quick: bool) -> list[tuple[str, str, float, str]]:
    """Errors of dilation on grids of about 2,000 points, with and without the Newton step."""
    size, band = (16, 3.0) if quick else (32, 6.0)
    fine = SphereGrid.gauss_legendre(5 * size)
    grids = {
        "gauss_legendre": SphereGrid.gauss_legendre(size),
        "driscoll_healy": SphereGrid.equiangular(size * 3 // 4),
        "reduced_gauss": SphereGrid.reduced_gauss(size + size // 8),
    }
    rows = []
    for name, grid in grids.items():
        lmax = int(4 * band) - 1
        u, space = band_limited(grid, band, 0), pg.S2(grid)
        for alpha in (1.0, 0.65):
            truth = supremum(grid, u, lmax, alpha, fine)
            for subgrid in (None, "newton"):
                weight = torch.tensor([WEIGHT], dtype=torch.float64)
                got = dilation(u, space, weight, alpha=alpha, kernel_size="auto", subgrid=subgrid).flatten()
                value = float((got - truth).square().mean().sqrt() / truth.std())
                label = f"{name}, {len(truth)} points, alpha {alpha}, {'Newton step' if subgrid else 'samples only'}"
                rows.append(("error", label, value, "of the standard deviation"))
    return rows


def median_milliseconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Processor time of each call, measured in turns after one call to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(t) for name, t in times.items()}


def costs(quick: bool, repeats: int) -> list[tuple[str, str, float, str]]:
    """Time of one term, forward and forward with backward, on SO(3) and on SE(2) with as many samples."""
    size = 8 if quick else 16
    group = pg.SO3(SphereGrid.gauss_legendre(size), orientations=8)
    plane, shape = pg.SE2(8), (8, size, 2 * size)
    calls: dict[str, Callable[[], object]] = {}
    for term in ("convection", "diffusion", "convection_diffusion", "dilation", "diffusion_shock"):
        for label, space, options in (
            ("SO3", group, {}),
            ("SO3 axisymmetric", group, {"metric": "axisymmetric"}),
            ("SO3 Newton step", group, {"subgrid": "newton"}),
            ("SE2", plane, {}),
        ):
            unknown = ("metric" in options and term == "convection") or ("subgrid" in options and term != "dilation")
            if unknown or term not in space.supported_terms:
                continue
            layer = pg.nn.PDELayer(space, 8, 8, (term,), batch_norm=False, **options)
            u = torch.randn(8, 8, *shape, requires_grad=True)
            calls[f"{term}, {label}, forward"] = lambda layer=layer, u=u: without_gradient(layer, u)
            calls[f"{term}, {label}, forward and backward"] = lambda layer=layer, u=u: layer(u).sum().backward()
    what = f"time, [8,8,{shape[0]},{shape[1]},{shape[2]}] float32"
    return [(what, name, value, "ms") for name, value in median_milliseconds(calls, repeats).items()]


@torch.no_grad()
def without_gradient(layer: torch.nn.Module, u: torch.Tensor) -> torch.Tensor:
    """Forward only."""
    return layer(u)


def write(rows: list[tuple[str, str, float, str]], folder: Path, head: str) -> None:
    """A CSV file and a table in Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "sphere_layers.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        writer.writerows((what, setting, f"{value:.4g}", unit) for what, setting, value, unit in rows)
    lines = ["# Layers on the sphere and on SO(3)", "", head, "", "| what | setting | value |", "|---|---|---|"]
    lines += [f"| {what} | {setting} | {value:.3g} {unit} |" for what, setting, value, unit in rows]
    (folder / "sphere_layers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of each timing (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    chosen = parser.parse_args()
    before = os.getloadavg()[0]
    rows = errors(chosen.quick) + costs(chosen.quick, chosen.repeats)
    head = (
        f"`python benchmarks/sphere_layers.py`{' (quick)' if chosen.quick else ''}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {torch.get_num_threads()} threads, load average {before:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after. {(__doc__ or '').split(chr(10) * 2)[2].strip()}"
    )
    write(rows, chosen.out, head)
    print((chosen.out / "sphere_layers.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
