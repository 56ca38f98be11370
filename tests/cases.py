"""The one table of what the library offers: a good call of every public layer, function and maker, and variants.

The laws in ``tests/laws`` walk over it. A new public name is entered here once, or
``test_every_public_name_has_a_case`` fails. A new space, term, metric form, distance or filter that is on its list in
the library needs no entry: the variants below are made from those lists.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import pdegcnn as pg
from pdegcnn.kernels import DISTANCES, METRICS
from pdegcnn.kernels.filters import BASES
from pdegcnn.kernels.metric import PLANE_ONLY
from pdegcnn.kernels.rotation_distance import ROTATION_DISTANCES
from pdegcnn.nn.lift import SPHERE_FILTERS
from pdegcnn.spaces import R3, SPACES, GridSpace, Mesh, RotationSpace, Space

from .helpers import bumpy_sphere
from .toys import Lines


@dataclass(frozen=True)
class Case:
    """A good call.

    Attributes:
        name: the public name, then a space and an option where it is a variant: ``"nn.PDELayer SE2 spd"``.
        make: the class or function.
        arguments: what ``make`` is called with.
        inputs: what the layer that ``make`` returns is called with; empty for functions and makers.
        space: the space whose motions the layer commutes with, if any.
        exact: whether it commutes with them to rounding; otherwise up to sampling.
        lacks: laws that do not hold for it, each with the reason.
    """

    name: str
    make: Callable[..., Any]
    arguments: Mapping[str, Any]
    inputs: tuple[Any, ...] = ()
    space: Space | None = None
    exact: bool = True
    lacks: Mapping[str, str] = field(default_factory=dict)

    @property
    def variant(self) -> bool:
        """Whether it shows an option, not the public name."""
        return " " in self.name

    def build(self, **kind: Any) -> Any:
        """Return the layer, drawn from seed 0. ``device`` and ``dtype`` are left out where ``make`` takes none."""
        torch.manual_seed(0)
        return self.make(**copy.deepcopy(dict(self.arguments)), **{k: v for k, v in kind.items() if self.takes(k)})

    def named_inputs(self, layer: nn.Module) -> dict[str, Any]:
        """The inputs by the names of the arguments of the layer's forward method."""
        return dict(zip(forward_arguments(layer), self.inputs, strict=False))

    def takes(self, argument: str) -> bool:
        """Whether ``make`` has an argument, itself or among the options of networks."""
        parameters = inspect.signature(self.make).parameters
        options = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        return argument in parameters or (options and self.name.startswith("models."))

    def __str__(self) -> str:
        return self.name


def forward_arguments(layer: nn.Module) -> list[str]:
    """Names of what a layer is called with."""
    return list(inspect.signature((layer[0] if isinstance(layer, nn.Sequential) else layer).forward).parameters)


torch.manual_seed(0)
GRIDS = pg.sphere.SphereGrid
GRID, MESH = GRIDS.gauss_legendre(4), bumpy_sphere(0, orientations=4)
SMALL: dict[type[Space], Space] = {
    pg.SE2: pg.SE2(4), pg.R3: pg.R3((1.5, 1.0, 0.8)), pg.S2: pg.S2(GRID), pg.SO3: pg.SO3(GRID, 3), Mesh: MESH,
}  # fmt: skip
"""Small spaces, for those that need arguments."""
EXAMPLES: dict[str, Space] = {s.__name__: SMALL[s] if s in SMALL else s() for s in SPACES} | {"Lines": Lines(4)}
"""One of every listed space, by the name of its class, and the space that a tutorial defines."""
R2, SE2, S2, SO3, SOLID = (EXAMPLES[name] for name in ("R2", "SE2", "S2", "SO3", "R3"))
PACKAGES: dict[str, ModuleType] = {
    name: getattr(pg, name) for name in ("functional", "nn", "gauge", "models", "reversible", "kernels", "sphere")
}


def signal(space: Space, channels: int = 2, on_base: bool = False) -> Tensor:
    """White noise ``[2, channels, ...]`` on a space, or on its base."""
    base = space.grid.shape if isinstance(space, RotationSpace) else (6, 7)
    base = (space.vertex_count,) if isinstance(space, Mesh) else (3, 4, 5) if isinstance(space, R3) else base
    lifted = (space.orientations,) if space.has_orientations and not on_base else ()
    return torch.randn(2, channels, *lifted, *base)


