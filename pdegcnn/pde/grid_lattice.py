"""Where dilation and erosion on grids read a signal: at its samples, and between them.

The supremum over a function is more than the largest of its samples. Values between samples come from interpolation:
planes of a turned and shifted signal stand beside the planes of its samples, and one morphological convolution takes
the largest of all, at the samples only. What still lies between the points that are read is met on average: a tap then
stands for its cell of the grid, which is nearer than its middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, cast

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import broadcast_tensors
from pdegcnn.kernels.heat import HeatTaps, cosines, features
from pdegcnn.pde.grid_interpolation import shifted, turning_matrix
from pdegcnn.spaces import GridSpace

Oversample = int | tuple[int, int]
"""How many times as many points are read as there are samples, along every axis or (orientations, space)."""
FINE = 16
"""Orientations that dilation and erosion read at least, unless the caller says otherwise."""
ROUNDING = 1e-6
"""What a tap may lie outside of its window by rounding."""


class Reach(NamedTuple):
    """How far a window goes to each side: radians, rows, columns; all of that box, or the ellipsoid inside it."""

    turn: float
    rows: float
    columns: float
    is_round: bool = False


class Pass(NamedTuple):
    """Planes that one morphological convolution reads.

    Attributes:
        finer: how many for each orientation; plane p of n lies p / n orientation steps further.
        rows: by how many pixels all of them are shifted.
        columns: the same.
    """

    finer: int = 1
    rows: float = 0.0
    columns: float = 0.0


SAMPLES = (Pass(),)
"""The samples alone."""


def check_oversample(value: object, space: GridSpace) -> tuple[int, int]:
    """Factors along orientations and space, else raise."""
    if isinstance(value, (tuple, list)):
        factors = cast("Sequence[object]", value)
        if len(factors) != 2:
            raise ValueError(f"oversample: expected an int or two of them (orientations, space), got {value!r}")
        turns, cells = (_checks.positive_int("oversample", factor) for factor in factors)
        if space.dim == 2 and turns != 1:
            raise ValueError(f"oversample: expected (1, factor) on {space}, which has no orientations, got {factors}")
        return turns, cells
    factor = _checks.positive_int("oversample", value)
    return factor, factor


def reads_cells(space: GridSpace, oversample: Oversample | None) -> bool:
    """Whether dilation reads what it reads by default on SE(2): finer orientations, and cells rather than points."""
    return oversample is None and space.dim == 3 and space.orientations > 2


def passes(space: GridSpace, oversample: Oversample | None) -> tuple[Pass, ...]:
    """What dilation reads: with None on SE(2) at least ``FINE`` orientations, on the plane the samples."""
    if oversample is None:
        count = math.ceil(FINE / space.orientations) if reads_cells(space, oversample) else 1
        return (Pass(count),)
    turns, cells = check_oversample(oversample, space)
    turns = turns if space.orientations > 1 else 1
    parts = [i / cells for i in range(cells)]
    return tuple(Pass(turns, row, column) for row in parts for column in parts)


def sizes_of(space: GridSpace, reach: Reach, planes: Pass) -> tuple[int, int, int]:
    """Odd tap numbers of the box that holds every tap within reach."""
    steps = math.floor(reach.turn * planes.finer / space.angle_step + ROUNDING) if space.dim == 3 else 0
    halves = (
        min(steps, planes.finer * space.orientations // 2),
        math.floor(reach.rows + planes.rows + ROUNDING),
        math.floor(reach.columns + planes.columns + ROUNDING),
    )
    return 2 * halves[0] + 1, 2 * halves[1] + 1, 2 * halves[2] + 1


def taps(space: GridSpace, reach: Reach, planes: Pass) -> Tensor:
    """Elements ``h^-1 g`` from the taps h of each orientation to its centre g, ``[Or,KO,KH,KW,dim]``, float64."""
    steps, rows, columns, _ = _offsets(space, reach, planes)
    return space.taps_at(steps, torch.stack(broadcast_tensors(columns, rows), dim=-1))


def half_cell(space: GridSpace, planes: Pass) -> Tensor:
    """Vectors ``[dim,dim]`` along the frame, as long as a point of a cell is away from its middle on average."""
    finer = torch.tensor([1.0, 1.0, float(planes.finer)], dtype=torch.float64)
    return torch.diag(space.grid_spacing / (finer * math.sqrt(12)))


def turns(space: GridSpace, planes: Pass) -> Tensor:
    """Matrix ``[n*Or,Or]`` that reads the planes p = 1 to n between the samples, those of each p together."""
    steps = torch.arange(1, planes.finer, dtype=torch.float64) / planes.finer
    return turning_matrix(space.orientations, steps).flatten(0, 1)


def cells(space: GridSpace, reach: Reach, planes: Pass) -> Tensor:
    """The same for points of each tap's cell, two along each axis (Gauss), ``[paths,points,Or,KO,KH,KW,dim]``.

    On SE(2) there are two paths to a point, one in either sense of turning; further turns round the circle are left
    out. Where quarter turns carry a square window to itself, the orientations of the first quarter are all there is.
    """
    inner = (-math.sqrt(1 / 12), math.sqrt(1 / 12))
    turns = inner if space.orientations > 1 else (0.0,)
    points = [_paths(space, reach, planes, *point) for point in product(turns, inner, inner)]
    return torch.stack(points, dim=1)


def heat_taps(space: GridSpace, reach: Reach) -> HeatTaps:
    """What heat kernels are a function of in the middle of each tap's cell, float64; paths as in :func:`cells`."""
    b = space.half_angle(_paths(space, reach, SAMPLES[0])).transpose(1, 2)  # [paths,KO,Or,KH,KW,dim]
    turn = b[:, :, 0, 0, 0, 2] if space.dim == 3 else b.new_zeros(b.shape[:2])
    return HeatTaps(features(b), cosines(turn), turn, space.grid_spacing)


