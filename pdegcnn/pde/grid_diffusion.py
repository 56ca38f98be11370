"""Kernels of diffusion on grids: positive, symmetric, and conserving mass."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn.kernels.diffusion import density, mass_of_cell, profile
from pdegcnn.kernels.distance import DISTANCES
from pdegcnn.kernels.heat import HeatTaps, heat_mass
from pdegcnn.kernels.metric import Metric, cell_of
from pdegcnn.pde.grid_lattice import all_quarters
from pdegcnn.pde.solver import Alpha
from pdegcnn.spaces import GridSpace

SINKHORN_STEPS = 30
"""Each halves the remaining imbalance between orientations, a percent at first."""


def heat_kernel(space: GridSpace, metric: Metric, taps: HeatTaps, alpha: Alpha, time: float) -> Tensor:
    """Turned kernel of :mod:`pdegcnn.kernels.heat`, ``[C,Or,KO,KH,KW]``: its mass in the cell of each tap."""
    mass, middle = heat_mass(metric, taps, _sides(metric, taps.cell), alpha, time)
    return _conserving(space, mass.view(-1, *taps.places.shape[:5]).sum(1).transpose(1, 2), middle)


def diffusion_kernel(
    space: GridSpace, metric: Metric, taps: Tensor, alpha: Alpha, time: float, distance: str
) -> Tensor:
    """Return the turned kernel of a distance, ``[C,Or,KO,KH,KW]``: its mass in the cell of each tap.

    ``taps [paths,points,Or,KO,KH,KW,dim]`` are coordinates of :func:`pdegcnn.pde.grid_lattice.cells`, a few in each
    cell. The cell of the centre, where the kernel of a small power has its peak, is integrated in closed form.
    """
    squared = DISTANCES[distance].squared(space, metric, taps)
    spacing = space.grid_spacing.to(squared)
    sides = _sides(metric, spacing)
    volume = (2 * sides).prod(-1)
    mass = density(squared, alpha, space.dim, time).mean(2).sum(1) * volume[:, None, None, None, None]
    return _conserving(space, mass, mass_of_cell(sides, alpha, time))


def _sides(metric: Metric, spacing: Tensor) -> Tensor:
    """Half the sides ``[C,dim]`` of a cell in the metric's units, scaled to its volume where the metric leans."""
    widths, volume = cell_of(metric)
    sides = spacing * widths / 2
    return sides * (volume * spacing.prod() / (2 * sides).prod(-1))[:, None] ** (1 / len(spacing))


def _conserving(space: GridSpace, mass: Tensor, middle: Tensor) -> Tensor:
    """Return the kernel of masses and that of the centre: all orientations give and take the same, at most one."""
    ko, kh, kw = sizes = mass.shape[2], mass.shape[3], mass.shape[4]
    centre = torch.zeros(sizes, dtype=torch.bool, device=mass.device)
    centre[ko // 2, kh // 2, kw // 2] = True
    mass = torch.where(centre, middle[:, None, None, None, None], mass)
    # a kernel too wide to have any mass in the window is flat
    mass = (mass + torch.finfo(mass.dtype).tiny ** 0.5) * space.tap_weights(sizes, mass)
    mass = all_quarters(space, mass)
    there = _orientation_of_taps(space, mass)
    # the mean of the kernel and of the one that goes from the taps to the centre
    mass = (mass + mass.flip(2, 3, 4)[:, there, torch.arange(ko, device=mass.device)]) / 2
    total = mass.sum((-3, -2, -1)).mean(1).clamp_max(1.0)
    return _balanced(mass, there) * total[:, None, None, None, None]


def sampled_diffusion_kernel(
    space: GridSpace, metric: Metric, taps: Tensor, alpha: Alpha, time: float, distance: str
) -> Tensor:
    """Return the kernel at the taps of :meth:`GridSpace.taps` alone, scaled to mass one, ``[C,Or,KO,KH,KW]``."""
    squared, sizes = DISTANCES[distance].squared(space, metric, taps), (taps.shape[1], taps.shape[2], taps.shape[3])
    kernel = profile(squared, alpha, space.dim, time) * space.tap_weights(sizes, squared)
    return _balanced(kernel, _orientation_of_taps(space, kernel))


def _orientation_of_taps(space: GridSpace, kernel: Tensor) -> Tensor:
    """Return the index of each tap's orientation ``[Or,KO]``."""
    steps = torch.arange(kernel.shape[2], device=kernel.device) - kernel.shape[2] // 2
    return (torch.arange(space.orientations, device=kernel.device)[:, None] + steps) % space.orientations


def _balanced(kernel: Tensor, there: Tensor) -> Tensor:
    """Scale a kernel so that it is a mean for each orientation, and conserves mass; taps are ``there [Or,KO]``.

    Turned samples of one function have different sums, so dividing by them would leak mass between orientations. The
    kernel is symmetric, and symmetric scaling by one factor per orientation (Sinkhorn & Knopp, 1967) gives both laws.
    """
    between = kernel.sum((-2, -1))  # [C,Or,KO]
    scale = between.sum(-1).rsqrt()
    for _ in range(SINKHORN_STEPS):
        scale = (scale / (between * scale[:, there]).sum(-1)).sqrt()
    kernel = kernel * (scale[:, :, None] * scale[:, there])[..., None, None]
    return kernel / kernel.sum((-3, -2, -1), keepdim=True)