IMAGE, LIFTED, BALL = signal(R2), signal(SE2), signal(SO3)
VOLUME = signal(SOLID)
SPHERE, BUNDLE, FLAT = signal(S2), signal(MESH), signal(MESH, on_base=True)
SPINS = {0: FLAT, **{k: torch.randn(2, 2, 12, dtype=torch.complex64) for k in (1, 2)}}
COARSE = {k: u[..., : MESH.coarsen(2.0).vertex_count] for k, u in SPINS.items()}
CHANNELS, W = dict.fromkeys(SPINS, 2), torch.ones(2, 3)
UNEQUAL = W * torch.tensor([1.0, 1.5, 0.8])
"""Weights for dilation: the curvature of its distance jumps where the plane's weights are equal."""
COEFFICIENTS = torch.randn(2, 2, 4, 4, dtype=torch.complex64)
SQUARE = torch.randn(2, 2, 6, 6)
LATITUDES, LONGITUDES = torch.tensor([90, 45, 0, -45, -90]), torch.arange(8) * 45
BOXES = torch.tensor([[8.0, 9.0, 7.0, 3.0, 0.4], [9.0, 8.0, 6.0, 2.0, -1.0], [3.0, 4.0, 2.0, 5.0, 2.0]])
IO = {"in_channels": 2, "out_channels": 3}
RESIZED = {"translations": "another number of pixels"}


def find(name: str) -> Any:
    """The public object of that name."""
    package, _, leaf = name.partition(".")
    return getattr(PACKAGES[package], leaf)


def layer(name: str, arguments: Mapping[str, Any], *inputs: Any, space: Space | None = None, **facts: Any) -> Case:
    """A case of a layer, which commutes with motions of its own space if nothing else is said."""
    own = arguments.get("space") if isinstance(inputs[0], Tensor) else None
    return Case(name, find(name.split()[0]), arguments, inputs, space or own, **facts)


def part(in_channels: int, out_channels: int, term: str) -> nn.Module:
    """A PDE layer inside another layer; leaves the random numbers of the cases below as they are."""
    with torch.random.fork_rng(devices=[]):
        return pg.nn.PDELayer(SE2, in_channels, out_channels, (term,))


@functools.wraps(pg.models.detector)
def detector_network(**arguments: Any) -> nn.Module:
    """The part of a detector that computes maps; what it makes of them: tests/models/test_planar_detection.py."""
    return pg.models.detector(**arguments).network


