"""What spaces and grids give out is a copy: to change it in place changes neither the space nor its operators."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

import pdegcnn as pg

from ..cases import EXAMPLES, outputs

GRIDS = pg.sphere.SphereGrid
OWNERS: dict[str, Any] = {
    **EXAMPLES,
    "gauss_legendre": GRIDS.gauss_legendre(3),
    "reduced_gauss": GRIDS.reduced_gauss(3),
    "icosahedral": GRIDS.icosahedral(0),
    "healpix": GRIDS.healpix(1),
    "repaired": pg.Mesh.from_arrays(*pg.surface.icosphere(0), repair=True),
}


def given_out(owner: Any) -> dict[str, list[Tensor]]:
    """The tensors of all properties, and of the methods without an argument, by name."""
    found: dict[str, list[Tensor]] = {}
    for name, member in inspect.getmembers(type(owner)):
        if isinstance(member, property):
            found[name] = outputs(getattr(owner, name))
        elif inspect.isfunction(member) and list(inspect.signature(member).parameters) == ["self"] and name[0] != "_":
            found[name] = outputs(getattr(owner, name)())
    return {name: tensors for name, tensors in found.items() if tensors}


@pytest.mark.parametrize("name", OWNERS)
def test_what_is_given_out_is_a_copy(name: str) -> None:
    wanted = {k: [t.clone() for t in tensors] for k, tensors in given_out(OWNERS[name]).items()}
    for tensors in given_out(OWNERS[name]).values():
        for t in tensors:
            t.fill_(7)
    found = given_out(OWNERS[name])
    assert found and found.keys() == wanted.keys()
    for key, tensors in found.items():
        for a, b in zip(tensors, wanted[key], strict=True):
            assert torch.equal(a, b), key


def rings() -> pg.sphere.SphereGrid:
    """A coarse grid, without tables."""
    return pg.sphere.SphereGrid.gauss_legendre(6)


FRESH = {
    "R2": pg.R2,
    "R3": pg.R3,
    "SE2": pg.SE2,
    "S2": lambda: pg.S2(rings()),
    "SO3": lambda: pg.SO3(rings(), orientations=8),
    "Mesh": lambda: pg.Mesh.from_arrays(*pg.surface.icosphere(1)),
}


@pytest.mark.parametrize("make", FRESH.values(), ids=FRESH)
def test_spaces_do_not_follow_the_default_device(make) -> None:
    """Their constants are on the CPU and move with what is computed: a layer on the CPU gives the same."""
    space = make()
    u = torch.rand(
        1,
        2,
        *([space.orientations] if space.has_orientations else []),
        *(space.base_shape or (5, 6, 7)[-space.base_ndim :]),
    )
    layer = pg.nn.PDELayer(space, 2, 2, space.supported_terms).eval()
    with torch.device("meta"):
        twin = pg.nn.PDELayer(make(), 2, 2, space.supported_terms, device="cpu").eval()
        twin.load_state_dict(layer.state_dict())
        found = twin(u)
    assert torch.equal(found, layer(u))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_descriptors_of_meshes_do_not_follow_defaults(dtype) -> None:
    mesh = FRESH["Mesh"]()
    functions = (pg.gauge.gaussian_curvature, pg.gauge.mean_curvature, pg.gauge.heat_kernel_signature)
    wanted = [f(mesh, dtype=torch.float64) for f in functions]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            found = [f(mesh, device="cpu", dtype=torch.float64) for f in functions]
    finally:
        torch.set_default_dtype(before)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
