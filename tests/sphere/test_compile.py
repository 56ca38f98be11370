"""Transforms and rotations in compiled and exported graphs: the same values and gradients."""

import pytest
import torch

from pdegcnn.sphere import (
    SO3FFT,
    InverseRealSHT,
    InverseSO3FFT,
    InverseVectorSHT,
    RealSHT,
    SphereGrid,
    VectorSHT,
    from_e3nn,
    rotate_coefficients,
    to_e3nn,
    wigner_D,
    wigner_d,
)

GRID = SphereGrid.gauss_legendre(4)
TURN = wigner_d(1, torch.tensor(0.3, dtype=torch.float64))


def pair(analysis, synthesis, *arguments):
    return torch.nn.Sequential(*(t(*arguments, dtype=torch.float64) for t in (analysis, synthesis)))


CASES = {
    "sht": (pair(RealSHT, InverseRealSHT, GRID), (2, 4, 8)),
    "sht, reduced": (pair(RealSHT, InverseRealSHT, SphereGrid.reduced_gauss(9)), (162,)),
    "so3": (pair(SO3FFT, InverseSO3FFT, GRID, 6), (2, 6, 4, 8)),
    "vector": (pair(VectorSHT, InverseVectorSHT, GRID), (2, 4, 8)),
    "rotation": (lambda x: to_e3nn(rotate_coefficients(from_e3nn(x), TURN)), (2, 16)),
    "wigner": (lambda x: wigner_D(3, TURN + 0 * x), (5, 3, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_one_graph(case):
    function, shape = CASES[case]
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = torch.compile(function, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, function(x), rtol=0, atol=1e-14)
    weight = torch.randn_like(y)
    got, want = (torch.autograd.grad((f(x) * weight).sum(), x)[0] for f in (lambda _: y, function))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-14)


def test_halves_compile_apart():
    """The coefficients are a strided tensor; the second graph must take them as its input."""
    f = torch.randn(2, 4, 8)
    sht, isht = RealSHT(GRID), InverseRealSHT(GRID)
    compiled = torch.compile(isht, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(sht(f)), isht(sht(f)))
    exported = torch.export.export(isht, (sht(f),)).module()
    torch.testing.assert_close(exported(sht(f)), isht(sht(f)))


def test_vmap_and_batches_agree():
    f = torch.randn(3, 4, 8, dtype=torch.float64)
    sht = RealSHT(GRID, dtype=torch.float64)
    torch.testing.assert_close(torch.vmap(sht)(f), sht(f), rtol=0, atol=1e-15)
    r = torch.stack([TURN, TURN @ TURN])
    torch.testing.assert_close(torch.vmap(lambda r: wigner_D(2, r))(r), wigner_D(2, r), rtol=0, atol=1e-15)