PUBLIC_LAYERS = [
    layer("nn.Downsample", {"space": SE2, "factor": 2}, LIFTED, lacks=RESIZED),
    layer("nn.Upsample", {"space": SE2, "factor": 2}, LIFTED, lacks=RESIZED),
    layer("nn.Residual", {"layer": pg.nn.PDELayer(SE2, 2, 3, kernel_size=3), "in_channels": 2, "out_channels": 3},
          LIFTED, space=SE2),
    layer("nn.FieldDropout", {"space": SE2, "p": 0.5}, LIFTED),
    layer("nn.BatchNorm", {"num_features": 2, "space": S2}, SPHERE),
    layer("nn.ChannelLinear", IO, LIFTED, space=SE2),
    layer("nn.Convection", {"space": SE2, "channels": 2}, LIFTED),
    layer("nn.ConvectionDiffusion", {"space": SO3, "channels": 2, "alpha": 0.7}, BALL),
    layer("nn.Diffusion", {"space": SE2, "channels": 2, "alpha": 0.7}, LIFTED),
    layer("nn.DiffusionShock", {"space": SE2, "channels": 2, "alpha": 0.7, "kernel_size": 3}, LIFTED),
    layer("nn.Morphology", {"space": SE2, "channels": 2, "sign": 1, "alpha": 0.7}, LIFTED),
    layer("nn.GroupConv", {"space": SE2, "kernel_size": 3, **IO}, LIFTED),
    layer("nn.GlobalPool", {"space": SO3, "mode": "mean"}, BALL),
    layer("nn.Lift", {"space": SE2, "kernel_size": 3, "filters": "bspline", **IO}, IMAGE),
    layer("nn.GridLift", {"space": SE2, "kernel_size": 3, **IO}, IMAGE),
    layer("nn.VolumeLift", {"space": SOLID, "padding": "same", **IO}, VOLUME),
    layer("nn.MeshLift", {"space": MESH, "radius": 1.5, **IO}, FLAT),
    layer("nn.SphereLift", {"space": SO3, "kernel_size": 3, **IO}, SPHERE),
    layer("nn.MaxPool", {"kernel_size": 2}, SQUARE),
    layer("nn.Project", {"space": SE2, "mode": "max"}, LIFTED),
    layer("nn.PDELayer", {"space": SE2, "kernel_size": 3, "alpha": 0.7, **IO}, LIFTED),
    layer("nn.Resample", {"size": 5}, LIFTED, space=SE2),
    layer("nn.SphereActivation", {"space": SO3, "oversample": 2}, BALL, exact=False),
    layer("nn.SphereConv", {"space": SO3, "num_radial": 2, **IO}, BALL),
    layer("nn.SphereGated", {"space": SO3, "channels": 2}, BALL),
    layer("nn.SphereNormReLU", {"space": SO3, "channels": 2}, BALL),
    layer("nn.SpectralResample", {"source": S2, "target": pg.S2(GRIDS.gauss_legendre(3))}, SPHERE, space=S2),
    layer("gauge.Diffusion", {"channels": 2, "spin": 1, "method": "spectral", "modes": 3}, SPINS, MESH),
    layer("gauge.GaugeConv", {"in_channels": CHANNELS, "out_channels": {0: 2, 1: 2, 3: 4}}, SPINS, MESH),
    layer("gauge.GatedNonlinearity", {"channels": CHANNELS}, SPINS),
    layer("gauge.GlobalPool", {"mode": "mean"}, FLAT, MESH, lacks={"unions": "summary"}),
    layer("gauge.NormReLU", {"channels": CHANNELS}, SPINS),
    layer("gauge.MeshPool", {"factor": 2.0, "mode": "mean"}, SPINS, MESH),
    layer("gauge.TensorProduct", {"channels": CHANNELS}, SPINS),
    layer("gauge.RegularReLU", {"channels": CHANNELS, "samples": 9}, SPINS, exact=False),
    layer("gauge.SpinMix", {"in_channels": CHANNELS, "out_channels": {0: 2, 1: 4, 2: 3}}, SPINS),
    layer("gauge.SpinNorm", {"channels": CHANNELS}, SPINS),
    layer("gauge.MeshUnpool", {"factor": 2.0}, COARSE, MESH),
    layer("reversible.CyclicSpaceToDepth", {"orientations": 4}, torch.randn(2, 2, 4, 6, 8)),
    layer("reversible.Inverse", {"transition": pg.reversible.Wavelet("haar", 2)}, torch.randn(2, 8, 3, 4)),
    layer("reversible.LearnableOrthogonal", {}, torch.randn(2, 2, 6, 8)),
    layer("reversible.NormalizedSymmetricConv", {"channels": 2, "kernel_size": 3, "dims": 2}, IMAGE),
    layer("reversible.ReversibleStack", {"layers": [nn.Conv2d(2, 2, 3, padding=1)], "h": 0.1}, IMAGE),
    layer("reversible.SymmetricConv", {"channels": 2, "kernel_size": 3, "dims": 2}, IMAGE),
    layer("reversible.SymmetricGroupConv", {"channels": 2, "orientations": 4, "kernel_size": 3}, LIFTED),
    layer("reversible.Telegraph", {"layer": nn.Conv2d(2, 2, 3, padding=1), "steps": 2}, IMAGE),
    layer("reversible.Wavelet", {"name": "haar", "dims": 2}, torch.randn(2, 2, 6, 8)),
    layer("sphere.RealSHT", {"grid": GRID}, SPHERE, lacks={"bfloat16": "complex"}),
    layer("sphere.InverseRealSHT", {"grid": GRID}, COEFFICIENTS, lacks={"bfloat16": "complex"}),
    layer("sphere.SO3FFT", {"grid": GRID, "fibre": 3}, BALL, lacks={"bfloat16": "complex"}),
    layer("models.rotated_digits", {"classes": 3, "channels": (2, 2), "size": 6, "kernel_size": 3}, SQUARE[:, :1]),
    layer("models.TwoScales", {"coarse": part(2, 1, "dilation"), "fine": part(3, 2, "erosion")}, LIFTED),
    layer("models.vessel_segmentation", {"in_channels": 2, "layers": 3, "channels": 2, "kernel_size": 3}, IMAGE),
    layer("models.hyperbolic_classifier", {"in_channels": 2, "classes": 3, "width": 2, "depth": 1, "levels": 1}, IMAGE),
    layer("models.hyperbolic_segmenter", {"in_channels": 2, "classes": 3, "width": 2, "depth": 1, "levels": 1}, IMAGE),
    layer(
        "models.video_segmenter",
        {"in_channels": 2, "classes": 3, "width": 2, "depth": 1, "levels": 1, "rank": 2}, torch.randn(2, 2, 4, 4, 4),
    ),
    layer(
        "models.equivariant_hyperbolic_segmenter",
        {"in_channels": 2, "classes": 2, "width": 2, "depth": 1, "orientations": 4, "kernel_size": 3}, IMAGE,
    ),
    layer(
        "models.spherical_classifier",
        {"grid": GRID, "classes": 3, "in_channels": 2, "channels": (2, 2), "fibre": 3, "kernel_size": 3}, SPHERE,
    ),
    layer(
        "models.spherical_segmenter",
        {"grid": GRID, "in_channels": 2, "width": 2, "levels": 2, "fibre": 3, "kernel_size": 3}, SPHERE,
    ),
    layer(
        "models.spherical_detector",
        {"grid": GRID, "classes": 2, "in_channels": 2, "width": 2, "layers": 1, "fibre": 3}, SPHERE,
    ),
    Case("models.detector", detector_network,
         {"classes": 2, "in_channels": 2, "space": SE2, "channels": (2, 3), "layers": 1, "kernel_size": 3}, (IMAGE,),
         SE2, lacks=RESIZED),
    layer("models.unet", {"space": SE2, "channels": (2, 3), "kernel_size": 3, **IO}, IMAGE, lacks=RESIZED),
]  # fmt: skip
"""A good call of every public layer and network."""


def square(u: Tensor) -> Tensor:
    return u * u


def channel_product(u: Tensor) -> Tensor:
    return u[:, :1] * u[:, 1:]


COMPARING = ("dilation", "erosion", "diffusion_shock")
"""Terms that compare samples."""


