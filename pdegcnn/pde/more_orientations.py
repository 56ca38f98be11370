"""Solver of a term on SE(2) that works on more orientations than the signal has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from pdegcnn._derived import Table
from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn.kernels.metric import Metric
from pdegcnn.pde.grid import GridSolver
from pdegcnn.pde.grid_interpolation import coarser_matrix, finer_matrix
from pdegcnn.pde.grid_lattice import with_orientations
from pdegcnn.pde.solver import Alpha, Options, Solver
from pdegcnn.spaces import GridSpace


class MoreOrientationsSolver(Solver):
    """Solver on ``inner_orientations``: evaluates a signal there, solves, truncates to the orders of the signal.

    A step of a term makes orders that the orientations of its signal cannot hold; they fold onto low ones unless the
    step has more orientations to itself.
    """

    OPTIONS: ClassVar = GridSolver.OPTIONS
    HAS_TABLES: ClassVar = True
    space: GridSpace
    inner: GridSolver

    def _set_up(self, options: Options, like: Tensor) -> None:
        finer = with_orientations(self.space, options.inner_orientations)
        alike = replace(options, inner_orientations=None)
        self.inner = GridSolver(finer, self.term, alike, device=like.device, dtype=like.dtype)
        self._build(like)

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return wide_dtype(dtype)

    def _tables(self) -> list[Table]:
        both = self.space.orientations, self.inner.space.orientations
        return [("finer", None, partial(finer_matrix, *both)), ("coarser", None, partial(coarser_matrix, *both))]

    @property
    def channels_are_independent(self) -> bool:
        """Whether the result of a channel is independent of the other channels."""
        return self.inner.channels_are_independent

    @property
    def expansion(self) -> float:
        """Number of samples that the solver works on for each sample of a signal."""
        return self.inner.space.orientations / self.space.orientations

    @property
    def power_range(self) -> tuple[float, float, bool]:
        """Range of the power alpha, and whether it leaves out its lower end."""
        return self.inner.power_range

    def convection(self, u: Tensor, vector: Tensor, time: float) -> Tensor:
        """Return ``u(g exp(-time c))``."""
        return self._inside(u, self.inner.convection, vector, time)

    def diffusion(self, u: Tensor, metric: Metric, alpha: Alpha, time: float) -> Tensor:
        """Return ``exp(-time (-Delta)^alpha) u``."""
        return self._inside(u, self.inner.diffusion, metric, alpha, time)

    def morphology(self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u."""
        return self._inside(u, self.inner.morphology, metric, alpha, time, sign)

    def soft_morphology(
        self, u: Tensor, metric: Metric, alpha: Alpha, time: float, sign: int, temperature: Alpha
    ) -> Tensor:
        """Return the dilation (sign +1) or erosion (-1) of u in the log-plus semifield, which keeps constants."""
        return self._inside(u, self.inner.soft_morphology, metric, alpha, time, sign, temperature)

    def _inside(self, u: Tensor, solve: Callable[..., Tensor], *given: Any) -> Tensor:
        """Apply a method of the inner solver to u at more orientations and truncate to the orders of u."""
        fine = self.get_buffer("finer") @ widen(u).flatten(3)
        solved = solve(torch.unflatten(fine, 3, u.shape[3:]).to(u.dtype), *given)
        return (self.get_buffer("coarser") @ widen(solved).flatten(3)).view(u.shape).to(u.dtype)
