"""Networks that restore pictures at equal footing: ``[B,in,H,W]`` of any size -> ``[B,1,H,W]``, 350 parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import pdegcnn as pg

SPACE = pg.SE2(8)
WIDTH = 6


class Correction(nn.Module):
    """The first channel of the input plus what a network finds."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        nn.init.zeros_(body[-1].weight)  # pyright: ignore[reportIndexIssue] - a Sequential

    def forward(self, x: Tensor) -> Tensor:
        """Restore."""
        return x[:, :1] + self.body(x)


def _lifted(channels: int, terms: tuple[str, ...]) -> nn.Module:
    options = {"kernel_size": (3, 5, 5), "oversample": 1}
    layers = [pg.nn.PDELayer(SPACE, WIDTH, WIDTH, terms, **options) for _ in range(2)]
    lift = pg.nn.Lift(SPACE, channels, WIDTH, kernel_size=5)
    head = nn.Sequential(pg.nn.Project(SPACE), pg.nn.ChannelLinear(WIDTH, 1))
    return nn.Sequential(lift, pg.nn.BatchNorm(WIDTH), *layers, *head)


def shock(channels: int) -> nn.Module:
    """Lift, two layers of convection and diffusion-shock, maximum over orientations."""
    return Correction(_lifted(channels, ("convection", "diffusion_shock")))


def pde(channels: int) -> nn.Module:
    """Lift, two layers of convection, dilation and erosion, maximum over orientations."""
    return Correction(_lifted(channels, ("convection", "dilation", "erosion")))


def cnn(channels: int) -> nn.Module:
    """Convolutions of as many parameters."""
    width, layers = 5, list[nn.Module]()
    for before in (channels, width):
        layers += [nn.Conv2d(before, width, 3, padding=1, padding_mode="replicate", bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
    return Correction(nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1, padding_mode="replicate")))


NETS: dict[str, Callable[[int], nn.Module]] = {"shock": shock, "pde": pde, "cnn": cnn}


def restored(model: nn.Module, damaged: Tensor) -> Tensor:
    """Return what a model makes of pictures one by one, in [0, 1]."""
    with torch.no_grad():
        return torch.cat([model(x[None]) for x in damaged]).clamp(0, 1)
