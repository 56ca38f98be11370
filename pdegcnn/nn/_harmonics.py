"""The harmonic transforms of spaces over sphere grids, as modules."""

from __future__ import annotations

from typing import Any

from torch import nn

from pdegcnn import sphere
from pdegcnn.spaces import SO3, RotationSpace


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
    if isinstance(source, SO3) and isinstance(target, SO3):
        analysis = sphere.SO3FFT(source.grid, source.fibre, nmax=nmax, **options)
        return analysis, sphere.InverseSO3FFT(target.grid, target.fibre, nmax=nmax, **options)
    return sphere.RealSHT(source.grid, **options), sphere.InverseRealSHT(target.grid, **options)
