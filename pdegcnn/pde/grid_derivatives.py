"""Gaussian derivatives on the plane and on SE(2)."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._derived import Table
from pdegcnn._dtypes import wide_dtype, widen
from pdegcnn._typing import linalg
from pdegcnn.ops.padding import BOUNDARIES, pad
from pdegcnn.pde.derivatives import Derivatives, along_gradient, unit_scale
from pdegcnn.pde.grid_spectral import fibre_derivative
from pdegcnn.spaces import PlanarSpace

LEAST = 0.25
"""Pixels that a smaller standard deviation acts as: the derivatives are then central differences."""
REACH = 3.0
"""Standard deviations to each side."""
ORDERS = ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (1, 1))
"""Order of the derivatives along (y, x) of the smoothed value and of its derivatives x, y, xx, yy and xy."""
MEAN, GRADIENT, ALL = slice(0, 1), slice(0, 3), slice(0, 6)


class GridDerivatives(Derivatives):
    """Derivatives of images by Gaussian kernels, exact for quadratic polynomials; over orientations by trigonometric
    interpolation, periodic and in radians.
    """

    LARGEST = 32.0
    space: PlanarSpace

    def _set_up(self, boundary: str | None, like: Tensor) -> None:
        self.boundary = "replicate" if boundary is None else _checks.choice("boundary", boundary, BOUNDARIES)
        self._build(like)

    def _kept_in(self, dtype: torch.dtype) -> torch.dtype:
        return wide_dtype(dtype)

    def _tables(self) -> list[Table]:
        count, angles = self.space.orientations, self.space.angles
        return [
            ("kernels", (3, 2 * reach_of(self.length) + 1), partial(gaussian_kernels, self.length)),
            ("fibre", (3, count, count), partial(_fibre, count, self.turn)),
            ("turned", (2, count, 1, 1), lambda: torch.stack((angles.cos(), angles.sin()))[..., None, None]),
        ]

    def first(self, u: Tensor) -> Tensor:
        """Return the derivatives along the frame vectors, ``[dim, *u.shape]``."""
        return self._along_frame(*self._parts(u, GRADIENT))

    def second(self, u: Tensor) -> Tensor:
        """Return symmetric products of derivatives in the order of ``PAIRS``."""
        mean, x, y, xx, yy, xy = self._parts(u, ALL)
        if not self.space.has_orientations:
            return self._signals(xx, yy, xy)
        c, s = self.get_buffer("turned")
        turned_x, turned_y = self._turned(x, 1), self._turned(y, 1)
        ahead, aside = c * x + s * y, c * y - s * x
        both = 2 * c * s * xy
        return self._signals(
            c**2 * xx + s**2 * yy + both,
            s**2 * xx + c**2 * yy - both,
            self._turned(mean, 2),
            c * s * (yy - xx) + (c**2 - s**2) * xy,
            c * turned_x + s * turned_y + aside / 2,  # A3 A1 = A1 A3 + A2
            c * turned_y - s * turned_x - ahead / 2,  # A3 A2 = A2 A3 - A1
        )

    def lateral(self, u: Tensor) -> Tensor:
        """Return the second derivative across lines."""
        return self.gates(u)[1]

    def gates(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return :meth:`first` and :meth:`lateral`."""
        mean, x, y, xx, yy, xy = self._parts(u, ALL)
        if self.space.has_orientations:
            c, s = self.get_buffer("turned")
            lateral = s**2 * xx + c**2 * yy - 2 * c * s * xy
        else:
            p, q = unit_scale(torch.stack((x, y)))
            products = [self._images(v, MEAN)[0] for v in (p**2 + q**2, p**2 - q**2, 2 * p * q)]
            lateral = along_gradient(torch.stack((xx, yy, xy)), products[0], (products[1], products[2]))
        return self._along_frame(mean, x, y), self.space.from_grid(lateral)

    def _along_frame(self, mean: Tensor, x: Tensor, y: Tensor) -> Tensor:
        if not self.space.has_orientations:
            return self._signals(x, y)
        c, s = self.get_buffer("turned")
        return self._signals(c * x + s * y, c * y - s * x, self._turned(mean, 1))

    def _signals(self, *images: Tensor) -> Tensor:
        return torch.stack([self.space.from_grid(image) for image in images])

    def _parts(self, u: Tensor, orders: slice) -> list[Tensor]:
        """Return the wanted images ``[B,C,Or,H,W]`` of a signal smoothed over orientations."""
        u = self.space.to_grid(widen(u))
        return self._images(self._turned(u, 0) if self.space.has_orientations else u, orders)

    def _images(self, u: Tensor, orders: slice) -> list[Tensor]:
        """Return images with one kernel along the rows and one along the columns each, every plane for itself."""
        kernels, wanted = self.get_buffer("kernels"), ORDERS[orders]
        reach = kernels.shape[-1] // 2
        planes = pad(u, reach, reach, self.boundary).flatten(1, 2)
        count = planes.shape[1]
        along_x = {x: correlated(planes, kernels[x].expand(count, 1, 1, -1)) for x in {x for _, x in wanted}}
        found = [correlated(along_x[x], kernels[y][:, None].expand(count, 1, -1, 1)) for y, x in wanted]
        return [image.reshape(u.shape) for image in found]

    def _turned(self, u: Tensor, order: int) -> Tensor:
        """Return u smoothed over its orientations (order 0) or differentiated once or twice by their angle."""
        return torch.einsum("oq,bcqhw->bcohw", self.get_buffer("fibre")[order], u)


def reach_of(deviation: float) -> int:
    """Return the number of pixels of a kernel to each side."""
    return max(1, math.ceil(REACH * deviation))


def correlated(planes: Tensor, kernel: Tensor) -> Tensor:
    """Return planes ``[B,P,H,W]``, each correlated with its kernel of ``[P,1,KH,KW]``, where these fit in."""
    return F.conv2d(planes, kernel, groups=planes.shape[1])


def gaussian_kernels(deviation: float) -> Tensor:
    """Return kernels ``[3,K]`` of the smoothed value and of its first and second derivative, float64.

    They are samples of a Gaussian's derivatives, scaled and shifted so that they are exact for quadratic polynomials.
    """
    at = torch.arange(-reach_of(deviation), reach_of(deviation) + 1, dtype=torch.float64)
    mean = torch.exp(-(at**2) / (2 * max(deviation, LEAST) ** 2))
    mean = mean / mean.sum()
    slope, bend = mean * at, mean * (at**2 - (mean * at**2).sum())
    return torch.stack((mean, slope / (slope * at).sum(), 2 * bend / (bend * at**2).sum()))


def _fibre(count: int, deviation: float) -> Tensor:
    """Return matrices ``[3,Or,Or]`` over the orientations: a Gaussian mean, and d/dtheta and its square."""
    first, negative = fibre_derivative(count, torch.empty(0, dtype=torch.float64))
    return torch.stack((linalg.matrix_exp(-(deviation**2) / 2 * negative), first, -negative))
