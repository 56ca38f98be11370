"""Layers on meshes: time of forward and backward, memory kept for backward, time to build the operators.

    python benchmarks/mesh.py [--subdivisions 4 5 6] [--repeats 5]

The gauge block is the residual block of gauge equivariant mesh CNNs (arXiv 2003.05425): two convolutions of 16 channels
in spins 0, 1, 2 over the edges, a regular nonlinearity of 7 samples after the first, and a skip connection.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import pdegcnn as pg

SPINS = {0: 16, 1: 16, 2: 16}


class Block(nn.Module):
    """Convolution, regular nonlinearity, convolution, skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = pg.gauge.GaugeConv(SPINS, SPINS), pg.gauge.GaugeConv(SPINS, SPINS)
        self.relu = pg.gauge.RegularReLU(SPINS, 7)

    def forward(self, x: pg.gauge.Features, mesh: pg.Mesh) -> pg.gauge.Features:
        y = self.second(self.relu(self.first(x, mesh)), mesh)
        return {k: x[k] + y[k] for k in x}


def total(out: torch.Tensor | pg.gauge.Features) -> torch.Tensor:
    fields = list(out.values()) if isinstance(out, dict) else [out]
    return torch.stack([(torch.view_as_real(f) if f.is_complex() else f).square().sum() for f in fields]).sum()


def kept_megabytes(run: Callable[[], object], mesh: pg.Mesh, module: nn.Module) -> float:
    """Storage that the backward pass holds on to, besides parameters and the operators of the mesh."""
    stores: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        stores[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = run()
    known = {p.untyped_storage().data_ptr() for p in module.parameters()}
    for value in mesh._operators:
        parts = [y for x in value for y in (x if isinstance(x, tuple) else (x,))]
        known |= {x.untyped_storage().data_ptr() for x in parts if isinstance(x, torch.Tensor)}
    del out
    return sum(size for place, size in stores.items() if place not in known) / 2**20


def milliseconds(run: Callable[[], torch.Tensor | pg.gauge.Features], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        total(run()).backward()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[1:])


def operators(subdivisions: int) -> tuple[pg.Mesh, dict[str, float]]:
    """A mesh and the seconds that each of its operators took."""
    vertices, faces = pg.surface.icosphere(subdivisions)
    like, seconds = torch.empty(0), {}
    steps: dict[str, Callable[[], object]] = {
        "edges and filters": lambda: pg.gauge.GaugeConv(SPINS, SPINS)(features(mesh), mesh),
        "ball of 2.5 units": lambda: mesh.neighbours(2.5, like),
        "connection Laplacian": lambda: mesh.laplacian(1, like),
        "32 eigenfunctions": lambda: mesh.eigenbasis(1, 32, like),
    }
    start = time.perf_counter()
    mesh = pg.Mesh.from_arrays(vertices, faces)
    seconds["checks and frames"] = time.perf_counter() - start
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - start
    return mesh, seconds


def features(mesh: pg.Mesh) -> pg.gauge.Features:
    shape = (1, 16, mesh.vertex_count)
    return {k: torch.randn(shape, dtype=torch.complex64 if k else torch.float32).requires_grad_() for k in SPINS}


def measure(subdivisions: int, repeats: int) -> None:
    mesh, seconds = operators(subdivisions)
    print(f"\n{mesh.vertex_count} vertices; operators, s: " + ", ".join(f"{k} {v:.2f}" for k, v in seconds.items()))
    x, u = features(mesh), torch.randn(1, 8, 8, mesh.vertex_count, requires_grad=True)
    conv, block, diffusion = pg.gauge.GaugeConv(SPINS, SPINS), Block(), pg.gauge.Diffusion(16, spin=1)
    cases: dict[str, tuple[nn.Module, Callable[[], torch.Tensor | pg.gauge.Features]]] = {
        "gauge convolution 16 ch, spins 0 1 2": (conv, lambda: conv(x, mesh)),
        "gauge block, 7 samples": (block, lambda: block(x, mesh)),
        "connection diffusion 16 ch, spin 1": (diffusion, lambda: diffusion({1: x[1]}, mesh)),
    }
    for name in ("convection", "diffusion", "dilation"):
        layer = pg.nn.PDELayer(mesh, 8, 8, (name,))
        cases[f"PDE layer 8 ch, 8 directions: {name}"] = (layer, lambda layer=layer: layer(u))
    print(f"{'':42}{'forward+backward ms':>20}{'kept MB':>10}")
    for name, (module, run) in cases.items():
        kept = kept_megabytes(run, mesh, module)
        print(f"{name:42}{milliseconds(run, repeats):20.0f}{kept:10.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subdivisions", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; milliseconds are medians")
    for subdivisions in given.subdivisions:
        measure(subdivisions, given.repeats)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
