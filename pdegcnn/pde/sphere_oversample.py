"""Signals between the samples of S2 and SO(3): on a finer grid and fibre by their coefficients, and back to the band.

What a maximum creates beyond the band folds back where the samples are few, and turns differently there. Between finer
samples less of it does. Exact both ways for band-limited signals.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from pdegcnn import _checks, sphere
from pdegcnn.spaces import S2, SO3, RotationSpace


def factors_of(space: RotationSpace, oversample: int | tuple[int, int] | None) -> tuple[int, int]:
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


def _samples(space: RotationSpace) -> int:
    return math.prod(space.grid.shape) * space.orientations


class Finer(nn.Module):
    """A finer space with the ways there and back; all derived, nothing to save.

    Args:
        space: S2 or SO(3) over a grid of rings.
        factors: how many times as many orientations and rings.
        device: where the tables live.
        dtype: dtype of the signals.
        back: whether the way back is needed.
    """

    def __init__(
        self,
        space: RotationSpace,
        factors: tuple[int, int],
        *,
        device: Any = None,
        dtype: Any = None,
        back: bool = True,
    ) -> None:
        super().__init__()
        self.space = finer_space(space, factors)
        band: dict[str, Any] = {"lmax": space.grid.band, "device": device, "dtype": dtype}
        if space.has_orientations:
            band["nmax"] = min((space.orientations - 1) // 2, space.grid.band)
        self.up = nn.Sequential(*transforms(space, self.space, **band))
        """From samples on the space to finer ones of the same band-limited function."""
        self.down = nn.Sequential(*transforms(self.space, space, **band)) if back else nn.Identity()
        """From finer samples to those of the function's part within the band."""
        self.expansion = _samples(self.space) / _samples(space)
        """How many finer samples there are for each sample."""
