"""Errors of layers and networks, and of what makes spaces, grids, parameters and transforms."""

from __future__ import annotations

import torch

import pdegcnn as pg

from ..cases import (
    BALL,
    COEFFICIENTS,
    GRID,
    IMAGE,
    LIFTED,
    MESH,
    R2,
    S2,
    SE2,
    SO3,
    SOLID,
    SPHERE,
    VOLUME,
)
from .values import (
    EYE,
    GRIDS,
    GROUP,
    INF,
    NAN,
    POINTS,
    SIZES,
    SPIN,
    Row,
)

LAYERS: dict[str, list[Row]] = {
    "nn.PDELayer": [
        ({"terms": ("advection",)}, ValueError, "terms: expected one of 'convection'"),
        ({"terms": ("convection_diffusion",)}, ValueError,
         "expected one of 'convection', .* on SE2.*got 'convection_diffusion'"),
        ({"terms": ("diffusion-shock",)}, ValueError, "terms: expected one of"),
        *(({"terms": t}, ValueError, "terms: expected a sequence") for t in (("erosion", "erosion"), "erosion")),
        ({"alpha": 0.3}, ValueError, r"alpha: expected a value in \[0.5, 1.0\]"),
        ({"kernel_size": 4}, ValueError, "kernel_size: expected positive odd"),
        ({"space": SOLID, "kernel_size": (3, 3, 0)}, ValueError, "kernel_size: .*odd"),
        ({"distance": "x"}, ValueError, "distance: expected one of"),
        ({"diffusion": "x"}, ValueError, "method: expected one of"),
        ({"boundary": "x"}, ValueError, "boundary: expected one of"),
        *(({"metric": "finsler", "space": s}, ValueError, "metric: expected one of") for s in (SE2, SOLID, MESH)),
        ({"in_channels": 0}, ValueError, "in_channels: expected a positive int"),
        ({"u": torch.randn(1, 3, 4, 6, 6)}, ValueError, r"u: expected 2 channels .*\(1, 3, 4, 6, 6\)"),
        ({"u": LIFTED.double()}, TypeError, "u: expected dtype torch.float32 as the parameters"),
        ({"u": IMAGE}, ValueError, r"lift first: pdegcnn.nn.Lift\(space, in_channels, out_channels\)"),
        ({"mesh": MESH}, TypeError, "mesh: expected None for a term on SE2"),
    ],
    "nn.PDELayer SO3 all terms": [
        ({"boundary": "zeros"}, ValueError, "boundary: expected None for .* on SO3"),
        ({"kernel_size": (3, 3, 3)}, ValueError, "kernel_size: expected an odd int or 2"),
        ({"subgrid": "spline"}, ValueError, "subgrid: expected one of None, 'newton'"),
        ({"u": torch.zeros(1, 2, 3, 6, 12)}, ValueError,
         r"u: expected last axes \(4, 8\) of the grid gauss_legendre, got shape \(1, 2, 3, 6, 12\)"),
        ({"u": BALL[:, :, :2]}, ValueError, "u: expected 3 orientations on axis 2"),
        ({"u": SPHERE}, ValueError, "u: expected a tensor of rank 5"),
        ({"u": BALL + 0j}, TypeError, "u: expected a floating-point tensor"),
    ],
    "nn.PDELayer S2 all terms": [
        ({"terms": ("convection",)}, ValueError, "convection cannot exist on S2"),
        ({"terms": ("convection_diffusion",)}, ValueError, "cannot exist on S2.*no vector field"),
        ({"u": BALL}, ValueError, r"u: expected a tensor of rank 4 laid out \[B,C,nlat,nlon\]"),
    ],
    "nn.PDELayer Mesh all terms": [
        ({"kernel_size": (3, 3, 3)}, ValueError, "kernel_size: expected an odd int, two of them"),
        ({"distance": "combined"}, ValueError, "distance: expected one of 'half_angle'"),
        ({"convection": "spectral"}, ValueError, "method: expected one of 'linear'"),
        ({"boundary": "zeros"}, ValueError, "boundary: expected one of 'replicate'"),
        ({"metric": "finsler"}, ValueError, "metric: expected one of 'diagonal', 'axisymmetric', 'spd'"),
    ],
    "nn.Morphology": [
        ({"semifield": "log_plus", "temperature": 0.0}, ValueError, "temperature: expected a value in"),
        ({"semifield": "log_plus"}, TypeError, "temperature: expected a number"),
        ({"semifield": "log_plus", "temperature": 0.5, "oversample": 2}, ValueError,
         "oversample: expected one of None, 1"),
        ({"temperature": 0.5}, ValueError, "temperature: expected None for semifield='max_plus'"),
        ({"semifield": "min_plus", "temperature": 0.5}, ValueError, "semifield: expected one of"),
        ({"learn_temperature": True}, ValueError, "learn_temperature: "),
        ({"semifield": "log_plus", "temperature": 0.5, "learn_temperature": 1}, TypeError,
         "learn_temperature: expected True or False"),
        *(({"space": SOLID, "semifield": "log_plus", "temperature": t}, ValueError, "temperature: expected a value in")
          for t in (-1.0, NAN)),
        ({"space": SOLID, "semifield": "log_plus", "temperature": 0.5, "oversample": 2}, ValueError,
         "oversample: expected one of None, 1"),
        ({"space": S2, "semifield": "log_plus", "temperature": 0.5, "subgrid": "newton"}, ValueError,
         "subgrid: expected one of None"),
    ],
    "nn.Lift": [
        ({"space": "SE2", "filters": None}, TypeError, "space: expected one of PlanarSpace, .*got str"),
        ({"space": GRID, "filters": None}, TypeError, "space: expected one of"),
        ({"kernel_size": 4}, ValueError, "kernel_size: expected positive odd"),
        ({"kernel_size": 4, "space": SOLID, "filters": None}, ValueError, "kernel_size: expected positive odd"),
        ({"kernel_size": 9, "padding": 0, "image": IMAGE}, ValueError, "image: expected at least 9 pixels"),
        ({"filters": "gabor"}, ValueError, "filters: expected one of"),
        ({"filters": "cake", "space": SOLID}, ValueError, "filters: expected None"),
        ({"filters": "bspline", "space": SO3}, ValueError, "filters: expected one of"),
        ({"space": S2, "filters": None, "stride": 9}, ValueError, "stride: expected a stride that leaves at least"),
        ({"image": torch.randn(1, 3, 6, 6)}, ValueError, "image: expected 2 channels"),
        ({"image": LIFTED}, ValueError, "image: expected a tensor of rank 4"),
        ({"image": torch.zeros(1, 2, 8, 8, dtype=torch.uint8)}, TypeError,
         r"got dtype torch.uint8; an image of 8 bits: \w+.float\(\) / 255"),
    ],
    "nn.VolumeLift": [
        ({"kernel_size": 5, "padding": 0, "volume": VOLUME}, ValueError, "volume: expected .*5, 5, 5"),
    ],
    "nn.GridLift": [({"space": SOLID}, TypeError, "space: expected R2 or SE2")],
    "nn.SphereLift": [
        ({"space": pg.SO3(POINTS, 4)}, ValueError, "grid: expected a grid of rings"),
        ({"max_frequency": 2}, ValueError,
         r"max_frequency: expected at most 1 on SO3.* at least 2 N \+ 1 orientations .*; got 2"),
        ({"max_frequency": 1.5}, ValueError, "max_frequency: expected an int >= 0, got 1.5"),
        ({"max_frequency": 1, "space": S2}, ValueError, "max_frequency: expected 0 on S2.* zonal, got 1"),
        ({"signal": torch.zeros(1, 2, 8, 16)}, ValueError, r"signal: expected last axes \(4, 8\)"),
        ({"signal": SPHERE[:, :1]}, ValueError, "signal: expected 2 channels"),
        ({"signal": BALL}, ValueError, "signal: expected a tensor of rank 4"),
        ({"signal": SPHERE + 0j}, TypeError, "signal: expected a floating-point tensor"),
    ],
    "nn.MeshLift": [
        ({"max_frequency": 4}, ValueError, "max_frequency: expected 0 to"),
        ({"u": torch.zeros(1, 2, 7)}, ValueError, "u: expected 2 channels and 12 vertices"),
    ],
    "nn.Project": [
        ({"mode": "sum"}, ValueError, "mode: expected one of 'max', 'mean', 'norm', 'dilated'"),
        ({"mode": "dilated", "space": MESH}, ValueError, "mode: expected one of 'max', 'mean'"),
        ({"u": IMAGE}, ValueError, "u: expected a tensor of rank 5"),
        ({"u": IMAGE}, ValueError, r"lift first: pdegcnn.nn.Lift\(space, in_channels, out_channels\)"),
        ({"u": BALL[:, :, :2], "space": SO3}, ValueError, "u: expected 3 orientations on axis 2"),
        ({"u": SPHERE, "space": SO3}, ValueError, "u: expected a tensor of rank 5"),
    ],
    "nn.GroupConv": [
        ({"space": SOLID}, TypeError, "space: expected R2 or SE2"),
        ({"u": IMAGE}, ValueError, r"lift first: pdegcnn.nn.Lift\(space, in_channels, out_channels\)"),
    ],
    "nn.SphereConv": [
        ({"space": pg.S2(POINTS)}, ValueError, "expected .* of rings"),
        ({"max_frequency": 2}, ValueError, "max_frequency: expected at most 1 on SO3"),
        ({"u": SPHERE}, ValueError, "u: expected a tensor of rank 5"),
    ],
    "nn.SphereActivation": [
        ({"space": pg.S2(POINTS)}, ValueError, "space.grid: expected a grid of rings"),
    ],
    "nn.SphereNormReLU": [
        ({"space": pg.S2(POINTS)}, ValueError, "space.grid: expected a grid of rings"),
        ({"u": BALL[:, :1]}, ValueError, "u: expected 2 channels"),
    ],
    "nn.SpectralResample": [
        ({"source": SO3}, ValueError, "target: expected a space like SO3"),
    ],
    "nn.GlobalPool": [
        ({"space": R2}, TypeError, "space: expected S2 or SO3, got R2"),
        ({"oversample": 2}, ValueError, "oversample: expected 1 for mode='mean', which is exact, got 2"),
        ({"space": pg.S2(POINTS), "mode": "max", "oversample": 2}, ValueError, "space.grid: expected a grid of rings"),
    ],
    "nn.MaxPool": [
        ({"u": torch.randn(1, 2, 9, 8)}, ValueError, "u: expected sizes that windows of 2"),
        ({"kernel_size": 3, "dims": 3, "u": VOLUME}, ValueError, "u: expected sizes that windows"),
        ({"dims": 4}, ValueError, "dims: expected one of 2, 3"),
    ],
    "nn.Resample": [
        ({"size": 0}, ValueError, "size: expected a positive int, got 0"),
        ({"size": (2, 2, 2, 2)}, TypeError, "size: expected a positive int"),
        ({"size": None}, ValueError, "size: expected either size or scale_factor"),
    ],
    "nn.Residual": [
        ({"layer": pg.nn.Downsample(SE2), "out_channels": 2, "u": LIFTED}, ValueError,
         "layer: expected a layer that returns shape"),
        ({"layer": torch.nn.Identity(), "out_channels": None}, ValueError, "out_channels: expected both"),
    ],
    "nn.Downsample": [
        ({"size": 4}, ValueError, "size: expected either factor or size"),
        ({"factor": 1.0}, ValueError, "factor: expected a value in"),
        ({"factor": 8, "space": S2}, ValueError, "factor: expected a coarser grid of 2 to 4 rings"),
        ({"filter": "linear", "space": S2, "factor": None}, ValueError, "filter: expected None on S2"),
        ({"mesh": MESH}, ValueError, "mesh: expected None on SE2"),
    ],
    "nn.ChannelLinear": [
        ({"u": torch.zeros(3, 2)}, ValueError, r"u: expected a signal .* of rank at least three, got shape \(3, 2\)"),
    ],
    "nn.FieldDropout": [({"u": IMAGE}, ValueError, "u: expected a tensor of rank 5")],
    "reversible.Wavelet": [
        ({"x": torch.zeros(1, 3, 5, 4)}, ValueError, "even sizes"),
        ({"name": "no such"}, ValueError, "name: expected one of 'bior1.1', .*'db38', 'haar'"),
        ({"name": "dmey"}, ValueError, "name: expected a wavelet whose filters invert each other, got 'dmey'"),
    ],
    "reversible.LearnableOrthogonal": [({"x": torch.zeros(1, 3, 5, 4)}, ValueError, "even sizes")],
    "reversible.CyclicSpaceToDepth": [({"orientations": 6}, ValueError, "multiple of 4")],
    "reversible.SymmetricConv": [
        ({"y": torch.zeros(1, 3, 4, 4)}, ValueError, "2 channels"),
        ({"kernel_size": 2}, ValueError, "kernel_size"),
    ],
    "reversible.SymmetricGroupConv": [({"u": torch.zeros(1, 2, 8, 4, 4)}, ValueError, "orientations")],
    "reversible.Inverse": [({"transition": torch.nn.Identity()}, TypeError, "transition")],
    "sphere.RealSHT": [
        ({"lmax": 4}, ValueError, "lmax: expected 0 <= lmax <= 3, the band of gauss.* got 4"),
        ({"lmax": 3.0}, TypeError, "lmax: expected an int, got 3.0 of type float"),
        ({"grid": POINTS}, ValueError, r"grid: expected a grid of rings .* got icosahedral\(1\)"),
        ({"grid": GRIDS.reduced_gauss(24), "lmax": 24}, ValueError, "lmax: expected 0 <= lmax <= 23"),
        ({"grid": GRIDS.reduced_gauss(24), "f": torch.zeros(24, 48)}, ValueError, "f: expected last axes"),
        ({"f": SPHERE.mT}, ValueError, r"f: expected last axes \(4, 8\) of gauss"),
        ({"f": SPHERE + 0j}, TypeError, "f: expected a floating-point tensor"),
        ({"f": SPHERE.double()}, TypeError, "f: expected torch.float32"),
    ],
    "sphere.InverseRealSHT": [
        ({"lmax": -1}, ValueError, "lmax: expected 0 <= lmax <= 3.* got -1"),
        ({"lmax": 2, "c": COEFFICIENTS}, ValueError, r"c: expected last axes \(3, 3\)"),
        ({"c": SPIN}, ValueError, r"c: expected last axes \(4, 4\) indexed"),
        ({"c": GROUP}, ValueError, "c: expected last axes"),
        ({"c": COEFFICIENTS.real}, TypeError, "c: expected a complex"),
    ],
    "sphere.SO3FFT": [
        ({"grid": EYE}, TypeError, "grid: expected a SphereGrid"),
        ({"grid": POINTS}, ValueError, "grid: expected a grid of rings"),
        ({"fibre": 0}, ValueError, "fibre: expected a positive int"),
        ({"lmax": 4}, ValueError, "lmax: expected 0 <= lmax <= 3"),
        ({"fibre": 4, "nmax": 2}, ValueError, r"nmax: expected 0 <= nmax <= 1.* \(fibre - 1\)"),
        ({"nmax": 1.0}, TypeError, "nmax: expected an int"),
        ({"f": torch.zeros(2, 4, 8)}, ValueError, r"f: expected last axes \(3, 4, 8"),
        ({"f": BALL + 0j}, TypeError, "f: expected a floating-point tensor"),
    ],
    "models.spherical_classifier": [
        ({"grid": POINTS}, ValueError, "grid: expected a grid of rings"),
        ({"grid": GRIDS.gauss_legendre(2), "channels": (2, 2, 2)}, ValueError,
         "grid: expected a band that 2 levels can halve, got band 1"),
        ({"fibre": 0}, ValueError, "fibre: expected a positive int"),
    ],
    "models.spherical_segmenter": [({"grid": POINTS}, ValueError, "grid: expected a grid of rings")],
    "models.vessel_segmentation": [({"layers": 2}, ValueError, "layers: expected at least 3")],
    "models.detector": [
        ({"space": R2}, TypeError, "space: expected SE2"),
        ({"threshold": 2.0}, ValueError, "threshold: expected"),
        ({"image": IMAGE[:, :1]}, ValueError, "expected 2 channels"),
    ],
    **{
        f"models.{name}": [({size: 0}, ValueError, size) for size in SIZES]
        for name in ("hyperbolic_classifier", "hyperbolic_segmenter", "video_segmenter")
    },
    "models.equivariant_hyperbolic_segmenter": [
        *(({size: 0}, ValueError, size) for size in SIZES),
        ({"orientations": 6}, ValueError, "orientations: expected a multiple of 4"),
        ({"layer": "dense"}, ValueError, "layer: expected"),
        ({"rank": 2}, ValueError, "rank: expected None"),
        ({"layer": "symmetric", "kernel_size": 3, "alpha": 0.6}, ValueError, "options: expected none"),
        ({"terms": ("advection",)}, ValueError, "advection"),
    ],
}  # fmt: skip
"""Of layers and networks."""

