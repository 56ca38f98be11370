"""Networks for vessels at equal footing: photographs [B,3,H,W] of any size -> logits [B,1,H,W]."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pdegcnn as pg

SPACE = pg.SE2(orientations=8)
TERMS = ("convection", "dilation", "erosion")


class TwoScale(nn.Module):
    """A PDE-G-CNN at full and at half resolution: wide vessels and surroundings cost a quarter there.

    Lift 7x7; three PDE layers on means of 2x2 pixels; these, enlarged, beside the lifted image through two PDE layers;
    maximum over orientations; logits. 3,000 parameters and a few hundred.
    """

    def __init__(self, narrow: int = 12, wide: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        layer = {"terms": TERMS, "kernel_size": (3, 5, 5), "alpha": 0.65}
        self.lift = nn.Sequential(pg.nn.Lift(SPACE, 3, narrow, kernel_size=7), pg.nn.BatchNorm(narrow))
        self.coarse = nn.Sequential(*(pg.nn.PDELayer(SPACE, c, wide, **layer) for c in (narrow, wide, wide)))
        self.fine = nn.Sequential(*(pg.nn.PDELayer(SPACE, c, wide, **layer) for c in (narrow + wide, wide)))
        self.head = nn.Sequential(nn.Dropout(dropout), pg.nn.Project(SPACE), pg.nn.ChannelLinear(wide, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Photographs -> logits."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        u = self.lift(x)
        coarse = self.coarse(_halve(u))
        u = self.fine(torch.cat((u, _double(coarse)), dim=1))
        return self.head(u)[..., :height, :width]


def _halve(u: Tensor) -> Tensor:
    """Means over 2x2 pixels of [B,C,Or,H,W]."""
    return F.avg_pool2d(u.flatten(1, 2), 2).unflatten(1, u.shape[1:3])


def _double(u: Tensor) -> Tensor:
    """Linear interpolation of [B,C,Or,H,W] to twice the size."""
    return F.interpolate(u.flatten(1, 2), scale_factor=2, mode="bilinear").unflatten(1, u.shape[1:3])


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
NETS = {"ship": shipped, "pde": TwoScale, "pde6": published, "cnn6": cnn, "gcnn6": gcnn}
