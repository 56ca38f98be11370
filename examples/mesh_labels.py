"""Label the vertices of a real surface from its shape alone, and see that neither frames nor rotations matter.

    python examples/mesh_labels.py [--seconds 60] [--data nilearn] [--out FOLDER] [--smoke]

With ``--data``: depth classes of the sulci on the fsaverage5 cortex, learned on the left hemisphere and tested on the
right one (mirrored, so that both are oriented alike); nilearn has it inside its wheel. Without: height classes of waves
on a sphere, learned on one and tested on another. Input is the bending of the surface at each vertex: a scalar (mean)
and a spin-2 field (how it differs between directions). A gauge-equivariant network is compared with a plain graph
convolution and with spectral diffusion as in DiffusionNet, both of as many parameters; these see the scalar
and the length of the spin-2 field.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.command_line import load_or_exit, parse, parser
from pdegcnn_examples.output import table, write_folder
from pdegcnn_examples.plots.surfaces import paint
from pdegcnn_examples.surfaces import DATA, cortex, cortex_folder, gradient, waves
from pdegcnn_examples.training import Settings, parameters, recipe

CLASSES = 3
ROWS = {
    "parameters": ("parameters", "{}"),
    "accuracy, surface learned from": ("learned", "{:.3f}"),
    "accuracy, other surface": ("other", "{:.3f}"),
    "change by a random gauge": ("by_gauge", "{:.0e}"),
    "change by a rotation": ("by_rotation", "{:.0e}"),
    "seconds a step": ("pace", "{:.2f}"),
    "steps": ("steps", "{}"),
}


def classes(values: Tensor) -> Tensor:
    """Thirds of the vertices by value."""
    return values.argsort().argsort() * CLASSES // values.numel()


def bending(mesh: pg.Mesh) -> pg.gauge.Features:
    """How fast the surface leaves the tangent plane: its mean over the neighbours, and its second harmonic (spin 2)."""
    near = mesh.neighbours(2.5, torch.empty(0, dtype=torch.float64))
    _, _, normal = mesh.frames_in_space()
    away = (mesh.vertices[near.source] - mesh.vertices[near.centre]) / mesh.unit
    squared = near.offset.abs().square()
    rate = torch.where(squared > 0, (away * normal[near.centre]).sum(1) / squared.clamp_min(1e-9), 0)
    wave = torch.where(squared > 0, (near.offset / near.offset.abs().clamp_min(1e-9)) ** 2, 0)
    count = (near.start.diff() - 1).to(rate)
    zero = torch.zeros(mesh.vertex_count, dtype=torch.float64)
    mean = zero.index_add(0, near.centre, rate) / count
    second = zero.to(wave.dtype).index_add(0, near.centre, rate * wave) / count
    scale = mean.std()
    fields = {0: (mean - mean.mean()) / scale, 2: second / scale}
    return {k: f[None, None].to(torch.complex64 if k else torch.float32) for k, f in fields.items()}


class GaugeNet(nn.Module):
    """Convolutions and diffusions of spins 0, 1, 2; the head reads spin 0."""

    def __init__(self, width: int = 6, blocks: int = 3) -> None:
        super().__init__()
        spins = {0: width, 1: width, 2: width}
        self.first = pg.gauge.GaugeConv({0: 1, 2: 1}, spins)
        self.convolutions = nn.ModuleList(pg.gauge.GaugeConv(spins, spins) for _ in range(blocks))
        self.spread = nn.ModuleList(pg.gauge.Diffusion(width, spin=0) for _ in range(blocks))
        self.norms = nn.ModuleList(pg.gauge.SpinNorm(spins) for _ in range(blocks))
        self.gates = nn.ModuleList(pg.gauge.GatedNonlinearity(spins) for _ in range(blocks))
        self.head = nn.Conv1d(width, CLASSES, 1)

    def forward(self, fields: pg.gauge.Features, mesh: pg.Mesh) -> Tensor:
        x = self.first(fields, mesh)
        for convolution, spread, norm, gate in zip(self.convolutions, self.spread, self.norms, self.gates):
            y = gate(norm(convolution(spread(x, mesh), mesh)))
            x = {k: x[k] + y[k] for k in x}
        return self.head(x[0])


class GraphNet(nn.Module):
    """Each layer mixes a vertex with the mean of its neighbours."""

    def __init__(self, width: int, blocks: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, width, 1)
        self.mixes = nn.ModuleList(nn.Conv1d(2 * width, width, 1) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(blocks))
        self.head = nn.Conv1d(width, CLASSES, 1)

    def forward(self, fields: pg.gauge.Features, mesh: pg.Mesh) -> Tensor:
        x = torch.cat((fields[0], fields[2].abs()), dim=1)
        x = self.first(torch.cat((x, mean_of_neighbours(x, mesh)), dim=1))
        for mix, norm in zip(self.mixes, self.norms):
            x = x + torch.relu(norm(mix(torch.cat((x, mean_of_neighbours(x, mesh)), dim=1))))
        return self.head(x)


class DiffusionNetLike(nn.Module):
    """Blocks of spectral diffusion over learned times, products of gradients, and mixing at each vertex.

    After DiffusionNet (arXiv 2012.00888), written anew: 64 eigenfunctions; the products are ``tanh(Re(conj(grad u) A
    grad u))`` with a learned complex matrix A.
    """

    def __init__(self, width: int, blocks: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, width, 1)
        self.spread = nn.ModuleList(
            pg.gauge.Diffusion(width, spin=0, method="spectral", modes=64) for _ in range(blocks)
        )
        self.turns = nn.ModuleList(pg.gauge.SpinMix({1: width}, {1: width}) for _ in range(blocks))
        self.mixes = nn.ModuleList(
            nn.Sequential(nn.Conv1d(3 * width, width, 1), nn.ReLU(), nn.Conv1d(width, width, 1)) for _ in range(blocks)
        )
        self.head = nn.Conv1d(width, CLASSES, 1)

    def forward(self, fields: pg.gauge.Features, mesh: pg.Mesh) -> Tensor:
        x = self.first(torch.cat((fields[0], fields[2].abs()), dim=1))
        for spread, turn, mix in zip(self.spread, self.turns, self.mixes):
            smooth = spread({0: x}, mesh)[0]
            slope = gradient(smooth, mesh)
            product = torch.tanh((slope.conj() * turn({1: slope})[1]).real)
            x = x + mix(torch.cat((x, smooth, product), dim=1))
        return self.head(x)


def mean_of_neighbours(x: Tensor, mesh: pg.Mesh) -> Tensor:
    near = mesh.neighbours(None, x)
    other = near.source != near.centre
    total = torch.zeros_like(x).index_add(2, near.centre[other], x[:, :, near.source[other]])
    return total / (near.start.diff() - 1)


def train(
    name: str, model: nn.Module, fields: pg.gauge.Features, mesh: pg.Mesh, labels: Tensor, given: Any
) -> tuple[int, float]:
    """At most ``given.seconds`` and ``given.steps``; returns the steps made and the seconds of each."""

    def loss(chosen: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(fields, mesh), labels[None])

    how = Settings(1, 1, 1e-2, 0.0, "constant", seconds=given.seconds, seed=given.seed)
    done = recipe.train_alone(name, model, loss, given.steps, how, given)
    model.train()
    for module in model.modules():  # statistics of the trained network
        if hasattr(module, "momentum"):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(4):
            model(fields, mesh)
    model.eval()
    return done.steps, done.seconds / done.steps


def accuracy(model: nn.Module, fields: pg.gauge.Features, mesh: pg.Mesh, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(fields, mesh)[0].argmax(0) == labels).float().mean())


def change(model: nn.Module, fields: pg.gauge.Features, mesh: pg.Mesh) -> tuple[float, float]:
    """Relative change of the logits under a random gauge, and under a random rotation of the whole surface."""
    with torch.no_grad():
        before = model(fields, mesh)
        angles = 6.3 * torch.rand(mesh.vertex_count, dtype=torch.float64)
        turned = model(pg.gauge.transform(fields, angles), mesh.with_gauge(angles))
        rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
        rotation = rotation * torch.linalg.det(rotation)
        moved = pg.Mesh.from_arrays(mesh.vertices @ rotation.T + 10, mesh.faces)
        rotated = model(bending(moved), moved)
    return tuple(float((x - before).norm() / before.norm()) for x in (turned, rotated))  # pyright: ignore


def picture(mesh: pg.Mesh, columns: dict[str, Tensor], path: Path) -> None:
    """One column for each labelling."""
    figure = Figure(figsize=(4 * len(columns), 4))
    axes = figure.subplots(1, len(columns), subplot_kw={"projection": "3d"})
    for place, (title, labels) in zip(axes, columns.items()):
        paint(place, mesh, labels.double(), title, limits=(0, CLASSES - 1), view=(15, 180))
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def narrower(build: Any, limit: int) -> nn.Module:
    """The widest network of at most ``limit`` parameters."""
    return build(max(w for w in range(4, 200) if parameters(build(w)) <= limit))


def main() -> None:
    made = parser(__doc__, out="mesh_labels", seconds=60, data=DATA)
    made.add_argument("--steps", type=int, default=300, help="of training at most (default: %(default)s)")
    given = parse(made)
    torch.manual_seed(given.seed)
    if given.data is not None:
        folder = load_or_exit(lambda: cortex_folder(given.data))
        surface, (learn, test) = "fsaverage5, left to right", [cortex(folder, side) for side in ("left", "right")]
    else:
        size = 2 if given.smoke else 4
        surface, (learn, test) = "waves on spheres", [waves(size, given.seed + k) for k in (0, 1)]
    learn, test = ((mesh, classes(values)) for mesh, values in (learn, test))
    inputs = [bending(mesh) for mesh, _ in (learn, test)]
    gauge = GaugeNet()
    limit = parameters(gauge)
    models = {
        "gauge": gauge,
        "graph": narrower(GraphNet, limit),
        "DiffusionNet-like": narrower(DiffusionNetLike, limit),
    }
    results: dict[str, Any] = {}
    columns = {"classes": test[1]}
    print(f"{surface}: {learn[0].vertex_count} vertices")
    for name, model in models.items():
        steps, pace = train(name, model, inputs[0], *learn, given)
        scores = [accuracy(model, x, *data) for x, data in zip(inputs, (learn, test))]
        by_gauge, by_rotation = change(model, inputs[1], test[0])
        results[name] = {"parameters": parameters(model), "learned": scores[0], "other": scores[1]}
        results[name] |= {"by_gauge": by_gauge, "by_rotation": by_rotation, "pace": pace, "steps": steps}
        with torch.no_grad():
            columns[f"{name}: {100 * scores[1]:.1f} %"] = model(inputs[1], test[0])[0].argmax(0)
    print(table(results, ROWS, width=19))

    def fill(folder: Path) -> None:
        (folder / "results.json").write_text(json.dumps({"surface": surface, "networks": results}, indent=2))
        picture(test[0], columns, folder / "mesh_labels.png")

    write_folder(given.out, fill)
    print(f"wrote {given.out / 'mesh_labels.png'}")


if __name__ == "__main__":
    main()
