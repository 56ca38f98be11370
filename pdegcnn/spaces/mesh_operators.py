"""Operators of a mesh as tensors, in its gauge and unit."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Neighbours(NamedTuple):
    """Pairs (v, w) of near vertices as tensors, in a mesh's gauge and unit; see :class:`pdegcnn.surface.Pairs`."""

    start: Tensor
    centre: Tensor
    source: Tensor
    offset: Tensor
    transport: Tensor
    mirror: Tensor


class SparseRows(NamedTuple):
    """A sparse matrix by rows: ``start [V+1]``, ``columns [E]``, ``values [E]``."""

    start: Tensor
    columns: Tensor
    values: Tensor


class Eigenmodes(NamedTuple):
    """Eigenfunctions of one connected piece: its ``vertices [n]``, ``values [K]``, ascending, ``functions [n,K]``."""

    vertices: Tensor
    values: Tensor
    functions: Tensor


class Interpolation(NamedTuple):
    """Fine vertices v between coarse ones c: pairs sorted by v, weights that add up to one at each v, and the transport
    from the frame of c to that of v in a mesh's gauge; all ``[E]``.
    """

    fine: Tensor
    coarse: Tensor
    weight: Tensor
    transport: Tensor
