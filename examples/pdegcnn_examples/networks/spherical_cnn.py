"""The spherical CNN in the classical sense that PDE layers are compared with: free convolutions on SO(3) and ReLU."""

from __future__ import annotations

import torch
from torch import nn

import pdegcnn as pg


def classifier(
    grid: pg.sphere.SphereGrid, classes: int = 10, channels: tuple[int, int, int] = (8, 11, 11), fibre: int = 8
) -> nn.Sequential:
    """Signals [B,1,*grid.shape] -> logits [B,classes]: lift, ReLU, two convolutions at half the band, templates.

    As many parameters as ``pg.models.spherical_classifier`` to a percent, with the same beginning and end; between
    them every linear map of fibre orders up to 1 that commutes with rotations (Cohen et al., arXiv 1801.10130) and ReLU
    between samples twice as fine.
    """
    fine = pg.SO3(grid, fibre)
    coarse = pg.SO3(pg.sphere.SphereGrid.gauss_legendre((grid.band + 1) // 2), fibre)
    first = channels[0]
    layers: list[nn.Module] = [pg.nn.Lift(fine, 1, first), pg.nn.BatchNorm(first, fine)]
    layers += [pg.nn.SphereActivation(fine, torch.relu), pg.nn.SpectralResample(fine, coarse)]
    for before, after in zip(channels, channels[1:]):
        layers += [pg.nn.SphereConv(coarse, before, after, num_radial=3, max_frequency=1, bias=False)]
        layers += [pg.nn.BatchNorm(after, coarse), pg.nn.SphereActivation(coarse, torch.relu)]
    layers += [pg.nn.Project(coarse, mode="max"), nn.Dropout(0.1)]
    layers += [pg.nn.Lift(coarse, channels[-1], classes, kernel_size=9), pg.nn.GlobalPool(coarse, "max", oversample=2)]
    return nn.Sequential(*layers)
