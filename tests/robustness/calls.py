"""One good call of every public layer and function: what the tests of this folder bend, compile and cast.

A new public name must be entered here, or ``test_every_public_name_is_here`` fails.
"""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import pdegcnn as pg

from ..helpers import bumpy_sphere

torch.manual_seed(0)
SE2, R2, GRID = pg.SE2(4), pg.R2(), pg.sphere.SphereGrid.gauss_legendre(4)
S2, SO3 = pg.S2(GRID), pg.SO3(GRID, 3)
MESH = bumpy_sphere(0, orientations=4)
ROOMS: dict[str, ModuleType] = {
    name: getattr(pg, name) for name in ("functional", "nn", "gauge", "models", "reversible", "kernels", "sphere")
}
IMAGE, LIFTED, BALL = torch.randn(2, 2, 6, 7), torch.randn(2, 2, 4, 6, 7), torch.randn(2, 2, 3, 4, 8)
SPHERE, BUNDLE, FLAT = torch.randn(2, 2, 4, 8), torch.randn(2, 2, 4, 12), torch.randn(2, 2, 12)
SPINS = {0: FLAT, 1: torch.randn(2, 2, 12, dtype=torch.complex64)}
COARSE = {k: u[..., : MESH.coarsen(2.0).vertex_count] for k, u in SPINS.items()}
CHANNELS, W = {0: 2, 1: 2}, torch.ones(2, 3)
COEFFICIENTS = torch.randn(2, 2, 4, 4, dtype=torch.complex64)
PAIR = torch.randn(2, 2, 2, 4, 4, dtype=torch.complex64)
SQUARE = torch.randn(2, 2, 6, 6)
LATITUDES, LONGITUDES = torch.tensor([90, 45, 0, -45, -90]), torch.arange(8) * 45

STACK = pg.reversible.ReversibleStack([pg.reversible.SymmetricConv(2, 3, 2)])

