"""Dilation and erosion that read grids more finely: quarter turns are exact, and one orientation is one plane."""

from __future__ import annotations

import pytest
import torch

import pdegcnn as pg
from pdegcnn.functional import dilation, erosion
from pdegcnn.kernels import SPD, Diagonal

from ..helpers import signal, spd, weights

Factors = int | tuple[int, int | None]
FACTORS: tuple[Factors, ...] = (2, 3, 4, 5, 6, (1, 3), (3, None))
TURNS = {(5, 5): (90, 180, 270), (4, 4): (90, 270), (4, 5): (180,)}
"""Sizes of images, odd, even and not square, and the turns that map their pixels to pixels."""
CASES = [(4, "diagonal", (5, 5)), (8, "spd", (5, 5)), (4, "spd", (4, 4)), (8, "diagonal", (4, 4)), (8, "spd", (4, 5))]
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("oversample", FACTORS, ids=str)
@pytest.mark.parametrize(("orientations", "form", "size"), CASES, ids=str)
def test_quarter_turns_are_exact(orientations: int, form: str, size: tuple[int, int], oversample: Factors) -> None:
    """Shifts by less than half a pixel are turned into those of another pass."""
    space = pg.SE2(orientations)
    u = signal(space, size, channels=1)
    metric = Diagonal(weights(space, 1)) if form == "diagonal" else SPD(spd(space, 1))
    out = dilation(u, space, metric, oversample=oversample, kernel_size=3)
    for angle in TURNS[size]:
        turned = dilation(space.transform(u, angle=angle), space, metric, oversample=oversample, kernel_size=3)
        torch.testing.assert_close(turned, space.transform(out, angle=angle), **EXACT)


@pytest.mark.parametrize("factor", (2, 3, 5))
@pytest.mark.parametrize("space", (pg.R2(), pg.R3()), ids=str)
def test_quarter_turns_of_images_and_volumes_are_exact(space: pg.R2 | pg.R3, factor: int) -> None:
    u, w = signal(space, (4, 4), channels=1), torch.full((space.dim,), 0.8, dtype=torch.float64)
    out = dilation(u, space, w, oversample=factor, kernel_size=3)
    turned = dilation(space.transform(u, angle=90), space, w, oversample=factor, kernel_size=3)
    torch.testing.assert_close(turned, space.transform(out, angle=90), **EXACT)


@pytest.mark.parametrize("oversample", [*FACTORS, 1], ids=str)
@pytest.mark.parametrize("size", TURNS, ids=str)
def test_orientations_of_one_image_are_that_image(size: tuple[int, int], oversample: Factors) -> None:
    """A metric that is the same in all directions cannot tell orientations apart, and without turns none can mix."""
    space, plane = pg.SE2(8), pg.R2()
    image = signal(plane, size, channels=1)
    u = image[:, :, None].expand(-1, -1, 8, -1, -1).contiguous()
    cells = oversample if isinstance(oversample, int) else oversample[1]
    w = torch.ones(3, dtype=torch.float64)
    for term, sign in ((dilation, 1), (erosion, -1)):
        out = term(u, space, w, alpha=1.0, oversample=oversample, radius=(0.0, 3.0))
        torch.testing.assert_close(out, out[:, :, :1].expand_as(out), **EXACT)
        expected = term(image, plane, w[:2], alpha=1.0, oversample=cells or 2, radius=3.0)
        if cells is None:  # the middle of every cell is a part of what a factor of two reads
            assert (sign * out[:, :, 0] <= sign * expected + 1e-12).all()
        else:
            torch.testing.assert_close(out[:, :, 0], expected, **EXACT)
