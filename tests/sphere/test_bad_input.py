"""Bad input to whatever lives on the sphere: an error that names the argument, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import pdegcnn as pg
from pdegcnn import sphere

GRID, POINTS = sphere.SphereGrid.gauss_legendre(4), sphere.SphereGrid.icosahedral(1)
S2, SO3 = pg.S2(GRID), pg.SO3(GRID, 5)
F, U = torch.zeros(1, 2, *GRID.shape), torch.zeros(1, 2, 5, *GRID.shape)
EYE, MIRROR, NAN = torch.eye(3), torch.diag(torch.tensor([1.0, 1.0, -1.0])), torch.tensor(math.nan)
SCALAR = torch.zeros(1, 2, 4, 4, dtype=torch.complex64)  # coefficients of RealSHT
SPIN = torch.zeros(1, 2, 4, 7, dtype=torch.complex64)  # of SpinSHT
GROUP = torch.zeros(1, 2, 4, 4, 5, dtype=torch.complex64)  # of SO3FFT
ONE = torch.tensor([1.0, 0.0, 0.0, 0.0])  # the unit quaternion
Case = tuple[Callable[[], object], type[Exception], str]

BANDS: dict[str, Case] = {
    "degree": (lambda: sphere.RealSHT(GRID, 4), ValueError, "lmax: expected 0 <= lmax <= 3, the band of gauss.* got 4"),
    "inverse degree": (lambda: sphere.InverseRealSHT(GRID, -1), ValueError, "lmax: expected 0 <= lmax <= 3.* got -1"),
    "spin degree": (lambda: sphere.SpinSHT(GRID, 1, 9), ValueError, "lmax: expected 0 <= lmax <= 3.* got 9"),
    "vector degree": (lambda: sphere.VectorSHT(GRID, 4), ValueError, "lmax: expected 0 <= lmax <= 3.* got 4"),
    "group degree": (lambda: sphere.InverseSO3FFT(GRID, 5, 4), ValueError, "lmax: expected 0 <= lmax <= 3.* got 4"),
    "degree kind": (lambda: sphere.RealSHT(GRID, 3.0), TypeError, "lmax: expected an int, got 3.0 of type float"),
    "no band": (lambda: sphere.RealSHT(POINTS), ValueError, "grid: expected a grid of rings .* got icosahedral"),
    "no band on the group": (lambda: sphere.SO3FFT(POINTS, 5), ValueError, "grid: expected a grid of rings"),
    "lift": (lambda: pg.nn.Lift(pg.SO3(POINTS, 4), 1, 1), ValueError, "grid: expected a grid of rings"),
    "convolution": (lambda: pg.nn.SphereConv(pg.S2(POINTS), 1, 1), ValueError, "expected .* of rings"),
    "diffusion": (
        lambda: pg.functional.diffusion(torch.zeros(1, 1, *POINTS.shape), pg.S2(POINTS), torch.ones(1)),
        ValueError,
        "grid: expected a grid of rings",
    ),
    "classifier": (lambda: pg.models.spherical_classifier(POINTS), ValueError, "grid: expected a grid of rings"),
    "segmenter": (lambda: pg.models.spherical_segmenter(POINTS), ValueError, "grid: expected a grid of rings"),
    "small": (
        lambda: pg.models.spherical_classifier(sphere.SphereGrid.gauss_legendre(2)),
        ValueError,
        "grid: expected a band that 2 levels can halve, got band 1",
    ),
    "coefficients": (lambda: sphere.InverseRealSHT(GRID, 2)(SCALAR), ValueError, r"c: expected last axes \(3, 3\)"),
    "product": (lambda: sphere.ExactProduct(2)(SCALAR, SCALAR), ValueError, r"c: expected last axes \(3, 3\)"),
}
SHAPES: dict[str, Case] = {
    "turned picture": (lambda: sphere.RealSHT(GRID)(F.mT), ValueError, r"f: expected last axes \(4, 8\) of gauss"),
    "other grid": (
        lambda: pg.nn.PDELayer(SO3, 2, 2)(torch.zeros(1, 2, 5, 6, 12)),
        ValueError,
        r"u: expected last axes \(4, 8\) of the grid gauss_legendre, got shape \(1, 2, 5, 6, 12\)",
    ),
    "fibre": (lambda: pg.nn.PDELayer(SO3, 2, 2)(U[:, :, :4]), ValueError, "u: expected 5 orientations on axis 2"),
    "flat signal to the group": (lambda: pg.nn.PDELayer(SO3, 2, 2)(F), ValueError, "u: expected a tensor of rank 5"),
    "lifted signal to the sphere": (
        lambda: pg.nn.PDELayer(S2, 2, 2, ("dilation",))(U),
        ValueError,
        r"u: expected a tensor of rank 4 laid out \[B,C,nlat,nlon\]",
    ),
    "lifted twice": (lambda: pg.nn.Lift(SO3, 2, 2)(U), ValueError, "signal: expected a tensor of rank 4"),
    "projected twice": (lambda: pg.nn.Project(SO3)(F), ValueError, "u: expected a tensor of rank 5"),
    "convolution of a flat signal": (lambda: pg.nn.SphereConv(SO3, 2, 2)(F), ValueError, "u: expected a tensor of ran"),
    "other coefficients": (lambda: sphere.from_e3nn(torch.zeros(10)), ValueError, "x: expected a last axis of length"),
    "not a grid": (lambda: pg.SO3(8, 4), TypeError, "grid: expected a SphereGrid"),  # pyright: ignore
    "no space": (lambda: pg.nn.Lift(GRID, 1, 1), TypeError, "space: expected one of"),  # pyright: ignore
}
ROTATIONS: dict[str, Case] = {
    "mirror": (lambda: sphere.rotate_coefficients(SCALAR, MIRROR), ValueError, "R: expected orthogonal .* determinant"),
    "scaled": (lambda: sphere.wigner_D(2, 1.01 * EYE), ValueError, "R: expected orthogonal matrices"),
    "nan": (lambda: sphere.wigner_D(2, NAN * EYE), ValueError, "R: expected orthogonal matrices .* got .*nan"),
    "quaternion": (lambda: sphere.wigner_D(2, ONE), ValueError, r"R: expected a rotation of shape \[..., 3, 3\]"),
    "many": (lambda: sphere.rotate_coefficients(SCALAR, EYE[None]), ValueError, r"R: expected a tensor of shape \(3, "),
    "integers": (lambda: sphere.wigner_D(2, EYE.long()), TypeError, "R: expected a floating-point tensor"),
    "signal": (lambda: SO3.transform(U, rotation=NAN * EYE), ValueError, "rotation: expected orthogonal matrices"),
    "signal quaternion": (lambda: S2.transform(F, rotation=ONE), ValueError, "rotation: expected a tensor of rank 2"),
    "error": (
        lambda: pg.testing.equivariance_error(torch.relu, F, S2, rotation=MIRROR),
        ValueError,
        "rotation: expected orthogonal matrices",
    ),
    "from matrix": (lambda: SO3.from_matrix(2 * EYE), ValueError, "rotation: expected orthogonal matrices"),
    "boxes": (
        lambda: pg.models.box_iou(2 * EYE[None], torch.ones(1, 2), EYE[None], torch.ones(1, 2)),
        ValueError,
        "rotations: expected orthogonal matrices",
    ),
    "long": (lambda: SO3.log(2 * ONE), ValueError, r"g: expected quaternions of length 1, got lengths \[2.0\]"),
    "long half-angle": (lambda: SO3.half_angle(2 * ONE), ValueError, "g: expected quaternions of length 1"),
    "long inverse": (lambda: SO3.inverse(0 * ONE), ValueError, r"g: expected quaternions of length 1, got .*\[0.0\]"),
    "long product": (lambda: S2.compose(ONE, 2 * ONE), ValueError, "h: expected quaternions of length 1"),
    "nan quaternion": (
        lambda: SO3.log(NAN * ONE),
        ValueError,
        "g: expected quaternions of length 1, got lengths .*nan",
    ),
    "matrix product": (lambda: SO3.compose(EYE, EYE), ValueError, r"g: expected unit quaternions \[..., 4\]"),
    "nan vector": (lambda: SO3.exp(NAN * torch.ones(3)), ValueError, "c: expected finite rotation vectors, got .*nan"),
    "four numbers": (lambda: SO3.exp(ONE), ValueError, r"c: expected rotation vectors \[..., 3\], got shape \(4,\)"),
    "angle": (lambda: sphere.wigner_d(2, NAN), ValueError, r"beta: expected finite angles, got \[nan\]"),
    "no tensor": (lambda: sphere.wigner_d(2, 1.0), TypeError, "beta: expected a torch.Tensor"),  # pyright: ignore
}
FIBRES: dict[str, Case] = {
    "lift": (
        lambda: pg.nn.Lift(SO3, 1, 2, max_frequency=3),
        ValueError,
        r"max_frequency: expected at most 2 on SO3.* at least 2 N \+ 1 orientations .*; got 3",
    ),
    "lift kind": (lambda: pg.nn.Lift(SO3, 1, 2, max_frequency=1.5), ValueError, "max_frequency: expected an int"),  # pyright: ignore
    "on the sphere": (
        lambda: pg.nn.Lift(S2, 1, 2, max_frequency=1),
        ValueError,
        "expected 0 on S2.* zonal, got 1",
    ),
    "convolution": (
        lambda: pg.nn.SphereConv(SO3, 2, 2, max_frequency=3),
        ValueError,
        "max_frequency: expected at most 2 on SO3",
    ),
    "transform": (lambda: sphere.SO3FFT(GRID, 5, nmax=3), ValueError, r"nmax: expected 0 <= nmax <= 2.* got 3"),
    "none": (lambda: pg.SO3(GRID, 0), ValueError, "orientations: expected a positive int, got 0"),
    "model": (lambda: pg.models.spherical_classifier(GRID, fibre=0), ValueError, "fibre: expected a positive int"),
}
MIXED: dict[str, Case] = {
    "spin as scalar": (
        lambda: sphere.InverseRealSHT(GRID)(SPIN),
        ValueError,
        r"c: expected last axes \(4, 4\) indexed",
    ),
    "scalar as spin": (lambda: sphere.InverseSpinSHT(GRID, 1)(SCALAR), ValueError, r"a: expected last axes \(4, 7\)"),
    "weights that overflow": (
        lambda: pg.functional.diffusion(torch.zeros(1, 1, 5, *GRID.shape), SO3, torch.full((3,), 1e-30)),
        ValueError,
        "metric: expected one whose inverse is finite",
    ),
    "weight that overflows": (
        lambda: pg.functional.diffusion(torch.zeros(1, 1, *GRID.shape), S2, torch.full((1,), 1e-30)),
        ValueError,
        "metric: expected one whose inverse is finite",
    ),
    "group as scalar": (lambda: sphere.InverseRealSHT(GRID)(GROUP), ValueError, "c: expected last axes"),
    "scalar as group": (
        lambda: sphere.InverseSO3FFT(GRID, 5)(SCALAR),
        ValueError,
        r"W: expected last axes \(4, 4, 5\)",
    ),
    "spin turned": (lambda: sphere.rotate_coefficients(SPIN, EYE), ValueError, r"c: expected shape \[..., lmax\+1"),
    "group turned": (lambda: sphere.rotate_coefficients(GROUP, EYE), ValueError, r"c: expected shape \[..., lmax\+1"),
    "gradient of spin": (lambda: sphere.gradient(SPIN), ValueError, r"c: expected shape \[..., lmax\+1, lmax\+1\]"),
    "curl of a scalar": (lambda: sphere.curl(SCALAR[0, 0]), ValueError, r"a: expected shape \[..., 2, lmax\+1"),
    "spin to e3nn": (lambda: sphere.to_e3nn(SPIN), ValueError, r"c: expected shape \[..., lmax\+1, lmax\+1\]"),
    "real spin field": (lambda: sphere.SpinSHT(GRID, 1)(F), TypeError, "f: expected a complex .* spin-weighted field"),
    "complex signal": (lambda: sphere.RealSHT(GRID)(F + 0j), TypeError, "f: expected a floating-point tensor"),
    "real coefficients": (lambda: sphere.InverseRealSHT(GRID)(SCALAR.real), TypeError, "c: expected a complex"),
    "complex lift": (lambda: pg.nn.Lift(SO3, 2, 2)(F + 0j), TypeError, "signal: expected a floating-point tensor"),
    "complex layer": (lambda: pg.nn.PDELayer(SO3, 2, 2)(U + 0j), TypeError, "u: expected a floating-point tensor"),
    "coefficients for a signal": (lambda: S2.transform(SCALAR, rotation=EYE), TypeError, "signal: expected a floating"),
    "one real factor": (lambda: sphere.ExactProduct(3)(SCALAR, SCALAR.real), TypeError, "c: expected a complex"),
    "precision": (
        lambda: sphere.InverseSpinSHT(GRID, 1)(SPIN.to(torch.complex128)),
        TypeError,
        "a: expected torch.float32 on cpu as the transform, got torch.complex128",
    ),
}
CASES = {
    f"{part}: {name}": case
    for part, cases in
    (("band", BANDS), ("shape", SHAPES), ("rotation", ROTATIONS), ("fibre", FIBRES), ("mixed", MIXED))
    for name, case in cases.items()
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused(name: str) -> None:
    call, kind, message = CASES[name]
    with pytest.raises(kind, match=message):
        call()


PASS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transform": lambda u: sphere.InverseSO3FFT(GRID, 5)(sphere.SO3FFT(GRID, 5)(u)),
    "convection": lambda u: pg.functional.convection(u, SO3, torch.ones(3)),
    "diffusion": lambda u: pg.functional.diffusion(u, SO3, torch.ones(3)),
    "dilation": lambda u: pg.functional.dilation(u, SO3, torch.ones(3)),
    "finer samples": lambda u: pg.functional.erosion(u, SO3, torch.ones(3), oversample=2),
    "newton": lambda u: pg.functional.erosion(u, SO3, torch.ones(3), subgrid="newton"),
    "projection": pg.nn.Project(SO3),
    "mean": pg.nn.GlobalPool(SO3),
    "maximum": pg.nn.GlobalPool(SO3, "max", oversample=2),
    "gates": pg.nn.SphereGated(SO3, 2),
    "norms": pg.nn.SphereNormReLU(SO3, 2),
    "pooling": pg.nn.SpectralResample(SO3, pg.SO3(sphere.SphereGrid.gauss_legendre(2), 5)),
}


@pytest.mark.parametrize("name", PASS)
def test_not_a_number_in_a_signal_comes_out(name: str) -> None:
    """Signals are not searched for it (that would take as long as small layers), but none is made a number."""
    u = torch.randn(1, 2, 5, *GRID.shape)
    u[0, 0, 1, 2, 3] = math.nan
    assert PASS[name](u)[0, 0].isnan().any()
