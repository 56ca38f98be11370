"""Fourier transforms along the rings of a grid."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn.functional import pad

from pdegcnn import _fft
from pdegcnn.sphere.grid import SphereGrid


def real_analysis(f: Tensor, grid: SphereGrid, size: int) -> Tensor:
    """Return sum_j f_j e^{-i m phi_j} along every ring of real f [..., *shape], for m = 0..size-1 at least.

    The result is [..., nlat, orders].
    """
    if len(grid.shape) == 2:
        return _fft.apply(torch.fft.rfft, f)
    return _ragged_analysis(f, grid, size, False)[0]


def real_synthesis(waves: Tensor, grid: SphereGrid) -> Tensor:
    """Return w_0 + 2 Re sum_{m>0} w_m e^{i m phi} along every ring: [..., nlat, orders] to real [..., *shape]."""
    if len(grid.shape) == 2:
        return _fft.apply(torch.fft.irfft, waves, n=grid.nlon, norm="forward")
    return _ragged_synthesis(torch.cat([waves[..., :1], 2 * waves[..., 1:]], -1), None, grid).real


def complex_analysis(f: Tensor, grid: SphereGrid, size: int) -> list[Tensor]:
    """Return sum_j f_j e^{-i m phi_j} for m = 0..size-1 and for m = 0..1-size, each [..., nlat, size]."""
    if len(grid.shape) == 1:
        return _ragged_analysis(f, grid, size, True)
    waves = _fft.apply(torch.fft.fft, f)
    return [waves[..., :size], torch.cat([waves[..., :1], waves[..., grid.nlon - size + 1 :].flip(-1)], -1)]


def complex_synthesis(plus: Tensor, minus: Tensor, grid: SphereGrid) -> Tensor:
    """Return sum_m w_m e^{i m phi} from orders m = 0..size-1 and m = 0..1-size (whose m = 0 is ignored).

    The result is [..., *shape].
    """
    if len(grid.shape) == 1:
        return _ragged_synthesis(plus, minus, grid)
    between = plus.new_zeros(*plus.shape[:-1], grid.nlon - 2 * plus.shape[-1] + 1)
    return _fft.apply(torch.fft.ifft, torch.cat([plus, between, minus[..., 1:].flip(-1)], -1), norm="forward")


def _runs(grid: SphereGrid) -> list[tuple[int, int]]:
    """Return (length, number) of neighbouring rings of equal length, from north to south."""
    return [(length, len(list(rings))) for length, rings in itertools.groupby(grid.ring_lengths)]


def _ragged_analysis(f: Tensor, grid: SphereGrid, size: int, both: bool) -> list[Tensor]:
    """Analyse rings with their periodic spectrum beyond their length: the exact transpose of the synthesis."""
    runs, signs = _runs(grid), ([], [])
    for (length, number), part in zip(runs, f.split([length * number for length, number in runs], -1)):
        waves = _fft.apply(torch.fft.fft, part.reshape(*part.shape[:-1], number, length))
        for sign in range(1 + both):
            line = torch.cat([waves[..., :1], waves[..., 1:].flip(-1)], -1) if sign else waves
            wrapped = torch.cat([line] * -(-size // length), -1) if length < size else line
            signs[sign].append(wrapped.narrow(-1, 0, size))
    return [torch.cat(lines, -2) for lines in signs if lines]


def _ragged_synthesis(plus: Tensor, minus: Tensor | None, grid: SphereGrid) -> Tensor:
    """Synthesise rings with orders wrapped to their length, which is exact at their points."""
    runs, size = _runs(grid), plus.shape[-1]
    lines, start = [], 0
    for length, number in runs:
        wraps = -(-size // length)
        room = (0, wraps * length - size)
        part = pad(plus.narrow(-2, start, number), room)
        spectrum = part.reshape(*part.shape[:-1], wraps, length).sum(-2)
        if minus is not None:
            part = pad(minus.narrow(-2, start, number)[..., 1:], (1, room[1]))
            back = part.reshape(*part.shape[:-1], wraps, length).sum(-2)
            spectrum = spectrum + torch.cat([back[..., :1], back[..., 1:].flip(-1)], -1)
        line = _fft.apply(torch.fft.ifft, spectrum, norm="forward")
        lines.append(line.reshape(*line.shape[:-2], number * length))
        start += number
    return torch.cat(lines, -1)
