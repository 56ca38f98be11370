"""Label the vertices of a real surface by its shape, independently of frames, rotations and vertex numbers.

    python examples/mesh_labels.py [--steps 200] [--data nilearn] [--out FOLDER] [--results FOLDER] [--smoke]

With ``--data``: depth classes of the sulci on the fsaverage5 cortex, learned on the left hemisphere and tested on the
right one (mirrored, so both have the same orientation); nilearn contains it. Without: height classes of waves on a
sphere, learned on one and tested on another. Input is the bending of the surface at each vertex: a scalar (mean) and a
spin-2 field (how it differs between directions). A gauge-equivariant network and a network of PDE layers are compared
with a plain graph convolution and spectral diffusion as in DiffusionNet, with as many parameters as the first. All
except the first get the scalar and the length of the spin-2 field. All make the same number of steps.

Learning rates were chosen with ``--held``, which trains without the front fifth of the first surface, scores on it and
does not use the other surface.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.command_line import add_results, load_or_exit, parse, parser
from pdegcnn_examples.networks.meshes import NETS, bending, of_equal_size
from pdegcnn_examples.output import table, training_folder, write_folder
from pdegcnn_examples.plots.surfaces import paint
from pdegcnn_examples.surfaces import DATA, cortex, cortex_folder, waves
from pdegcnn_examples.training import Settings, TrainingResult, parameters, recipe
from pdegcnn_examples.training.result_file import record

CLASSES = 3
NAMES = {"gauge": "gauge", "pde": "PDE", "graph": "graph", "diffusion": "DiffusionNet-like"}
RATES = {"gauge": 0.03, "pde": 0.03, "graph": 0.01, "diffusion": 0.01}
ROWS = {
    "parameters": ("parameters", "{}"),
    "accuracy, surface learned from": ("learned", "{:.3f}"),
    "accuracy, other surface": ("other", "{:.3f}"),
    "accuracy, half of its vertices": ("other_coarser", "{:.3f}"),
    "change by a random gauge": ("by_gauge", "{:.0e}"),
    "change by a rotation": ("by_rotation", "{:.0e}"),
    "change by new vertex numbers": ("by_numbers", "{:.0e}"),
    "seconds a step": ("pace", "{:.2f}"),
}


def classes(values: Tensor) -> Tensor:
    """Thirds of the vertices by value."""
    return values.argsort().argsort() * CLASSES // values.numel()


def settings(net: str, given: Any) -> Settings:
    """How the network called ``net`` is trained: one sample a step, ``given.steps`` steps."""
    return Settings(1, 1, given.rate or RATES[net], 0.0, seconds=given.seconds, seed=given.seed)


def train(
    net: str,
    model: nn.Module,
    fields: pg.gauge.Features,
    mesh: pg.Mesh,
    labels: Tensor,
    used: Tensor,
    given: Any,
) -> TrainingResult:
    """Train on the vertices where ``used``."""

    def loss(chosen: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(fields, mesh)[..., used], labels[None, used])

    done = recipe.train_alone(net, model, loss, given.steps, settings(net, given), given)
    model.train()
    for module in model.modules():  # statistics of the trained network
        if hasattr(module, "momentum"):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(4):
            model(fields, mesh)
    model.eval()
    return done


@torch.no_grad()
def accuracy(
    model: nn.Module, fields: pg.gauge.Features, mesh: pg.Mesh, labels: Tensor, used: Tensor | None = None
) -> float:
    """Share of the vertices (where ``used``) with the right label."""
    right = model(fields, mesh)[0].argmax(0) == labels
    return float((right if used is None else right[used]).float().mean())


def coarser(mesh: pg.Mesh, labels: Tensor) -> tuple[pg.Mesh, Tensor]:
    """The surface with half of its vertices, in the same unit of length, and their labels."""
    level = mesh.surface.level(2.0)
    kept = torch.from_numpy(level.kept)
    faces = mesh.coarsen(2.0).faces
    return pg.Mesh.from_arrays(mesh.vertices[kept], faces, unit=mesh.unit), labels[kept]


@torch.no_grad()
def changes(model: nn.Module, fields: pg.gauge.Features, mesh: pg.Mesh, seed: int) -> dict[str, float]:
    """Relative change of the logits under a random gauge, a random motion of the whole surface, new numbers of the
    vertices.
    """
    draw = torch.Generator().manual_seed(seed)
    before = model(fields, mesh)
    angles = 6.3 * torch.rand(mesh.vertex_count, generator=draw, dtype=torch.float64)
    turned = model(pg.gauge.transform(fields, angles), mesh.with_gauge(angles))
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=draw, dtype=torch.float64))
    rotation = rotation * torch.linalg.det(rotation)
    moved = pg.Mesh.from_arrays(mesh.vertices @ rotation.T + 10, mesh.faces)
    order = torch.randperm(mesh.vertex_count, generator=draw)
    numbered = pg.Mesh.from_arrays(mesh.vertices[order], order.argsort()[mesh.faces])
    found = {
        "by_gauge": turned,
        "by_rotation": model(bending(moved), moved),
        "by_numbers": model(bending(numbered), numbered)[..., order.argsort()],
    }
    return {name: float((x - before).norm() / before.norm()) for name, x in found.items()}


def picture(mesh: pg.Mesh, mean: Tensor, columns: dict[str, Tensor], path: Path) -> None:
    """Draw the mean bending ``[V]``, the scalar of the input, and one column for each labelling."""
    figure = Figure(figsize=(4 * (1 + len(columns)), 4))
    first, *axes = figure.subplots(1, 1 + len(columns), subplot_kw={"projection": "3d"})
    low, high = mean.double().quantile(torch.tensor([0.02, 0.98], dtype=torch.float64)).tolist()
    paint(first, mesh, mean.double(), "input: mean bending", limits=(low, high), view=(15, 180), colours="gray")
    for place, (title, labels) in zip(axes, columns.items()):
        paint(place, mesh, labels.double(), title, limits=(0, CLASSES - 1), view=(15, 180))
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def load(given: Any) -> tuple[str, list[tuple[pg.Mesh, Tensor]]]:
    """The surface to learn from and the one to test on, with a label at each vertex, and what they are."""
    if given.data is not None:
        folder = load_or_exit(lambda: cortex_folder(given.data))
        surface, both = "fsaverage5, left to right", [cortex(folder, side) for side in ("left", "right")]
    else:
        size = 2 if given.smoke else 4
        surface, both = "waves on spheres", [waves(size, given.seed + k) for k in (0, 1)]
    return surface, [(mesh, classes(values)) for mesh, values in both]


def arguments() -> Any:
    """The command line."""
    made = parser(__doc__, out="mesh_labels", data=DATA)
    made.add_argument("--steps", type=int, default=200, help="of training (default: %(default)s)")
    made.add_argument("--rate", type=float, help="highest learning rate of all networks (default: of each)")
    made.add_argument("--nets", nargs="+", choices=tuple(NETS), default=list(NETS), help="networks (default: all)")
    made.add_argument("--held", action="store_true", help="hold out the front fifth of the first surface to choose by")
    add_results(made)
    given = parse(made)
    if given.steps < 1:
        made.error(f"--steps: expected a number >= 1, got {given.steps}")
    if given.rate is not None and not 0 < given.rate <= 1:
        made.error(f"--rate: expected a number in (0, 1], got {given.rate}")
    if given.smoke:
        given.steps = 3
    return given


def main() -> None:
    """Train and test the networks, print the table, write the folder."""
    given = arguments()
    surface, ((mesh, labels), (other, truth)) = load(given)
    print(f"{surface}: {mesh.vertex_count} vertices, {given.steps} steps")
    used = torch.ones_like(labels, dtype=torch.bool)
    if given.held:
        used = mesh.vertices[:, 1] < mesh.vertices[:, 1].quantile(0.8)
    coarse, coarse_truth = coarser(other, truth)
    inputs = {name: bending(m) for name, m in (("mesh", mesh), ("other", other), ("coarse", coarse))}
    results: dict[str, dict[str, Any]] = {}
    columns = {"truth": truth}
    for net in given.nets:
        torch.manual_seed(given.seed)
        model = of_equal_size(net, mesh, CLASSES)
        done = train(net, model, inputs["mesh"], mesh, labels, used, given)
        pace = done.seconds / done.steps
        if given.held:
            held = accuracy(model, inputs["mesh"], mesh, labels, ~used)
            print(f"{NAMES[net]}: {held:.3f} of the vertices held out, {pace:.2f} s a step")
            continue
        figures = {
            "learned": accuracy(model, inputs["mesh"], mesh, labels),
            "other": accuracy(model, inputs["other"], other, truth),
            "other_coarser": accuracy(model, inputs["coarse"], coarse, coarse_truth),
            **changes(model, inputs["other"], other, given.seed),
        }
        results[NAMES[net]] = {"parameters": parameters(model), **figures, "pace": pace, "steps": done.steps}
        with torch.no_grad():
            columns[f"{NAMES[net]}: {100 * figures['other']:.1f} %"] = model(inputs["other"], other)[0].argmax(0)
        record(
            given.results,
            *("mesh_labels", net, figures, settings(net, given)),
            parameters=parameters(model),
            seconds=done.seconds,
            epochs=done.steps,
            data=surface,
        )
    if given.held:
        shutil.rmtree(training_folder(given.out))  # or the next choice would find these trainings finished
        return
    print(table(results, ROWS, width=19))

    def fill(folder: Path) -> None:
        (folder / "results.json").write_text(json.dumps({"surface": surface, "networks": results}, indent=2))
        picture(other, inputs["other"][0][0, 0], columns, folder / "mesh_labels.png")

    write_folder(given.out, fill)
    print(f"wrote {given.out / 'mesh_labels.png'}")


if __name__ == "__main__":
    main()
