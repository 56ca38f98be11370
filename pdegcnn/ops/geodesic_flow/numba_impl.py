"""Fast CPU version of the flow along geodesics: each path is followed and read at its end in one loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pdegcnn.ops import _jit
from pdegcnn.ops.gather_mean.numba_impl import back, rows

LOOPS = str(Path(__file__).with_name("numba_kernels.py"))
SLACK = 1e-9
"""Radians beyond the last edge of a boundary at which a path is still on the surface."""


def land(tables: Sequence[Tensor], paths: Sequence[Tensor], end: Sequence[Tensor], most: int) -> None:
    """Follow the paths (vertex, radius, angle, each [M]) over at most ``most`` triangles and fill ``end``."""
    wedge, vertices, positions, turn = end
    corners = torch.empty(*vertices.shape, 3, dtype=positions.dtype)
    results = [x.numpy() for x in (wedge, vertices, corners)]
    loops = _jit.specialise(LOOPS, None, 0)
    _jit.parallel(loops.land, len(wedge), *packed(tables), *map(_jit.array, paths), most, *results)
    positions.copy_(corners[..., :2])
    turn.copy_(corners[..., 2])


class HalfEdgeTables(NamedTuple):
    """Tables of a mesh of V vertices and H half-edges that the loops read.

    Numbers of a half-edge are adjacent in memory; values that paths need repeatedly are computed once.

    Attributes:
        keys: ``[H]``, 8 times the vertex plus the direction of half-edges, ascending.
        fans: ``[H]``, half-edges in the order of their keys.
        links: ``[H,4]``, tail, next, previous and twin.
        edges: ``[H,6]``, length, foot and height of the third corner beside the head in lengths, angle, greatest angle
            of a path right of which it lies, transport.
        points: ``[V+1,3]``, place of the first key of a vertex, angles of its gauge over those of the surface, angle of
            its gauge. The last row says where keys end.
    """

    keys: NDArray[Any]
    fans: NDArray[Any]
    links: NDArray[Any]
    edges: NDArray[Any]
    points: NDArray[Any]


def packed(tables: Sequence[Tensor]) -> HalfEdgeTables:
    """Return the tables that the loops read, from the half-edge tables of a mesh."""
    keys, fans, tail, following, previous, twin, length, corner, angle, transport, scale, gauge = map(
        _jit.array, tables
    )
    begin = np.searchsorted(keys, 8.0 * np.arange(scale.size + 1))
    foot = (length**2 + length[following] ** 2 - length[previous] ** 2) / (2 * length)
    height = np.sqrt(np.maximum(length[following] ** 2 - foot**2, 0))
    limit = angle + corner * scale[tail] + SLACK
    edges = np.stack((length, foot / length, height / length, angle, limit, transport), axis=1)
    links = np.stack((tail, following, previous, twin), axis=1)
    points = np.stack((begin, np.append(scale, 1.0), np.append(gauge, 0.0)), axis=1)
    return HalfEdgeTables(keys, fans, links, edges, points)


def _rooms(count: int) -> list[tuple[int, torch.dtype, float]]:
    """Return the room that the ends of the paths of all directions need."""
    return [(6 * count, torch.int64, 0), *((size * count, torch.float64, 0) for size in (9, 9, 4))]


def forward(u: Tensor, tables: Sequence[Tensor], path: Tensor, most: int) -> Tensor:
    """Return the signal at the ends of the paths (radius, heading, turn) [C,3] of every channel."""
    signal = rows(u)
    out = torch.empty_like(signal)
    loop = _jit.with_room(_jit.specialise(LOOPS, None, 0).forward, *_rooms(u.shape[2]))
    _jit.parallel(loop, u.shape[3], signal.numpy(), *packed(tables), _jit.array(path), most, out.numpy())
    return back(out)


def backward(
    grad: Tensor, u: Tensor, tables: Sequence[Tensor], path: Tensor, most: int, learn: bool
) -> tuple[Tensor, Tensor]:
    """Return gradients in the signal and (with ``learn``, else zero) in the paths."""
    signals = [rows(x) for x in (grad, u)]
    out, sums = torch.zeros_like(signals[0]), torch.zeros_like(path)
    loop = _jit.with_room(_jit.specialise(LOOPS, None, 0).backward, *_rooms(u.shape[2]), (6, torch.float64, 0))
    results = out.numpy(), sums.numpy()
    _jit.parallel(loop, u.shape[1], *map(_jit.array, signals), *packed(tables), _jit.array(path), most, learn, *results)
    return back(out), sums
