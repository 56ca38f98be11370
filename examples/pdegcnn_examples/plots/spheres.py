"""Drawing signals on the sphere: orthographic views and rotations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

import pdegcnn as pg


def random_rotations(count: int, seed: int) -> Tensor:
    """Rotations uniform on SO(3), ``[count,3,3]``, float64."""
    normal = np.random.default_rng(seed).normal(size=(count, 4))
    return torch.from_numpy(Rotation.from_quat(normal).as_matrix())


def view_from(theta: float, phi: float) -> np.ndarray:
    """The view ``[3,3]`` (rows: right, up, towards the viewer) from colatitude and longitude in radians, north up."""
    front = np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    up = np.array([-np.cos(theta) * np.cos(phi), -np.cos(theta) * np.sin(phi), np.sin(theta)])
    return np.stack((np.cross(up, front), up, front))


def refine(signal: Tensor, grid: pg.sphere.SphereGrid, rings: int = 90) -> tuple[Tensor, pg.sphere.SphereGrid]:
    """A band-limited signal [..., nlat, nlon] between its samples, and the finer grid it is on."""
    fine = pg.sphere.SphereGrid.gauss_legendre(rings)
    kind: dict[str, Any] = {"lmax": grid.band, "dtype": signal.dtype}
    return pg.sphere.InverseRealSHT(fine, **kind)(pg.sphere.RealSHT(grid, **kind)(signal)), fine


def sample(signal: Tensor, grid: pg.sphere.SphereGrid, points: np.ndarray, order: int = 1) -> np.ndarray:
    """Values at unit vectors [..., 3] of a signal [nlat, nlon], linear in the angles (``order=1``) or nearest (0)."""
    values = np.pad(signal.detach().double().numpy(), ((0, 0), (0, 1)), "wrap")
    row = np.interp(np.arccos(np.clip(points[..., 2], -1, 1)), grid.theta, np.arange(len(grid.theta)))
    column = np.arctan2(points[..., 1], points[..., 0]) % (2 * np.pi) * grid.nlon / (2 * np.pi)
    return ndimage.map_coordinates(values, (row, column), order=order, mode="nearest")


def disc(view: np.ndarray, pixels: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Points [pixels,pixels,3] that a far viewer sees on the unit sphere, and where there are any."""
    side = np.linspace(-1.02, 1.02, pixels)
    x, y = np.meshgrid(side, -side)
    seen = x**2 + y**2 <= 1
    z = np.sqrt(np.where(seen, 1 - x**2 - y**2, 0.0))
    return np.stack((x, y, z), -1) @ view, seen


def draw_sphere(
    axis: Axes, signal: Tensor, grid: pg.sphere.SphereGrid, view: np.ndarray, *, order: int = 1, **options: Any
) -> Any:
    """Draw a signal [nlat, nlon] as seen by ``view``; ``options`` are those of ``imshow``. Returns the image."""
    points, seen = disc(view)
    values = np.ma.masked_where(~seen, sample(signal, grid, points, order))
    image = axis.imshow(
        values, extent=(-1.02, 1.02, -1.02, 1.02), interpolation="bilinear" if order else None, **options
    )
    around = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(around), np.sin(around), color="0.3", linewidth=0.7)
    bare(axis)
    return image


def bare(axis: Axes) -> None:
    """No ticks and no frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)
