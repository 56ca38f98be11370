"""What the solvers on meshes get right, on icospheres that are refined.

    python -m benchmarks.solver_accuracy_mesh [--quick] [--picture FILE]

Errors are relative to the change that a term makes, at one metric and time in radians, whatever the mesh: against the
spectral solvers on SO(3), which are exact for these functions of degree three, and against a fine search for the
supremum where a function of the angle to a pole is dilated. The mesh has three directions times two to its level. Times
are processor time, forward and with backward, in milliseconds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import pdegcnn as pg
from benchmarks.solver_accuracy_sphere import costs
from pdegcnn.kernels.morphological import cost
from tests.pde.test_mesh_refinement import HILLS, POLE, in_units, sphere
from tests.pde.test_mesh_sphere import difference, error_of, icosphere, to_so3

F = pg.functional
WINDOW = 1.0
"""Radius of the windows in radians."""
Rows = dict[str, list[float]]
Term = Callable[[Tensor, pg.Mesh | pg.SO3, Tensor], Tensor]


def row(
    what: str, errors: Sequence[float], term: Callable[[Tensor, Tensor], Tensor], mesh: pg.Mesh, weights: Tensor
) -> Rows:
    """Print one measurement, with times on the finest mesh, and return its errors by its name."""
    u = torch.randn(2, 8, mesh.orientations, mesh.vertex_count)
    forward, training = (1e3 * seconds for seconds in costs(term, u, weights.float()))
    shown = " ".join(f"{e:.3f}" for e in errors)
    print(f"| {what} | {shown} | {forward:.0f} | {training:.0f} |", flush=True)
    return {what: list(errors)}


def linear(name: str, levels: Sequence[int], run: Term, radians: Tensor) -> Rows:
    """Convection by, or diffusion in, ``radians`` against SO(3)."""

    def layer(u: Tensor, space: pg.Mesh | pg.SO3, unit: float) -> Tensor:
        lengths = torch.tensor([unit, unit, 1.0], dtype=torch.float64)
        if isinstance(space, pg.SO3):
            return run(u, space, to_so3(radians) if name.startswith("convection") else to_so3(radians).abs())
        return run(u, space, radians / lengths if name.startswith("convection") else radians * lengths)

    errors = [error_of(layer, level, 3) for level in levels]
    mesh = icosphere(levels[-1], 3 * 2 ** levels[-1])
    return row(name, errors, lambda u, w: run(u, mesh, w), mesh, torch.ones(8, 3))


def dilated(name: str, levels: Sequence[int], alpha: float) -> Rows:
    """Dilation of a cap."""
    away, errors = torch.linspace(0, WINDOW, 2001, dtype=torch.float64), []
    for level in levels:
        mesh = sphere(level)
        theta, hill = torch.acos((mesh.vertices @ POLE).clamp(-1, 1)), HILLS["cap"]
        near = torch.maximum(hill(theta[:, None] - away), hill(theta[:, None] + away))
        expected, u = (near - cost((3 * away) ** 2, alpha, 1.0)).amax(1), hill(theta)
        reach = math.pi, WINDOW / mesh.unit
        out = F.dilation(u[None, None, None], mesh, in_units(mesh, (3, 3, 1)), alpha=alpha, radius=reach)
        errors.append(difference(out[0, 0, 0], expected, u))
    return row(name, errors, lambda u, w: F.dilation(u, mesh, w, alpha=alpha), mesh, torch.ones(8, 3))


def picture(found: Rows, levels: Sequence[int], path: str) -> None:
    """Draw the errors over the number of vertices."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.0, 3.4), layout="constrained")
    vertices = [10 * 4**level + 2 for level in levels]
    for name, errors in found.items():
        axis.plot(vertices, errors, "o-", label=name)
    length = [0.5 * (vertices[0] / n) ** 0.5 for n in vertices]
    axis.plot(vertices, [x**2 / length[0] for x in length], "k:", label="square of the edge length")
    axis.set(xscale="log", yscale="log", xlabel="vertices of the icosphere", ylabel="error / change")
    axis.set_xticks(vertices, [str(n) for n in vertices])
    axis.set_yticks([0.01, 0.03, 0.1, 0.3, 1.0], [".01", ".03", ".1", ".3", "1"])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="two levels")
    parser.add_argument("--picture", help="file for a picture of the errors over the number of vertices")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    levels = (1, 2) if chosen.quick else (1, 2, 3)
    print(f"| icospheres of levels {levels} | errors | forward, ms | training, ms |\n|---|---|---|---|")
    found = linear("convection", levels, F.convection, torch.tensor([0.25, -0.2, 0.7], dtype=torch.float64))
    for alpha in (0.3, 0.65, 1.0):

        def diffused(u: Tensor, space: pg.Mesh | pg.SO3, w: Tensor, alpha: float = alpha) -> Tensor:
            if isinstance(space, pg.SO3):
                return F.diffusion(u, space, w, alpha=alpha)
            return F.diffusion(u, space, w, alpha=alpha, radius=(math.pi, WINDOW / space.unit))

        found |= linear(
            f"diffusion, alpha {alpha}", levels, diffused, torch.tensor([6.0, 8.0, 3.0], dtype=torch.float64)
        )
    for alpha in (0.65, 1.0):
        found |= dilated(f"dilation of a cap, alpha {alpha}", levels, alpha)
    if chosen.picture:
        picture(found, levels, chosen.picture)


if __name__ == "__main__":
    main()
