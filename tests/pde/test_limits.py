"""Values and derivatives of every term stay finite where powers, times, metrics and precisions meet their limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import pdegcnn as pg
from pdegcnn.kernels.metric import METRICS, Finsler
from pdegcnn.kernels.morphological import morphological_kernel, radius_of_cost
from pdegcnn.spaces.base import sinc

RINGS, POINTS = pg.sphere.SphereGrid.gauss_legendre(3), pg.sphere.SphereGrid.icosahedral(0)
SPACES = {
    "R2": (pg.R2(), (4, 4)),
    "SE2": (pg.SE2(4), (4, 3, 3)),
    "S2": (pg.S2(RINGS), RINGS.shape),
    "S2 points": (pg.S2(POINTS), POINTS.shape),
    "SO3": (pg.SO3(RINGS, 3), (3, *RINGS.shape)),
    "SO3 points": (pg.SO3(POINTS, 3), (3, *POINTS.shape)),
    "Mesh": (pg.Mesh.from_arrays(*pg.surface.icosphere(0), orientations=3), (3, 12)),
}
TERMS: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "dilation": (pg.functional.dilation, {}, tuple(SPACES)),
    "erosion": (pg.functional.erosion, {}, tuple(SPACES)),
    "newton": (pg.functional.dilation, {"subgrid": "newton"}, ("S2", "SO3")),
    "finer samples": (pg.functional.erosion, {"oversample": 2}, ("S2", "SO3")),
    "sub-Riemannian": (pg.functional.dilation, {"distance": "combined"}, ("SE2",)),
    "auto": (pg.functional.dilation, {"kernel_size": "auto"}, ("R2", "SE2", "S2", "SO3")),
    "diffusion": (pg.functional.diffusion, {}, ("R2", "SE2", "S2", "SO3", "Mesh")),
}
"""Function, options, and spaces that have them."""
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@st.composite
def settings_of_a_term(draw: Any) -> tuple:
    term = draw(st.sampled_from(sorted(TERMS)))
    space = draw(st.sampled_from(TERMS[term][2]))
    dim = SPACES[space][0].metric_dim
    forms = [f for f in METRICS if dim in METRICS[f].dims and (term != "diffusion" or f not in ("finsler", "randers"))]
    form = "diagonal" if term == "sub-Riemannian" else draw(st.sampled_from(forms))
    learned, low = draw(st.booleans()), 0.1 if term == "diffusion" else 0.5
    least = low if low < 0.5 or not (learned or term == "newton") else 0.505
    near = st.sampled_from((least, 0.505, 0.51, 0.52, 0.999, 1.0))
    alpha = draw(st.one_of(near, st.floats(least, 1)))
    time = 10 ** draw(st.floats(-3, 1))
    weights = draw(st.lists(st.floats(-3, 3), min_size=dim, max_size=dim))
    return term, space, form, alpha, time, weights, draw(st.sampled_from(DTYPES)), learned, draw(st.booleans())


def finite(*tensors: Tensor | None) -> bool:
    return all(bool(x.isfinite().all()) for x in tensors if x is not None)


@given(settings_of_a_term())
@example(("dilation", "SE2", "diagonal", 0.505, 1.0, [0.2, 0.2, 0.2], torch.float32, True, False))  # far taps
@example(("dilation", "SO3", "diagonal", 0.51, 1.0, [0.5, 0.5, 0.5], torch.float32, False, False))
@example(("erosion", "SE2", "diagonal", 0.505, 0.25, [0.0, 0.0, 0.0], torch.float32, False, False))  # a short step
@example(("dilation", "R2", "spd", 0.5001, 1e-3, [0.0, 0.0], torch.float64, False, False))
@example(("dilation", "Mesh", "diagonal", 0.5000001, 10.0, [0.0, 0.0, 0.0], torch.float32, False, False))
@example(("dilation", "Mesh", "axisymmetric", 0.65, 1.0, [0.0, 0.0, 0.0], torch.float32, False, False))
@example(("auto", "SE2", "randers", 0.504, 1e-3, [-3.0, 3.0, 0.0], torch.float32, False, False))
@example(("auto", "SO3", "spd", 0.65, 1.0, [-3.0, 3.0, 0.0], torch.float32, False, True))
@example(("diffusion", "R2", "diagonal", 0.1, 1e-3, [0.0, 0.0], torch.float32, False, False))  # rates overflow
@example(("diffusion", "SE2", "spd", 0.501, 0.5, [0.0, 3.0, 1.0], torch.float16, False, False))  # squares overflow
@example(("dilation", "SE2", "diagonal", 0.65, 1.0, [3.0, 3.0, 3.0], torch.float16, False, False))
@example(("diffusion", "S2", "diagonal", 0.65, 1.0, [-3.0], torch.float16, False, False))
@example(("diffusion", "Mesh", "diagonal", 1.0, 1e-6, [4.0, 4.0, 4.0], torch.float32, False, False))  # no neighbours
@example(("diffusion", "Mesh", "spd", 0.65, 1e-6, [7.0, 7.0, 7.0], torch.float64, True, False))
@example(("dilation", "SO3 points", "diagonal", 1.0, 0.25, [3.0, 3.0, 3.0], torch.float64, False, True))  # the centre
@example(("dilation", "S2 points", "diagonal", 0.999, 1e-3, [-1.0], torch.float64, True, False))
@example(("newton", "SO3", "axisymmetric", 0.505, 1e-3, [2.0, 2.0, 0.0], torch.float32, True, False))
@example(("newton", "SO3", "spd", 0.505, 0.5, [2.6, -2.4, 1.3], torch.float32, True, False))
def test_limits(setting: tuple) -> None:
    """All finite: values, gradients in signal, metric and power, and second derivatives unless they are refused."""
    term, name, form, alpha, time, weights, dtype, learned, flat = setting
    function, options, _ = TERMS[term]
    space, shape = SPACES[name]
    if form == "randers" and space.metric_dim == 3:
        space, shape, weights = *SPACES["R2"], weights[:2]
    logs = torch.tensor([weights], dtype=torch.float64) * math.log(10)
    raw = METRICS[form].raw_of_diagonal(logs).to(dtype).requires_grad_()
    u = (torch.zeros if flat else torch.randn)(1, 1, *shape, dtype=dtype).requires_grad_()
    inputs = [u, raw]
    if learned:
        inputs.append(torch.tensor(alpha, dtype=torch.float32, requires_grad=True))
        alpha = inputs[-1]
    value = function(u, space, METRICS[form].from_raw(raw), alpha=alpha, time=time, **options)
    assert value.dtype == dtype and finite(value)
    if function is pg.functional.dilation:
        assert bool((value >= u).all())
    total = 1e-3 * (value.double() * torch.randn_like(value, dtype=torch.float64)).sum()
    grads = torch.autograd.grad(total, inputs, create_graph=True, allow_unused=True)
    assert finite(*grads)
    again = sum((1e-3 * x.double().sum() for x in grads if x is not None and x.requires_grad), torch.zeros(()))
    if again.requires_grad:
        try:
            assert finite(*torch.autograd.grad(again, inputs, allow_unused=True))
        except RuntimeError as error:
            assert "derivative" in str(error) or "once_differentiable" in str(error)


@given(
    alpha=st.floats(0.5005, 1),
    time=st.floats(-3, 1).map(lambda x: 10**x),
    squared=st.floats(-8, 8),
    learned=st.booleans(),
)
@example(alpha=0.505, time=0.25, squared=0.0, learned=True)
def test_the_kernel_in_logarithms(alpha: float, time: float, squared: float, learned: bool) -> None:
    """Wherever the cost is a number of the dtype with room to spare it is ``exp`` of the formula's logarithm."""
    excess, power, d2 = 2 * alpha - 1, alpha / (2 * alpha - 1), 10**squared
    log = math.log(excess) - 2 * power * math.log(2 * alpha) - math.log(time) / excess + power * math.log(d2)
    given_alpha = torch.tensor(alpha, dtype=torch.float64) if learned else alpha
    cost = float(morphological_kernel(torch.tensor([d2], dtype=torch.float64), given_alpha, time)[0])
    if log > 600:
        assert cost == math.inf
    elif -600 < log < 400:
        assert math.log(cost) == pytest.approx(log, abs=1e-9 * power)
        radius = radius_of_cost(torch.tensor(cost, dtype=torch.float64), given_alpha, time)
        assert float(radius) == pytest.approx(d2**0.5, rel=1e-6)
    else:
        assert cost >= 0


