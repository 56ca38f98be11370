"""The README tells the truth: its example runs, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import pdegcnn as pg
from pdegcnn.kernels.distance import DISTANCES
from pdegcnn.kernels.metric import METRICS
from pdegcnn.kernels.rotation_distance import ROTATION_DISTANCES
from tools import readme_table

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)[0]  # the others need a photograph
    exec(compile(code, "README.md", "exec"), {})
    assert float(capsys.readouterr().out) < 1e-5


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_links_lead_to_files(target: str) -> None:
    assert (ROOT / target).exists()


def test_the_speed_table_is_what_the_results_give() -> None:
    assert readme_table.rewritten(TEXT) == TEXT


GRID = pg.sphere.SphereGrid.gauss_legendre(4)
SPACES = {
    "R2": pg.R2(),
    "R3": pg.R3(),
    "SE2": pg.SE2(4),
    "S2": pg.S2(GRID),
    "SO3": pg.SO3(GRID, 4),
    "Mesh": pg.Mesh.from_arrays(*pg.surface.icosphere(0), orientations=4),
}
METHODS = {"convection": ("cubic", "linear", "spectral"), "diffusion": ("kernel", "spectral")}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}


def rows() -> dict[str, dict[str, str]]:
    """The table of spaces and terms: name of the space -> name of the column -> text."""
    table = TEXT.partition("## Spaces and terms\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return {re.findall("`(\\w+)`", line[0])[0]: dict(zip(lines[0], line)) for line in lines[2:]}


def makes(space: pg.Space, term: str, **options: Any) -> bool:
    """Whether there is a layer of one term with these options."""
    try:
        pg.nn.PDELayer(space, 1, 1, (term,), **options)
    except (TypeError, ValueError):
        return False
    return True


def test_the_table_names_every_space() -> None:
    assert rows().keys() == SPACES.keys() == {kind.__name__ for kind in pg.spaces.SPACES}


@pytest.mark.parametrize("name", SPACES)
def test_the_table_of_spaces_and_terms_is_true(name: str) -> None:
    row, space = rows()[name], SPACES[name]
    for column in ("convection", "diffusion", "diffusion-shock"):
        term = column.replace("-", "_")
        assert (not row[column].startswith("–")) == (term in space.supported_terms) == makes(space, term), column
    for term, methods in METHODS.items():
        for method in methods if isinstance(space, pg.spaces.GridSpace) else ():
            assert (method in row[term]) == makes(space, term, **{term: method}), (term, method)
    morphology = row["dilation, erosion"]
    assert "max-plus" in morphology and makes(space, "dilation") and makes(space, "erosion")
    assert ("log-plus" in morphology) == makes(space, "dilation", semifield="log_plus", temperature=0.2)
    for word in re.findall(r"(\w+) distances", morphology):
        distances = {*DISTANCES, *ROTATION_DISTANCES}
        assert NUMBERS[word] == sum(makes(space, "dilation", distance=distance) for distance in distances)
    forms = {form.lower() for form in METRICS if makes(space, "dilation", metric=form)}
    said = row["metrics"].replace("one weight", "diagonal, SPD")  # which are one where there is one direction
    assert forms == {form.strip().lower() for form in said.split(",")}
