"""The length of a step is a number; for a gradient in it parameters are scaled, which gives the same result."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pdegcnn as pg
from pdegcnn.functional import convection, convection_diffusion, diffusion, diffusion_shock, dilation, erosion

from ..cases import signal
from ..helpers import SPACE_CASES

TERMS = {
    "convection": convection,
    "diffusion": diffusion,
    "dilation": dilation,
    "erosion": erosion,
    "convection_diffusion": convection_diffusion,
    "diffusion_shock": diffusion_shock,
}
CASES = [(space, term) for space in SPACE_CASES for term in TERMS if term in space.supported_terms]


def arguments(space: pg.spaces.Space, term: str, factor: float = 1.0) -> list[torch.Tensor]:
    """Vectors and metrics, scaled as a time scales them."""
    vector = torch.full((space.dim,), 0.3, dtype=torch.float64)
    weights = torch.full((space.metric_dim,), 1.2, dtype=torch.float64) * factor
    return {"convection": [vector * factor], "convection_diffusion": [vector, weights]}.get(
        term, [weights] * (2 if term == "diffusion_shock" else 1)
    )


@pytest.mark.parametrize(("space", "term"), CASES, ids=str)
@pytest.mark.parametrize("needs", (True, False))
def test_a_tensor_is_refused_by_every_term(space: pg.spaces.Space, term: str, needs: bool) -> None:
    u, time = signal(space).double(), torch.tensor(1.0, requires_grad=needs)
    more: dict[str, Any] = {"contrast": 1.0, "sharpness": 1.0} if term == "diffusion_shock" else {}
    text = r"^time: expected a number \(for a gradient in it, .*\), got a tensor of shape \(\)"
    with pytest.raises(TypeError, match=text):
        TERMS[term](u, space, *arguments(space, term), time=time, **more)
    layer = pg.nn.PDELayer(space, u.shape[1], 2, (term,), dtype=torch.float64)
    with pytest.raises(TypeError, match=text):
        layer.terms[term](u, time=time)


SCALED = [(s, t) for s, t in CASES if "_" not in t and not (isinstance(s, pg.Mesh) and t == "diffusion")]
"""Kernels of diffusion depend on their scale, by the rule that integrates them over cells."""


@pytest.mark.parametrize("alpha", (0.65, 1.0))
@pytest.mark.parametrize(("space", "term"), SCALED, ids=str)
def test_scaled_parameters_are_another_time(space: pg.spaces.Space, term: str, alpha: float) -> None:
    u, time = signal(space).double(), 0.8
    if term == "convection":
        factor, more = time, {}
    else:
        factor, more = time ** (-1 / (2 * alpha)), {"alpha": alpha}
    if term == "diffusion":
        more["method"] = "spectral"
    found = TERMS[term](u, space, *arguments(space, term, factor), **more)
    expected = TERMS[term](u, space, *arguments(space, term), time=time, **more)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