def _paths(
    space: GridSpace, reach: Reach, planes: Pass, turn: float = 0.0, row: float = 0.0, column: float = 0.0
) -> Tensor:
    """Elements of :func:`cells` at one point of each cell, ``[paths,Or,KO,KH,KW,dim]``."""
    steps, rows, columns, _ = _offsets(space, reach, planes)
    around = torch.where(steps >= 0, -1.0, 1.0) * space.orientations
    image = torch.stack(broadcast_tensors(columns + column, rows + row), dim=-1)
    paths = [steps, steps + around] if space.dim == 3 else [steps]
    found = torch.stack([space.taps_at(path + turn, image) for path in paths])
    return found[:, : _quarter(space)] if found.shape[3] == found.shape[4] else found


def _quarter(space: GridSpace) -> int:
    """How many orientations make a quarter turn, or all of them if none do."""
    quarter = round(math.pi / 2 / space.angle_step)
    turns_exactly = abs(quarter * space.angle_step - math.pi / 2) < ROUNDING and space.orientations % quarter == 0
    return quarter if turns_exactly else space.orientations


def all_quarters(space: GridSpace, kernel: Tensor) -> Tensor:
    """A kernel of every orientation from that of the first quarter or of all, ``[C,Or,KO,KH,KW]``."""
    if kernel.shape[1] == space.orientations:
        return kernel
    quarters = space.orientations // kernel.shape[1]
    turned = [kernel]
    for k in range(1, quarters):
        turned.append(torch.rot90(kernel, -k, dims=(-2, -1)))
    return torch.cat(turned, dim=1)


def places(space: GridSpace, reach: Reach, planes: Pass) -> Tensor | None:
    """Number of each tap of the box within those that are in reach, ``[Or,KO,KH,KW]``; the first free one elsewhere.

    None where all of the box is within reach. Where quarter turns carry the window to itself, the taps of the first
    quarter of the orientations are all there are.
    """
    inside, sizes = _in_reach(space, reach, planes), sizes_of(space, reach, planes)
    if len(inside) == math.prod(sizes):
        return None
    rank = {tap: number for number, tap in enumerate(inside)}
    number = torch.tensor([rank.get(tap, -1) for tap in range(math.prod(sizes))]).view(1, *sizes)
    first = _first_orientations(space, planes, sizes)
    start = len(inside) * torch.arange(first)[:, None, None, None]
    number = torch.where(number < 0, first * len(inside), number + start)
    return all_quarters(space, number[None])[0]


