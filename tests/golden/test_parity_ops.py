"""Our operator specifications against the recorded values and gradients of the original, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pdegcnn.ops.convection.reference import convection
from pdegcnn.ops.group_convolution.reference import group_convolution
from pdegcnn.ops.morphology.reference import morphological_convolution

from .original import Case, cases, convection_shift, turned_kernel

RTOL, ATOL = 1e-10, 1e-12


def run_morphology(u: Tensor, kernel: Tensor) -> Tensor:
    return morphological_convolution(u, turned_kernel(kernel, u.shape[2], torch.inf), sign=-1)


def run_plane_morphology(u: Tensor, kernel: Tensor) -> Tensor:
    turned = turned_kernel(kernel[:, None], 1, torch.inf)
    return morphological_convolution(u[:, :, None], turned, sign=-1)[:, :, 0]


def run_linear(u: Tensor, kernel: Tensor) -> Tensor:
    return group_convolution(u, turned_kernel(kernel, u.shape[2], 0.0))


def run_convection(u: Tensor, g0: Tensor) -> Tensor:
    return convection(u, convection_shift(g0, u.shape[2]), boundary="zeros")


RUNS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "m2_morphological_convolution": run_morphology,
    "m2_linear_convolution": run_linear,
    "m2_convection": run_convection,
    "r2_morphological_convolution": run_plane_morphology,
}
CASES = [pytest.param(case, id=f"{op}-{case.number}") for op in RUNS for case in cases(op)]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_agree_with_the_original(case: Case) -> None:
    leaves = case.leaves()
    out = RUNS[case.op](*leaves.values())
    torch.testing.assert_close(out, case.output, rtol=RTOL, atol=ATOL)
    grads = torch.autograd.grad(out, list(leaves.values()), case.grad_out)
    for name, grad in zip(leaves, grads):
        torch.testing.assert_close(grad, case.grads[name], rtol=RTOL, atol=ATOL, msg=lambda m, n=name: f"{n}: {m}")
