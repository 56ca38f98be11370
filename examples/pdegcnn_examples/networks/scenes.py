"""A plain network for street scenes, beside the reversible one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PlainNet(nn.Module):
    """An encoder and decoder of convolution, batch norm, ReLU; halved by pooling, enlarged bilinearly, summed."""

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([_two(in_channels, width), _two(width, 2 * width)])
        self.bottom = _two(2 * width, 4 * width)
        self.up = nn.ModuleList([_two(4 * width, 2 * width), _two(2 * width, width)])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,classes,H,W]."""
        kept = []
        for layer in self.down:
            kept.append(layer(x))
            x = F.max_pool2d(kept[-1], 2)
        x = self.bottom(x)
        for layer, fine in zip(self.up, reversed(kept)):
            x = layer(F.interpolate(x, fine.shape[-2:], mode="bilinear", align_corners=False)) + fine
        return self.head(x)


def _two(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a in (before, after):
        layers += [nn.Conv2d(a, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
