"""Signals between the samples of S2 and SO(3): on a finer grid and fibre by their coefficients, and back to the band.

A maximum creates degrees beyond the band, which alias and break equivariance; on finer samples they alias less. Both
directions are exact for band-limited signals.
"""

from __future__ import annotations

import math

from torch import nn

from pdegcnn import _checks, sphere
from pdegcnn._typing import Device, DType, Factory
from pdegcnn.spaces import S2, SO3, RotationSpace


def factors_of(space: RotationSpace, oversample: int | tuple[int, int | None] | None) -> tuple[int, int]:
    """Return the factors of the orientations and of the grid; raise unless ``oversample`` says them."""
    if oversample is None:
        return 1, 1
    if isinstance(oversample, (tuple, list)):
        if len(oversample) != 2:
            raise ValueError(f"oversample: expected an int or two of them (orientations, space), got {oversample!r}")
        turns, steps = (_checks.positive_int("oversample", factor) for factor in oversample)
        if not space.has_orientations and turns != 1:
            raise ValueError(
                f"oversample: expected (1, factor) on {space}, which has no orientations, got {oversample}"
            )
        return turns, steps
    factor = _checks.positive_int("oversample", oversample)
    return (factor if space.has_orientations else 1), factor


def finer_space(space: RotationSpace, factors: tuple[int, int]) -> S2 | SO3:
    """Return the space over a Gauss-Legendre grid for ``factors[1]`` times the band, and a finer fibre."""
    space.grid.require_rings("space.grid")
    grid = sphere.SphereGrid.gauss_legendre(factors[1] * (space.grid.band + 1))
    return SO3(grid, factors[0] * space.orientations) if space.has_orientations else S2(grid)


def transforms(
    source: RotationSpace,
    target: RotationSpace | None = None,
    *,
    lmax: int | None = None,
    nmax: int | None = None,
    device: Device = None,
    dtype: DType = None,
) -> tuple[nn.Module, nn.Module]:
    """Return the analysis of signals on ``source`` and the synthesis on ``target`` (None: ``source``).

    Args:
        source: S2 or SO(3) over a grid of rings.
        target: where the synthesis samples.
        lmax: greatest degree.
        nmax: greatest order along the fibre of SO(3).
        device: where the tables live.
        dtype: dtype of the signals.
    """
    target = target or source
    kind: Factory = {"device": device, "dtype": dtype}
    if source.has_orientations:
        analysis = sphere.SO3FFT(source.grid, source.orientations, lmax=lmax, nmax=nmax, **kind)
        return analysis, sphere.InverseSO3FFT(target.grid, target.orientations, lmax=lmax, nmax=nmax, **kind)
    return sphere.RealSHT(source.grid, lmax=lmax, **kind), sphere.InverseRealSHT(target.grid, lmax=lmax, **kind)


def _samples(space: RotationSpace) -> int:
    return math.prod(space.grid.shape) * space.orientations


class Finer(nn.Module):
    """A finer space with the transforms in both directions; all tables are derived, none is saved.

    Args:
        space: S2 or SO(3) over a grid of rings.
        factors: how many times as many orientations and rings.
        device: where the tables live.
        dtype: dtype of the signals.
        back: whether the inverse is needed.
    """

    def __init__(
        self,
        space: RotationSpace,
        factors: tuple[int, int],
        *,
        device: Device = None,
        dtype: DType = None,
        back: bool = True,
    ) -> None:
        super().__init__()
        self.space = finer_space(space, factors)
        band = space.grid.band
        orders = min((space.orientations - 1) // 2, band)
        kind: Factory = {"device": device, "dtype": dtype}
        self.up = nn.Sequential(*transforms(space, self.space, lmax=band, nmax=orders, **kind))
        """From samples on the space to finer ones of the same band-limited function."""
        self.down = (
            nn.Sequential(*transforms(self.space, space, lmax=band, nmax=orders, **kind)) if back else nn.Identity()
        )
        """From finer samples to those of the function's part within the band."""
        self.expansion = _samples(self.space) / _samples(space)
        """How many finer samples there are for each sample."""
