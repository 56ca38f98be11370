"""Positions at which dilation and erosion on grids read a signal: its samples, and points between them.

The supremum over a function is more than the largest of its samples. Values between samples come from interpolation:
planes of a turned and shifted signal stand beside the planes of its samples, and one morphological convolution takes
the largest of all, at the samples only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple, cast

import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import broadcast_tensors
from pdegcnn.kernels.heat import HeatTaps, cosines, features
from pdegcnn.pde.grid_interpolation import turning_matrix
from pdegcnn.spaces import SE2, GridSpace

Oversample = int | tuple[int, int | None]
"""How many times as many points are read as there are samples, along every axis or (orientations, space).

With None for space the middle of every cell of the finer orientations is read, as by default."""
Shift = tuple[float, float, float]
"""Slices, rows and columns."""
CENTRED = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5))
"""By what planes are shifted so that every cell of an image is read in its middle too."""
QUARTERS = 4
"""Quarter turns of the circle, which map pixels to pixels."""
CPU = "cpu"
"""Where tables are made, whatever torch's default device is; callers move them."""
ROUNDING = 1e-6
"""What a tap may lie outside its window by rounding."""


class Reach(NamedTuple):
    """The extent of a window to each side, in units of the space: radians or slices, rows, columns."""

    first: float
    rows: float
    columns: float


class Pass(NamedTuple):
    """Planes that one morphological convolution reads: for each, its shift in pixels.

    Plane p of n lies p / n orientation steps further.
    """

    planes: tuple[Shift, ...]


SAMPLES = (Pass(((0.0, 0.0, 0.0),)),)
"""The samples alone."""


def check_oversample(value: object, space: GridSpace) -> tuple[int, int | None]:
    """Return factors along orientations and space, else raise."""
    if isinstance(value, (tuple, list)):
        factors = cast("Sequence[object]", value)
        if len(factors) != 2:
            raise ValueError(f"oversample: expected an int or two of them (orientations, space), got {value!r}")
        turns = _checks.positive_int("oversample", factors[0])
        cells = None if factors[1] is None else _checks.positive_int("oversample", factors[1])
        if not space.has_orientations and turns != 1:
            raise ValueError(f"oversample: expected (1, factor) on {space}, which has no orientations, got {factors}")
        return turns, cells
    factor = _checks.positive_int("oversample", value)
    return factor, factor


def with_orientations(space: GridSpace, count: object) -> GridSpace:
    """Return SE(2) with ``count`` orientations, more than ``space`` has; raise if exact turns would be lost."""
    if not isinstance(space, SE2):
        raise ValueError(f"inner_orientations: expected None on {space}, got {count!r}")
    exact, wanted = math.gcd(space.orientations, QUARTERS), _checks.positive_int("inner_orientations", count)
    if wanted <= space.orientations or wanted % exact:
        kind = f"a multiple of {exact}" if exact > 1 else "a number"
        raise ValueError(f"inner_orientations: expected {kind} above {space.orientations}, got {wanted}")
    return replace(space, orientations=wanted)


def heat_taps(space: GridSpace, reach: Reach) -> HeatTaps:
    """Return what heat kernels depend on in the middle of each tap's cell, float64; paths as in :func:`cells`."""
    steps, rows, columns = _offsets(space, reach, SAMPLES[0])
    around = torch.where(steps >= 0, -1.0, 1.0) * space.orientations
    paths = [steps, steps + around] if space.has_orientations else [steps]
    image = torch.stack(broadcast_tensors(columns, rows), dim=-1)
    b = space.half_angle_of_path(torch.stack([space.taps_at(path, image) for path in paths]))
    if b.shape[3] == b.shape[4]:
        b = b[:, : _first_quarter(space)]
    b = b.transpose(1, 2)  # [paths,KO,Or,KH,KW,dim]
    turn = b[:, :, 0, 0, 0, 2] if space.has_orientations else b.new_zeros(b.shape[:2])
    return HeatTaps(features(b), cosines(turn), turn, space.grid_spacing)


def _first_quarter(space: GridSpace) -> int:
    """Return how many orientations make a quarter turn, or all of them if none do."""
    step = space.grid_steps[0]
    quarter = round(math.pi / 2 / step)
    turns_exactly = space.has_orientations and abs(quarter * step - math.pi / 2) < ROUNDING
    return quarter if turns_exactly and space.orientations % quarter == 0 else space.orientations


def passes(space: GridSpace, oversample: Oversample | None) -> tuple[Pass, ...]:
    """Return what dilation reads: with None on SE(2) samples and the middle of every cell, elsewhere the samples."""
    turns, cells = (1, None) if oversample is None else check_oversample(oversample, space)
    if cells is None:
        if space.orientations > 1:
            return (Pass(CENTRED * turns),)
        return tuple(Pass((shift,)) for shift in CENTRED) if space.has_orientations else SAMPLES
    turns = turns if space.orientations > 1 else 1
    parts = [i / cells for i in range(cells)]
    shifts = product((0.0,) if space.is_periodic else parts, parts, parts)
    return tuple(Pass((shift,) * turns) for shift in shifts)


