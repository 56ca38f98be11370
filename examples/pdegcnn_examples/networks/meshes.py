"""Networks that label the vertices of a mesh from how the surface bends there.

Each takes the features of `bending`, ``{0: [1,1,V], 2: [1,1,V] complex}``, and a mesh, and returns ``[1,classes,V]``.
The gauge network takes both fields as they are; the others take the scalar and the length of the spin-2 field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn_examples.surfaces import gradient
from pdegcnn_examples.training import parameters

Builder = Callable[[pg.Mesh, int, int], nn.Module]


def bending(mesh: pg.Mesh) -> pg.gauge.Features:
    """How fast the surface leaves the tangent plane: its mean over the neighbours, and its second harmonic (spin 2)."""
    near = mesh.neighbours(2.5, torch.empty(0, dtype=torch.float64))
    _, _, normal = mesh.frames_in_space()
    away = (mesh.vertices[near.source] - mesh.vertices[near.centre]) / mesh.unit
    squared = near.offset.abs().square()
    rate = torch.where(squared > 0, (away * normal[near.centre]).sum(1) / squared.clamp_min(1e-9), 0)
    wave = torch.where(squared > 0, (near.offset / near.offset.abs().clamp_min(1e-9)) ** 2, 0)
    count = (near.start.diff() - 1).to(rate)
    zero = torch.zeros(mesh.vertex_count, dtype=torch.float64)
    mean = zero.index_add(0, near.centre, rate) / count
    second = zero.to(wave.dtype).index_add(0, near.centre, rate * wave) / count
    scale = mean.std()
    fields = {0: (mean - mean.mean()) / scale, 2: second / scale}
    return {k: f[None, None].to(torch.complex64 if k else torch.float32) for k, f in fields.items()}


def scalars(fields: pg.gauge.Features) -> Tensor:
    """The scalar and the length of the spin-2 field, ``[1,2,V]``."""
    return torch.cat((fields[0], fields[2].abs()), dim=1)


class GaugeNet(nn.Module):
    """Convolutions and diffusions of spins 0, 1, 2; the head reads spin 0."""

    def __init__(self, mesh: pg.Mesh, classes: int, width: int = 6, blocks: int = 3) -> None:
        super().__init__()
        spins = {0: width, 1: width, 2: width}
        self.first = pg.gauge.GaugeConv({0: 1, 2: 1}, spins)
        self.convolutions = nn.ModuleList(pg.gauge.GaugeConv(spins, spins) for _ in range(blocks))
        self.spread = nn.ModuleList(pg.gauge.Diffusion(width, spin=0) for _ in range(blocks))
        self.norms = nn.ModuleList(pg.gauge.SpinNorm(spins) for _ in range(blocks))
        self.gates = nn.ModuleList(pg.gauge.GatedNonlinearity(spins) for _ in range(blocks))
        self.head = nn.Conv1d(width, classes, 1)

    def forward(self, fields: pg.gauge.Features, mesh: pg.Mesh) -> Tensor:
        x = self.first(fields, mesh)
        for convolution, spread, norm, gate in zip(self.convolutions, self.spread, self.norms, self.gates):
            y = gate(norm(convolution(spread(x, mesh), mesh)))
            x = {k: x[k] + y[k] for k in x}
        return self.head(x[0])


class PDENet(nn.Module):
    """Lift to directions, residual PDE layers of convection, dilation and erosion, largest value over directions."""

    def __init__(self, mesh: pg.Mesh, classes: int, width: int, blocks: int = 3) -> None:
        super().__init__()
        self.lift = pg.nn.Lift(mesh, 2, width)
        terms = ("convection", "dilation", "erosion")
        self.layers = nn.ModuleList(pg.nn.PDELayer(mesh, width, width, terms=terms) for _ in range(blocks))
        self.project = pg.nn.Project(mesh, mode="max")
        self.head = nn.Conv1d(width, classes, 1)

    def forward(self, fields: pg.gauge.Features, mesh: pg.Mesh) -> Tensor:
        x = self.lift(scalars(fields), mesh)
        for layer in self.layers:
            x = x + layer(x, mesh)
        return self.head(self.project(x, mesh))


class GraphNet(nn.Module):
    """Each layer mixes a vertex with the mean of its neighbours."""

    def __init__(self, mesh: pg.Mesh, classes: int, width: int, blocks: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, width, 1)
        self.mixes = nn.ModuleList(nn.Conv1d(2 * width, width, 1) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(blocks))
        self.head = nn.Conv1d(width, classes, 1)

    def forward(self, fields: pg.gauge.Features, mesh: pg.Mesh) -> Tensor:
        x = scalars(fields)
        x = self.first(torch.cat((x, mean_of_neighbours(x, mesh)), dim=1))
        for mix, norm in zip(self.mixes, self.norms):
            x = x + torch.relu(norm(mix(torch.cat((x, mean_of_neighbours(x, mesh)), dim=1))))
        return self.head(x)


class DiffusionNetLike(nn.Module):
    """Blocks of spectral diffusion over learned times, products of gradients, and mixing at each vertex.

    After DiffusionNet (arXiv 2012.00888), rewritten: 64 eigenfunctions; the products are ``tanh(Re(conj(grad u) A
    grad u))`` with a learned complex matrix A.
    """

    def __init__(self, mesh: pg.Mesh, classes: int, width: int, blocks: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, width, 1)
        self.spread = nn.ModuleList(
            pg.gauge.Diffusion(width, spin=0, method="spectral", modes=64) for _ in range(blocks)
        )
        self.turns = nn.ModuleList(pg.gauge.SpinMix({1: width}, {1: width}) for _ in range(blocks))
        self.mixes = nn.ModuleList(
            nn.Sequential(nn.Conv1d(3 * width, width, 1), nn.ReLU(), nn.Conv1d(width, width, 1)) for _ in range(blocks)
        )
        self.head = nn.Conv1d(width, classes, 1)

    def forward(self, fields: pg.gauge.Features, mesh: pg.Mesh) -> Tensor:
        x = self.first(scalars(fields))
        for spread, turn, mix in zip(self.spread, self.turns, self.mixes):
            smooth = spread({0: x}, mesh)[0]
            slope = gradient(smooth, mesh)
            product = torch.tanh((slope.conj() * turn({1: slope})[1]).real)
            x = x + mix(torch.cat((x, smooth, product), dim=1))
        return self.head(x)


def mean_of_neighbours(x: Tensor, mesh: pg.Mesh) -> Tensor:
    """Mean of ``x [B,C,V]`` over the vertices that share an edge with each vertex."""
    near = mesh.neighbours(None, x)
    other = near.source != near.centre
    total = torch.zeros_like(x).index_add(2, near.centre[other], x[:, :, near.source[other]])
    return total / (near.start.diff() - 1)


NETS: Mapping[str, Builder] = {
    "gauge": GaugeNet,
    "pde": PDENet,
    "graph": GraphNet,
    "diffusion": DiffusionNetLike,
}
"""Networks by name: of a mesh, classes and a width."""
WIDEST = {"pde": 8}
"""Widths that are not exceeded: a training step of more channels takes seconds."""


def of_equal_size(net: str, mesh: pg.Mesh, classes: int) -> nn.Module:
    """Return the network called ``net``, as wide as `WIDEST` and the parameters of the gauge network allow."""
    limit = parameters(GaugeNet(mesh, classes))
    build = NETS[net]
    return build(
        mesh,
        classes,
        max(w for w in range(2, WIDEST.get(net, 100) + 1) if parameters(build(mesh, classes, w)) <= limit),
    )
