"""A call of every operator: inputs on any device in any precision, at a size for a GPU or for a rehearsal."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import pdegcnn as pg
from pdegcnn.ops import backend as registry


class Call(NamedTuple):
    """``function(*leaves)`` with gradients in the leaves."""

    function: Callable[..., Any]
    leaves: tuple[Tensor, ...]


class Sizes(NamedTuple):
    """Shapes of the inputs."""

    signal: tuple[int, ...]
    kernel: tuple[int, int, int]
    rings: int
    subdivisions: int


FULL = Sizes((4, 16, 8, 64, 64), (5, 5, 5), 64, 4)
SMALL = Sizes((2, 3, 4, 13, 18), (3, 5, 5), 8, 2)
TINY = Sizes((1, 1, 2, 3, 4), (1, 3, 3), 2, 0)


def rounded(x: Tensor) -> Tensor:
    """Quarters, which every precision holds: winners are then the same in all."""
    return x.mul(4).round().div(4)


def prepare(name: str, sizes: Sizes, device: str, dtype: torch.dtype, backend: str) -> list[tuple[str, Call]]:
    """Calls of the operator ``name``, each with what it stands for.

    Args:
        name: one of ``pdegcnn.ops.backend.OPERATORS``.
        sizes: shapes of the inputs.
        device: "cpu" or "cuda".
        dtype: precision of signals.
        backend: which version runs.
    """
    torch.manual_seed(0)
    maker = {
        "morphological_convolution": _morphology,
        "convection": _convection,
        "group_convolution": _group_convolution,
        "ring_convolution": _rings,
        "ring_morphology": _rings,
        "between_samples": _between_samples,
        "weighted_norm": _weighted_norm,
        "newton_gain": _newton_gain,
    }.get(name, _mesh)
    calls = maker(name, sizes, backend)
    return [(text, Call(f, tuple(_leaf(x, device, dtype) for x in leaves))) for text, f, leaves in calls]


def missing() -> set[str]:
    """Operators without a call here."""
    grids = {"morphological_convolution", "convection", "group_convolution", "between_samples", "weighted_norm"}
    known: set[str] = grids | {"ring_convolution", "ring_morphology", "newton_gain"} | set(MESH)
    names: set[str] = set(registry.operators())
    return names - known


def _leaf(x: Tensor, device: str, dtype: torch.dtype) -> Tensor:
    return x.to(device, dtype).requires_grad_()


def _morphology(name: str, sizes: Sizes, backend: str) -> list:
    from pdegcnn.ops.morphology import dilation_and_erosion, morphological_convolution

    u, kernel = rounded(torch.randn(sizes.signal)), rounded(2 * torch.rand(*sizes.signal[1:3], *sizes.kernel))
    broken = u.clone()
    broken.flatten()[:: max(7, u.numel() // 50)] = math.inf
    return [
        ("dilation", lambda u, k: morphological_convolution(u, k, 1, backend), (u, kernel)),
        ("erosion", lambda u, k: morphological_convolution(u, k, -1, backend), (u, kernel)),
        ("dilation with infinity", lambda u, k: morphological_convolution(u, k, 1, backend), (broken, kernel)),
        ("dilation and erosion", lambda u, k: dilation_and_erosion(u, k, k.flip(-1), backend), (u, kernel)),
    ]


def _convection(name: str, sizes: Sizes, backend: str) -> list:
    from pdegcnn.ops.convection import convection
    from pdegcnn.ops.convection.custom_op import BOUNDARIES

    leaves = (torch.randn(sizes.signal), rounded(2 * torch.randn(*sizes.signal[1:3], 3)))
    return [(mode, lambda u, s, mode=mode: convection(u, s, mode, backend), leaves) for mode in BOUNDARIES]


def _group_convolution(name: str, sizes: Sizes, backend: str) -> list:
    from pdegcnn.ops.group_convolution import group_convolution

    leaves = (torch.randn(sizes.signal), torch.randn(*sizes.signal[1:3], *sizes.kernel))
    return [("replicate", lambda u, k: group_convolution(u, k, "replicate", backend), leaves)]


def _between_samples(name: str, sizes: Sizes, backend: str) -> list:
    from pdegcnn.ops.between_samples import between_samples
    from pdegcnn.pde.grid_interpolation import turning_matrix

    u = rounded(torch.randn(sizes.signal))
    matrix = turning_matrix(u.shape[2], torch.tensor([0.5], dtype=torch.float64))
    matrix = matrix.reshape(-1, u.shape[2])
    shifts = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.25))

    def run(u: Tensor) -> Tensor:
        return between_samples(u, matrix.to(u), u.detach().amin((2, 3, 4)), shifts, backend)

    return [("two readings", run, (u,))]


def _weighted_norm(name: str, sizes: Sizes, backend: str) -> list:
    from pdegcnn.ops.weighted_norm import weighted_norm

    channels, width = sizes.signal[1], sizes.signal[-1]
    leaves = torch.randn(sizes.signal), torch.rand(channels) + 0.5, torch.randn(channels)

    def run(u: Tensor, scale: Tensor, shift: Tensor, areas: bool) -> Tensor:
        weights = torch.linspace(0.5, 1.5, width, dtype=u.dtype, device=u.device) if areas else u.new_ones(())
        return weighted_norm(u, weights, scale, shift, 1e-5, backend)[0]

    return [(text, partial(run, areas=text == "areas"), leaves) for text in ("areas", "even")]


def _newton_gain(name: str, sizes: Sizes, backend: str) -> list:
    from pdegcnn.ops.newton_gain import StepTables, newton_gain

    batch, channels, orientations, _, length = sizes.signal
    count, taps = orientations * sizes.rings * length, 20
    table = torch.rand(taps, 10, 6)
    table[:, :, 3:] *= 0.1
    angle = torch.arange(orientations) * (2 * math.pi / orientations)
    constants = table, torch.stack((torch.cos(angle), torch.sin(angle))), torch.full((3,), 0.5)
    position, tap = (torch.randint(0, most, (batch, channels, count)) for most in (count, taps))

    def run(signal: Tensor, entries: Tensor) -> Tensor:
        tables = StepTables(*(x.to(signal) for x in constants))
        places = position.to(signal.device), tap.to(signal.device)
        return newton_gain(signal, *places, tables, entries, entries[:, 0, 0], (0.3, 1.0, 1.4), 1, backend)

    return [("gain", run, (torch.randn(batch, channels, 9, count), torch.rand(channels, 1, 6) + 0.5))]


def _rings(name: str, sizes: Sizes, backend: str) -> list:
    from pdegcnn.ops.ring_convolution import ring_convolution
    from pdegcnn.ops.ring_morphology import ring_morphology

    batch, channels, orientations, _, length = sizes.signal
    count = 9
    lists = [[(r, 0, 0), *((r, o % orientations, j % length) for o in range(2) for j in range(1, count // 2))]
             for r in range(sizes.rings)]  # fmt: skip
    start = torch.tensor([0, *(len(x) for x in lists)]).cumsum(0)
    taps = torch.tensor([tap for x in lists for tap in x])
    u = rounded(torch.randn(batch, channels, orientations, sizes.rings, length))
    kernel = rounded(2 * torch.rand(channels, orientations, len(taps)))
    longest = int(start.diff().max())

    def run(u: Tensor, kernel: Tensor) -> Tensor:
        lists = taps.to(u.device), start.to(u.device), longest
        if name == "ring_convolution":
            return ring_convolution(u, kernel, *lists, backend)
        return ring_morphology(u, kernel, *lists, 1, backend)

    return [("sum" if name == "ring_convolution" else "dilation", run, (u, kernel))]


def _mesh(name: str, sizes: Sizes, backend: str) -> list:
    vertices, faces = pg.surface.icosphere(sizes.subdivisions)
    orientations = sizes.signal[2]
    mesh = pg.Mesh.from_arrays(vertices, faces, orientations=orientations)
    batch, channels = sizes.signal[:2]
    u = torch.randn(batch, channels, orientations, len(vertices))
    return [(f"{len(vertices)} vertices", *MESH[name](mesh, u, backend))]


def _transport(mesh: Any, u: Tensor, backend: str) -> tuple:
    from pdegcnn.ops.transport_gather import transport_gather
    from pdegcnn.pde.mesh_stencils import filter_stencil

    def run(fields: Tensor) -> Tensor:
        wide = torch.promote_types(fields.dtype, torch.float32)
        stencil = filter_stencil(mesh, 1, 2, None, 1, torch.empty(0, dtype=wide, device=fields.device))
        values = {k: x.to(fields.dtype) for k, x in stencil._asdict().items() if x.is_floating_point()}
        return transport_gather(fields, stencil._replace(**values), backend)

    return run, (torch.randn(u.shape[0], u.shape[-1], 2, 2, u.shape[1] * u.shape[2]),)


def _bundled(u: Tensor, mesh: Any) -> tuple[Any, Tensor, torch.dtype]:
    from pdegcnn.pde.mesh_neighbors import directional_neighbors

    wide = torch.promote_types(u.dtype, torch.float32)
    return (
        directional_neighbors(mesh, 1.6, u.to(wide)),
        torch.eye(3, dtype=wide, device=u.device).expand(u.shape[1], 3, 3),
        wide,
    )


def _gather_morphology(mesh: Any, u: Tensor, backend: str) -> tuple:
    from pdegcnn.ops.gather_morphology import gather_morphology

    def run(u: Tensor) -> Tensor:
        lists, metric, wide = _bundled(u, mesh)
        law = torch.tensor([0.7, 2.2], dtype=wide, device=u.device)
        return gather_morphology(u, lists, metric, law, 3, 1, backend)

    return run, (rounded(u),)


def _gather_mean(mesh: Any, u: Tensor, backend: str) -> tuple:
    from pdegcnn.ops.gather_mean import gather_mean

    def run(u: Tensor) -> Tensor:
        lists, metric, wide = _bundled(u, mesh)
        profile = torch.linspace(1, 0, 17, dtype=wide, device=u.device)
        return gather_mean(u, lists, metric, profile, 2.0, 3, backend)

    return run, (u,)


def _geodesic_flow(mesh: Any, u: Tensor, backend: str) -> tuple:
    from pdegcnn.ops.geodesic_flow import geodesic_flow
    from pdegcnn.pde.mesh_neighbors import half_edges

    shift = torch.linspace(-0.7, 0.9, 3 * u.shape[1]).view(-1, 3)
    return lambda u, s: geodesic_flow(u, half_edges(mesh, u), s, backend), (u, shift)


def _shifted_solve(mesh: Any, u: Tensor, backend: str) -> tuple:
    from pdegcnn.ops.shifted_solve import shifted_solve
    from pdegcnn.pde.mesh_stencils import ordered_laplacian

    def run(right: Tensor, time: Tensor) -> Tensor:
        like = torch.empty(0, dtype=torch.float64, device=right.device)
        stencil = ordered_laplacian(mesh, 1, like)[0]
        return shifted_solve(right.double(), time.double(), stencil, mesh.sizes, backend=backend).to(right.dtype)

    return run, (torch.randn(u.shape[0], u.shape[-1], 2, u.shape[1]), torch.linspace(0.3, 2.0, u.shape[1]))


MESH: dict[str, Callable[..., tuple]] = {
    "transport_gather": _transport,
    "gather_morphology": _gather_morphology,
    "gather_mean": _gather_mean,
    "geodesic_flow": _geodesic_flow,
    "shifted_solve": _shifted_solve,
}
