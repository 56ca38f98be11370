"""Gaussian derivatives of volumes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._derived import Table
from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn.ops.padding import BOUNDARIES, pad
from pdegcnn.pde.derivatives import PAIRS, Derivatives, unit_scale
from pdegcnn.pde.grid_derivatives import correlated, gaussian_kernels, reach_of
from pdegcnn.spaces import R3

MEAN = ((0, 0, 0),)
"""Orders along (x, y, z) of the smoothed value."""
GRADIENT = tuple(tuple(int(i == axis) for i in range(3)) for axis in range(3))
"""Orders of its first derivatives."""
HESSIAN = tuple(tuple((i == a) + (i == b) for i in range(3)) for a, b in PAIRS[3])
"""Orders of its second derivatives, as in ``PAIRS``."""


class VolumeDerivatives(Derivatives):
    """Derivatives of volumes by Gaussian kernels, exact for quadratic polynomials, in units of length."""

    LARGEST = 32.0
    """Greatest standard deviation in voxels."""
    space: R3

    def _set_up(self, boundary: str | None, like: Tensor) -> None:
        self.boundary = "replicate" if boundary is None else _checks.choice("boundary", boundary, BOUNDARIES)
        self._build(like)

    def _largest(self) -> float:
        return self.LARGEST * min(self.space.grid_steps)

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return wide_dtype(dtype)

    def _tables(self) -> list[Table]:
        steps = zip("xyz", self.space.grid_steps[::-1])
        return [(name, (3, 2 * reach_of(self.length / step) + 1), partial(self._kernels, step)) for name, step in steps]

    def _kernels(self, step: float) -> Tensor:
        """Return kernels ``[3,K]`` along an axis whose voxels are ``step`` long."""
        return gaussian_kernels(self.length / step) / step ** torch.arange(3, dtype=torch.float64)[:, None]

    def first(self, u: Tensor) -> Tensor:
        """Return the derivatives along x, y and z, ``[3, *u.shape]``."""
        return self._derivatives(widen(u), GRADIENT)

    def second(self, u: Tensor) -> Tensor:
        """Return second derivatives in the order of ``PAIRS``."""
        return self._derivatives(widen(u), HESSIAN)

    def lateral(self, u: Tensor) -> Tensor:
        """Return the second derivative across tubes and sheets, that is, along gradients nearby."""
        return self.gates(u)[1]

    def gates(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return :meth:`first` and :meth:`lateral`.

        The latter is the mean second derivative along gradients nearby, weighted by their squared lengths: the trace of
        the structure tensor times the Hessian, over that of the structure tensor.
        """
        found = self._derivatives(widen(u), GRADIENT + HESSIAN)
        gradient, second = found[:3], found[3:]
        unit = unit_scale(gradient)
        products = [self._derivatives(unit[i] * unit[j], MEAN)[0] for i, j in PAIRS[3]]
        square = products[0] + products[1] + products[2]
        some = square > 0
        weighted = sum((1 if i == j else 2) * p * d for (i, j), p, d in zip(PAIRS[3], products, second))
        mean = (second[0] + second[1] + second[2]) / 3  # over all directions
        return gradient, torch.where(some, weighted / torch.where(some, square, 1.0), mean)

    def _derivatives(self, u: Tensor, orders: tuple[tuple[int, ...], ...]) -> Tensor:
        """Return derivatives of the smoothed volumes, of the orders along (x, y, z), along each axis in turn."""
        kernels = [self.get_buffer(name) for name in "xyz"]
        columns, rows, slices = (kernel.shape[1] // 2 for kernel in kernels)
        around: dict[tuple[int, ...], Tensor] = {(): pad(u, rows, columns, self.boundary, slices)}
        for axis, kernel in enumerate(kernels):
            wanted = {order[: axis + 1] for order in orders}
            around = {order: _along(around[order[:axis]], kernel[order[axis]], axis) for order in sorted(wanted)}
        return torch.stack([around[order] for order in orders])


def _along(u: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Return volumes ``[B,C,D,H,W]`` correlated along columns (0), rows (1) or slices (2) with a kernel ``[K]``."""
    if axis == 2:  # the slices as rows of planes whose columns are all pixels of a slice
        planes = correlated(u.flatten(3), kernel[:, None].expand(u.shape[1], 1, -1, 1))
        return planes.reshape(*planes.shape[:3], *u.shape[3:])
    planes = u.flatten(1, 2)
    window = kernel[None] if axis == 0 else kernel[:, None]
    moved = correlated(planes, window.expand(planes.shape[1], 1, -1, -1))
    return moved.reshape(*u.shape[:3], *moved.shape[2:])
