"""From lifted signals back to the base."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pdegcnn import _checks, functional
from pdegcnn.nn.lift import _family
from pdegcnn.spaces import GridSpace, Space


class Project(nn.Module):
    """Project a signal to the base of its space; which module does it depends on the space (see ``PROJECTS``)."""

    def __new__(cls, space: Space | None = None, *args: Any, **kwargs: Any) -> Project:
        """An instance of the projection that serves ``space``."""
        if cls is Project and space is not None:
            return object.__new__(_family(space, PROJECTS))
        return object.__new__(cls)


class GridProject(Project):
    """``[B,C,Or,H,W] -> [B,C,H,W]``; see :func:`pdegcnn.functional.project`.

    Args:
        space: SE(2), or the plane (where it changes nothing but a dilation).
        mode: ``"max"``, ``"mean"`` or ``"dilated"``.
        options: ``longitudinal``, ``lateral`` and ``alpha`` of the dilated projection.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.Project(pg.SE2(8), mode="max")(torch.rand(1, 16, 8, 9, 9)).shape
        torch.Size([1, 16, 9, 9])
    """

    def __init__(self, space: GridSpace, mode: str = "max", **options: float) -> None:
        super().__init__()
        self.space, self.options = _checks.kind("space", space, GridSpace, "R2 or SE2"), options
        self.mode = _checks.choice("mode", mode, ("max", "mean", "dilated"))

    def forward(self, u: Tensor) -> Tensor:
        """Project ``u``."""
        return functional.project(u, self.space, self.mode, **self.options)

    def extra_repr(self) -> str:
        """Space and mode."""
        return ", ".join([str(self.space), f"mode={self.mode!r}", *(f"{k}={v}" for k, v in self.options.items())])


PROJECTS: dict[type[Space], type[Project]] = {GridSpace: GridProject}
