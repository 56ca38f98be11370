"""The spherical PDE-G-CNN whose dilations compare samples twice as fine, so that it turns with its input."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

import pdegcnn as pg

TERMS = ("convection", "dilation")


def classifier(
    grid: pg.sphere.SphereGrid,
    classes: int = 10,
    *,
    channels: Sequence[int] = (8, 16, 16),
    bands: Sequence[int] = (12, 8),
    fibre: int = 8,
    terms: Sequence[str] = TERMS,
    kernel_size: tuple[int, int] = (1, 3),
    oversample: int = 2,
) -> nn.Sequential:
    """Signals [B,1,*grid.shape] -> logits [B,classes]: spectral pooling, lift, PDE layers on coarser and coarser grids.

    As the PDE layers work on few samples, comparing finer ones costs little. The mean over the fibre and the match with
    templates, compared between finer samples too, add nothing that does not turn.

    Args:
        grid: where signals are sampled.
        classes: number of logits.
        channels: after the lift and after each PDE layer.
        bands: rings of the grid of each PDE layer.
        fibre: directions per point.
        terms: terms of the PDE layers.
        kernel_size: their windows in steps of (fibre, sphere): no turn, and the nearest points.
        oversample: factor of the samples that dilation compares.
    """
    spaces = [pg.SO3(pg.sphere.SphereGrid.gauss_legendre(band), fibre) for band in bands]
    layers: list[nn.Module] = [pg.nn.SpectralResample(pg.S2(grid), pg.S2(spaces[0].grid))]
    layers += [pg.nn.Lift(spaces[0], 1, channels[0]), pg.nn.BatchNorm(channels[0], spaces[0])]
    for level, (before, after) in enumerate(zip(channels, channels[1:])):
        if level:
            layers.append(pg.nn.SpectralResample(spaces[level - 1], spaces[level]))
        layers.append(
            pg.nn.PDELayer(
                spaces[level],
                before,
                after,
                terms,
                metric="axisymmetric",
                kernel_size=kernel_size,
                oversample=oversample,
            )
        )
    last = spaces[-1]
    layers += [pg.nn.Project(last, mode="mean"), nn.Dropout(0.1), pg.nn.Lift(last, channels[-1], classes, 9)]
    layers.append(pg.nn.GlobalPool(last, mode="max", oversample=2))
    return nn.Sequential(*layers)
