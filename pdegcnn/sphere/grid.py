"""Grids on the sphere, with area weights: rings of equal or of varying length, and plain points."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn.sphere import _points, _reduced
from pdegcnn.sphere._legendre import Array


@dataclass(frozen=True)
class SphereGrid:
    r"""A grid of rings, symmetric about the equator; a ring of n points has longitudes :math:`\varphi_j = 2 \pi j / n`.

    Grids without rings (:meth:`icosahedral`, :meth:`healpix`) have points and weights only: ``theta`` and
    ``ring_weights`` are empty and ``band`` is -1.

    Args:
        name: the name of the kind of grid.
        theta: colatitude of each ring from the north pole, ``[nlat]`` radians.
        ring_weights: area of one point of each ring, ``[nlat]`` steradians.
        nlon: number of points of the longest ring.
        degree: greatest degree of spherical polynomials that the quadrature integrates exactly.
        band: largest lmax that :class:`RealSHT` analyses exactly.

    Example:
        >>> from pdegcnn.sphere import SphereGrid
        >>> grid = SphereGrid.gauss_legendre(16)
        >>> grid.shape, grid.band, round(float(grid.weights.sum()), 4)
        ((16, 32), 15, 12.5664)
    """

    name: str
    theta: tuple[float, ...]
    ring_weights: tuple[float, ...]
    nlon: int
    degree: int
    band: int

    @classmethod
    def gauss_legendre(cls, bandlimit: int, nlon: int | None = None) -> SphereGrid:
        """Build a grid of ``bandlimit`` Gauss-Legendre rings with ``nlon`` points each (default ``2 * bandlimit``).

        Args:
            bandlimit: number of rings, at least 1; functions of degree below it are represented exactly.
            nlon: points of each ring, equally spaced in longitude.
        """
        nlat = _checks.positive_int("bandlimit", bandlimit)
        nlon = 2 * nlat if nlon is None else _checks.positive_int("nlon", nlon)
        return cls._build("gauss_legendre", *_gauss_rings(nlat), nlon, min(2 * nlat - 1, nlon - 1))

    @classmethod
    def equiangular(cls, bandlimit: int, kind: str = "driscoll_healy") -> SphereGrid:
        r"""Build a grid of rings at :math:`\theta_j = \pi (j + 1/2) / nlat` with Fejer weights (1933, first rule).

        On the full-band grid the quadrature is exact to degree nlat - 1 only, but :class:`RealSHT` remains exact, by
        trigonometric interpolation along the meridian.

        Args:
            bandlimit: number of degrees that the grid resolves.
            kind: ``"driscoll_healy"`` (``2 * bandlimit`` rings) or ``"full_band"`` (``bandlimit`` rings).
        """
        size = _checks.positive_int("bandlimit", bandlimit)
        _checks.choice("kind", kind, ("driscoll_healy", "full_band"))
        nlat = 2 * size if kind == "driscoll_healy" else size
        theta = math.pi * (np.arange(nlat) + 0.5) / nlat
        k = np.arange(1, nlat // 2 + 1)
        w = 2 / nlat * (1 - 2 * np.sum(np.cos(2 * k[:, None] * theta) / (4 * k[:, None] ** 2 - 1), axis=0))
        return cls._build(kind, theta, w, 2 * size, min(nlat - 1, 2 * size - 1))

    @classmethod
    def clenshaw_curtis(cls, nlat: int, nlon: int | None = None) -> SphereGrid:
        r"""Build the usual grid of latitudes and longitudes with both poles: ``nlat`` evenly spaced rings.

        Rings lie at :math:`\theta_j = \pi j / (nlat - 1)`. ``clenshaw_curtis(73, 144)`` has a point every 2.5 degrees,
        ``(721, 1440)`` every quarter. Each pole is a ring of ``nlon`` equal samples. Clenshaw-Curtis weights are exact
        to degree nlat - 1. :class:`RealSHT` is exact up to ``band`` = nlat - 2 (if the rings are long enough), by
        trigonometric interpolation along the meridian.

        Args:
            nlat: number of rings, at least 3.
            nlon: points of each ring; None: ``2 * (nlat - 1)``.
        """
        if _checks.positive_int("nlat", nlat) < 3:
            raise ValueError(f"nlat: expected at least 3 rings, both poles among them, got {nlat}")
        nlon = 2 * (nlat - 1) if nlon is None else _checks.positive_int("nlon", nlon)
        steps = nlat - 1
        theta = math.pi * np.arange(nlat) / steps
        k = np.arange(1, steps // 2 + 1)
        last = np.where(2 * k == steps, 1.0, 2.0)
        w = 1 - np.sum(last[:, None] * np.cos(2 * k[:, None] * theta) / (4 * k[:, None] ** 2 - 1), axis=0)
        w[1:-1] *= 2
        grid = cls._build("clenshaw_curtis", theta, w, nlon, min(nlat - 1, nlon - 1))
        return replace(grid, band=min(nlat - 2, grid.band))

    @staticmethod
    def reduced_gauss(bandlimit: int, tolerance: float = 1e-14, spacing: str = "exact") -> RaggedGrid:
        """Build Gauss-Legendre rings that shorten towards the poles, with a quarter fewer points.

        A coarse ``tolerance`` shortens the rings of ``"exact"`` spacing and raises the band of ``"even"`` spacing.
        Source: Hortal and Simmons (1991).

        Args:
            bandlimit: number of rings.
            tolerance: aliasing that is accepted, in (0, 1].
            spacing: ``"exact"``: each ring is the shortest even one (with factors 2, 3, 5) on which products of two
                harmonics up to degree ``bandlimit - 1`` alias by at most ``tolerance``, so transforms have this
                accuracy up to ``band`` = ``bandlimit - 1``. ``"even"``: points of a ring are as far apart as the rings,
                and ``band`` is the degree up to which that accuracy holds, which the poles make small.
        """
        nlat = _checks.positive_int("bandlimit", bandlimit)
        _checks.number("tolerance", tolerance, 0.0, 1.0, open_low=True)
        _checks.choice("spacing", spacing, ("exact", "even"))
        theta, w = _gauss_rings(nlat)
        areas, band = w * (4 * math.pi / w.sum()), nlat - 1
        if spacing == "exact":
            lengths = _reduced.ring_lengths(band, theta, areas, tolerance)
        else:
            lengths = _reduced.uniform_ring_lengths(theta)
            band = _reduced.exact_band(lengths, theta, areas, tolerance)
        ring, counts = tuple((areas / lengths).tolist()), tuple(lengths.tolist())
        return RaggedGrid("reduced_gauss", tuple(theta.tolist()), ring, max(counts), 2 * band + 1, band, counts)

    @staticmethod
    def icosahedral(subdivisions: int) -> PointGrid:
        """Build the ``10 * 4**subdivisions + 2`` vertices of an icosahedron with repeatedly halved edges.

        Weights are spherical Voronoi areas. The grid has no rings, so the transforms do not accept it.

        Args:
            subdivisions: number of halvings.
        """
        if isinstance(subdivisions, bool) or not isinstance(subdivisions, int):
            raise TypeError(f"subdivisions: expected an int >= 0, got {subdivisions!r}")
        if not 0 <= subdivisions <= 12:
            raise ValueError(f"subdivisions: expected an int from 0 to 12 (168 million points), got {subdivisions}")
        points = _points.icosahedron(subdivisions)
        return PointGrid._of(f"icosahedral({subdivisions})", points, _points.voronoi_areas(points))

    @staticmethod
    def healpix(nside: int, nest: bool = False) -> PointGrid:
        """Build the ``12 * nside**2`` equal-area pixels of HEALPix, for exchange with HEALPix maps ``[..., P]``.

        The grid has no rings, so the transforms do not accept it.

        Args:
            nside: resolution of the HEALPix grid.
            nest: order pixels by the nested scheme, not by rings.

        Raises:
            ImportError: if ``healpy`` is not installed.
            ValueError: if ``nest`` is set and ``nside`` is not a power of 2.
        """
        size = _checks.positive_int("nside", nside)
        if _checks.flag("nest", nest) and size & (size - 1):
            raise ValueError(f"nside: expected a power of 2 for nest order, got {nside}")
        points = _points.healpix(size, nest)
        areas = np.full(len(points), 4 * math.pi / len(points))
        return PointGrid._of(f"healpix({nside}{', nest' if nest else ''})", points, areas)

    @classmethod
    def _build(cls, name: str, theta: Array, w: Array, nlon: int, degree: int) -> SphereGrid:
        w = w * (2 / w.sum())
        ring = tuple((w * (2 * math.pi / nlon)).tolist())
        return cls(name, tuple(theta.tolist()), ring, nlon, degree, min(len(w) - 1, (nlon - 1) // 2))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of signals, (nlat, nlon), or (P,) for rings of different lengths and for points."""
        return len(self.theta), self.nlon

    @property
    def has_rings(self) -> bool:
        """Whether the points form rings, as the transforms require."""
        return True

    def require_rings(self, name: str = "grid") -> None:
        """Raise ``ValueError`` unless the points form rings.

        Args:
            name: the argument that the message names.
        """
        if not self.has_rings:
            raise ValueError(
                f"{name}: expected a grid of rings (gauss_legendre, equiangular, clenshaw_curtis, reduced_gauss), "
                f"got {self.name}, which has no exact transform"
            )

    @property
    def ring_lengths(self) -> tuple[int, ...]:
        """The number of points of every ring, ``[nlat]``."""
        return (self.nlon,) * len(self.theta)

    @property
    def ring_offsets(self) -> tuple[int, ...]:
        """The index of every ring's first point among all points, then the number of points, ``[nlat + 1]``."""
        return tuple(itertools.accumulate(self.ring_lengths, initial=0))

    @property
    def weights(self) -> Tensor:
        r"""The area of each point in steradians, ``[*shape]``, float64; their sum is :math:`4 \pi`."""
        return torch.from_numpy(np.repeat(self.ring_weights, self.ring_lengths).reshape(self.shape))

    @property
    def xyz(self) -> Tensor:
        r"""Unit vectors ``[*shape,3]``, float64, :math:`(\sin\theta\cos\varphi, \sin\theta\sin\varphi, \cos\theta)`."""
        theta = np.repeat(self.theta, self.ring_lengths)
        phi = np.concatenate([2 * math.pi / n * np.arange(n) for n in self.ring_lengths])
        across = np.sin(theta)
        points = np.stack([across * np.cos(phi), across * np.sin(phi), np.cos(theta)], -1)
        return torch.from_numpy(points.reshape(*self.shape, 3))