def pde(
    space: Space, terms: tuple[str, ...], word: str, lacks: Mapping[str, str] | None = None, **options: Any
) -> Case:
    """A PDE layer with an option; on spheres terms that compare samples commute with rotations up to sampling."""
    comparing, turning = bool(set(COMPARING) & set(terms)), isinstance(space, RotationSpace)
    windowed = comparing or "diffusion" in terms and not (turning or options.get("diffusion") == "spectral")
    arguments = {"space": space, "terms": terms, **({"kernel_size": 3} if windowed else {}), **IO, **options}
    name = f"nn.PDELayer {type(space).__name__} {word}"
    u = signal(space) * (4.0 if comparing and "diffusion" in terms else 1.0)  # a diffusion leaves some to compare
    return Case(name, pg.nn.PDELayer, arguments, (u,), space, not (turning and comparing), lacks or {})


def every_term(space: Space) -> tuple[str, ...]:
    """The terms of a space; diffusion-shock first, for an erosion may leave nothing that its dilation changes."""
    return tuple(sorted(space.supported_terms, key=lambda term: term != "diffusion_shock"))


def with_metric(space: Space, form: str) -> tuple[str, ...]:
    """The terms of a space that take a metric of this form: diffusion needs a quadratic one."""
    return tuple(t for t in every_term(space) if t != "convection" and not (form in PLANE_ONLY and "diffusion" in t))


