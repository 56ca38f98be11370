"""Networks for signals on the sphere, with hidden layers on SO(3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pdegcnn import _checks
from pdegcnn._typing import Factory
from pdegcnn.models.unet import TERMS, Level
from pdegcnn.nn import (
    BatchNorm,
    ChannelLinear,
    Downsample,
    GlobalPool,
    Lift,
    PDELayer,
    Project,
    SpectralResample,
    Upsample,
)
from pdegcnn.nn.layer import usual_options
from pdegcnn.spaces import S2, SO3
from pdegcnn.sphere import SphereGrid

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pdegcnn.nn.layer import LayerOptions


def _pyramid(grid: SphereGrid, fibre: int, levels: int) -> list[SO3]:
    """Return SO(3) over Gauss-Legendre grids of band-limit L, L/2, L/4, ..., the finest as fine as ``grid``."""
    _checks.kind("grid", grid, SphereGrid, "a pdegcnn.sphere.SphereGrid").require_rings()
    _checks.positive_int("fibre", fibre)
    finest = grid.band + 1
    if finest >> (levels - 1) < 2:
        raise ValueError(f"grid: expected a band that {levels} levels can halve, got band {grid.band}")
    return [SO3(SphereGrid.gauss_legendre(finest >> level), fibre) for level in range(levels)]


def spherical_classifier(
    grid: SphereGrid,
    classes: int = 10,
    *,
    in_channels: int = 1,
    channels: Sequence[int] = (8, 16, 16),
    fibre: int = 12,
    terms: Sequence[str] = TERMS,
    metric: str = "axisymmetric",
    kernel_size: int | Sequence[int] = (7, 5),
    alpha: float = 0.65,
    template: int = 9,
    dropout: float = 0.1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[LayerOptions],
) -> nn.Sequential:
    """Build a PDE-G-CNN on SO(3) whose logits are invariant to rotations of the signal, up to sampling.

    A lift, one PDE layer at the band of the grid, spectral pooling to half of it, one PDE layer for every further entry
    of ``channels``, and the maximum over the fibre. The features are then correlated with class templates in **every**
    rotation, and the best match of each template is its logit.

    Args:
        grid: where signals are sampled.
        classes: number of logits.
        in_channels: channels of the signal.
        channels: channels after the lift and after each PDE layer, at least two.
        fibre: number of directions at each point.
        terms: terms of the PDE layers.
        metric: form of their metrics.
        kernel_size: their windows in grid steps.
        alpha: their power.
        template: odd width of the class templates, in grid steps of the coarse grid.
        dropout: probability before the templates.
        device: where the parameters live.
        dtype: their dtype.
        options: further options of :class:`~pdegcnn.nn.PDELayer`.

    Shape:
        ``[B,in_channels,*grid.shape] -> [B,classes]``.
    """
    channels = _checks.widths("channels", channels, 2)  # of the lift and of the PDE layers
    _checks.positive_int("classes", classes)
    _checks.number("dropout", dropout, 0.0, 1.0)
    _checks.odd("template", (_checks.positive_int("template", template),))
    fine, coarse = _pyramid(grid, fibre, 2)
    factory: Factory = {"device": device, "dtype": dtype}
    usual = {"metric": "axisymmetric", "kernel_size": (7, 5), "alpha": 0.65}
    given = {"metric": metric, "kernel_size": kernel_size, "alpha": alpha, **options}
    pde: dict[str, Any] = {**usual_options(fine, terms, usual, given), **factory}
    layers: list[nn.Module] = []
    if grid != fine.grid:
        layers.append(SpectralResample(S2(grid), S2(fine.grid), **factory))
    layers += [Lift(fine, in_channels, channels[0], **factory), BatchNorm(channels[0], fine, **factory)]
    layers += [PDELayer(fine, channels[0], channels[1], terms, **pde), SpectralResample(fine, coarse, **factory)]
    for before, after in zip(channels[1:], channels[2:]):
        layers.append(PDELayer(coarse, before, after, terms, **pde))
    layers += [Project(coarse, mode="max"), nn.Dropout(dropout)]
    layers.append(Lift(coarse, channels[-1], classes, kernel_size=template, **factory))
    layers.append(GlobalPool(coarse, mode="max", oversample=2, **factory))
    return nn.Sequential(*layers)


def spherical_segmenter(
    grid: SphereGrid,
    in_channels: int = 1,
    out_channels: int = 1,
    *,
    width: int = 8,
    levels: int = 3,
    fibre: int = 8,
    terms: Sequence[str] = TERMS,
    metric: str = "axisymmetric",
    kernel_size: int | Sequence[int] = 5,
    alpha: float = 0.65,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[LayerOptions],
) -> nn.Sequential:
    """Build a U-shaped PDE-G-CNN on SO(3) whose maps rotate with the signal.

    A lift, PDE layers on grids of band L, L/2, L/4, ... with spectral pooling and unpooling between them (both exact),
    the maximum over the fibre, and pointwise mixing to logits on ``grid``.

    Args:
        grid: where signals are sampled.
        in_channels: channels of the signal.
        out_channels: number of maps of logits.
        width: channels at every level.
        levels: number of grids.
        fibre: number of directions at each point.
        terms: terms of the PDE layers.
        metric: form of their metrics.
        kernel_size: their windows in grid steps.
        alpha: their power.
        device: where the parameters live.
        dtype: their dtype.
        options: further options of :class:`~pdegcnn.nn.PDELayer`.

    Shape:
        ``[B,in_channels,*grid.shape] -> [B,out_channels,*grid.shape]``.
    """
    spaces = _pyramid(grid, fibre, _checks.positive_int("levels", levels))
    factory: Factory = {"device": device, "dtype": dtype}
    usual = {"metric": "axisymmetric", "kernel_size": 5, "alpha": 0.65}
    given = {"metric": metric, "kernel_size": kernel_size, "alpha": alpha, **options}
    pde: dict[str, Any] = {"terms": terms, **usual_options(spaces[0], terms, usual, given), **factory}
    below = Level(PDELayer(spaces[-1], width, width, **pde))
    for space in reversed(spaces[:-1]):
        before, down, up = (
            PDELayer(space, width, width, **pde),
            Downsample(space, **factory),
            Upsample(space, **factory),
        )
        below = Level(before, below, down, up, PDELayer(space, 2 * width, width, **pde))
    fine = spaces[0]
    layers: list[nn.Module] = []
    if grid != fine.grid:
        layers.append(SpectralResample(S2(grid), S2(fine.grid), **factory))
    layers += [Lift(fine, in_channels, width, **factory), BatchNorm(width, fine, **factory), below]
    layers += [Project(fine, mode="max"), ChannelLinear(width, out_channels, **factory)]
    if grid != fine.grid:
        layers.append(SpectralResample(S2(fine.grid), S2(grid), **factory))
    return nn.Sequential(*layers)
