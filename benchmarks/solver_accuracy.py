"""What the solvers get right, beside what it costs and beside the targets that were set.

    python -m benchmarks.solver_accuracy                        # every row; half an hour on one core
    python -m benchmarks.solver_accuracy --rows dilation chain  # some of them
    python -m benchmarks.solver_accuracy --rows digits --data DIR   # digits of MNIST, else those inside a package

Rows: ``dilation``, ``convection``, ``diffusion`` and ``chain`` on SE(2), ``sphere`` (S2 and SO(3)), ``mesh``
(icospheres), ``digits`` (trained networks that read rotated digits) and ``spherical_digits`` (files of results).

Errors are relative, against solutions written without the library (``tests/pde/references.py``): dilation against a
WENO solver, relative to the change that it makes; convection and diffusion against the function at moved points and
dense exponentials. "Chain" is lift, convection, dilation and maximum (with erosion where there are several layers) of
an image turned by formula, compared after a blur of 1.5 pixels: the mean of three draws of weights and images, and the
worst. Between layers signals are normalised by fixed statistics, as in evaluation: those of a turned image would
differ by what enters at its corners. Times are processor time, forward and with backward, as
multiples of the time of the old defaults: samples, five taps, linear interpolation. Targets are upper limits of errors
and times.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import pdegcnn as pg
from benchmarks import solver_accuracy_mesh, solver_accuracy_sphere, solver_accuracy_trained
from benchmarks.solver_accuracy_sphere import costs
from tests.pde.references import Waves, convected, diffused, dilated

F = pg.functional
TURN = torch.tensor([[1.2, 0.2, 0.1], [0.2, 1.1, -0.2], [0.1, -0.2, 0.9]], dtype=torch.float64)
METRICS = {
    "(1, 1, 1)": torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64),
    "(.5, 1.5, 1)": torch.tensor([0.5, 1.5, 1.0], dtype=torch.float64),
    "full": (TURN @ TURN)[None],
}
CLOSER = "oversample=(2, None)"
OLD = {"kernel_size": 5, "oversample": 1, "distance": "half_angle"}
DILATION: dict[str, dict[str, Any]] = {"old default": OLD, "default": {}, "oversample=1": {"oversample": 1}}
DILATION |= {CLOSER: {"oversample": (2, None)}, "oversample=2": {"oversample": 2}}
CONVECTION = {"linear": {"method": "linear"}, "default": {}, "spectral": {"method": "spectral"}}
DIFFUSION = {
    "sampled, 5 taps": {"method": "sampled", "kernel_size": 5},
    "default": {},
    "spectral": {"method": "spectral"},
}
DRAWS = (3, 4, 5)
"""Seeds of the weights and images of chains."""
INSIDE = "inner_orientations=16"
BEST = f"{INSIDE}, oversample=2, spectral"
INNER = (slice(None), slice(5, -5), slice(5, -5))


TARGETS = {
    ("dilation, Or 8", "default"): ".13, 2x",
    ("dilation, Or 16", "default"): ".11, 2x",
    ("dilation, Or 32", "default"): ".10, 2x",
    ("dilation, Or 8", "oversample=2"): ".09",
    ("dilation, Or 16", "oversample=2"): ".05",
    ("dilation, Or 32", "oversample=2"): ".045",
    ("convection, Or 8", "default"): ".05",
    ("diffusion (1, 1, 1), Or 8", "default"): ".05 from .3 on, 1x",
    ("diffusion (.5, 1.5, 1), Or 8", "default"): ".05 from .3 on, 1x",
    ("diffusion full, Or 8", "default"): ".05 from .3 on, 1x",
    ("chain of 1 layer(s), Or 8", "default"): ".06",
    ("chain of 1 layer(s), Or 8", "oversample=2"): ".04",
    ("chain of 1 layer(s), Or 8", BEST): ".04",
    ("chain of 3 layer(s), Or 8", "oversample=2"): ".08",
    ("chain of 3 layer(s), Or 8", BEST): ".08",
}
"""Greatest error, and time where there is a limit, of each choice that has a target."""


class Row(NamedTuple):
    """One measurement."""

    what: str
    options: str
    errors: str
    forward: float
    training: float

    @property
    def target(self) -> str:
        """The limits that were set for it."""
        return TARGETS.get((self.what.partition(":")[0], self.options), "")


def full(metric: Tensor) -> Tensor:
    """A metric as a matrix ``[3,3]``."""
    return torch.diag(metric**2) if metric.ndim == 1 else metric[0]


def timed(
    run: Callable[[Tensor, Tensor, dict[str, Any]], Tensor], options: dict[str, dict[str, Any]], count: int, p: Tensor
):
    """Forward and training times of every choice over those of the first."""
    found = {k: costs(lambda x, w, o=o: run(x, w, o), torch.randn(2, 8, count, 40, 40), p) for k, o in options.items()}
    first = next(iter(found.values()))
    return {k: (a / first[0], b / first[1]) for k, (a, b) in found.items()}


def dilations(quick: bool) -> list[Row]:
    """Worst and all errors over metrics and powers, at 8, 16 and 32 orientations."""
    wave, rows = Waves(), []
    names = list(METRICS)[: 1 if quick else 3]
    cases = [(name, alpha) for name in names for alpha in (0.65, 1.0)]
    true = {c: dilated(wave.sample(32, 3), full(METRICS[c[0]]), c[1], 3)[:, ::3, ::3] for c in cases}
    for count in (8, 16) if quick else (8, 16, 32):
        u, space = wave.sample(count), pg.SE2(count)
        weights = 0.5 + torch.rand(8, 3)
        times = timed(lambda x, w, o, s=space: F.dilation(x, s, w, **o), DILATION, count, weights)
        for name, options in DILATION.items():
            errors = []
            for (metric, alpha), solution in true.items():
                found = F.dilation(u[None, None], space, METRICS[metric], alpha=alpha, **options)[0, 0]
                solution = solution[:: 32 // count]
                errors.append(float((found - solution)[INNER].norm() / (solution - u)[INNER].norm()))
            shown = f"{max(errors):.3f}  (" + " ".join(f"{e:.3f}" for e in errors) + ")"
            rows.append(Row(f"dilation, Or {count}: worst (metrics x alpha .65, 1)", name, shown, *times[name]))
    return rows


def convections() -> list[Row]:
    """Mean and worst error over vectors as at initialisation."""
    wave, space, rows = Waves(), pg.SE2(8), []
    u, torch_vectors = wave.sample(8), 2 * torch.rand(6, 3, generator=torch.Generator().manual_seed(1)) - 1
    vectors = torch_vectors.double() * space.grid_spacing
    true = [convected(wave, 8, c) for c in vectors]
    times = timed(lambda x, c, o: F.convection(x, space, c, **o), CONVECTION, 8, 2 * torch.rand(8, 3) - 1)
    for name, options in CONVECTION.items():
        errors = []
        for c, solution in zip(vectors, true):
            found = F.convection(u[None, None], space, c, boundary="periodic", **options)[0, 0]
            errors.append(float((found - solution).norm() / solution.norm()))
        rows.append(
            Row("convection, Or 8: mean, worst", name, f"{sum(errors) / 6:.1e} {max(errors):.1e}", *times[name])
        )
    return rows


def diffusions() -> list[Row]:
    """Errors at alpha .1, .3, .5, .65 and 1."""
    wave, space, rows = Waves(), pg.SE2(8), []
    u, alphas = wave.sample(8), (0.1, 0.3, 0.5, 0.65, 1.0)
    times = timed(lambda x, w, o: F.diffusion(x, space, w, alpha=0.65, **o), DIFFUSION, 8, 0.5 + torch.rand(8, 3))
    for metric, value in METRICS.items():
        for name, options in DIFFUSION.items():
            errors = []
            for alpha in alphas:
                true = diffused(u, full(value), alpha)
                found = F.diffusion(u[None, None], space, value, alpha=alpha, boundary="periodic", **options)[0, 0]
                errors.append(float((found - true).norm() / true.norm()))
            shown = " ".join(f"{e:.3f}" for e in errors)
            rows.append(Row(f"diffusion {metric}, Or 8: alpha .1 .3 .5 .65 1", name, shown, *times[name]))
    return rows


def image(angle: float, seed: int, size: int = 64) -> Tensor:
    """A sum of plane waves at turned pixels, ``[1,1,H,W]``."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.randn(120, 2, generator=generator, dtype=torch.float64) / 1.5
    phase = 2 * math.pi * torch.rand(120, generator=generator, dtype=torch.float64)
    keep = k.norm(dim=1) < 2.2
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    c, s = math.cos(angle), math.sin(angle)
    waves = (c * x + s * y)[..., None] * k[keep, 0] + (c * y - s * x)[..., None] * k[keep, 1] + phase[keep]
    return torch.cos(waves).sum(-1)[None, None]


