"""Laws of vector fields and of products."""

import pytest
import torch
from e3nn import o3
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pdegcnn.sphere import (
    ExactProduct,
    InverseRealSHT,
    InverseVectorSHT,
    RealSHT,
    SphereGrid,
    VectorSHT,
    clebsch_gordan_product,
    curl,
    divergence,
    gradient,
    irreps,
    rotate_coefficients,
    to_e3nn,
)

F64 = torch.float64
GRIDS = {
    "gauss": SphereGrid.gauss_legendre,
    "full_band": lambda n: SphereGrid.equiangular(n, "full_band"),
    "poles": lambda n: SphereGrid.clenshaw_curtis(n + 1, 2 * n) if n > 1 else SphereGrid.clenshaw_curtis(3),
    "reduced": SphereGrid.reduced_gauss,
}


def coefficients(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    c = torch.randn(*shape, shape[-1], dtype=torch.complex128, generator=draw).tril()
    c[..., 0] = c[..., 0].real.to(c.dtype)
    return c


def frame(grid):
    """Unit vectors (e_theta, e_phi), [2, *shape, 3]."""
    z = grid.xyz[..., 2]
    phi = torch.cat([2 * torch.pi / n * torch.arange(n, dtype=F64) for n in grid.ring_lengths]).reshape(z.shape)
    across, c, s = (1 - z * z).clamp_min(0).sqrt(), phi.cos(), phi.sin()  # longitudes also tell the frames at a pole
    return torch.stack([torch.stack([c * z, s * z, -across], -1), torch.stack([-s, c, torch.zeros_like(z)], -1)])


@pytest.mark.parametrize("kind", GRIDS)
def test_gradient_divergence_and_curl_of_polynomials(kind):
    """f = x y z + z^2 and the rotation about an axis: all by hand in ambient coordinates."""
    grid = GRIDS[kind](8)
    x, y, z = grid.xyz.unbind(-1)
    f = x * y * z + z * z
    ambient = torch.stack([y * z, x * z, x * y + 2 * z], -1)
    v = (frame(grid) * ambient).sum(-1)
    sht, vsht = RealSHT(grid, dtype=F64), VectorSHT(grid, dtype=F64)
    isht, ivsht = InverseRealSHT(grid, dtype=F64), InverseVectorSHT(grid, dtype=F64)
    torch.testing.assert_close(ivsht(gradient(sht(f))), v, rtol=0, atol=1e-13)
    # Both parts are eigenfunctions: degrees 3 and 2.
    laplacian = -12 * x * y * z + 2 - 6 * z * z
    torch.testing.assert_close(isht(divergence(vsht(v))), laplacian, rtol=0, atol=1e-12)
    torch.testing.assert_close(isht(curl(vsht(v))), 0 * f, rtol=0, atol=1e-12)
    axis = torch.tensor([0.3, -0.5, 0.8], dtype=F64)
    spin = (frame(grid) * torch.linalg.cross(axis.expand_as(grid.xyz), grid.xyz)).sum(-1)
    torch.testing.assert_close(isht(curl(vsht(spin))), 2 * grid.xyz @ axis, rtol=0, atol=1e-13)
    torch.testing.assert_close(isht(divergence(vsht(spin))), 0 * f, rtol=0, atol=1e-13)


@settings(max_examples=20)
@given(kind=st.sampled_from(sorted(GRIDS)), size=st.integers(2, 30), seed=st.integers(0, 99))
def test_vector_roundtrip_and_energy(kind, size, seed):
    grid, a = GRIDS[kind](size), coefficients(3, 2, size, seed=seed)
    a[..., 0, 0] = 0
    v = InverseVectorSHT(grid, dtype=F64)(a)
    assert v.shape == (3, 2, *grid.shape)
    assert (VectorSHT(grid, dtype=F64)(v) - a).abs().max() < 1e-12
    if grid.degree >= 2 * (size - 1):
        energy = 2 * a.abs().square().sum((1, 2, 3)) - a[..., 0].abs().square().sum((1, 2))
        torch.testing.assert_close((v.square() * grid.weights).flatten(1).sum(1), energy, rtol=1e-12, atol=0)


def test_rotated_coefficients_are_the_rotated_field():
    grid = SphereGrid.gauss_legendre(6)
    r = torch.tensor(Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix())

    def ambient(p):
        x, y, z = p.unbind(-1)
        return torch.stack([x * y, z * z - x, y * z + 0.3], -1)

    v = (frame(grid) * ambient(grid.xyz)).sum(-1)
    turned = (frame(grid) * (ambient(grid.xyz @ r) @ r.T)).sum(-1)  # R v(R^T p)
    got = InverseVectorSHT(grid, dtype=F64)(rotate_coefficients(VectorSHT(grid, dtype=F64)(v), r))
    torch.testing.assert_close(got, turned, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("lmax", "other", "out"), [(6, 6, 6), (7, 3, 5), (2, 4, 6), (0, 5, 5), (5, 5, 10)])
def test_exact_product_is_the_clebsch_gordan_product(lmax, other, out):
    a, b = coefficients(2, lmax + 1), coefficients(other + 1, seed=1)
    got = ExactProduct(lmax, other, out, dtype=F64)(a, b)
    assert got.shape == (2, out + 1, out + 1)
    torch.testing.assert_close(got, clebsch_gordan_product(a, b, out), rtol=0, atol=1e-13)


def test_exact_product_to_thirteen_digits():
    """Against a grid four times finer, at a band where the symbols are too many."""
    lmax = 40
    a, b = (coefficients(lmax + 1, seed=s) / (lmax + 1) for s in (0, 1))
    fine = SphereGrid.gauss_legendre(4 * (lmax + 1))
    isht = InverseRealSHT(fine, lmax, dtype=F64)
    want = RealSHT(fine, lmax, dtype=F64)(isht(a) * isht(b))
    assert (ExactProduct(lmax, dtype=F64)(a, b) - want).abs().max() < 1e-13


def test_tensor_products_of_e3nn_take_the_coefficients():
    a, b = coefficients(4), coefficients(3, seed=1)
    r = torch.tensor(Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix())
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        product = o3.FullTensorProduct(irreps(3), irreps(2))
        turned = product(to_e3nn(rotate_coefficients(a, r)), to_e3nn(rotate_coefficients(b, r)))
        # e3nn's axes are (y, z, x).
        want = product.irreps_out.D_from_matrix(r.roll((-1, -1), (0, 1))) @ product(to_e3nn(a), to_e3nn(b))
    finally:
        torch.set_default_dtype(before)
    torch.testing.assert_close(turned, want, rtol=0, atol=1e-12)


def test_gradients():
    grid = SphereGrid.gauss_legendre(3)
    v = torch.randn(2, 3, 6, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: InverseVectorSHT(grid, dtype=F64)(VectorSHT(grid, dtype=F64)(v)), v)
