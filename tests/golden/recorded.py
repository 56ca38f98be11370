"""Outputs and gradients of functions, layers and networks, to compare one revision with another.

    python tests/golden/recorded.py write            # record the values of this revision in recorded.npz
    python tests/golden/recorded.py digest [DTYPE]    # print a digest of each case, to compare revisions to the bit

Inputs and parameters follow formulas, so that no random generator and no initialisation enters. Only calls that
`CONTRIBUTING.md` lists as fixed are used. Values of one revision agree to the bit on one machine and one thread;
other processors round differently, so the test compares with `recorded.npz` up to rounding in float64.
"""

from __future__ import annotations

import hashlib
import math
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pdegcnn as pg

FILE = Path(__file__).with_name("recorded.npz")
KEPT = 48
"""Entries that are recorded of each output, evenly spread, after its norm."""


def wave(*shape: int, phase: float = 0.0) -> Tensor:
    """Return numbers in (-1, 1) without a pattern that a layer could hit: ``sin`` of an irrational progression."""
    count = math.prod(shape)
    values = [math.sin(phase + 1.7 * k + 0.3 * math.sin(0.9 * k)) for k in range(count)]
    return torch.tensor(values, dtype=torch.get_default_dtype()).reshape(shape)


def filled(module: nn.Module) -> nn.Module:
    """Set all parameters of ``module`` by formula: a wave around their value where initialisation is constant."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            flat = p.detach().flatten()
            constant = p.numel() > 1 and bool((flat == flat[0]).all())
            around = float(flat[0].real) if constant else 0.0
            phase = zlib.crc32(name.encode()) % 1000
            values = around + 0.3 * wave(*p.shape, phase=phase)
            p.copy_(torch.complex(values, 0.3 * wave(*p.shape, phase=phase + 0.5)) if p.is_complex() else values)
    return module


SAMPLES = {"kernel_size": 5, "oversample": 1, "distance": "half_angle"}
RECORDED = {
    "diffusion": {"method": "sampled", "kernel_size": 5},
    "convection": {"method": "linear"},
    "dilation": SAMPLES,
    "erosion": SAMPLES,
}
"""Options of terms on grids that were defaults when values were recorded."""
RECORDED_LAYER = {"convection": "linear", "diffusion": "sampled", "oversample": 1, "distance": "half_angle"}
"""The same for layers and networks of which five taps are the default, too."""


def on_grid(name: str) -> bool:
    """Return whether a space is sampled on pixels, where defaults have changed since."""
    return name in ("R2", "SE2")


def spaces() -> dict[str, tuple[Any, tuple[int, ...], int]]:
    """Return each space with the shape of a signal and the number of weights of a diagonal metric."""
    grid = pg.sphere.SphereGrid.gauss_legendre(5)
    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(1))
    points = pg.sphere.SphereGrid.icosahedral(1)
    return {
        "R2": (pg.R2(), (7, 9), 2),
        "SE2": (pg.SE2(6), (6, 7, 8), 3),
        "S2": (pg.S2(grid), grid.shape, 1),
        "S2 points": (pg.S2(points), points.shape, 1),
        "SO3": (pg.SO3(grid, 5), (5, *grid.shape), 3),
        "Mesh": (mesh, (mesh.orientations, mesh.vertex_count), 3),
    }


def function_cases() -> dict[str, Callable[[], list[Tensor]]]:
    """Return every term of every space, with its gradients in signal and weights."""
    made = {}
    for name, (space, shape, dim) in spaces().items():
        weights = torch.tensor([[1.0, 1.6, 0.8], [0.7, 0.9, 1.2]], dtype=torch.get_default_dtype())[:, :dim]
        if name in ("S2", "S2 points", "SO3"):
            weights = 3 * weights
        for term in ("convection", "diffusion", "dilation", "erosion"):
            if term in terms(name, space):
                for options in ({}, {"alpha": 0.75, "time": 0.6}):
                    if term == "convection":
                        options = {k: v for k, v in options.items() if k == "time"}
                    old = RECORDED.get(term, {}) if on_grid(name) else {}
                    old = RECORDED["diffusion"] if (name, term) == ("Mesh", "diffusion") else old
                    old = {"method": "galerkin"} if (name, term) == ("SO3", "convection") else old

                    def run(term=term, space=space, shape=shape, w=weights, options=options | old):
                        u, w = wave(2, 2, *shape).requires_grad_(), w.clone().requires_grad_()
                        out = getattr(pg.functional, term)(u, space, w, **options)
                        return [out, *torch.autograd.grad((out * wave(*out.shape, phase=2.0)).sum(), (u, w))]

                    made[f"{term} {name} {sorted(options.items())}"] = run
    return made


def terms(name: str, space: Any) -> list[str]:
    """Return the terms of a layer; points of the sphere carry no exact transform, so no diffusion."""
    chosen = ("convection", "diffusion", "dilation", "erosion")
    return [t for t in chosen if t in space.supported_terms and (name, t) != ("S2 points", "diffusion")]


def trained(build: Callable[[], nn.Module], *shapes: tuple[int, ...], training: bool = False) -> list[Tensor]:
    """Return the output of a module and the gradients of input and parameters."""
    module = filled(build()).train(training)
    inputs = [wave(*shape, phase=3.0).requires_grad_() for shape in shapes]
    out = module(*inputs)
    out = torch.cat([o.flatten() for o in out]) if isinstance(out, (tuple, list)) else out
    total = (out * wave(*out.shape, phase=2.0)).sum()
    wanted = [*inputs, *(p for _, p in sorted(module.named_parameters()))]
    found = torch.autograd.grad(total, wanted, allow_unused=True)
    return [out, *(g for g in found if g is not None)]


def layer_cases() -> dict[str, Callable[[], list[Tensor]]]:
    """Return lift, PDE layer and projection of every space, gauge and reversible layers."""
    made: dict[str, Callable[[], list[Tensor]]] = {}
    for name, (space, shape, _) in spaces().items():
        then = {"SO3": {"convection": "galerkin"}, "Mesh": {"diffusion": "sampled", "kernel_size": 5}}.get(name, {})
        for training in (False, True):
            made[f"PDELayer {name} training={training}"] = (
                lambda name=name, space=space, shape=shape, then=then, training=training: trained(
                    lambda: pg.nn.PDELayer(
                        space,
                        2,
                        3,
                        terms(name, space),
                        **({"kernel_size": 5, **RECORDED_LAYER} if on_grid(name) else then),
                    ),
                    (2, 2, *shape),
                    training=training,
                )
            )
        if name not in ("S2", "S2 points"):
            base = shape if name == "R2" else shape[1:]
            made[f"Lift {name}"] = lambda name=name, space=space, base=base: trained(
                lambda: pg.nn.Lift(space, 2, 3, **({"kernel_size": 5} if on_grid(name) else {})), (2, 2, *base)
            )
            made[f"Project {name}"] = lambda space=space, shape=shape: trained(
                lambda: pg.nn.Project(space), (2, 2, *shape)
            )
    se2, lifted = pg.SE2(6), (2, 2, 6, 7, 8)
    for options in (
        {"learn_alpha": True, "metric": "spd", "splitting": "strang", "iterations": 2},
        {"diffusion": "spectral", "convection": "spectral", "alpha": 1.0},
    ):
        made[f"PDELayer SE2 {sorted(options)}"] = lambda options=options: trained(
            lambda: pg.nn.PDELayer(se2, 2, 3, **{"kernel_size": 5, **RECORDED_LAYER, **options}), lifted
        )
    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(1))

    def gauge(build: Callable[[], nn.Module]) -> list[Tensor]:
        module = filled(build())
        features = {k: wave(2, 2, mesh.vertex_count, phase=k) for k in (0, 1)}
        features[1] = torch.complex(features[1], wave(2, 2, mesh.vertex_count, phase=4.0))
        found = module(features, mesh)
        return [torch.view_as_real(v) if v.is_complex() else v for v in (found[k] for k in sorted(found))]

    made["GaugeConv"] = lambda: gauge(lambda: pg.gauge.GaugeConv({0: 2, 1: 2}, {0: 2, 1: 1}))
    made["gauge.Diffusion"] = lambda: gauge(lambda: pg.gauge.Diffusion(2, spin=1))
    made["ReversibleStack"] = lambda: trained(
        lambda: pg.reversible.ReversibleStack([pg.reversible.SymmetricConv(2, 3, 2) for _ in range(3)], h=0.3),
        (2, 2, 7, 8),
    )
    grid = pg.sphere.SphereGrid.gauss_legendre(6)
    made["RealSHT"] = lambda: [
        torch.view_as_real(pg.sphere.RealSHT(grid, dtype=torch.get_default_dtype())(wave(2, *grid.shape)))
    ]
    return made


def stored(network: Any) -> nn.Module:
    """Return a reversible network that stores its states: the formula's weights are too large to rebuild them from the
    output, which would enlarge rounding until gradients depended on the processor.
    """
    network.stack.memory = "plain"
    return network


def network_cases() -> dict[str, Callable[[], list[Tensor]]]:
    """Return every ready network in a small form."""
    models, grid = pg.models, pg.sphere.SphereGrid.gauss_legendre(8)
    sizes: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "rotated_digits": (lambda: models.rotated_digits(channels=(2, 3, 2)), (2, 1, 28, 28)),
        "vessel_segmentation": (lambda: models.vessel_segmentation(channels=2, layers=3), (1, 3, 12, 10)),
        "hyperbolic_classifier": (lambda: stored(models.hyperbolic_classifier(1, 3, width=4)), (2, 1, 16, 16)),
        "hyperbolic_segmenter": (lambda: stored(models.hyperbolic_segmenter(1, 3, width=4)), (1, 1, 16, 16)),
        "spherical_classifier": (
            lambda: models.spherical_classifier(grid, channels=(2, 2), fibre=4, convection="galerkin"),
            (1, 1, *grid.shape),
        ),
        "spherical_segmenter": (
            lambda: models.spherical_segmenter(grid, width=2, levels=2, fibre=4, convection="galerkin"),
            (1, 1, *grid.shape),
        ),
    }
    return {name: lambda build=build, shape=shape: trained(build, shape) for name, (build, shape) in sizes.items()}


def cases() -> dict[str, Callable[[], list[Tensor]]]:
    """Return all cases by name; each gives its tensors when called."""
    return function_cases() | layer_cases() | network_cases()


def summary(tensors: list[Tensor]) -> np.ndarray:
    """Return norm and some entries of each tensor, ``[tensors, 1 + KEPT]``, padded by zeros."""
    rows = []
    for x in tensors:
        flat = x.detach().flatten().double()
        some = flat[torch.linspace(0, len(flat) - 1, min(KEPT, len(flat))).long()]
        rows.append(np.pad(np.array([float(flat.norm()), *some.tolist()]), (0, KEPT - len(some))))
    return np.stack(rows)


def main() -> None:
    """Write the file, or print digests."""
    torch.set_num_threads(1)
    if sys.argv[1] == "write":
        torch.set_default_dtype(torch.float64)
        np.savez_compressed(FILE, **{name: summary(run()) for name, run in cases().items()})
        return
    torch.set_default_dtype(getattr(torch, sys.argv[2] if len(sys.argv) > 2 else "float32"))
    for name, run in cases().items():
        content = b"".join(x.detach().contiguous().numpy().tobytes() for x in run())
        print(hashlib.sha256(content).hexdigest()[:16], name)


if __name__ == "__main__":
    main()