class ChainOptions(NamedTuple):
    """Choices of a chain."""

    filters: str | None = None
    convection: dict[str, Any] = {}
    morphology: dict[str, Any] = {}
    projection: int = 1


class Chain:
    """Lift, convection and dilation (with erosion where there are several layers), maximum over orientations."""

    def __init__(self, layers: int, options: ChainOptions, dtype: torch.dtype, seed: int = DRAWS[0]) -> None:
        torch.manual_seed(seed)
        self.space, self.options, self.seed = pg.SE2(8), options, seed
        self.lift = pg.nn.Lift(self.space, 1, 6, filters=options.filters).double()
        torch.manual_seed(seed)  # filters of another family are of another number
        self.vectors = (2 * torch.rand(layers, 6, 3, dtype=torch.float64) - 1) * self.space.grid_spacing
        metrics = torch.empty(2 * layers, 6, 3, dtype=torch.float64).uniform_(math.log(0.5), math.log(1.5))
        self.metrics = torch.exp(metrics).to(dtype)
        self.lift, self.vectors = self.lift.to(dtype), self.vectors.to(dtype)
        self.statistics: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            self(image(0.0, seed).to(dtype), self.vectors)

    def normalised(self, u: Tensor, i: int) -> Tensor:
        """Normalise by the statistics that the first signal had at the same place."""
        if i == len(self.statistics):
            self.statistics.append((u.mean((2, 3, 4), keepdim=True), u.std((2, 3, 4), keepdim=True)))
        return (u - self.statistics[i][0]) / self.statistics[i][1]

    def __call__(self, f: Tensor, vectors: Tensor) -> Tensor:
        """Run images ``[B,1,H,W]``."""
        u = self.normalised(self.lift(f), 0)
        for i, vector in enumerate(vectors):
            u = F.convection(u, self.space, vector, **self.options.convection)
            u = F.dilation(u, self.space, self.metrics[2 * i], **self.options.morphology)
            if len(vectors) > 1:
                u = F.erosion(u, self.space, self.metrics[2 * i + 1], **self.options.morphology)
                u = self.normalised(u, i + 1)
        return F.project(u, self.space, oversample=self.options.projection)

    @torch.no_grad()
    def errors(self) -> list[float]:
        """Errors at 15, 30 and 45 degrees."""
        axis, found = torch.arange(64, dtype=torch.float64) - 31.5, list[float]()
        disk = (axis[:, None] ** 2 + axis**2 < 20**2).double()
        still = self(image(0.0, self.seed), self.vectors)
        for degrees in (15, 30, 45):
            turned = self(image(math.radians(degrees), self.seed), self.vectors)
            pair = self.space.transform(still, angle=degrees), turned
            # heat for a time of half the variance is a blur
            a, b = (F.diffusion(v, pg.R2(), torch.ones(2).double(), time=1.125, method="spectral") for v in pair)
            mean = (b * disk).sum((2, 3), keepdim=True) / disk.sum()
            found.append(float(((a - b) * disk).norm() / ((b - mean) * disk).norm()))
        return found


