"""Smooth a tangent vector field on a surface and fill its gaps, by learned connection diffusion.

    python examples/mesh_vectors.py [--epochs 20] [--data nilearn] [--out FOLDER] [--results FOLDER] [--smoke]

Vectors are known, with noise, at some of the vertices; whole patches are missing. The network diffuses the known
vectors over eight learned times, divides by the diffused mask, and weighs the eight results at each vertex by the known
share around it. Diffusion by the connection Laplacian is compared with the same network on components, as plain
functions: those in space (x, y, z, projected to the tangent planes again) and those in the frames. Every network has
the same parameters and makes the same number of steps. Training and test fields are sums of a gradient and a turned
gradient of random smooth functions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.command_line import add_results, load_or_exit, parse, parser
from pdegcnn_examples.output import table, write_folder
from pdegcnn_examples.plots.surfaces import paint
from pdegcnn_examples.surfaces import DATA, cortex, cortex_folder, gradient, waves
from pdegcnn_examples.training import Settings, parameters, recipe
from pdegcnn_examples.training.result_file import record

NOISE, KNOWN, PATCHES, MISSING = 0.5, 0.4, 6, 0.2
"""Noise by root mean square of the field, share of vertices known outside the patches, number and area of these."""
KINDS = ("connection", "in space", "in frames")
ROWS = {
    "parameters": ("parameters", "{}"),
    "error, all vertices": ("error", "{:.3f}"),
    "error, known vertices": ("error_known", "{:.3f}"),
    "error, scattered gaps": ("error_gaps", "{:.3f}"),
    "error, missing patches": ("error_patches", "{:.3f}"),
    "error in another gauge": ("error_other_gauge", "{:.3f}"),
    "change by the gauge": ("change", "{:.0e}"),
    "training steps": ("steps", "{}"),
}


class Smoother(nn.Module):
    """Diffuse over learned times, divide by the diffused mask, weigh the results by the masks.

    ``kind`` says what diffuses: vectors with the connection, or their components as functions.
    """

    def __init__(self, kind: str, channels: int = 8) -> None:
        super().__init__()
        self.kind = kind
        self.spread = pg.gauge.Diffusion(channels, spin=1 if kind == "connection" else 0)
        self.cover = pg.gauge.Diffusion(channels, spin=0)
        self.gates = nn.Sequential(nn.Conv1d(channels, 16, 1), nn.ReLU(), nn.Conv1d(16, channels, 1), nn.Softmax(1))
        self.gain = nn.Parameter(torch.ones(channels, 1))
        with torch.no_grad():  # times from a tenth of a square edge to thirty, alike for all kinds
            for layer in (self.spread, self.cover):
                layer.log_time.copy_(torch.linspace(-2.3, 3.4, channels))

    def forward(self, field: Tensor, mask: Tensor, mesh: pg.Mesh) -> Tensor:
        """Field ``[B,V]`` (complex, any values where ``mask [B,V]`` is zero) to a field without gaps."""
        channels = self.spread.channels
        cover = self.cover({0: mask[:, None].expand(-1, channels, -1)}, mesh)[0]
        gates = self.gain * self.gates(cover.clamp_min(1e-6).log()) / (cover + 1e-6)
        known = (field * mask)[:, None].expand(-1, channels, -1)
        if self.kind == "connection":
            return (self.spread({1: known}, mesh)[1] * gates).sum(1)
        parts = to_space(known, mesh) if self.kind == "in space" else torch.stack((known.real, known.imag))
        spread = self.spread({0: parts.flatten(0, 1)}, mesh)[0].unflatten(0, parts.shape[:2])
        total = (spread * gates).sum(2)  # [parts,B,V]
        return from_space(total, mesh) if self.kind == "in space" else torch.complex(total[0], total[1])


def to_space(field: Tensor, mesh: pg.Mesh) -> Tensor:
    """Tangent vectors ``[...,V]`` to their components in space, ``[3,...,V]``."""
    return mesh.from_tangent(field).movedim(-1, 0)


def from_space(parts: Tensor, mesh: pg.Mesh) -> Tensor:
    """The inverse, after projection to the tangent planes."""
    return mesh.to_tangent(parts.movedim(0, -1))


def fields(mesh: pg.Mesh, count: int, draw: torch.Generator) -> Tensor:
    """Random smooth tangent fields of unit root mean square, ``[count,V]``."""
    values, functions = mesh.eigenbasis(0, 36, torch.empty(0, dtype=torch.float64))
    weight = torch.randn(2, count, len(values), generator=draw, dtype=torch.float64)
    weight = weight / (values + values[8]).sqrt()
    f, g = (weight @ functions.real.T).unbind()
    field = gradient(f, mesh) + 1j * gradient(g, mesh)
    return (field / field.abs().square().mean(1, keepdim=True).sqrt()).to(torch.complex64)


def spoil(field: Tensor, mesh: pg.Mesh, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy field, mask of what is known, and of the missing patches; all ``[B,V]``."""
    noise = torch.randn(2, *field.shape, generator=draw) * (NOISE / 2**0.5)
    p = mesh.vertices
    centre = p[torch.randint(len(p), (len(field), PATCHES), generator=draw)]
    radius = mesh.unit * (MISSING * mesh.areas.sum() / (PATCHES * torch.pi)).sqrt()
    patch = torch.cdist(centre.flatten(0, 1), p).unflatten(0, centre.shape[:2]).amin(1) < radius
    mask = (torch.rand(field.shape, generator=draw) < KNOWN) & ~patch
    return field + torch.complex(*noise), mask.float(), patch


