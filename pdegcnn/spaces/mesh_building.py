"""Operators that a mesh computes on first use, in its gauge, for the device and dtype of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from pdegcnn import _checks
from pdegcnn._typing import block_diag, from_numpy, linalg
from pdegcnn.spaces.mesh_arguments import as_count, as_radius, as_spin, each
from pdegcnn.spaces.mesh_operators import Eigenmodes, Interpolation, Neighbours, SparseRows

if TYPE_CHECKING:
    from pdegcnn.spaces.mesh import Mesh

Step = tuple[str, Callable[[], Any]]
"""A name and a computation."""


def interpolation(mesh: Mesh, like: Tensor, factor: float) -> Interpolation:
    """Build :meth:`Mesh.interpolation`."""
    level = mesh.surface.level(factor)
    fine, near, weight, transport = (from_numpy(x) for x in (level.fine, level.coarse, level.weight, level.transport))
    source = from_numpy(level.kept)[near]
    turn = torch.polar(torch.ones_like(mesh.gauge), mesh.gauge)
    transport = (transport * turn[source] * turn[fine].conj()).to(like.device, like.dtype.to_complex())
    return Interpolation(fine.to(like.device), near.to(like.device), weight.to(like), transport)


def neighbours(mesh: Mesh, like: Tensor, radius: float | None) -> Neighbours:
    """Build :meth:`Mesh.neighbours`."""
    device, pairs = like.device, mesh.surface.pairs(radius)
    start, centre, source, reverse_index = (
        from_numpy(x) for x in (pairs.start, pairs.centre, pairs.source, pairs.reverse_index)
    )
    turn = torch.polar(torch.ones_like(mesh.gauge), -mesh.gauge)
    offset = from_numpy(pairs.offset) * turn[centre]
    transport = from_numpy(pairs.transport) * turn[centre] * turn[source].conj()
    offset, transport = (x.to(device, like.dtype.to_complex()) for x in (offset, transport))
    return Neighbours(
        start.to(device), centre.to(device), source.to(device), offset, transport, reverse_index.to(device)
    )


def laplacian(mesh: Mesh, like: Tensor, spin: int) -> tuple[SparseRows, Tensor]:
    """Build :meth:`Mesh.laplacian`."""
    matrix, device = cast(Any, mesh.surface.laplacian(spin)), like.device  # scipy has no stubs
    start, columns = (from_numpy(x.astype(np.int64)) for x in (matrix.indptr, matrix.indices))
    rows = torch.repeat_interleave(torch.arange(mesh.vertex_count, device="cpu"), start.diff())
    phase = torch.polar(
        torch.ones(rows.shape, dtype=torch.float64, device="cpu"), spin * (mesh.gauge[columns] - mesh.gauge[rows])
    )
    values = (from_numpy(matrix.data.astype(np.complex128)) * phase).to(device, like.dtype.to_complex())
    areas = from_numpy(mesh.surface.delaunay_areas()).to(like)
    return SparseRows(start.to(device), columns.to(device), values), areas


def modes(mesh: Mesh, like: Tensor, spin: int, count: int) -> tuple[Eigenmodes, ...]:
    """Build :meth:`Mesh.modes`."""
    turn = torch.polar(torch.ones_like(mesh.gauge), -spin * mesh.gauge)
    found: list[Eigenmodes] = []
    for m in mesh.surface.modes(spin, count):
        place = from_numpy(m.vertices)
        functions = from_numpy(m.functions.astype(np.complex128)) * turn[place, None]
        values = from_numpy(m.values).to(like)
        found.append(Eigenmodes(place.to(like.device), values, functions.to(like.device, like.dtype.to_complex())))
    return tuple(found)


def side_by_side(modes: tuple[Eigenmodes, ...]) -> tuple[Tensor, Tensor]:
    """Return the modes of all components in one matrix; see :meth:`Mesh.eigenbasis`."""
    if len(modes) == 1:
        return modes[0].values, modes[0].functions
    values, order = torch.cat([m.values for m in modes]).sort(stable=True)
    place = torch.cat([m.vertices for m in modes])
    functions = block_diag(*(m.functions for m in modes))[:, order]
    return values, torch.empty_like(functions).index_copy_(0, place, functions)


def frames(mesh: Mesh, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Build :meth:`Mesh.frames_in_space`."""
    t, vertices = mesh.surface.triangulation, mesh.vertices.cpu()
    tail, head = from_numpy(t.tail), from_numpy(t.head)
    edges = vertices[head] - vertices[tail]
    before = -edges[from_numpy(t.previous)]
    sizes = torch.maximum(edges.abs().amax(1), before.abs().amax(1))
    longest = torch.zeros_like(vertices[:, 0]).scatter_reduce_(0, tail, sizes, "amax")
    scale = longest[tail, None]  # so that products neither vanish nor overflow, whatever the unit of the positions
    normal = linalg.cross(edges / scale, before / scale)  # as long as the area of the face
    normals = _of_length_one(torch.zeros_like(vertices).index_add_(0, tail, normal))
    edge = edges[from_numpy(mesh.surface.frames.first)] / longest[:, None]
    x = _of_length_one(edge - (edge * normals).sum(1, keepdim=True) * normals)
    y = linalg.cross(normals, x)
    c, s = torch.cos(mesh.gauge)[:, None], torch.sin(mesh.gauge)[:, None]
    return (c * x + s * y).to(like), (c * y - s * x).to(like), normals.to(like)


def _of_length_one(vectors: Tensor) -> Tensor:
    """Divide vectors ``[V,3]`` by their lengths, however short they are; zero stays zero."""
    largest = vectors.abs().amax(1, keepdim=True)
    return torch.nn.functional.normalize(vectors / largest.clamp_min(torch.finfo(vectors.dtype).tiny), dim=1)


def steps(mesh: Mesh, radii: object, spins: object, bases: object, factors: object) -> list[Step]:
    """Return what :meth:`Mesh.prepare` computes, with a name for each."""
    surface = mesh.surface
    found: list[Step] = []
    for radius in map(as_radius, each("radii", radii)):
        name = "edges" if radius is None else f"ball of {radius} units"
        found.append((name, lambda r=radius: surface.pairs(r)))
    for spin in map(as_spin, each("spins", spins)):
        found.append((f"Laplacian of spin {spin}", lambda k=spin: surface.laplacian(k)))
    chosen: Mapping[int, int] = _checks.kind("bases", bases, Mapping, "a mapping by spin")
    for spin, number in chosen.items():
        spin, count = as_spin(spin), as_count(number)
        found.append((f"{count} eigenfunctions", lambda k=spin, n=count: surface.modes(k, n)))
    return found + [(f"coarser by {f}", lambda f=f: mesh.coarsen(f)) for f in each("factors", factors)]


def with_bar(steps: list[Step]) -> Iterator[Step]:
    """Take the steps one by one, with a bar that names them if ``tqdm`` is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield from steps
        return
    with tqdm(steps) as bar:
        for step in bar:
            bar.set_description(step[0])
            yield step