def chains(quick: bool) -> Iterable[Row]:
    """One layer, and three with erosion."""
    inside, exact = {"inner_orientations": 16}, {"method": "spectral"}
    choices = {
        "old default": ChainOptions("steerable", {"method": "linear"}, OLD),
        "default": ChainOptions(),
        "oversample=2": ChainOptions(None, {}, {"oversample": 2}),
        CLOSER: ChainOptions(None, {}, {"oversample": (2, None)}),
        INSIDE: ChainOptions(None, inside, inside, 4),
        BEST: ChainOptions(None, inside | exact, inside | {"oversample": 2}, 4),
    }
    for layers in (1,) if quick else (1, 3):
        first: tuple[float, float] | None = None
        for name, choice in choices.items():
            net = Chain(layers, choice, torch.float32)
            took = costs(net, image(0.0, net.seed).float(), net.vectors)
            first = first or took
            draws = torch.tensor([Chain(layers, choice, torch.float64, seed).errors() for seed in DRAWS])
            errors = " ".join(f"{e:.3f}" for e in draws.mean(0).tolist()) + f"  (worst {float(draws.max()):.3f})"
            what = f"chain of {layers} layer(s), Or 8: 15, 30, 45 degrees"
            yield Row(what, name, errors, took[0] / first[0], took[1] / first[1])


