"""The examples in docstrings give what they say, and the names that users meet first have one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

import pdegcnn as pg

FINDER = doctest.DocTestFinder(exclude_empty=True)
MODULES = sorted(m.name for m in pkgutil.walk_packages(pg.__path__, "pdegcnn.") if "triton" not in m.name)
SHOWN = [
    pg.SE2, pg.R2, pg.S2, pg.SO3, pg.Mesh, pg.backends, pg.testing.equivariance_error,
    pg.functional.convection, pg.functional.diffusion, pg.functional.dilation, pg.functional.erosion,
    pg.functional.project,
    pg.nn.PDELayer, pg.nn.PlanarLift, pg.nn.PlanarProject, pg.nn.GroupConv, pg.nn.SphereLift, pg.nn.SphereConv,
    pg.models.rotated_digits, pg.models.vessel_segmentation,
    pg.models.hyperbolic_segmenter,
    pg.reversible.ReversibleStack, pg.reversible.memory_estimate, pg.reversible.Wavelet, pg.gauge.GaugeConv,
    pg.sphere.SphereGrid, pg.sphere.RealSHT, pg.sphere.wigner_D, pg.kernels.morphological_kernel,
]  # fmt: skip


def examples(module: str) -> list[doctest.DocTest]:
    """The docstrings of a module's own objects that have examples."""
    loaded = importlib.import_module(module)
    return [found for found in FINDER.find(loaded, module) if found.examples]


@pytest.mark.parametrize("module", [m for m in MODULES if examples(m)])
def test_examples_give_what_they_say(module: str) -> None:
    torch.manual_seed(0)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed = sum(runner.run(found, out=report.append).failed for found in examples(module))
    assert not failed, "".join(report)


@pytest.mark.parametrize("value", SHOWN, ids=lambda v: v.__name__)
def test_the_first_names_have_an_example(value: object) -> None:
    assert ">>> " in (value.__doc__ or "")
