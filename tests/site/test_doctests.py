"""The examples in docstrings give what they say, and the names that users meet first have one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import pdegcnn as pg

FINDER = doctest.DocTestFinder(exclude_empty=True)
ROOT = Path(pg.__file__).parent
MODULES = [
    ".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for p in sorted(ROOT.rglob("*.py"))
    if ">>> " in p.read_text(encoding="utf-8")
]
SHOWN = [
    pg.SE2, pg.R2, pg.S2, pg.SO3, pg.Mesh, pg.backends, pg.testing.equivariance_error,
    pg.functional.convection, pg.functional.diffusion, pg.functional.dilation, pg.functional.erosion,
    pg.functional.project,
    pg.nn.PDELayer, pg.nn.GridLift, pg.nn.Project, pg.nn.GroupConv, pg.nn.SphereLift, pg.nn.SphereConv,
    pg.models.rotated_digits, pg.models.vessel_segmentation,
    pg.models.hyperbolic_segmenter,
    pg.reversible.ReversibleStack, pg.reversible.memory_estimate, pg.reversible.Wavelet, pg.gauge.GaugeConv,
    pg.sphere.SphereGrid, pg.sphere.RealSHT, pg.sphere.wigner_D, pg.kernels.morphological_kernel,
]  # fmt: skip


def examples(module: str) -> list[doctest.DocTest]:
    """The docstrings of a module's own objects that have examples."""
    loaded = importlib.import_module(module)
    return [found for found in FINDER.find(loaded, module) if found.examples]


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_say(module: str) -> None:
    torch.manual_seed(0)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    found = examples(module)
    assert found, f"{module} has examples that nothing reads"
    assert not sum(runner.run(one, out=report.append).failed for one in found), "".join(report)


@pytest.mark.parametrize("value", SHOWN, ids=lambda v: v.__name__)
def test_the_first_names_have_an_example(value: object) -> None:
    assert ">>> " in (value.__doc__ or "")