@dataclass(frozen=True)
class RaggedGrid(SphereGrid):
    """Rings of varying length, concatenated: signals are [..., P]; ``nlon`` is the longest length."""

    lengths: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(P,)."""
        return (sum(self.lengths),)

    @property
    def ring_lengths(self) -> tuple[int, ...]:
        """Number of points of every ring, [nlat]."""
        return self.lengths


@dataclass(frozen=True)
class PointGrid(SphereGrid):
    """Points without rings: signals are [..., P]. Two such grids are equal if name and number of points are."""

    points: Array = field(compare=False, repr=False)
    areas: Array = field(compare=False, repr=False)
    count: int

    @classmethod
    def _of(cls, name: str, points: Array, areas: Array) -> PointGrid:
        return cls(name, (), (), 0, 0, -1, points, areas * (4 * math.pi / areas.sum()), len(points))

    @property
    def shape(self) -> tuple[int, ...]:
        """(P,)."""
        return (self.count,)

    @property
    def has_rings(self) -> bool:
        """False."""
        return False

    @property
    def weights(self) -> Tensor:
        """Area weights [P] in steradians, float64, summing to 4 pi."""
        return torch.from_numpy(np.array(self.areas, dtype=np.float64))

    @property
    def xyz(self) -> Tensor:
        """Unit vectors [P, 3], float64."""
        return torch.from_numpy(np.array(self.points, dtype=np.float64))


def _gauss_rings(nlat: int) -> tuple[Array, Array]:
    """Return colatitudes, exactly symmetric about the equator, and weights for the integral over cos theta."""
    x, w = np.polynomial.legendre.leggauss(nlat)
    theta = np.arccos(x[::-1])
    return 0.5 * (theta + (math.pi - theta[::-1])), w[::-1]
