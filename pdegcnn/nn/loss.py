"""Losses that weight every point by its area."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pdegcnn import _checks
from pdegcnn._dtypes import widen
from pdegcnn.spaces import Space


class AreaWeightedLoss(nn.Module):
    """Mean of a loss over a space, each point weighted by its area; masked points are left out.

    On a grid of latitudes and longitudes a plain mean overweights the poles: at 60 degrees by a factor of two relative
    to the equator. On meshes points are weighted by the area of their triangles. On spaces with equal weights it is the
    plain mean.

    Args:
        space: where the signals live, or whose base they live on.
        loss: a module with ``reduction="none"`` that returns the loss of every entry; None: squared differences.

    Shape:
        ``forward(input, target, mask=None)``: two signals of one shape ``[B,C,...]``, and a bool tensor broadcastable
        to them, True where the target is known. Returns one number; zero if the mask is False everywhere.

    Raises:
        TypeError: if ``space`` is not a space.
        ValueError: if shapes do not fit, or the loss does not return a value for every entry.

    Example:
        >>> import torch, pdegcnn as pg
        >>> sphere = pg.S2(pg.sphere.SphereGrid.clenshaw_curtis(5, 8))
        >>> loss = pg.nn.AreaWeightedLoss(sphere, torch.nn.L1Loss(reduction="none"))
        >>> loss(torch.ones(2, 3, 5, 8), torch.zeros(2, 3, 5, 8))
        tensor(1.)
    """

    def __init__(self, space: Space, loss: nn.Module | None = None) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, Space, "a space")
        default = nn.MSELoss(reduction="none")
        self.loss = default if loss is None else _checks.kind("loss", loss, nn.Module, "a torch.nn.Module")

    def forward(self, input: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: A002 - torch's name
        """Return the weighted mean of the loss between ``input`` and ``target`` where ``mask`` is True.

        Args:
            input: predictions ``[B,C,...]``.
            target: the truth, of the same shape.
            mask: bool, broadcastable to both, True where the truth is known; None: everywhere.
        """
        if _checks.tensor("target", target).shape != _checks.tensor("input", input).shape:
            raise ValueError(f"target: expected shape {tuple(input.shape)} as input, got {tuple(target.shape)}")
        areas = self.space.areas
        base = None if areas is None else tuple(areas.shape)
        if base is not None and tuple(input.shape[-len(base) :]) != base:
            raise ValueError(f"input: expected last axes {base} of {self.space}, got shape {tuple(input.shape)}")
        known = input.new_ones(input.shape, dtype=torch.bool) if mask is None else _checks.mask(mask, input.shape)
        filled = torch.where(known, target, input.detach())  # missing values may be NaN
        found = self.loss(input, filled)
        if found.shape != input.shape:
            raise ValueError(
                f"loss: expected the loss of every entry (reduction='none'), got shape {tuple(found.shape)}"
            )
        wide = widen(found)  # sums of halves may exceed what halves hold
        weights = known.to(wide) if areas is None else known * areas.to(wide)
        total = torch.where(known, wide * weights, 0.0).sum()
        return (total / weights.sum().clamp_min(torch.finfo(wide.dtype).tiny)).to(found.dtype)

    def extra_repr(self) -> str:
        """Return the space."""
        return f"{self.space}"