IO = {"in_channels": 2, "out_channels": 3}
LAYERS: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "nn.BatchNorm": ({"num_features": 2, "space": S2}, (SPHERE,)),
    "nn.ChannelLinear": (IO, (LIFTED,)),
    "nn.Convection": ({"space": SE2, "channels": 2}, (LIFTED,)),
    "nn.ConvectionDiffusion": ({"space": SO3, "channels": 2, "alpha": 0.7}, (BALL,)),
    "nn.Diffusion": ({"space": SE2, "channels": 2, "alpha": 0.7}, (LIFTED,)),
    "nn.Morphology": ({"space": SE2, "channels": 2, "sign": 1, "alpha": 0.7}, (LIFTED,)),
    "nn.GroupConv": ({"space": SE2, "kernel_size": 3, **IO}, (LIFTED,)),
    "nn.GlobalPool": ({"space": SO3, "mode": "mean"}, (BALL,)),
    "nn.Lift": ({"space": SE2, "kernel_size": 3, "filters": "bspline", **IO}, (IMAGE,)),
    "nn.GridLift": ({"space": SE2, "kernel_size": 3, **IO}, (IMAGE,)),
    "nn.MeshLift": ({"space": MESH, "radius": 1.5, **IO}, (FLAT,)),
    "nn.SphereLift": ({"space": SO3, "kernel_size": 3, **IO}, (SPHERE,)),
    "nn.MaxPool": ({"kernel_size": 2}, (SQUARE,)),
    "nn.Project": ({"space": SE2, "mode": "max"}, (LIFTED,)),
    "nn.PDELayer": ({"space": SE2, "kernel_size": 3, "alpha": 0.7, **IO}, (LIFTED,)),
    "nn.Resample": ({"size": 5}, (LIFTED,)),
    "nn.SphereActivation": ({"space": SO3, "oversample": 2}, (BALL,)),
    "nn.SphereConv": ({"space": SO3, "num_radial": 2, **IO}, (BALL,)),
    "nn.SphereGated": ({"space": SO3, "channels": 2}, (BALL,)),
    "nn.SphereNormReLU": ({"space": SO3, "channels": 2}, (BALL,)),
    "nn.SpectralResample": ({"source": S2, "target": pg.S2(pg.sphere.SphereGrid.gauss_legendre(3))}, (SPHERE,)),
    "gauge.Diffusion": ({"channels": 2, "spin": 1, "method": "spectral", "modes": 3}, (SPINS, MESH)),
    "gauge.GaugeConv": ({"in_channels": CHANNELS, "out_channels": CHANNELS}, (SPINS, MESH)),
    "gauge.GatedNonlinearity": ({"channels": CHANNELS}, (SPINS,)),
    "gauge.GlobalPool": ({"mode": "mean"}, (FLAT, MESH)),
    "gauge.NormReLU": ({"channels": CHANNELS}, (SPINS,)),
    "gauge.MeshPool": ({"factor": 2.0, "mode": "mean"}, (SPINS, MESH)),
    "gauge.TensorProduct": ({"channels": CHANNELS}, (SPINS,)),
    "gauge.RegularReLU": ({"channels": CHANNELS, "samples": 5}, (SPINS,)),
    "gauge.SpinMix": ({"in_channels": CHANNELS, "out_channels": CHANNELS}, (SPINS,)),
    "gauge.SpinNorm": ({"channels": CHANNELS}, (SPINS,)),
    "gauge.MeshUnpool": ({"factor": 2.0}, (COARSE, MESH)),
    "reversible.CyclicSpaceToDepth": ({"orientations": 4}, (torch.randn(2, 2, 4, 6, 8),)),
    "reversible.Inverse": ({"transition": pg.reversible.Wavelet("haar", 2)}, (torch.randn(2, 8, 3, 4),)),
    "reversible.LearnableOrthogonal": ({}, (torch.randn(2, 2, 6, 8),)),
    "reversible.ReversibleStack": ({"layers": [nn.Conv2d(2, 2, 3, padding=1)], "h": 0.1}, (IMAGE,)),
    "reversible.NormalizedSymmetricConv": ({"channels": 2, "kernel_size": 3, "dims": 2}, (IMAGE,)),
    "reversible.SymmetricConv": ({"channels": 2, "kernel_size": 3, "dims": 2}, (IMAGE,)),
    "reversible.SymmetricGroupConv": ({"channels": 2, "orientations": 4, "kernel_size": 3}, (LIFTED,)),
    "reversible.Telegraph": ({"layer": nn.Conv2d(2, 2, 3, padding=1), "steps": 2}, (IMAGE,)),
    "reversible.Wavelet": ({"name": "haar", "dims": 2}, (torch.randn(2, 2, 6, 8),)),
    "sphere.RealSHT": ({"grid": GRID}, (SPHERE,)),
    "sphere.InverseRealSHT": ({"grid": GRID}, (COEFFICIENTS,)),
    "sphere.SO3FFT": ({"grid": GRID, "fibre": 3}, (BALL,)),
    "models.rotated_digits": ({"classes": 3, "channels": (2, 2), "size": 6, "kernel_size": 3}, (SQUARE[:, :1],)),
    "models.vessel_segmentation": ({"in_channels": 2, "layers": 3, "channels": 2, "kernel_size": 3}, (IMAGE,)),
    "models.hyperbolic_classifier": ({"in_channels": 2, "classes": 3, "width": 2, "depth": 1, "levels": 1}, (IMAGE,)),
    "models.hyperbolic_segmenter": ({"in_channels": 2, "classes": 3, "width": 2, "depth": 1, "levels": 1}, (IMAGE,)),
    "models.video_segmenter": (
        {"in_channels": 2, "classes": 3, "width": 2, "depth": 1, "levels": 1, "rank": 2}, (torch.randn(2, 2, 4, 4, 4),),
    ),
    "models.equivariant_hyperbolic_segmenter": (
        {"in_channels": 2, "classes": 2, "width": 2, "depth": 1, "orientations": 4, "kernel_size": 3}, (IMAGE,),
    ),
    "models.spherical_classifier": (
        {"grid": GRID, "classes": 3, "in_channels": 2, "channels": (2, 2), "fibre": 3, "kernel_size": 3}, (SPHERE,),
    ),
    "models.spherical_segmenter": (
        {"grid": GRID, "in_channels": 2, "width": 2, "levels": 2, "fibre": 3, "kernel_size": 3}, (SPHERE,),
    ),
    "models.spherical_detector": (
        {"grid": GRID, "classes": 2, "in_channels": 2, "width": 2, "layers": 1, "fibre": 3}, (SPHERE,),
    ),
}  # fmt: skip
"""Public layers and networks: arguments of the constructor, and inputs."""