def test_nothing_is_hidden() -> None:
    """NaN stays NaN, also where the cost of the unit element is zero."""
    for alpha in (0.51, 0.65, 1.0):
        cost = morphological_kernel(torch.tensor([math.nan, 0.0, math.inf]), alpha)
        assert cost.isnan().tolist() == [True, False, False] and cost[1:].tolist() == [0, math.inf]


@given(angle=st.one_of(st.just(0.0), st.floats(-7, 7)))
def test_sine_over_angle(angle: float) -> None:
    x = torch.tensor(angle, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(sinc(x), torch.sinc(x / math.pi), rtol=1e-15, atol=1e-16)
    assert torch.autograd.gradgradcheck(sinc, x)


def test_derivatives_at_the_unit_element() -> None:
    """Exponentials are inverted by logarithms, so the way there and back has the first derivative one, the second 0."""
    group, plane = SPACES["SO3"][0], SPACES["SE2"][0]
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for back in (lambda c: group.log(group.exp(c)), lambda c: plane.log(plane.exp(c))):
        torch.testing.assert_close(torch.autograd.functional.jacobian(back, zero), torch.eye(3).double())
        curvature = torch.stack(
            [torch.autograd.functional.hessian(lambda c, i=i, back=back: back(c)[i], zero) for i in range(3)]
        )
        torch.testing.assert_close(curvature, torch.zeros_like(curvature))
    for q in ([1.0, 0, 0, 0], [0.0, 1, 0, 0], [0.0, 0, 0, 1], [-1.0, 0, 0, 0]):
        for chart in (group.log, group.half_angle):
            second = torch.autograd.functional.hessian(lambda g, chart=chart: chart(g).sum(), torch.tensor(q).double())
            assert finite(second)
    norm = lambda v: Finsler(torch.ones(1, 5).double()).squared_norm(v).sum()  # noqa: E731
    assert finite(torch.autograd.functional.hessian(norm, zero[:2].detach()))
