"""Filters for lifting an image to orientations: trainable rotated bases, and cake wavelets.

A basis is a fixed tensor ``[Or, N, K, K]``: basis function n turned to each orientation and sampled on the pixel grid.
To add a basis, write a function and enter it in ``BASES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pdegcnn import _transforms
from pdegcnn._typing import fft, linalg
from pdegcnn.spaces import PlanarSpace
from pdegcnn.spaces.grid import rotation


def _rotated_grid(space: PlanarSpace, size: int) -> Tensor:
    """Return the pixel positions seen from each orientation's frame, ``[Or,K,K,2]``, float64."""
    image = space.offsets((1, size, size), torch.empty((), device="cpu"))[1]
    return rotation(-space.angles[:, None, None], image)


def _quadratic_spline(x: Tensor) -> Tensor:
    """Return the cardinal B-spline of order two."""
    x = x.abs()
    return torch.where(x < 0.5, 0.75 - x**2, torch.where(x < 1.5, (1.5 - x) ** 2 / 2, torch.zeros_like(x)))


def bspline(space: PlanarSpace, size: int) -> Tensor:
    """Return the quadratic B-splines on the pixels of the disk of diameter ``size``; as many functions as pixels in it.

    Source: Bekkers, *B-spline CNNs on Lie groups* (ICLR 2020).
    """
    grid = _rotated_grid(space, size)
    nodes = space.offsets((1, size, size), torch.empty((), device="cpu"))[1].reshape(-1, 2)
    nodes = nodes[linalg.vector_norm(nodes, dim=-1) <= size / 2]
    spline = _quadratic_spline(grid[:, None] - nodes[:, None, None]).prod(-1)
    return spline * _taper(linalg.vector_norm(grid, dim=-1), size)[:, None]


