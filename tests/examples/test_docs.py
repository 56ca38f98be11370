"""The page on the sphere tells the truth: its example runs, links lead to files, grids carry what it says."""

import re
from pathlib import Path

import pytest
import torch

import pdegcnn as pg

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "sphere.md").read_text(encoding="utf-8")
GRID = pg.sphere.SphereGrid


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    assert len(code.splitlines()) <= 15
    exec(compile(code, "sphere.md", "exec"), {})
    assert float(capsys.readouterr().out) < 2e-6


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_links_lead_to_files(target):
    assert (DOCS / target).exists()


@pytest.mark.parametrize("name", re.findall(r"python (examples/\w+\.py)", TEXT))
def test_examples_exist(name):
    assert (DOCS.parent / name).exists()


@pytest.mark.parametrize(
    "grid", [GRID.gauss_legendre(4), GRID.equiangular(4), GRID.reduced_gauss(4)], ids=lambda g: g.name
)
def test_rings_carry_everything(grid):
    space = pg.SO3(grid, orientations=8)
    u = pg.nn.Lift(space, 1, 2)(torch.rand(1, 1, *grid.shape))
    u = pg.nn.SphereActivation(space)(pg.nn.PDELayer(space, 2, 2)(u))
    assert pg.nn.GlobalPool(space)(pg.nn.Project(space)(u)).isfinite().all()


def test_points_carry_dilation_but_no_transform():
    space = pg.SO3(GRID.icosahedral(1), orientations=8)
    u = pg.nn.PDELayer(space, 2, 2, terms=("dilation", "erosion"))(torch.rand(1, 2, 8, *space.grid.shape))
    assert pg.nn.GlobalPool(space)(pg.nn.Project(space)(u)).isfinite().all()
    for term in ("convection", "diffusion"):
        with pytest.raises(ValueError, match="grid of rings"):
            pg.nn.PDELayer(space, 2, 2, terms=(term,))
    with pytest.raises(ValueError, match="grid of rings"):
        pg.nn.Lift(space, 1, 1)
