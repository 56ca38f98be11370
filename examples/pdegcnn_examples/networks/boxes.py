"""Detectors of oriented boxes at equal footing: maps on SE(2) of PDE layers, and of a plain CNN."""

from __future__ import annotations

from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.models.detection_scores import PRIOR

SPACE = pg.SE2(orientations=8)


def pde(size: float) -> pg.models.Detector:
    """Return the library's detector; ``size`` is the side of a common object in pixels."""
    return pg.models.detector(space=SPACE, channels=(12, 24), layers=2, size=size)


class PlainMaps(nn.Module):
    """A CNN with the outputs of a network on SE(2), which it has to learn for each orientation by itself."""

    def __init__(self, widths: tuple[int, int] = (14, 24)) -> None:
        super().__init__()
        fine, coarse = widths
        layers = [*_block(1, fine, 5), nn.MaxPool2d(2), *_block(fine, fine), *_block(fine, fine)]
        layers += [nn.MaxPool2d(2), *_block(fine, coarse), *_block(coarse, coarse)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(coarse, 6 * SPACE.orientations, 1))
        out = self.layers[-1]
        assert isinstance(out, nn.Conv2d) and out.bias is not None
        nn.init.constant_(out.bias[: SPACE.orientations], PRIOR)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B,1,H,W] -> maps [B,6,8,H/4,W/4]."""
        return self.layers(images).unflatten(1, (6, SPACE.orientations))


def _block(before: int, after: int, size: int = 3) -> list[nn.Module]:
    """Make a convolution, batch norm and ReLU."""
    return [nn.Conv2d(before, after, size, padding=size // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


def cnn(size: float) -> pg.models.Detector:
    """Return the same detector around a plain CNN of as many parameters."""
    return pg.models.Detector(PlainMaps(), SPACE, size=size)


NETS = {"pde": pde, "cnn": cnn}