def sizes_of(space: GridSpace, reach: Reach, planes: Pass) -> tuple[int, int, int]:
    """Return odd tap numbers of the box that holds every tap within reach."""
    finer = len(planes.planes)
    first, *image = (
        math.floor(length / step * count + max(shift[i] for shift in planes.planes) + ROUNDING)
        for i, (length, step, count) in enumerate(zip(reach, space.grid_steps, (finer, 1, 1)))
    )
    if space.is_periodic:
        first = min(first, finer * space.orientations // 2)
    return 2 * first + 1, 2 * image[0] + 1, 2 * image[1] + 1


def taps(space: GridSpace, reach: Reach, planes: Pass, orientations: int | None = None) -> Tensor:
    """Return elements ``h^-1 g`` from the taps h of each orientation to its centre g, ``[Or,KO,KH,KW,dim]``, float64.

    Of the first ``orientations``, a whole number of quarter turns, if that is given. What is a quarter turn away is the
    same to the bit.
    """
    steps, rows, columns = _offsets(space, reach, planes)
    quarter, found = _first_quarter(space), list[Tensor]()
    for _ in range((orientations or space.orientations) // quarter):
        image = torch.stack(broadcast_tensors(columns, rows), dim=-1)
        found.append(space.taps_at(steps, image)[:quarter])
        rows, columns = -columns, rows
    return torch.cat(found)


def cells(space: GridSpace, reach: Reach, planes: Pass) -> Tensor:
    """Return the same for points of each tap's cell, two along each axis (Gauss), ``[paths,points,Or,KO,KH,KW,dim]``.

    On SE(2) there are two paths to a point, one in either sense of turning; further turns round the circle are left
    out. Where quarter turns carry a square window to itself, the orientations of the first quarter are all there is.
    """
    steps, rows, columns = _offsets(space, reach, planes)
    inner = (-math.sqrt(1 / 12), math.sqrt(1 / 12))
    around = torch.where(steps >= 0, -1.0, 1.0) * space.orientations
    paths = [steps, steps + around] if space.has_orientations else [steps]
    turns = inner if space.orientations > 1 or not space.is_periodic else (0.0,)
    points: list[Tensor] = []
    for path, turn, row, column in product(paths, turns, inner, inner):
        image = torch.stack(broadcast_tensors(columns + column, rows + row), dim=-1)
        points.append(space.taps_at(path + turn, image))
    found = torch.unflatten(torch.stack(points), 0, (len(paths), -1))
    return found[:, :, : _first_quarter(space)] if found.shape[4] == found.shape[5] else found


def all_quarters(space: GridSpace, kernel: Tensor) -> Tensor:
    """Return a kernel of every orientation from that of the first quarter or of all, ``[C,Or,KO,KH,KW]``."""
    if kernel.shape[1] == space.orientations:
        return kernel
    turned = [kernel]
    for k in range(1, space.orientations // kernel.shape[1]):
        turned.append(torch.rot90(kernel, -k, dims=(-2, -1)))
    return torch.cat(turned, dim=1)


def own_orientations(space: GridSpace, reach: Reach, planes: Pass) -> int:
    """Return the number of orientations with their own costs: those of the first quarter if the others are turned.

    A quarter turn maps the row r and column c to -c and r, so the turned taps are among the taps only where all shifts
    are whole or half pixels. Elsewhere they are taps of another pass.
    """
    turns = all(row == column and (2 * row) % 1 == 0 for _, row, column in planes.planes)
    return _first_quarter(space) if turns and reach.rows == reach.columns else space.orientations


def places(space: GridSpace, reach: Reach, planes: Pass) -> Tensor:
    """Return the index ``[Or,KO,KH,KW]`` of each tap's cost among those of :func:`taps`, followed by infinity.

    A tap out of reach costs infinity. One of a later quarter costs what the tap that it is a turn of costs.
    """
    first, rows, columns = _offsets(space, reach, planes)
    first, rows, columns = broadcast_tensors(first[:, None, None], rows, columns)
    inside = torch.ones((), dtype=torch.bool, device=CPU)
    for place, length, step in zip((first, rows, columns), reach, space.grid_steps):
        inside = inside & (place.abs() <= length / step + ROUNDING)
    ko, kh, kw = sizes = sizes_of(space, reach, planes)
    of_tap = torch.remainder(torch.arange(ko, device=CPU) - ko // 2, len(planes.planes))
    shift = torch.tensor(planes.planes, dtype=torch.float64, device=CPU)[of_tap, :, None, None]
    count = own_orientations(space, reach, planes)
    start = math.prod(sizes) * torch.arange(count, device=CPU)[:, None, None, None]
    plane = torch.arange(ko, device=CPU)[:, None, None] * kh
    found: list[Tensor] = []
    for _ in range(space.orientations // count):
        row, column = rows - shift[:, 1] + kh // 2, columns - shift[:, 2] + kw // 2
        number = (plane + row.round().long()) * kw + column.round().long() + start
        found.append(torch.where(inside, number, count * math.prod(sizes)))
        rows, columns = -columns, rows
    return torch.cat(found)


def turns(space: GridSpace, planes: Pass) -> Tensor:
    """Return the matrix ``[(n-1)*Or,Or]`` that reads the planes p = 1 to n - 1 between samples, ordered by p."""
    steps = torch.arange(1, len(planes.planes), dtype=torch.float64, device=CPU) / len(planes.planes)
    return turning_matrix(space.orientations, steps).reshape(-1, space.orientations)


def _offsets(space: GridSpace, reach: Reach, planes: Pass) -> tuple[Tensor, Tensor, Tensor]:
    """Return the offset of each tap in grid steps: first axis [KO], rows [KO,KH,1] and columns [KO,1,KW], float64."""
    ko, kh, kw = (torch.arange(n, dtype=torch.float64, device=CPU) - n // 2 for n in sizes_of(space, reach, planes))
    count = len(planes.planes)
    shift = torch.tensor(planes.planes, dtype=torch.float64, device=CPU)[torch.remainder(ko, count).long()]
    rows, columns = kh[:, None] + shift[:, 1, None, None], kw + shift[:, 2, None, None]
    return ko / count + shift[:, 0], rows, columns