UNCOMPILED: dict[Space, dict[str, str]] = {MESH: {"compile": "diffusion"}}
"""Spaces on which one of the terms cannot be compiled in one graph."""
FORMS = [
    (space, form) for space in EXAMPLES.values() for form in METRICS
    if form != "diagonal" and space.metric_dim in METRICS[form].dims
]  # fmt: skip
"""Forms of the metric that exist on each space, except the usual one."""
SPACED_TERMS = [
    *(pde(s, (t,), t) for s in EXAMPLES.values() for t in s.supported_terms),
    *(
        pde(s, (t,), f"{t} {form}", metric=form)
        for s, form in FORMS
        if isinstance(s, RotationSpace)
        for t in with_metric(s, form)
        if t not in COMPARING
    ),
]
"""Every term on every space alone, and linear terms on spheres with every form of the metric: these are exact there."""
PDE_LAYERS = [
    *(
        pde(s, every_term(s), "all terms", UNCOMPILED.get(s), learn_alpha=True, alpha=0.7)
        for s in EXAMPLES.values()
    ),
    pde(MESH, ("convection", "dilation", "erosion"), "terms of one graph"),
    *(pde(s, with_metric(s, form), form, metric=form, batch_norm=False) for s, form in FORMS),
    *(
        pde(s, linear, "spectral", **dict.fromkeys(linear, "spectral"))
        for s in EXAMPLES.values() if isinstance(s, GridSpace)
        for linear in [tuple(t for t in ("convection", "diffusion") if t in s.supported_terms)]
    ),
    *(pde(SE2, ("diffusion", "dilation", "erosion"), d, distance=d) for d in DISTANCES),
    *(
        pde(SO3, ("dilation",), d, {"batches": "cost"} if d == "exact" else {}, distance=d, metric="axisymmetric")
        for d in ROTATION_DISTANCES
    ),
    *(pde(SE2, SE2.supported_terms, mode, padding_mode=mode) for mode in ("zeros", "replicate", "circular")),
    *(pde(s, ("dilation", "erosion"), "auto", kernel_size="auto") for s in EXAMPLES.values()),
    *(
        pde(s, ("dilation", "erosion"), "log_plus", semifield="log_plus", temperature=0.5, learn_temperature=True)
        for s in EXAMPLES.values()
    ),
    pde(SE2, ("dilation",), "log_plus auto", kernel_size="auto", semifield="log_plus", temperature=0.1),
    *(pde(s, ("dilation", "erosion"), "flat", {"learning": "no slope"}, alpha=0.5) for s in (SE2, MESH)),
    pde(SE2, SE2.supported_terms, "strang", {"learning": "short steps"}, splitting="strang", iterations=2),
    pde(S2, ("dilation",), "newton", subgrid="newton"),
    pde(SE2, ("convection", "diffusion", "dilation", "erosion"), "more orientations", inner_orientations=8),
    pde(SE2, ("convection", "diffusion"), "more orientations spectral", convection="spectral", diffusion="spectral",
        inner_orientations=8),
    pde(SE2, ("diffusion_shock",), "smoothing", smoothing=(0.0, 1.5)),
    *(
        layer(f"nn.PDELayer {name} reaction", {"space": s, "terms": ("reaction",), **IO}, signal(s),
              exact=not isinstance(s, RotationSpace))
        for name, s in EXAMPLES.items()
    ),
    pde(SE2, ("dilation", "erosion"), "cells of more orientations", oversample=(2, None)),
    pde(S2, ("dilation",), "finer samples", {"hooks": "pieces"}, oversample=2),
]  # fmt: skip
"""PDE layers with one option each: metric, method, distance, border, window, splitting, subgrid; a tutorial's term."""
COARSER = pg.S2(GRIDS.gauss_legendre(2))
DEEP = [
    layer("nn.Downsample R2 size", {"space": R2, "size": (3, 4)}, IMAGE, lacks=RESIZED),
    layer("nn.Downsample SE2 linear", {"space": SE2, "factor": 1.5, "filter": "linear"}, LIFTED, lacks=RESIZED),
    layer("nn.Downsample S2 size", {"space": S2, "size": 3}, SPHERE),
    layer("nn.Downsample SO3 half", {"space": SO3}, BALL),
    layer("nn.Downsample Mesh half", {"space": MESH, "factor": 1.5}, BUNDLE),
    layer("nn.Upsample R2 size", {"space": R2, "size": 13}, IMAGE, lacks=RESIZED),
    layer("nn.Upsample S2 twice", {"space": S2}, signal(COARSER), space=COARSER),
    layer("nn.Upsample SO3 twice", {"space": SO3}, signal(pg.SO3(COARSER.grid, 3)), space=pg.SO3(COARSER.grid, 3)),
    layer("nn.Upsample Mesh twice", {"space": MESH, "factor": 1.5}, BUNDLE[..., : MESH.coarsen(2.25).vertex_count]),
    layer("nn.Downsample R3 half", {"space": SOLID, "factor": 1.5}, VOLUME, lacks=RESIZED),
    layer("nn.Lift R3 stride", {"space": SOLID, "stride": 2, **IO}, VOLUME, lacks=RESIZED),
    layer("nn.Lift R2 stride", {"space": R2, "stride": 2, **IO}, IMAGE, lacks=RESIZED),
    layer("nn.Lift SE2 stride", {"space": SE2, "stride": 2, **IO}, IMAGE, lacks=RESIZED),
    layer("nn.Lift S2 stride", {"space": S2, "stride": 2, **IO}, SPHERE),
    layer("nn.Lift SO3 stride", {"space": SO3, "stride": 2, **IO}, SPHERE),
    layer("nn.Lift Mesh stride", {"space": MESH, "stride": 2, **IO}, FLAT),
    layer("nn.FieldDropout S2 p", {"space": S2, "p": 0.3}, SPHERE),
    *(
        layer(f"models.unet {type(s).__name__} two levels",
              {"space": s, "channels": (2, 3), "kernel_size": 3, "dropout": 0.2, **IO}, x,
              exact=not isinstance(s, RotationSpace), lacks=RESIZED)
        for s, x in ((R2, IMAGE), (S2, SPHERE), (SO3, SPHERE), (MESH, FLAT))
    ),
]  # fmt: skip
"""What deep networks are made of, on every space."""
VARIANTS = [
    *PDE_LAYERS,
    *DEEP,
    *(layer(f"nn.Lift SE2 {f}", {"space": SE2, "filters": f, **IO}, IMAGE) for f in (*BASES, "cake")),
    *(
        layer(f"nn.Lift {type(s).__name__} {f}", {"space": s, "filters": f, **IO}, SPHERE)
        for s in (S2, SO3) for f in SPHERE_FILTERS
    ),
    layer("nn.Lift SE2 valid", {"space": SE2, "kernel_size": 5, "padding": 0, **IO}, IMAGE),
    layer("nn.Lift SO3 frequencies", {"space": SO3, "max_frequency": 1, **IO}, SPHERE),
    layer("nn.Resample SE2 up", {"size": 12}, IMAGE, space=SE2),
    layer("nn.Resample SE2 factor", {"scale_factor": (0.5, 0.5), "filter": "lanczos"}, IMAGE, space=SE2),
    layer("nn.Resample SE2 down", {"size": 5}, IMAGE, space=SE2),
    layer("nn.Resample R3", {"size": (4, 3, 5)}, VOLUME, space=SOLID),
    layer("nn.MaxPool R3", {"kernel_size": 2, "dims": 3}, torch.randn(2, 2, 4, 4, 6)),
    layer("nn.BatchNorm R3", {"num_features": 2, "space": SOLID}, VOLUME),
    layer("nn.Project R3 dilated", {"space": SOLID, "mode": "dilated"}, VOLUME),
    pde(SOLID, ("dilation", "erosion"), "finer samples", oversample=2),
    *(pde(SOLID, SOLID.supported_terms, mode, padding_mode=mode) for mode in ("zeros", "circular")),
    layer("nn.GroupConv SE2 sizes", {"space": SE2, "kernel_size": (3, 5), **IO}, LIFTED),
    *(layer(f"nn.Project SE2 {m}", {"space": SE2, "mode": m}, LIFTED) for m in ("mean", "norm", "dilated")),
    layer("nn.Project SO3 mean", {"space": SO3, "mode": "mean"}, BALL),
    layer("nn.Project SO3 max", {"space": SO3, "mode": "max", "oversample": 2}, BALL, exact=False),
    layer("nn.Project Mesh max", {"space": MESH}, BUNDLE),
    layer("nn.GlobalPool S2 mean", {"space": S2}, SPHERE),
    layer("nn.GlobalPool SO3 max", {"space": SO3, "mode": "max", "oversample": 2}, BALL, exact=False),
    *(
        layer(f"nn.SphereActivation {type(s).__name__} {f.__name__}",
              {"space": s, "function": f, "oversample": 2}, signal(s))
        for s in (S2, SO3) for f in (square, channel_product)
    ),
    layer("nn.SphereConv S2 all", {"space": S2, **IO}, SPHERE),
    layer("nn.SphereConv SO3 frequencies", {"space": SO3, "num_radial": 2, "max_frequency": 1, **IO}, BALL),
    layer("nn.SphereNormReLU S2 all", {"space": S2, "channels": 2}, SPHERE),
    layer("gauge.GaugeConv Mesh ball",
          {"in_channels": CHANNELS, "out_channels": {0: 2, 2: 2}, "radius": 2.0, "radial": 3}, SPINS, MESH),
    *(layer(f"gauge.Diffusion Mesh {k}", {"channels": 2, "spin": k}, SPINS, MESH) for k in (0, 1)),
    *(
        layer(f"gauge.Diffusion Mesh spectral {k}",
              {"channels": 2, "spin": k, "method": "spectral", "alpha": 0.5, "modes": 5}, SPINS, MESH)
        for k in (0, 2)
    ),
    layer("gauge.MeshPool Mesh max", {"factor": 2.0, "mode": "max"}, {0: FLAT}, MESH),
    layer("gauge.MeshPool Mesh lifted", {"factor": 2.0}, BUNDLE, MESH),
    layer("gauge.MeshUnpool Mesh lifted", {"factor": 2.0}, BUNDLE[..., : COARSE[0].shape[-1]], MESH),
]  # fmt: skip
"""Layers with an option that the laws of layers must not break."""
LAYERS = [*PUBLIC_LAYERS, *VARIANTS]
"""What the laws of layers walk over."""
KINDS = [
    *PUBLIC_LAYERS,
    *(c for c in DEEP if not c.name.startswith("models.")),
    *(
        c
        for c in PDE_LAYERS
        if c.name.endswith(
            ("all terms", "one graph", "randers", "spectral", "newton", "finer samples", "reaction", "log_plus")
        )
    ),
]
"""What the laws that take longer walk over: every layer once, every term on every space, and every kind of solver."""

