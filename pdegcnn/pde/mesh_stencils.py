"""Stencils of a mesh: equivariant filters between spins, and Laplacians scaled to be symmetric."""

from __future__ import annotations

import torch
from torch import Tensor

from pdegcnn._typing import from_numpy
from pdegcnn.ops.transport_gather import Stencil
from pdegcnn.spaces import Mesh
from pdegcnn.surface.close_order import close_order


def intertwiner_count(source: int, target: int) -> int:
    """Return the number of kinds of equivariant maps between spins: by the field, by its conjugate if that differs."""
    return 2 if source > 0 and target > 0 else 1


def radial_profiles(distance: Tensor, radius: float | None, radial: int) -> Tensor:
    """Return functions of the distance ``[E,R]``: constant for one, else Gaussians with centres up to the radius."""
    if radial == 1:
        return torch.ones_like(distance)[:, None]
    low, high = (0.5, 1.5) if radius is None else (radius / (2 * radial), radius * (1 - 1 / (2 * radial)))
    centres = torch.linspace(low, high, radial, dtype=distance.dtype, device=distance.device)
    width = (high - low) / (radial - 1)
    return torch.exp(-(((distance[:, None] - centres) / width) ** 2))


def filter_stencil(mesh: Mesh, source: int, target: int, radius: float | None, radial: int, like: Tensor) -> Stencil:
    """Return factors ``R(r) e^(i (n-m) theta) rho^m`` and, for the conjugate field, ``R(r) e^(i (n+m) theta) rho^-m``.

    A neighbour counts by its share in the area of all neighbours; the vertex itself does not. Kinds are ordered (field
    or conjugate, radial profile). Source: gauge equivariant mesh CNNs (arXiv 2003.05425), the kernel constraint of
    SO(2).
    """

    return mesh.cached(_filter_stencil, like, source, target, radius, radial)


def _filter_stencil(mesh: Mesh, like: Tensor, source: int, target: int, radius: float | None, radial: int) -> Stencil:
    pairs = mesh.neighbours(radius, like.double())
    distance = pairs.offset.abs()
    areas = mesh.areas.to(like.device)[pairs.source] * (distance > 0)
    total = torch.zeros(mesh.vertex_count, dtype=areas.dtype, device=like.device).index_add_(0, pairs.centre, areas)
    share = areas / total[pairs.centre]
    direction = torch.where(distance > 0, pairs.offset / distance.clamp_min(1e-300), 0)
    profiles = radial_profiles(distance, radius, radial) * share[:, None]
    waves = [direction ** (target - source) * pairs.transport**source]
    if intertwiner_count(source, target) == 2:
        waves.append(direction ** (target + source) * pairs.transport.conj() ** source)
    factors = torch.cat([profiles * wave[:, None] for wave in waves], dim=1)
    factors = torch.where(distance[:, None] > 0, factors, 0)
    values, back = (torch.view_as_real(x.resolve_conj()) for x in (factors, factors[pairs.reverse_index].conj()))
    return Stencil(pairs.start, pairs.source, values.to(like), back.to(like))


def laplacian_stencil(mesh: Mesh, spin: int, like: Tensor) -> tuple[Stencil, Tensor]:
    """Return ``M^-1/2 L_k M^-1/2`` as a stencil, and the square roots of the vertex areas ``[V]``."""

    return mesh.cached(_laplacian_stencil, like, spin)


def _laplacian_stencil(mesh: Mesh, like: Tensor, spin: int) -> tuple[Stencil, Tensor]:
    matrix, areas = mesh.laplacian(spin, like)
    root = areas.sqrt()
    rows = torch.repeat_interleave(torch.arange(root.numel(), device=like.device), matrix.start.diff())
    values = torch.view_as_real(matrix.values / (root[rows] * root[matrix.columns]))[:, None].contiguous()
    return Stencil(matrix.start, matrix.columns, values, values), root


def ordered_laplacian(mesh: Mesh, spin: int, like: Tensor) -> tuple[Stencil, Tensor, Tensor]:
    """Return the same with the vertices in an order in which neighbours are close, and that order ``[V]``.

    Solvers that sweep over the vertices need fewer sweeps then. Every mesh of a union keeps its place in it. Source:
    reverse Cuthill-McKee.
    """
    return mesh.cached(_ordered_laplacian, like, spin)


def _ordered_laplacian(mesh: Mesh, like: Tensor, spin: int) -> tuple[Stencil, Tensor, Tensor]:
    stencil, root = laplacian_stencil(mesh, spin, like)
    lists = stencil.start.cpu().numpy(), stencil.columns.cpu().numpy()
    order = from_numpy(close_order(*lists, mesh.sizes)).to(like.device)
    count, place = root.numel(), order.argsort()
    rows = place.repeat_interleave(stencil.start.diff())
    pairs = (rows * count + place[stencil.columns]).argsort()
    start = torch.cat((stencil.start[:1], stencil.start.diff()[order].cumsum(0)))
    columns = place[stencil.columns[pairs]]
    return Stencil(start, columns, stencil.values[pairs], stencil.back[pairs]), root[order], order