FUNCTIONS: dict[str, dict[str, Any]] = {
    "functional.cake_lift": {"image": IMAGE, "space": SE2, "part": "real"},
    "functional.cake_reconstruct": {"score": LIFTED, "space": SE2},
    "functional.convection": {"u": LIFTED, "space": SE2, "vector": W, "time": 1.0, "boundary": "zeros"},
    "functional.convection_diffusion": {
        "u": BALL,
        "space": SO3,
        "vector": W,
        "metric": W,
        "alpha": 0.7,
        "time": 1.0,
    },
    "functional.diffusion": {"u": LIFTED, "space": SE2, "metric": W, "alpha": 0.7, "time": 1.0, "kernel_size": 3},
    "functional.dilation": {"u": LIFTED, "space": SE2, "metric": W, "alpha": 0.7, "time": 1.0, "kernel_size": 3},
    "functional.erosion": {"u": SPHERE, "space": S2, "metric": torch.ones(2, 1), "alpha": 0.7, "kernel_size": 3},
    "functional.group_convolution": {"u": LIFTED, "kernel": torch.randn(2, 4, 3, 3, 3), "boundary": "zeros"},
    "functional.morphological_convolution": {"u": LIFTED, "kernel": torch.rand(2, 4, 3, 3, 3), "sign": 1},
    "functional.project": {
        "u": LIFTED,
        "space": SE2,
        "mode": "dilated",
        "oversample": 2,
        "longitudinal": 2.0,
        "lateral": 1.0,
    },
    "functional.resample": {"u": IMAGE, "size": 5},
    "gauge.transform": {"features": SPINS, "angles": torch.randn(12)},
    "kernels.as_metric": {"metric": W, "dim": 3, "channels": 2},
    "kernels.diffusion_profile": {"squared_distance": torch.rand(4), "alpha": 0.7, "dim": 3, "time": 1.0},
    "kernels.morphological_kernel": {"squared_distance": torch.rand(4), "alpha": 0.7, "time": 1.0},
    "reversible.stability_report": {"stack": STACK, "y": IMAGE, "v": IMAGE},
    "sphere.area_mean": {"values": SPHERE, "grid": GRID},
    "sphere.regrid": {"values": torch.randn(2, 5, 8), "latitudes": LATITUDES, "longitudes": LONGITUDES, "grid": GRID},
    "sphere.to_latlon": {"signal": SPHERE, "grid": GRID, "latitudes": LATITUDES, "longitudes": LONGITUDES},
    "sphere.to_e3nn": {"c": COEFFICIENTS},
    "sphere.from_e3nn": {"x": torch.randn(2, 16)},
    "sphere.irreps": {"lmax": 3},
    "sphere.rotate_coefficients": {"c": COEFFICIENTS, "R": torch.eye(3, dtype=torch.float64)},
    "sphere.clebsch_gordan_product": {"a": COEFFICIENTS, "b": COEFFICIENTS, "lmax": 3},
    "sphere.wigner_D": {"l": 2, "R": torch.eye(3, dtype=torch.float64)},
    "sphere.wigner_d": {"l": 2, "beta": torch.tensor(0.3, dtype=torch.float64)},
}
"""Public functions: arguments of a good call, by name."""
GRIDS = pg.sphere.SphereGrid
CORNERS, TRIANGLES = torch.rand(4, 3, dtype=torch.float64), torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
MAKERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SE2": (pg.SE2, {"orientations": 4}),
    "S2": (pg.S2, {"grid": GRID}),
    "SO3": (pg.SO3, {"grid": GRID, "orientations": 3}),
    "SphereGrid.gauss_legendre": (GRIDS.gauss_legendre, {"bandlimit": 4, "nlon": 8}),
    "SphereGrid.equiangular": (GRIDS.equiangular, {"bandlimit": 4, "kind": "full_band"}),
    "SphereGrid.reduced_gauss": (GRIDS.reduced_gauss, {"bandlimit": 4, "tolerance": 1e-6, "spacing": "even"}),
    "SphereGrid.icosahedral": (GRIDS.icosahedral, {"subdivisions": 1}),
    "SphereGrid.healpix": (GRIDS.healpix, {"nside": 2, "nest": True}),
    "Mesh.from_arrays": (
        pg.Mesh.from_arrays, {"vertices": CORNERS, "faces": TRIANGLES, "orientations": 4, "unit": 1.0},
    ),
    "Mesh.from_lengths": (
        pg.Mesh.from_lengths, {"faces": TRIANGLES, "lengths": torch.ones(4, 3), "orientations": 4, "unit": 1.0},
    ),
    "Mesh.with_orientations": (MESH.with_orientations, {"orientations": 3}),
    "Mesh.coarsen": (MESH.coarsen, {"factor": 2.0}),
    "nn.MetricParameter": (pg.nn.MetricParameter, {"space": SE2, "channels": 2, "form": "spd"}),
    "nn.LearnableAlpha": (pg.nn.LearnableAlpha, {"initial": 0.7}),
    "sphere.VectorSHT": (pg.sphere.VectorSHT, {"grid": GRID, "lmax": 2}),
    "sphere.InverseVectorSHT": (pg.sphere.InverseVectorSHT, {"grid": GRID, "lmax": 2}),
    "sphere.SpinSHT": (pg.sphere.SpinSHT, {"grid": GRID, "spin": 1, "lmax": 2}),
    "sphere.InverseSpinSHT": (pg.sphere.InverseSpinSHT, {"grid": GRID, "spin": 1, "lmax": 2}),
    "sphere.InverseSO3FFT": (pg.sphere.InverseSO3FFT, {"grid": GRID, "fibre": 3, "lmax": 2, "nmax": 1}),
    "sphere.ExactProduct": (pg.sphere.ExactProduct, {"lmax": 2, "other": 2, "out": 3}),
}  # fmt: skip
"""What makes spaces, grids, parameters and transforms: the function, and arguments of a good call."""
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
    "nn.MetricParameter": "gives a metric, no tensor", "nn.LearnableAlpha": "takes no input",
    **{f"models.{n}": "tests/models/test_spherical_detection.py"
       for n in ("SphericalBoxes", "average_precision", "box_area", "box_iou", "detection_loss", "find_boxes")},
    "models.tiled": "tests/models/test_tiles.py",
    "sphere.grid_of": "gives a grid: tests/sphere/test_latlon.py",
    "sphere.SphereGrid": "tests/sphere/test_grid.py", "sphere.ExactProduct": "tests/sphere/test_vector.py",
    **{f"sphere.{n}": "tests/sphere/test_vector.py" for n in ("curl", "divergence", "gradient", "VectorSHT")},
    **{f"sphere.{n}": "tests/sphere" for n in ("InverseVectorSHT", "SpinSHT", "InverseSpinSHT", "InverseSO3FFT")},
}  # fmt: skip
"""Public names that this folder leaves to others, and why."""


def public(room: str) -> set[str]:
    """Names of the classes and functions that a room shows."""
    module = ROOMS[room]
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    values = {n: getattr(module, n) for n in names}
    return {f"{room}.{n}" for n, v in values.items() if inspect.isclass(v) or inspect.isfunction(v) or callable(v)}


def find(name: str) -> Any:
    """The public object."""
    room, _, leaf = name.partition(".")
    return getattr(ROOMS[room], leaf)


def outputs(value: Any) -> list[Tensor]:
    """All tensors of a result."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for v in value.values() for t in outputs(v)]
    return [t for v in value for t in outputs(v)] if isinstance(value, (list, tuple)) else []
