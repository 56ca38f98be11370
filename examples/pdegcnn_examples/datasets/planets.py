"""Planets that are made up: continents, and the temperature of six months."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

import pdegcnn as pg

MONTHS = 6


class Planets(NamedTuple):
    """Coefficients of temperatures [N,6,L,L] and of what is positive on land [N,1,L,L]; labels count where
    ``side . p > 0`` (everywhere if ``side`` is None)."""

    temperature: Tensor
    land: Tensor
    side: Tensor | None


def random_field(count: int, band: int, slope: float, generator: torch.Generator) -> Tensor:
    """Coefficients [count,band,band] of random fields whose power per coefficient falls as ``(l + 1)^-slope``."""
    shape = (count, band, band)
    wave = torch.complex(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)) / 2**0.5
    wave[..., 0] = wave[..., 0].real * 2**0.5
    degree = torch.arange(band)
    return (wave * (degree + 1.0)[:, None] ** (-slope / 2)).tril() * (degree > 0)[:, None]


def made_up_planets(count: int, band: int, seed: int) -> Planets:
    """Random planets, three tenths of each land."""
    generator = torch.Generator().manual_seed(seed)
    grid = pg.sphere.SphereGrid.gauss_legendre(2 * band)
    analysis, synthesis = pg.sphere.RealSHT(grid, lmax=band - 1), pg.sphere.InverseRealSHT(grid, lmax=band - 1)
    land = random_field(count, band, 3.0, generator)
    height = synthesis(land)
    order = height.flatten(1).argsort(1, descending=True)
    share = (grid.weights.flatten().float() / (4 * math.pi))[order].cumsum(1)
    level = height.flatten(1).gather(1, order).gather(1, (share < 0.3).sum(1, keepdim=True))
    land[:, 0, 0] -= level[:, 0] * math.sqrt(4 * math.pi)
    height = height - level[..., None]
    degree = torch.arange(band)
    blur = torch.exp(-degree * (degree + 1) * 0.006)[:, None]
    continents, relief = (synthesis(analysis(part) * blur) for part in ((height > 0).float(), height.clamp(min=0)))
    z = grid.xyz[..., 2].float()
    weather = synthesis(random_field(count * MONTHS, band, 2.5, generator)).unflatten(0, (count, MONTHS))
    weather = weather / weather.std()
    season = torch.cos(2 * math.pi * (torch.arange(MONTHS) / 12 + 0.1))[:, None, None]
    response = 0.25 + 0.75 * continents
    steady = 27 - 45 * z**2 - 8 * relief / relief.std()
    return Planets(analysis(steady[:, None] + 20 * season * z * response[:, None] + 2 * weather), land[:, None], None)