def figures(errors: str) -> list[float]:
    """Numbers before the first bracket of a measurement."""
    return [float(word) for word in errors.partition("(")[0].split()]


def picture(rows: Sequence[Row], path: str) -> None:
    """Draw the worst error of dilation over orientations, and that of chains over the angle."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(9.5, 4.0), layout="constrained")
    names = list(dict.fromkeys(row.options for row in rows if row.what.startswith(("dilation", "chain"))))
    lines: dict[str, Any] = {}
    for name in names:
        style = {"marker": "o", "color": f"C{names.index(name)}"}
        mine = [row for row in rows if row.options == name]
        worst = [row for row in mine if row.what.startswith("dilation")]
        counts = [int(row.what.split(":")[0].split()[-1]) for row in worst]
        (lines[name],) = axes[0].plot(counts, [figures(row.errors)[0] for row in worst], **style)
        for axis, start in zip(axes[1:], ("chain of 1", "chain of 3")):
            for row in mine:
                if row.what.startswith(start):
                    axis.plot((15, 30, 45), figures(row.errors), **style)
    axes[0].set(xscale="log", yscale="log", xlabel="orientations", ylabel="error / change, worst of six cases")
    axes[0].set_xticks([8, 16, 32], ["8", "16", "32"])
    axes[0].set_yticks([0.05, 0.1, 0.2, 0.4], [".05", ".1", ".2", ".4"])
    axes[0].minorticks_off()
    titles = "one dilation against its equation", "network of one layer, turned input", "of three layers"
    for axis, title in zip(axes, titles):
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    for axis in axes[1:]:
        axis.set(xlabel="turn in degrees (8 orientations)", ylabel="change of the output", ylim=(0, 0.13))
        axis.set_xticks([15, 30, 45])
    shown = [f"{name} (5 taps, samples)" if name == "old default" else name for name in names]
    figure.legend(lines.values(), shown, fontsize=8, ncols=3, loc="outside lower center")
    figure.savefig(path, dpi=150)


GRIDS: dict[str, Callable[[bool], Iterable[Row]]] = {
    "dilation": dilations,
    "convection": lambda _: convections(),
    "diffusion": lambda _: diffusions(),
    "chain": chains,
}
ROWS = (*GRIDS, "sphere", "mesh", "digits", "spherical_digits")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="what to measure (everything)")
    parser.add_argument("--quick", action="store_true", help="one metric, 8 and 16 orientations, one layer")
    parser.add_argument("--picture", help="file for a picture of the rows dilation and chain")
    parser.add_argument("--mesh-picture", help="file for a picture of the row mesh")
    parser.add_argument("--data", type=Path, help="for digits: folder with rotmnist_{train12k,test50k}.npz")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    measured: list[Row] = []
    for part in (name for name in GRIDS if name in chosen.rows):
        if not measured:
            print("| what | options | error | target | forward | training |\n|---|---|---|---|---|---|")
        for row in GRIDS[part](chosen.quick):
            measured.append(row)
            times = f"{row.forward:.1f}x | {row.training:.1f}x"
            print(f"| {row.what} | `{row.options}` | {row.errors} | {row.target} | {times} |", flush=True)
    if chosen.picture and measured:
        picture(measured, chosen.picture)
    if "sphere" in chosen.rows:
        solver_accuracy_sphere.main(["--quick"] if chosen.quick else [])
    if "mesh" in chosen.rows:
        pictures = ["--picture", chosen.mesh_picture] if chosen.mesh_picture else []
        solver_accuracy_mesh.main(pictures + (["--quick"] if chosen.quick else []))
    if "digits" in chosen.rows:
        solver_accuracy_trained.digits(chosen.data)
    if "spherical_digits" in chosen.rows:
        solver_accuracy_trained.spherical_digits()


if __name__ == "__main__":
    main()
