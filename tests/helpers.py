"""Signals and motions that many tests draw."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

import pdegcnn as pg
from pdegcnn.ops import backend as registry
from pdegcnn.spaces import GridSpace, PlanarSpace, RotationSpace

GRID_CASES = [pg.R2(), pg.SE2(8), pg.SE2(5), pg.SE2(1), pg.R3((1.5, 1.0, 0.8))]
"""Spaces on a regular grid."""
SPHERE_CASES = [
    pg.S2(pg.sphere.SphereGrid.gauss_legendre(8)),
    pg.SO3(pg.sphere.SphereGrid.gauss_legendre(6), orientations=5),
    pg.SO3(pg.sphere.SphereGrid.equiangular(4), orientations=8),
]
"""Spaces moved by rotations."""


def bumpy_sphere(subdivisions: int = 2, **options) -> pg.Mesh:
    """A closed surface without symmetry: a sphere with waves."""
    vertices, faces = pg.surface.icosphere(subdivisions)
    x, y, z = vertices.T
    radius = 1 + 0.2 * np.sin(3 * x + 1) * np.cos(2 * y) + 0.1 * z
    return pg.Mesh.from_arrays(vertices * radius[:, None], faces, **options)


def sheet(rows: int, columns: int, step: float = 1.0, **options) -> pg.Mesh:
    """A flat square grid in space, with boundary; vertex ``r columns + c`` at ``(c, r, 0) step``, seen from -z."""
    r, c = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    here = (r * columns + c)[:-1, :-1].ravel()
    a, b, d, e = here, here + 1, here + columns, here + columns + 1
    faces = np.concatenate((np.stack((a, b, e), 1), np.stack((a, e, d), 1)))
    vertices = np.stack((c.ravel(), r.ravel(), 0 * r.ravel()), 1) * step
    return pg.Mesh.from_arrays(vertices.astype(float), faces, **options)


def torus(rows: int, columns: int, orientations: int = 8, step: float = 1.0, unit: float = 1.0) -> pg.Mesh:
    """The periodic grid whose mesh layers are those of SE(2) in pixels."""
    return pg.Mesh.from_lengths(*pg.surface.flat_torus(rows, columns, step), orientations=orientations, unit=unit)


TETRAHEDRON = (
    np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)
"""Vertices and faces."""


def pieces(count: int, part: tuple[np.ndarray, np.ndarray] = TETRAHEDRON, **options) -> pg.Mesh:
    """One mesh of several surfaces side by side, whose vertices are numbered across them."""
    vertices = np.concatenate([part[0] + [3.0 * i, 0, 0] for i in range(count)])
    faces = np.concatenate([part[1] + len(part[0]) * i for i in range(count)])
    order = np.random.default_rng(0).permutation(len(vertices))
    return pg.Mesh.from_arrays(vertices[order], np.argsort(order)[faces], **options)


MESH_CASES = [bumpy_sphere(1, orientations=8), sheet(4, 5, orientations=5)]
"""Small closed and open surfaces."""
SPACE_CASES = [*GRID_CASES, *SPHERE_CASES, *MESH_CASES]
"""At least one of every listed space."""

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def backend_cases(operator: str) -> list[tuple[str, str]]:
    """Every backend of an operator with every device it runs on here."""
    return [(name, device) for device in DEVICES for name in registry.available(operator, device)]


def signal(space: GridSpace, size: tuple[int, int] = (9, 9), channels: int = 2, batch: int = 1, **kind) -> Tensor:
    """White noise on a space; volumes have five slices."""
    kind.setdefault("dtype", torch.float64)
    first = space.orientations if space.is_periodic else 5
    return space.from_grid(torch.randn(batch, channels, first, *size, **kind))


def spherical(space: RotationSpace, channels: int = 2, batch: int = 1, band: float = 1e9, **kind) -> Tensor:
    """Band-limited noise on S2 or SO(3), whose degrees fade beyond ``band``."""
    kind.setdefault("dtype", torch.float64)
    fibre = (space.orientations,) if isinstance(space, pg.SO3) else ()
    noise = torch.randn(batch, channels, *fibre, *space.grid.shape, **kind)
    if isinstance(space, pg.SO3):
        analysis = pg.sphere.SO3FFT(space.grid, space.orientations, **kind)
        synthesis = pg.sphere.InverseSO3FFT(space.grid, space.orientations, **kind)
    else:
        analysis, synthesis = pg.sphere.RealSHT(space.grid, **kind), pg.sphere.InverseRealSHT(space.grid, **kind)
    degree = torch.arange(analysis.lmax + 1, dtype=kind["dtype"])
    fade = torch.exp(-((degree / band) ** 2)).view(-1, *(1,) * (2 if fibre else 1))
    u = synthesis(analysis(noise) * fade)
    return u / u.std()


def random_rotation(**kind) -> Tensor:
    """A rotation matrix drawn from the invariant measure."""
    kind.setdefault("dtype", torch.float64)
    q = torch.randn(4, **kind)
    return SPHERE_CASES[0].to_matrix(q / q.norm())


def smooth(size: int, wavelength: float, channels: int = 1, batch: int = 1) -> Tensor:
    """Band-limited noise of unit variance whose wavelengths are about ``wavelength`` pixels, fading at the border."""
    k = torch.fft.fftfreq(size, dtype=torch.float64) * wavelength
    noise = torch.fft.fft2(torch.randn(batch, channels, size, size, dtype=torch.float64))
    x = torch.fft.ifft2(noise * torch.exp(-2 * (k[:, None] ** 2 + k**2))).real
    line = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    window = torch.sin(math.pi * line)
    return x / x.std() * window[:, None] * window


def bump(space: PlanarSpace, size: int, width: float) -> Tensor:
    """A Gaussian at the image centre, over all orientations with one preferred, ``[1,1,...]``, float64."""
    line = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    image = torch.exp(-(line[:, None] ** 2 + line**2) / (2 * width**2))
    fibre = torch.exp(torch.cos(space.angles) - 1)
    return space.from_grid((fibre[:, None, None] * image)[None, None])


def weights(space: GridSpace, channels: int = 2, low: float = 0.5, high: float = 1.5) -> Tensor:
    """Random valid weights of a diagonal metric."""
    return low + (high - low) * torch.rand(channels, space.dim, dtype=torch.float64)


def spd(space: GridSpace, channels: int = 2) -> Tensor:
    """Random well-conditioned matrices of a full metric."""
    lower = torch.randn(channels, space.dim, space.dim, dtype=torch.float64).tril() * 0.3
    return lower @ lower.mT + torch.eye(space.dim, dtype=torch.float64)
