"""The Newton step of dilation and erosion: nearer to the supremum over the continuum, with right gradients."""

from __future__ import annotations

import math

import pytest
import torch

import pdegcnn as pg
from pdegcnn.functional import dilation, erosion
from pdegcnn.kernels import METRICS, morphological_kernel
from pdegcnn.kernels.morphological import kernel_slopes

from ..helpers import SPHERE_CASES, spherical
from .test_spherical import rotations


def refined(space, x: torch.Tensor, band: int, fibre: int):
    """The band-limited signal on a finer grid: values ``[N]`` and where, points ``[N,3]`` or rotations ``[N,3,3]``."""
    fine = pg.sphere.SphereGrid.gauss_legendre(band)
    kind = {"dtype": torch.float64}
    if isinstance(space, pg.S2):
        c = pg.sphere.RealSHT(space.grid, **kind)(x)
        values = pg.sphere.InverseRealSHT(fine, space.grid.band, **kind)(c)
        return values.flatten(), fine.xyz.reshape(-1, 3)
    c = pg.sphere.SO3FFT(space.grid, space.orientations, **kind)(x)
    nmax = (c.shape[-1] - 1) // 2
    values = pg.sphere.InverseSO3FFT(fine, fibre, space.grid.band, nmax, **kind)(c)
    return values.flatten(), rotations(pg.SO3(fine, fibre)).reshape(-1, 3, 3)


def error(space, x, w, alpha, subgrid, truth, which) -> float:
    got = dilation(x, space, w, alpha=alpha, kernel_size="auto", subgrid=subgrid).flatten()[which]
    return float((got - truth).square().mean().sqrt() / truth.std())


@pytest.mark.parametrize("grid", [pg.sphere.SphereGrid.gauss_legendre(12), pg.sphere.SphereGrid.reduced_gauss(12)])
def test_error_on_the_sphere_is_a_quarter(grid: pg.sphere.SphereGrid) -> None:
    space, w = pg.S2(grid), torch.tensor([6.0], dtype=torch.float64)
    x = spherical(space, channels=1, band=3.0)
    values, points = refined(space, x, 90, 0)
    here = grid.xyz.reshape(-1, 1, 3)
    d = torch.atan2(torch.linalg.cross(*torch.broadcast_tensors(here, points)).norm(dim=-1), (here * points).sum(-1))
    truth = (values - morphological_kernel((6.0 * d) ** 2, 1.0)).amax(1)
    everywhere = torch.arange(len(truth))
    plain, newton = (error(space, x, w, 1.0, s, truth, everywhere) for s in (None, "newton"))
    assert newton < 0.25 * plain


def test_error_on_the_group_falls() -> None:
    space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(6), orientations=9)
    w = torch.tensor([4.0, 5.0, 3.0], dtype=torch.float64)
    x = spherical(space, channels=1, band=2.0)
    values, there = refined(space, x, 40, 48)
    which = torch.randperm(x.numel())[:20]
    here = rotations(space).reshape(-1, 3, 3)[which]
    steps = space.log(space.from_matrix(there.mT @ here[:, None]))  # h^-1 g
    truth = (values - morphological_kernel((steps**2 @ w**2), 0.9)).amax(1)
    plain, newton = (error(space, x, w, 0.9, s, truth, which) for s in (None, "newton"))
    assert newton < 0.5 * plain


@pytest.mark.parametrize("alpha", [0.7, 1.0])
def test_slopes_of_the_kernel(alpha: float) -> None:
    s = torch.rand(20, dtype=torch.float64).add(0.1).requires_grad_()
    first, second = kernel_slopes(s, alpha, 0.8)
    (wanted,) = torch.autograd.grad(morphological_kernel(s, alpha, 0.8).sum(), s)
    torch.testing.assert_close(first, wanted)
    (wanted,) = torch.autograd.grad(first.sum(), s, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(second, wanted)
    assert torch.isfinite(torch.stack(kernel_slopes(torch.zeros(1, dtype=torch.float64), alpha))).all()


@pytest.mark.parametrize(
    "space", [pg.S2(pg.sphere.SphereGrid.gauss_legendre(5)), pg.SO3(pg.sphere.SphereGrid.gauss_legendre(4), 5)], ids=str
)
def test_gradients_and_duality(space) -> None:
    x = spherical(space, channels=2, band=2.0).requires_grad_()
    w = (3 + torch.rand(2, space.metric_dim, dtype=torch.float64)).requires_grad_()
    alpha = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def run(x, w, alpha):
        value = dilation(x, space, w, alpha=alpha, subgrid="newton")
        return (value * torch.linspace(0, 1, value.numel(), dtype=torch.float64).view(value.shape)).sum()

    assert torch.autograd.gradcheck(run, (x, w, alpha))
    minus = erosion(-x, space, w, alpha=alpha, subgrid="newton")
    torch.testing.assert_close(minus, -dilation(x, space, w, alpha=alpha, subgrid="newton"))


def test_layer_uses_it_and_turns_about_the_pole_stay_exact() -> None:
    space = pg.SO3(pg.sphere.SphereGrid.gauss_legendre(4), 5)
    layer = pg.nn.PDELayer(space, 2, 2, ("dilation", "erosion"), subgrid="newton").double()
    x = spherical(space)
    layer(x).sum().backward()
    turn = space.to_matrix(space.exp(torch.tensor([0.0, 0.0, math.pi / 4], dtype=torch.float64)))
    assert pg.testing.equivariance_error(layer, x, space, rotation=turn) < 1e-12


@pytest.mark.parametrize("form", ("diagonal", "spd", "axisymmetric"))
@pytest.mark.parametrize("space", [*SPHERE_CASES, pg.SO3(pg.sphere.SphereGrid.gauss_legendre(4), 4)], ids=str)
def test_plain_torch_takes_the_same_step(space: pg.S2 | pg.SO3, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Diagonal metrics repeat after half a turn of an even fibre, so they come with half of the rows."""
    if space.metric_dim not in METRICS[form].dims:
        return
    raw = torch.randn(2, *METRICS[form].raw_shape(space.metric_dim), dtype=torch.float64)
    x, metric = spherical(space), METRICS[form].from_raw(raw)
    found: list[torch.Tensor] = []
    for backend in ("", "torch"):
        monkeypatch.setenv("PDEGCNN_BACKEND", backend)
        found.append(dilation(x, space, metric, alpha=0.8, kernel_size=3, subgrid="newton"))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space", SPHERE_CASES, ids=str)
def test_an_empty_batch_takes_the_step(space: pg.S2 | pg.SO3) -> None:
    x = spherical(space)[:0].requires_grad_()
    w = torch.ones(space.metric_dim, dtype=torch.float64, requires_grad=True)
    out = dilation(x, space, w, alpha=0.8, kernel_size=3, subgrid="newton")
    assert out.shape == x.shape
    grads = torch.autograd.grad(out.sum(), (x, w))
    assert not any(bool(grad.any()) for grad in grads)