def error(out: Tensor, field: Tensor, where: Tensor) -> float:
    """Root mean square of the difference by that of the field."""
    return float(((out - field).abs().square() * where).sum() / (field.abs().square() * where).sum()) ** 0.5


def measure(model: Smoother, test: tuple[Tensor, ...], mesh: pg.Mesh, angles: Tensor) -> dict[str, Any]:
    """Errors on the test fields, also when all reference directions are turned by ``angles``."""
    field, noisy, mask, patch = test
    turned = [pg.gauge.transform({1: x[:, None]}, angles)[1][:, 0] for x in (field, noisy)]
    with torch.no_grad():
        out = model(noisy, mask, mesh)
        other = model(turned[1], mask, mesh.with_gauge(angles))
    expected = pg.gauge.transform({1: out[:, None]}, angles)[1][:, 0]
    return {
        "parameters": parameters(model),
        "error": error(out, field, torch.ones_like(mask)),
        "error_known": error(out, field, mask),
        "error_gaps": error(out, field, (mask == 0) & ~patch),
        "error_patches": error(out, field, patch),
        "error_other_gauge": error(other, turned[0], torch.ones_like(mask)),
        "change": float((other - expected).norm() / expected.norm()),
        "times": model.spread.time.tolist(),
    }


def picture(mesh: pg.Mesh, columns: dict[str, tuple[Tensor, Tensor]], field: Tensor, path: Path, view: tuple) -> None:
    """One column for each field: arrows where ``mask`` says, gaps in grey, colour by the length of the error."""
    x, y, n = mesh.frames_in_space()
    p = mesh.vertices
    few = torch.cdist(mesh.coarsen(max(1.5, len(p) / 700)).vertices, p).argmin(1)
    elevation, azimuth = (torch.tensor(a).deg2rad() for a in view)
    eye = torch.stack((elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin())).double()
    few = few[(n[few] @ eye) > 0.3]
    figure = Figure(figsize=(3 * len(columns), 4))
    axes = figure.subplots(1, len(columns), subplot_kw={"projection": "3d"})
    size = 2.6 * mesh.unit * (len(p) / 2562) ** 0.5
    for place, (title, (arrows, mask)) in zip(axes, columns.items()):
        wrong = (arrows - field).abs().clamp(max=1.5)
        paint(place, mesh, torch.where(mask > 0, wrong, torch.nan), title, limits=(0, 1.5), view=view, colours="OrRd")
        shown = few[mask[few] > 0]
        vectors = arrows.real[:, None] * x + arrows.imag[:, None] * y
        start = p[shown] + 0.4 * mesh.unit * n[shown]
        lines = {"length": size, "color": "black", "linewidth": 0.9, "arrow_length_ratio": 0.4}
        place.quiver(*start.T.numpy(), *vectors[shown].T.numpy(), **lines)
    figure.subplots_adjust(left=0, right=1, bottom=0.17, top=0.92, wspace=0)
    scale = figure.add_axes((0.4, 0.13, 0.2, 0.03))
    shades = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1.5), "OrRd")
    figure.colorbar(shades, cax=scale, orientation="horizontal", label="length of the error (field: 1); grey: unknown")
    figure.savefig(path, dpi=100)