STACK = pg.reversible.ReversibleStack([pg.reversible.SymmetricConv(2, 3, 2)])


def function(name: str, **arguments: Any) -> Case:
    """A case of a function."""
    return Case(name, find(name.split()[0]), arguments)


FUNCTIONS = [
    function("functional.cake_lift", image=IMAGE, space=SE2, part="real"),
    function("functional.cake_reconstruct", score=LIFTED, space=SE2),
    function("functional.convection", u=LIFTED, space=SE2, vector=W, time=1.0, boundary="zeros"),
    function("functional.convection_diffusion", u=BALL, space=SO3, vector=W, metric=W, alpha=0.7, time=1.0),
    function("functional.diffusion", u=LIFTED, space=SE2, metric=W, alpha=0.7, time=1.0, kernel_size=3),
    function(
        "functional.diffusion_shock",
        u=LIFTED,
        space=SE2,
        diffusion_metric=W,
        shock_metric=UNEQUAL,
        contrast=torch.tensor([2.0, 5.0]),
        sharpness=torch.tensor([0.3, 0.6]),
        alpha=0.7,
        time=1.0,
        kernel_size=3,
    ),
    function("functional.gradient_norm", u=BUNDLE, space=MESH, metric=W, smoothing=1.0),
    function("functional.laplacian", u=LIFTED, space=SE2, metric=W, smoothing=0.7, boundary="zeros"),
    function("functional.lateral_laplacian", u=SPHERE, space=S2, smoothing=0.3),
    function("functional.dilation", u=LIFTED, space=SE2, metric=UNEQUAL, alpha=0.7, time=1.0, kernel_size=3),
    function(
        "functional.dilation log_plus",
        u=LIFTED,
        space=SE2,
        metric=UNEQUAL,
        kernel_size=3,
        semifield="log_plus",
        temperature=torch.tensor([0.3, 0.7]),
    ),
    function("functional.convection inner", u=LIFTED, space=SE2, vector=torch.randn(2, 3), inner_orientations=8),
    function("functional.diffusion inner", u=LIFTED, space=SE2, metric=W, alpha=0.7, inner_orientations=8),
    function(
        "functional.dilation inner",
        u=LIFTED,
        space=SE2,
        metric=UNEQUAL,
        alpha=0.7,
        kernel_size=3,
        inner_orientations=8,
    ),
    function("functional.erosion", u=SPHERE, space=S2, metric=torch.ones(2, 1), alpha=0.7, kernel_size=3),
    function("functional.group_convolution", u=LIFTED, kernel=torch.randn(2, 4, 3, 3, 3), boundary="zeros"),
    function("functional.morphological_convolution", u=LIFTED, kernel=torch.rand(2, 4, 3, 3, 3), sign=1),
    function(
        "functional.morphological_convolution log_plus",
        u=LIFTED,
        kernel=torch.rand(2, 4, 3, 3, 3),
        sign=-1,
        semifield="log_plus",
        temperature=torch.tensor([0.3, 0.7]),
    ),
    function("functional.project", u=LIFTED, space=SE2, mode="dilated", oversample=2, longitudinal=2.0, lateral=1.0),
    function("functional.resample", u=IMAGE, size=5),
    function("gauge.transform", features=SPINS, angles=torch.randn(12)),
    function("gauge.gaussian_curvature", mesh=MESH),
    function("gauge.mean_curvature", mesh=MESH),
    function("gauge.heat_kernel_signature", mesh=MESH, times=3, modes=5),
    function("kernels.as_metric", metric=W, dim=3, channels=2),
    function("kernels.diffusion_profile", squared_distance=torch.rand(4), alpha=0.7, dim=3, time=1.0),
    function("kernels.morphological_kernel", squared_distance=torch.rand(4), alpha=0.7, time=1.0),
    function("reversible.stability_report", stack=STACK, y=IMAGE, v=IMAGE),
    function("models.canonical_boxes", boxes=BOXES),
    function("models.turn_boxes", boxes=BOXES, angle=30.0, size=(20, 24)),
    function("models.oriented_iou", boxes=BOXES, others=BOXES.flip(0)),
    function("models.oriented_nms", boxes=BOXES, scores=torch.tensor([0.5, 0.9, 0.7]), overlap=0.3),
    function("sphere.area_mean", values=SPHERE, grid=GRID),
    function("sphere.regrid", values=torch.randn(2, 5, 8), latitudes=LATITUDES, longitudes=LONGITUDES, grid=GRID),
    function("sphere.to_latlon", signal=SPHERE, grid=GRID, latitudes=LATITUDES, longitudes=LONGITUDES),
    function("sphere.gradient", c=COEFFICIENTS),
    function("sphere.divergence", a=torch.stack((COEFFICIENTS, COEFFICIENTS), -3)),
    function("sphere.curl", a=torch.stack((COEFFICIENTS, COEFFICIENTS), -3)),
    function("sphere.to_e3nn", c=COEFFICIENTS),
    function("sphere.from_e3nn", x=torch.randn(2, 16)),
    function("sphere.irreps", lmax=3),
    function("sphere.rotate_coefficients", c=COEFFICIENTS, R=torch.eye(3, dtype=torch.float64)),
    function("sphere.clebsch_gordan_product", a=COEFFICIENTS, b=COEFFICIENTS, lmax=3),
    function("sphere.wigner_D", l=2, R=torch.eye(3, dtype=torch.float64)),
    function("sphere.wigner_d", l=2, beta=torch.tensor(0.3, dtype=torch.float64)),
]
"""A good call of every public function."""

