"""A picture of frames, a change of gauge and connection diffusion: ``python examples/mesh_frames.py [--out FILE]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import pdegcnn as pg
from pdegcnn.gauge.diffusion import implicit_step


def surface() -> pg.Mesh:
    """A sphere with waves."""
    vertices, faces = pg.surface.icosphere(3)
    x, y, z = vertices.T
    radius = 1 + 0.15 * np.sin(3 * x + 1) * np.cos(3 * y) + 0.1 * z
    return pg.Mesh.from_arrays(vertices * radius[:, None], faces)


def draw(axes, mesh: pg.Mesh, colour: torch.Tensor, field: torch.Tensor, title: str, length: float) -> None:
    """The surface coloured by a function, with a tangent field on the vertices that face the viewer."""
    p, (x, y, n) = mesh.vertices, mesh.frames_in_space()
    faces = mesh.faces.numpy()
    drawn = axes.plot_trisurf(*p.T.numpy(), triangles=faces, cmap="Blues", edgecolor="0.85", linewidth=0.2, shade=False)
    drawn.set_array(colour.numpy()[faces].mean(1))
    drawn.set_clim(0, 1.5)
    arrows = field.real[:, None] * x + field.imag[:, None] * y
    view = torch.tensor([0.64, -0.64, 0.42], dtype=p.dtype)
    front = (n @ view) > 0.35
    start = p[front] + 0.03 * n[front]
    axes.quiver(*start.T.numpy(), *arrows[front].T.numpy(), length=length, color="crimson", linewidth=0.9)
    axes.view_init(elev=25, azim=-45)
    axes.set_title(title, fontsize=10)
    axes.set_box_aspect((1, 1, 1), zoom=1.5)
    axes.set_axis_off()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/mesh.png"))
    given = parser.parse_args()
    torch.manual_seed(0)
    mesh = surface()
    turned = mesh.with_gauge(6.28 * torch.rand(mesh.vertex_count, dtype=torch.float64))
    ones = torch.ones(mesh.vertex_count, dtype=torch.complex128)
    nothing = torch.zeros(mesh.vertex_count)
    view = torch.tensor([0.64, -0.64, 0.42], dtype=torch.float64)
    source = torch.zeros(1, 1, mesh.vertex_count, dtype=torch.complex128)
    source[0, 0, (mesh.vertices @ view).argmax()] = 1
    time = torch.tensor([60.0], dtype=torch.float64)
    vector = implicit_step(source, mesh, 1, time)[0, 0]
    heat = implicit_step(source.abs(), mesh, 0, time)[0, 0]
    figure = Figure(figsize=(12, 4.2))
    axes = figure.subplots(1, 3, subplot_kw={"projection": "3d"})
    draw(axes[0], mesh, nothing, ones, "reference directions", 0.09)
    draw(axes[1], turned, nothing, ones, "another gauge of the same surface", 0.09)
    draw(
        axes[2],
        mesh,
        1.5 * (heat / heat.max()) ** 0.4,
        vector / vector.abs(),
        "one vector after diffusion (heat in blue)",
        0.09,
    )
    figure.tight_layout()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.out, dpi=110)


if __name__ == "__main__":
    main()
