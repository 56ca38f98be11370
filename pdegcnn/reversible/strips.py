"""Evaluation of modules strip by strip, which keeps temporaries small if there are no gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

ONEDNN_FROM = 20480
"""Torch gives one volume to oneDNN when its first four sizes multiply to more; else it unfolds it into columns."""


class Piece(NamedTuple):
    """The entries ``first`` to ``last`` of a module's output along ``axis``: ``part``."""

    axis: int
    first: int
    last: int
    part: Tensor

    def of(self, out: Tensor) -> Tensor:
        """Return the entries of ``out`` that the part is for."""
        return out.narrow(self.axis, self.first, self.last - self.first)


def least_rows(shape: Sequence[int], channels: int, dims: int) -> int:
    """Return the least number of rows with which a convolution of [B,channels,*space] uses oneDNN."""
    if shape[0] != 1:
        return 1
    return ONEDNN_FROM // max(1, channels * (shape[1 - dims] if dims > 1 else 1)) + 1


def in_strips(
    function: Callable[[Tensor], Tensor], x: Tensor, axis: int, halo: int, least: int = 1, rows: int = 20
) -> Iterator[Piece]:
    """Return ``function(x)`` by strips of about ``rows`` rows (for each row of the halo) along ``axis`` (negative).

    An output row depends on ``halo`` rows on each side of it, and on where the border is only within them. An input of
    fewer than ``least`` rows is not worth a separate run.
    """
    size = x.shape[axis]
    count = 1 + size // (rows * max(1, halo))
    while count > 1 and size // count + halo < max(least, 2 * halo + 1):
        count -= 1
    for place in range(count):
        first, last = size * place // count, size * (place + 1) // count
        low, high = max(0, first - halo), min(size, last + halo)
        yield Piece(
            axis, first, last, function(x.narrow(axis, low, high - low)).narrow(axis, first - low, last - first)
        )


def assembled(pieces: Iterator[Piece], x: Tensor, axis: int) -> Tensor:
    """Return the whole output, with as many rows along ``axis`` as ``x``; rows are all that the pieces share out."""
    out = x
    for piece in pieces:
        if out is x:
            shape = list(piece.part.shape)
            shape[axis] = x.shape[axis]
            out = piece.part.new_empty(shape)
        piece.of(out).copy_(piece.part)
        del piece
    return out
