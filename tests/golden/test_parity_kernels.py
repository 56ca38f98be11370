"""Our kernels and terms against the recorded values of the original; README.md beside this file has its formulas.

Its coordinates use pi rounded to single precision, so agreement ends at 1e-6 wherever an angle enters. Ours takes
weights w with G = diag(w^2) where the original takes their squares, and measures diffusion time as exp(-d^2/4t).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import pdegcnn as pg
from pdegcnn.kernels.diffusion import diffusion_profile
from pdegcnn.kernels.distance import DISTANCES
from pdegcnn.kernels.metric import SPD, Diagonal, Finsler, Metric
from pdegcnn.kernels.morphological import morphological_kernel

from .original import Case, cases

RTOL, ATOL = 2e-6, 1e-7


def some(*ops: str, where=lambda case: True) -> list:
    return [pytest.param(c, id=f"{op}-{c.number}") for op in ops for c in cases(op) if where(c)]


def metric_of(case: Case) -> Metric:
    """The original's parameters as ours; its negative diagonal ones cost nothing, ours cannot: lift them a little."""
    params = case.inputs["metric_params"]
    if params.ndim == 3:
        return SPD(params.mT @ params)
    return Diagonal(params.clamp_min(1e-24).sqrt())


def unturned(case: Case) -> Tensor:
    """Squared logarithmic distances of the original's one kernel, that of orientation 0: ``[C,KO,KH,KW]``."""
    space = pg.SE2(int(case.args["orientations"]))
    taps = space.taps(tuple(case.args["kernel_size"]), torch.empty((), dtype=torch.float64))
    return DISTANCES["logarithmic"](space, metric_of(case), taps)[:, 0]


@pytest.mark.parametrize("case", some("m2_logarithmic_metric_estimate", "m2_logarithmic_metric_estimate_nondiag"))
def test_logarithmic_distance(case: Case) -> None:
    torch.testing.assert_close((unturned(case) + 2**-23).sqrt(), case.output, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("case", some("m2_morphological_kernel", "m2_morphological_kernel_nondiag"))
def test_morphological_kernel(case: Case) -> None:
    kernel = morphological_kernel(unturned(case), case.args["alpha"])
    torch.testing.assert_close(kernel, case.output, rtol=2e-5, atol=ATOL)  # powers multiply the error of pi


@pytest.mark.parametrize("case", some("m2_diffusion_kernel", "m2_diffusion_kernel_nondiag"))
def test_diffusion_kernel(case: Case) -> None:
    """Before normalisation: the original divides by the sum, ours balances orientations so that mass is conserved."""
    profile = diffusion_profile(unturned(case), 1.0, 3, 0.25)
    torch.testing.assert_close(profile / profile.sum((1, 2, 3), keepdim=True), case.output, rtol=RTOL, atol=ATOL)


def quarter_turns(case: Case) -> bool:
    """Elsewhere the original rounds turned taps to the nearest cell and drops those outside; ours samples in place."""
    return case.inputs["input"].shape[2] == 4


TERMS = some(
    "m2_fractional_dilation",
    "m2_fractional_erosion",
    "m2_fractional_dilation_nondiag",
    "m2_fractional_erosion_nondiag",
    where=quarter_turns,
)


@pytest.mark.parametrize("case", TERMS)
def test_dilation_and_erosion_at_quarter_turns(case: Case) -> None:
    term = pg.functional.dilation if "dilation" in case.op else pg.functional.erosion
    out = term(
        case.inputs["input"],
        pg.SE2(4),
        metric_of(case),
        alpha=case.args["alpha"],
        kernel_size=tuple(case.args["kernel_size"]),
        distance="logarithmic",
        oversample=1,
    )
    torch.testing.assert_close(out, case.output, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("case", some("r2_morphological_kernel"))
def test_finsler_kernel(case: Case) -> None:
    size = 2 * case.args["kernel_radius"] + 1
    offsets = -pg.R2().taps((1, size, size), torch.empty((), dtype=torch.float64))[0, 0]
    squared = Finsler(case.inputs["finsler_params"]).squared_norm(offsets)
    torch.testing.assert_close(morphological_kernel(squared, case.args["alpha"]), case.output, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", some("r2_fractional_dilation", "r2_fractional_erosion"))
def test_finsler_dilation_and_erosion(case: Case) -> None:
    """The original takes k(g^-1 h), ours k(h^-1 g): alike for symmetric metrics, opposite directions for these."""
    params = case.inputs["finsler_params"].clone()
    for k in range(1, (params.shape[1] - 1) // 2 + 1, 2):  # in the opposite direction odd harmonics change sign
        params[:, 2 * k - 1 : 2 * k + 1] *= -1
    term = pg.functional.dilation if "dilation" in case.op else pg.functional.erosion
    size = 2 * case.args["kernel_radius"] + 1
    out = term(case.inputs["input"], pg.R2(), Finsler(params), alpha=case.args["alpha"], kernel_size=size)
    torch.testing.assert_close(out, case.output, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", some("r2_convection"))
def test_plane_convection(case: Case) -> None:
    vector = case.inputs["c"].flip(-1)
    out = pg.functional.convection(case.inputs["input"], pg.R2(), vector, method="linear", boundary="zeros")
    torch.testing.assert_close(out, case.output, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", some("m2_convection"))
def test_convection_along_the_group_exponential(case: Case) -> None:
    """The original steps by the group element (x0, t0) itself; ours by exp(c), so c is its logarithm."""
    g0, orientations = case.inputs["g0"], case.inputs["input"].shape[2]
    space = pg.SE2(orientations)
    element = torch.stack((g0[:, 2], g0[:, 1], g0[:, 0] * (2 * torch.pi / orientations)), dim=1)
    turns = element[:, 2].abs() < torch.pi  # beyond half a turn the logarithm is another vector, but the same element
    vector = space.log(element)
    out = pg.functional.convection(case.inputs["input"], space, vector, method="linear", boundary="zeros")
    assert turns.any()
    torch.testing.assert_close(out[:, turns], case.output[:, turns], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", some("max_project_m2"))
def test_max_projection(case: Case) -> None:
    u = case.inputs["x"]
    torch.testing.assert_close(pg.functional.project(u, pg.SE2(u.shape[2])), case.output)


@pytest.mark.parametrize("case", some("m2_anisotropic_dilated_project"))
def test_dilated_projection(case: Case) -> None:
    """The original turns through half a circle where its orientations go round a whole one; ours does not.

    So its projection is ours of a signal with twice the orientations, nothing on the second half. Its cost is
    ``(2 rho)^(2a/(2a-1))`` without the factor of the kernel, which the lengths take up.
    """
    u, alpha = next(iter(case.inputs.values())), case.args["alpha"]
    power = 2 * alpha / (2 * alpha - 1)
    factor = ((2 * alpha - 1) * (2 * alpha) ** -power) ** (1 / power) / 2
    lengths = torch.tensor([case.args["longitudinal"] * factor, case.args["lateral"] * factor, 1.0], dtype=u.dtype)
    space = pg.SE2(2 * u.shape[2])
    twice = torch.cat((u, torch.full_like(u, -torch.inf)), dim=2)
    old = {"kernel_size": (1, 7, 7), "distance": "half_angle", "oversample": 1}
    out = pg.functional.dilation(twice, space, 1 / lengths, alpha=alpha, **old).amax(2)
    torch.testing.assert_close(out, case.output, rtol=1e-9, atol=1e-9)
