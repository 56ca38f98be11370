"""Networks for pictures, [B,C,H,W] to [B,classes,H,W]: a reversible one beside plain ones of as many parameters."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pdegcnn.models import hyperbolic_segmenter
from pdegcnn.models.hyperbolic import CONV, NORM


class PlainNet(nn.Module):
    """An encoder and decoder of convolution, batch norm, ReLU; halved by pooling, enlarged bilinearly.

    The finer level is added to the decoder's result; with ``concatenate`` it is concatenated to its input, as in the
    U-Net of Ronneberger et al., arXiv 1505.04597. With ``dims=3`` for volumes.
    """

    def __init__(self, in_channels: int, classes: int, width: int, concatenate: bool = False, *, dims: int = 2) -> None:
        super().__init__()
        self.concatenate, self.dims = concatenate, dims
        more = (2 * width, width) if concatenate else (0, 0)
        self.down = nn.ModuleList([_two(in_channels, width, dims), _two(width, 2 * width, dims)])
        self.bottom = _two(2 * width, 4 * width, dims)
        self.up = nn.ModuleList([_two(4 * width + more[0], 2 * width, dims), _two(2 * width + more[1], width, dims)])
        self.head = CONV[dims](width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,*space] -> [B,classes,*space]."""
        kept = []
        for layer in self.down:
            kept.append(layer(x))
            x = (F.max_pool2d if self.dims == 2 else F.max_pool3d)(kept[-1], 2)
        x = self.bottom(x)
        for layer, fine in zip(self.up, reversed(kept)):
            mode = "bilinear" if self.dims == 2 else "trilinear"
            x = F.interpolate(x, fine.shape[2:], mode=mode, align_corners=False)
            x = layer(torch.cat((x, fine), 1)) if self.concatenate else layer(x) + fine
        return self.head(x)


def _two(before: int, after: int, dims: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a in (before, after):
        layers += [CONV[dims](a, after, 3, padding=1, bias=False), NORM[dims](after), nn.ReLU()]
    return nn.Sequential(*layers)


def hyperbolic(channels: int, classes: int, batch_norm: bool = True, ends: str = "linear") -> nn.Module:
    """A fully hyperbolic, block-low-rank network; ``ends``: opening and closing of the segmenter.

    It has 335 thousand parameters with three channels and eleven classes, 338 thousand with normalized ends.
    """
    options: dict[str, Any] = {"batch_norm": batch_norm, "opening": ends, "closing": ends}
    return hyperbolic_segmenter(channels, classes, width=16, depth=2, levels=2, rank=47, **options)


def plain(channels: int, classes: int) -> nn.Module:
    """An encoder and decoder; 327 thousand parameters with three channels and eleven classes."""
    return PlainNet(channels, classes, width=28)


def unet(channels: int, classes: int) -> nn.Module:
    """A U-Net; 337 thousand parameters with three channels and eleven classes."""
    return PlainNet(channels, classes, width=27, concatenate=True)


NETS = {
    "hyperbolic": hyperbolic,
    "bare": partial(hyperbolic, batch_norm=False),
    "ends": partial(hyperbolic, ends="normalized"),
    "unet": unet,
    "plain": plain,
}
"""``bare``: the hyperbolic network without batch norm; ``ends``: with convolutions and batch norm at both ends."""
