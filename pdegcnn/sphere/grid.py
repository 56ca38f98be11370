"""Ring grids on the sphere, with area weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks


@dataclass(frozen=True)
class SphereGrid:
    """A grid of equal rings, symmetric about the equator; longitudes are phi_j = 2 pi j / nlon.

    ``theta`` [nlat] are colatitudes in radians from the north pole, float64; ``ring_weights`` [nlat] is the area (in
    steradians) of one point of each ring. ``degree``: the quadrature is exact for every spherical polynomial up to
    this degree; ``band``: the largest lmax that `RealSHT` can analyse exactly.
    """

    name: str
    theta: tuple[float, ...]
    ring_weights: tuple[float, ...]
    nlon: int
    degree: int
    band: int

    @classmethod
    def gauss_legendre(cls, bandlimit: int, nlon: int | None = None) -> SphereGrid:
        """Grid of ``bandlimit`` Gauss-Legendre rings with ``nlon`` points each (default 2 bandlimit)."""
        nlat = _checks.positive_int("bandlimit", bandlimit)
        nlon = 2 * nlat if nlon is None else _checks.positive_int("nlon", nlon)
        x, w = np.polynomial.legendre.leggauss(nlat)
        theta = np.arccos(x[::-1])
        theta = 0.5 * (theta + (math.pi - theta[::-1]))
        return cls._build("gauss_legendre", theta, w[::-1], nlon, min(2 * nlat - 1, nlon - 1))

    @classmethod
    def equiangular(cls, bandlimit: int, kind: str = "driscoll_healy") -> SphereGrid:
        """Grid of 2 bandlimit ("driscoll_healy") or bandlimit ("full_band") rings at theta_j = pi (j + 1/2) / nlat.

        Fejer weights (Fejer 1933, first rule). On the full-band grid the quadrature is exact to degree nlat - 1 only,
        but `RealSHT` remains exact, by trigonometric interpolation along the meridian.
        """
        size = _checks.positive_int("bandlimit", bandlimit)
        _checks.choice("kind", kind, ("driscoll_healy", "full_band"))
        nlat = 2 * size if kind == "driscoll_healy" else size
        theta = math.pi * (np.arange(nlat) + 0.5) / nlat
        k = np.arange(1, nlat // 2 + 1)
        w = 2 / nlat * (1 - 2 * np.sum(np.cos(2 * k[:, None] * theta) / (4 * k[:, None] ** 2 - 1), axis=0))
        return cls._build(kind, theta, w, 2 * size, min(nlat - 1, 2 * size - 1))

    @classmethod
    def _build(cls, name: str, theta: np.ndarray, w: np.ndarray, nlon: int, degree: int) -> SphereGrid:
        w = w * (2 / w.sum())
        ring = tuple((w * (2 * math.pi / nlon)).tolist())
        return cls(name, tuple(theta.tolist()), ring, nlon, degree, min(len(w) - 1, (nlon - 1) // 2))

    @property
    def shape(self) -> tuple[int, int]:
        """(nlat, nlon)."""
        return len(self.theta), self.nlon

    @property
    def weights(self) -> Tensor:
        """Area weights [nlat, nlon] in steradians, float64, summing to 4 pi."""
        return torch.tensor(self.ring_weights, dtype=torch.float64)[:, None].expand(self.shape).contiguous()

    @property
    def xyz(self) -> Tensor:
        """Unit vectors [nlat, nlon, 3], float64: (sin theta cos phi, sin theta sin phi, cos theta)."""
        theta = torch.tensor(self.theta, dtype=torch.float64)[:, None]
        phi = (2 * math.pi / self.nlon) * torch.arange(self.nlon, dtype=torch.float64)
        across = theta.sin()
        return torch.stack([across * phi.cos(), across * phi.sin(), theta.cos().expand(self.shape)], -1)
