"""Errors of what has no case: methods of spaces, operators, measurements, names of options."""

from __future__ import annotations

import numpy as np
import torch

import pdegcnn as pg
from pdegcnn.ops.convection import convection
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.morphology import dilation_and_erosion, morphological_convolution

from ..cases import (
    BALL,
    COEFFICIENTS,
    IMAGE,
    LATITUDES,
    LIFTED,
    LONGITUDES,
    MESH,
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
    MIRROR,
    NAN,
    ONE,
    Call,
)

SPACES: list[Call] = [
    (lambda: SO3.transform(BALL, rotation=NAN * EYE), ValueError, "rotation: expected orthogonal matrices"),
    (lambda: S2.transform(SPHERE, rotation=ONE), ValueError, "rotation: expected a tensor of rank 2"),
    (lambda: S2.transform(SPHERE, rotation=-EYE), ValueError,
     "rotation: expected orthogonal matrices of determinant 1"),
    (lambda: S2.transform(SPHERE, angle=90), ValueError, r"motion: expected rotation=R \[3,3\]"),
    (lambda: S2.transform(COEFFICIENTS, rotation=EYE), TypeError, "signal: expected a floating"),
    (lambda: SO3.from_matrix(2 * EYE), ValueError, "rotation: expected orthogonal matrices"),
    (lambda: SO3.log(2 * ONE), ValueError, r"g: expected quaternions of length 1, got lengths \[2.0\]"),
    (lambda: SO3.log(NAN * ONE), ValueError, "g: expected quaternions of length 1, got lengths .*nan"),
    (lambda: SO3.half_angle(2 * ONE), ValueError, "g: expected quaternions of length 1"),
    (lambda: SO3.inverse(0 * ONE), ValueError, r"g: expected quaternions of length 1, got .*\[0.0\]"),
    (lambda: S2.to_matrix(torch.ones(4)), ValueError, "g: expected quaternions of length 1"),
    (lambda: S2.compose(ONE, 2 * ONE), ValueError, "h: expected quaternions of length 1"),
    (lambda: SO3.compose(EYE, EYE), ValueError, r"g: expected unit quaternions \[..., 4\]"),
    (lambda: SO3.exp(NAN * torch.ones(3)), ValueError, "c: expected finite rotation vectors, got .*nan"),
    (lambda: SO3.exp(ONE), ValueError, r"c: expected rotation vectors \[..., 3\], got shape \(4,\)"),
    (lambda: SOLID.transform(VOLUME, turn=3), ValueError, "motion: expected rotation"),  # pyright: ignore
    (lambda: SOLID.transform(VOLUME, rotation=torch.eye(2)), ValueError, "rotation: expected .*3,3"),
    (lambda: SOLID.transform(VOLUME, rotation=2 * EYE), ValueError, "rotation: .*orthog"),
    (lambda: SOLID.transform(VOLUME, rotation=NAN * EYE), ValueError, "rotation: .*orthog"),
    (lambda: SOLID.transform(VOLUME, angle=3, axis=(0, 0, 0)), ValueError, "axis: expected a direction"),
    (lambda: SOLID.transform(VOLUME, angle=NAN), ValueError, "angle: expected"),
    (lambda: SOLID.transform(VOLUME, shift=(1, 2)), ValueError, "shift: expected 3 ints"),
    (lambda: MESH.transform(torch.zeros(1, 1, 12), angle=3), ValueError, "motion: expected symmetry"),
    (lambda: MESH.transform(torch.zeros(1, 1, 12), symmetry=torch.arange(12).flip(0)), ValueError,
     "symmetry: expected a map"),
    (lambda: MESH.with_gauge(torch.zeros(3)), ValueError, r"angles: expected shape \[12\], got \(3,\)"),
    (lambda: MESH.with_gauge(torch.full((12,), NAN)), ValueError, "angles: expected finite"),
    (lambda: MESH.coarser(-3.0), ValueError, "factor: expected a value in"),
    (lambda: MESH.coarser("2"), TypeError, "factor: expected a number"),  # pyright: ignore
    (lambda: pg.Mesh(MESH.surface, 8, torch.zeros(3)), ValueError, r"gauge: expected shape \[12\], got \(3,\)"),
    (lambda: pg.Mesh(MESH.surface, 8, torch.full((12,), NAN)), ValueError, "gauge: expected finite"),
    (lambda: MESH.check_signal("u", torch.zeros(1, 2, 4, 7)), ValueError, "u: expected 4 orientations and 12"),
    (lambda: pg.Mesh.union([MESH, MESH.with_orientations(5)]), ValueError,
     r"meshes: expected equal orientations, got \[4, 5\]"),
    (lambda: pg.Mesh(np.zeros((4, 3)), np.zeros((4, 3))), TypeError,  # pyright: ignore
     r"^surface: expected .*Mesh.from_arrays\(vertices, faces\).* got ndarray"),
    (lambda: pg.Mesh.from_file("nowhere.obj"), FileNotFoundError, "path: expected a mesh file"),
    (lambda: pg.surface.flat_torus(2, 5), ValueError, "rows: expected at least 3"),
    (lambda: pg.Mesh.from_lengths(*pg.surface.flat_torus(3, 4)).vertices, ValueError,
     "vertices: expected a mesh with positions"),
    (lambda: GRIDS.clenshaw_curtis(2), ValueError, "nlat: expected at least 3 rings"),
    (lambda: pg.sphere.grid_of(LATITUDES.flip(0), LONGITUDES), ValueError,
     "latitudes: expected degrees from north to south"),
    (lambda: pg.sphere.grid_of(LATITUDES[1:-1] + 1, LONGITUDES), ValueError, "latitudes: expected the rings of a grid"),
    (lambda: pg.sphere.grid_of(LATITUDES, LONGITUDES + 5), ValueError, "longitudes: expected 360 j / 8"),
]  # fmt: skip
"""Of spaces and grids themselves."""
K, SHIFT = torch.zeros(2, 4, 3, 3, 3), torch.zeros(2, 4, 3)
OPERATORS: list[Call] = [
    (lambda: morphological_convolution(LIFTED, K, backend="cuda"), ValueError, "backend: expected one of"),
    (lambda: morphological_convolution(LIFTED, K[:, ::2], stride=2, semifield="log_plus", temperature=0.1),
     ValueError, "stride: expected 1"),
    (lambda: morphological_convolution(LIFTED, K, semifield="log_plus", temperature=0.1, backend="numba"),
     ValueError, "backend: expected a backend"),
    (lambda: group_convolution(LIFTED, K, backend="numba"), ValueError, "has no numba version"),
    (lambda: dilation_and_erosion(LIFTED, K, K[..., :1]), ValueError, "erosion: expected shape"),
    (lambda: dilation_and_erosion(LIFTED, K[:1], K), ValueError, "dilation: expected 2 channels"),
    (lambda: convection(LIFTED, SHIFT[:, :3]), ValueError, "shift: expected shape"),
    (lambda: convection(LIFTED, SHIFT, "mirror"), ValueError, "boundary: expected one of"),
    (lambda: convection(LIFTED, SHIFT.double()), TypeError, "shift: expected dtype"),
]  # fmt: skip
"""Of operators, beyond what functions show."""
OTHERS: list[Call] = [
    (lambda: pg.nn.Upsample(S2)(SPHERE[..., :2, :4], size=(3, 3)), ValueError, "size: expected None on S2"),
    *((lambda split=split: split.inverse(torch.zeros(1, 3, 5, 4)), ValueError, "multiple of 4 channels")
      for split in (pg.reversible.Wavelet(), pg.reversible.LearnableOrthogonal())),
    (lambda: pg.testing.equivariance_error(torch.relu, SPHERE, S2, rotation=MIRROR), ValueError,
     "rotation: expected orthogonal matrices"),
    (lambda: pg.testing.equivariance_error(torch.relu, IMAGE, SE2, rotation=EYE), ValueError, "motion"),
    (lambda: pg.testing.equivariance_error(lambda v: 0 * v, IMAGE, SE2, angle=90), ValueError, "model: .*not zero"),
    (lambda: pg.testing.report(torch.relu, IMAGE, 8), TypeError, "space: expected a space"),  # pyright: ignore
    (lambda: pg.testing.report(torch.relu, 3, SE2), TypeError, "x: expected a tensor"),  # pyright: ignore
    (lambda: pg.testing.report(torch.relu, IMAGE, SE2, rotation=EYE), ValueError, "motion: expected"),
    (lambda: pg.testing.report(torch.relu, IMAGE, SE2, tolerance=-1.0), ValueError, "tolerance: expected"),
    *((lambda name=name: pg.models.MODELS[name](dvice="cpu"), TypeError,
       f"^{name}: expected options among .*, got 'dvice'; did you mean 'device'") for name in sorted(pg.models.MODELS)),
    *((lambda name=name: pg.models.MODELS[name](zzzz=1), TypeError, f"^{name}: .*zzzz") for name in pg.models.MODELS),
]  # fmt: skip
"""Of what has no case: methods, measurements, names of options."""
CALLS = [*SPACES, *OPERATORS, *OTHERS]
