"""Project lifted signals back to the base of their space."""

from __future__ import annotations

import math

from torch import Tensor, nn

from pdegcnn import _checks, functional
from pdegcnn.functional import PROJECTIONS
from pdegcnn.spaces import Mesh, Space


class Project(nn.Module):
    """Project signals to the base of their space; see :func:`pdegcnn.functional.project`.

    Args:
        space: the space.
        mode: ``"max"``, ``"mean"`` or ``"norm"`` over orientations; on grids also ``"dilated"``.
        oversample: as in the function.
        longitudinal: as in the function.
        lateral: as in the function.
        alpha: as in the function.

    Shape:
        ``[B,C,Or,...] -> [B,C,...]``.

    Example:
        >>> import torch, pdegcnn as pg
        >>> pg.nn.Project(pg.SE2(8), mode="max")(torch.rand(1, 16, 8, 9, 9)).shape
        torch.Size([1, 16, 9, 9])
    """

    def __init__(
        self,
        space: Space,
        mode: str = "max",
        *,
        oversample: int = 1,
        longitudinal: float = 3.0,
        lateral: float = 1.0,
        alpha: float = 2 / 3,
    ) -> None:
        super().__init__()
        self.space = _checks.kind("space", space, Space, "a space")
        self.mode = _checks.choice("mode", mode, PROJECTIONS)
        functional.check_projection(space, mode, oversample)
        self.oversample = oversample
        self.longitudinal = _checks.plain_number("longitudinal", longitudinal, 0.0, math.inf, open_low=True)
        self.lateral = _checks.plain_number("lateral", lateral, 0.0, math.inf, open_low=True)
        _checks.number("alpha", alpha, 0.5, 1.0)
        self.alpha = alpha

    def forward(self, u: Tensor, mesh: Mesh | None = None) -> Tensor:
        """Project ``u``; ``mesh`` replaces the constructor's mesh if given.

        Args:
            u: a signal ``[B,C,Or,...]``.
            mesh: on meshes, where ``u`` lives, if that is another mesh than the layer was built for.
        """
        return functional.project(
            u,
            self.space if mesh is None else _checks.kind("mesh", mesh, Mesh, "a Mesh"),
            self.mode,
            oversample=self.oversample,
            longitudinal=self.longitudinal,
            lateral=self.lateral,
            alpha=self.alpha,
        )

    def extra_repr(self) -> str:
        """Return the space and mode."""
        finer = f", oversample={self.oversample}" if self.oversample > 1 else ""
        return f"{self.space}, mode={self.mode!r}{finer}"
