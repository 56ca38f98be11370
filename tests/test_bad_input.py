"""Bad input: an error that names the argument, what was expected and what came."""

from __future__ import annotations

import math

import pytest
import torch

import pdegcnn as pg

F = pg.functional
SPACE = pg.SE2(8)
U = torch.randn(1, 2, 8, 6, 6)
W = torch.ones(2, 3)
K = torch.ones(2, 8, 3, 3, 3)
NAN = float("nan")

CASES = {
    "rank": (
        lambda: F.dilation(U[0], SPACE, W),
        ValueError,
        r"u: expected a tensor of rank 5 laid out \[B,C,Or,H,W\], got",
    ),
    "or": (lambda: F.dilation(U[:, :, :4], SPACE, W), ValueError, r"u: expected 8 orientations .* \(1, 2, 4, 6, 6\)"),
    "empty": (
        lambda: F.erosion(U[..., :0], SPACE, W),
        ValueError,
        r"u: expected no empty axis but the batch .* \(1, 2, 8, 6, 0\)",
    ),
    "integers": (
        lambda: F.diffusion(U.long(), SPACE, W),
        TypeError,
        "u: expected a floating-point tensor, got dtype torch.int64",
    ),
    "list": (lambda: F.dilation([1.0], SPACE, W), TypeError, "u: expected a torch.Tensor, got list"),
    "complex": (lambda: F.dilation(U.to(torch.complex64), SPACE, W), TypeError, "u: expected a floating-point tensor"),
    "space": (lambda: F.dilation(U, 8, W), TypeError, "space: expected a space"),
    "channels": (
        lambda: F.dilation(U, SPACE, torch.ones(3, 3)[:, None].expand(3, 3, 3)),
        ValueError,
        "metric: expected",
    ),
    "metric rank": (
        lambda: F.dilation(U, SPACE, torch.ones(2, 2)),
        ValueError,
        r"metric: expected weights \[3\] or \[2,3\]",
    ),
    "metric sign": (lambda: F.dilation(U, SPACE, -W), ValueError, "metric: expected positive weights"),
    "metric nan": (lambda: F.diffusion(U, SPACE, W * NAN), ValueError, "metric: expected finite"),
    "metric dtype": (lambda: F.dilation(U, SPACE, W.double()), TypeError, "metric: expected dtype torch.float32 as u"),
    "metric device": (
        lambda: F.dilation(U, SPACE, W.to("meta")),
        ValueError,
        "metric: expected device cpu as u, got meta",
    ),
    "alpha low": (
        lambda: F.dilation(U, SPACE, W, alpha=0.4),
        ValueError,
        r"alpha: expected a value in \[0.5, 1.0\], got 0.4",
    ),
    "alpha high": (lambda: F.diffusion(U, SPACE, W, alpha=1.2), ValueError, "alpha: expected .* got 1.2"),
    "alpha zero": (lambda: F.diffusion(U, SPACE, W, alpha=0.0, method="spectral"), ValueError, "alpha: expected"),
    "alpha nan": (lambda: F.dilation(U, SPACE, W, alpha=NAN), ValueError, "alpha: expected"),
    "alpha kind": (lambda: F.dilation(U, SPACE, W, alpha="0.65"), TypeError, "alpha: expected a number"),
    "alpha flat": (
        lambda: F.dilation(U, SPACE, W, alpha=torch.tensor(0.5)),
        ValueError,
        r"alpha: expected values in \(0.5",
    ),
    "time": (lambda: F.dilation(U, SPACE, W, time=0.0), ValueError, "time: expected"),
    "time sign": (lambda: F.diffusion(U, SPACE, W, time=-1.0), ValueError, "time: expected"),
    "even": (lambda: F.dilation(U, SPACE, W, kernel_size=4), ValueError, "kernel_size: expected positive odd sizes"),
    "sizes": (lambda: F.dilation(U, SPACE, W, kernel_size=(3, 3)), ValueError, "kernel_size: expected an odd int or 3"),
    "size kind": (lambda: F.dilation(U, SPACE, W, kernel_size=3.0), TypeError, "kernel_size: expected an odd int"),
    "size word": (
        lambda: F.dilation(U, SPACE, W, kernel_size="big"),
        ValueError,
        "kernel_size: expected .*'auto', got 'big'",
    ),
    "auto nan": (lambda: F.dilation(U * NAN, SPACE, W, kernel_size="auto"), ValueError, "u: expected finite values"),
    "distance": (
        lambda: F.dilation(U, SPACE, W, distance="near"),
        ValueError,
        "distance: expected one of 'logarithmic'",
    ),
    "method": (
        lambda: F.diffusion(U, SPACE, W, method="fft"),
        ValueError,
        "method: expected one of 'kernel', 'sampled', 'spectral'",
    ),
    "boundary": (lambda: F.convection(U, SPACE, W, boundary="wrap"), ValueError, "boundary: expected one of 'zeros'"),
    "spectral": (
        lambda: F.convection(U, SPACE, W, method="spectral", boundary="zeros"),
        ValueError,
        "boundary: expected one of 'per",
    ),
    "vector": (
        lambda: F.convection(U, SPACE, torch.ones(2, 2)),
        ValueError,
        r"vector: expected shape \[3\] or \[2,3\]",
    ),
    "vector nan": (lambda: F.convection(U, SPACE, W * NAN), ValueError, "vector: expected finite values"),
    "finsler": (
        lambda: F.diffusion(U[:, :, 0], pg.R2(), pg.kernels.Finsler(torch.zeros(1, 5))),
        ValueError,
        "metric: expected a symmetric metric",
    ),
    "kernel even": (
        lambda: F.morphological_convolution(U, K[..., :2]),
        ValueError,
        "kernel: expected positive odd sizes",
    ),
    "kernel channels": (
        lambda: F.morphological_convolution(U, K[:1]),
        ValueError,
        "kernel: expected 2 channels as in u, got 1",
    ),
    "kernel or": (
        lambda: F.group_convolution(U, K[:, :4]),
        ValueError,
        "kernel: expected 8 orientations as in u, got 4",
    ),
    "kernel rank": (lambda: F.morphological_convolution(U, K[0]), ValueError, "kernel: expected a tensor of rank"),
    "kernel dtype": (
        lambda: F.morphological_convolution(U, K.double()),
        TypeError,
        "kernel: expected dtype torch.float32",
    ),
    "kernel device": (lambda: F.group_convolution(U, K.to("meta")), ValueError, "kernel: expected device cpu"),
    "sign": (lambda: F.morphological_convolution(U, K, sign=2), ValueError, "sign: expected"),
    "orientations": (lambda: pg.SE2(0), ValueError, "orientations: expected a positive int, got 0"),
    "orientation kind": (lambda: pg.SE2(8.0), TypeError, "orientations: expected a positive int"),
    "terms": (lambda: pg.nn.PDELayer(SPACE, 2, 2, ("advection",)), ValueError, "terms: expected one of 'convection'"),
    "terms twice": (
        lambda: pg.nn.PDELayer(SPACE, 2, 2, ("erosion", "erosion")),
        ValueError,
        "terms: expected a sequence",
    ),
    "terms word": (lambda: pg.nn.PDELayer(SPACE, 2, 2, "erosion"), ValueError, "terms: expected a sequence"),
    "layer alpha": (
        lambda: pg.nn.PDELayer(SPACE, 2, 2, alpha=0.3),
        ValueError,
        r"alpha: expected a value in \[0.5, 1.0\]",
    ),
    "layer size": (
        lambda: pg.nn.PDELayer(SPACE, 2, 2, kernel_size=4),
        ValueError,
        "kernel_size: expected positive odd",
    ),
    "layer distance": (lambda: pg.nn.PDELayer(SPACE, 2, 2, distance="x"), ValueError, "distance: expected one of"),
    "layer method": (lambda: pg.nn.PDELayer(SPACE, 2, 2, diffusion="x"), ValueError, "method: expected one of"),
    "layer boundary": (lambda: pg.nn.PDELayer(SPACE, 2, 2, boundary="x"), ValueError, "boundary: expected one of"),
    "layer metric": (lambda: pg.nn.PDELayer(SPACE, 2, 2, metric="finsler"), ValueError, "metric: expected one of"),
    "layer channels": (
        lambda: pg.nn.PDELayer(SPACE, 3, 2)(U),
        ValueError,
        r"u: expected 3 channels .*\(1, 2, 8, 6, 6\)",
    ),
    "layer count": (lambda: pg.nn.PDELayer(SPACE, 0, 2), ValueError, "in_channels: expected a positive int"),
    "layer dtype": (
        lambda: pg.nn.PDELayer(SPACE, 2, 2)(U.double()),
        TypeError,
        "u: expected dtype torch.float32 as the parameters",
    ),
    "lift space": (lambda: pg.nn.Lift("SE2", 1, 2), TypeError, "space: expected one of PlanarSpace, .*got str"),
    "lift channels": (lambda: pg.nn.Lift(SPACE, 3, 2)(U[:, :, 0]), ValueError, "image: expected 3 channels"),
    "lift rank": (lambda: pg.nn.Lift(SPACE, 3, 2)(U), ValueError, "image: expected a tensor of rank 4"),
    "lift even": (lambda: pg.nn.Lift(SPACE, 1, 2, kernel_size=4), ValueError, "kernel_size: expected positive odd"),
    "lift small": (
        lambda: pg.nn.Lift(SPACE, 2, 2, 7, padding=0)(U[:, :, 0]),
        ValueError,
        "image: expected at least 7 pixels",
    ),
    "lift filters": (lambda: pg.nn.Lift(SPACE, 1, 2, filters="gabor"), ValueError, "filters: expected one of"),
    "project mode": (
        lambda: pg.nn.Project(SPACE, mode="sum"),
        ValueError,
        "mode: expected one of 'max', 'mean', 'norm', 'dilated'",
    ),
    "project": (lambda: pg.nn.Project(SPACE)(U[:, :, 0]), ValueError, "u: expected a tensor of rank 5"),
    "resample": (lambda: pg.nn.Resample(0), ValueError, "size: expected a positive int, got 0"),
    "vessels": (lambda: pg.models.vessel_segmentation(layers=2), ValueError, "layers: expected at least 3"),
}


@pytest.mark.parametrize("name", CASES)
def test_errors_name_argument_expectation_and_value(name: str) -> None:
    run, error, message = CASES[name]
    with pytest.raises(error, match=message):
        run()


def test_sizes_smaller_than_the_kernel_have_a_meaning() -> None:
    u = torch.randn(1, 2, 8, 2, 3)
    for term in (F.dilation, F.erosion, F.diffusion):
        assert term(u, SPACE, W, kernel_size=7).isfinite().all()
    assert F.convection(u, SPACE, 5 * W).isfinite().all()
    assert pg.nn.Lift(SPACE, 2, 1, kernel_size=7)(u[:, :, 0]).shape == (1, 1, 8, 2, 3)


def test_nan_spreads_instead_of_vanishing() -> None:
    u = U.clone()
    u[0, 0, 0, 0, 0] = math.nan
    for run in (F.dilation, F.erosion, F.diffusion, F.convection):
        assert run(u, SPACE, W).isnan().any()