def taps_in_reach(space: GridSpace, reach: Reach, planes: Pass) -> Tensor:
    """Elements ``h^-1 g`` of the taps that :func:`places` counts, ``[n,dim]``, or of all, ``[Or,KO,KH,KW,dim]``."""
    inside, sizes, found = _in_reach(space, reach, planes), sizes_of(space, reach, planes), taps(space, reach, planes)
    if len(inside) == math.prod(sizes):
        return found
    first = found[: _first_orientations(space, planes, sizes)]
    return first.flatten(1, 3).index_select(1, torch.tensor(inside)).flatten(0, 1)


def _first_orientations(space: GridSpace, planes: Pass, sizes: tuple[int, int, int]) -> int:
    """How many orientations have kernels that those of the others are turns of."""
    return _quarter(space) if not planes.rows and not planes.columns and sizes[1] == sizes[2] else space.orientations


def _in_reach(space: GridSpace, reach: Reach, planes: Pass) -> list[int]:
    """Numbers of the taps of the box that lie within reach, by plain numbers: a trace must not ask a tensor."""
    ko, kh, kw = sizes_of(space, reach, planes)
    found: list[int] = []
    for tap in range(ko * kh * kw):
        turn = (tap // (kh * kw) - ko // 2) * space.angle_step / planes.finer
        row, column = tap // kw % kh - kh // 2 + planes.rows, tap % kw - kw // 2 + planes.columns
        away = abs(turn) - reach.turn, abs(row) - reach.rows, abs(column) - reach.columns
        if max(away) > ROUNDING:
            continue
        if reach.is_round:
            square = (turn / reach.turn) ** 2 + (row / reach.rows) ** 2 + (column / reach.columns) ** 2
            if square > 1 + ROUNDING:
                continue
        found.append(tap)
    return found


def _offsets(space: GridSpace, reach: Reach, planes: Pass) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each tap: orientation steps [KO], rows [KO,KH,1], columns [KO,1,KW] and radians [KO], float64."""
    ko, kh, kw = (torch.arange(n, dtype=torch.float64) - n // 2 for n in sizes_of(space, reach, planes))
    steps = ko / planes.finer
    rows, columns = (kh[:, None] + planes.rows).expand(len(ko), -1, -1), (kw + planes.columns).expand(len(ko), 1, -1)
    return steps, rows, columns, steps * space.angle_step


def read(u: Tensor, planes: Pass, matrix: Tensor | None, sign: int) -> Tensor:
    """The planes ``[B,C,n*Or,H,W]`` of a signal [B,C,Or,H,W], those of an orientation one after the other.

    ``matrix`` is that of :func:`turns`, None where there is one plane for each orientation. Points outside the image
    get a value that never wins.
    """
    field = u
    if matrix is not None:
        between = (matrix @ u.flatten(3)).view(*u.shape[:2], planes.finer - 1, *u.shape[2:])
        field = torch.stack((u, *between.unbind(2)), dim=3).flatten(2, 3)
    if not planes.rows and not planes.columns:
        return field
    loser = (u.detach().amin if sign == 1 else u.detach().amax)((2, 3, 4), keepdim=True)
    rows, columns = (field.new_full(field.shape[1:3], x) for x in (planes.rows, planes.columns))
    moved = shifted(field, rows, columns, "replicate")
    return torch.where(_inside(u, planes.rows, planes.columns), moved, loser)


def _inside(u: Tensor, row: float, column: float) -> Tensor:
    """Which points, shifted by less than a pixel, still lie within the image, ``[H,W]``."""
    height, width = u.shape[-2:]
    rows = torch.arange(height, device=u.device) + row <= height - 1
    return rows[:, None] & (torch.arange(width, device=u.device) + column <= width - 1)