MAKERS: dict[str, list[Row]] = {
    "SE2": [
        ({"orientations": 0}, ValueError, "orientations: expected a positive int, got 0"),
        ({"orientations": 8.0}, TypeError, "orientations: expected a positive int"),
    ],
    "R3": [
        *(({"spacing": s}, ValueError, "spacing: expected")
          for s in (0.0, -1.0, NAN, INF, (1.0, 0.0, 1.0), (1.0, NAN, 1.0), (1.0, 1.0), ())),
        *(({"spacing": s}, TypeError, "spacing: expected") for s in ("1", None, True, (1.0, "a", 1.0))),
    ],
    "S2": [({"grid": 64}, TypeError, "grid: expected a SphereGrid such as gauss_legendre.64., got int")],
    "SO3": [
        ({"grid": 8}, TypeError, "grid: expected a SphereGrid"),
        ({"orientations": 0}, ValueError, "orientations: expected a positive int, got 0"),
    ],
    "SphereGrid.gauss_legendre": [({"bandlimit": 0}, ValueError, "bandlimit: expected a positive int, got 0")],
    "SphereGrid.equiangular": [({"kind": "clenshaw"}, ValueError, "kind: expected one of")],
    "SphereGrid.reduced_gauss": [
        ({"spacing": "odd"}, ValueError, "spacing: expected one of"),
        ({"tolerance": 0.0}, ValueError, r"tolerance: expected a value in \(0.0, 1.0"),
        ({"tolerance": NAN}, ValueError, "tolerance: expected"),
    ],
    "SphereGrid.icosahedral": [
        ({"subdivisions": -1}, ValueError, "subdivisions: expected an int from 0 to 12 "),
        ({"subdivisions": 1.5}, TypeError, "subdivisions: expected an int"),
    ],
    "SphereGrid.healpix": [({"nside": 3}, ValueError, "nside: expected a power of 2")],
    "Mesh.from_arrays": [
        ({"orientations": 0}, ValueError, "orientations: expected a positive int"),
        ({"unit": -1.0}, ValueError, "unit: expected a value in"),
    ],
    "Mesh.from_lengths": [
        ({"lengths": lambda x: x[:-1]}, ValueError, r"lengths: expected shape \(4, 3\)"),
        ({"lengths": lambda x: x * torch.tensor([1, 1.01, 1])}, ValueError,
         "lengths: expected one length for each edge"),
    ],
    "nn.LearnableAlpha": [({"initial": 0.5}, ValueError, "alpha: expected a value in .* to learn from")],
    "sphere.VectorSHT": [
        ({"lmax": 4}, ValueError, "lmax: expected 0 <= lmax <= 3.* got 4"),
        ({"lmax": 0}, ValueError, r"spin: expected \|spin\| <= lmax = 0"),
        ({"v": torch.zeros(4, 8)}, ValueError, r"v: expected last axes \(2, 4, 8\)"),
        ({"v": torch.zeros(2, 4, 8) * 1j}, TypeError, "v: expected a floating"),
        ({"v": torch.zeros(2, 4, 8).double()}, TypeError, "v: expected torch.float32"),
    ],
    "sphere.InverseVectorSHT": [({"a": torch.zeros(2, 4, 4) * 1j}, ValueError, "a: expected last axes")],
    "sphere.SpinSHT": [
        ({"lmax": 9}, ValueError, "lmax: expected 0 <= lmax <= 3.* got 9"),
        ({"spin": 4, "lmax": None}, ValueError, r"spin: expected \|spin\| <= lmax = 3, got 4"),
        ({"spin": 0.5}, TypeError, "spin: expected an int, got 0.5"),
        ({"f": SPHERE}, TypeError, "f: expected a complex .* spin-weighted field"),
    ],
    "sphere.InverseSpinSHT": [
        ({"lmax": 3, "a": COEFFICIENTS}, ValueError, r"a: expected last axes \(4, 7\)"),
        ({"lmax": 3, "a": SPIN.to(torch.complex128)}, TypeError,
         "a: expected torch.float32 on cpu as the transform, got torch.complex128"),
    ],
    "sphere.InverseSO3FFT": [
        ({"lmax": 4}, ValueError, "lmax: expected 0 <= lmax <= 3.* got 4"),
        ({"nmax": 3}, ValueError, "nmax: expected 0 <= nmax <= 1.* got 3"),
        ({"lmax": 3, "W": COEFFICIENTS}, ValueError, r"W: expected last axes \(4, 4, 3\)"),
        ({"lmax": 3, "W": GROUP.real}, TypeError, "W: expected a complex"),
        ({"lmax": 3, "W": GROUP.to(torch.complex128)}, TypeError, "W: expected torch.float32"),
    ],
    "sphere.ExactProduct": [
        ({"lmax": -1}, ValueError, "lmax: expected an int >= 0, got -1"),
        ({"out": 1.5}, TypeError, "out: expected an int"),
        ({"a": COEFFICIENTS, "b": COEFFICIENTS}, ValueError, r"c: expected last axes \(3, 3\)"),
        ({"lmax": 3, "other": 3, "a": COEFFICIENTS, "b": COEFFICIENTS.real}, TypeError, "c: expected a complex"),
    ],
}  # fmt: skip
"""Of what makes spaces, grids, parameters and transforms."""
