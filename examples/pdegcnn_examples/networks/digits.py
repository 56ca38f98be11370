"""Networks for rotated digits at equal footing: PDE-G-CNNs, a plain CNN, a G-CNN of this library, a steerable CNN."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import pdegcnn as pg

SPACE = pg.SE2(orientations=8)
SMALL: dict[str, Any] = {"channels": (8, 16, 16), "kernel_size": (3, 5, 5)}
LARGE: dict[str, Any] = {
    "channels": (16, 32, 32, 48, 48),
    "size": (14, 14, 7, 7),
    "template": 7,
    "kernel_size": (3, 5, 5),
}


def small() -> nn.Module:
    """The published depth; at most 3,000 parameters."""
    return pg.models.rotated_digits(space=SPACE, **SMALL)


def large() -> nn.Module:
    """Four PDE layers at two resolutions; at most 30,000 parameters."""
    return pg.models.rotated_digits(space=SPACE, **LARGE)


def turning() -> nn.Module:
    """``small`` with smooth filters and templates of 9x9, which turn better between the grid's angles."""
    return pg.models.rotated_digits(space=SPACE, filters="smooth", template=9, **SMALL)


def cnn(side: int = 28) -> nn.Module:
    """Seven convolutions, as many parameters as ``large`` may have; digits of 28 or 14 pixels a side."""

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    layers = [*block(1, 20), *block(20, 20), *([nn.MaxPool2d(2)] if side == 28 else [])]
    layers += [*block(20, 20), *block(20, 20), nn.MaxPool2d(2)]
    layers += [*block(20, 20), *block(20, 20), nn.Dropout(0.1), nn.Conv2d(20, 10, 7), nn.Flatten()]
    return nn.Sequential(*layers)


def gcnn() -> nn.Module:
    """The same lift and head as ``small`` around two linear group convolutions with ReLU; 12 thousand parameters."""
    width = 9
    layers: list[nn.Module] = [pg.nn.Lift(SPACE, 1, width, kernel_size=5, padding=0), pg.nn.BatchNorm(width)]
    layers += [nn.ReLU(), pg.nn.Resample(14)]
    for _ in range(2):
        layers += [pg.nn.GroupConv(SPACE, width, width, 5, bias=False), pg.nn.BatchNorm(width), nn.ReLU()]
    layers += [pg.nn.Resample(5), pg.nn.Project(SPACE), nn.Dropout(0.1)]
    layers += [pg.nn.Lift(SPACE, width, 10, kernel_size=5, padding=0), pg.nn.Project(SPACE), nn.Flatten()]
    return nn.Sequential(*layers)


class Steerable(nn.Module):
    """A C8-equivariant CNN of ``escnn`` with regular features, pooled over group and space."""

    def __init__(self, widths: tuple[int, ...] = (6, 10, 10, 12)) -> None:
        super().__init__()
        gspaces, enn = importlib.import_module("escnn.gspaces"), importlib.import_module("escnn.nn")
        act = gspaces.rot2dOnR2(8)
        types = [enn.FieldType(act, [act.trivial_repr])]
        types += [enn.FieldType(act, width * [act.regular_repr]) for width in widths]
        layers: list[Any] = []
        for depth, (before, after) in enumerate(zip(types, types[1:])):
            layers += [enn.R2Conv(before, after, 5, padding=2, bias=False), enn.InnerBatchNorm(after), enn.ReLU(after)]
            if depth in (0, 2):
                layers.append(enn.PointwiseAvgPoolAntialiased(after, 0.66, 2))
        self.input, self.body = types[0], enn.SequentialModule(*layers, enn.GroupPooling(types[-1]))
        self.wrap = enn.GeometricTensor
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(widths[-1], 10))

    def forward(self, x: Tensor) -> Tensor:
        """Images [B,1,28,28] -> logits [B,10]."""
        features = self.body(self.wrap(x, self.input)).tensor
        return self.head(torch.amax(features, dim=(-2, -1)))


def hyperbolic() -> nn.Module:
    """A reversible hyperbolic classifier of block-low-rank layers for digits of 14 pixels a side.

    As many parameters as ``cnn`` to two percent; both read the coarsest level pixel by pixel.
    """
    width, levels = 4, 2
    model = pg.models.hyperbolic_classifier(1, 10, width, depth=2, levels=levels, rank=12, batch_norm=True)
    model.closing = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(width * 4**levels * 4 * 4, 10))
    return model


NETS = {"small": small, "turning": turning, "large": large, "cnn": cnn, "gcnn": gcnn, "escnn": Steerable}
UPRIGHT_NETS = {"hyperbolic": hyperbolic, "plain": partial(cnn, 14)}
"""Networks for digits of 14 pixels a side that are not turned."""
