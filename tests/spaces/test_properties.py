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
