"""Derivatives by every transform of torch, of every operator, layer and function: right, or refused by name.

The judge is central differences in float64 (see ``derivatives.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacfwd, jacrev

import pdegcnn as pg
from pdegcnn.gauge.diffusion import implicit_step
from pdegcnn.ops.convection import convection
from pdegcnn.ops.gather_mean import gather_mean
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.matrix_function import fractional_exponential, fractional_power
from pdegcnn.ops.morphology import custom_op as morphology_op
from pdegcnn.ops.morphology import dilation_and_erosion, morphological_convolution
from pdegcnn.pde.mesh_neighbors import directional_neighbors

from ..cases import COEFFICIENTS, FUNCTIONS, MESH, PUBLIC_LAYERS, R2, S2, SE2, SO3, VARIANTS, Case, converted
from .derivatives import along, faults, of_layer

F = pg.functional
POINTS = pg.S2(pg.sphere.SphereGrid.icosahedral(0))
BALL_POINTS = pg.SO3(pg.sphere.SphereGrid.icosahedral(0), 3)
SPACES: dict[str, tuple[pg.spaces.base.Space, tuple[int, ...]]] = {
    "R2": (R2, (1, 2, 4, 5)),
    "SE2": (SE2, (1, 2, 4, 4, 5)),
    "S2": (S2, (1, 2, 4, 8)),
    "SO3": (SO3, (1, 2, 3, 4, 8)),
    "S2 points": (POINTS, (1, 2, *POINTS.grid.shape)),
    "SO3 points": (BALL_POINTS, (1, 2, 3, *BALL_POINTS.grid.shape)),
    "Mesh": (MESH, (1, 2, 4, 12)),
}
Call = tuple[Callable[..., Any], tuple[Any, ...]]


def draw(*shape: int) -> Tensor:
    torch.manual_seed(sum(shape))  # numbers of two tensors must not tie
    return torch.rand(shape, dtype=torch.float64)


def weights(dim: int) -> Tensor:
    return torch.tensor([[1.0, 1.6, 0.8], [0.7, 1.2, 1.1]], dtype=torch.float64)[:, :dim]


def lower(dim: int) -> Tensor:
    return torch.eye(dim, dtype=torch.float64).repeat(2, 1, 1) + 0.1 * torch.tril(torch.ones(dim, dim))


def spd(factor: Tensor) -> Tensor:
    return factor @ factor.mT


def rotation(vector: Tensor) -> Tensor:
    x, y, z = vector
    zero = torch.zeros_like(x)
    rows = [torch.stack(row) for row in ([zero, -z, y], [z, zero, -x], [-y, x, zero])]
    return torch.linalg.matrix_exp(torch.stack(rows))


SMALL: dict[str, Any] = {"kernel_size": 3}
ALPHA = torch.tensor(0.7, dtype=torch.float64)


def on_spaces() -> dict[str, Call]:
    """Functions of :mod:`pdegcnn.functional`, with all arguments that they can be differentiated in."""
    found: dict[str, Call] = {}
    for name, (space, shape) in SPACES.items():
        u, dim = draw(*shape), getattr(space, "metric_dim", 3 if name == "Mesh" else space.dim)
        w = weights(dim)
        found[f"dilation {name}"] = (
            lambda u, w, a, s=space: F.dilation(u, s, w, alpha=a, kernel_size=3),
            (u, w, ALPHA),
        )
        found[f"flat dilation {name}"] = (lambda u, w, s=space: F.dilation(u, s, w, alpha=0.5, **SMALL), (u, w))
        found[f"erosion {name}"] = (lambda u, w, s=space: F.erosion(u, s, w, alpha=1.0, **SMALL), (u, w))
        if dim > 1:
            found[f"full dilation {name}"] = (lambda u, m, s=space: F.dilation(u, s, spd(m), **SMALL), (u, lower(dim)))
        if "points" in name:
            continue
        if name != "Mesh":  # see test_second_derivatives_of_a_gathered_mean
            found[f"diffusion {name}"] = (lambda u, w, a, s=space: F.diffusion(u, s, w, alpha=a), (u, w, ALPHA))
        if name != "S2":
            found[f"convection {name}"] = (lambda u, c, s=space: F.convection(u, s, c, time=0.37), (u, w))
    for name in ("R2", "SE2"):
        space, shape = SPACES[name]
        u, w, m = draw(*shape), weights(space.dim), lower(space.dim)
        found[f"spectral diffusion {name}"] = (
            lambda u, m, a, s=space: F.diffusion(u, s, spd(m), alpha=a, method="spectral"),
            (u, m, ALPHA),
        )
        found[f"spectral convection {name}"] = (lambda u, c, s=space: F.convection(u, s, c, method="spectral"), (u, w))
    return found  # fmt: skip


def options() -> dict[str, Call]:
    """Distances, forms of the metric, ways between samples, and what else goes its own way."""
    lifted, ball, sphere = draw(*SPACES["SE2"][1]), draw(*SPACES["SO3"][1]), draw(*SPACES["S2"][1])
    w, shift, kernel = weights(3), draw(2, 4, 3), draw(2, 4, 3, 3, 3)
    norm = pg.nn.BatchNorm(2, S2, track_running_stats=False, dtype=torch.float64)
    found: dict[str, Call] = {
        f"dilation by distance {d}": (
            lambda u, w, d=d: F.dilation(u, SE2, w, kernel_size=3, distance=d),
            (lifted, w),
        )
        for d in ("logarithmic", "sub_riemannian", "combined")
    }
    found |= {
        f"Newton step {name}": (
            lambda u, w, a, s=space: F.dilation(u, s, w, alpha=a, kernel_size=3, subgrid="newton"),
            (u, v, ALPHA),
        )
        for name, space, u, v in (("S2", S2, sphere, weights(1)), ("SO3", SO3, ball, w))
    }
    found |= {
        f"finer samples {name}": (
            lambda u, w, a, s=space: F.dilation(u, s, w, alpha=a, kernel_size=3, oversample=2),
            (u, v, ALPHA),
        )
        for name, space, u, v in (("S2", S2, sphere, weights(1)), ("SO3", SO3, ball, w))
    }
    found |= {
        "convection_diffusion": (lambda u, c, w, a: F.convection_diffusion(u, SO3, c, w, alpha=a), (ball, w, w, ALPHA)),
        "both morphologies": (lambda u, k: dilation_and_erosion(u, k, k.flip(-1)), (lifted, kernel)),
        "torch max-plus": (lambda u, k: morphological_convolution(u, k, -1, "torch"), (lifted, kernel)),
        "torch shift": (lambda u, s: convection(u, s, "zeros", "torch"), (lifted, shift)),
        "shift": (lambda u, s: convection(u, s, "periodic"), (lifted, shift)),
        "mixing convolution": (lambda u, k: group_convolution(u, k, "periodic"), (lifted, draw(3, 2, 4, 3, 3, 3))),
        "power of a matrix": (lambda m, a: fractional_power(spd(m), a), (lower(3), ALPHA)),
        "norm in training": (
            lambda u, w, b: functional_call(norm, {"weight": w, "bias": b}, (u,)),
            (sphere, draw(2), draw(2)),
        ),
        "wigner_D": (lambda v: pg.sphere.wigner_D(2, rotation(v)), (torch.zeros(3),)),
        "rotate_coefficients": (
            lambda c, v: pg.sphere.rotate_coefficients(c, rotation(v)),
            (COEFFICIENTS, torch.tensor([0.3, 0.2, 0.5])),
        ),
        "implicit step, spin 1": (
            lambda u, t: implicit_step(u, MESH, 1, t),
            (torch.complex(draw(1, 2, 12), draw(1, 2, 12).flip(2)), draw(2)),
        ),
        "implicit step, spin 0": (lambda u, t: implicit_step(u, MESH, 0, t), (draw(1, 3, 12), draw(3))),
    }
    return found  # fmt: skip


CALLS = on_spaces() | options()
LINEARIZED = ("dilation SE2", "dilation Mesh", "diffusion SO3")
FORWARD = ("dual", "jacfwd", "hessian", "jacrev of jacfwd", "jacfwd of jacfwd")
REFUSED = {
    "implicit step": ("batched autograd", *FORWARD),
    "norm in training": ("batched autograd",),
    "wigner_D": ("batched autograd",),
    "rotate_coefficients": ("batched autograd",),
    "dilation Mesh": ("batched autograd",),
    "erosion Mesh": ("batched autograd",),
    "reversible.": ("batched autograd",),
    "models.": ("batched autograd",),
}
"""What a case may refuse, by its name or a part of it, with an error that says what was expected."""
SMALL_MODELS = ("models.rotated_digits", "models.spherical_detector", "models.detector")
SMALL_LAYERS = [c for c in PUBLIC_LAYERS if not c.name.startswith("models.") or c.name in SMALL_MODELS]
NO_DERIVATIVE = (
    "gauge.gaussian_curvature",
    "gauge.mean_curvature",
    "gauge.heat_kernel_signature",
    "kernels.as_metric",
    "models.oriented_iou",
    "models.oriented_nms",
    "sphere.irreps",
    "reversible.stability_report",
    "sphere.wigner_D",
)
"""Functions without a derivative, or whose arguments cannot move freely (a rotation: see the cases)."""


def check(name: str, function: Callable[[Tensor], Tensor], linearize: bool = False) -> None:
    found = faults(function, linearize)
    may = {way for part, ways in REFUSED.items() if part in name for way in ways}
    wrong = {k: v for k, v in found.items() if not (k in may and "NotImplementedError" in v and "expected" in v)}
    assert not wrong, f"{name}: {wrong}"


@pytest.mark.parametrize("name", CALLS)
def test_every_function_and_operator(name: str) -> None:
    call, arguments = CALLS[name]
    check(name, along(lambda given: call(*given), arguments), name in LINEARIZED)


@pytest.mark.parametrize("case", SMALL_LAYERS, ids=str)
def test_every_layer(case: Case) -> None:
    check(case.name, of_layer(case.build().eval(), case.inputs))


@pytest.mark.parametrize("case", [c for c in FUNCTIONS if c.name not in NO_DERIVATIVE], ids=str)
def test_every_public_function(case: Case) -> None:
    def moves(key: str, value: Any) -> bool:
        return isinstance(value, (Tensor, dict)) and key != "R"

    fixed = {k: v for k, v in case.arguments.items() if not moves(k, v)}
    if "R" in fixed:
        fixed["R"] = rotation(torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64))
    moving = {k: v for k, v in case.arguments.items() if moves(k, v)}
    check(case.name, along(lambda given: case.make(**fixed, **given), moving))


@pytest.mark.parametrize("case", [c for c in VARIANTS if isinstance(c.inputs[0], dict)], ids=str)
def test_gradcheck_of_gauge_layers_with_an_option(case: Case) -> None:
    layer, (given, *mesh) = case.build().double().eval(), case.inputs
    fields = [converted(x, torch.float64).requires_grad_() for x in given.values()]
    parameters = list(layer.parameters())

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(dict(zip(given, inputs)), *mesh).values())

    assert torch.autograd.gradcheck(function, (*fields, *parameters), fast_mode=True, atol=1e-5)


def test_second_derivatives_of_a_gathered_mean() -> None:
    """The profile is linear between its samples; its second derivative is that of the curve they are taken from."""
    lists = directional_neighbors(MESH, 1.5, torch.empty(0, dtype=torch.float64))
    u, m = draw(1, 2, 4, 12), lower(3)
    far = torch.linspace(0, 3.0, 4096, dtype=torch.float64)

    def mean(t: Tensor, profile: Callable[[Tensor], Tensor]) -> Tensor:
        values = gather_mean(u, lists, spd(m) * (1 + t), profile(far), 3.0, 3)
        return values.square().sum()

    bell = lambda d: torch.exp(-d * d)  # noqa: E731
    t, step = torch.zeros((), dtype=torch.float64), 3e-2
    slope = lambda x: torch.autograd.functional.jacobian(lambda z: mean(z, bell), x)  # noqa: E731
    true = (slope(t + step) - slope(t - step)) / (2 * step)
    assert true.abs() > 1e-3
    for found in (
        torch.autograd.functional.hessian(lambda z: mean(z, bell), t),
        jacfwd(jacrev(lambda z: mean(z, bell)))(t),
        jacfwd(jacfwd(lambda z: mean(z, bell)))(t),
    ):
        torch.testing.assert_close(found, true, rtol=2e-2, atol=0)  # the slopes are a staircase of 4096 steps


@pytest.mark.parametrize(
    "ways", [(a, b, c) for a in (jacfwd, jacrev) for b in (jacfwd, jacrev) for c in (jacfwd, jacrev)]
)
def test_third_derivatives_of_spectral_diffusion_are_refused(ways: tuple[Any, Any, Any]) -> None:
    m, move = spd(lower(3)), torch.eye(3, dtype=torch.float64)
    energy = lambda t: fractional_exponential(m + t * move, 0.7).sum()  # noqa: E731
    with pytest.raises(NotImplementedError, match="at most second derivatives"):
        ways[0](ways[1](ways[2](energy)))(torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_an_operator_itself_refuses_what_it_has_no_rule_for(backend: str) -> None:
    """Exported and compiled graphs call it so: the derivative must not get lost below the functions."""
    u, kernel = draw(1, 2, 4, 4, 5), draw(2, 4, 3, 3, 3)
    call = lambda z: morphology_op.morphology(z, kernel, 1, True, backend)[0]  # noqa: E731
    with pytest.raises(NotImplementedError, match="pdegcnn::morphology: expected a derivative by torch.autograd"):
        torch.func.jvp(call, (u,), (u,))
    with pytest.raises(NotImplementedError, match="pdegcnn::morphology: expected a derivative by torch.autograd"):
        torch.func.grad(lambda z: call(z).sum())(u)


def test_what_is_kept_is_made_outside_of_transforms() -> None:
    """Tables that a first call inside a transform makes serve later calls."""
    mesh = pg.Mesh.from_arrays(*pg.surface.icosphere(0), orientations=4)
    u = draw(1, 2, 4, 12)
    run = lambda z: F.dilation(z, mesh, weights(3), kernel_size=3).square().sum()  # noqa: E731
    torch.func.grad(run)(u)
    with torch.inference_mode():
        run(u)
    u.requires_grad_()
    run(u).backward()
    assert u.grad is not None and bool(u.grad.isfinite().all())


def test_stability_of_a_stack_of_dilations() -> None:
    """The norm of a Jacobian is found by jvp and vjp in turn: here of a linear map, whose norm is known."""

    class Scaled(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            return 3.0 * F.dilation(
                y, SE2, torch.full((3,), 1e6, dtype=y.dtype), kernel_size=3
            )  # no tap but the centre

    stack = pg.reversible.ReversibleStack([Scaled()], h=0.5)
    report = pg.reversible.stability_report(stack, draw(1, 2, 4, 4, 5))
    assert report.step_norms[0] == pytest.approx(0.75, rel=1e-6)
