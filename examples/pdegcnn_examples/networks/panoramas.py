"""The plain CNNs that the spherical examples are compared with: they see the picture of latitudes and longitudes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad


class WrappedConv(nn.Conv2d):
    """A convolution of odd width on the lat-lon picture: longitudes wrap, beyond the poles are zeros."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        margin = self.kernel_size[0] // 2
        wrapped = torch.cat((input[..., -margin:], input, input[..., :margin]), dim=-1)
        return super().forward(pad(wrapped, (0, 0, margin, margin)))


def block(before: int, after: int) -> list[nn.Module]:
    """Convolution, batch norm, ReLU."""
    return [WrappedConv(before, after, 3, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


def classifier(shape: tuple[int, ...], classes: int = 10, widths: tuple[int, ...] = (32, 64, 72)) -> nn.Sequential:
    """Signals [B,1,nlat,nlon] -> logits [B,classes]: blocks with pooling, then a linear layer."""
    layers: list[nn.Module] = []
    for before, after in zip((1, *widths), widths):
        layers += [*block(before, after), nn.MaxPool2d(2)]
    features = widths[-1] * (shape[0] >> len(widths)) * (shape[1] >> len(widths))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.1), nn.Linear(features, classes))


class UNet(nn.Module):
    """Signals [B,C,nlat,nlon] -> maps [B,C',nlat,nlon]: two poolings, bilinear enlargement, connections across."""

    def __init__(self, in_channels: int, out_channels: int, width: int = 24) -> None:
        super().__init__()
        self.fine = nn.Sequential(*block(in_channels, width), *block(width, width))
        self.middle = nn.Sequential(*block(width, 2 * width), *block(2 * width, 2 * width))
        self.coarse = nn.Sequential(*block(2 * width, 2 * width), *block(2 * width, 2 * width))
        self.up = nn.Sequential(*block(4 * width, width))
        self.out = nn.Sequential(*block(2 * width, width), nn.Conv2d(width, out_channels, 1))

    def forward(self, u: Tensor) -> Tensor:
        """Apply the network."""
        fine = self.fine(u)
        middle = self.middle(nn.functional.max_pool2d(fine, 2))
        coarse = self.coarse(nn.functional.max_pool2d(middle, 2))
        back = self.up(torch.cat((middle, _like(coarse, middle)), 1))
        return self.out(torch.cat((fine, _like(back, fine)), 1))


def _like(u: Tensor, target: Tensor) -> Tensor:
    return interpolate(u, size=target.shape[-2:], mode="bilinear", align_corners=False)
