"""Terms on volumes against solutions known otherwise, as voxels get finer; against the plane; every backend."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import pdegcnn as pg
from pdegcnn.functional import convection, diffusion, dilation, erosion
from pdegcnn.ops.group_convolution import group_convolution
from pdegcnn.ops.padding import pad

from ..helpers import signal, spd, weights

VOXEL = (1.5, 1.0, 0.8)
DOUBLE = {"dtype": torch.float64}


def points(size: int, space: pg.R3) -> Tensor:
    """Positions (x, y, z) of voxels from the centre, in units of length, ``[D,H,W,3]``."""
    lines = [(torch.arange(size, dtype=torch.float64) - size // 2) * step for step in space.grid_steps]
    return torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], dim=-1)


def quadratic(matrix: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("...i,ij,...j->...", x, matrix, x)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_quadratic_cap_follows_the_hamilton_jacobi_equation(sign: int) -> None:
    """Hopf-Lax: ``sup_y -y A y - d(x,y)^2/4t`` is ``-x (A^-1 + 4 t G^-1)^-1 x``, as voxels get finer."""
    cap = torch.diag(torch.tensor([0.5, 0.4, 0.3], dtype=torch.float64))
    metric, t = spd(pg.R3(), 1), 0.3

    def error(size: int) -> float:
        space = pg.R3(tuple(v * 2.5 / size for v in VOXEL))
        x = points(size, space)
        u = -sign * quadratic(cap, x)[None, None]
        term = dilation if sign == 1 else erosion
        out = term(u, space, metric, alpha=1.0, time=t, kernel_size=2 * (size // 3) + 1)
        law = torch.linalg.inv(torch.linalg.inv(cap) + 4 * t * torch.linalg.inv(metric[0]))
        middle = slice(size // 3, -(size // 3))
        return float((out[0, 0] + sign * quadratic(law, x))[middle, middle, middle].abs().mean())

    assert error(21) < error(7) / 4


@pytest.mark.parametrize("alpha", [0.7, 1.0])
def test_spectral_diffusion_solves_plane_waves(alpha: float) -> None:
    n, space, metric = 6, pg.R3(VOXEL), spd(pg.R3(), 1)
    index = torch.arange(n, dtype=torch.float64)
    for k in ((1, 0, 0), (2, 1, -1), (-1, 2, 1)):
        depth, row, column = space.grid_steps
        omega = 2 * math.pi / n * torch.tensor([k[0] / column, k[1] / row, k[2] / depth], dtype=torch.float64)
        phase = k[0] * index + k[1] * index[:, None] + k[2] * index[:, None, None]
        u = torch.cos(2 * math.pi / n * phase)[None, None]
        rate = (omega @ torch.linalg.inv(metric[0]) @ omega) ** alpha
        out = diffusion(u, space, metric, alpha=alpha, method="spectral")
        torch.testing.assert_close(out, torch.exp(-rate) * u, atol=1e-12, rtol=0)


def test_a_gaussian_diffuses_to_a_wider_one_as_voxels_get_finer() -> None:
    """``exp(-x S^-1 x / 4)`` has the covariance 2 S, to which diffusion by G adds ``2 t G^-1``."""
    metric, t = 1.5 * spd(pg.R3(), 1), 0.4
    start = 0.6 * torch.eye(3, dtype=torch.float64)
    end = start + t * torch.linalg.inv(metric[0])

    def error(size: int, method: str) -> float:
        space = pg.R3(tuple(v * 10.0 / size for v in (1.2, 1.0, 0.9)))
        x = points(size, space)
        u = torch.exp(-quadratic(torch.linalg.inv(start), x) / 4)[None, None]
        wanted = (start.det() / end.det()).sqrt() * torch.exp(-quadratic(torch.linalg.inv(end), x) / 4)
        options = {} if method == "spectral" else {"radius": 3.2}
        out = diffusion(u, space, metric, time=t, method=method, boundary="periodic", **options)
        return float((out[0, 0] - wanted).abs().max())

    assert error(17, "spectral") < 2e-3  # what wraps around
    assert error(17, "kernel") < 0.45 * error(9, "kernel")


@given(shift=st.tuples(*[st.integers(-2, 2)] * 3), method=st.sampled_from(["cubic", "linear", "spectral"]))
def test_whole_voxels_move_exactly(shift: tuple[int, int, int], method: str) -> None:
    space, u = pg.R3(VOXEL), signal(pg.R3(), (4, 6))
    c = torch.tensor([n * step for n, step in zip(shift, space.grid_steps)][::-1], dtype=torch.float64)
    moved = convection(u, space, c, method=method, boundary="periodic")
    torch.testing.assert_close(moved, u.roll(shift, dims=(-3, -2, -1)), atol=1e-11, rtol=0)


def test_cubic_steps_are_exact_for_polynomials_of_degree_two() -> None:
    space, c = pg.R3(VOXEL), torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64)
    x, bend = points(12, space), spd(pg.R3(), 1)[0]

    def polynomial(x: Tensor) -> Tensor:
        return 1 + x @ torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64) - quadratic(bend, x)

    moved = convection(polynomial(x)[None, None], space, c)[0, 0]
    inner = (slice(4, -4),) * 3
    torch.testing.assert_close(moved[inner], polynomial(x - c)[inner])


@given(seed=st.integers(0, 10**6), s=st.floats(0.1, 1.5), t=st.floats(0.1, 1.5))
def test_spectral_steps_compose(seed: int, s: float, t: float) -> None:
    torch.manual_seed(seed)
    space, u = pg.R3(VOXEL), signal(pg.R3(), (3, 5))
    c = torch.randn(2, 3, dtype=torch.float64)
    twice = convection(convection(u, space, s * c, method="spectral"), space, t * c, method="spectral")
    torch.testing.assert_close(twice, convection(u, space, (s + t) * c, method="spectral"), atol=1e-11, rtol=0)


def test_borders_are_those_of_a_volume_extended_by_hand() -> None:
    """Also before the first slice and after the last: slices do not form a circle."""
    u, space, c = signal(pg.R3(), (4, 5)), pg.R3(), torch.tensor([0.7, -0.4, 1.3], dtype=torch.float64)
    w = weights(space)
    for name, mode in (("replicate", "replicate"), ("zeros", "constant"), ("periodic", "circular")):
        wide = torch.nn.functional.pad(u, (4, 4, 4, 4, 4, 4), mode=mode)
        for method in ("cubic", "linear"):
            moved = convection(wide, space, c, method=method)[..., 4:-4, 4:-4, 4:-4]
            torch.testing.assert_close(convection(u, space, c, method=method, boundary=name), moved)
        kernel = {"method": "sampled", "boundary": name}
        spread = diffusion(wide, space, w, method="sampled")[..., 4:-4, 4:-4, 4:-4]
        torch.testing.assert_close(diffusion(u, space, w, **kernel), spread)
    lost = torch.nn.functional.pad(u, (4, 4, 4, 4, 4, 4), value=-1e9)
    torch.testing.assert_close(dilation(u, space, w), dilation(lost, space, w)[..., 4:-4, 4:-4, 4:-4])


def test_slices_that_are_alike_behave_as_images() -> None:
    """For a diagonal metric nothing is gained by leaving a slice."""
    image, plane, space = signal(pg.R2(), (6, 7)), pg.R2(), pg.R3((2.0, 1.0, 1.0))
    volume = image[:, :, None].expand(-1, -1, 4, -1, -1).contiguous()
    w = weights(space)
    for term, options in (
        (dilation, {"kernel_size": 3}), (erosion, {"kernel_size": 3}), (diffusion, {"method": "spectral"}),
    ):  # fmt: skip
        flat = term(image, plane, w[:, :2], **options)
        torch.testing.assert_close(term(volume, space, w, **options), flat[:, :, None].expand_as(volume))


@pytest.mark.parametrize("boundary", ["zeros", "replicate", "periodic"])
def test_gradients_of_the_convolution_of_volumes(boundary: str) -> None:
    """Those of conv3d of the extended volume, also where a graph of them is made, in vmap and by torch.func."""
    torch.manual_seed(0)
    u, kernel = (torch.randn(shape, **DOUBLE).requires_grad_() for shape in ((2, 2, 4, 5, 6), (2, 1, 3, 1, 5)))
    call = lambda u, k: group_convolution(u, k, boundary, periodic=False)  # noqa: E731
    plain = lambda u, k: torch.nn.functional.conv3d(pad(u, 0, 2, boundary, 1), k, groups=2)  # noqa: E731
    weight = torch.randn(u.shape, **DOUBLE)
    wanted = torch.autograd.grad((plain(u, kernel) * weight).sum(), (u, kernel))
    came = torch.autograd.grad((call(u, kernel) * weight).sum(), (u, kernel))
    again = torch.func.grad(lambda *x: (call(*x) * weight).sum(), (0, 1))(u.detach(), kernel.detach())
    for a, b, c in zip(wanted, came, again):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-12)
        torch.testing.assert_close(c, a, rtol=0, atol=1e-12)
    small = u[:1, :, :3, :3, :3].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(call, (small, kernel), fast_mode=True)
    rows = torch.randn(3, *u.shape, **DOUBLE)
    out = call(u, kernel)
    many = torch.autograd.grad(out, (u, kernel), rows, is_grads_batched=True)
    for i, row in enumerate(rows):
        for a, b in zip(torch.autograd.grad(call(u, kernel), (u, kernel), row), many):
            torch.testing.assert_close(b[i], a, rtol=0, atol=1e-12)
