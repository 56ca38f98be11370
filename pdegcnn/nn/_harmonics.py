"""Filters on the sphere and SO(3) by their harmonic coefficients: the basis functions."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pdegcnn.spaces import RotationSpace
from pdegcnn.sphere._tables import Array, Tables


class HarmonicBasis(Tables):
    """The basis functions of filters, a table over the degree (and orders) of the given shape."""

    def __init__(self, make: Callable[[], Array], shape: tuple[int, ...], like: Tensor) -> None:
        super().__init__()
        self._make, self._shape = make, shape
        self._build(like)

    def _tables(self) -> list[tuple[str, tuple[int, ...], Callable[[], Array]]]:
        return [("functions", self._shape, self._make)]


def resolved_frequency(space: RotationSpace, max_frequency: object) -> int:
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
            f"max_frequency: expected at most {most} on {space}, because frequencies up to N need at least 2 N + 1 "
            f"orientations and a band of N; got {max_frequency}"
        )
    return max_frequency