CORNERS, TRIANGLES = torch.rand(4, 3, dtype=torch.float64), torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
MAKERS = [
    Case("SE2", pg.SE2, {"orientations": 4}),
    Case("R3", pg.R3, {"spacing": (2.0, 1.0, 1.0)}),
    Case("S2", pg.S2, {"grid": GRID}),
    Case("SO3", pg.SO3, {"grid": GRID, "orientations": 3}),
    Case("SphereGrid.gauss_legendre", GRIDS.gauss_legendre, {"bandlimit": 4, "nlon": 8}),
    Case("SphereGrid.equiangular", GRIDS.equiangular, {"bandlimit": 4, "kind": "full_band"}),
    Case("SphereGrid.reduced_gauss", GRIDS.reduced_gauss, {"bandlimit": 4, "tolerance": 1e-6, "spacing": "even"}),
    Case("SphereGrid.icosahedral", GRIDS.icosahedral, {"subdivisions": 1}),
    Case("SphereGrid.healpix", GRIDS.healpix, {"nside": 2, "nest": True}),
    Case("Mesh.from_arrays", Mesh.from_arrays,
         {"vertices": CORNERS, "faces": TRIANGLES, "orientations": 4, "unit": 1.0}),
    Case("Mesh.from_lengths", Mesh.from_lengths,
         {"faces": TRIANGLES, "lengths": torch.ones(4, 3), "orientations": 4, "unit": 1.0}),
    Case("Mesh.to_tangent", MESH.to_tangent, {"vectors": torch.randn(2, 12, 3)}),
    Case("Mesh.from_tangent", MESH.from_tangent, {"features": SPINS[1]}),
    Case("Mesh.with_orientations", MESH.with_orientations, {"orientations": 3}),
    Case("Mesh.coarsen", MESH.coarsen, {"factor": 2.0}),
    Case("nn.MetricParameter", pg.nn.MetricParameter, {"space": SE2, "channels": 2, "form": "spd"}),
    Case("nn.LearnableTemperature", pg.nn.LearnableTemperature, {"channels": 2, "initial": 0.1}),
    Case("nn.LearnableAlpha", pg.nn.LearnableAlpha, {"initial": 0.7}),
    Case("sphere.VectorSHT", pg.sphere.VectorSHT, {"grid": GRID, "lmax": 2}),
    Case("sphere.InverseVectorSHT", pg.sphere.InverseVectorSHT, {"grid": GRID, "lmax": 2}),
    Case("sphere.SpinSHT", pg.sphere.SpinSHT, {"grid": GRID, "spin": 1, "lmax": 2}),
    Case("sphere.InverseSpinSHT", pg.sphere.InverseSpinSHT, {"grid": GRID, "spin": 1, "lmax": 2}),
    Case("sphere.InverseSO3FFT", pg.sphere.InverseSO3FFT, {"grid": GRID, "fibre": 3, "lmax": 2, "nmax": 1}),
    Case("sphere.ExactProduct", pg.sphere.ExactProduct, {"lmax": 2, "other": 2, "out": 3}),
]  # fmt: skip
"""What makes spaces, grids, parameters and transforms, without a forward pass that fits the laws of layers."""
CASES = [*LAYERS, *FUNCTIONS, *MAKERS]