def surface_of(given: Any) -> str:
    """What the surface is called."""
    return "fsaverage5, left" if given.data is not None else "waves on a sphere"


def run(given: Any) -> tuple[dict[str, Any], pg.Mesh, dict[str, tuple[Tensor, Tensor]], Tensor]:
    """Train and measure every network."""
    draw = torch.Generator().manual_seed(given.seed)
    if given.data is not None:
        folder = load_or_exit(lambda: cortex_folder(given.data))
        mesh, _ = cortex(folder, "left")
    else:
        mesh, _ = waves(2 if given.smoke else 4, given.seed, 0.15)
    learn, test = (fields(mesh, count, draw) for count in (32, 4))
    spoiled = (test, *spoil(test, mesh, draw))
    angles = 6.3 * torch.rand(mesh.vertex_count, generator=draw, dtype=torch.float64)
    results: dict[str, Any] = {}
    field, noisy, mask, _ = spoiled
    columns = {"given: noisy, with gaps": (noisy[0] * mask[0], mask[0]), "true": (field[0], torch.ones_like(mask[0]))}
    for kind in KINDS:
        torch.manual_seed(given.seed)
        model = Smoother(kind)

        def loss(chosen: Tensor, model: Smoother = model) -> Tensor:
            clean = learn[chosen]
            noisy, mask, _ = spoil(clean, mesh, torch.default_generator)
            return (model(noisy, mask, mesh) - clean).abs().square().mean()

        how = Settings(given.epochs, 2, 0.03, seconds=given.seconds, seed=given.seed)
        done = recipe.train_alone(kind, model, loss, len(learn), how, given)
        results[kind] = measure(model, spoiled, mesh, angles) | {"steps": done.steps}
        record(
            given.results,
            *("mesh_vectors", kind, {k: v for k, v in results[kind].items() if k.startswith(("error", "change"))}, how),
            parameters=parameters(model),
            seconds=done.seconds,
            epochs=done.epochs,
            data=surface_of(given),
        )
        with torch.no_grad():
            out = model(noisy[:1], mask[:1], mesh)[0]
        columns[f"{kind}: error {results[kind]['error']:.3f}"] = (out, torch.ones_like(mask[0]))
    return results, mesh, columns, field[0]


def main() -> None:
    """Train and test the networks, print the table, write the folder."""
    made = parser(__doc__, out="mesh_vectors", data=DATA, epochs=20)
    add_results(made)
    given = parse(made)
    results, mesh, columns, field = run(given)
    surface = surface_of(given)
    print(f"{surface}, {mesh.vertex_count} vertices; errors by the length of the field (root mean square)")
    print(table(results, ROWS))

    def fill(folder: Path) -> None:
        (folder / "results.json").write_text(json.dumps({"surface": surface, "networks": results}, indent=2))
        picture(mesh, columns, field, folder / "mesh_vectors.png", (15, 180) if given.data is not None else (20, -60))

    write_folder(given.out, fill)
    print(f"wrote {given.out / 'mesh_vectors.png'}")


if __name__ == "__main__":
    main()
