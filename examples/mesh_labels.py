"""Label the vertices of a real surface from its shape alone, and see that neither frames nor rotations matter.

    python examples/mesh_labels.py [--out FOLDER] [--seconds 60] [--smoke]

With nilearn installed: depth classes of the sulci on the fsaverage5 cortex that ships inside its wheel, learned on the
left hemisphere and tested on the right one (mirrored, so that both are oriented alike). Without it: height classes of
waves on a sphere, learned on one and tested on another. Input is the bending of the surface at each vertex: a scalar
(mean) and a spin-2 field (how it differs between directions). A gauge-equivariant network is compared with a plain
graph convolution of as many parameters that sees the scalar and the length of the spin-2 field.
"""

from __future__ import annotations

import argparse
import time
from importlib import util
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn

import pdegcnn as pg

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

CLASSES = 3


def waves(subdivisions: int, seed: int) -> tuple[pg.Mesh, Tensor]:
    """A sphere with random waves, and its height in three classes."""
    vertices, faces = pg.surface.icosphere(subdivisions)
    draw = np.random.default_rng(seed)
    height = sum(draw.normal() * np.sin(vertices @ draw.normal(size=3) * 4 + draw.uniform(0, 6)) for _ in range(12))
    height = 0.05 * (height - height.mean()) / height.std()
    mesh = pg.Mesh.from_arrays(vertices * (1 + height)[:, None], faces)
    return mesh, classes(torch.from_numpy(height))


def cortex(side: str) -> tuple[pg.Mesh, Tensor]:
    """The white-matter surface of a hemisphere, and its sulcal depth in three classes."""
    import nibabel
    import nilearn.datasets

    folder = Path(nilearn.datasets.__file__).parent / "data" / "fsaverage5"
    vertices, faces = (a.data for a in nibabel.load(folder / f"white_{side}.gii.gz").darrays[:2])
    depth = nibabel.load(folder / f"sulc_{side}.gii.gz").darrays[0].data
    vertices, faces = vertices.astype(np.float64), faces.astype(np.int64)
    if side == "right":
        vertices, faces = vertices * [-1, 1, 1], faces[:, ::-1].copy()
    return pg.Mesh.from_arrays(vertices, faces), classes(torch.tensor(depth))


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
        self.gates = nn.ModuleList(pg.gauge.Gated(spins) for _ in range(blocks))
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


def mean_of_neighbours(x: Tensor, mesh: pg.Mesh) -> Tensor:
    near = mesh.neighbours(None, x)
    other = near.source != near.centre
    total = torch.zeros_like(x).index_add(2, near.centre[other], x[:, :, near.source[other]])
    return total / (near.start.diff() - 1)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def train(
    model: nn.Module, fields: pg.gauge.Features, mesh: pg.Mesh, labels: Tensor, seconds: float, steps: int
) -> int:
    """At most ``seconds`` and ``steps``; returns the steps made."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    end, made = time.monotonic() + seconds, 0
    while made < steps and (time.monotonic() < end or made == 0):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(fields, mesh), labels[None]).backward()
        optimiser.step()
        made += 1
    for module in model.modules():  # statistics of the trained network
        if hasattr(module, "momentum"):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(4):
            model(fields, mesh)
    model.eval()
    return made


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
    figure, axes = plt.subplots(1, len(columns), figsize=(4 * len(columns), 4), subplot_kw={"projection": "3d"})
    faces, p = mesh.faces.numpy(), mesh.vertices.numpy()
    for place, (title, labels) in zip(np.atleast_1d(axes), columns.items()):
        drawn = place.plot_trisurf(*p.T, triangles=faces, cmap="viridis", linewidth=0, antialiased=False, shade=False)
        drawn.set_array(labels.numpy()[faces].mean(1))
        drawn.set_clim(0, CLASSES - 1)
        place.view_init(elev=15, azim=180)
        place.set_box_aspect(np.ptp(p, axis=0), zoom=1.4)
        place.set_title(title, fontsize=10)
        place.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("mesh_labels"))
    parser.add_argument("--seconds", type=float, default=60, help="of training for each network")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--smoke", action="store_true", help="seconds, to see that it runs")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    real = util.find_spec("nilearn") is not None and not given.smoke
    size = 2 if given.smoke else 4
    learn, test = (cortex("left"), cortex("right")) if real else (waves(size, 0), waves(size, 1))
    given.steps = 3 if given.smoke else given.steps
    inputs = [bending(mesh) for mesh, _ in (learn, test)]
    gauge = GaugeNet()
    width = max(w for w in range(4, 200) if parameters(GraphNet(w)) <= parameters(gauge))
    report: dict[str, Any] = {}
    columns = {"classes": test[1]}
    print(f"{'fsaverage5, left to right' if real else 'waves on spheres'}: {learn[0].vertex_count} vertices")
    for name, model in (("gauge network", gauge), ("graph convolution", GraphNet(width))):
        steps = train(model, inputs[0], *learn, given.seconds, given.steps)
        scores = [accuracy(model, x, *data) for x, data in zip(inputs, (learn, test))]
        by_gauge, by_rotation = change(model, inputs[1], test[0])
        report[name] = {"parameters": parameters(model), "accuracy": scores, "change": (by_gauge, by_rotation)}
        print(
            f"{name}: {parameters(model)} parameters, {steps} steps, accuracy {scores[0]:.3f} on the surface learned "
            f"from, {scores[1]:.3f} on the other; changed by a random gauge {by_gauge:.1e}, "
            f"by a rotation {by_rotation:.1e}"
        )
        with torch.no_grad():
            columns[f"{name}: {100 * scores[1]:.1f} %"] = model(inputs[1], test[0])[0].argmax(0)
    picture(test[0], columns, given.out / "labels.png")
    print(f"wrote {given.out / 'labels.png'}")
    return report


if __name__ == "__main__":
    main()
