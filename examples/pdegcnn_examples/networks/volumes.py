"""Networks for volumes, [B,C,D,H,W] to [B,classes,D,H,W]: a reversible one of PDE layers beside a U-Net."""

from __future__ import annotations

from torch import nn

import pdegcnn as pg
from pdegcnn.models.hyperbolic import HyperbolicNetwork
from pdegcnn_examples.networks.scenes import PlainNet

LEVELS = 1
"""Coarsenings of the reversible network."""


def reversible(channels: int, classes: int, space: pg.R3, width: int = 6, depth: int = 2) -> HyperbolicNetwork:
    """PDE layers on volumes in one reversible stack, halved by a Haar wavelet and enlarged by its inverse.

    Args:
        channels: of the input.
        classes: channels of the output.
        space: of the input; coarser levels have larger voxels.
        width: channels at the finest level, eight times as many at the coarser one.
        depth: layers at each level, on the way there and back.
    """

    def layers(level: int) -> list[nn.Module]:
        where = pg.R3(tuple(2**level * step for step in space.grid_steps))
        count = width * 8**level
        return [
            pg.nn.PDELayer(
                where, count, count, ("convection", "dilation", "erosion"), kernel_size=3, convection="linear"
            )
            for _ in range(depth)
        ]

    split = pg.reversible.Wavelet("haar", 3)
    stack = [*layers(0), split, *layers(1), pg.reversible.Inverse(split), *layers(0)]
    opening, closing = nn.Conv3d(channels, width, 3, padding=1), nn.Conv3d(width, classes, 1)
    return HyperbolicNetwork(opening, pg.reversible.ReversibleStack(stack, 0.5), closing, 2**LEVELS, 3, dense=True)


def unet(channels: int, classes: int, space: pg.R3, width: int = 4) -> PlainNet:
    """A U-Net of convolutions over 3 x 3 x 3 voxels; it does not know how large they are."""
    return PlainNet(channels, classes, width, concatenate=True, dims=3)


NETS = {"pde": reversible, "unet": unet}
