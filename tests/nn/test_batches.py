"""Batches of images and of signals on spheres: a member gets what it gets alone, whatever the others hold."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import pdegcnn as pg
from pdegcnn.functional import convection, diffusion, dilation, erosion

from ..helpers import SPHERE_CASES
from .test_modules import LAYERS

S2, SO3 = SPHERE_CASES[:2]
LAST = {"S2": (S2, (1,), (8, 16)), "SO3": (SO3, (3,), (5, 6, 12)), "SE2": (pg.SE2(4), (3,), (4, 7, 8))}
AUTO: dict[str, tuple[Callable, tuple[int, ...]]] = {
    f"{run.__name__}-{name}": (
        lambda u, run=run, space=space, dim=dim: run(
            u, space, torch.full(dim, 5.0 if dim == (3,) else 0.7).to(u), kernel_size="auto"
        ),
        (2, *shape),
    )
    for name, (space, dim, shape) in LAST.items()
    for run in ((dilation, erosion, diffusion) if name == "SE2" else (dilation, erosion))
}


SPECTRAL: dict[str, tuple[Callable, tuple[int, ...]]] = {
    f"{term}-spectral": (
        lambda u, run=run: run(u, pg.SE2(4), torch.full((3,), 0.7).to(u), method="spectral", boundary="periodic"),
        (2, 4, 7, 8),
    )
    for term, run in (("convection", convection), ("diffusion", diffusion))
}
WALKED = [name for name in LAYERS if name != "PDELayer-SO3-exact"]
"""All but one whose table of costs takes seconds; it gathers as the others on SO(3) do."""


@pytest.mark.parametrize("name", [*WALKED, *AUTO, *SPECTRAL])
def test_a_member_of_a_batch_gets_what_it_gets_alone_whatever_the_others_hold(name: str) -> None:
    if name in LAYERS:
        build, shape = LAYERS[name]
        run, shape = build().double().eval(), shape[1:]
    else:
        run, shape = (AUTO | SPECTRAL)[name]
    x, y = torch.randn(2, *shape, dtype=torch.float64)
    bad = torch.where(torch.rand(y.shape) < 0.3, math.nan, y)
    with torch.no_grad():
        alone = leaves(run(x[None]))
        for other in (y, bad, bad * math.inf):
            for place in (0, 1):
                together = leaves(run(torch.stack((x, other)[:: 1 - 2 * place])))
                for u, v in zip(together, alone):
                    assert u[place].isfinite().all()
                    torch.testing.assert_close(u[place], v[0], rtol=1e-11, atol=1e-11)


def leaves(out) -> list[torch.Tensor]:
    """The tensors of a layer's answer."""
    return [out] if isinstance(out, torch.Tensor) else [x for part in out for x in leaves(part)]
