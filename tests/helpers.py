"""Signals and motions that many tests draw."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import pdegcnn as pg
from pdegcnn.ops import backend as registry
from pdegcnn.spaces import GridSpace

SPACE_CASES = [pg.R2(), pg.SE2(8), pg.SE2(5), pg.SE2(1)]
"""At least one of every listed space."""

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def backend_cases(operator: str) -> list[tuple[str, str]]:
    """Every backend of an operator with every device it runs on here."""
    return [(name, device) for device in DEVICES for name in registry.available(operator, device)]


def signal(space: GridSpace, size: tuple[int, int] = (9, 9), channels: int = 2, batch: int = 1, **kind) -> Tensor:
    """White noise on a space."""
    kind.setdefault("dtype", torch.float64)
    return space.from_grid(torch.randn(batch, channels, space.orientations, *size, **kind))


def smooth(size: int, wavelength: float, channels: int = 1, batch: int = 1) -> Tensor:
    """Band-limited noise of unit variance whose wavelengths are about ``wavelength`` pixels, fading at the border."""
    k = torch.fft.fftfreq(size, dtype=torch.float64) * wavelength
    noise = torch.fft.fft2(torch.randn(batch, channels, size, size, dtype=torch.float64))
    x = torch.fft.ifft2(noise * torch.exp(-2 * (k[:, None] ** 2 + k**2))).real
    line = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    window = torch.sin(math.pi * line)
    return x / x.std() * window[:, None] * window


def bump(space: GridSpace, size: int, width: float) -> Tensor:
    """A Gaussian at the image centre, over all orientations with one preferred, ``[1,1,...]``, float64."""
    line = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    image = torch.exp(-(line[:, None] ** 2 + line**2) / (2 * width**2))
    fibre = torch.exp(torch.cos(space.angles) - 1)
    return space.from_grid((fibre[:, None, None] * image)[None, None])


def weights(space: GridSpace, channels: int = 2, low: float = 0.5, high: float = 1.5) -> Tensor:
    """Random valid weights of a diagonal metric."""
    return low + (high - low) * torch.rand(channels, space.dim, dtype=torch.float64)


def spd(space: GridSpace, channels: int = 2) -> Tensor:
    """Random well-conditioned matrices of a full metric."""
    lower = torch.randn(channels, space.dim, space.dim, dtype=torch.float64).tril() * 0.3
    return lower @ lower.mT + torch.eye(space.dim, dtype=torch.float64)
