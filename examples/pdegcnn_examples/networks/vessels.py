"""Networks for vessels at equal footing: photographs [B,3,H,W] of any size -> logits [B,1,H,W]."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import torch
from torch import nn

import pdegcnn as pg

SPACE = pg.SE2(orientations=8)
TERMS = ("convection", "dilation", "erosion")


def two_scales(narrow: int = 12, wide: int = 16, dropout: float = 0.1) -> nn.Module:
    """A PDE-G-CNN at full and at half resolution: wide vessels and surroundings cost a quarter there.

    Lift 7x7; three PDE layers on means of 2x2 pixels; these, enlarged, beside the lifted image through two PDE layers;
    maximum over orientations; logits. 3,000 parameters and a few hundred.
    """

    def layer(before: int, after: int) -> nn.Module:
        return pg.nn.PDELayer(SPACE, before, after, TERMS, kernel_size=(3, 5, 5), alpha=0.65)

    coarse = nn.Sequential(*(layer(width, wide) for width in (narrow, wide, wide)))
    fine = nn.Sequential(layer(narrow + wide, wide), layer(wide, wide))
    lift = [pg.nn.Lift(SPACE, 3, narrow, kernel_size=7), pg.nn.BatchNorm(narrow)]
    head = [nn.Dropout(dropout), pg.nn.Project(SPACE), pg.nn.ChannelLinear(wide, 1)]
    return nn.Sequential(*lift, pg.models.TwoScales(coarse, fine), *head)


def published() -> nn.Module:
    """PDE-G-CNN6 of Smets et al., 4 thousand parameters."""
    return pg.models.vessel_segmentation(space=SPACE, logits=True)


def cnn() -> nn.Module:
    """Six convolutions with as many parameters (47 thousand) as the CNN6 of Smets et al."""
    width = 21
    layers: list[nn.Module] = []
    for before, size in ((3, 7), *[(width, 5)] * 4):
        layers += [nn.Conv2d(before, width, size, padding=size // 2, padding_mode="replicate", bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Conv2d(width, 1, 1))


def gcnn() -> nn.Module:
    """Six layers of linear group convolutions, as many parameters (39 thousand) as the G-CNN6 of Smets et al."""
    width = 12
    layers: list[nn.Module] = [pg.nn.Lift(SPACE, 3, width, kernel_size=7), pg.nn.BatchNorm(width), nn.ReLU()]
    for _ in range(4):
        layers += [pg.nn.GroupConv(SPACE, width, width, 5, bias=False, boundary="replicate"), pg.nn.BatchNorm(width)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Dropout(0.1), pg.nn.Project(SPACE), pg.nn.ChannelLinear(width, 1))


def shipped() -> nn.Module:
    """The network whose weights come with the package: two scales, solvers of the publication."""
    return pg.models.vessel_segmentation(space=SPACE, logits=True, **SHIPPED)


SHIPPED: dict[str, Any] = {"layers": 7, "scales": 2, "channels": 16, "kernel_size": [3, 5, 5]}
"""Arguments of its builder."""
NETS = {"ship": shipped, "pde": two_scales, "pde6": published, "cnn6": cnn, "gcnn6": gcnn}


def shifted(model: nn.Module, threshold: float) -> nn.Module:
    """A copy of a network of ``models.vessel_segmentation`` whose logits are 0 where they meant the threshold."""
    made = deepcopy(model)
    assert isinstance(made, nn.Sequential)
    last = made[-1]
    assert isinstance(last, pg.nn.ChannelLinear) and last.bias is not None
    with torch.no_grad():
        last.bias.sub_(math.log(threshold / (1 - threshold)))
    return made
