"""What the solvers on the sphere and on SO(3) get right, beside what it costs.

    python -m benchmarks.solver_accuracy_sphere [--quick]

Equivariance: rough signals (coefficients one over the degree), metrics that charge about one for a step of the grid,
the worst of two rotations; ``error`` is that of ``pg.testing.equivariance_error``, ``of deviation`` the same with the
mean taken off the output. Times are processor time, forward and with backward, against the same layer at the samples.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

import pdegcnn as pg
from pdegcnn import sphere

CHANNELS, REPEATS = 4, 5
READINGS: dict[str, dict[str, Any]] = {
    "samples": {},
    'subgrid="newton"': {"subgrid": "newton"},
    "oversample=2": {"oversample": 2},
    'oversample=2, subgrid="newton"': {"oversample": 2, "subgrid": "newton"},
}
"""Options of dilation that are compared."""
TARGETS = {
    ("1 dilation(s), S2", "oversample=2"): ".05",
    ("3 dilation(s), S2", "oversample=2"): ".06, 4x",
    ("1 dilation(s), SO3", "oversample=2"): ".10",
    ("3 dilation(s), SO3", "oversample=2"): ".10, 4x",
}
"""Greatest error, and time in training where there is a limit."""


class Row(NamedTuple):
    """One measurement."""

    what: str
    options: str
    error: float
    of_deviation: float
    forward: float
    """Times the samples' time, without gradients."""
    training: float
    """Times the samples' time, forward and backward."""

    def matches(self, start: str, options: str) -> bool:
        """Whether this is the measurement so named."""
        return self.what.startswith(start) and self.options == options


def rough(space: pg.S2 | pg.SO3, channels: int = CHANNELS) -> Tensor:
    """Noise ``[1,C,...]`` whose coefficients fall as one over the degree, of unit deviation."""
    kind: dict[str, Any] = {"dtype": torch.float64}
    band, generator = space.grid.band, torch.Generator().manual_seed(0)
    fade = torch.arange(band + 1, **kind).clamp_min(1).reciprocal()
    if isinstance(space, pg.SO3):
        synthesis: Any = sphere.InverseSO3FFT(space.grid, space.orientations, **kind)
        shape, fade = (band + 1, band + 1, 2 * synthesis.nmax + 1), fade[:, None, None]
    else:
        synthesis, shape, fade = sphere.InverseRealSHT(space.grid, **kind), (band + 1, band + 1), fade[:, None]
    u = synthesis(torch.complex(*torch.randn(2, 1, channels, *shape, generator=generator, **kind)) * fade)
    return u / u.std()


def turns(space: pg.S2 | pg.SO3) -> list[Tensor]:
    """Two rotations in general position."""
    generator = torch.Generator().manual_seed(5)
    q = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    return [space.to_matrix(one / one.norm()) for one in q]


def without_mean(space: pg.S2 | pg.SO3, u: Tensor) -> Tensor:
    """The signal less its mean over the space."""
    mean = pg.nn.GlobalPool(space)(u)
    return u - mean.view(*mean.shape, *(1,) * (u.ndim - 2))


def worst(model: Callable[[Tensor], Tensor], u: Tensor, space: pg.S2 | pg.SO3) -> float:
    """The greatest error under the two rotations."""
    return max(pg.testing.equivariance_error(model, u, space, rotation=turn) for turn in turns(space))


def seconds(run: Callable[[], object]) -> float:
    """Median processor time, after one run to warm up."""
    run()
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return statistics.median(found)


def costs(run: Callable[[Tensor, Tensor], Tensor], x: Tensor, parameter: Tensor) -> tuple[float, float]:
    """Time of a run without gradients, and of one with backward."""
    x, parameter = x.requires_grad_(), parameter.clone().requires_grad_()
    with torch.no_grad():
        forward = seconds(lambda: run(x, parameter))
    return forward, seconds(lambda: run(x, parameter).sum().backward())


def equivariance(space: pg.S2 | pg.SO3, layers: int, quick: bool) -> list[Row]:
    """Dilations one by one, read in every way."""
    u, rows, usual = rough(space), [], (1.0, 1.0)
    weights = (1 / space.metric_scale).float()
    shape = (2, CHANNELS, *u.shape[2:])
    for name, options in READINGS.items():
        if quick and "subgrid" in options:
            continue
        weights64 = weights.double()

        def model(x: Tensor, w: Tensor = weights64, options: dict[str, Any] = options) -> Tensor:
            for _ in range(layers):
                x = pg.functional.dilation(x, space, w, **options)
            return x

        forward, training = costs(model, torch.randn(shape), weights)
        usual = (forward, training) if not options else usual
        errors = worst(model, u, space), worst(lambda x: without_mean(space, model(x)), u, space)
        rows.append(Row(f"{layers} dilation(s), {space}", name, *errors, forward / usual[0], training / usual[1]))
    return rows


def convections(rings: int) -> list[Row]:
    """A tilt of 0.1 radians on a fibre of eight, against a fibre that holds every order, at the orders held."""
    few, many = (pg.SO3(sphere.SphereGrid.gauss_legendre(rings), n) for n in (8, 2 * rings - 1))
    u, c = rough(few), torch.tensor([0.1, 0.1, 0.0], dtype=torch.float64)
    kind: dict[str, Any] = {"dtype": torch.float64}
    held = (few.orientations - 1) // 2
    finer = sphere.InverseSO3FFT(many.grid, many.orientations, nmax=held, **kind)(
        sphere.SO3FFT(few.grid, few.orientations, **kind)(u)
    )
    moved = pg.functional.convection(finer, many, c)
    wanted = sphere.InverseSO3FFT(few.grid, few.orientations, **kind)(
        sphere.SO3FFT(many.grid, many.orientations, nmax=held, **kind)(moved)
    )
    rows, usual = [], None
    for method in ("galerkin", "spectral"):

        def run(x: Tensor, v: Tensor, method: str = method) -> Tensor:
            return pg.functional.convection(x, few, v, method=method)

        forward, training = costs(run, torch.randn(2, CHANNELS, *u.shape[2:]), c.float())
        usual = usual or (forward, training)
        error = float((pg.functional.convection(u, few, c, method=method) - wanted).norm() / wanted.norm())
        rows.append(
            Row(f"convection, {few}", f'method="{method}"', error, math.nan, forward / usual[0], training / usual[1])
        )
    return rows


def rows(quick: bool = False) -> list[Row]:
    """All measurements."""
    torch.manual_seed(0)
    sphere_space, group = pg.S2(sphere.SphereGrid.gauss_legendre(16)), pg.SO3(sphere.SphereGrid.gauss_legendre(8), 8)
    found = [row for space in (sphere_space, group) for layers in (1, 3) for row in equivariance(space, layers, quick)]
    return found + convections(8 if quick else 16)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="without Newton steps")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| what | options | error | target | of deviation | forward | training |\n|---|---|---|---|---|---|---|")
    for row in rows(chosen.quick):
        target = next((limit for (start, options), limit in TARGETS.items() if row.matches(start, options)), "")
        deviation = "" if math.isnan(row.of_deviation) else f"{row.of_deviation:.3f}"
        times = f"{row.forward:.1f}x | {row.training:.1f}x"
        print(f"| {row.what} | `{row.options}` | {row.error:.2g} | {target} | {deviation} | {times} |")


if __name__ == "__main__":
    main()