def steerable(space: PlanarSpace, size: int) -> Tensor:
    """Return Gaussian rings times circular harmonics, band-limited by the ring's circumference.

    These filters turn smoothly.

    Source: Weiler, Hamprecht & Storath, *Learning steerable filters* (CVPR 2018).
    """
    grid = _rotated_grid(space, size)
    radius, phi = linalg.vector_norm(grid, dim=-1), torch.atan2(grid[..., 1], grid[..., 0])
    window = _taper(radius, size)
    functions: list[Tensor] = []
    for ring in range(size // 2 + 1):
        # the outermost ring sits half a pixel inside, because the grid ends there
        centre = ring - 0.5 if ring and ring == size // 2 else float(ring)
        profile = torch.exp(-((radius - centre) ** 2) / (2 * 0.6**2)) * window
        functions.append(profile)
        for m in range(1, min(ring + 1, 4) + 1 if ring else 1):
            # the power of the radius removes the kink that a harmonic has at the origin
            smooth = profile * (radius / max(centre, 1.0)).clamp(max=1.0) ** m
            waves = torch.stack((smooth * torch.cos(m * phi), smooth * torch.sin(m * phi)), dim=1)
            functions += _without_moments(waves, grid, window, m).unbind(1)
    return torch.stack(functions, dim=1)


def smooth(space: PlanarSpace, size: int) -> Tensor:
    """Return ``r^n exp(-r^2 / 2 s^2)`` times circular harmonics of order n: what pixels and orientations both carry.

    A quarter of the pixels' band is left when the filter is turned, and orders stop at half of what the orientations
    resolve: a maximum makes higher ones. Gaussian derivatives up to that order are sums of these, as in Freeman &
    Adelson, *The design and use of steerable filters* (IEEE PAMI 13, 1991).
    """
    grid = _rotated_grid(space, size)
    radius, phi = torch.hypot(grid[..., 0], grid[..., 1]), torch.atan2(grid[..., 1], grid[..., 0])
    scale = SMOOTH * max(size // 2, 1)
    window, functions = torch.exp(-((radius / scale) ** 2) / 2), list[Tensor]()
    for n in range(smooth_orders(space) + 1):
        ring = (radius / scale) ** n * window
        functions += [ring * torch.cos(n * phi)] + ([ring * torch.sin(n * phi)] if n else [])
    return torch.stack(functions, dim=1)


def smooth_orders(space: PlanarSpace) -> int:
    """Return the highest angular order of smooth filters."""
    if not space.has_orientations:
        return 2
    return min(max(1, space.orientations // 4), (space.orientations - 1) // 2)


def _without_moments(functions: Tensor, grid: Tensor, window: Tensor, degree: int) -> Tensor:
    """Make sampled functions ``[Or,N,K,K]`` blind to polynomials of lower degree, as a harmonic of that order is.

    Sampling breaks this: a fourth harmonic on pixels sees the mean of the image, with opposite signs at 0 and 45
    degrees.
    """
    x, y = grid.unbind(-1)
    powers = torch.stack([x**i * y ** (d - i) for d in range(degree) for i in range(d + 1)], dim=1).flatten(2)
    weighted = powers * window.flatten(1)[:, None]
    moments = functions.flatten(2) @ powers.mT
    correction = linalg.solve(weighted @ powers.mT, moments, left=False) @ weighted
    return functions - torch.unflatten(correction, 2, functions.shape[2:])


def _taper(radius: Tensor, size: int) -> Tensor:
    """Return one inside the disk of diameter ``size``, falling smoothly to zero over its last 1.25 pixels.

    A sharp edge would cut different pixels at different orientations, which is most of the error of a turned filter.
    """
    return torch.cos(((radius - size / 2) / 1.25 + 1).clamp(0, 1) * (math.pi / 2)) ** 2


SMOOTH = 0.325
"""Standard deviation of smooth filters over half their width: 1.3 pixels in 9, beyond which they are under 1 %."""
BASES: dict[str, Callable[[PlanarSpace, int], Tensor]] = {"steerable": steerable, "bspline": bspline, "smooth": smooth}


def lifting_basis(space: PlanarSpace, size: int, basis: str) -> Tensor:
    """Return the chosen basis, each function of unit mean energy over orientations: ``[Or,N,K,K]`` float64."""
    functions = BASES[basis](space, size)
    energy = (functions**2).sum((-2, -1), keepdim=True).mean(0, keepdim=True)
    return functions / energy.sqrt()


@_transforms.constants()
def cake_windows(orientations: int, height: int, width: int) -> Tensor:
    """Return cake wavelets in the Fourier domain, ``[Or,H,W]`` float64 in fft order: wedges that sum to one everywhere.

    Wedge i is a quadratic B-spline in the polar angle around the angle of orientation i; towards the origin, where
    angles lose their meaning, all wedges merge into equal shares. Mirror images of a signless Nyquist frequency share
    alike.
    Source: Duits et al., *Invertible orientation scores* (2007), as in Bekkers et al. (2014).
    """
    y = fft.fftfreq(height, dtype=torch.float64, device="cpu")
    x = fft.fftfreq(width, dtype=torch.float64, device="cpu")
    signs_x = (1, -1) if width % 2 == 0 else (1,)
    signs_y = (1, -1) if height % 2 == 0 else (1,)
    total = torch.zeros(orientations, height, width, dtype=torch.float64, device="cpu")
    for sx in signs_x:
        for sy in signs_y:
            fx, fy = x.clone(), y.clone()
            if width % 2 == 0:
                fx[width // 2] *= sx
            if height % 2 == 0:
                fy[height // 2] *= sy
            total += _wedges(orientations, fx[None, :], fy[:, None])
    return total / (len(signs_x) * len(signs_y))


def _wedges(orientations: int, x: Tensor, y: Tensor) -> Tensor:
    phi = torch.atan2(y + 0 * x, x + 0 * y)
    step = 2 * math.pi / orientations
    centre = torch.arange(orientations, dtype=torch.float64, device=x.device)[:, None, None] * step
    away = torch.remainder(phi - centre + math.pi, 2 * math.pi) - math.pi
    wedge = _quadratic_spline(away / step)
    if orientations == 2:  # the spline is wider than the circle: count the far side too
        wedge = wedge + _quadratic_spline((2 * math.pi - away.abs()) / step)
    wedge = wedge / wedge.sum(0, keepdim=True)
    radius = torch.hypot(x + 0 * y, y + 0 * x)
    merge = torch.exp(-((radius * max(x.numel(), y.numel())) ** 2) / 2)
    return (1 - merge) * wedge + merge / orientations
