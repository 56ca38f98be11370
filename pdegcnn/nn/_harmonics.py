"""The harmonic transforms of spaces over sphere grids, as modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pdegcnn import _checks, sphere
from pdegcnn.spaces import S2, SO3, RotationSpace
from pdegcnn.sphere._tables import Array, Tables


def transforms(
    source: RotationSpace, target: RotationSpace | None = None, *, nmax: int | None = None, **options: Any
) -> tuple[nn.Module, nn.Module]:
    """Analysis of signals on ``source``, and synthesis on ``target``: a space of the same kind, ``source`` unless told.

    Args:
        source: S2 or SO(3) over a grid of rings.
        target: where the synthesis samples.
        nmax: greatest order along the fibre of SO(3).
        options: ``lmax``, ``device`` and ``dtype`` of the transforms.
    """
    target = target or source
    if source.has_orientations:
        analysis = sphere.SO3FFT(source.grid, source.orientations, nmax=nmax, **options)
        return analysis, sphere.InverseSO3FFT(target.grid, target.orientations, nmax=nmax, **options)
    return sphere.RealSHT(source.grid, **options), sphere.InverseRealSHT(target.grid, **options)


def finer_space(space: RotationSpace, factor: int, device: Any, dtype: Any) -> tuple[RotationSpace, nn.Sequential]:
    """The space over a grid and fibre ``factor`` times finer, and the exact way there for band-limited signals."""
    _checks.positive_int("oversample", factor)
    space.grid.require_rings("space.grid")
    fine = sphere.SphereGrid.gauss_legendre(factor * (space.grid.band + 1))
    lmax, kind = space.grid.band, {"device": device, "dtype": dtype}
    if not space.has_orientations:
        there = nn.Sequential(sphere.RealSHT(space.grid, **kind), sphere.InverseRealSHT(fine, lmax, **kind))
        return S2(fine), there
    nmax, fibre = min((space.orientations - 1) // 2, lmax), factor * space.orientations
    down = sphere.SO3FFT(space.grid, space.orientations, **kind)
    return SO3(fine, fibre), nn.Sequential(down, sphere.InverseSO3FFT(fine, fibre, lmax, nmax, **kind))


class HarmonicBasis(Tables):
    """The functions that filters are made of, a table over the degree (and orders) of the given shape."""

    def __init__(self, make: Callable[[], Array], shape: tuple[int, ...], like: Tensor) -> None:
        super().__init__()
        self._make, self._shape = make, shape
        self._build(like)

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Array]]]:
        return [("functions", self._shape, self._make)]


def resolved_frequency(space: RotationSpace, max_frequency: int | None) -> int:
    """Return the highest angular frequency that the orientations resolve, or the one asked for if they do."""
    if not space.has_orientations:
        if max_frequency not in (None, 0):
            raise ValueError(f"max_frequency: expected 0 on {space}, whose filters are zonal, got {max_frequency}")
        return 0
    most = min((space.orientations - 1) // 2, space.grid.band)
    if max_frequency is None:
        return most
    if isinstance(max_frequency, bool) or not isinstance(max_frequency, int) or max_frequency < 0:
        raise ValueError(f"max_frequency: expected an int >= 0, got {max_frequency!r}")
    if max_frequency > most:
        raise ValueError(
            f"max_frequency: expected at most {most} on {space}, for frequencies up to N need at least 2 N + 1 "
            f"orientations and a band of N; got {max_frequency}"
        )
    return max_frequency
