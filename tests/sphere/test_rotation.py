"""Laws of Wigner matrices and of rotated coefficients."""

import pytest
import torch
from e3nn import o3
from hypothesis import given, settings
from hypothesis import strategies as st

from pdegcnn.sphere import (
    InverseRealSHT,
    SphereGrid,
    from_e3nn,
    rotate_coefficients,
    to_e3nn,
    wigner_D,
    wigner_d,
)


def rotations(seed, count=1):
    draw = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64, generator=draw))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    return q * torch.linalg.det(q)[:, None, None]


def coefficients(lmax, seed=0):
    draw = torch.Generator().manual_seed(seed)
    c = torch.randn(2, lmax + 1, lmax + 1, dtype=torch.complex128, generator=draw).tril()
    c[..., 0] = c[..., 0].real.to(c.dtype)
    return c


@settings(max_examples=30, deadline=None)
@given(degree=st.integers(0, 40), seed=st.integers(0, 999))
def test_homomorphism_and_orthogonality(degree, seed):
    a, b = rotations(seed, 2)
    eye = torch.eye(2 * degree + 1, dtype=torch.float64)
    assert (wigner_D(degree, a) @ wigner_D(degree, b) - wigner_D(degree, a @ b)).abs().max() < 1e-11
    assert (wigner_D(degree, a) @ wigner_D(degree, a).mT - eye).abs().max() < 1e-12
    narrow = wigner_D(degree, a.float())
    assert narrow.dtype == torch.float32
    assert (narrow @ narrow.mT - eye.float()).abs().max() < 2e-6


@pytest.mark.parametrize("degree", [8, 16, 20, 32, 33, 100, 200])
def test_high_degrees_are_orthogonal(degree):
    r, eye = rotations(1, 20 if degree < 50 else 1), torch.eye(2 * degree + 1, dtype=torch.float64)
    before = torch.get_default_dtype()
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        try:
            wide, narrow = wigner_D(degree, r), wigner_D(degree, r.float())
        finally:
            torch.set_default_dtype(before)
        assert (wide @ wide.mT - eye).abs().max() < 1e-12
        assert narrow.dtype == torch.float32
        assert ((narrow @ narrow.mT) - eye).abs().max() < 1e-6


def test_table_and_two_turns_agree(monkeypatch):
    from pdegcnn.sphere import _wigner

    r = rotations(5, 7)
    table = [wigner_D(degree, r) for degree in range(12)]
    monkeypatch.setattr(_wigner, "_TABLED", -1)
    for degree in range(12):
        torch.testing.assert_close(table[degree], wigner_D(degree, r), rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_gradients_are_right_at_the_poles_too(degree):
    def turned(v, start):
        x, y, z = v.unbind(-1)
        hat = torch.stack([0 * x, -z, y, z, 0 * x, -x, -y, x, 0 * x], -1).unflatten(-1, (3, 3))
        return start @ torch.linalg.matrix_exp(hat)

    eye = torch.eye(3, dtype=torch.float64)
    starts = torch.stack([eye, wigner_d(1, torch.tensor(torch.pi, dtype=torch.float64)), rotations(2)[0]])
    c = coefficients(degree)
    v = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: wigner_D(degree, turned(v, starts)), v)
    assert torch.autograd.gradgradcheck(lambda v: wigner_D(degree, turned(v, starts))[..., 0, :], v)
    one = v[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: rotate_coefficients(c, turned(v, starts[1])), one)


@pytest.mark.parametrize("degree", range(9))
def test_is_e3nn_s(degree):
    r = rotations(degree, 5)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        want = o3.Irrep(degree, 1).D_from_matrix(r)
    finally:
        torch.set_default_dtype(before)
    torch.testing.assert_close(wigner_D(degree, r), want, rtol=0, atol=1e-11)


def test_poles_of_the_euler_angles():
    tilt = torch.tensor([0.0, 1e-12, 1e-9, 1e-5, torch.pi], dtype=torch.float64)
    r = rotations(3)[0]
    around = wigner_d(1, tilt)  # for l = 1 the matrix is the rotation itself
    torch.testing.assert_close(wigner_D(30, around), wigner_d(30, tilt), rtol=0, atol=1e-12)
    torch.testing.assert_close(wigner_D(7, r @ r.mT), torch.eye(15, dtype=torch.float64), rtol=0, atol=1e-13)


def test_exchange_with_e3nn():
    c, grid = coefficients(6), SphereGrid.gauss_legendre(7)
    f = InverseRealSHT(grid, 6, dtype=torch.float64)(c)
    y = o3.spherical_harmonics(list(range(7)), grid.xyz.roll(-1, -1), True, "integral")
    torch.testing.assert_close(torch.einsum("bi,uvi->buv", to_e3nn(c), y), f, rtol=0, atol=1e-12)
    torch.testing.assert_close(from_e3nn(to_e3nn(c)), c, rtol=0, atol=1e-14)


@settings(max_examples=20, deadline=None)
@given(lmax=st.integers(0, 12), seed=st.integers(0, 999))
def test_rotated_coefficients_give_the_rotated_signal(lmax, seed):
    c, r, grid = coefficients(lmax, seed), rotations(seed)[0], SphereGrid.gauss_legendre(lmax + 1)
    got = InverseRealSHT(grid, lmax, dtype=torch.float64)(rotate_coefficients(c, r))
    # f(R^T p), f evaluated off the grid through e3nn's harmonics at R^T p.
    y = o3.spherical_harmonics(list(range(lmax + 1)), (grid.xyz @ r).roll(-1, -1), True, "integral")
    torch.testing.assert_close(got, torch.einsum("bi,uvi->buv", to_e3nn(c), y), rtol=0, atol=1e-11)
    torch.testing.assert_close(rotate_coefficients(rotate_coefficients(c, r), r.mT), c, rtol=0, atol=1e-11)
