"""Dilation and erosion in the log-plus semifield: the viscous equation, both limits, windows, channels, errors."""

import math

import pytest
import torch

import pdegcnn as pg
from pdegcnn.functional import dilation, erosion
from pdegcnn.nn import terms

SPACES = [pg.R2(), pg.SE2(4), pg.SE2(8), pg.R3(spacing=(2.0, 1.0, 0.5))]


def signal(space, size=7, channels=2):
    torch.manual_seed(0)
    first = {"R2": (), "R3": (5,)}.get(type(space).__name__, (space.orientations,))
    return torch.randn(2, channels, *first, size, size, dtype=torch.float64)


def ones(space):
    return torch.ones(space.dim, dtype=torch.float64)


def smooth(size, step, places=0.0):
    """Three waves on the plane, and the same at ``places`` further along x and y."""
    x = torch.arange(size, dtype=torch.float64) * step + places
    return (x[:, None] / 3).sin() + (x / 4 + 1).cos() * (x[:, None] / 5).cos()


def viscous(step, t, time):
    """Solution of ``u_t = |grad u|^2 + t Laplace u`` by Cole-Hopf: t times the log of a Gaussian mean of exp(u / t).

    By a quadrature of eight points for each of the pixels of size ``step``; the middle of the image.
    """
    fine, size = step / 8, round(64 / step)
    sigma = math.sqrt(2 * t * time)
    reach = math.ceil(7 * sigma / fine)
    z = torch.arange(-reach, reach + 1, dtype=torch.float64) * fine
    weight = (-(z**2) / (2 * sigma**2)).exp()
    weight = weight / weight.sum()
    x = torch.arange(size, dtype=torch.float64) * step
    middle = x[size // 4 : -(size // 4)]
    at = middle[:, None] + z  # [points, offsets]

    def wave(y, x):
        return (y / 3).sin() + (x / 4 + 1).cos() * (y / 5).cos()

    rows = []
    for y in at:
        values = (wave(y[:, None, None], at[None]) / t).exp()  # [offsets, points, offsets]
        rows.append(torch.einsum("i,ipj,j->p", weight, values, weight))
    return t * torch.stack(rows).log()


def test_axes_of_volumes_are_alike():
    """Swapped axes give swapped results, with any metric."""
    space, u = pg.R3(), torch.randn(1, 2, 5, 5, 5, dtype=torch.float64)
    metric = torch.tensor([[[1.3, 0.2, 0.1], [0.2, 0.8, 0.0], [0.1, 0.0, 0.6]]], dtype=torch.float64).expand(2, 3, 3)
    soft = {"semifield": "log_plus", "temperature": 0.4}
    grown = dilation(u, space, metric, **soft)
    for order in ((0, 2, 1), (2, 1, 0), (1, 2, 0)):
        axes = [2 - n for n in reversed(order)]  # of vectors (x, y, z), for volumes [D,H,W]
        swapped = dilation(u.permute(0, 1, *(2 + n for n in order)), space, metric[:, axes][:, :, axes], **soft)
        assert torch.allclose(swapped, grown.permute(0, 1, *(2 + n for n in order)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", [0.5, 2.0])
def test_it_solves_the_viscous_equation(t):
    """For alpha = 1 on the plane, up to the sampling of a Gaussian, which is exact to many digits for wide ones."""
    errors = []
    for step in (2.0, 1.0):
        size = round(64 / step)
        u = smooth(size, step)[None, None]
        metric = torch.full((2,), step, dtype=torch.float64)  # a pixel is so long
        came = dilation(u, pg.R2(), metric, alpha=1.0, radius=18 / step, semifield="log_plus", temperature=t, time=1.0)
        cut = slice(size // 4, -(size // 4))
        errors.append(float((came[0, 0, cut, cut] - viscous(step, t, 1.0)).abs().max()))
    assert errors[1] < 1e-2 * max(errors[0], 1e-8)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_constants_order_and_duality(space):
    u, metric = signal(space), ones(space)
    soft = {"semifield": "log_plus", "temperature": 0.3}
    grown = dilation(u, space, metric, **soft)
    assert torch.equal(dilation(torch.full_like(u, 0.7), space, metric, **soft), torch.full_like(u, 0.7))
    assert torch.allclose(dilation(u + 3, space, metric, **soft), grown + 3, rtol=0, atol=1e-12)
    assert (dilation(u + torch.rand_like(u), space, metric, **soft) >= grown).all()
    assert torch.equal(erosion(u, space, metric, **soft), -dilation(-u, space, metric, **soft))
    assert (erosion(u, space, metric, **soft) <= grown).all()


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_low_and_high_temperatures(space):
    u, metric = signal(space), ones(space)
    sharp = dilation(u, space, metric, kernel_size=3, oversample=1)
    taps = math.log(3**space.dim)
    for t in (1e-9, 1e-3, 0.1):
        soft = dilation(u, space, metric, kernel_size=3, semifield="log_plus", temperature=t)
        assert ((soft - sharp).abs() <= t * taps + 1e-12).all()
    hot = [dilation(u, space, metric, kernel_size=3, semifield="log_plus", temperature=t) for t in (1e7, 1e8)]
    assert torch.allclose(hot[0], hot[1], rtol=0, atol=1e-6)
    assert torch.allclose(hot[1].mean(1), dilation(u.mean(1, keepdim=True), space, metric, kernel_size=3,
                          semifield="log_plus", temperature=1e8)[:, 0], rtol=0, atol=1e-6)  # linear  # fmt: skip


@pytest.mark.parametrize("t", [0.01, 0.3])
def test_an_automatic_window_cuts_nothing_that_counts(t):
    u, metric = signal(pg.R2(), 9), ones(pg.R2())
    soft = {"semifield": "log_plus", "temperature": t, "alpha": 0.7}
    whole = dilation(u, pg.R2(), metric, kernel_size=17, **soft)
    assert torch.allclose(dilation(u, pg.R2(), metric, kernel_size="auto", **soft), whole, rtol=0, atol=1e-12)


def test_temperatures_of_channels_and_their_gradients():
    space, u = pg.SE2(4), signal(pg.SE2(4))
    t = torch.tensor([0.2, 0.9], dtype=torch.float64, requires_grad=True)
    soft = {"semifield": "log_plus", "kernel_size": 3}
    both = dilation(u, space, ones(space), temperature=t, **soft)
    for c, alone_t in enumerate((0.2, 0.9)):
        alone = dilation(u[:, c : c + 1], space, ones(space), temperature=alone_t, **soft)
        assert torch.allclose(both[:, c : c + 1], alone, rtol=0, atol=1e-13)
    assert torch.autograd.gradcheck(lambda t: dilation(u, space, ones(space), temperature=t, **soft), t, fast_mode=True)


def test_a_layer_learns_its_temperature():
    torch.manual_seed(0)
    layer = pg.nn.Morphology(pg.SE2(4), 2, semifield="log_plus", temperature=0.5, learn_temperature=True)
    u = signal(pg.SE2(4)).float()
    target = dilation(u, pg.SE2(4), layer.metric(), semifield="log_plus", temperature=torch.tensor([0.1, 2.0])).detach()
    optimiser = torch.optim.LBFGS([layer.temperature.raw], max_iter=30, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        found = (layer(u) - target).square().sum()
        found.backward()
        return found

    optimiser.step(loss)
    assert torch.allclose(layer.temperature().detach(), torch.tensor([0.1, 2.0]), rtol=0.02)


def test_large_signals_by_groups_of_channels(monkeypatch):
    layer = pg.nn.Morphology(pg.R2(), 5, semifield="log_plus", temperature=0.5, learn_temperature=True).double()
    layer.temperature.raw.data.normal_()
    u = signal(pg.R2(), channels=5)
    with torch.no_grad():
        whole = layer(u)
        monkeypatch.setattr(terms, "STREAM_ABOVE", u.numel() // 2)
        assert torch.allclose(layer(u), whole, rtol=0, atol=1e-13)
