"""Features of spin 0 that a mesh has by itself: curvatures and heat-kernel signatures.

They do not change when a mesh is moved or its vertices are renumbered, so unlike positions they suit a network's
input. Lengths are in units of the mesh: with ``unit=None`` (the mean edge) nothing depends on the scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import Device, DType, from_numpy
from pdegcnn.gauge.features import check_mesh
from pdegcnn.spaces import Mesh

REACH = 4 * math.log(10)
"""Times of the signature run from this over the greatest eigenvalue to this over the least, as in its source."""
ZERO = 1e-8
"""Eigenvalues below this share of the greatest are those of constants."""


def gaussian_curvature(mesh: Mesh, *, device: Device = None, dtype: DType = None) -> Tensor:
    r"""Return the Gaussian curvature at each vertex, ``[1,1,V]``: its angle defect divided by its area.

    The unit is ``1 / unit ** 2``: a sphere of radius R units has ``1 / R ** 2``. Its sum times ``mesh.areas`` over a
    closed surface is :math:`2 \pi` times the Euler characteristic (Gauss-Bonnet, exact). Only edge lengths are used. At
    the boundary it is zero. The area of a vertex is a third of the faces around it. Isolated vertices of five or seven
    neighbours therefore read about 15 % too much or too little, on meshes of any resolution.

    Source: Meyer, Desbrun, Schroeder & Barr, *Discrete differential-geometry operators* (2003).

    Args:
        mesh: the surface.
        device: of the result.
        dtype: of the result, floating; None: torch's default.

    Raises:
        TypeError: if ``mesh`` is not a mesh, or ``dtype`` not floating.
    """
    dtype, t = _floating(dtype), check_mesh(mesh).surface.triangulation
    around = torch.zeros(mesh.vertex_count, dtype=torch.float64, device="cpu")
    around.index_add_(0, from_numpy(t.tail), from_numpy(t.corners.ravel()))
    curvature = (2 * math.pi - around) / mesh.areas.cpu()
    return _inside(mesh, curvature, device, dtype)


def mean_curvature(mesh: Mesh, *, device: Device = None, dtype: DType = None) -> Tensor:
    """Return the mean curvature at each vertex, ``[1,1,V]``: half the Laplacian of the positions along the normal.

    The unit is ``1 / unit``; values are positive where the surface is convex seen from outside: a sphere of radius R
    units has ``1 / R``. At the boundary it is zero. Source: as for :func:`gaussian_curvature`.

    Args:
        mesh: a surface in space.
        device: of the result.
        dtype: of the result, floating; None: torch's default.

    Raises:
        TypeError: if ``mesh`` is not a mesh, or ``dtype`` not floating.
        ValueError: if the mesh is given by its edge lengths, without positions.
    """
    dtype = _floating(dtype)
    matrix, areas = check_mesh(mesh).laplacian(0, torch.empty(0, dtype=torch.float64, device="cpu"))
    positions = mesh.vertices.cpu() / _units(mesh)
    rows = torch.repeat_interleave(torch.arange(mesh.vertex_count, device="cpu"), matrix.start.diff())
    weighted = matrix.values.real[:, None] * positions[matrix.columns]
    bend = torch.zeros_like(positions).index_add_(0, rows, weighted)
    normal = mesh.frames_in_space()[2].cpu()
    return _inside(mesh, (bend * normal).sum(1) / (2 * areas), device, dtype)


def heat_kernel_signature(
    mesh: Mesh,
    times: int | Sequence[float] = 16,
    *,
    modes: int = 64,
    device: Device = None,
    dtype: DType = None,
) -> Tensor:
    """Return the share of a unit of heat at each vertex that remains there after each time, ``[1,T,V]``.

    Small times describe the curvature nearby, large ones the whole shape. Values are divided by their mean over the
    surface, so they are about one, without unit. Only edge lengths are used. Connected components are treated
    separately. Source: Sun, Ovsjanikov & Guibas, *A concise and provably informative multi-scale signature* (2009).

    Args:
        mesh: the surface.
        times: number of times, evenly spaced on a logarithmic scale from ``4 log(10)`` over the greatest eigenvalue to
            ``4 log(10)`` over the least positive one of each component, so that the result does not depend on its size;
            or the times themselves, in square units.
        modes: number of eigenfunctions of the Laplacian; the mesh keeps them (``mesh.prepare(bases={0: modes})``).
        device: of the result.
        dtype: of the result, floating; None: torch's default.

    Raises:
        TypeError: if ``mesh`` is not a mesh, ``times`` or ``modes`` is not a number, or ``dtype`` not floating.
        ValueError: if a number or a time is not positive.
    """
    dtype, wanted = _floating(dtype), _plain(times)
    check_mesh(mesh)
    given = None if isinstance(wanted, int) and not isinstance(wanted, bool) else _times(wanted)
    count = _checks.positive_int("times", wanted) if given is None else len(given)
    pieces = mesh.modes(0, _checks.positive_int("modes", modes), torch.empty(0, dtype=torch.float64, device="cpu"))
    found = torch.ones(count, mesh.vertex_count, dtype=torch.float64, device="cpu")
    for vertices, values, functions in pieces:
        positive = values[values > ZERO * values[-1]]
        if not len(positive):  # a component with the constant eigenfunction only
            continue
        t = given
        if t is None:
            first, last = math.log(REACH / float(positive[-1])), math.log(REACH / float(positive[0]))
            t = torch.linspace(first, last, count, dtype=torch.float64, device="cpu").exp()
        decay = torch.exp(-t[:, None] * values)  # [T,K]
        kept = decay @ functions.real.square().mT
        area = 1 / functions[:, 0].real.square().mean()  # of the constant one
        found[:, vertices] = kept * area / decay.sum(1, keepdim=True)
    return found.to(device=device, dtype=dtype)[None]


def _floating(dtype: DType) -> torch.dtype:
    """Return the type of the result, or raise for whole and complex numbers."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"dtype: expected a floating-point dtype or None, got {dtype}")
    return dtype


def _plain(times: object) -> object:
    """Return numbers of NumPy and tensors of one axis as Python's."""
    if isinstance(times, (Tensor, np.ndarray)) and times.ndim == 1:
        return list(cast("Sequence[object]", times))
    return _checks.plain(times)


def _times(times: object) -> Tensor:
    """Return times as a tensor."""
    if not isinstance(times, (tuple, list)) or not times:
        raise TypeError(f"times: expected a positive int or a sequence of positive numbers, got {times!r}")
    given = cast("Sequence[object]", times)
    found = [_checks.plain_number("times", t, 0.0, math.inf, open_low=True) for t in given]
    return torch.tensor(found, dtype=torch.float64, device="cpu")


def _units(mesh: Mesh) -> Tensor:
    """Return the unit of length at each vertex, ``[V,1]``: that of its part of a union."""
    units = [
        torch.full((size, 1), part.unit, dtype=torch.float64, device="cpu")
        for size, part in zip(mesh.sizes, mesh.surface.parts)
    ]
    return torch.cat(units)


def _inside(mesh: Mesh, curvature: Tensor, device: Device, dtype: torch.dtype) -> Tensor:
    """Return a curvature, zero at the boundary."""
    boundary = from_numpy(mesh.surface.triangulation.on_boundary)
    inner = torch.where(boundary, 0.0, curvature)
    return inner.to(device=device, dtype=dtype)[None, None]
