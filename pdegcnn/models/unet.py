"""A U-Net of PDE layers on any space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn.nn import BatchNorm, ChannelLinear, Downsample, FieldDropout, Lift, PDELayer, Project, Residual, Upsample
from pdegcnn.nn.residual import on_mesh
from pdegcnn.spaces import Mesh, Space

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pdegcnn.nn.layer import LayerOptions

TERMS = ("convection", "dilation", "erosion")


class Level(nn.Module):
    """One level of a U-Net: layers, whatever lies below them on a coarser grid, both joined, more layers.

    Args:
        before: layers of the level.
        below: the next level, if any.
        down: the way to its grid.
        up: layers from the coarse level to this one.
        after: layers for the channels of both.
    """

    def __init__(
        self,
        before: nn.Module,
        below: nn.Module | None = None,
        down: Downsample | None = None,
        up: Upsample | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.before, self.below, self.down, self.up, self.after = before, below, down, up, after

    def forward(self, u: Tensor, mesh: Mesh | None = None) -> Tensor:
        """Apply the level and all below it; on ``mesh`` if given."""
        u = on_mesh(self.before, u, mesh)
        if self.below is None or self.down is None or self.up is None or self.after is None:
            return u
        coarse = on_mesh(self.below, self.down(u, mesh), None if mesh is None else self.down.coarser(mesh))
        fine = self.up.out_space
        size = u.shape[-fine.base_ndim :] if fine.base_shape is None else None
        return on_mesh(self.after, torch.cat((u, self.up(coarse, mesh, size=size)), dim=1), mesh)


class Chain(nn.Sequential):
    """Layers one after another, those that take a mesh with the mesh."""

    def forward(self, input: Tensor, mesh: Mesh | None = None) -> Tensor:  # noqa: A002 - torch's name
        """Apply the layers; on ``mesh`` if given."""
        for layer in self:
            input = on_mesh(layer, input, mesh)  # noqa: A001
        return input


def unet(
    space: Space,
    in_channels: int = 1,
    out_channels: int = 1,
    *,
    channels: Sequence[int] = (8, 16, 32),
    blocks: int = 1,
    residual: bool = True,
    terms: Sequence[str] | None = None,
    kernel_size: int | Sequence[int] | None = None,
    metric: str = "diagonal",
    alpha: float = 0.65,
    dropout: float = 0.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[LayerOptions],
) -> nn.Module:
    """Build a U-Net of PDE layers whose logits turn with the input, on images, volumes, spheres and meshes.

    A lift, PDE layers on coarser and coarser grids (:class:`pdegcnn.nn.Downsample`), the way up with skip connections
    (:class:`pdegcnn.nn.Upsample`), the maximum over orientations, and mixing at each point. Source of the shape:
    Ronneberger et al. (arXiv 1505.04597).

    Args:
        space: R2, R3, SE2, S2, SO3 or a Mesh.
        in_channels: channels of the input.
        out_channels: number of maps of logits.
        channels: channels of each level, from the finest grid to the coarsest; their number is the number of levels.
        blocks: PDE layers on each side of a level.
        residual: add a skip connection to each PDE layer (:class:`pdegcnn.nn.Residual`).
        terms: terms of the PDE layers; None: convection, dilation and erosion, if the space has them.
        kernel_size: their windows; None: the solver's default.
        metric: form of their metrics.
        alpha: their power.
        dropout: probability of :class:`pdegcnn.nn.FieldDropout` before the projection.
        device: where the parameters live.
        dtype: their dtype.
        options: further options of :class:`~pdegcnn.nn.PDELayer`.

    Shape:
        ``[B,in_channels,H,W] -> [B,out_channels,H,W]`` of any size, volumes likewise; ``[B,C,*grid.shape]`` on spheres;
        ``[B,C,V]`` on meshes, where ``model(u, mesh)`` accepts any mesh.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument is out of range.

    Example:
        >>> import torch, pdegcnn as pg
        >>> model = pg.models.unet(pg.SE2(8), in_channels=3, out_channels=2, channels=(4, 8)).eval()
        >>> model(torch.rand(1, 3, 20, 25)).shape
        torch.Size([1, 2, 20, 25])
    """
    _checks.kind("space", space, Space, "a space")
    widths = _checks.widths("channels", channels, 1)
    _checks.positive_int("blocks", blocks)
    _checks.flag("residual", residual)
    _checks.number("dropout", dropout, 0.0, 1.0)
    terms = tuple(t for t in TERMS if t in space.supported_terms) if terms is None else terms
    factory: dict[str, Any] = {"device": device, "dtype": dtype}
    pde: dict[str, Any] = {"terms": terms, "kernel_size": kernel_size, "metric": metric, "alpha": alpha, **options}
    width = widths[0]
    return Chain(
        Lift(space, in_channels, width, **factory),
        BatchNorm(width, space, **factory),
        _level(space, (width, *widths), blocks, residual, factory, {**pde, **factory}),
        *([FieldDropout(space, dropout)] if dropout else []),
        Project(space, mode="max"),
        ChannelLinear(width, out_channels, **factory),
    )


def _level(
    space: Space, widths: Sequence[int], blocks: int, residual: bool, factory: dict[str, Any], pde: dict[str, Any]
) -> Level:
    """Build the levels from ``space`` down; ``widths``: channels that come in, and those of each level."""

    def layers(before: int) -> nn.Module:
        counts = [before] + [width] * blocks
        chain: list[nn.Module] = [PDELayer(space, c, width, **pde) for c in counts[:-1]]
        return Chain(*(Residual(layer, **factory) if residual else layer for layer in chain))

    before, width, *deeper = widths
    first = layers(before)
    if not deeper:
        return Level(first)
    down, up = Downsample(space, **factory), Upsample(space, **factory)
    below = _level(down.out_space, widths[1:], blocks, residual, factory, pde)
    return Level(first, below, down, up, layers(width + deeper[0]))
