"""The picture of ``spherical_digits.py``: one digit on turned spheres, and what networks call it."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.plots import spheres

TURNS = ((0, 0, 0), (0, 30, 0), (90, 45, 60), (200, 40, 45), (300, 50, 150), (60, 60, 170))
"""Degrees about z, y, z."""


def picture(
    models: dict[str, nn.Module], digits: Tensor, labels: Tensor, grid: pg.sphere.SphereGrid, title: str
) -> Figure:
    """One test digit turned six ways: on the sphere, as the plain CNN sees it, and what each network calls it."""
    index = int(torch.isin(labels, torch.tensor([2, 3, 4, 5, 7])).int().argmax())
    truth, one = int(labels[index]), digits[index : index + 1]
    tilts = [Rotation.from_euler("zyz", angles, degrees=True).as_matrix() for angles in TURNS]
    turned = torch.cat([pg.S2(grid).transform(one, rotation=torch.from_numpy(r)) for r in tilts])
    with torch.no_grad():
        chances = {name: model.eval()(turned).softmax(1) for name, model in models.items()}
    figure = Figure(figsize=(11.5, 4.5), layout="constrained")
    axes = figure.subplots(2, len(TURNS), height_ratios=(2, 1))
    fine, fine_grid = spheres.refine(turned[:, 0], grid)
    # Digits read rightly from inside the sphere, so the view is mirrored: right is x, up is -y.
    inside = np.diag([1.0, -1.0, 1.0])
    for column, (top, bottom) in enumerate(zip(*axes)):
        spheres.draw_sphere(top, fine[column], fine_grid, inside, cmap="gray")
        bottom.imshow(turned[column, 0].numpy(), cmap="gray", aspect="auto")
        spheres.bare(bottom)
        for line, (name, chance) in enumerate(chances.items()):
            guess = int(chance[column].argmax())
            text = f"{name}: {guess} ({float(chance[column, guess]):.0%})"
            bottom.text(
                0.5,
                -0.16 - 0.17 * line,
                text,
                transform=bottom.transAxes,
                ha="center",
                fontsize=9,
                color="tab:green" if guess == truth else "tab:red",
            )
    figure.suptitle(
        f"A test digit {truth} on turned spheres, seen from inside (above) and as latitudes and longitudes (below); "
        f"networks {title}",
        fontsize=11,
    )
    return figure