SPHERE_TURN = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
METHODS = [
    Case("Mesh.union", Mesh.union, {"meshes": [MESH, MESH]}),
    Case("Mesh.with_gauge", MESH.with_gauge, {"angles": torch.randn(12)}),
    Case("Mesh.prepare", MESH.prepare,
         {"radii": (2.0, None), "spins": (0, 1), "bases": {0: 3}, "factors": (2.0,), "progress": False}),
    Case("Mesh.transform", MESH.transform, {"signal": BUNDLE, "symmetry": torch.arange(12)}),
    Case("Mesh.transform base", MESH.transform, {"signal": FLAT, "symmetry": torch.arange(12)}),
    Case("R2.transform angle", R2.transform, {"signal": IMAGE, "angle": 30.0}),
    Case("R2.transform shift", R2.transform, {"signal": IMAGE, "shift": (1, -2)}),
    Case("SE2.transform angle", SE2.transform, {"signal": LIFTED, "angle": 90}),
    Case("SE2.transform shift", SE2.transform, {"signal": LIFTED, "shift": (1, -2)}),
    Case("R3.transform angle", SOLID.transform, {"signal": VOLUME, "angle": 30.0, "axis": (0.0, 1.0, 0.0)}),
    Case("R3.transform shift", SOLID.transform, {"signal": VOLUME, "shift": (1, -2, 0)}),
    Case("R3.transform rotation", SOLID.transform, {"signal": VOLUME, "rotation": SPHERE_TURN}),
    Case("S2.transform", S2.transform, {"signal": SPHERE, "rotation": SPHERE_TURN}),
    Case("SO3.transform", SO3.transform, {"signal": BALL, "rotation": SPHERE_TURN}),
]  # fmt: skip
"""Methods of spaces that signals and numbers are given to."""

ELSEWHERE = {
    "gauge.Features": "a type",
    "kernels.Metric": "a base class",
    "kernels.SPD": "built by as_metric", "kernels.Diagonal": "built by as_metric",
    "kernels.Axisymmetric": "built by as_metric",
    "kernels.Finsler": "tests/kernels", "kernels.Randers": "tests/kernels",
    "reversible.Transition": "a base class",
    "reversible.MemoryEstimate": "a result", "reversible.StabilityReport": "a result",
    "reversible.memory_estimate": "tests/reversible/test_memory.py",
    "reversible.safe_initialise": "changes a model in place: tests/reversible",
    "reversible.depth_smoothness": "a penalty of a model: tests/reversible",
    **{f"models.{n}": "tests/models/test_spherical_detection.py"
       for n in ("SphericalBoxes", "average_precision", "box_area", "box_iou", "detection_loss", "find_boxes")},
    "models.Detector": "gives boxes, or losses of targets: tests/models/test_planar_detection.py",
    "nn.AreaWeightedLoss": "takes a target: tests/nn/test_area_weighted_loss.py",
    "models.tiled": "tests/models/test_tiles.py",
    "sphere.grid_of": "gives a grid: tests/sphere/test_latlon.py",
    "sphere.SphereGrid": "tests/sphere/test_grid.py",
}  # fmt: skip
"""Public names without a case, and why."""


def public(package: str) -> set[str]:
    """Names of the classes and functions that a package shows."""
    module = PACKAGES[package]
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    return {f"{package}.{n}" for n in names if callable(getattr(module, n))}


def outputs(value: Any) -> list[Tensor]:
    """All tensors of a result."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for v in value.values() for t in outputs(v)]
    return [t for v in value for t in outputs(v)] if isinstance(value, (list, tuple)) else []


def converted(value: Any, dtype: torch.dtype) -> Any:
    """Inputs in another precision; complex numbers in that of their parts. Meshes have none."""
    if isinstance(value, Tensor):
        return value.to(dtype.to_complex() if value.is_complex() else dtype)
    if isinstance(value, dict):
        return {k: converted(v, dtype) for k, v in value.items()}
    return value
